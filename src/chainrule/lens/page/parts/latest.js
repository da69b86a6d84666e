/** Questions that change faster than they are answered: one is under way at a time, and of those that wait the last one wins. */

import { useEffect, useRef, useState } from "../html.js";

/**
 * `{answer, of, trouble, busy}` of `ask(wanted)`, asked again when `key` changes; `of` is the key that the answer belongs to. While
 * a question is in trouble, or under way, the last answer stays.
 */
export function useLatest(key, wanted, ask) {
  const [state, setState] = useState({ answer: null, of: null, trouble: null, busy: true });
  const line = useRef({ busy: false, next: null, gone: false });
  useEffect(
    () => () => {
      line.current.gone = true;
    },
    [],
  );
  useEffect(() => {
    line.current.next = { key, wanted };
    if (!line.current.busy) serve(line.current, ask, setState);
  }, [key]);
  return state;
}

async function serve(line, ask, setState) {
  line.busy = true;
  while (line.next && !line.gone) {
    const { key, wanted } = line.next;
    line.next = null;
    let change;
    try {
      change = { answer: await ask(wanted), of: key, trouble: null };
    } catch (trouble) {
      change = { trouble };
    }
    if (!line.gone) setState((before) => ({ ...before, ...change, busy: line.next !== null }));
  }
  line.busy = false;
}
