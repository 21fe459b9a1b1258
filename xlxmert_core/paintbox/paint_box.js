// The face of the paint box: a picture under a grid of cells to brush, its candidates, and the words said about it.
// All that it knows comes from the model's traits; what the reader does goes back as `brushed`, `taken` and messages.

const TEMPLATE = `
  <div class="xl-stage">
    <canvas class="xl-picture" role="img"></canvas>
    <div class="xl-grid" role="grid"></div>
    <p class="xl-empty"></p>
  </div>
  <div class="xl-below">
    <p class="xl-status" role="status" aria-live="polite"></p>
    <div class="xl-thumbs"></div>
    <div class="xl-said"></div>
    <div class="xl-files">
      <button type="button" class="xl-button xl-clear">Clear brush</button>
      <button type="button" class="xl-button xl-save">Save PNG</button>
      <label class="xl-button xl-open">Open PNG<input type="file" accept="image/png" aria-label="Open a saved PNG"></label>
    </div>
  </div>`;
const LARGEST = 20e6; // bytes of a file that is sent to the kernel

/** Draw bytes [S, S, 3] on a canvas of S x S pixels. */
function draw(canvas, bytes) {
  const side = Math.round(Math.sqrt(bytes.byteLength / 3));
  canvas.width = canvas.height = side || 1;
  if (!side) return;
  const pixels = new ImageData(side, side);
  for (let from = 0, to = 0; from < bytes.byteLength; from += 3, to += 4) {
    pixels.data[to] = bytes.getUint8(from);
    pixels.data[to + 1] = bytes.getUint8(from + 1);
    pixels.data[to + 2] = bytes.getUint8(from + 2);
    pixels.data[to + 3] = 255;
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

/** An element with attributes, properties and children. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** The grid's cells, row by row, each a focusable gridcell; only one is in the tab order. */
function makeCells(grid, side) {
  const cells = [];
  for (let row = 0; row < side; row++) {
    const line = make("div", { role: "row", class: "xl-row" });
    for (let column = 0; column < side; column++) {
      const label = `row ${row + 1}, column ${column + 1}`;
      const cell = make("div", { role: "gridcell", class: "xl-cell", tabindex: cells.length ? "-1" : "0", "aria-label": label });
      cells.push(cell);
      line.append(cell);
    }
    grid.append(line);
  }
  return cells;
}

/** The cells on the straight way from one to another, both included. */
function way(from, to, side) {
  const [y, x] = [Math.floor(from / side), from % side];
  const [dy, dx] = [Math.floor(to / side) - y, (to % side) - x];
  const count = Math.max(Math.abs(dy), Math.abs(dx), 1);
  return Array.from({ length: count + 1 }, (_, i) => Math.round(y + (dy * i) / count) * side + Math.round(x + (dx * i) / count));
}

/** Brushing by pointer and by keys; `change(cells)` is called with a Set whenever the brushed cells change. */
function brushing(grid, cells, side, read, change) {
  let stroke = null; // {add, last} while the pointer is down

  const focus = (index) => {
    cells.forEach((cell, i) => (cell.tabIndex = i === index ? 0 : -1));
    cells[index].focus({ preventScroll: true });
  };
  const put = (indices, add, done) => {
    const brushed = read();
    for (const index of indices) add ? brushed.add(index) : brushed.delete(index);
    change(brushed, done);
  };
  const under = (event) => {
    const box = grid.getBoundingClientRect();
    const place = (at, from, size) => Math.min(side - 1, Math.max(0, Math.floor(((at - from) / size) * side)));
    return place(event.clientY, box.top, box.height) * side + place(event.clientX, box.left, box.width);
  };
  grid.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    event.preventDefault(); // no text selection; the focus is set here
    const index = under(event);
    stroke = { add: !read().has(index), last: index };
    grid.setPointerCapture(event.pointerId);
    focus(index);
    put([index], stroke.add, false);
  });
  grid.addEventListener("pointermove", (event) => {
    if (!stroke) return;
    const index = under(event);
    if (index !== stroke.last) put(way(stroke.last, index, side), stroke.add, false);
    stroke.last = index;
  });
  const end = () => {
    if (stroke) put([], true, true);
    stroke = null;
  };
  grid.addEventListener("pointerup", end);
  grid.addEventListener("pointercancel", end);

  const moves = { ArrowUp: -side, ArrowDown: side, ArrowLeft: -1, ArrowRight: 1 };
  grid.addEventListener("keydown", (event) => {
    const index = cells.indexOf(event.target), column = index % side;
    const own = event.key === "a" || !(event.altKey || event.ctrlKey || event.metaKey); // the rest is the browser's
    if (index < 0 || !own) return;
    let to = index;
    if (event.key in moves) {
      to = index + moves[event.key];
      const stays = moves[event.key] === -1 ? column === 0 : moves[event.key] === 1 && column === side - 1;
      if (stays || to < 0 || to >= cells.length) to = index;
    } else if (event.key === "Home") to = index - column;
    else if (event.key === "End") to = index - column + side - 1;
    else if (event.key === " ") put([index], !read().has(index), true);
    else if (event.key === "Escape") change(new Set(), true);
    else if (event.key === "a" && (event.ctrlKey || event.metaKey)) put(cells.keys(), true, true);
    else return;
    event.preventDefault();
    event.stopPropagation();
    if (event.shiftKey && to !== index) put(way(index, to, side), true, true);
    if (to !== index) focus(to);
  });
}

/** JupyterLab takes keys before the page does, unless what has the focus says that it wants them itself. */
function keepKeys({ target }) {
  if (target.closest?.(".xl-box")) target.setAttribute("data-lm-suppress-shortcuts", "true");
}

function render({ model, el }) {
  const root = make("div", { class: "xl-canvas" });
  root.innerHTML = TEMPLATE;
  el.append(root);
  const find = (name) => root.querySelector(`.xl-${name}`);
  const side = model.get("grid"), one = model.get("choose");
  root.classList.toggle("xl-choose", one);
  const grid = find("grid"), cells = makeCells(grid, side);
  grid.setAttribute("aria-multiselectable", String(!one));
  grid.setAttribute("aria-label", one ? "Cells: choose one" : "Cells: brush those to repaint");
  let brushed = new Set(model.get("brushed"));

  const show = {
    pixels() {
      const bytes = model.get("pixels");
      draw(find("picture"), bytes);
      root.classList.toggle("xl-blank", !bytes.byteLength);
    },
    label: () => find("picture").setAttribute("aria-label", model.get("label")),
    hint: () => (find("empty").textContent = model.get("hint")),
    hidden() {
      const hidden = new Set(model.get("hidden"));
      cells.forEach((cell, i) => cell.classList.toggle("xl-hidden", hidden.has(i)));
    },
    brushed() {
      brushed = new Set(model.get("brushed"));
      mark();
    },
    status() {
      const { text, mood } = model.get("status");
      find("status").textContent = text;
      root.dataset.mood = mood;
      root.setAttribute("aria-busy", String(mood === "busy"));
    },
    thumbs: () => find("thumbs").replaceChildren(...thumbs(model)),
    taken() {
      root.querySelectorAll(".xl-thumb[aria-pressed]").forEach((button, i) => button.setAttribute("aria-pressed", String(i === model.get("taken"))));
    },
    said: () => {
      heat(null);
      find("said").replaceChildren(...said(model, heat));
    },
  };
  const mark = () => cells.forEach((cell, i) => cell.setAttribute("aria-selected", String(brushed.has(i))));
  const change = (next, done) => {
    brushed = next;
    mark();
    if (!done) return; // the kernel hears of a stroke when it ends
    model.set("brushed", [...brushed].sort((a, b) => a - b));
    model.save_changes();
  };
  /** Dim the cells by weights [N] relative to the largest; null shows the picture as it is. */
  const heat = (weights) => {
    root.classList.toggle("xl-heat", weights !== null);
    const most = weights ? Math.max(...weights) : 1;
    cells.forEach((cell, i) => cell.style.setProperty("--xl-dim", weights ? 0.86 * (1 - weights[i] / most) : 0));
  };
  brushing(grid, cells, side, () => new Set(brushed), one ? () => {} : change);
  if (one) grid.addEventListener("focusin", (event) => change(new Set([cells.indexOf(event.target)]), true));

  const open = async (file) => {
    if (!file) return;
    if (file.size > LARGEST) return model.send({ type: "too large", name: file.name });
    model.send({ type: "open", name: file.name }, undefined, [await file.arrayBuffer()]);
  };
  const input = root.querySelector("input[type=file]");
  input.addEventListener("change", () => {
    open(input.files[0]);
    input.value = ""; // the same file may be opened again
  });
  const stage = find("stage");
  stage.addEventListener("dragover", (event) => event.preventDefault());
  stage.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    open(event.dataTransfer.files[0]);
  });
  find("save").addEventListener("click", () => model.send({ type: "save" }));
  find("clear").addEventListener("click", () => change(new Set(), true));
  if (one) find("files").remove();

  document.addEventListener("focusin", keepKeys);
  const receive = (message, buffers) => {
    if (message.type !== "download") return;
    const address = URL.createObjectURL(new Blob([buffers[0]], { type: "image/png" }));
    const link = make("a", { href: address, download: message.name, hidden: "" });
    root.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 60e3);
  };
  model.on("msg:custom", receive);
  for (const [trait, update] of Object.entries(show)) {
    model.on(`change:${trait}`, update);
    update();
  }
  return () => {
    document.removeEventListener("focusin", keepKeys);
    model.off("msg:custom", receive);
    for (const [trait, update] of Object.entries(show)) model.off(`change:${trait}`, update);
  };
}

/** The pictures beside each other: buttons to take one, or plain patches when a cell is chosen. */
function thumbs(model) {
  const labels = model.get("thumb_labels"), bytes = model.get("thumbs"), size = bytes.byteLength / (labels.length || 1);
  return labels.map((label, i) => {
    const canvas = make("canvas", model.get("choose") ? { role: "img", "aria-label": label } : {});
    draw(canvas, new DataView(bytes.buffer, bytes.byteOffset + i * size, size));
    if (model.get("choose")) return make("span", { class: "xl-thumb xl-patch", title: label }, canvas);
    const pressed = String(i === model.get("taken"));
    const button = make("button", { type: "button", class: "xl-thumb", "aria-pressed": pressed, "aria-label": label, title: label }, canvas);
    button.addEventListener("click", () => model.send({ type: "take", candidate: i }));
    return button;
  });
}

/** Sentences as words that show, hovered or focused, where they look; a line below says it in numbers. */
function said(model, heat) {
  const bytes = model.get("heat"), cells = model.get("grid") ** 2;
  const note = make("p", { class: "xl-note" });
  let row = 0;
  const lines = model.get("said").map(({ title, words, answer }) => {
    const line = make("p", { class: "xl-line" }, make("span", { class: "xl-title" }, title));
    for (const word of words) line.append(chip(word, Float32Array.from({ length: cells }, weight(bytes, cells * row++)), heat, note));
    if (answer !== undefined) line.append(make("strong", { class: "xl-answer" }, answer));
    return line;
  });
  if (lines.length) note.textContent = HINT;
  return lines.length ? [...lines, note] : [];
}

const HINT = "Point at a word, or focus it, to see where it looks.";
const weight = (bytes, start) => (_, i) => bytes.getFloat32(4 * (start + i), true);

/** One word as a button; its weights [N] light up the cells while it is hovered, focused or pressed. */
function chip(word, weights, heat, note) {
  const side = Math.sqrt(weights.length), most = weights.indexOf(Math.max(...weights));
  const where = `row ${Math.floor(most / side) + 1}, column ${(most % side) + 1}`;
  const share = `${Math.round(100 * weights[most])} %`;
  const button = make("button", { type: "button", class: "xl-word", "aria-label": `${word}: looks most at ${where}, ${share}` }, word);
  const on = () => {
    heat(weights);
    button.classList.add("xl-on");
    note.textContent = `“${word}” looks most at ${where}: ${share} of its attention.`;
  };
  const off = ({ type }) => {
    if (type === "pointerleave" && document.activeElement === button) return;
    if (type === "blur" && button.matches(":hover")) return;
    heat(null);
    button.classList.remove("xl-on");
    note.textContent = HINT;
  };
  for (const event of ["pointerenter", "focus", "click"]) button.addEventListener(event, on);
  for (const event of ["pointerleave", "blur"]) button.addEventListener(event, off);
  button.addEventListener("keydown", (event) => event.key === "Escape" && off(event));
  return button;
}

export default { render };
