/** A field for a number. What is typed stays while other parts of the page draw themselves; it counts when it is done. */

import { html, useState } from "../html.js";

/** `choose(text)` is called for Enter, the arrows of the field, or when it is left, unless it is empty. */
export function NumberField({ label, value, choose, ...limits }) {
  const [typed, setTyped] = useState(null);
  const done = (event) => {
    setTyped(null);
    if (event.target.value !== "") choose(event.target.value);
  };
  return html`<input
    type="number"
    aria-label=${label}
    value=${typed ?? value}
    onInput=${(event) => setTyped(event.target.value)}
    onChange=${done}
    onBlur=${() => setTyped(null)}
    ...${limits}
  />`;
}
