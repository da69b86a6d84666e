/** A role as its symbol on its colour, and the list of all that occur. */

import { html } from "../html.js";
import { ROLES } from "../words.js";

export function Role({ role, named = true }) {
  return html`<span class="role" title=${ROLES[role].says}
    ><span class="role-mark" aria-hidden="true" style=${{ "--role": `var(--${role})` }}>${ROLES[role].symbol}</span>
    ${named && role}</span
  >`;
}

export function RoleLegend({ roles }) {
  return html`<ul class="roles" aria-label="Colours by role">
    ${Object.keys(ROLES)
      .filter((role) => roles.has(role))
      .map((role) => html`<li><${Role} role=${role} /> <span class="hint">${brieflySaid[role]}</span></li>`)}
  </ul>`;
}

const brieflySaid = {
  distributor: "hands the gradient on",
  switcher: "times the other factor",
  router: "to the chosen input",
  mover: "back to where it came from",
  scaler: "times a slope",
  normaliser: "each depends on all",
  blocker: "nothing passes",
  custom: "a rule of its own",
};
