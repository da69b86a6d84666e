/** Backpropagation, one node at a time from the loss to the image: upstream × local = downstream, and sums where paths meet. */

import { Derivative } from "../parts/formula.js";
import { Heading } from "../parts/heading.js";
import { Arrived, Gradient, Sum, Way, commonLimit } from "../parts/product.js";
import { WithNetwork } from "../parts/subject.js";
import { tensorOf } from "../passes.js";
import { adjust, here, useRoute } from "../router.js";
import { html, useEffect, useState } from "../html.js";

const PLAY = 1400; // milliseconds for a step

export const BackwardView = () => html`<${WithNetwork} view=${Steps} />`;

function Steps({ network, pass }) {
  const { query } = useRoute();
  const last = pass.steps.length - 1;
  const at = Math.min(Math.max(Number(query.step ?? 1) - 1, 0), last);
  const step = pass.steps[at];
  const [playing, setPlaying] = useState(false);
  const go = (to) => adjust({ step: Math.min(Math.max(to, 0), last) + 1 });
  useEffect(() => {
    const pressed = (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input[type=number], dialog, .raster")) return;
      const now = Number(here().query.step ?? 1) - 1;
      const to = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: last }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      go(to);
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, [last]);
  useEffect(() => {
    if (!playing) return undefined;
    if (at === last) {
      setPlaying(false);
      return undefined;
    }
    const timer = setTimeout(() => go(at + 1), PLAY);
    return () => clearTimeout(timer);
  }, [playing, at]);
  useEffect(() => {
    for (const edge of pass.steps[at + 1]?.edges ?? [])
      tensorOf(pass, pass.steps[at + 1].node, "downstream", { position: edge.position }).catch(() => {});
  }, [pass, at]);
  const node = network.byId.get(step.node);
  return html`
    <div class="bar stepping">
      <span class="choice" role="group" aria-label="Steps">
        <button aria-label="First step" title="First (Home)" disabled=${at === 0} onClick=${() => go(0)}>|◀</button>
        <button aria-label="Back" title="Back (←)" disabled=${at === 0} onClick=${() => go(at - 1)}>◀</button>
        <button aria-label=${playing ? "Pause" : "Play"} title="Play" onClick=${() => setPlaying(!playing)}>
          ${playing ? "❚❚" : "Play"}
        </button>
        <button aria-label="Forward" title="Forward (→)" disabled=${at === last} onClick=${() => go(at + 1)}>▶</button>
        <button aria-label="Last step" title="Last (End)" disabled=${at === last} onClick=${() => go(last)}>▶|</button>
      </span>
      <input
        type="range"
        aria-label="Step"
        aria-valuetext=${`step ${at + 1} of ${last + 1}: ${node.name}`}
        min="1"
        max=${last + 1}
        value=${at + 1}
        onInput=${(event) => go(Number(event.target.value) - 1)}
      />
      <span class="number hint" role="status">step ${at + 1} of ${last + 1}</span>
    </div>
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
