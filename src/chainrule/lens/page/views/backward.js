/** Backpropagation, one node at a time from the loss to the image: upstream × local = downstream, and sums where paths meet. */

import { Derivative } from "../parts/formula.js";
import { Heading } from "../parts/heading.js";
import { Arrived, Gradient, Sum, Way, commonLimit } from "../parts/product.js";
import { Stepper } from "../parts/stepper.js";
import { WithNetwork } from "../parts/subject.js";
import { tensorOf } from "../passes.js";
import { adjust, here, useRoute } from "../router.js";
import { html, useEffect } from "../html.js";

const PLAY = 1400; // milliseconds for a step

export const BackwardView = () => html`<${WithNetwork} view=${Steps} />`;

function Steps({ network, pass }) {
  const { query } = useRoute();
  const last = pass.steps.length - 1;
  const at = Math.min(Math.max(Number(query.step ?? 1) - 1, 0), last);
  const step = pass.steps[at];
  const go = (to) => adjust({ step: to + 1 });
  useEffect(() => {
    for (const edge of pass.steps[at + 1]?.edges ?? [])
      tensorOf(pass, pass.steps[at + 1].node, "downstream", { position: edge.position }).catch(() => {});
  }, [pass, at]);
  const node = network.byId.get(step.node);
  return html`
    <${Stepper}
      at=${at}
      last=${last}
      now=${() => Number(here().query.step ?? 1) - 1}
      go=${go}
      pause=${PLAY}
      label="Step"
      says=${`step ${at + 1} of ${last + 1}: ${node.name}`}
    >
      <span class="number hint" role="status">step ${at + 1} of ${last + 1}</span>
    <//>
    <${Map} network=${network} pass=${pass} at=${at} go=${go} />
    <${Stop} key=${node.id} network=${network} pass=${pass} step=${step} node=${node} />
  `;
}

/** The network in small: what the gradient has passed already, and where it is. */
function Map({ network, pass, at, go }) {
  const place = new globalThis.Map(pass.steps.map((step, i) => [step.node, i]));
  const current = pass.steps[at].node;
  const items = network.main;
  return html`<ol class=${`small-map ${items.length > 22 ? "many" : ""}`} aria-label="Where the gradient is">
    ${items.map(({ key, title, subtitle, nodes, role }) => {
      const steps = nodes.filter((id) => place.has(id)).map((id) => place.get(id));
      const done = steps.length > 0 && steps.every((one) => one < at);
      const here_ = nodes.includes(current);
      const state = here_ ? "here" : done ? "done" : "";
      const label = [title, subtitle].filter(Boolean).join(" ");
      return html`<li class=${state} style=${{ "--role": `var(--${role ?? "strong-rule"})` }}>
        <button
          disabled=${!steps.length}
          aria-current=${here_ ? "step" : null}
          aria-label=${items.length > 22 ? label : null}
          title=${label}
          onClick=${() => go(Math.min(...steps))}
        >
          <span>${title}</span>${subtitle && html`<small>${subtitle}</small>`}
        </button>
      </li>`;
    })}
  </ol>`;
}

/** One stop: the node, the gradient that arrives, and what is passed back to each input. */
function Stop({ network, pass, step, node }) {
  const loss = network.byId.get(network.loss);
  const limit = commonLimit([step.upstream, ...step.edges.map((edge) => edge.downstream)]);
  return html`<section class="stop" aria-labelledby="stop-title">
    <${Heading} network=${network} node=${node} />
    ${step.summands.length > 1 && html`<${Sum} network=${network} pass=${pass} step=${step} node=${node} loss=${loss} />`}
    <div class="product">
      <${Gradient}
        pass=${pass}
        node=${node.id}
        which="upstream"
        summary=${step.upstream}
        limit=${limit}
        name=${`upstream gradient of ${node.name}`}
        title=${html`<span class="term">upstream</span> <${Derivative} of=${loss.name} by=${node.name} />`}
      />
      ${
        step.edges.length > 0 &&
        html`<div class="ways">
          ${step.edges.map((edge) => html`<${Way} key=${edge.position} network=${network} pass=${pass} node=${node} edge=${edge} loss=${loss} limit=${limit} />`)}
        </div>`
      }
      ${!step.edges.length && html`<${Arrived} node=${node} loss=${loss} />`}
    </div>
  </section>`;
}
