/**
 * Painter: the one object the page holds. It paints, repaints and answers, as xlxmert_core.Pipeline does in Python:
 * the same sentence, seed and settings give the same codes. Axes: N cells, S pixels along a side.
 *
 * @typedef {{steps?: number, seed?: number, order?: string, schedule?: string, temperature?: number,
 *   candidates?: number, enough?: number, polish?: number}} Options
 *   candidates: how many to paint at most, to keep the best; no further one after one whose score is `enough`
 * @typedef {{codes: Int32Array, picture: Uint8ClampedArray, seconds: number}} Painting
 *   codes [N]; picture [S * S * 4], as a canvas takes it
 */
import { openModel } from "./model.js";
import { cellLogLikelihood, polish } from "./polish.js";
import { streams } from "./random.js";
import { DEFAULTS, fill, ORDERS, SCHEDULES, softmax } from "./sampling.js";
import { Tokenizer } from "./tokenizer.js";

export class Painter {
  /** Fetch a world from the folder at address `base`; see openModel. */
  static async open(base, world, onProgress) {
    const painter = new Painter(await openModel(base, world, onProgress));
    await painter.render(new Int32Array(painter.about.grid ** 2)); // says what a picture costs here
    return painter;
  }

  /** @param {import("./model.js").Model} model */
  constructor(model) {
    this.model = model;
    this.about = model.about;
    this.tokenizer = new Tokenizer(model.about.words, model.about.max_words);
    this.questions = new Tokenizer(model.about.question_words, model.about.max_words);
    this.cost = 0; // milliseconds of the last picture
  }

  /**
   * Paint a sentence on an empty canvas.
   * @param {string} text
   * @param {Options} [options]
   * @param {(state: object) => void} [onStep] told after each step, see `fill`; some steps bring a picture
   * @returns {Promise<Painting>}
   */
  paint(text, options = {}, onStep = () => {}) {
    const cells = this.about.grid ** 2;
    return this.repaint(new Int32Array(cells), new Array(cells).fill(true), text, options, onStep);
  }

  /** Paint the marked cells [N] of codes [N] anew, for another text; every other cell keeps its code. */
  async repaint(codes, marked, text, options = {}, onStep = () => {}) {
    const start = performance.now();
    const how = { ...DEFAULTS, ...options };
    const encoded = await this.model.readText(this.tokenizer.encode(text));
    const judge = (values, masked, asked) => this.model.readCells(encoded, values, masked, asked);
    const watch = this.preview(onStep);
    let best = null;
    for (const stream of streams(how.seed, how.candidates)) {
      const made = await this.candidate(judge, Int32Array.from(codes), Array.from(marked), { ...how, stream }, watch);
      const score = how.candidates > 1 ? await this.score(judge, made) : 0;
      if (best === null || score > best.score) best = { score, codes: made };
      if (score >= how.enough) break;
    }
    const picture = await this.render(best.codes);
    return { codes: best.codes, picture, seconds: (performance.now() - start) / 1000 };
  }

  async candidate(judge, codes, marked, how, watch) {
    const order = ORDERS[how.order];
    const schedule = SCHEDULES[how.schedule];
    codes = await fill(judge, codes, marked, { ...how, order, schedule }, watch);
    for (let round = 0; round < how.polish; round++) {
      codes = await polish(judge, codes, marked, this.about, watch);
    }
    return codes;
  }

  /** What candidates are chosen by: log-probability of the match, minus one for each doubtful cell. */
  async score(judge, codes) {
    const { match } = await judge(codes, new Array(codes.length).fill(false), [0]);
    const logs = await cellLogLikelihood(judge, codes, this.about.grid);
    return Math.log(softmax(match, 1)[1]) - logs.filter((x) => x < this.about.doubt).length;
  }

  /** A picture is dear: render one between steps only when at most a fifth of the time goes into it. */
  preview(onStep) {
    let last = performance.now();
    return async (state) => {
      const picture = performance.now() - last >= 4 * this.cost ? await this.render(state.codes) : null;
      if (picture) last = performance.now();
      onStep({ ...state, picture });
    };
  }

  /** Codes [N] -> picture [S * S * 4]. */
  async render(codes) {
    const start = performance.now();
    const picture = new Uint8ClampedArray(await this.model.render(codes));
    this.cost = performance.now() - start;
    return picture;
  }

  /** The likeliest answer to a question about the picture with these codes [N]. */
  async answer(codes, question) {
    const logits = await this.model.answer(this.questions.encode(question), codes);
    const best = logits.indexOf(Math.max(...logits));
    return this.about.answers[best];
  }
}
