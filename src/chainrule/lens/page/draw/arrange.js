/** How the numbers of an array lie in a picture: a matrix as it is, channels as tiles side by side, a long vector in rows. */

import { ofOneImage, sizeOf } from "../numbers.js";

const MOST_TILES = 256;
const LONG = 48; // a vector of more numbers is wrapped into rows

/**
 * `{rows, columns, height, width, gap, tiles, left}`: tiles in a grid, each of height x width numbers, and how many tiles are
 * left out. `aspect` is the width of the place for the picture over its height.
 */
export function arrange(shape, aspect = 1.5) {
  const known = ofOneImage(shape);
  if (known.length <= 1) {
    const count = sizeOf(known);
    const width = count <= LONG ? count : Math.min(count, Math.ceil(Math.sqrt(count * 2.5)));
    return { rows: 1, columns: 1, height: Math.ceil(count / width), width, gap: 0, tiles: 1, left: 0, count };
  }
  const [height, width] = known.slice(-2);
  const outer = known.slice(0, -2);
  const all = sizeOf(outer);
  const tiles = Math.min(all, MOST_TILES);
  const gap = tiles === 1 ? 0 : Math.max(1, Math.round(Math.max(height, width) / 24));
  const matrix = outer.length === 2 && outer[1] > 1 && outer[1] <= 32 && outer[0] > 1;
  const ideal = Math.sqrt((tiles * aspect * height) / width);
  const across = matrix ? outer[1] * even(outer[0], ideal / outer[1]) : even(tiles, ideal); // all of a filter in one row
  const columns = Math.min(tiles, Math.max(1, across));
  return {
    rows: Math.ceil(tiles / columns),
    columns,
    height,
    width,
    gap,
    tiles,
    left: all - tiles,
    count: tiles * height * width,
  };
}

/** The number of columns near the ideal one that leaves the fewest empty places. */
function even(tiles, ideal) {
  const near = [...Array(5).keys()].map((one) => Math.round(ideal) + one - 2).filter((one) => one >= 1);
  const cost = (columns) =>
    Math.abs(Math.log(columns / ideal)) + ((Math.ceil(tiles / columns) * columns - tiles) / tiles) * 1.5;
  return near.sort((one, other) => cost(one) - cost(other))[0] ?? 1;
}

export const pixelsWide = ({ columns, width, gap }) => columns * (width + gap) - gap;

export const pixelsHigh = ({ rows, height, gap }) => rows * (height + gap) - gap;

/** The pixel of the number at `index` (its place among all numbers, row by row). */
export function pixelOf(arrangement, index) {
  const { columns, height, width, gap } = arrangement;
  const tile = Math.floor(index / (height * width));
  const inside = index % (height * width);
  return {
    x: (tile % columns) * (width + gap) + (inside % width),
    y: Math.floor(tile / columns) * (height + gap) + Math.floor(inside / width),
  };
}

/** The number under a pixel as its place among all, or null between tiles. */
export function indexAt(arrangement, x, y) {
  const { columns, height, width, gap, count } = arrangement;
  const [column, row] = [Math.floor(x / (width + gap)), Math.floor(y / (height + gap))];
  const [dx, dy] = [Math.floor(x - column * (width + gap)), Math.floor(y - row * (height + gap))];
  if (x < 0 || y < 0 || column >= columns || dx >= width || dy >= height) return null;
  const index = (row * columns + column) * height * width + dy * width + dx;
  return index < count ? index : null;
}

/** The place of a number in the array's own axes. */
export function unravel(index, shape) {
  const place = [];
  for (const size of [...shape].reverse()) {
    place.unshift(index % size);
    index = Math.floor(index / size);
  }
  return place;
}
