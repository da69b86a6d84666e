/** Formulas set as formulas: derivatives as fractions, names in italics, indices below. */

import { html } from "../html.js";

/** A name as it is set: `h12` with its number below, `conv1.weight` as it is. */
export function Name({ name }) {
  const [, letters, index] = /^([a-z])(\d+)$/i.exec(name) ?? [];
  if (letters) return html`<var>${letters}<sub>${index}</sub></var>`;
  return html`<var class=${name.length > 2 ? "word" : ""}>${name}</var>`;
}

/** d `of` / d `by` as a fraction. */
export function Derivative({ of, by }) {
  return html`<span class="fraction" role="math" aria-label=${`d ${of} by d ${by}`}
    ><span>∂<${Name} name=${of} /></span><span>∂<${Name} name=${by} /></span
  ></span>`;
}

/** A formula that Python wrote, such as `maximum(0, h4)`: names in italics, products and powers as they are set. */
export function Written({ text }) {
  const parts = text.split(/([A-Za-z_][\w.]*|\*\*|\*|@|-)/).filter(Boolean);
  return html`<span class="formula">${parts.map((part, i) => typeset(part, parts[i + 1]))}</span>`;
}

function typeset(part, next) {
  if (part === "**") return "^";
  if (part === "*" || part === "@") return part === "*" ? "·" : " @ ";
  if (part === "-") return "−";
  if (!/^[A-Za-z_]/.test(part)) return html`<span class="upright">${part}</span>`;
  if (next?.startsWith("(") || !/^[A-Za-z]\d*$|[._]/.test(part) || part === "a")
    return html`<span class="upright">${part}</span>`;
  return html`<${Name} name=${part} />`;
}
