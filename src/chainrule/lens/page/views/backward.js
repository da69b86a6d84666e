/** Backpropagation, one node at a time from the loss to the image: upstream × local = downstream, and sums where paths meet. */

import { limitOf } from "../draw/scales.js";
import { placeOf } from "../network.js";
import { brief, grouped, ofOneImage, shapeText, sizeOf } from "../numbers.js";
import { Waiting } from "../parts/asked.js";
import { Derivative, Name, Written } from "../parts/formula.js";
import { Picture } from "../parts/picture.js";
import { Role } from "../parts/role.js";
import { tensorOf, usePass, useTensor } from "../passes.js";
import { adjust, here, link, useRoute } from "../router.js";
import { useStore } from "../store.js";
import { html, useEffect, useState } from "../vendor/preact.js";
import { KINDS, LEAVES, ROLES } from "../words.js";

const PLAY = 1400; // milliseconds for a step
const NEAR = 25; // sizes that differ by more have no common scale: the smaller would look like nothing

export function BackwardView() {
  const network = useStore((state) => state.graph);
  const asked = usePass();
  if (!network || !asked.answer) return html`<${Waiting} asked=${asked} what="Python sends the image through the network …" />`;
  return html`<${Steps} network=${network} pass=${asked.answer} />`;
}

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
        <button aria-label="First step" title="First (Home)" disabled=${at === 0} onClick=${() => go(0)}>⏮︎</button>
        <button aria-label="Back" title="Back (←)" disabled=${at === 0} onClick=${() => go(at - 1)}>◀︎</button>
        <button aria-label=${playing ? "Pause" : "Play"} title="Play" onClick=${() => setPlaying(!playing)}>
          ${playing ? "❚❚" : "Play"}
        </button>
        <button aria-label="Forward" title="Forward (→)" disabled=${at === last} onClick=${() => go(at + 1)}>▶︎</button>
        <button aria-label="Last step" title="Last (End)" disabled=${at === last} onClick=${() => go(last)}>⏭︎</button>
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
          aria-label=${label}
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
  const place = placeOf(network, node);
  const limit = commonLimit([step.upstream, ...step.edges.map((edge) => edge.downstream)]);
  return html`<section class="stop" aria-labelledby="stop-title">
    <header>
      <h2 id="stop-title">
        <a href=${link("node", node.id)}
          ><${Name} name=${node.name} />${node.formula && html` = <${Written} text=${node.formula} />`}</a
        >
      </h2>
      ${place && html`<span class="hint">${place}</span>`}
      ${node.leaf ? html`<span class="hint">${LEAVES[node.leaf]}</span>` : html`<${Role} role=${node.role} />`}
      ${node.line && html`<code class="hint">${node.line}</code>`}
    </header>
    ${!node.leaf && html`<p class="says">${ROLES[node.role].says}</p>`}
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

/** The largest size of all, if they are near enough to each other to be seen on one scale. */
function commonLimit(summaries) {
  const sizes = summaries.map((one) => limitOf(one));
  return Math.max(...sizes) <= NEAR * Math.min(...sizes) ? Math.max(...sizes) : null;
}

/** Where a value is used several times its gradients are added. */
function Sum({ network, pass, step, node, loss }) {
  const limit = Math.max(limitOf(step.upstream), ...step.summands.map((one) => limitOf(one.upstream)));
  const seen = new globalThis.Map();
  const terms = step.summands.map((summand) => {
    const before = seen.get(summand.from) ?? 0;
    seen.set(summand.from, before + 1);
    const edges = pass.byNode.get(summand.from).edges.filter((edge) => edge.input === node.id);
    return { ...summand, position: edges[Math.min(before, edges.length - 1)].position };
  });
  return html`<div class="sum" data-summands=${terms.length}>
    <p>
      <${Name} name=${node.name} /> is used ${terms.length} times, so ${terms.length} gradients arrive, and the upstream
      gradient is their <strong>sum</strong>:
    </p>
    <div class="terms">
      ${terms.map(
        (term, i) =>
          html`${i > 0 && html`<span class="sign">+</span>`}<${Gradient}
              pass=${pass}
              node=${term.from}
              which="downstream"
              more=${{ position: term.position }}
              summary=${term.upstream}
              limit=${limit}
              width=${200}
              height=${130}
              name=${`gradient of ${node.name} from ${network.byId.get(term.from).name}`}
              title=${html`from <${Name} name=${network.byId.get(term.from).name} />`}
            />`,
      )}
      <span class="sign">=</span>
      <${Gradient}
        pass=${pass}
        node=${node.id}
        which="upstream"
        summary=${step.upstream}
        limit=${limit}
        width=${200}
        height=${130}
        name=${`sum of the gradients of ${node.name}`}
        title=${html`<${Derivative} of=${loss.name} by=${node.name} />`}
      />
    </div>
  </div>`;
}

/** One way back: times the local gradient is the downstream gradient, which is passed on to an input. */
function Way({ network, pass, node, edge, loss, limit }) {
  const input = network.byId.get(edge.input);
  return html`<div class="way" data-input=${edge.input}>
    <span class="sign" aria-label="times">×</span>
    <${Local} network=${network} pass=${pass} node=${node} edge=${edge} input=${input} />
    <span class="sign" aria-label="equals">=</span>
    <${Gradient}
      pass=${pass}
      node=${node.id}
      which="downstream"
      more=${{ position: edge.position }}
      summary=${edge.downstream}
      limit=${limit}
      name=${`downstream gradient to ${input.name}`}
      title=${html`<span class="term">downstream</span> <${Derivative} of=${loss.name} by=${input.name} />${input.users.length > 1 && html`<span class="hint"> one of ${input.users.length} parts</span>`}`}
    />
  </div>`;
}

/** The local gradient: its numbers if they are few, its picture if it has one, else what it is made of. */
function Local({ network, pass, node, edge, input }) {
  const pictured = (edge.kind === "diagonal" || edge.kind === "routing") && !edge.local?.numbers;
  const { answer: whole } = useTensor(pass, pictured ? node.id : null, "local", { position: edge.position });
  const other = otherFactor(network, node, edge);
  const { answer: factor } = useTensor(pass, !pictured && other && edge.kind === "dense" ? other.id : null, "value");
  const title = html`<span class="term">local</span> <${Derivative} of=${node.name} by=${input.name} />`;
  const name = `local gradient of ${node.name} by ${input.name}`;
  const few = edge.local?.numbers && sizeOf(edge.local.shape) > 1;
  return html`<div class="local">
    ${whole && html`<${Picture} tensor=${whole} title=${title} name=${name} width=${210} height=${190} />`}
    ${
      !whole &&
      html`<figure class="picture">
        <figcaption>${title}</figcaption>
        <p class="made-of"><${Written} text=${edge.formula} /></p>
        ${factor && html`<${Picture} tensor=${factor} name=${`value of ${other.name}`} width=${200} height=${130} legend=${false} />`}
        ${!factor && few && html`<${Picture} tensor=${tensorOfSummary(edge.local)} name=${name} legend=${false} />`}
        ${edge.kind === "dense" && html`<p class="hint">a Jacobian of ${grouped(sizeOf(node.shape))} × ${grouped(sizeOf(input.shape))} numbers</p>`}
      </figure>`
    }
    ${whole && html`<p class="made-of small"><${Written} text=${edge.formula} /></p>`}
    <p class="hint kind" data-kind=${edge.kind}>${KINDS[edge.kind]}</p>
  </div>`;
}

const tensorOfSummary = (summary) => ({ ...summary, values: Float32Array.from(summary.numbers, (one) => one ?? NaN) });

/** In a product the local gradient for one factor is made of the other one. */
function otherFactor(network, node, edge) {
  if (node.role !== "switcher" || node.inputs.length !== 2) return null;
  return network.byId.get(node.inputs[1 - edge.position]) ?? null;
}

/** A gradient's picture, on the common scale if there is one. */
function Gradient({ pass, node, which, more, summary, limit, width = 300, height = 230, name, title }) {
  const { answer, trouble } = useTensor(pass, node, which, more);
  if (trouble) return html`<${Waiting} asked=${{ trouble }} />`;
  if (!answer)
    return html`<figure class="picture waiting-picture">
      <figcaption>${title}</figcaption>
      <p class="hint">${shapeText(ofOneImage(summary.shape))}, norm ${brief(summary.norm)}</p>
    </figure>`;
  return html`<${Picture}
    tensor=${answer}
    title=${title}
    name=${name}
    limit=${limit ?? undefined}
    width=${width}
    height=${height}
  />`;
}

/** At a leaf the gradient has arrived: a parameter moves against it. */
function Arrived({ node, loss }) {
  if (node.leaf !== "parameter")
    return html`<p class="says arrived">Here the way back ends: ${LEAVES[node.leaf ?? "constant"]}.</p>`;
  return html`<p class="arrived">
    Here the way back ends. A step of training moves the parameter against its gradient:<br />
    <span class="formula"
      ><${Name} name=${node.name} /> ← <${Name} name=${node.name} /> − η <${Derivative} of=${loss.name} by=${node.name}
    /></span>
  </p>`;
}
