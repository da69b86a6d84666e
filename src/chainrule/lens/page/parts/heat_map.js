/** Numbers over layers and steps as colours: a row a layer, a column a record, from dark (small) to bright (large). */

import { scaleOf } from "../draw/scales.js";
import { brief, grouped } from "../numbers.js";
import { link } from "../router.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { Legend } from "./legend.js";
import { useRoving } from "./roving.js";
import { Numbers } from "./table.js";
import { useDark } from "./theme.js";

const MOST_COLUMNS = 1200;
const ZERO = 0xff6b6860; // 0, which has no logarithm

/**
 * `values[record][row]`, of the steps `steps`; `rows` are `{label, node}`. A click or Enter on a cell calls `onPick(row)`.
 * `says` is a sentence about what is seen.
 */
export function HeatMap({ title, says, steps, values, rows, onPick, children }) {
  const canvas = useRef(null);
  const dark = useDark();
  const roving = useRoving();
  const linked = rows.filter((row) => row.node !== null);
  const [at, setAt] = useState(null);
  const [low, high] = rangeOf(values);
  const group = Math.ceil(steps.length / MOST_COLUMNS);
  const columns = Math.ceil(steps.length / group);
  useEffect(() => {
    if (columns) paint(canvas.current, values, rows.length, columns, group, scaleOf("logarithm", { low, high, dark }));
  }, [values, columns, low, high, dark]);
  const cell = (event) => {
    const box = canvas.current.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * columns);
    const row = Math.floor(((event.clientY - box.top) / box.height) * rows.length);
    return inside(column, row) ? { column, row } : null;
  };
  const inside = (column, row) => column >= 0 && row >= 0 && column < columns && row < rows.length;
  const pressed = (event) => {
    const [across, down] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    if (event.key === "Enter" && at) onPick(rows[at.row]);
    if (!across && !down) return;
    event.preventDefault();
    const from = at ?? { column: columns - 1 - across, row: 0 - down };
    const to = { column: from.column + across, row: from.row + down };
    if (inside(to.column, to.row)) setAt(to);
  };
  const record = at ? Math.min(at.column * group, steps.length - 1) : null;
  const said =
    at && record < values.length
      ? `${rows[at.row]?.label}, step ${grouped(steps[record])}: ${brief(values[record][at.row])}`
      : "";
  const wide = `${100 / columns}%`;
  return html`<figure class="heat" data-title=${title}>
    <figcaption>
      <h2>${title}</h2>
      ${children}
      <${Numbers}
        title=${title}
        rows=${() => ({ heads: ["step", ...rows.map((row) => row.label)], lines: steps.map((step, i) => [step, ...values[i]]) })}
      />
    </figcaption>
    ${says && html`<p class="says">${says}</p>`}
    <div class="map" style=${{ "--rows": rows.length }}>
      <ol class="labels" aria-label=${`Rows of ${title}`} onKeyDown=${roving.onKeyDown}>
        ${rows.map((row) => html`<li>${row.node === null ? row.label : html`<a href=${link("node", row.node)} tabindex=${roving.tabindex(linked.indexOf(row))}>${row.label}</a>`}</li>`)}
      </ol>
      <div class="cells">
        <canvas
          ref=${canvas}
          width=${Math.max(columns, 1)}
          height=${Math.max(rows.length, 1)}
          tabindex="0"
          role="img"
          aria-label=${said || `${title}: ${rows.length} rows, ${grouped(steps.length)} records from ${brief(low)} to ${brief(high)}`}
          onPointerMove=${(event) => setAt(cell(event))}
          onPointerLeave=${() => setAt(null)}
          onClick=${(event) => cell(event) && onPick(rows[cell(event).row])}
          onKeyDown=${pressed}
        />
        ${at && html`<i class="mark" style=${{ left: `${(100 * at.column) / columns}%`, width: wide, top: `${(100 * at.row) / rows.length}%`, height: `${100 / rows.length}%` }} />`}
      </div>
      <div class="steps" aria-hidden="true">
        <span>${grouped(steps[0] ?? 0)}</span><span>step</span><span>${grouped(steps.at(-1) ?? 0)}</span>
      </div>
    </div>
    <div class="under">
      <${Legend} scale="logarithm" low=${low} high=${high} />
      <output class="number">${said}</output>
    </div>
  </figure>`;
}

/** The smallest and the largest size that has a logarithm. */
function rangeOf(values) {
  let [low, high] = [Infinity, 0];
  for (const record of values)
    for (const one of record)
      if (one !== null && one > 0) {
        low = Math.min(low, one);
        high = Math.max(high, one);
      }
  return high ? [low, Math.max(high, low * 1.001)] : [1, 10];
}

/** Where several records share a column, their largest number stands for them, so that no peak is lost. */
function paint(canvas, values, rows, columns, group, scale) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer);
  for (let column = 0; column < columns; column++)
    for (let row = 0; row < rows; row++) {
      const all = values.slice(column * group, (column + 1) * group).map((record) => record[row]);
      const bad = all.some((one) => one === null || one === undefined);
      const largest = Math.max(...all.filter((one) => one !== null));
      pixels[column + columns * row] = bad ? scale.bad : largest > 0 ? scale.colour(largest) : ZERO;
    }
  context.putImageData(image, 0, 0);
}
