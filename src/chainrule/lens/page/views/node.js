/** One node: its value and its gradients as pictures, what one of its units is made of, and, for a convolution, its window. */

import { tensor } from "../api.js";
import { exists } from "../network.js";
import { brief, exact, ofOneImage } from "../numbers.js";
import { Trouble, Waiting, useAsked } from "../parts/asked.js";
import { Derivative, Name } from "../parts/formula.js";
import { Heading } from "../parts/heading.js";
import { Paths } from "../parts/paths.js";
import { Picture } from "../parts/picture.js";
import { Arrived, Gradient, Sum, Way, commonLimit, room } from "../parts/product.js";
import { WithNetwork } from "../parts/subject.js";
import { aboutPass, pixelsOf, useTensor } from "../passes.js";
import { adjust, link, useRoute } from "../router.js";
import { html } from "../html.js";
import { Convolution } from "./convolution.js";

export const NodeView = () => html`<${WithNetwork} view=${Chosen} />`;

function Chosen({ network, pass }) {
  const { id } = useRoute();
  if (id !== null && !exists(network, id))
    return html`<${Trouble} trouble=${{ message: `There is no node ${id}.`, hint: "Choose one in the graph." }} />`;
  const node = network.byId.get(Number(id ?? firstNode(network)));
  return html`<${Neighbours} network=${network} node=${node} />
    <${One} key=${node.id} network=${network} pass=${pass} node=${node} />`;
}

/** Without a number it is the first convolution, or else what comes first after the image. */
const firstNode = (network) => (network.nodes.find((node) => node.convolution) ?? network.nodes.find((node) => !node.leaf)).id;

/** Where the node's inputs come from and where its value goes to, as links. */
function Neighbours({ network, node }) {
  const named = (id) => {
    const other = network.byId.get(id);
    return html`<a href=${link("node", id)}><${Name} name=${other.name} /></a>`;
  };
  return html`<nav class="neighbours" aria-label="Neighbours">
    ${node.inputs.length > 0 && html`<span>from ${node.inputs.map((id) => html`${named(id)} `)}</span>`}
    ${node.users.length > 0 && html`<span>used by ${node.users.map((id) => html`${named(id)} `)}</span>`}
    <a href=${link("graph", null, { open: openAt(network, node), by: undefined })}>in the graph</a>
  </nav>`;
}

function openAt(network, node) {
  const keys = [];
  for (let key = node.group; key; key = network.groups.get(key).parent) keys.push(key);
  return keys.join(" ");
}

function One({ network, pass, node }) {
  const { query } = useRoute();
  const step = pass.byNode.get(node.id);
  const loss = network.byId.get(network.loss);
  const limit = step ? commonLimit([step.upstream, ...step.edges.map((edge) => edge.downstream)]) : null;
  const isSource = node.leaf === "parameter" || node.id === network.image;
  const unit = unitOf(query.unit, node.leaf === "parameter" ? node.shape : ofOneImage(node.shape));
  const picked = { unit, choose: (place) => adjust({ unit: place.join(",") }) };
  return html`<section class="stop" aria-labelledby="stop-title">
    <${Heading} network=${network} node=${node} />
    <div class="product">
      <${Value} pass=${pass} node=${node} picked=${picked} />
      ${
        step
          ? html`<${Gradient}
              pass=${pass}
              node=${node.id}
              which="upstream"
              summary=${step.upstream}
              limit=${limit}
              name=${`upstream gradient of ${node.name}`}
              title=${html`<span class="term">upstream</span> <${Derivative} of=${loss.name} by=${node.name} />`}
            />`
          : html`<p class="says arrived">No gradient arrives here: nothing that training changes depends on it.</p>`
      }
      ${step && !step.edges.length && html`<${Arrived} node=${node} loss=${loss} />`}
    </div>
    ${node.convolution && html`<${Convolution} network=${network} pass=${pass} node=${node} />`}
    ${isSource && step && !unit && html`<p class="hint">Choose one of its numbers in the picture: all its paths to the loss light up.</p>`}
    ${isSource && step && unit && html`<${Paths} network=${network} pass=${pass} node=${node} index=${node.leaf === "parameter" ? unit : [0, ...unit]} />`}
    ${!isSource && unit && html`<${Unit} network=${network} pass=${pass} node=${node} unit=${unit} step=${step} />`}
    ${step?.summands.length > 1 && html`<${Sum} network=${network} pass=${pass} step=${step} node=${node} loss=${loss} />`}
    ${
      step?.edges.length > 0 &&
      html`<div class="passed">
        <h3>What it passes back: upstream × local = downstream <${Check} pass=${pass} node=${node} /></h3>
        <div class="ways">
          ${step.edges.map(
            (edge) =>
              html`<${Way}
                key=${edge.position}
                network=${network}
                pass=${pass}
                node=${node}
                edge=${edge}
                loss=${loss}
                limit=${limit}
              />`,
          )}
        </div>
      </div>`
    }
    ${node.leaf === "parameter" && node.shape.length > 1 && html`<${Filters} node=${node} picked=${picked} />`}
  </section>`;
}

/** The value: feature maps, a vector, or a number. A click chooses a unit, or one of the weights. */
function Value({ pass, node, picked }) {
  const asked = useTensor(pass, node.id, "value");
  if (!asked.answer) return html`<${Waiting} asked=${asked} what="…" />`;
  const { answer } = asked;
  return html`<${Picture}
    tensor=${answer}
    title=${html`<span class="term">value</span> <${Name} name=${node.name} />`}
    name=${`value of ${node.name}`}
    width=${1.25 * room()}
    height=${0.75 * room()}
    ...${picking(answer, picked)}
  />`;
}

/** What a picture of a node's numbers does with a click, and the mark around the number that was chosen. */
function picking(tensor, { unit, choose }) {
  const step = tensor.step ?? tensor.shape.map(() => 1);
  const onPick = (place) => choose(place.map((one, axis) => one * step[axis]));
  if (!unit || unit.length !== tensor.shape.length) return { onPick };
  const at = unit.map((one, axis) => Math.floor(one / step[axis]));
  const [top, left] = at.length > 1 ? at.slice(-2) : [0, at.at(-1)];
  const tile = at.slice(0, -2).reduce((sum, one, axis) => sum * tensor.shape[axis] + one, 0);
  return at.length > 1 ? { onPick, marks: [{ tile, top, left, height: 1, width: 1, kind: "chosen" }] } : { onPick };
}

/** The unit that the address names, if the node has it. */
function unitOf(text, shape) {
  if (!text) return null;
  const unit = text.split(",").map(Number);
  return unit.length === shape.length && unit.every((one, axis) => Number.isInteger(one) && one >= 0 && one < shape[axis])
    ? unit
    : null;
}

/** One unit: its row of the Jacobian for each input, and what it sees of the image. */
function Unit({ network, pass, node, unit, step }) {
  const whole = node.shape.length > unit.length ? [0, ...unit] : unit;
  const edges = step?.edges ?? [];
  return html`<div class="unit">
    <h3>The unit ${node.name}[${unit.join(", ")}]</h3>
    <div class="terms">
      ${unit.length === 3 && network.image !== null && html`<${ReceptiveField} network=${network} pass=${pass} node=${node} unit=${unit} />`}
      ${edges.map((edge) => html`<${Row} key=${edge.position} network=${network} pass=${pass} node=${node} edge=${edge} unit=${whole} />`)}
    </div>
  </div>`;
}

function Row({ network, pass, node, edge, unit }) {
  const input = network.byId.get(edge.input);
  const asked = useAsked(
    () => aboutPass(pass, "local", { node: node.id, position: edge.position, unit: unit.join(",") }, tensor),
    [pass, node.id, edge.position, unit.join()],
  );
  if (!asked.answer) return html`<${Waiting} asked=${asked} what="…" />`;
  return html`<div>
    <${Picture}
      tensor=${asked.answer}
      name=${`row of the local gradient by ${input.name}`}
      title=${html`<span class="term">local</span> <${Derivative} of=${`${node.name}[${unit.slice(-3).join()}]`} by=${input.name} />`}
      width=${300}
      height=${200}
    />
    <p class="hint">
      its row of the Jacobian; upstream there
      <b data-upstream=${exact(asked.answer.upstream)}>${brief(asked.answer.upstream)}</b>
    </p>
  </div>`;
}

/** What the unit looks at: the box that follows from the architecture, and how strongly each pixel counts, as measured. */
function ReceptiveField({ network, pass, node, unit }) {
  const [channel, y, x] = unit;
  const asked = useAsked(
    () => aboutPass(pass, "receptive_field", { node: node.id, channel, y, x }),
    [pass, node.id, unit.join()],
  );
  const { answer: image } = useAsked(() => pixelsOf(pass), [pass]);
  if (!asked.answer) return asked.trouble?.status === 400 ? null : html`<${Waiting} asked=${asked} what="…" />`;
  const { box, measured } = asked.answer;
  const mark = { tile: 0, ...box, kind: "window" };
  const found = tensorFrom(measured);
  return html`<div class="terms" data-box=${[box.top, box.left, box.height, box.width].join()}>
    ${image && html`<${Picture} tensor=${image} scale="image" name="image with the receptive field" title="receptive field" width=${220} height=${220} marks=${[mark]} legend=${false} plain />`}
    <${Picture}
      tensor=${found}
      name="measured receptive field"
      title=${html`|<${Derivative} of=${node.name} by=${network.byId.get(network.image).name} />|`}
      width=${220}
      height=${220}
      marks=${[mark]}
    />
  </div>`;
}

/** An array of JSON as the arrays that pictures take. */
export function tensorFrom(rows) {
  const shape = [];
  for (let at = rows; Array.isArray(at); at = at[0]) shape.push(at.length);
  const values = Float32Array.from(rows.flat(shape.length - 1), (one) => one ?? NaN);
  const finite = values.filter(Number.isFinite);
  const min = finite.length ? finite.reduce((least, one) => Math.min(least, one)) : 0;
  const max = finite.length ? finite.reduce((most, one) => Math.max(most, one)) : 0;
  return { shape, of: shape, step: shape.map(() => 1), min, max, nonfinite: values.length - finite.length, values };
}

/** The check by finite differences in float64. */
function Check({ pass, node }) {
  const { answer } = useAsked(() => aboutPass(pass, "check", { node: node.id }), [pass, node.id]);
  if (!answer?.edges.length) return null;
  const errors = answer.edges.map((edge) => edge.error).filter((one) => one !== null);
  if (!errors.length) return html`<span class="check hint">a kink: finite differences do not decide here</span>`;
  const worst = Math.max(...errors);
  const good = answer.edges.every((edge) => edge.error === null || edge.error <= edge.tolerance);
  return html`<span class=${`check ${good ? "right" : "wrong"}`} data-error=${worst}
    >${good ? "✓" : "✗"} finite differences in float64: error ${brief(worst, 2)}</span
  >`;
}

/** A parameter's filters, or the templates of a layer on the image. */
function Filters({ node, picked }) {
  const asked = useAsked(() => tensor("/api/filters", { name: node.name }), [node.name]);
  if (!asked.answer || asked.answer.shape.length < 3) return null;
  const what = node.shape.length === 4 ? "filters" : "templates";
  return html`<div class="filters">
    <h3>
      ${node.shape.length === 4 ? "Its filters" : "Its templates: each row of the matrix in the shape of what it looks at"}
    </h3>
    <${Picture}
      tensor=${asked.answer}
      name=${`${what} of ${node.name}`}
      width=${Math.min(innerWidth - 80, 900)}
      height=${420}
      ...${asked.answer.shape.length === node.shape.length ? picking(asked.answer, picked) : {}}
    />
  </div>`;
}
