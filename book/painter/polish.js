/**
 * Second thoughts: which cells of a finished painting does the model itself doubt, and painting those anew.
 * The same as xlxmert_core/polish.py. Axes: N cells, M that are asked for, K codes, or the likely ones of a cell.
 */
import { easyFirst, fill, linear, places, softmax } from "./sampling.js";

/**
 * Log-probability of each code given the text and the cells around it. Four passes, each hides every fourth cell.
 * @param {import("./sampling.js").Predict} predict
 * @param {Int32Array} codes [N]
 * @param {number} grid cells along one side
 * @returns {Promise<Float64Array>} [N]
 */
export async function cellLogLikelihood(predict, codes, grid) {
  const found = new Float64Array(codes.length);
  for (let group = 0; group < 4; group++) {
    const hidden = Array.from(codes, (_, cell) => (Math.floor(cell / grid) % 2) * 2 + ((cell % grid) % 2) === group);
    const asked = places(hidden);
    const { logits, names } = await predict(codes, hidden, asked); // [M * K]
    const size = logits.length / asked.length;
    for (const [place, cell] of asked.entries()) {
      const row = logits.subarray(place * size, (place + 1) * size);
      if (!names) found[cell] = Math.log(softmax(row, 1)[codes[cell]]);
      // Logits of likely codes are log-probabilities among all codes; any other is less likely than one in so many.
      else found[cell] = row[names.subarray(place * size, (place + 1) * size).indexOf(codes[cell])] ?? -Infinity;
    }
  }
  return found;
}

/** Paint doubtful cells and the eight around each anew, greedily and the easy ones first; codes [N] -> codes [N]. */
export async function polish(predict, codes, editable, { grid, doubt, steps = 4 }, onStep) {
  const logs = await cellLogLikelihood(predict, codes, grid);
  const again = around(Array.from(logs, (x) => x < doubt), grid).map((near, cell) => near && editable[cell]);
  if (!again.includes(true)) return codes;
  return fill(predict, codes, again, { steps, order: easyFirst, schedule: linear }, onStep);
}

/** The marked cells of a square grid and the eight around each: boolean[N] -> boolean[N]. */
export function around(marked, grid) {
  return marked.map((_, cell) => {
    const row = Math.floor(cell / grid);
    const near = (other) =>
      Math.abs(Math.floor(other / grid) - row) <= 1 && Math.abs((other % grid) - (cell % grid)) <= 1;
    return marked.some((m, other) => m && near(other));
  });
}
