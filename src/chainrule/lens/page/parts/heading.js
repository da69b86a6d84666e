/** A node's name and formula, where it stands, and what it does to the gradient. */

import { placeOf } from "../network.js";
import { link } from "../router.js";
import { html } from "../html.js";
import { LEAVES, ROLES } from "../words.js";
import { Name, Written } from "./formula.js";
import { Role } from "./role.js";

export function Heading({ network, node }) {
  const place = placeOf(network, node);
  return html`<header class="heading">
      <h2 id="stop-title">
        <a href=${link("node", node.id)}
          ><${Name} name=${node.name} />${node.formula && html` = <${Written} text=${node.formula} />`}</a
        >
      </h2>
      ${place && place !== LEAVES[node.leaf] && html`<span class="hint">${place}</span>`}
      ${node.leaf ? html`<span class="hint">${LEAVES[node.leaf]}</span>` : html`<${Role} role=${node.role} />`}
      ${node.line && html`<code class="hint">${node.line}</code>`}
    </header>
    ${!node.leaf && html`<p class="says">${ROLES[node.role].says}</p>`}`;
}
