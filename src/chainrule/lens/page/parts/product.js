/** The product of the chain rule as pictures: upstream × local = downstream, and the sum where a value is used several times. */

import { limitOf } from "../draw/scales.js";
import { brief, grouped, ofOneImage, shapeText, sizeOf } from "../numbers.js";
import { Waiting } from "./asked.js";
import { Derivative, Name, Written } from "./formula.js";
import { Picture } from "./picture.js";
import { useTensor } from "../passes.js";
import { html } from "../html.js";
import { KINDS, LEAVES } from "../words.js";

const NEAR = 8; // sizes that differ by more have no common scale: the smaller would look like nothing

/** How large pictures are, so that three of them stand side by side. */
export const room = () =>
  Math.min(Math.max(((document.getElementById("main")?.clientWidth ?? innerWidth) - 330) / 3, 200), 520);

/** The largest size of all, if they are near enough to each other to be seen on one scale. */
export function commonLimit(summaries) {
  const sizes = summaries.map((one) => limitOf(one));
  return Math.max(...sizes) <= NEAR * Math.min(...sizes) ? Math.max(...sizes) : null;
}

/** Where a value is used several times its gradients are added. */
export function Sum({ network, pass, step, node, loss }) {
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
export function Way({ network, pass, node, edge, loss, limit }) {
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
    ${whole && html`<${Picture} tensor=${whole} title=${title} name=${name} width=${0.8 * room()} height=${0.5 * room()} />`}
    ${
      !whole &&
      html`<figure class="picture">
        <figcaption>${title}</figcaption>
        <p class="made-of"><${Written} text=${edge.formula} /></p>
        ${factor && html`<${Picture} tensor=${factor} name=${`value of ${other.name}`} width=${0.8 * room()} height=${0.36 * room()} legend=${false} />`}
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
export function Gradient({ pass, node, which, more, summary, limit, width = room(), height = 0.62 * room(), name, title }) {
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
export function Arrived({ node, loss }) {
  if (node.leaf !== "parameter")
    return html`<p class="says arrived">Here the way back ends: ${LEAVES[node.leaf ?? "constant"]}.</p>`;
  return html`<p class="arrived">
    Here the way back ends. A step of training moves the parameter against its gradient:<br />
    <span class="formula"
      ><${Name} name=${node.name} /> ← <${Name} name=${node.name} /> − η <${Derivative} of=${loss.name} by=${node.name}
    /></span>
  </p>`;
}
