/**
 * Painting: one loop that fills in what is masked. The same loop as xlxmert_core/sampling.py, for one picture.
 *
 * `fill` is the loop; an *order* says which cells to trust, a *schedule* how many stay masked, `predict` what the
 * model thinks. Axes: N cells, M that are asked for, K codes, or the likely ones of a cell. Shapes stand in brackets.
 *
 * @typedef {{index: number, count: number}} Step  step `index` of `count`, counted from 0
 * @typedef {(codes: Int32Array, masked: boolean[], asked: number[]) =>
 *   Promise<{logits: Float32Array, names?: Int32Array}>} Predict  what it thinks of the M cells that are asked for
 *   -> logits [M * K], and the codes that they are of, [M * K]; without names these are 0 to K - 1 of each cell
 * @typedef {(confidence: Float32Array, masked: boolean[], step: Step, stream: Generator) => number[]} Order
 *   -> score [N]: the lowest scores are masked next
 * @typedef {(step: number, steps: number) => number} Schedule  -> share of the editable cells still masked
 */

/**
 * Fill the masked cells in `steps` rounds; all others keep their codes and are seen throughout.
 *
 * @param {Predict} predict
 * @param {Int32Array} codes [N]; what stands in masked cells does not matter
 * @param {boolean[]} masked [N], the cells to fill; the only ones that are ever written
 * @param {{steps: number, order: Order, schedule: Schedule, temperature?: number, stream?: Generator}} how
 *   temperature 0 takes the likeliest code, otherwise codes are drawn from the stream
 * @param {(state: object) => Promise<void> | void} [onStep] called after each step with step, steps, codes, masked
 *   (to be filled again), written (filled in this step) and confidence
 * @returns {Promise<Int32Array>} codes [N]
 */
export async function fill(predict, codes, masked, how, onStep = () => {}) {
  const { steps, order, schedule, temperature = 0, stream } = how;
  const editable = masked;
  const confidence = new Float32Array(codes.length).fill(1);
  for (let index = 0; index < steps; index++) {
    const step = { index, count: steps };
    const asked = places(masked.map((hidden) => hidden || order === maskPredict)); // which scores all cells afresh
    const { logits, names } = asked.length ? await predict(codes, masked, asked) : { logits: [] }; // [M * K]
    const size = logits.length / asked.length; // K
    const written = masked;
    codes = codes.slice();
    for (const [place, cell] of asked.entries()) {
      const row = logits.subarray(place * size, (place + 1) * size);
      const chosen = choose(row, masked[cell] ? temperature : 0, stream);
      if (masked[cell]) codes[cell] = names ? names[place * size + chosen.code] : chosen.code;
      confidence[cell] = chosen.probability;
    }
    const score = order(confidence, masked, step, stream).map((x, cell) => (editable[cell] ? x : Infinity));
    masked = lowest(score, remaining(schedule, step, editable));
    await onStep({ step: index, steps, codes, masked, written, confidence: confidence.slice() });
  }
  return codes;
}

/** Where it is true: boolean[N] -> M numbers. */
export const places = (marked) => [...marked.keys()].filter((cell) => marked[cell]);

/** Mark the `count` lowest scores; of equal ones, the later cells: [N] -> boolean[N]. */
export function lowest(score, count) {
  const best = [...score.keys()].sort((a, b) => (score[a] === score[b] ? a - b : score[b] - score[a]));
  const masked = new Array(score.length).fill(false);
  for (const cell of best.slice(score.length - count)) masked[cell] = true;
  return masked;
}

/** How many cells are still masked after a step, rounded down. */
export function remaining(schedule, step, editable) {
  const share = schedule(step.index + 1, step.count);
  return Math.floor(share * editable.filter(Boolean).length + 1e-6); // 1e-6: a whole number stays whole
}

/** Pick a code from its logits [K]; at a temperature above 0 it is drawn, with one random number. */
export function choose(logits, temperature, stream) {
  const every = softmax(logits, 1);
  const code = temperature > 0 ? draw(softmax(logits, temperature), stream.uniform()) : every.indexOf(highest(every));
  return { code, probability: every[code] };
}

/** The first code at which the summed shares [K] pass `uniform`, a number in [0, 1). */
function draw(share, uniform) {
  let sum = 0; // rises to 1, and is rounded to float32 where it is compared
  for (let k = 0; k < share.length; k++) sum += share[k];
  const drawn = Math.fround(uniform * Math.fround(sum));
  sum = 0;
  for (let k = 0; k < share.length; k++) if (Math.fround((sum += share[k])) > drawn) return k;
  return share.length - 1;
}

/** Logits [K] -> probabilities float32 [K]. Plain loops: ten times as fast here as `map` and `from`. */
export function softmax(logits, temperature) {
  const powers = new Float64Array(logits.length);
  const top = highest(logits);
  let sum = 0;
  for (let k = 0; k < powers.length; k++) sum += powers[k] = Math.exp((logits[k] - top) / temperature);
  const share = new Float32Array(powers.length);
  for (let k = 0; k < powers.length; k++) share[k] = powers[k] / sum;
  return share;
}

/** The largest of some numbers. */
function highest(values) {
  let top = values[0];
  for (let k = 1; k < values.length; k++) if (values[k] > top) top = values[k];
  return top;
}

// --- Schedules: (step, steps) -> share still masked; 1 at step 0, 0 at the end. ---

/** The same number of cells every step (Mask-Predict; the paper's). */
export const linear = (step, steps) => (steps - step) / steps;

/** Few cells first, many at the end (MaskGIT). */
export const cosine = (step, steps) => (step < steps ? Math.max(0, Math.cos(((Math.PI / 2) * step) / steps)) : 0);

/** Nearly even at first, many cells at the very end (Muse's mask ratio). */
export const arccos = (step, steps) => (2 / Math.PI) * Math.acos(step / steps);

// --- Orders: the higher a cell's score, the sooner it is kept. ---

/** What is kept stays kept. */
const keep = (masked, score) => masked.map((m, cell) => (m ? score(cell) : Infinity));

/** Trust the most confident of *all* cells, scored afresh; any other may be masked again (the paper's). */
export const maskPredict = (confidence) => Array.from(confidence);

/** Keep what is kept, then add the most confident masked cells. */
export const easyFirst = (confidence, masked) => keep(masked, (cell) => confidence[cell]);

/** Keep what is kept, then add masked cells at random. */
export function random(confidence, masked, step, stream) {
  const drawn = masked.map(() => stream.uniform());
  return keep(masked, (cell) => drawn[cell]);
}

/** Top left to bottom right. */
export const raster = (confidence, masked) => keep(masked, (cell) => -cell);

/** Spread over the picture: visit cells along a Halton sequence (Besnier et al. 2025). */
export function halton(confidence, masked) {
  const places = haltonPlaces(masked.length);
  return keep(masked, (cell) => -places[cell]);
}

/** When each cell of a square grid is visited, 0 first: its row follows base 2, its column base 3. */
export function haltonPlaces(cells) {
  const side = Math.sqrt(cells);
  const visited = new Map();
  for (let point = 1; visited.size < cells; point++) {
    const row = Math.floor(radicalInverse(point, 2) * side);
    const column = Math.floor(radicalInverse(point, 3) * side);
    if (!visited.has(row * side + column)) visited.set(row * side + column, visited.size);
  }
  return Array.from({ length: cells }, (_, cell) => visited.get(cell));
}

function radicalInverse(number, base) {
  let value = 0;
  for (let scale = 1 / base; number > 0; scale /= base) {
    value += (number % base) * scale;
    number = Math.floor(number / base);
  }
  return value;
}

/** What Python and the page's settings call them. */
export const ORDERS = { halton, easy_first: easyFirst, mask_predict: maskPredict, raster, random };
export const SCHEDULES = { cosine, linear, arccos };

/**
 * What Pipeline.paint does too, but that one saves time: of at most four candidates it takes the first that is good
 * enough, with no doubtful cell and a match more likely than not. That is as good as the best of all four.
 */
export const DEFAULTS = {
  steps: 16, seed: 0, order: "halton", schedule: "cosine", temperature: 0.7, polish: 1,
  candidates: 4, enough: Math.log(0.5),
};
