/** The page's buttons and fields: they ask the painter in worker.js and show what it says. */
import { Easel, element } from "./easel.js";
import { RemotePainter } from "./remote.js";
import { DEFAULTS } from "./sampling.js";
import { Tokenizer } from "./tokenizer.js";

const BASE = new URL("./", import.meta.url).href;
const LIMIT = 1_000_000; // seeds stay below, so that they are easily told to others
const root = document.getElementById("painter-panel");
const fields = [...root.querySelectorAll("fieldset")];
const part = Object.fromEntries([...root.querySelectorAll("[data-part]")].map((x) => [x.dataset.part, x]));
const easel = new Easel(part.canvas, part.grid, refresh);
const past = []; // paintings that "Undo" goes back to
let painter = null;
let painting = null; // {codes, picture, text}
let words = null; // tokenizers, to warn of words that the model does not know
let questionWords = null;

/** Say one thing in the status line, which screen readers read out. */
function say(...sentences) {
  part.status.textContent = sentences.filter(Boolean).join(" ");
}

/** Buttons that can do something are enabled, the others not. */
function refresh() {
  const count = easel.brushed.filter(Boolean).length;
  part.apply.disabled = part.clear.disabled = count === 0;
  part.apply.textContent = count ? `Repaint ${count} cell${count > 1 ? "s" : ""}` : "Repaint the brushed cells";
  part.undo.disabled = past.length === 0;
  part.send.disabled = painting === null;
  easel.enable(painting !== null && !fields[0].disabled);
}

/** Let the reader do something, or not. */
function open(on) {
  for (const field of fields) field.disabled = !on;
  root.setAttribute("aria-busy", String(!on));
  refresh();
}

/** Do one thing at a time; what goes wrong becomes a sentence in the status line. */
async function alone(work) {
  if (fields[0].disabled) return;
  const focused = document.activeElement; // a disabled button would lose it
  open(false);
  try {
    await work();
  } catch (error) {
    say(error.message);
    if (painting) easel.show(painting.picture); // not what was half painted
  }
  easel.veil([]);
  open(true);
  if (document.activeElement === document.body && root.contains(focused)) giveBack(focused);
}

/** Give a control the keyboard's focus; where it has just disabled itself, the picture gets it. */
function giveBack(control) {
  if (control.disabled) easel.focus();
  else control.focus({ preventScroll: true });
}

async function start() {
  part.start.hidden = true;
  part.progress.hidden = false;
  say("Loading the model.");
  const began = performance.now();
  try {
    painter = new RemotePainter(new Worker(new URL("./worker.js", import.meta.url), { type: "module" }));
    const about = await painter.open(BASE, ({ done, total }) => (part.progress.value = done / total));
    furnish(about);
    say(`Ready after ${((performance.now() - began) / 1000).toFixed(1)} s. Write a sentence, or take an example.`);
  } catch (error) {
    painter?.close();
    part.start.hidden = false;
    part.progress.hidden = true;
    say(error.message);
  }
}

/** Fill in what only the model knows, and open the controls. */
function furnish(about) {
  words = new Tokenizer(about.words, about.max_words);
  questionWords = new Tokenizer(about.question_words, about.max_words);
  easel.build(about.grid, about.pixels);
  part.words.textContent = words.known().join(", ");
  for (const example of about.examples) {
    const chip = part.examples.appendChild(element("button", { type: "button" }, example));
    chip.addEventListener("click", () => {
      part.text.value = example;
      part.paint.requestSubmit();
    });
  }
  part.text.value = about.examples[0];
  part.before.remove();
  open(true);
  part.text.focus({ preventScroll: true });
  window.painter = painter; // for the console, and for the tests
}

/** What the fields say, in the names of Painter.paint. */
function options() {
  const numbers = ["steps", "temperature", "candidates", "polish", "seed"].map((name) => [name, +part[name].value]);
  return { ...Object.fromEntries(numbers), order: part.order.value, schedule: part.schedule.value };
}

function watch(state) {
  if (state.picture) easel.show(state.picture);
  easel.veil(state.masked);
}

function keep(made, text) {
  if (painting) past.push(painting);
  painting = { ...made, text };
  easel.clear();
  easel.show(painting.picture, `A painting of: ${text}`);
  part.answer.textContent = "";
}

async function paint() {
  const text = part.text.value;
  easel.clear();
  say("Painting.");
  const made = await painter.paint(text, options(), watch);
  keep(made, text);
  part.again.value = text;
  say(`Painted in ${made.seconds.toFixed(1)} s with seed ${part.seed.value}.`, words.remarks(text));
}

async function repaint() {
  const text = part.again.value;
  const brushed = easel.brushed;
  say("Repainting.");
  const made = await painter.repaint(painting.codes, brushed, text, options(), watch);
  const count = brushed.filter(Boolean).length;
  keep(made, text);
  say(`Repainted ${count} of ${brushed.length} cells in ${made.seconds.toFixed(1)} s.`, words.remarks(text));
}

function undo() {
  painting = past.pop();
  easel.clear();
  easel.show(painting.picture, `A painting of: ${painting.text}`);
  part.answer.textContent = "";
  say("Went one painting back.");
  refresh();
  giveBack(part.undo);
}

async function ask() {
  const question = part.question.value;
  part.answer.textContent = await painter.answer(painting.codes, question);
  say(questionWords.remarks(question));
}

/** On "submit" and on the Enter key, also in a text field of several lines. */
function onSubmit(form, work) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    alone(work);
  });
  form.addEventListener("invalid", (event) => {
    event.target.closest("details")?.setAttribute("open", ""); // where the browser can point at it
    say(`${event.target.labels[0].textContent}: ${event.target.validationMessage}`);
  }, true);
  form.querySelector("textarea")?.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.querySelector("[type=submit]").click(); // does nothing while the button is disabled
  });
}

for (const [name, value] of Object.entries(DEFAULTS)) if (part[name]) part[name].value = value;
part.served.remove();
part.start.hidden = false;
say("It comes from where this page came from, once. After that nothing is sent: your browser paints.");
part.start.addEventListener("click", start);
part.clear.addEventListener("click", () => {
  easel.clear();
  giveBack(part.clear);
});
part.undo.addEventListener("click", undo);
part.dice.addEventListener("click", () => {
  part.seed.value = Math.floor(Math.random() * LIMIT);
  part.paint.requestSubmit();
});
onSubmit(part.paint, paint);
onSubmit(part.repaint, repaint);
onSubmit(part.ask, ask);
