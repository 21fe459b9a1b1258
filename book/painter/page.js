/** The page's buttons and fields: they ask the painter in worker.js and show what it says. */
import { Easel, element } from "./easel.js";
import { RemotePainter } from "./remote.js";
import { DEFAULTS } from "./sampling.js";
import { Tokenizer } from "./tokenizer.js";

const BASE = new URL("./", import.meta.url).href;
const LIMIT = 1_000_000; // seeds stay below, so that they are easily told to others
const TITLES = { storybook: "Drawings", catalogue: "Product photographs" }; // of the worlds, the first one first
const KEPT = ["text", "again", "question"]; // fields that each world has for itself
const root = document.getElementById("painter-panel");
const fields = [...root.querySelectorAll("fieldset")];
const part = Object.fromEntries([...root.querySelectorAll("[data-part]")].map((x) => [x.dataset.part, x]));
const easel = new Easel(part.canvas, part.grid, refresh);
const worlds = {}; // by name, once fetched: see `furnish`
let painter = null;
let here = { painting: null, past: [] }; // the world that paints; painting {codes, picture, text}, past for "Undo"

/** Say one thing in the status line, which screen readers read out. */
function say(...sentences) {
  part.status.textContent = sentences.filter(Boolean).join(" ");
}

/** Buttons that can do something are enabled, the others not. */
function refresh() {
  const count = easel.brushed.filter(Boolean).length;
  part.apply.disabled = part.clear.disabled = count === 0;
  part.apply.textContent = count ? `Repaint ${count} cell${count > 1 ? "s" : ""}` : "Repaint the brushed cells";
  part.undo.disabled = here.past.length === 0;
  part.send.disabled = here.painting === null;
  easel.enable(here.painting !== null && !fields[0].disabled);
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
    if (here.painting) easel.show(here.painting.picture); // not what was half painted
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
  try {
    painter = new RemotePainter(new Worker(new URL("./worker.js", import.meta.url), { type: "module" }));
    const { about, seconds } = await fetchWorld(Object.keys(TITLES)[0]);
    offer(about.worlds);
    enter(about);
    root.classList.add("painter-ready");
    say(`Ready after ${seconds} s. Write a sentence, or take an example.`);
    open(true);
    part.text.focus({ preventScroll: true });
    window.painter = painter; // for the console, and for the tests
  } catch (error) {
    painter?.close();
    part.start.hidden = false;
    say(error.message);
  }
}

/** Let the painter's thread fetch a world, under the progress bar, or go back to it. */
async function fetchWorld(name) {
  const began = performance.now();
  part.before.hidden = part.progress.hidden = name in worlds;
  part.progress.value = 0;
  say("Loading the model.");
  try {
    const about = await painter.open(BASE, name, ({ done, total }) => (part.progress.value = done / total));
    part.before.hidden = true;
    return { about, seconds: ((performance.now() - began) / 1000).toFixed(1) };
  } finally {
    part.progress.hidden = true;
    if (here.about) part.before.hidden = true;
  }
}

/** A button for each world that this page has, {name: bytes}, where it has several. */
function offer(sizes) {
  const names = Object.keys(TITLES).filter((name) => name in sizes);
  part.worlds.hidden = names.length < 2;
  for (const name of names) {
    const label = `${TITLES[name]}, ${Math.round(sizes[name] / 1e6)} MB`;
    const button = part.worlds.appendChild(element("button", { type: "button", "data-world": name }, label));
    button.addEventListener("click", () => alone(() => change(name)));
  }
}

async function change(name) {
  if (name === here.about.world) return;
  const known = name in worlds;
  const { about, seconds } = await fetchWorld(name);
  enter(about);
  say(known ? "" : `Ready after ${seconds} s.`, "Write a sentence, or take an example.");
}

/** Fill in what only a world knows; where it was left, it goes on. */
function enter(about) {
  for (const name of KEPT) here[name] = part[name].value;
  worlds[about.world] ??= {
    about, painting: null, past: [], text: about.examples[0], again: "", question: about.question,
    words: new Tokenizer(about.words, about.max_words), // to warn of words that the model does not know
    questionWords: new Tokenizer(about.question_words, about.max_words),
  };
  here = worlds[about.world];
  for (const name of KEPT) part[name].value = here[name];
  for (const button of part.worlds.children) {
    const name = button.dataset.world;
    button.setAttribute("aria-pressed", String(name === about.world));
    if (name in worlds) button.textContent = TITLES[name];
  }
  part.words.textContent = here.words.known().join(", ");
  part.quiz.hidden = about.answers.length === 0;
  part.examples.replaceChildren(...about.examples.map(chip));
  easel.build(about.grid, about.pixels);
  lookBack();
}

/** A button that paints an example. */
function chip(example) {
  const button = element("button", { type: "button" }, example);
  button.addEventListener("click", () => {
    part.text.value = example;
    part.paint.requestSubmit();
  });
  return button;
}

/** Show the painting that this world has, with nothing brushed and nothing answered. */
function lookBack() {
  easel.clear();
  part.answer.textContent = "";
  if (here.painting) easel.show(here.painting.picture, `A painting of: ${here.painting.text}`);
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
  if (here.painting) here.past.push(here.painting);
  here.painting = { ...made, text };
  lookBack();
}

async function paint() {
  const text = part.text.value;
  easel.clear();
  say("Painting.");
  const made = await painter.paint(text, options(), watch);
  keep(made, text);
  part.again.value = text;
  say(`Painted in ${made.seconds.toFixed(1)} s with seed ${part.seed.value}.`, here.words.remarks(text));
}

async function repaint() {
  const text = part.again.value;
  const brushed = easel.brushed;
  say("Repainting.");
  const made = await painter.repaint(here.painting.codes, brushed, text, options(), watch);
  const count = brushed.filter(Boolean).length;
  keep(made, text);
  say(`Repainted ${count} of ${brushed.length} cells in ${made.seconds.toFixed(1)} s.`, here.words.remarks(text));
}

function undo() {
  here.painting = here.past.pop();
  lookBack();
  say("Went one painting back.");
  refresh();
  giveBack(part.undo);
}

async function ask() {
  const question = part.question.value;
  part.answer.textContent = await painter.answer(here.painting.codes, question);
  say(here.questionWords.remarks(question));
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
