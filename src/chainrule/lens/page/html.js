/**
 * Markup in templates, with white space as HTML has it: a line break between words and tags is a space. (htm would drop it, and
 * a formatter that breaks a long line would join words.)
 */

import { html as markup } from "./vendor/preact.js";

export { render, useEffect, useMemo, useRef, useState } from "./vendor/preact.js";

const known = new WeakMap();

export function html(strings, ...values) {
  if (!known.has(strings)) {
    const spaced = [...strings];
    spaced[0] = spaced[0].replace(/^\s*\n\s*/, "");
    spaced[spaced.length - 1] = spaced.at(-1).replace(/\s*\n\s*$/, "");
    known.set(
      strings,
      spaced.map((one) => one.replace(/\s*\n\s*/g, " ")),
    );
  }
  return markup(known.get(strings), ...values);
}
