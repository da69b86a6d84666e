/** A shape as a small drawing: channels as a stack of squares, a vector as a bar; larger arrays look larger. */

import { html } from "../html.js";

const MOST = 5; // squares of a stack

export function Glyph({ shape, x, y }) {
  if (!shape.length) return html`<circle class="glyph" cx=${x} cy=${y} r="5" />`;
  if (shape.length < 3) {
    const height = Math.min(8 + 5 * Math.log2(shape.at(-1)), 46) * 0.8;
    return html`<rect class="glyph" x=${x - 4} y=${y - height / 2} width="8" height=${height} rx="1.5" />`;
  }
  const [channels, height] = shape.slice(-3);
  const side = Math.min(6 + 3.6 * Math.log2(height + 1), 34);
  const count = Math.min(Math.max(1, Math.round(1 + Math.log2(channels) / 1.6)), MOST);
  const step = 4;
  const left = x - (side + step * (count - 1)) / 2;
  const top = y - (side + step * 0.6 * (count - 1)) / 2;
  return [...Array(count).keys()].map(
    (i) => html`<rect class="glyph" x=${left + step * i} y=${top + step * 0.6 * i} width=${side} height=${side} rx="1" />`,
  );
}
