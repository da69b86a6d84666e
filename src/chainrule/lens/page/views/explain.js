/** Any expression, explained forwards and backwards, with its inputs as sliders and steps of gradient descent. */

import { EXAMPLES, after, dataAmong, isFinite, networkOf, told, toldInside, useDescent } from "../expression.js";
import { html, useEffect, useMemo, useRef, useState } from "../html.js";
import { brief } from "../numbers.js";
import { Chart } from "../parts/chart.js";
import { ExpressionGraph, SIZES } from "../parts/expression_graph.js";
import { Backwards, Forwards } from "../parts/expression_steps.js";
import { Derivative, Name } from "../parts/formula.js";
import { NumberField } from "../parts/number_field.js";
import { useQuery } from "../parts/query.js";
import { Numbers } from "../parts/table.js";

const PLAY = 1300; // milliseconds for a step
const MOST_STEPS = 200; // of gradient descent
const MOST_SLIDERS = 12; // of one name

export function ExplainView() {
  const [query, change] = useQuery();
  const first = EXAMPLES[0];
  const text = query.text ?? first.text;
  const values = valuesOf(query.values) ?? (query.text === undefined ? first.values : {});
  const rate = Number.isFinite(Number(query.rate ?? NaN)) ? Number(query.rate) : query.text === undefined ? first.rate : 0.1;
  const steps = Math.min(Math.max(Math.round(Number(query.steps)) || 0, 0), MOST_STEPS);
  const named = useMemo(() => namesLike(text), [text]);
  const fixed = query.fixed === undefined ? dataAmong(named) : query.fixed.split(",").filter(Boolean);
  const { answers, trouble } = useDescent({ text, values, rate, fixed, steps });
  const state = { text, values: query.values ?? JSON.stringify(values), rate };
  const set = (changes) => change({ ...state, ...changes });
  const now = answers.at(-1);
  // A slider shows what it was moved to, before Python has answered.
  const shown =
    now && (steps ? now.values : Object.fromEntries(now.names.map((name) => [name, values[name] ?? now.values[name]])));
  return html`
    <${Typed}
      text=${text}
      trouble=${trouble}
      set=${(typed) => set({ text: typed, steps: undefined, at: undefined, fixed: undefined })}
      choose=${(example) => change({ ...asQuery(example), steps: undefined, at: undefined, fixed: undefined })}
    />
    ${
      now &&
      html`<div class=${`explained ${trouble ? "stale" : ""}`} data-steps=${answers.length - 1} data-error=${now.error}>
        <${Walk} answer=${now} at=${query.at} go=${(at) => change({ at })}><${Errors} answers=${answers} /><//>
        <div class="beside">
          <${Inputs}
            answer=${now}
            values=${shown}
            fixed=${fixed}
            set=${(name, value) => set({ values: JSON.stringify({ ...shown, [name]: value }), steps: undefined })}
            fix=${(names) => set({ fixed: names.join(","), values: JSON.stringify(shown), steps: undefined })}
          />
          <${Descent} answers=${answers} rate=${rate} fixed=${fixed} set=${set} steps=${steps} />
        </div>
      </div>`
    }
  `;
}

const asQuery = ({ text, values, rate }) => ({ text, values: JSON.stringify(values), rate });

function valuesOf(text) {
  try {
    const found = JSON.parse(text);
    return found && typeof found === "object" && !Array.isArray(found) ? found : null;
  } catch {
    return null;
  }
}

/** Names in a text, as far as that can be seen before Python has read it: those that are called are functions. */
const namesLike = (text) => [...new Set([...text.matchAll(/[\p{L}_][\p{L}\d_]*(?!\s*\(|[\p{L}\d_])/gu)].map(([name]) => name))];

// ---- the expression

function Typed({ text, trouble, set, choose }) {
  const isExample = EXAMPLES.findIndex((one) => one.text === text);
  return html`<div class="typed">
    <div class="bar">
      <label class="expression-field"
        ><span class="formula" aria-hidden="true">e =</span>
        <input
          type="text"
          aria-label="Expression of the error e"
          aria-invalid=${trouble ? "true" : null}
          aria-describedby="misread"
          spellcheck="false"
          autocomplete="off"
          autocapitalize="off"
          value=${text}
          onInput=${(event) => set(event.target.value)}
        />
      </label>
      <label class="examples"
        >Examples
        <select value=${isExample} onChange=${(event) => choose(EXAMPLES[event.target.value])}>
          ${isExample < 0 && html`<option value="-1">your own</option>`}
          ${EXAMPLES.map((one, i) => html`<option value=${i}>${one.title}</option>`)}
        </select>
      </label>
    </div>
    <div id="misread" role="status">${trouble && html`<${Misread} text=${text} trouble=${trouble} />`}</div>
    ${!trouble && html`<p class="says">Known are numbers, names, + − * / ** @, ( ), indices, and functions such as max(a, b), relu, exp, log, sigmoid, tanh, sum. A name is a number or a list.</p>`}
  </div>`;
}

/** What is wrong, under the text with the place marked. */
function Misread({ text, trouble }) {
  if (!text.trim())
    return html`<p class="hint">Type an expression, such as <code>(w*x − y)**2</code>, or choose an example.</p>`;
  const { place } = trouble;
  const message = trouble.message.replace(/^(expression|explain)(, column \d+)?: /, "");
  return html`<div class="misread trouble">
    ${
      place !== null &&
      place !== undefined &&
      html`<code class="place" data-place=${place}
        >${text.slice(0, place)}<mark>${text.slice(place, place + 1) || " "}</mark>${text.slice(place + 1)}</code
      >`
    }
    <p><strong>${message.charAt(0).toUpperCase() + message.slice(1)}</strong> ${trouble.hint}</p>
  </div>`;
}

// ---- the graph, forwards and backwards

function Walk({ answer, at, go, children }) {
  const network = useMemo(() => networkOf(answer, SIZES), [answer]);
  const { forwards, backwards } = network;
  const last = forwards.length + backwards.length;
  const position = at === undefined ? last : Math.min(Math.max(Math.round(Number(at)) || 0, 0), last);
  const [playing, setPlaying] = useState(false);
  const move = (to) => go(Math.min(Math.max(to, 0), last));
  useEffect(() => {
    if (!playing) return undefined;
    if (position === last) {
      setPlaying(false);
      return undefined;
    }
    const timer = setTimeout(() => move(position + 1), PLAY);
    return () => clearTimeout(timer);
  }, [playing, position]);
  useEffect(() => {
    const pressed = (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, select, dialog, .plot")) return;
      const to = { ArrowRight: position + 1, ArrowLeft: position - 1, Home: 0, End: last }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      move(to);
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, [position, last]);
  const place = new Map(backwards.map((node, i) => [node.id, forwards.length + i]));
  const order = new Map(forwards.map((node, i) => [node.id, i]));
  const reached = (id) => {
    const { users } = network.byId.get(id);
    const back = id === network.error ? forwards.length : Math.max(...users.map((user) => place.get(user) ?? -1));
    return {
      value: (order.get(id) ?? -1) < position,
      gradient: network.byId.get(id).upstream !== null && position > back && position > forwards.length,
      passed: position > (place.get(id) ?? Infinity),
    };
  };
  const isBack = position > forwards.length;
  const node = position === 0 ? null : isBack ? backwards[position - forwards.length - 1] : forwards[position - 1];
  const play = () => {
    if (!playing && position === last) move(0);
    setPlaying(!playing);
  };
  return html`<section class="walk" aria-label="The graph, step by step" data-at=${position}>
    <${ExpressionGraph}
      network=${network}
      reached=${reached}
      current=${node?.id ?? null}
      backwards=${isBack}
      choose=${(id) => move((isBack ? (place.get(id) ?? 0) : order.get(id)) + 1)}
    />
    <div class="bar stepping">
      <span class="choice" role="group" aria-label="Steps">
        <button aria-label="First step" title="First (Home)" disabled=${position === 0} onClick=${() => move(0)}>|◀</button>
        <button aria-label="Back" title="Back (←)" disabled=${position === 0} onClick=${() => move(position - 1)}>◀</button>
        <button aria-label=${playing ? "Pause" : "Play"} onClick=${play}>${playing ? "❚❚" : "Play"}</button>
        <button aria-label="Forward" title="Forward (→)" disabled=${position === last} onClick=${() => move(position + 1)}>
          ▶
        </button>
        <button aria-label="Last step" title="Last (End)" disabled=${position === last} onClick=${() => move(last)}>▶|</button>
      </span>
      <input
        type="range"
        aria-label="Step"
        aria-valuetext=${node ? `${isBack ? "backwards" : "forwards"}: ${node.name}` : "the inputs"}
        min="0"
        max=${last}
        value=${position}
        onInput=${(event) => move(Number(event.target.value))}
      />
      <span class="hint" role="status"
        >${node ? html`${isBack ? "backwards" : "forwards"}, step ${position} of ${last}` : "the inputs"}</span
      >
      <${Numbers} title="All nodes" rows=${() => tableOf(network)} />
    </div>
    <div class="below">
      <div class="step-said" aria-live="polite">
        ${
          !node
            ? html`<p class="written">
                The inputs:
                ${network.nodes.filter((one) => !one.formula).map((one, i) => html`${i > 0 && ", "}<${Name} name=${one.name} /> = <span class="number">${told(one.value)}</span>`)}
              </p>`
            : isBack
              ? html`<${Backwards} network=${network} node=${node} />`
              : html`<${Forwards} network=${network} node=${node} />`
        }
      </div>
      ${children}
    </div>
  </section>`;
}

function tableOf(network) {
  const name = (id) => network.byId.get(id).name;
  const lines = network.nodes.flatMap((node) => {
    const facts = [
      node.name,
      node.formula,
      node.role,
      told(node.value, 7),
      node.upstream === null ? "–" : told(node.upstream, 7),
    ];
    if (!node.edges.length) return [[...facts, "", "", ""]];
    return node.edges.map((edge) => [...facts, name(edge.input), told(edge.local, 7), told(edge.downstream, 7)]);
  });
  return { heads: ["node", "formula", "role", "value", "upstream", "input", "local", "downstream"], lines };
}

// ---- inputs

function Inputs({ answer, values, fixed, set, fix }) {
  return html`<section aria-label="Inputs">
    <h2>Inputs</h2>
    <table class="inputs">
      <thead>
        <tr>
          <th scope="col">name</th>
          <th scope="col">value</th>
          <th scope="col">gradient</th>
          <th scope="col">trained</th>
        </tr>
      </thead>
      ${answer.names.map(
        (name) =>
          html`<${Input}
            key=${name}
            name=${name}
            value=${values[name]}
            gradient=${answer.gradients[name]}
            isFixed=${fixed.includes(name)}
            set=${(value) => set(name, value)}
            fix=${(on) => fix(on ? [...fixed, name] : fixed.filter((one) => one !== name))}
          />`,
      )}
    </table>
  </section>`;
}

function Input({ name, value, gradient, isFixed, set, fix }) {
  const cells = placesOf(value);
  const [typed, setTyped] = useState(null);
  const type = (text) => {
    const read = valueOf(text);
    setTyped(read === null ? text : null);
    if (read !== null) set(read);
  };
  return html`<tbody data-input=${name}>
    <tr>
      <th scope="row"><${Name} name=${name} /></th>
      <td>
        <input
          type="text"
          class="value"
          inputmode="decimal"
          aria-label=${`Value of ${name}`}
          aria-invalid=${typed !== null ? "true" : null}
          value=${typed ?? written(value)}
          onChange=${(event) => type(event.target.value)}
        />
      </td>
      <td class="number" data-gradient=${JSON.stringify(gradient ?? null)}>
        ${gradient === undefined || gradient === null ? "–" : told(gradient, 4)}
      </td>
      <td>
        <input
          type="checkbox"
          aria-label=${`${name} is trained`}
          checked=${!isFixed}
          onChange=${(event) => fix(!event.target.checked)}
        />
      </td>
    </tr>
    ${
      typed !== null &&
      html`<tr>
        <td colspan="4" class="bad">A value is a number or a list of numbers, such as 1.5 or [1, 2].</td>
      </tr>`
    }
    ${cells.length <= MOST_SLIDERS && cells.map((place) => html`<${Slider} key=${place.join()} name=${name} place=${place} value=${at(value, place)} set=${(one) => set(replaced(value, place, one))} />`)}
  </tbody>`;
}

function Slider({ name, place, value, set }) {
  const reach = useRef(null); // it stays as long as it can, or it would run away from a hand that drags it
  if (reach.current === null || Math.abs(value ?? 0) > reach.current) reach.current = reachOf(value);
  const label = place.length ? `${name} [${place.join(", ")}]` : name;
  return html`<tr class="slider">
    <td class="hint">${place.length ? `[${place.join(", ")}]` : ""}</td>
    <td colspan="3">
      <input
        type="range"
        aria-label=${`Slider of ${label}`}
        min=${-reach.current}
        max=${reach.current}
        step=${reach.current / 100}
        value=${value}
        onInput=${(event) => set(Number(event.target.value))}
      />
    </td>
  </tr>`;
}

/** How far a slider goes, so that a value has room on both sides. */
const reachOf = (value) => [5, 10, 20, 50, 100, 1000, 1e6].find((one) => Math.abs(value ?? 0) < one) ?? 1e300;

const written = (value) =>
  Array.isArray(value) ? `[${value.map(written).join(", ")}]` : String(Number(Number(value).toPrecision(7)));

/** What is typed as a value: a number or a list; null if it is neither. */
function valueOf(text) {
  try {
    const found = JSON.parse(
      text
        .replaceAll("−", "-")
        .replace(/(^|[[,\s-])\.(\d)/g, "$10.$2")
        .replace(/(\d)\.(?!\d)/g, "$1.0"),
    );
    return [found].flat(8).every((one) => typeof one === "number") && [found].flat(8).length ? found : null;
  } catch {
    return null;
  }
}

const placesOf = (value) =>
  Array.isArray(value) ? value.flatMap((one, i) => placesOf(one).map((rest) => [i, ...rest])) : [[]];

const at = (value, place) => place.reduce((one, i) => one[i], value);

const replaced = (value, [first, ...rest], by) =>
  first === undefined ? by : value.map((one, i) => (i === first ? replaced(one, rest, by) : one));

// ---- gradient descent

function Descent({ answers, rate, fixed, set, steps }) {
  const now = answers.at(-1);
  const trained = now.names.filter(
    (name) => !fixed.includes(name) && now.gradients[name] !== undefined && now.gradients[name] !== null,
  );
  const next = after(now, fixed);
  const canStep = trained.length > 0 && Object.values(next).every(isFinite) && steps < MOST_STEPS;
  const e = html`<var>e</var>`;
  return html`<section class="descent" aria-label="Gradient descent">
    <h2>A step of gradient descent</h2>
    <div class="bar">
      <label class="formula"
        >η
        <${NumberField}
          label="Learning rate"
          min="0"
          step="any"
          value=${rate}
          choose=${(text) => set({ rate: Number(text), values: JSON.stringify(now.values), steps: undefined })}
        />
      </label>
      <button class="main" disabled=${!canStep} onClick=${() => set({ steps: steps + 1 })}>Step</button>
      <button disabled=${!canStep} onClick=${() => set({ steps: Math.min(steps + 10, MOST_STEPS) })}>10 steps</button>
      <button disabled=${steps === 0} onClick=${() => set({ steps: undefined })}>Back to the start</button>
    </div>
    ${trained.map(
      (name) =>
        html`<p class="written update" data-update=${name} data-next=${JSON.stringify(next[name])}>
          <${Name} name=${name} /> ← <${Name} name=${name} /> − η <${Derivative} of="e" by=${name} /> =
          <span class="number">${told(now.values[name])}</span> − <span class="number">${brief(rate)}</span> ·
          <span class="number">${toldInside(now.gradients[name])}</span> = <b class="number">${told(next[name])}</b>
        </p>`,
    )}
    ${!trained.length && html`<p class="hint">Nothing is trained: tick a name above.</p>`}
    ${trained.length > 0 && trained.every((name) => [now.gradients[name]].flat(8).every((one) => one === 0)) && html`<p class="warning">The gradient is 0, so no step changes anything${now.error > 0 ? html`: if a max chose its 0, that is a dead ReLU, and nothing moves it from here` : ""}.</p>`}
    ${!Object.values(next).every(isFinite) && html`<p class="warning">The next values would not be finite: take a smaller learning rate.</p>`}
    <p>
      After ${steps === 1 ? "1 step" : `${steps} steps`} ${e} =
      <b class="number" data-error-now=${now.error}>${brief(now.error, 5)}</b>
    </p>
  </section>`;
}

/** The error along the way. */
function Errors({ answers }) {
  const series = useMemo(
    () => [{ label: "e", colour: "--accent", values: answers.map((one) => one.error), points: answers.length < 2 }],
    [answers],
  );
  const count = useMemo(() => answers.map((_, i) => i), [answers]);
  return html`<${Chart} key=${answers.length < 2} title="Error over steps" steps=${count} series=${series} />`;
}
