/**
 * The graphs of a world that book/build/export_onnx.py wrote, run by onnxruntime-web on the reader's processor.
 *
 * One function a graph. Axes: L words, N cells, M that are asked for, K codes, or the likely ones of a cell, A answers, S pixels along a side.
 */
import * as ort from "./ort/ort.wasm.min.mjs";

const RUNTIME = "ort/ort-wasm-simd-threaded.wasm";

/**
 * Fetch a world, with the first one what runs it, and make it ready to run.
 * @param {string} base the address of this folder, with a slash at its end
 * @param {string} world its name in files.json
 * @param {(done: number, total: number) => void} onProgress bytes so far, and of all files
 * @returns {Promise<Model>} rejects with a sentence when a file does not arrive
 */
export async function openModel(base, world, onProgress) {
  const { runtime, worlds } = JSON.parse(decode(await download(`${base}files.json`))); // {path: bytes} of each
  const sizes = ort.env.wasm.wasmBinary ? worlds[world] : { ...runtime, ...worlds[world] };
  const total = sum(sizes);
  let done = 0;
  const files = {};
  for (const path of Object.keys(sizes)) {
    files[path] = await download(`${base}${path}`, (bytes) => onProgress((done += bytes), total));
  }
  ort.env.wasm.numThreads = 1; // more threads need headers that a static host does not send
  ort.env.wasm.wasmPaths = `${base}ort/`;
  ort.env.wasm.wasmBinary ??= files[RUNTIME].buffer;
  const sessions = {};
  for (const path of Object.keys(worlds[world]).filter((path) => path.endsWith(".onnx"))) {
    const name = path.match(/(\w+)\.onnx$/)[1];
    sessions[name] = await ort.InferenceSession.create(files[path], { executionProviders: ["wasm"] });
  }
  const about = JSON.parse(decode(files[`model/${world}/model.json`]));
  return new Model({ ...about, world, worlds: Object.fromEntries(Object.entries(worlds).map(([k, v]) => [k, sum(v)])) }, sessions);
}

const sum = (sizes) => Object.values(sizes).reduce((a, b) => a + b);

async function download(address, onBytes = () => {}) {
  const lost = (why) => new Error(`${address.split("/").at(-1)} did not arrive (${why}): reload the page to try again.`);
  const offline = () => Promise.reject(lost("no connection")); // from the start, or in the midst of it
  const reply = await fetch(address).catch(offline);
  if (!reply.ok) throw lost(`status ${reply.status}`);
  const parts = [];
  const reader = reply.body.getReader();
  for (let part = await reader.read().catch(offline); !part.done; part = await reader.read().catch(offline)) {
    parts.push(part.value);
    onBytes(part.value.length);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

const decode = (bytes) => new TextDecoder().decode(bytes);

export class Model {
  /**
   * @param {object} about what model.json says: words, sizes, answers; also which world it is, and {world: bytes} of all
   * @param {Record<string, ort.InferenceSession>} sessions
   */
  constructor(about, sessions) {
    this.about = about;
    this.sessions = sessions;
  }

  /** Word ids [L] -> the encoded text, a tensor [1, L, H]; once for all steps of a painting. */
  async readText(words) {
    return (await this.sessions.text.run({ words: integers(words) })).text;
  }

  /**
   * The text, codes [N], which of them are masked [N] and which are asked for, M cells, at least one -> logits [M * K]
   * and match [2], of "no" and "yes". Where K are the likely codes alone, names [M * K] says which they are.
   */
  async readCells(text, codes, masked, asked) {
    const hidden = new ort.Tensor("bool", Uint8Array.from(masked), [1, masked.length]);
    const which = new ort.Tensor("int64", BigInt64Array.from(asked, BigInt), [asked.length]);
    const given = { text, codes: integers(codes), masked: hidden, asked: which };
    const { logits, match, names } = await this.sessions.cells.run(given);
    return { logits: logits.data, match: match.data, names: names?.data };
  }

  /** Codes [N] -> red, green, blue and opacity of each pixel, uint8 [S * S * 4]. */
  async render(codes) {
    return (await this.sessions.generator.run({ codes: integers(codes) })).picture.data;
  }

  /** Word ids of a question [L] and codes [N] -> logits [A]. */
  async answer(words, codes) {
    return (await this.sessions.answers.run({ words: integers(words), codes: integers(codes) })).answers.data;
  }
}

/** Whole numbers as an int64 tensor [1, length]. */
function integers(values) {
  return new ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
}
