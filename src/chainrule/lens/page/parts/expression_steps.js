/** A step through an expression in words and numbers: forwards the value, backwards upstream × local = downstream. */

import { summandsOf, lecture, told, toldInside, withNumbers } from "../expression.js";
import { html } from "../html.js";
import { ROLES } from "../words.js";
import { Derivative, Name, Written } from "./formula.js";
import { Role } from "./role.js";

/** The value of a node, with the numbers put in. */
export function Forwards({ network, node }) {
  return html`<p class="written">
      <${Name} name=${node.name} /> = <${Written} text=${lecture(node.formula)} /> =
      <span class="put-in">${withNumbers(node.formula, network)}</span> =
      <b class="number" data-value=${JSON.stringify(node.value)}>${told(node.value, 5)}</b>
    </p>
    <p class="says"><${Role} role=${node.role} /></p>`;
}

/** What arrives at a node, and what it passes back to each input. */
export function Backwards({ network, node }) {
  const error = network.byId.get(network.error);
  const summands = summandsOf(network, node);
  const d = (of, by) => html`<${Derivative} of=${of.name} by=${by.name} />`;
  return html`<p class="written">
      <span class="term">upstream</span> ${d(error, node)} =
      ${
        node.id === error.id
          ? html`<b class="number">1</b>`
          : html`${summands.length > 1 && html`${summands.map((one, i) => html`${i > 0 && " + "}<span class="number">${toldInside(one.downstream)}</span>`)} = `}<b
                class="number"
                >${told(node.upstream)}</b
              >`
      }
      ${node.id === error.id && html`<span class="hint">the way back begins at the error</span>`}
      ${summands.length > 1 && html`<span class="hint"><${Name} name=${node.name} /> is used ${summands.length} times: the gradients are added</span>`}
    </p>
    ${node.edges.map((edge) => html`<${Way} key=${edge.position} network=${network} node=${node} edge=${edge} error=${error} />`)}
    <p class="says"><${Role} role=${node.role} />: ${ROLES[node.role].says}</p>`;
}

function Way({ network, node, edge, error }) {
  const input = network.byId.get(edge.input);
  const summands = summandsOf(network, input);
  const isLast = summands.at(-1)?.from === node && summands.length > 1 && input.edges.length === 0;
  const formula = lecture(edge.formula);
  return html`<p class="written" data-input=${input.name} data-downstream=${JSON.stringify(edge.downstream)}>
      ${summands.length > 1 && html`<span class="hint">a part of </span>`}<${Derivative} of=${error.name} by=${input.name} /> =
      <span class="role-of"><${Derivative} of=${error.name} by=${node.name} /></span> ·
      <span class="role-of" title="local"><${Derivative} of=${node.name} by=${input.name} /></span> =
      <span class="number">${toldInside(node.upstream)}</span> ·
      ${!/^−?[\d.]+$/.test(formula.replace("-", "−")) && html`<span class="local-formula">(<${Written} text=${formula} />)</span> = <span class="number">${toldInside(node.upstream)}</span> · `}<span
        class="number"
        >${toldInside(edge.local)}</span
      >
      =
      <b class="number">${told(edge.downstream)}</b>
    </p>
    ${
      isLast &&
      html`<p class="written">
        <span class="hint">all together</span> <${Derivative} of=${error.name} by=${input.name} /> =
        ${summands.map((one, i) => html`${i > 0 && " + "}<span class="number">${toldInside(one.downstream)}</span>`)} =
        <b class="number">${told(input.upstream)}</b>
      </p>`
    }`;
}
