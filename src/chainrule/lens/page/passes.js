/**
 * An image's forward and backward pass: asked for once, kept by the name of the image. When the server has dropped a trace
 * (it keeps the last eight), it is asked to trace again.
 */

import { Trouble, get, post, tensor } from "./api.js";
import { drawingOf, rowsOf } from "./drawing.js";
import { useAsked } from "./parts/asked.js";
import { useRoute } from "./router.js";
import { read, useStore } from "./store.js";

const kept = new Map();
const files = [];

export function forget() {
  kept.clear();
}

/**
 * The image that the address names: the number of a test image, `drawn.TEXT` or `file.NUMBER`; of the last two also with a class
 * behind it, `drawn.TEXT.8`, whose loss is taken then.
 */
export const imageOf = (query) => query.image ?? "0";

export const isNumbered = (image) => /^\d+$/.test(image);

/** A file that was chosen, `{file (as base64), name}`, for as long as the page is open: gives the name of the image. */
export const imageOfFile = (content) => `file.${files.push(content) - 1}`;

/** What is posted for an image. */
export function posted(image) {
  if (isNumbered(image)) return { index: Number(image) };
  const [kind, content, label] = image.split(".");
  const more = label === undefined ? {} : { label: Number(label) };
  if (kind === "drawn") {
    const { channels, height, width } = read().meta.image;
    return { pixels: Array(channels).fill(rowsOf(drawingOf(content, height, width), width)), ...more };
  }
  if (kind === "file" && files[content]) return { ...files[content], ...more };
  throw new Trouble(
    "This image is not known.",
    "A file is kept as long as the page is open: choose it again, or another image.",
  );
}

/** A pass: `{image, trace, label, loss, probabilities, steps, byNode, tensors}`. */
export function passOf(image) {
  if (!kept.has(image)) {
    const asked = trace(image);
    asked.catch(() => kept.delete(image));
    kept.set(image, asked);
    if (kept.size > 8) kept.delete(kept.keys().next().value);
  }
  return kept.get(image);
}

async function trace(image) {
  const answer = await post("/api/trace", posted(image));
  const { steps } = await get(`/api/trace/${answer.trace}/steps`);
  return { ...answer, image, steps, byNode: new Map(steps.map((step) => [step.node, step])), tensors: new Map() };
}

/** Asks about a pass, `what` being the end of the path; a pass that was dropped is traced again. */
export async function aboutPass(pass, what, query, ask = get) {
  try {
    return await ask(`/api/trace/${pass.trace}/${what}`, query);
  } catch (trouble) {
    if (trouble.status !== 404) throw trouble;
    const known = pass.trace;
    const renewed = await post("/api/trace", posted(pass.image));
    if (renewed.trace === known) throw trouble;
    pass.trace = renewed.trace;
    return ask(`/api/trace/${pass.trace}/${what}`, query);
  }
}

/** An array of a pass: `which` is "value", "upstream", "local" or "downstream". */
export function tensorOf(pass, node, which, more = {}) {
  const key = `${node} ${which} ${JSON.stringify(more)}`;
  if (!pass.tensors.has(key)) {
    const asked = aboutPass(pass, "tensor", { node, which, ...more }, tensor);
    asked.catch(() => pass.tensors.delete(key));
    pass.tensors.set(key, asked);
  }
  return pass.tensors.get(key);
}

/** The image of a pass as it is seen: numbers from 0 to 1. */
export const pixelsOf = (pass) => aboutPass(pass, "image", {}, tensor);

/** The pass of the image that the address names: `{answer, trouble, busy}`. */
export function usePass() {
  const image = imageOf(useRoute().query);
  const meta = useStore((state) => state.meta);
  return useAsked(() => (meta ? passOf(image) : null), [image, meta?.title]);
}

/** An array of a pass as a component asks for it. */
export function useTensor(pass, node, which, more) {
  const ask = () => (pass && node !== null && node !== undefined && which ? tensorOf(pass, node, which, more) : null);
  return useAsked(ask, [pass, node, which, JSON.stringify(more ?? null)]);
}
