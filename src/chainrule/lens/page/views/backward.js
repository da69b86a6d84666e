/** The view backward. */

import { html } from "../vendor/preact.js";

export function BackwardView() {
  return html`<p>Soon.</p>`;
}
