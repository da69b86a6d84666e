/** The numbers behind a chart or a picture, in a table that a button opens. */

import { exact } from "../numbers.js";
import { html, useEffect, useRef, useState } from "../html.js";

const MOST = 600; // rows

/** `rows()` gives `{heads, lines}` when the table is opened; lines are lists of numbers and texts. */
export function Numbers({ title, rows }) {
  const [shown, setShown] = useState(false);
  const dialog = useRef(null);
  useEffect(() => {
    if (shown) dialog.current.showModal();
  }, [shown]);
  const { heads, lines } = shown ? rows() : { heads: [], lines: [] };
  return html`<button class="small" aria-label=${`Numbers of ${title}`} onClick=${() => setShown(true)}>numbers</button> ${
      shown &&
      html`<dialog ref=${dialog} aria-label=${title} onClose=${() => setShown(false)} class="numbers">
        <h2>${title}</h2>
        <div class="scroll" tabindex="0">
          <table>
            <thead>
              <tr>
                ${heads.map((head) => html`<th scope="col">${head}</th>`)}
              </tr>
            </thead>
            <tbody>
              ${lines.slice(0, MOST).map(
                (line) =>
                  html`<tr>
                    ${line.map((cell) => html`<td>${typeof cell === "number" ? exact(cell) : (cell ?? "–")}</td>`)}
                  </tr>`,
              )}
            </tbody>
          </table>
        </div>
        ${lines.length > MOST && html`<p>${lines.length - MOST} more rows are left out.</p>`}
        <button onClick=${() => dialog.current.close()}>Close</button>
      </dialog>`
    }`;
}

/** The table of an array: its rows as they lie, one after the other. */
export function rowsOfTensor({ shape, values }) {
  const width = shape.length ? shape.at(-1) : 1;
  const lines = [];
  for (let at = 0; at < values.length && lines.length <= MOST; at += width) {
    const place = [];
    let row = at / width;
    for (const size of shape.slice(0, -1).reverse()) {
      place.unshift(row % size);
      row = Math.floor(row / size);
    }
    lines.push([`[${place.join(", ")}]`, ...Array.from(values.subarray(at, at + width), finite)]);
  }
  return { heads: ["place", ...Array.from({ length: width }, (_, column) => String(column))], lines };
}

const finite = (number) => (Number.isFinite(number) ? number : String(number));
