/** The view what_if. */

import { html } from "../vendor/preact.js";

export function WhatIfView() {
  return html`<p>Soon.</p>`;
}
