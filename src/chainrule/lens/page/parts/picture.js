/** An array with its name, its picture (or its number, if it is one), its legend and its numbers. */

import { arrange, unravel } from "../draw/arrange.js";
import { isZero, limitOf, scaleOf } from "../draw/scales.js";
import { brief, exact, grouped, ofOneImage, shapeText, sizeOf } from "../numbers.js";
import { html, useState } from "../html.js";
import { Legend } from "./legend.js";
import { Raster, readout } from "./raster.js";
import { Numbers, rowsOfTensor } from "./table.js";
import { useDark } from "./theme.js";

const FEW = 16; // numbers that are written out

/** `tensor` as a figure; `name` is what it is called in a sentence, `title` what stands above it. */
export function Picture({ tensor, title, name, scale = "signed", limit, width = 320, height = 220, legend = true, ...rest }) {
  const [under, setUnder] = useState("");
  const shape = ofOneImage(tensor.shape);
  const range = limit ?? limitOf(tensor);
  const few = sizeOf(shape) <= FEW && shape.length <= 2;
  const many = arrange(shape).left;
  const shrunk = tensor.step?.some((one) => one > 1);
  return html`<figure class="picture" data-name=${name}>
    ${title && html`<figcaption>${title}</figcaption>`}
    ${
      few
        ? html`<${Few} tensor=${tensor} shape=${shape} scale=${scale} limit=${range} name=${name} onPick=${rest.onPick} />`
        : html`<${Raster}
            tensor=${tensor}
            scale=${scale}
            limit=${range}
            width=${width}
            height=${height}
            label=${name}
            onMove=${(place, index) => setUnder(readout(tensor, place, index))}
            ...${rest}
          />`
    }
    <div class="under">
      <output class="number">${under || shapeText(tensor.of ?? tensor.shape)}</output>
      ${sizeOf(shape) > 1 && html`<${Numbers} title=${name} rows=${() => rowsOfTensor(tensor)} />`}
    </div>
    ${tensor.nonfinite > 0 && html`<p class="bad">${grouped(tensor.nonfinite)} are not finite</p>`}
    ${many > 0 && html`<p class="hint">${grouped(many)} more channels</p>`}
    ${shrunk && html`<p class="hint">every ${tensor.step.at(-1)}th row and column</p>`}
    ${legend && !few && html`<${Legend} scale=${scale} limit=${range} low=${tensor.min} high=${tensor.max} none=${scale === "signed" && isZero(tensor)} />`}
  </figure>`;
}

/** Few numbers, each in a cell of its colour; a single one large. */
function Few({ tensor, shape, scale, limit, name, onPick }) {
  const range = scaleOf(scale, { limit, low: tensor.min, high: tensor.max, dark: useDark() });
  const width = shape.length ? shape.at(-1) : 1;
  const rows = [];
  const cell = (index, text) => {
    const place = unravel(index, tensor.shape);
    if (!onPick) return text;
    return html`<button class="cell" aria-label=${`${name}: choose ${place.join(", ")}`} onClick=${() => onPick(place, index)}>${text}</button>`;
  };
  for (let at = 0; at < tensor.values.length; at += width) rows.push(Array.from(tensor.values.subarray(at, at + width)));
  if (tensor.values.length === 1)
    return html`<p class="single number" data-value=${exact(tensor.values[0])}>${cell(0, brief(tensor.values[0], 4))}</p>`;
  return html`<table class="few">
    ${rows.map(
      (row, y) =>
        html`<tr>
          ${row.map(
            (one, x) =>
              html`<td
                class=${range.bright(one) ? "on-bright" : "on-dark"}
                style=${{ background: range.of(one) }}
                data-value=${exact(one)}
              >
                ${cell(y * width + x, brief(one, 3))}
              </td>`,
          )}
        </tr>`,
    )}
  </table>`;
}
