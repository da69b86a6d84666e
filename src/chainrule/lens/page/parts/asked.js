/** What a component asked the server for: while a new answer is under way, the last one stays. */

import { html, useEffect, useState } from "../html.js";

/** `{answer, trouble, busy}` of the promise that `ask` gives; asked again when one of `reasons` changes. */
export function useAsked(ask, reasons) {
  const [state, setState] = useState({ answer: null, trouble: null, busy: true });
  useEffect(() => {
    let wanted = true;
    const promise = ask();
    if (promise === null) {
      setState({ answer: null, trouble: null, busy: false });
      return undefined;
    }
    setState((before) => ({ ...before, busy: true }));
    promise.then(
      (answer) => wanted && setState({ answer, trouble: null, busy: false }),
      (trouble) => wanted && setState({ answer: null, trouble, busy: false }),
    );
    return () => {
      wanted = false;
    };
  }, reasons);
  return state;
}

/** An error as two sentences. */
export function Trouble({ trouble }) {
  return html`<p class="trouble" role="alert"><strong>${trouble.message}</strong> ${trouble.hint}</p>`;
}

/** The error, or that it is on its way; nothing when there is an answer. */
export function Waiting({ asked, what }) {
  if (asked.trouble) return html`<${Trouble} trouble=${asked.trouble} />`;
  return asked.answer === null ? html`<p class="waiting" role="status">${what}</p>` : null;
}
