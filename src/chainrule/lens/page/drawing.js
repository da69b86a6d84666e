/**
 * Drawings: greys of the pixels of an image, row by row, from 0 (nothing) to GREYS. As a text, which stands in the address, each run
 * of equal pixels is a letter for its grey and how many there are: `a30C2a752`.
 */

export const GREYS = 51;
const LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

export const blank = (height, width) => new Uint8Array(height * width);

export function textOf(drawing) {
  let text = "";
  for (let from = 0, at = 1; at <= drawing.length; at++)
    if (at === drawing.length || drawing[at] !== drawing[from]) {
      text += LETTERS[drawing[from]] + (at - from > 1 ? at - from : "");
      from = at;
    }
  return text;
}

/** The drawing that a text says; blank if it says none of this size. */
export function drawingOf(text, height, width) {
  const drawing = blank(height, width);
  let at = 0;
  for (const [, letter, count] of (text ?? "").matchAll(/([a-zA-Z])(\d*)/g)) {
    const end = at + (count ? Number(count) : 1);
    if (end > drawing.length) return blank(height, width);
    drawing.fill(LETTERS.indexOf(letter), at, end);
    at = end;
  }
  return at === drawing.length ? drawing : blank(height, width);
}

/** Numbers from 0 to 1 as the nearest greys. */
export const drawingOfValues = (values) => Uint8Array.from(values, (one) => Math.round(GREYS * Math.min(Math.max(one, 0), 1)));

/** Rows of numbers from 0 to 1, as the server takes them. */
export function rowsOf(drawing, width) {
  const rows = [];
  for (let at = 0; at < drawing.length; at += width)
    rows.push(Array.from(drawing.subarray(at, at + width), (one) => one / GREYS));
  return rows;
}

/** The drawing after a stroke of the pen from one place to another, each `[y, x]` in pixels; `ink` false rubs out. */
export function stroked(drawing, height, width, from, to, ink = true) {
  const changed = drawing.slice();
  const radius = Math.max(0.85, (1.15 * Math.min(height, width)) / 28);
  const count = Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1]) / (radius / 4)) || 1;
  for (let i = 0; i <= count; i++) {
    const [y, x] = [from[0] + ((to[0] - from[0]) * i) / count, from[1] + ((to[1] - from[1]) * i) / count];
    for (let row = Math.max(0, Math.floor(y - radius - 1)); row < Math.min(height, y + radius + 1); row++)
      for (let column = Math.max(0, Math.floor(x - radius - 1)); column < Math.min(width, x + radius + 1); column++) {
        const far = Math.hypot(row + 0.5 - y, column + 0.5 - x);
        const grey = Math.round(GREYS * Math.min(Math.max(radius + 0.5 - far, 0), 1));
        const at = row * width + column;
        changed[at] = ink ? Math.max(changed[at], grey) : Math.min(changed[at], GREYS - grey);
      }
  }
  return changed;
}

/** The outline of what is drawn, as a path in pixels: between pixels that are darker and brighter than half. */
export function outlineOf(drawing, height, width) {
  const on = (y, x) => y >= 0 && x >= 0 && y < height && x < width && drawing[y * width + x] > GREYS / 2;
  let path = "";
  for (let y = 0; y <= height; y++)
    for (let x = 0; x <= width; x++) {
      if (on(y, x) !== on(y - 1, x)) path += `M${x} ${y}h1`;
      if (on(y, x) !== on(y, x - 1)) path += `M${x} ${y}v1`;
    }
  return path;
}
