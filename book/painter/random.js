/**
 * Torch's random numbers, so that a seed means the same picture in this page and in Python.
 *
 * The Mersenne Twister (Matsumoto and Nishimura 1998) behind torch.Generator().manual_seed(seed) on a CPU, and
 * the two ways in which the sampler draws from it.
 */

const SIZE = 624; // 32-bit words of state
const SHIFT = 397;

export class Generator {
  /** @param {number | bigint} seed a whole number; as in torch, its lowest 32 bits decide */
  constructor(seed) {
    const state = new Uint32Array(SIZE);
    state[0] = Number(BigInt.asUintN(32, BigInt(seed)));
    for (let i = 1; i < SIZE; i++) {
      state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
    }
    this.state = state;
    this.place = SIZE; // nothing left: the first draw twists
  }

  /** The next 32 random bits, as a number from 0 to 2 ** 32 - 1. */
  bits() {
    if (this.place === SIZE) this.twist();
    let y = this.state[this.place++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  /** Make the next 624 words of state from the last. */
  twist() {
    const state = this.state;
    for (let i = 0; i < SIZE; i++) {
      const y = (state[i] & 0x80000000) | (state[(i + 1) % SIZE] & 0x7fffffff);
      state[i] = state[(i + SHIFT) % SIZE] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.place = 0;
  }

  /** torch.rand in float32: a number in [0, 1), from the lowest 24 bits. */
  uniform() {
    return (this.bits() & 0xffffff) / 2 ** 24;
  }

  /** torch.randint(2 ** 62): a bigint of two draws, the high half first. */
  integer62() {
    const high = BigInt(this.bits());
    return BigInt.asUintN(62, (high << 32n) | BigInt(this.bits()));
  }
}

/**
 * One stream a candidate, so that a picture does not depend on how many are painted (class Rows of sampling.py).
 * @param {number} seed
 * @param {number} count
 * @returns {Generator[]}
 */
export function streams(seed, count) {
  const source = new Generator(seed);
  return Array.from({ length: count }, () => new Generator(source.integer62()));
}
