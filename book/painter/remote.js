/** The page's end of worker.js: each method sends a message and promises its reply. */

export class RemotePainter {
  /** @param {Worker} worker */
  constructor(worker) {
    this.worker = worker;
    this.waiting = new Map(); // id -> what to do with its replies
    this.count = 0;
    worker.addEventListener("message", ({ data }) => this.receive(data));
    worker.addEventListener("error", () => this.fail("The painter's thread did not start: this browser may be too old."));
  }

  receive({ id, step, result, error }) {
    const { resolve, reject, onStep } = this.waiting.get(id);
    if (step) return onStep(step);
    this.waiting.delete(id);
    return error === undefined ? resolve(result) : reject(new Error(error));
  }

  fail(message) {
    for (const { reject } of this.waiting.values()) reject(new Error(message));
    this.waiting.clear();
  }

  send(call, args, onStep = () => {}) {
    const id = this.count++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject, onStep });
      this.worker.postMessage({ id, call, args });
    });
  }

  /** End the thread; it answers nothing more. */
  close() {
    this.worker.terminate();
  }

  /** Paint in this world from now on, fetching it at first; onStep gets {done, total} in bytes. See Model's `about`. */
  open(base, world, onStep) {
    return this.send("open", [base, world], onStep);
  }

  /** See Painter.paint: `await painter.paint("a red house", {seed: 7})`. */
  paint(text, options = {}, onStep = undefined) {
    return this.send("paint", [text, options], onStep);
  }

  /** See Painter.repaint. */
  repaint(codes, marked, text, options = {}, onStep = undefined) {
    return this.send("repaint", [codes, marked, text, options], onStep);
  }

  /** See Painter.render. */
  render(codes) {
    return this.send("render", [codes]);
  }

  /** See Painter.answer: `await painter.answer(painting.codes, "what colour is the house")`. */
  answer(codes, question) {
    return this.send("answer", [codes, question]);
  }
}
