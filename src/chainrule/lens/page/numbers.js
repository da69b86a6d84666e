/** Numbers as people write them. */

const SUPERSCRIPTS = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

/** A number in a few digits: `0.0312`, `−1.5`, `4.2·10⁻⁷`; "not finite" where there is none. */
export function brief(number, digits = 3) {
  if (number === null || number === undefined) return "–";
  if (Number.isNaN(number)) return "NaN";
  if (!Number.isFinite(number)) return number > 0 ? "∞" : "−∞";
  if (number === 0) return "0";
  const size = Math.abs(number);
  if (Number.isInteger(number) && size < 1e6) return grouped(number);
  if (size >= 1e5 || size < 1e-3) {
    const [mantissa, exponent] = number.toExponential(digits - 1).split("e");
    const power = [...String(Number(exponent))].map((one) => SUPERSCRIPTS[one]).join("");
    return `${minus(trimmed(mantissa))}·10${power}`;
  }
  const rounded = Number(number.toPrecision(digits));
  return Number.isInteger(rounded) ? grouped(rounded) : minus(trimmed(number.toPrecision(digits)));
}

/** All digits that a float32 has. */
export const exact = (number) => (number === null ? "not finite" : String(Number(Number(number).toPrecision(7))));

/** A whole number with its thousands apart: 10,000. */
export const grouped = (number) => minus(Number(number).toLocaleString("en-US"));

export const percent = (share, digits = 1) => `${trimmed((100 * share).toFixed(digits))}%`;

/** A shape as it is said: `6 × 28 × 28`; "a number" for a single one. */
export const shapeText = (shape) => (shape.length ? shape.join(" × ") : "a number");

/** A shape without the leading 1 of a batch of one image. */
export const ofOneImage = (shape) => (shape.length > 1 && shape[0] === 1 ? shape.slice(1) : shape);

export const sizeOf = (shape) => shape.reduce((product, one) => product * one, 1);

const minus = (text) => text.replace("-", "−");

const trimmed = (text) => (text.includes(".") && !text.includes("e") ? text.replace(/\.?0+$/, "") : text);
