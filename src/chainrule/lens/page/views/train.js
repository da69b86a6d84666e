/** The training: loss and accuracy, how gradients flow through the layers, how fast weights change, and which units are dead. */

import { brief, grouped, percent } from "../numbers.js";
import { Chart } from "../parts/chart.js";
import { HeatMap } from "../parts/heat_map.js";
import { Numbers } from "../parts/table.js";
import { adjust, go, link, useRoute } from "../router.js";
import { useStore } from "../store.js";
import { html, useEffect, useMemo, useRef } from "../html.js";

const RECENT = 200; // records

export function TrainView() {
  const all = useStore((state) => state.rows);
  const rows = useMemo(() => byStep(all), [all]);
  const health = useStore((state) => state.health);
  const note = useStore((state) => state.note);
  const live = useStore((state) => state.live);
  const column = (name) => rows.map((row) => row[name] ?? null);
  const { steps, loss, accuracy } = useMemo(() => {
    const losses = [
      { label: "training", colour: "--accent", values: column("loss") },
      { label: "test", colour: "--warm", values: column("test_loss"), points: true },
    ];
    const accuracies = [
      { label: "training", colour: "--accent", values: column("accuracy") },
      { label: "test", colour: "--warm", values: column("test_accuracy"), points: true },
    ];
    return { steps: column("step"), loss: losses, accuracy: accuracies };
  }, [rows]);
  if (!rows.length)
    return html`<p class="waiting" role="status">
      ${live ? "No step is recorded yet: the curves begin in a moment." : "This run has no history."}
    </p>`;
  return html`
    <div class="charts">
      <${Chart} title="Loss" steps=${steps} series=${loss} />
      ${accuracy.some((one) => one.values.some((value) => value !== null)) && html`<${Chart} title="Accuracy" steps=${steps} series=${accuracy} format=${(share) => (share === null ? "–" : percent(share))} />`}
    </div>
    ${health ? html`<${Health} health=${health} />` : html`<p class="hint">${note ?? "No gradients were recorded: chainrule train records them unless it is told not to."}</p>`}
  `;
}

function Health({ health }) {
  const { query } = useRoute();
  const all = query.range === "all" || health.steps.length <= RECENT;
  const from = all ? 0 : health.steps.length - RECENT;
  const recent = useMemo(() => cut(health, from), [health, from]);
  const ratio = useMemo(
    () => recent.update.map((record, i) => record.map((one, k) => quotient(one, recent.weight[i][k]))),
    [recent],
  );
  const open = (row) => row.node !== null && go("node", row.node);
  const layers = health.layers.map(({ path, op, node }) => ({ label: named(op, path), node }));
  const parameters = health.parameters.map(({ name, node }) => ({ label: name, node }));
  const choice = html`<span class="choice" role="group" aria-label="Range of steps">
    <button
      aria-pressed=${String(!all)}
      disabled=${health.steps.length <= RECENT}
      onClick=${() => adjust({ range: undefined })}
    >
      recent
    </button>
    <button aria-pressed=${String(all)} onClick=${() => adjust({ range: "all" })}>all</button>
  </span>`;
  return html`
    <${HeatMap}
      title="Gradient flow"
      says=${flowSaid(recent, layers)}
      steps=${recent.steps}
      values=${recent.gradient}
      rows=${layers}
      onPick=${open}
      >${choice}<//
    >
    <div class="charts">
      <${HeatMap}
        title="Update per weight"
        says="How much a step changes the weights, as a share of their size: about 10⁻³ is usual."
        steps=${recent.steps}
        values=${ratio}
        rows=${parameters}
        onPick=${open}
      />
      <${DeadUnits} units=${health.units} />
    </div>
  `;
}

/** One row for each step: an evaluation comes at the step of the batch before it. */
function byStep(rows) {
  const merged = [];
  for (const row of rows) {
    const known = Object.entries(row).filter(([, value]) => value !== null);
    if (merged.at(-1)?.step === row.step) merged.push({ ...merged.pop(), ...Object.fromEntries(known) });
    else merged.push(row);
  }
  return merged;
}

/** A layer as it is called here: a number alone, as in a Sequential, says little. */
const named = (op, path) => (/^\d+$/.test(path) ? `${op} ${path}` : path || op);

const quotient = (one, other) => (one === null || other === null ? null : other === 0 ? 0 : one / other);

function cut(health, from) {
  const names = ["steps", "gradient", "update", "weight"];
  return Object.fromEntries(names.map((name) => [name, health[name].slice(from)]));
}

/** What the last record says: how much of the gradient at the end gets to the beginning. */
function flowSaid({ gradient }, layers) {
  const last = gradient.at(-1);
  if (!last || layers.length < 2) return "";
  if (last.some((one) => one === null)) return "The gradient is not finite.";
  const [first, end] = [last[0], last.at(-1)];
  if (!(end > 0)) return "No gradient arrives.";
  if (!(first > 0)) return `No gradient arrives at ${layers[0].label}.`;
  const share = first / end;
  const times = share < 1 ? `1/${brief(1 / share, 2)} of` : `${brief(share, 2)} times`;
  return `The gradient flows from the last layer (${layers.at(-1).label}, below) to the first (${layers[0].label}, above), which gets ${times} what the last one gets.`;
}

/** Channels that were 0 for all images of the last epoch: no gradient comes through them, so they never learn again. */
function DeadUnits({ units }) {
  if (!units.length) return null;
  const layers = units.map((unit) => ({ ...unit, ...censusOf(unit) }));
  const count = layers.reduce((sum, one) => sum + one.dead.length, 0);
  const all = layers.reduce((sum, one) => sum + one.channels, 0);
  return html`<figure class="dead-units">
    <figcaption>
      <h2>Dead units</h2>
      <${Numbers}
        title="Dead units"
        rows=${() => ({ heads: ["layer", "channels", "dead", "last step above 0 of each dead channel"], lines: layers.map((one) => [one.path, one.channels, one.dead.length, one.dead.map((k) => `${k}: ${one.alive[k] ?? "never"}`).join("; ")]) })}
      />
    </figcaption>
    <p class="says">
      ${count ? `${grouped(count)} of ${grouped(all)} channels were 0 for every image of the last epoch: a dead unit passes no gradient and never learns again.` : `None: each of ${grouped(all)} channels was above 0 for some image of the last epoch.`}
    </p>
    <div class="strips">
      ${layers.map(
        (one) =>
          html`<span class="strip-label"
              >${one.node === null ? named(one.op, one.path) : html`<a href=${link("node", one.node)}>${named(one.op, one.path)}</a>`}</span
            >
            <${Strip} layer=${one} />
            <span class=${one.dead.length ? "strip-count bad" : "strip-count"}
              >${one.dead.length ? `${one.dead.length} of ${one.channels}` : "0"}</span
            >`,
      )}
    </div>
    <p class="under"><span class="swatch alive"></span> above 0 for some image <span class="swatch dead"></span> dead</p>
  </figure>`;
}

/** The last census of a layer's units, and which channels it found dead: none was above 0 since the census before. */
function censusOf({ censuses }) {
  const last = censuses.at(-1);
  if (!last) return { alive: [], dead: [] };
  const begin = censuses.at(-2)?.step ?? 0;
  const dead = last.alive.flatMap((step, channel) => (step === null || step <= begin ? [channel] : []));
  return { alive: last.alive, dead };
}

function Strip({ layer }) {
  const canvas = useRef(null);
  useEffect(() => {
    const context = canvas.current.getContext("2d");
    const style = getComputedStyle(canvas.current);
    const dead = new Set(layer.dead);
    for (let channel = 0; channel < layer.channels; channel++) {
      context.fillStyle = dead.has(channel) ? style.outlineColor : style.color;
      context.fillRect(channel, 0, 1, 1);
    }
  });
  const said = layer.dead.length
    ? `dead channels of ${layer.path}: ${layer.dead.join(", ")}`
    : `no dead channel in ${layer.path}`;
  return html`<canvas
    ref=${canvas}
    class="strip"
    width=${layer.channels}
    height="1"
    role="img"
    aria-label=${said}
    title=${said}
  />`;
}
