/** The training: loss and accuracy, how gradients flow through the layers, how fast weights change, and which units are dead. */

import { brief, percent } from "../numbers.js";
import { Chart } from "../parts/chart.js";
import { DeadUnits } from "../parts/dead_units.js";
import { HeatMap } from "../parts/heat_map.js";
import { adjust, go, useRoute } from "../router.js";
import { useStore } from "../store.js";
import { html, useMemo } from "../html.js";
import { layerName } from "../words.js";

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
  const layers = health.layers.map(({ path, op, node }) => ({ label: layerName(op, path), node }));
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
  const times = share < 0.01 ? `1/${brief(1 / share, 2)} of` : share < 1 ? `${percent(share, 0)} of` : `${brief(share, 2)} times`;
  return `The gradient flows from the last layer (${layers.at(-1).label}, below) to the first (${layers[0].label}, above), which gets ${times} what the last one gets.`;
}
