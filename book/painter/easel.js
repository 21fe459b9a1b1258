/** The picture and, over it, a grid of cells that can be brushed by mouse, finger or keyboard. N cells, S pixels. */

const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

export class Easel {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {HTMLElement} grid an empty element with role "grid" that lies over the canvas
   * @param {() => void} onBrush called when other cells are brushed
   */
  constructor(canvas, grid, onBrush) {
    this.canvas = canvas;
    this.grid = grid;
    this.onBrush = onBrush;
    this.cells = [];
    this.stroke = null; // while a pointer is down: whether it brushes or wipes
    grid.addEventListener("pointerdown", (event) => this.begin(event));
    grid.addEventListener("pointermove", (event) => this.drag(event));
    for (const end of ["pointerup", "pointercancel"]) grid.addEventListener(end, () => (this.stroke = null));
    grid.addEventListener("mousedown", (event) => event.preventDefault()); // else a stroke may drag a selection
    grid.addEventListener("keydown", (event) => this.key(event));
  }

  /** Lay out side x side cells over a picture of so many pixels; `enable` makes them brushable. */
  build(side, pixels) {
    this.side = side;
    this.cells = [];
    this.grid.replaceChildren();
    this.canvas.width = this.canvas.height = pixels; // which empties it
    this.canvas.setAttribute("aria-label", "No painting yet");
    this.grid.style.setProperty("--side", side);
    for (let row = 0; row < side; row++) {
      const line = this.grid.appendChild(element("div", { role: "row" }));
      for (let column = 0; column < side; column++) {
        const label = `row ${row + 1}, column ${column + 1}`;
        this.cells.push(line.appendChild(element("div", { role: "gridcell", "aria-label": label })));
      }
    }
  }

  /** Whether cells take brushes and the keyboard's focus. */
  enable(on) {
    this.grid.classList.toggle("painter-live", on);
    if (!on) this.stroke = null;
    if (on && !this.grid.querySelector('[tabindex="0"]')) this.reach(this.cells[0]);
  }

  get live() {
    return this.grid.classList.contains("painter-live");
  }

  /** Show a picture, uint8 [S * S * 4]. */
  show(picture, label) {
    const side = this.canvas.width;
    this.canvas.getContext("2d").putImageData(new ImageData(picture, side, side), 0, 0);
    if (label) this.canvas.setAttribute("aria-label", label);
  }

  /** Veil the cells that are still to be painted: boolean[N]. */
  veil(masked) {
    this.cells.forEach((cell, i) => cell.classList.toggle("painter-veiled", Boolean(masked[i])));
  }

  /** Which cells are brushed: boolean[N]. */
  get brushed() {
    return this.cells.map((cell) => cell.getAttribute("aria-selected") === "true");
  }

  clear() {
    this.cells.forEach((cell) => this.brush(cell, false));
  }

  brush(cell, on) {
    if ((cell.getAttribute("aria-selected") === "true") === on) return;
    cell.setAttribute("aria-selected", String(on));
    this.onBrush();
  }

  begin(event) {
    const cell = this.under(event);
    if (!this.live || !cell || event.button !== 0) return;
    this.grid.setPointerCapture(event.pointerId); // the stroke goes on outside the picture
    this.stroke = cell.getAttribute("aria-selected") !== "true";
    this.brush(cell, this.stroke);
    this.reach(cell);
  }

  drag(event) {
    if (this.stroke === null) return;
    for (const point of event.getCoalescedEvents?.() ?? []) this.touch(point);
    this.touch(event);
  }

  touch(point) {
    const cell = this.under(point);
    if (cell) this.brush(cell, this.stroke);
  }

  /** The cell under a point of the screen. */
  under({ clientX, clientY }) {
    const { left, top, width, height } = this.grid.getBoundingClientRect();
    const column = Math.floor(((clientX - left) / width) * this.side);
    const row = Math.floor(((clientY - top) / height) * this.side);
    return this.at(row, column);
  }

  at(row, column) {
    const inside = Math.min(row, column) >= 0 && Math.max(row, column) < this.side;
    return inside ? this.cells[row * this.side + column] : undefined;
  }

  key(event) {
    const place = this.cells.indexOf(event.target);
    if (!this.live || place < 0 || event.altKey || event.ctrlKey || event.metaKey) return; // the browser's own keys
    const [down, right] = MOVES[event.key] ?? [0, 0];
    const next = this.at(Math.floor(place / this.side) + down, (place % this.side) + right);
    if (event.key === " " || event.key === "Enter") {
      this.brush(event.target, event.target.getAttribute("aria-selected") !== "true");
    } else if (event.key in MOVES) {
      if (next) this.reach(next).focus();
    } else {
      return;
    }
    event.preventDefault(); // neither scroll the page nor send the form
  }

  /** Give the keyboard's focus to the cell that the tab key reaches. */
  focus() {
    this.grid.querySelector('[tabindex="0"]')?.focus({ preventScroll: true });
  }

  /** Let the tab key reach this cell, and only this one. */
  reach(cell) {
    this.cells.forEach((other) => other.setAttribute("tabindex", other === cell ? "0" : "-1"));
    return cell;
  }
}

/** A new element with these attributes. */
export function element(name, attributes = {}, text = "") {
  const made = document.createElement(name);
  Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
  made.textContent = text;
  return made;
}
