/** From numbers to colours: signed numbers in blue and orange about 0, sizes from dark to bright, images in greys. */

const STOPS = {
  light: {
    signed: ["#053a70", "#2f79b5", "#9cc7e0", "#f6f4ee", "#f2b978", "#c8690f", "#7a3003"],
    bad: "#d0006f",
    paper: "#fbfaf6",
  },
  dark: {
    signed: ["#bfe3ff", "#5aa9e6", "#25557c", "#1b1f24", "#7b4513", "#e88a2c", "#ffdcae"],
    bad: "#ff4fa3",
    paper: "#14171a",
  },
};
/** Viridis, whose brightness rises evenly and that colour-blind people read as well. */
const SIZES = ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"];
const GREYS = ["#000000", "#ffffff"];
const STEPS = 512;
const MIDDLE = 0.179; // the brightness on which black and white words have the same contrast

const tables = new Map();

function channels(hex) {
  return [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));
}

/** Colours between the stops as numbers that an image of a canvas holds: alpha, blue, green, red. */
function table(stops) {
  const key = stops.join();
  if (!tables.has(key)) {
    const colours = stops.map(channels);
    const made = new Uint32Array(STEPS);
    for (let i = 0; i < STEPS; i++) {
      const place = (i / (STEPS - 1)) * (colours.length - 1);
      const low = Math.min(Math.floor(place), colours.length - 2);
      const [red, green, blue] = colours[low].map((one, k) => Math.round(one + (colours[low + 1][k] - one) * (place - low)));
      made[i] = packed(red, green, blue);
    }
    tables.set(key, made);
  }
  return tables.get(key);
}

const packed = (red, green, blue) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;

/** The largest size among arrays, by which signed numbers get their colour; 1 if all are 0. */
export function limitOf(...arrays) {
  const sizes = arrays.filter(Boolean).flatMap(({ min, max }) => [Math.abs(min ?? 0), Math.abs(max ?? 0)]);
  return Math.max(0, ...sizes) || 1;
}

/** Whether an array has no number but 0; one that is not finite is not 0. */
export const isZero = ({ min, max, nonfinite }) => min === 0 && max === 0 && !nonfinite;

/** The largest size in rows of numbers; null stands for one that is not finite. */
export const largestSize = (rows) =>
  rows.reduce((most, row) => row.reduce((found, one) => Math.max(found, Math.abs(one ?? 0)), most), 0);

/**
 * A scale: `colour(number)` as a packed number, `css(share)` along it from 0 to 1, and its ends `low` and `high`.
 * Kinds: "signed" (needs `limit`), "image" (0 to 1), "size" (from `low` to `high`) and "logarithm" (the same, logarithmic).
 */
export function scaleOf(kind, { limit = 1, low = 0, high = 1, dark = false }) {
  const theme = dark ? STOPS.dark : STOPS.light;
  const bad = packed(...channels(theme.bad));
  const colours = table(kind === "signed" ? theme.signed : kind === "image" ? GREYS : SIZES);
  const [from, to] = kind === "signed" ? [-limit, limit] : kind === "image" ? [0, 1] : [low, high];
  const ends = kind === "logarithm" ? [Math.log(from), Math.log(to)] : [from, to];
  const share = (number) => {
    const place = kind === "logarithm" ? Math.log(number) : number;
    return ends[1] > ends[0] ? Math.min(Math.max((place - ends[0]) / (ends[1] - ends[0]), 0), 1) : 0.5;
  };
  return {
    kind,
    low: from,
    high: to,
    bad,
    colour: (number) => (Number.isFinite(number) ? colours[Math.round(share(number) * (STEPS - 1))] : bad),
    css: (place) => css(colours[Math.round(place * (STEPS - 1))]),
    of: (number) =>
      number === null || !Number.isFinite(number) ? theme.bad : css(colours[Math.round(share(number) * (STEPS - 1))]),
    bright: (number) => brightness(colours[Math.round(share(number) * (STEPS - 1))]) > MIDDLE,
  };
}

const css = (colour) => `rgb(${colour & 255} ${(colour >> 8) & 255} ${(colour >> 16) & 255})`;

/** Relative luminance as the guidelines for accessible content have it; above MIDDLE black words are read better than white. */
function brightness(colour) {
  const [red, green, blue] = [0, 8, 16].map((shift) => {
    const share = ((colour >> shift) & 255) / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
