/** One node of the graph. */

import { html } from "../vendor/preact.js";

export function NodeView() {
  return html`<p>Soon.</p>`;
}
