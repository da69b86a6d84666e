/** Small matrices with their numbers in cells, and a map with its padding, over which a window slides. */

import { scaleOf } from "../draw/scales.js";
import { brief, exact } from "../numbers.js";
import { html, useMemo } from "../html.js";
import { Raster } from "./raster.js";
import { useDark } from "./theme.js";

const WRITTEN = 7; // rows or columns up to which numbers are written into cells

/** `rows` as coloured cells; where `outside` has false, the place lies in the padding. */
export function Matrix({ rows, title, name, limit, outside }) {
  const known = rows.flat().filter((one) => one !== null);
  const range = scaleOf("signed", { limit: limit ?? (Math.max(...known.map(Math.abs)) || 1), dark: useDark() });
  const written = rows.length <= WRITTEN && rows[0].length <= WRITTEN;
  return html`<figure class="picture matrix" data-name=${name}>
    <figcaption>${title}</figcaption>
    <table class=${`few ${written ? "" : "tiny"}`} aria-label=${name}>
      ${rows.map(
        (row, y) =>
          html`<tr>
            ${row.map((one, x) => {
              const padded = outside && !outside[y][x];
              return html`<td
                class=${`${range.bright(one) ? "on-bright" : "on-dark"} ${padded ? "padding" : ""}`}
                style=${{ background: padded ? null : range.of(one) }}
                title=${written ? null : exact(one)}
                data-value=${exact(one)}
              >
                ${written && brief(one, 2)}
              </td>`;
            })}
          </tr>`,
      )}
    </table>
  </figure>`;
}

/**
 * A map (H, W) with `padding` rows and columns of zeros before and `after` it, and the `box` of a window, which may begin below
 * 0; `onMove(y, x)` is called for the place under the mouse.
 */
export function Padded({ tensor, padding, after = padding, box, dilation = [1, 1], title, name, onMove, onKeyDown, limit }) {
  const [down, across] = tensor.step?.slice(-2) ?? [1, 1]; // of a large map only every second row and column is here, or fewer
  const shrunk = (sizes) => [Math.round(sizes[0] / down), Math.round(sizes[1] / across)];
  const [before, behind] = [shrunk(padding), shrunk(after)];
  const padded = useMemo(() => withPadding(tensor, before, behind), [tensor, padding.join(), after.join()]);
  const mark = (top, left, height, width, kind) => ({
    tile: 0,
    top: before[0] + top / down,
    left: before[1] + left / across,
    height: height / down,
    width: width / across,
    kind,
  });
  const marks = [];
  if ([...before, ...behind].some((one) => one > 0)) {
    const [height, width] = padded.inner;
    marks.push({ tile: 0, top: before[0], left: before[1], height, width, kind: "inner" });
  }
  if (dilation.some((one) => one > 1))
    for (let y = 0; y < box.height; y += dilation[0])
      for (let x = 0; x < box.width; x += dilation[1]) marks.push(mark(box.top + y, box.left + x, 1, 1, "tap"));
  marks.push(mark(box.top, box.left, box.height, box.width, "window"));
  const size = Math.min(Math.max(innerWidth / 6.6, 170), 280);
  return html`<figure class=${`picture padded ${onMove ? "movable" : ""}`} data-name=${name}>
    <figcaption>${title}</figcaption>
    <div
      tabindex=${onKeyDown ? 0 : null}
      role=${onKeyDown ? "application" : null}
      aria-label=${onKeyDown ? name : null}
      onKeyDown=${onKeyDown}
    >
      <${Raster}
        tensor=${padded}
        limit=${limit}
        width=${size}
        height=${size}
        label=${name}
        marks=${marks}
        plain=${!onMove}
        onMove=${onMove && ((place) => place && onMove(place[0] * down, place[1] * across))}
        pointer
      />
    </div>
  </figure>`;
}

function withPadding(given, [top, left], [bottom, right]) {
  const rows = Array.isArray(given) ? given : null;
  const [height, width] = rows ? [rows.length, rows[0].length] : given.shape.slice(-2);
  const [high, wide] = [height + top + bottom, width + left + right];
  const values = new Float32Array(high * wide);
  let [min, max] = [0, 0];
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const one = rows ? (rows[y][x] ?? NaN) : given.values[y * width + x];
      values[(y + top) * wide + x + left] = one;
      if (one < min) min = one;
      if (one > max) max = one;
    }
  return { shape: [high, wide], values, min, max, inner: [height, width] };
}
