/** What if a weight or a pixel were another? The loss then, what the gradient predicts of it, and which nodes change. */

import { post } from "../api.js";
import { html, useEffect, useState } from "../html.js";
import { placeOf } from "../network.js";
import { brief, exact, ofOneImage, percent } from "../numbers.js";
import { Waiting, useAsked } from "../parts/asked.js";
import { Name } from "../parts/formula.js";
import { NumberField } from "../parts/number_field.js";
import { Picture } from "../parts/picture.js";
import { Probabilities } from "../parts/probabilities.js";
import { WithNetwork } from "../parts/subject.js";
import { Numbers } from "../parts/table.js";
import { pixelsOf, useTensor } from "../passes.js";
import { adjust, link, useRoute } from "../router.js";

const MOST_SHOWN = 14; // changed nodes
const PIXEL = "pixel";

export const WhatIfView = () => html`<${WithNetwork} view=${WhatIf} />`;

/** Edits as the address has them: `conv1.weight:0,0,1,1=0.5;pixel:0,3,4=1`. */
function editsOf(text) {
  return (text ?? "")
    .split(";")
    .map((one) => /^(.+):([\d,]*)=(.+)$/.exec(one))
    .filter((found) => found && Number.isFinite(Number(found[3])))
    .map(([, name, index, value]) => ({ name, index: index ? index.split(",").map(Number) : [], value: Number(value) }));
}

const textOf = (edits) => edits.map(({ name, index, value }) => `${name}:${index.join(",")}=${value}`).join(";") || undefined;

const same = (one, other) => one.name === other.name && one.index.join() === other.index.join();

const asAsked = ({ name, index, value }) => (name === PIXEL ? { pixel: index, value } : { name, index, value });

function WhatIf({ network, pass }) {
  const { query } = useRoute();
  const parameters = network.nodes.filter((node) => node.leaf === "parameter");
  const first = parameters.find((node) => node.shape.length > 1) ?? parameters[0];
  const what = query.what === PIXEL || parameters.some((node) => node.name === query.what) ? query.what : first?.name;
  const edits = editsOf(query.edits);
  const change = (edit) => adjust({ edits: textOf([...edits.filter((one) => !same(one, edit)), edit]) });
  return html`
    <p class="says">
      Change a weight or a pixel of a copy: nothing of the run itself changes. The gradient predicts what a small change does to
      the loss; a large one goes its own way.
    </p>
    <div class="what-if">
      <section aria-label="What is changed">
        <label class="bar">
          Change
          <select value=${what} onChange=${(event) => adjust({ what: event.target.value, at: undefined })}>
            ${network.image !== null && html`<option value=${PIXEL}>a pixel of the image</option>`}
            ${parameters.map((node) => html`<option value=${node.name}>${node.name}</option>`)}
          </select>
        </label>
        <${Choice} key=${what} network=${network} pass=${pass} what=${what} edits=${edits} change=${change} />
        <${Edits} edits=${edits} />
      </section>
      <${Result} network=${network} pass=${pass} edits=${edits} />
    </div>
  `;
}

/** The array of which one number is chosen, and that number. */
function Choice({ network, pass, what, edits, change }) {
  const { query } = useRoute();
  const isPixel = what === PIXEL;
  const node = isPixel ? network.byId.get(network.image) : network.nodes.find((one) => one.name === what);
  const asked = useAsked(() => (isPixel ? pixelsOf(pass) : null), [isPixel, pass]);
  const values = useTensor(isPixel ? null : pass, node.id, "value").answer;
  const gradient = useTensor(pass, node.id, "upstream").answer;
  const shown = isPixel ? asked.answer : values;
  if (!shown) return html`<${Waiting} asked=${asked} what="…" />`;
  const shape = shown.of ?? shown.shape;
  const at = chosen(query.at, shape);
  const place = offsetOf(at, shape);
  const edited = edits.find((one) => same(one, { name: what, index: at }));
  const before = shown.values[place];
  const now = edited ? edited.value : before;
  const reach = isPixel ? 1 : Math.max(Math.abs(shown.min), Math.abs(shown.max), 0.1) * 2;
  const set = (value) => change({ name: what, index: at, value: Number(Number(value).toPrecision(7)) });
  const mark = markAt(at, shape);
  return html`
    <${Picture}
      tensor=${shown}
      name=${isPixel ? "image" : `value of ${what}`}
      scale=${isPixel ? "image" : "signed"}
      width=${Math.min(innerWidth - 60, 460)}
      height=${300}
      marks=${mark ? [mark] : []}
      onPick=${(index) => adjust({ at: index.join(",") })}
    />
    <p>
      ${isPixel ? "pixel" : html`<${Name} name=${what} />`} [${at.join(", ")}] is
      <b data-before=${exact(before)}>${brief(before, 5)}</b
      >${!isPixel && gradient && html`, its gradient <b data-gradient=${exact(gradient.values[place])}>${brief(gradient.values[place], 4)}</b>`}.
      <span class="hint">Choose another in the picture.</span>
    </p>
    <div class="bar edit">
      <input
        type="range"
        aria-label="New value"
        min=${isPixel ? 0 : -reach}
        max=${reach}
        step=${reach / 500}
        value=${now}
        onInput=${(event) => set(event.target.value)}
      />
      <${NumberField} label="New value as a number" step="any" value=${exact(now)} choose=${set} />
      <button onClick=${() => set(now - (isPixel ? 0.1 : 0.01))}>−${isPixel ? 0.1 : 0.01}</button>
      <button onClick=${() => set(now + (isPixel ? 0.1 : 0.01))}>+${isPixel ? 0.1 : 0.01}</button>
    </div>
  `;
}

function chosen(text, shape) {
  const index = (text ?? "").split(",").filter(Boolean).map(Number);
  const fits = index.length === shape.length && index.every((one, axis) => one >= 0 && one < shape[axis]);
  return fits ? index : shape.map((size, axis) => (axis >= shape.length - 2 ? size >> 1 : 0));
}

const offsetOf = (index, shape) => index.reduce((sum, one, axis) => sum * shape[axis] + one, 0);

/** The chosen number in the picture: its tile, row and column. */
function markAt(index, shape) {
  const known = ofOneImage(shape);
  if (known.length < 2) return null;
  const [top, left] = index.slice(-2);
  const tile = offsetOf(index.slice(0, -2), shape.slice(0, -2));
  return { tile, top, left, height: 1, width: 1, kind: "chosen" };
}

function Edits({ edits }) {
  if (!edits.length) return html`<p class="hint">Nothing is changed yet.</p>`;
  return html`<ul class="edits">
      ${edits.map(
        (edit) =>
          html`<li>
            ${edit.name} [${edit.index.join(", ")}] ← <b>${brief(edit.value, 5)}</b>
            <button
              class="small"
              aria-label=${`Take back ${edit.name}`}
              onClick=${() => adjust({ edits: textOf(edits.filter((one) => !same(one, edit))) })}
            >
              take back
            </button>
          </li>`,
      )}
    </ul>
    <button onClick=${() => adjust({ edits: undefined })}>Reset</button>`;
}

/** What follows from the edits; asked again a moment after the last change. */
function Result({ network, pass, edits }) {
  const key = textOf(edits) ?? "";
  const [settled, setSettled] = useState(key);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(key), 60);
    return () => clearTimeout(timer);
  }, [key]);
  const asked = useAsked(
    () => (settled ? post("/api/what_if", { trace: pass.trace, edits: editsOf(settled).map(asAsked) }) : null),
    [settled, pass.trace],
  );
  const { before, after, predicted, probabilities, changed, silenced } = (settled && asked.answer) || {
    before: pass.loss,
    after: pass.loss,
    predicted: pass.loss,
    probabilities: pass.probabilities,
    changed: [],
    silenced: [],
  };
  if (asked.trouble) return html`<section><${Waiting} asked=${asked} /></section>`;
  return html`<section
    class="result-of-change"
    aria-live="polite"
    data-before=${exact(before)}
    data-after=${exact(after)}
    data-predicted=${exact(predicted)}
  >
    <${Losses} before=${before} after=${after} predicted=${predicted} />
    <h2>Probabilities</h2>
    <${Probabilities} probabilities=${probabilities} label=${pass.label} before=${settled && asked.answer ? pass.probabilities : null} />
    ${silenced.length > 0 && html`<${Silenced} network=${network} silenced=${silenced} />`}
    <h2>Nodes that change</h2>
    <${Changed} network=${network} changed=${changed} />
  </section>`;
}

function Losses({ before, after, predicted }) {
  const most = Math.max(before, after, predicted, 1e-12);
  const rows = [
    ["before", before, "--soft"],
    ["after", after, "--accent"],
    ["predicted", predicted, "--warm"],
  ];
  return html`<h2>Loss</h2>
    <table class="bars losses">
      ${rows.map(
        ([name, value, colour]) =>
          html`<tr>
            <th scope="row">${name}</th>
            <td class="number">${brief(value, 6)}</td>
            <td class="track">
              <i style=${{ width: `${(100 * Math.max(value, 0)) / most}%`, background: `var(${colour})` }} />
            </td>
          </tr>`,
      )}
    </table>
    <p>
      True change <b class="number">${signed(after - before)}</b>, predicted by the gradient
      <b class="number">${signed(predicted - before)}</b>.
    </p>`;
}

const signed = (number) => (number > 0 ? `+${brief(number, 4)}` : brief(number, 4));

/** Channels of units that give nothing but 0 for this image since the change: no gradient passes them. */
function Silenced({ network, silenced }) {
  const units = (id, channels) =>
    channels.map(
      (channel, i) =>
        html`${i > 0 && ", "}<a href=${link("node", id, { edits: undefined })}
            ><${Name} name=${network.byId.get(id).name} />[${channel}]</a
          >`,
    );
  const list = (which) => silenced.filter((one) => one[which].length);
  const sentence = (which, says) =>
    list(which).length > 0 &&
    html`<p data-channels=${list(which)
      .map((one) => `${one.node}: ${one[which].join(" ")}`)
      .join("; ")}>
      ${says}: ${list(which).map((one, i) => html`${i > 0 && ", "}${units(one.node, one[which])}`)}
    </p>`;
  return html`<h2>Channels that die or wake up</h2>
    ${sentence("silent", "For this image these give nothing but 0 now, so that no gradient passes them")}
    ${sentence("awake", "These gave nothing but 0, and give more now")}`;
}

function Changed({ network, changed }) {
  if (!changed.length) return html`<p class="hint">None.</p>`;
  const most = Math.max(...changed.map((one) => one.relative ?? 0), 1e-12);
  const shown = changed.filter(({ node }) => network.byId.has(node));
  const name = ({ node }) => network.byId.get(node).name;
  return html`<p class="hint">
      ${shown.length} of ${network.nodes.length}, in the order of the computation, by how much relative to their size
      <${Numbers}
        title="Nodes that change"
        rows=${() => ({ heads: ["node", "layer", "difference (norm)", "relative"], lines: shown.map((one) => [name(one), network.byId.get(one.node).module, one.difference, one.relative]) })}
      />
    </p>
    <table class="bars" data-changed=${shown.map((one) => one.node).join()}>
      ${shown.slice(0, MOST_SHOWN).map(
        (one) =>
          html`<tr>
            <th scope="row">
              <a href=${link("node", one.node)}><${Name} name=${name(one)} /></a>
            </th>
            <td class="hint">${placeOf(network, network.byId.get(one.node))}</td>
            <td class="track">
              <i style=${{ width: `${(100 * (one.relative ?? 0)) / most}%`, background: "var(--accent)" }} />
            </td>
            <td class="number">${one.relative === null ? "–" : percent(one.relative, 2)}</td>
          </tr>`,
      )}
    </table>
    ${shown.length > MOST_SHOWN && html`<p class="hint">and ${shown.length - MOST_SHOWN} more</p>`}`;
}
