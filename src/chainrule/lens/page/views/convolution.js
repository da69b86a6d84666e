/** A convolution as a window that slides: forwards, and on both ways back. */

import { brief, exact } from "../numbers.js";
import { Waiting, useAsked } from "../parts/asked.js";
import { Matrix, Padded } from "../parts/matrix.js";
import { NumberField } from "../parts/number_field.js";
import { aboutPass, useTensor } from "../passes.js";
import { adjust, useRoute } from "../router.js";
import { largestSize } from "../draw/scales.js";
import { html, useEffect, useMemo, useState } from "../html.js";

const WAYS = {
  forward: "Forwards: the window slides",
  weight: "Backwards to the weight",
  input: "Backwards to the input",
};

export function Convolution({ network, pass, node }) {
  const { query } = useRoute();
  const way = WAYS[query.way] ? query.way : "forward";
  const View = { forward: Forward, weight: TowardsWeight, input: TowardsInput }[way];
  const [, channels] = network.byId.get(node.inputs[0]).shape;
  const [, outputs] = node.shape;
  const perGroup = channels / node.convolution.groups;
  const perGroupOut = outputs / node.convolution.groups;
  const output = bounded(query.output, outputs);
  const first = Math.floor(output / perGroupOut) * perGroup;
  const input = first + bounded((query.input ?? first) - first, perGroup);
  const { stride, padding, dilation, groups } = node.convolution;
  return html`<section class="convolution" aria-label="Convolution">
    <div class="bar">
      <span class="choice" role="group" aria-label="Way">
        ${Object.entries(WAYS).map(([name, title]) => html`<button aria-pressed=${String(name === way)} onClick=${() => adjust({ way: name })}>${title}</button>`)}
      </span>
      <${Channel} label="filter" count=${outputs} value=${output} choose=${(one) => adjust({ output: one })} />
      <${Channel} label="channel" from=${first} count=${perGroup} value=${input} choose=${(one) => adjust({ input: one })} />
      <span class="hint"
        >stride ${stride.join(" × ")}, padding
        ${padding.join(" × ")}${dilation.some((one) => one > 1) ? `, dilation ${dilation.join(" × ")}` : ""}${groups > 1 ? `, ${groups} groups` : ""}</span
      >
    </div>
    <${View} key=${`${way} ${output} ${input}`} network=${network} pass=${pass} node=${node} output=${output} input=${input} />
  </section>`;
}

const bounded = (value, count) => Math.min(Math.max(Math.round(Number(value ?? 0)) || 0, 0), count - 1);

function Channel({ label, from = 0, count, value, choose }) {
  return html`<label class="channel"
    >${label}
    <${NumberField}
      label=${label}
      min=${from}
      max=${from + count - 1}
      value=${value}
      choose=${(text) => choose(from + bounded(text - from, count))}
    />
    <span class="hint">of ${count}</span></label
  >`;
}

/** A place that the mouse, the arrow keys or a slider moves. */
function usePlace(height, width, start) {
  const inside = (y, x) => [bounded(y, height), bounded(x, width)];
  const [place, setPlace] = useState(inside(...start));
  const move = (y, x) => setPlace(inside(y, x));
  const keys = (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    move(place[0] + step[0], place[1] + step[1]);
  };
  return { place, move, keys };
}

/** Forwards: patch × kernel, summed over all channels, plus bias. */
function Forward({ network, pass, node, output, input }) {
  const [, , height, width] = node.shape;
  const source = network.byId.get(node.inputs[0]);
  const { query } = useRoute();
  const start = query.unit?.split(",").length === 3 ? query.unit.split(",").slice(1).map(Number) : [height >> 1, width >> 1];
  const { place, move, keys } = usePlace(height, width, start);
  const [y, x] = place;
  const asked = useAsked(
    () => aboutPass(pass, "window", { node: node.id, channel: output, y, x }),
    [pass, node.id, output, y, x],
  );
  const image = useTensor(pass, source.id, "value", { channel: input }).answer;
  const map = useTensor(pass, node.id, "value", { channel: output }).answer;
  if (!asked.answer || !image || !map) return html`<${Waiting} asked=${asked} what="…" />`;
  const { channels, patch, kernel, products, bias, sum, value, inside, place: box } = asked.answer;
  const at = Math.max(channels.indexOf(input), 0);
  const here = total(products[at]);
  return html`<div class="sliding" data-place=${place.join()} data-value=${exact(value)}>
    <${Padded}
      tensor=${image}
      padding=${node.convolution.padding}
      after=${node.convolution.padding_after}
      box=${box}
      dilation=${node.convolution.dilation}
      title=${html`input, channel ${input}`}
      name=${`channel ${input} of the input, with its padding`}
    />
    <${Padded}
      tensor=${map}
      padding=${[0, 0]}
      box=${{ top: y, left: x, height: 1, width: 1 }}
      title=${html`output ${output}: move here`}
      name=${`output ${output}: arrow keys move the window`}
      onMove=${move}
      onKeyDown=${keys}
    />
    <div class="equation">
      <${Matrix} rows=${patch[at]} title="patch" name="patch" outside=${inside} />
      <span class="sign">×</span>
      <${Matrix} rows=${kernel[at]} title="kernel" name="kernel" />
      <span class="sign">=</span>
      <${Matrix} rows=${products[at]} title="products" name="products" />
    </div>
    <p class="sentence" aria-live="polite">
      The products of channel ${input} add up to
      <b>${brief(here, 4)}</b
      >${channels.length > 1 && html`; those of all ${channels.length} channels to <b data-sum=${exact(sum)}>${brief(sum, 4)}</b>`}${bias !== null && html`, and with the bias <b>${brief(bias, 4)}</b>`}:
      the value at row ${y}, column ${x} is <b class="result">${brief(value, 5)}</b>.
    </p>
  </div>`;
}

const total = (rows) => rows.flat().reduce((sum, one) => sum + (one ?? NaN), 0);

/** Towards the weight: at each place the patch is weighted by the upstream gradient, and all of them are summed. */
function TowardsWeight({ network, pass, node, output, input }) {
  const asked = useAsked(
    () => aboutPass(pass, "weight_gradient", { node: node.id, output, input }),
    [pass, node.id, output, input],
  );
  if (!asked.answer) return html`<${Waiting} asked=${asked} what="…" />`;
  return html`<${Patches} answer=${asked.answer} node=${node} output=${output} input=${input} />`;
}

function Patches({ answer, node, output, input }) {
  const { input: image, upstream, gradient, stride, dilation } = answer;
  const padding = answer.padding.map((one) => (Array.isArray(one) ? one[0] : one));
  const [height, width] = [upstream.length, upstream[0].length];
  const [kh, kw] = [gradient.length, gradient[0].length];
  const { place, move, keys } = usePlace(height, width, largestPlace(upstream));
  const [playing, setPlaying] = useState(false);
  const [y, x] = place;
  const index = y * width + x;
  const pixel = (row, column) => image[row]?.[column] ?? 0;
  const patchAt = (row, column) =>
    grid(kh, kw, (a, b) =>
      pixel(row * stride[0] - padding[0] + a * dilation[0], column * stride[1] - padding[1] + b * dilation[1]),
    );
  const patch = patchAt(y, x);
  const weighted = patch.map((row) => row.map((one) => one * upstream[y][x]));
  const running = useMemo(() => sumsUntil(index, width, gradient, upstream, patchAt), [answer, index]);
  const limit = largestSize(gradient) || 1e-30;
  const count = height * width;
  const step = (to) => move(Math.floor(to / width), to % width);
  useEffect(() => {
    if (!playing) return undefined;
    if (index >= count - 1) {
      setPlaying(false);
      return undefined;
    }
    const timer = setTimeout(() => step(index + Math.max(1, Math.ceil(count / 200))), 60);
    return () => clearTimeout(timer);
  }, [playing, index]);
  const box = {
    top: y * stride[0] - padding[0],
    left: x * stride[1] - padding[1],
    height: (kh - 1) * dilation[0] + 1,
    width: (kw - 1) * dilation[1] + 1,
  };
  return html`<div class="sliding" data-index=${index}>
    <p class="sentence">
      At each place of the output the patch that the filter met is weighted by the upstream gradient there. The sum over all
      ${count} places is the gradient of filter ${output} for channel ${input}.
    </p>
    <span class="bar stepping">
      <button onClick=${() => (playing ? setPlaying(false) : (index >= count - 1 && step(0), setPlaying(true)))}>
        ${playing ? "Pause" : "Play"}
      </button>
      <input
        type="range"
        aria-label="Place"
        min="0"
        max=${count - 1}
        value=${index}
        onInput=${(event) => step(Number(event.target.value))}
      />
      <span class="hint number">place ${index + 1} of ${count}</span>
    </span>
    <${Padded}
      tensor=${image}
      padding=${padding}
      after=${node.convolution.padding_after}
      box=${box}
      dilation=${dilation}
      title=${`input, channel ${input}`}
      name=${`channel ${input} of the input, with its padding`}
    />
    <${Padded}
      tensor=${upstream}
      padding=${[0, 0]}
      box=${{ top: y, left: x, height: 1, width: 1 }}
      title=${html`upstream <b class="number">${brief(upstream[y][x])}</b>`}
      name="upstream gradient: arrow keys move"
      onMove=${move}
      onKeyDown=${keys}
    />
    <div class="equation">
      <${Matrix} rows=${patch} title="patch" name="patch" />
      <span class="sign">×</span>
      <p class="factor" aria-label="upstream gradient there">${brief(upstream[y][x], 3)}</p>
      <span class="sign">=</span>
      <${Matrix} rows=${weighted} title="weighted patch" name="weighted patch" limit=${limit} />
    </div>
    <${Matrix}
      rows=${running}
      title=${index === count - 1 ? "sum of all places" : `sum of ${index + 1} places`}
      name="sum so far"
      limit=${limit}
    />
    <${Matrix} rows=${gradient} title="gradient of the weight" name="gradient of the weight" limit=${limit} />
  </div>`;
}

/** Where the largest size is: there is most to see. */
function largestPlace(rows) {
  let [best, size] = [[0, 0], -1];
  rows.forEach((row, y) => row.forEach((one, x) => Math.abs(one) > size && ([best, size] = [[y, x], Math.abs(one)])));
  return best;
}

const grid = (rows, columns, of) =>
  [...Array(rows).keys()].map((row) => [...Array(columns).keys()].map((column) => of(row, column)));

/** The sum of weighted patches over the places up to one, in float64. */
function sumsUntil(index, width, gradient, upstream, patchAt) {
  const sums = gradient.map((row) => row.map(() => 0));
  for (let at = 0; at <= index; at++) {
    const [y, x] = [Math.floor(at / width), at % width];
    const weight = upstream[y][x];
    if (weight) patchAt(y, x).forEach((row, a) => row.forEach((one, b) => (sums[a][b] += one * weight)));
  }
  return sums;
}

/** Towards the input: the flipped filter slides over the upstream gradient, stuffed with zeros and padded. */
function TowardsInput({ network, pass, node, output, input }) {
  const asked = useAsked(
    () => aboutPass(pass, "input_gradient", { node: node.id, input, output }),
    [pass, node.id, output, input],
  );
  if (!asked.answer) return html`<${Waiting} asked=${asked} what="…" />`;
  return html`<${Flipped} answer=${asked.answer} node=${node} output=${output} input=${input} />`;
}

function Flipped({ answer, node, output, input }) {
  const { stuffed, flipped, part, downstream, outputs } = answer;
  const { dilation, stride } = node.convolution;
  const [height, width] = [part.length, part[0].length];
  const { place, move, keys } = usePlace(height, width, largestPlace(part));
  const [y, x] = place;
  const met = flipped.map((row, a) => row.map((_, b) => stuffed[y + a * dilation[0]]?.[x + b * dilation[1]] ?? 0));
  const products = met.map((row, a) => row.map((one, b) => one * flipped[a][b]));
  const box = {
    top: y,
    left: x,
    height: (flipped.length - 1) * dilation[0] + 1,
    width: (flipped[0].length - 1) * dilation[1] + 1,
  };
  const limit = Math.max(largestSize(downstream), largestSize(part), 1e-30);
  const stuffing = stride.some((one) => one > 1)
    ? `stuffed with ${stride.map((one) => one - 1).join(" and ")} zeros between its numbers and `
    : "";
  return html`<div class="sliding" data-place=${place.join()}>
    <p class="sentence">
      The filter is turned by 180° and slides over the upstream gradient of output ${output}, ${stuffing}padded with zeros. What
      all ${outputs.length} filters pass back is summed.
    </p>
    <${Padded}
      tensor=${stuffed}
      padding=${[0, 0]}
      box=${box}
      dilation=${dilation}
      title=${`upstream of output ${output}, ${stuffing ? "stuffed and " : ""}padded`}
      name="stuffed and padded upstream gradient"
    />
    <${Padded}
      tensor=${part}
      padding=${[0, 0]}
      box=${{ top: y, left: x, height: 1, width: 1 }}
      title=${`part of output ${output}: move here`}
      name=${`part of output ${output}: arrow keys move`}
      limit=${limit}
      onMove=${move}
      onKeyDown=${keys}
    />
    <${Padded}
      tensor=${downstream}
      padding=${[0, 0]}
      box=${{ top: y, left: x, height: 1, width: 1 }}
      title="downstream: all outputs"
      name="downstream gradient"
      limit=${limit}
      onMove=${move}
      onKeyDown=${keys}
    />
    <div class="equation">
      <${Matrix} rows=${met} title="upstream there" name="upstream there" />
      <span class="sign">×</span>
      <${Matrix} rows=${flipped} title="flipped filter" name="flipped filter" />
      <span class="sign">=</span>
      <${Matrix} rows=${products} title="products" name="products" />
    </div>
    <p class="sentence" aria-live="polite">
      At row ${y}, column ${x} the products add up to <b data-sum=${exact(total(products))}>${brief(total(products), 4)}</b>;
      over all ${outputs.length} filters the downstream gradient is
      <b class="result" data-value=${exact(downstream[y][x])}>${brief(downstream[y][x], 5)}</b>.
    </p>
  </div>`;
}
