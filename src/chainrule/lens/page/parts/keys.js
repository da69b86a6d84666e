/** The list of keys. */

import { read, update, useStore } from "../store.js";
import { html, useEffect, useRef } from "../html.js";
import { KEYS } from "../words.js";

export function Keys() {
  const shown = useStore((state) => state.help);
  const dialog = useRef(null);
  useEffect(() => {
    if (shown && !dialog.current.open) dialog.current.showModal();
    if (!shown && dialog.current.open) dialog.current.close();
  }, [shown]);
  return html`<dialog ref=${dialog} aria-labelledby="keys-title" onClose=${() => read().help && update({ help: false })}>
    <h2 id="keys-title">Keys</h2>
    <dl class="keys">
      ${KEYS.map(([keys, does]) => [html`<dt>${keys.split(" ").map((key) => html`<kbd>${key}</kbd> `)}</dt>`, html`<dd>${does}</dd>`])}
    </dl>
    <button onClick=${() => update({ help: false })}>Close</button>
  </dialog>`;
}
