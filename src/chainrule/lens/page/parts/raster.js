/** An array as a picture on a canvas: one pixel a number, with a cursor that follows the mouse and the arrow keys. */

import { arrange, indexAt, pixelOf, pixelsHigh, pixelsWide, unravel } from "../draw/arrange.js";
import { limitOf, scaleOf } from "../draw/scales.js";
import { brief, shapeText } from "../numbers.js";
import { html, useEffect, useMemo, useRef, useState } from "../html.js";
import { useDark } from "./theme.js";

/**
 * `tensor` in at most `width` x `height` pixels of the page. `scale` is "signed" (with `limit`), "size" or "image". `marks` are
 * boxes `{tile, top, left, height, width, kind}` in numbers. `onPick(place, index)` is called for a click or Enter, `onMove` for
 * the number under the cursor; `plain` leaves the cursor
 * out, `pointer` leaves the keyboard to what is around it.
 */
export function Raster({
  tensor,
  scale = "signed",
  limit,
  low,
  high,
  width = 320,
  height = 220,
  label,
  marks = [],
  onPick,
  onMove,
  plain,
  pointer,
  chosen,
}) {
  const canvas = useRef(null);
  const dark = useDark();
  const colourful = scale === "image" && tensor.shape.length === 3 && tensor.shape[0] === 3;
  const shape = colourful ? tensor.shape.slice(1) : tensor.shape;
  const key = shape.join();
  const arrangement = useMemo(() => arrange(shape, width / height), [key, width, height]);
  const [wide, high_] = [pixelsWide(arrangement), pixelsHigh(arrangement)];
  const zoom = zoomOf(Math.min(width / wide, height / high_));
  const [at, setAt] = useState(null);
  const whole = limit ?? limitOf(tensor);
  useEffect(() => {
    const range = scaleOf(scale, { limit: whole, low: low ?? tensor.min, high: high ?? tensor.max, dark });
    paint(canvas.current, tensor, arrangement, range, colourful);
  }, [tensor, arrangement, scale, whole, low, high, dark]);
  const move = (index) => {
    setAt(index);
    if (onMove) onMove(index === null ? null : unravel(index, shape), index);
  };
  const pointed = (event) => {
    const box = canvas.current.getBoundingClientRect();
    return indexAt(
      arrangement,
      ((event.clientX - box.left) / box.width) * wide,
      ((event.clientY - box.top) / box.height) * high_,
    );
  };
  const pressed = (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Enter" && at !== null && onPick) onPick(unravel(at, shape), at);
    if (!steps) return;
    event.preventDefault();
    event.stopPropagation();
    const from = at ?? 0;
    move(stepped(arrangement, from, steps) ?? from);
  };
  const { x, y } = at === null ? {} : pixelOf(arrangement, at);
  const share = (pixels, all) => `${(100 * pixels) / all}%`;
  const box = (left, top, across, down) => ({
    left: share(left, wide),
    top: share(top, high_),
    width: share(across, wide),
    height: share(down, high_),
  });
  return html`<span
    class=${`raster ${onPick ? "pickable" : ""}`}
    style=${{ width: `${wide * zoom}px`, height: `${high_ * zoom}px` }}
  >
    <canvas
      ref=${canvas}
      width=${wide}
      height=${high_}
      role="img"
      aria-label=${described(label, tensor, at === null ? null : { place: unravel(at, shape), number: tensor.values[at] })}
      tabindex=${plain || pointer ? null : 0}
      onPointerMove=${plain ? null : (event) => move(pointed(event))}
      onPointerLeave=${plain ? null : () => move(null)}
      onClick=${onPick ? (event) => clicked(pointed(event), shape, onPick) : null}
      onKeyDown=${plain || pointer ? null : pressed}
    />
    ${marks.map((mark) => {
      const origin = pixelOf(arrangement, mark.tile * arrangement.height * arrangement.width);
      return html`<i
        class=${`mark ${mark.kind}`}
        style=${box(origin.x + mark.left, origin.y + mark.top, mark.width, mark.height)}
      />`;
    })}
    ${
      chosen !== undefined &&
      chosen !== null &&
      (() => {
        const tile = pixelOf(arrangement, chosen * arrangement.height * arrangement.width);
        return html`<i class="mark chosen" style=${box(tile.x, tile.y, arrangement.width, arrangement.height)} />`;
      })()
    }
    ${at !== null && html`<i class="mark cursor" style=${box(x, y, 1, 1)} />`}
  </span>`;
}

/** What is under the cursor: `[3, 5, 7]: −0.0123`. */
export const readout = (tensor, place, index) =>
  place === null || index === null ? "" : `[${place.join(", ")}] ${brief(tensor.values[index], 5)}`;

function described(label, tensor, at) {
  const range = `${shapeText(tensor.shape)}, from ${brief(tensor.min)} to ${brief(tensor.max)}`;
  return at ? `${label}: at ${at.place.join(", ") || "0"} ${brief(at.number, 5)}` : `${label}, ${range}`;
}

function clicked(index, shape, onPick) {
  if (index !== null) onPick(unravel(index, shape), index);
}

/** Whole pixels where numbers are larger than one, so that all are of one size. */
const zoomOf = (most) => (most >= 2 ? Math.min(Math.floor(most), 36) : most);

function stepped(arrangement, from, [across, down]) {
  const { x, y } = pixelOf(arrangement, from);
  for (let far = 1; far <= arrangement.gap + 1; far++) {
    const found = indexAt(arrangement, x + across * far, y + down * far);
    if (found !== null) return found;
  }
  return null;
}

function paint(canvas, { values, shape }, arrangement, range, colourful) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const pixels = new Uint32Array(image.data.buffer);
  const { height, width, count } = arrangement;
  const plane = shape.length >= 2 ? shape.at(-1) * shape.at(-2) : count;
  for (let index = 0; index < count; index += width) {
    const { x, y } = pixelOf(arrangement, index);
    for (let k = 0; k < width && index + k < count; k++) {
      const at = index + k;
      pixels[y * canvas.width + x + k] = colourful ? rgb(values, at, plane) : range.colour(values[at]);
    }
  }
  context.putImageData(image, 0, 0);
}

function rgb(values, at, plane) {
  const [red, green, blue] = [0, 1, 2].map((channel) =>
    Math.round(255 * Math.min(Math.max(values[channel * plane + at], 0), 1)),
  );
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}
