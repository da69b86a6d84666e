/** Every path from one weight or pixel to the loss: what lights up, the strongest path with its numbers, and the sum over all. */

import { brief, exact } from "../numbers.js";
import { aboutPass, usePass } from "../passes.js";
import { link, useRoute } from "../router.js";
import { html } from "../html.js";
import { Waiting, useAsked } from "./asked.js";
import { Derivative, Name, Written } from "./formula.js";

const DIMMEST = 0.3; // of what lies on a path, however little passes there

/** How a weight stands in an address: `0.weight:2,0,1,1`. */
const litText = (name, index) => `${name}:${index.join(",")}`;

/** The paths of the element that the address names as `lit`: `{name, index, shares by node, …}`; null without one. */
export function useLit() {
  const { lit } = useRoute().query;
  const { answer: pass } = usePass();
  const [, name, index] = /^(.+):([\d,]*)$/.exec(lit ?? "") ?? [];
  const asked = useAsked(() => (name && pass ? pathsOf(pass, name, index) : null), [lit, pass]);
  if (!name || !asked.answer) return null;
  return { name, index, shares: sharesOf(asked.answer) };
}

const pathsOf = (pass, name, index) => aboutPass(pass, "paths", { name, index });

const sharesOf = ({ nodes }) => new Map(nodes.map(({ node, share }) => [node, share]));

/** How bright something is: by the largest share of the nodes that it stands for; nothing where none lies on a path. */
export function brightness(shares, nodes) {
  const most = nodes.reduce((best, id) => Math.max(best, shares.get(id) ?? -1), -1);
  return most < 0 ? null : DIMMEST + (1 - DIMMEST) * Math.sqrt(most);
}

/** The paths of the element `index` of a parameter, or of the image. */
export function Paths({ network, pass, node, index }) {
  const name = node.id === network.image ? "image" : node.name;
  const asked = useAsked(() => pathsOf(pass, name, index.join(",")), [pass, node.id, index.join()]);
  if (!asked.answer) return html`<${Waiting} asked=${asked} what="Python follows it to the loss …" />`;
  const { gradient, nodes, strongest, product, sum } = asked.answer;
  const loss = network.byId.get(network.loss);
  const element = `${node.name}[${index.join(", ")}]`;
  const dead = nodes.length > 0 && !strongest.some((step) => step.node === network.loss);
  return html`<section
    class="paths"
    aria-labelledby="paths-title"
    data-gradient=${exact(gradient)}
    data-product=${exact(product)}
    data-sum=${exact(sum)}
  >
    <h3 id="paths-title">From ${element} to the loss</h3>
    <p class="says">
      ${
        dead
          ? `What it changes reaches ${nodes.length} of ${network.nodes.length} nodes, which are lit, and ends there.`
          : html`${nodes.length} of ${network.nodes.length} nodes lie on a path from it to <${Name} name=${loss.name} />. They are
            lit: the brighter, the more of the gradient passes there.`
      }
      <a href=${link("graph", null, { lit: litText(name, index), open: "all" })}>Light them up in the graph</a>
    </p>
    <${Lights} network=${network} shares=${sharesOf(asked.answer)} />
    <h4>The strongest path: always along the edge where most passes</h4>
    <div class="scroll" tabindex="0" role="region" aria-label="The strongest path">
      <table class="path">
        <thead>
          <tr>
            <th scope="col">unit</th>
            <th scope="col">its value</th>
            <th scope="col">local gradient</th>
            <th scope="col">number</th>
            <th scope="col">product so far</th>
          </tr>
        </thead>
        <tbody>
          ${withProducts(strongest).map(({ step, before, so_far }) => {
            const unit = network.byId.get(step.node);
            return html`<tr data-node=${step.node} data-local=${step.local === null ? null : exact(step.local)}>
              <td><a href=${link("node", unit.id)}><${Name} name=${unit.name} /></a>${place(step.unit, unit.shape)}</td>
              <td class="number">${brief(step.value, 4)}</td>
              <td>
                ${before && html`<${Derivative} of=${unit.name} by=${network.byId.get(before.node).name} /> ${step.formula && html`= <${Written} text=${step.formula} />`}`}
              </td>
              <td class="number">${step.local === null ? "" : brief(step.local, 4)}</td>
              <td class="number">${so_far === null ? "" : brief(so_far, 4)}</td>
            </tr>`;
          })}
        </tbody>
      </table>
    </div>
    ${
      dead
        ? html`<p class="says">
            <strong>The path ends before the loss</strong>, at a unit from which nothing passes on: nothing of this path reaches
            ${element}.
          </p>`
        : html`<p class="says">Along this path the local gradients multiply to <b class="number">${brief(product, 5)}</b>.</p>`
    }
    <p class="says">
      Over all paths such products add up to <b class="number">${brief(sum, 5)}</b>, found by going forwards. Backpropagation
      brought <${Derivative} of=${loss.name} by=${element} /> = <b class="number">${brief(gradient, 5)}</b>
      ${agrees(sum, gradient) ? html`<span class="check right">✓ the same</span>` : html`<span class="check wrong">✗ another</span>`}
    </p>
  </section>`;
}

const agrees = (one, other) => Math.abs(one - other) <= 1e-4 * Math.max(Math.abs(one), Math.abs(other)) + 1e-12;

function withProducts(steps) {
  let product = 1;
  return steps.map((step, i) => {
    if (step.local !== null) product *= step.local;
    return { step, before: steps[i - 1] ?? null, so_far: step.local === null ? null : product };
  });
}

/** The place of a unit, without that of the image in a batch of one. */
function place(unit, shape) {
  const shown = shape.length > 1 && shape[0] === 1 ? unit.slice(1) : unit;
  return shown.length ? `[${shown.join(", ")}]` : "";
}

/** The network in small, lit. */
function Lights({ network, shares }) {
  const items = network.main;
  return html`<ol class=${`small-map lights ${items.length > 22 ? "many" : ""}`} aria-label="Where its paths go">
    ${items.map(({ key, title, subtitle, nodes, role }) => {
      const bright = brightness(shares, nodes);
      const label = `${[title, subtitle].filter(Boolean).join(" ")}: ${bright === null ? "on no path" : "on a path"}`;
      return html`<li
        key=${key}
        class=${bright === null ? "" : "lit"}
        title=${label}
        style=${{ "--role": `var(--${role ?? "strong-rule"})`, "--bright": bright ?? 0 }}
      >
        <i class="light" aria-hidden="true"></i><span>${title}</span>${subtitle && html`<small>${subtitle}</small>`}
      </li>`;
    })}
  </ol>`;
}
