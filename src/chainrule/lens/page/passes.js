/**
 * An image's forward and backward pass: asked for once, kept by the number of the image. When the server has dropped a trace
 * (it keeps the last eight), it is asked to trace again.
 */

import { get, post, tensor } from "./api.js";
import { useAsked } from "./parts/asked.js";
import { useRoute } from "./router.js";
import { useStore } from "./store.js";

const kept = new Map();

export function forget() {
  kept.clear();
}

export const imageOf = (query) => Number(query.image ?? 0);

/** A pass: `{index, trace, label, loss, probabilities, steps, byNode, tensors}`. */
export function passOf(index) {
  if (!kept.has(index)) {
    const asked = trace(index);
    asked.catch(() => kept.delete(index));
    kept.set(index, asked);
    if (kept.size > 8) kept.delete(kept.keys().next().value);
  }
  return kept.get(index);
}

async function trace(index) {
  const answer = await post("/api/trace", { index });
  const { steps } = await get(`/api/trace/${answer.trace}/steps`);
  return { ...answer, index, steps, byNode: new Map(steps.map((step) => [step.node, step])), tensors: new Map() };
}

/** Asks about a pass, `what` being the end of the path; a pass that was dropped is traced again. */
export async function aboutPass(pass, what, query, ask = get) {
  try {
    return await ask(`/api/trace/${pass.trace}/${what}`, query);
  } catch (trouble) {
    if (trouble.status !== 404) throw trouble;
    const known = pass.trace;
    const renewed = await post("/api/trace", { index: pass.index });
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

/** The pass of the image that the address names: `{answer, trouble, busy}`. */
export function usePass() {
  const index = imageOf(useRoute().query);
  const meta = useStore((state) => state.meta);
  return useAsked(() => (meta ? passOf(index) : null), [index, meta?.title]);
}

/** An array of a pass as a component asks for it. */
export function useTensor(pass, node, which, more) {
  const ask = () => (pass && node !== null && node !== undefined && which ? tensorOf(pass, node, which, more) : null);
  return useAsked(ask, [pass, node, which, JSON.stringify(more ?? null)]);
}
