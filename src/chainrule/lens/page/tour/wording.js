/** How steps of the tour write numbers, names and derivatives into their sentences. */

import { brief, exact } from "../numbers.js";
import { Derivative, Name } from "../parts/formula.js";
import { html } from "../html.js";

export const number = (value, digits = 3) => html`<b class="number" data-value=${exact(value)}>${brief(value, digits)}</b>`;

export const name = (node, place) =>
  html`<span class="formula"
    ><${Name} name=${node.name} />${place && html`<span class="upright">[${place.join(", ")}]</span>`}</span
  >`;

/** d `of` / d `by`, set as a fraction. */
export const partial = (of, by) => html`<span class="formula"><${Derivative} of=${of} by=${by} /></span>`;

/** The same of names with indices below: `ratio(["h", "K"], ["w", "k"])`. */
export function ratio(of, by) {
  const set = ([letter, index]) => html`<var>${letter}</var>${index && html`<sub>${index}</sub>`}`;
  return html`<span class="fraction" role="math" aria-label=${`d ${of.join(" ")} by d ${by.join(" ")}`}
    ><span>∂${set(of)}</span><span>∂${set(by)}</span></span
  >`;
}

/** The nodes of a typed expression as a table: value, upstream, local and downstream gradient. */
export function tableOfExample({ nodes }) {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const rows = nodes.flatMap((node) => node.edges.map((edge, i) => ({ node, edge, first: i === 0 })));
  return html`<div class="scroll" tabindex="0" role="region" aria-label="The nodes of the example">
    <table class="tour-table">
      <thead>
        <tr>
          ${["node", "value", "upstream", "local", "downstream"].map((head) => html`<th scope="col">${head}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${rows.map(
          ({ node, edge, first }) =>
            html`<tr>
              <th scope="row">
                ${first && html`<${Name} name=${node.name} />${node.formula && html` = ${written(node.formula)}`}`}
              </th>
              <td>${first && brief(node.value)}</td>
              <td>${first && brief(node.upstream)}</td>
              <td>${brief(edge.local)}</td>
              <td>
                ${brief(edge.downstream)} <small>to <${Name} name=${byId.get(edge.input).name} /></small>
              </td>
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

function written(formula) {
  const text = formula.replaceAll(" ** 2", "²").replaceAll("*", "·").replaceAll("-", "−");
  return text.split(/(h\d+)/).map((part) => (/^h\d+$/.test(part) ? html`<${Name} name=${part} />` : part));
}
