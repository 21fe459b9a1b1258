/**
 * The painter in a thread of its own, so that the page stays awake while it works.
 * A message {id, call, args} is a method of Painter; the replies are {id, step}, then {id, result} or {id, error}.
 */
import { Painter } from "./painter.js";

const painters = {}; // by world
let painter = null;

const CALLS = {
  async open(base, world, onStep) {
    painters[world] ??= await Painter.open(base, world, (done, total) => onStep({ done, total }));
    painter = painters[world];
    return painter.about;
  },
  paint: (text, options, onStep) => painter.paint(text, options, onStep),
  repaint: (codes, marked, text, options, onStep) => painter.repaint(codes, marked, text, options, onStep),
  render: (codes) => painter.render(codes),
  answer: (codes, question) => painter.answer(codes, question),
};

self.addEventListener("message", async ({ data: { id, call, args } }) => {
  try {
    self.postMessage({ id, result: await CALLS[call](...args, (step) => self.postMessage({ id, step })) });
  } catch (error) {
    self.postMessage({ id, error: error.message });
  }
});
