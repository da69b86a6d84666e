/** Choices of a question: numbers in order of size, sentences in an order that does not tell the right one. */

import { brief, grouped } from "../numbers.js";

const written = (number) => (Number.isInteger(number) ? grouped(number) : brief(number));

const MOST_WRONG = 3;

/** The right number and up to three wrong ones, each `[number, why]`; a wrong one that looks like another is left out. */
export function numbers(right, wrong) {
  const seen = new Set([written(right[0])]);
  const others = wrong.filter(([number]) => {
    const text = written(number);
    if (seen.has(text) || !Number.isFinite(number)) return false;
    seen.add(text);
    return true;
  });
  return [{ number: right, right: true }, ...others.slice(0, MOST_WRONG).map((number) => ({ number, right: false }))]
    .sort((one, other) => one.number[0] - other.number[0])
    .map(({ number: [value, why], right: good }) => ({ says: written(value), value, right: good, why }));
}

/** The right sentence and wrong ones, each `[sentence, why]`, turned by so many places. */
export function sentences(right, wrong, turn) {
  const all = [right, ...wrong].map(([says, why], i) => ({ says, why, right: i === 0 }));
  const by = turn % all.length;
  return [...all.slice(all.length - by), ...all.slice(0, all.length - by)];
}
