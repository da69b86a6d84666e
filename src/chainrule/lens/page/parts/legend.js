/** What colours mean: a strip of them with the numbers at its ends. */

import { scaleOf } from "../draw/scales.js";
import { brief } from "../numbers.js";
import { html } from "../html.js";
import { useDark } from "./theme.js";

const STRIPES = 24;

/** Where there is nothing but 0 (`none`) no end of a scale means anything, and that is said instead. */
export function Legend({ scale = "signed", limit = 1, low = 0, high = 1, title = "", none = false }) {
  const range = scaleOf(scale, { limit, low, high, dark: useDark() });
  if (none) return html`<span class="legend">all 0</span>`;
  const stripes = [...Array(STRIPES).keys()].map((one) => range.css(one / (STRIPES - 1)));
  const step = 100 / STRIPES;
  return html`<span class="legend" role="img" aria-label=${`Colours from ${brief(range.low)} to ${brief(range.high)}`}>
    ${title && html`<span class="legend-title">${title}</span>`}
    <span class="number">${brief(range.low)}</span>
    <svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
      ${stripes.map((colour, i) => html`<rect x=${i * step} y="0" width=${step + 0.3} height="8" fill=${colour} />`)}
    </svg>
    ${scale === "signed" && html`<span class="zero" aria-hidden="true">0</span>`}
    <span class="number">${brief(range.high)}</span>
  </span>`;
}
