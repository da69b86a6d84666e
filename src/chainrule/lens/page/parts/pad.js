/** A pad of pixels to draw on: with the mouse or a finger, or with a pen that the arrow keys move. */

import { GREYS, stroked } from "../drawing.js";
import { html, useEffect, useRef, useState } from "../html.js";

const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

/**
 * `drawing` of `height` x `width` pixels; `begin()` is called before a stroke, and `draw(drawing)` with each change. `rubber` rubs
 * out; `undo` and `clear` are what their keys do.
 */
export function Pad({ drawing, height, width, rubber, begin, draw, undo, clear }) {
  const canvas = useRef(null);
  const stroke = useRef({ last: null, drawing, space: false });
  const [pen, setPen] = useState([Math.floor(height / 4), Math.floor(width / 3)]);
  const [focused, setFocused] = useState(false);
  stroke.current.drawing = drawing;
  useEffect(() => paint(canvas.current, drawing, width), [drawing, width]);
  const to = (place, ink) => {
    const from = stroke.current.last ?? place;
    stroke.current.last = place;
    stroke.current.drawing = stroked(stroke.current.drawing, height, width, from, place, ink);
    draw(stroke.current.drawing);
  };
  const placeOf = (event) => {
    const box = canvas.current.getBoundingClientRect();
    return [((event.clientY - box.top) / box.height) * height, ((event.clientX - box.left) / box.width) * width];
  };
  const down = (event) => {
    if (event.button !== 0) return;
    event.currentTarget.setPointerCapture(event.pointerId);
    begin();
    stroke.current.last = null;
    to(placeOf(event), !rubber);
  };
  const moved = (event) => {
    if (stroke.current.last === null || !event.buttons) return;
    for (const one of event.getCoalescedEvents?.() ?? [event]) to(placeOf(one), !rubber);
  };
  const up = () => {
    stroke.current.last = null;
  };
  const dot = (place, from, ink) => {
    stroke.current.last = from && [from[0] + 0.5, from[1] + 0.5];
    to([place[0] + 0.5, place[1] + 0.5], ink);
    stroke.current.last = null;
  };
  const pressed = (event) => {
    const move = MOVES[event.key];
    const takesBack = event.key === "u" || (event.key === "z" && (event.ctrlKey || event.metaKey));
    if (move) {
      const place = [pen[0] + move[0], pen[1] + move[1]].map((one, axis) =>
        Math.min(Math.max(one, 0), [height, width][axis] - 1),
      );
      if (event.shiftKey || stroke.current.space) {
        if (!event.repeat && !stroke.current.space) begin();
        dot(place, pen, !rubber);
      }
      setPen(place);
    } else if (event.key === " ") {
      if (!event.repeat) {
        stroke.current.space = true;
        begin();
        dot(pen, null, !rubber);
      }
    } else if (event.key === "Backspace" || event.key === "Delete") {
      begin();
      dot(pen, null, false);
    } else if (takesBack) undo();
    else if (event.key === "c" && !event.ctrlKey && !event.metaKey) clear();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const released = (event) => {
    if (event.key === " ") stroke.current.space = false;
  };
  const share = (one, all) => `${(100 * one) / all}%`;
  return html`<div class="pad-frame" style=${{ "--shape": `${width} / ${height}` }}>
    <canvas
      ref=${canvas}
      class="pad"
      width=${width}
      height=${height}
      tabindex="0"
      role="application"
      aria-label=${`Drawing of ${height} × ${width} pixels: arrow keys move the pen, space puts ink, shift and an arrow key draws a line. The pen is at row ${pen[0]}, column ${pen[1]}.`}
      onPointerDown=${down}
      onPointerMove=${moved}
      onPointerUp=${up}
      onPointerCancel=${up}
      onKeyDown=${pressed}
      onKeyUp=${released}
      onFocus=${() => setFocused(true)}
      onBlur=${() => {
        stroke.current.space = false;
        setFocused(false);
      }}
    />
    ${
      focused &&
      html`<i
        class="pen"
        style=${{ left: share(pen[1], width), top: share(pen[0], height), width: share(1, width), height: share(1, height) }}
      />`
    }
    ${!drawing.some((one) => one > 0) && html`<span class="invitation" aria-hidden="true">Draw here</span>`}
    <output class="none" data-pen=${pen.join()} />
  </div>`;
}

function paint(canvas, drawing, width) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, drawing.length / width);
  drawing.forEach((grey, at) => {
    image.data.fill(Math.round((255 * grey) / GREYS), 4 * at, 4 * at + 3);
    image.data[4 * at + 3] = 255;
  });
  context.putImageData(image, 0, 0);
}
