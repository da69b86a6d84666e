/** The one store: what the page knows. Anything reads it with `useStore`; only `update` changes it. */

import { useEffect, useState } from "./html.js";

let state = {
  /** "opening", "open", "lost" (the server does not answer) or "refused" (it does, but not to this address). */
  connection: "opening",
  trouble: null, // what went wrong while the page was opened: {message, hint}
  meta: null, // what is shown: see GET /api/meta
  graph: null, // nodes and modules, prepared by network.js
  graphTrouble: null, // why there is none
  rows: [], // the training's history: loss and accuracy
  health: null, // the training's history: gradients and units, a row per layer
  note: null, // why there is none, or what is missing from it
  live: false, // whether it is still training
  theme: "auto", // "auto", "light" or "dark"
  help: false, // whether the list of keys is open
};

const listeners = new Set();

export const read = () => state;

export function update(changes) {
  state = { ...state, ...changes };
  for (const listener of [...listeners]) listener();
}

/** What `pick` takes out of the store; the component draws itself again when that changes. */
export function useStore(pick) {
  const [value, setValue] = useState(() => pick(state));
  useEffect(() => {
    const listener = () => setValue(() => pick(state));
    listeners.add(listener);
    listener();
    return () => listeners.delete(listener);
  }, []);
  return value;
}
