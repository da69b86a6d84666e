/** The network as it was: filters, what it takes the image for, and its gradients and units at the steps that a run kept. */

import { get, post, tensor } from "../api.js";
import { html, useMemo } from "../html.js";
import { brief, grouped } from "../numbers.js";
import { Waiting, useAsked } from "../parts/asked.js";
import { DeadUnits } from "../parts/dead_units.js";
import { Picture } from "../parts/picture.js";
import { Probabilities } from "../parts/probabilities.js";
import { Stepper } from "../parts/stepper.js";
import { imageOf, posted } from "../passes.js";
import { adjust, here, useRoute } from "../router.js";
import { useStore } from "../store.js";
import { layerName } from "../words.js";

const PLAY = 700; // milliseconds for each step

export function TimeView() {
  const asked = useAsked(() => get("/api/time"), []);
  if (!asked.answer) return html`<${Waiting} asked=${asked} what="What is kept of earlier steps is on its way …" />`;
  const { steps, damaged } = asked.answer;
  const lost =
    damaged.length > 0 &&
    html`<p class="hint">What was kept after ${damaged.length > 1 ? "steps" : "step"} ${damaged.map(grouped).join(", ")} is damaged, and left out.</p>`;
  if (!steps.length) return html`${lost || html`<p class="hint">This run kept nothing of earlier steps.</p>`}`;
  return html`${lost} <${Time} kept=${asked.answer} />`;
}

function Time({ kept }) {
  const { query } = useRoute();
  const { steps, parameters, whole } = kept;
  const last = steps.length - 1;
  const placeOf = (step) => (steps.includes(Number(step)) ? steps.indexOf(Number(step)) : last);
  const at = placeOf(query.step);
  const parameter = parameters.includes(query.parameter) ? query.parameter : parameters[0];
  return html`
    <${Stepper}
      at=${at}
      last=${last}
      now=${() => placeOf(here().query.step)}
      go=${(to) => adjust({ step: steps[to] })}
      pause=${PLAY}
      label="Step of the training"
      says=${`after step ${steps[at]}, ${at + 1} of ${last + 1}`}
    >
      <span class="number hint" role="status" data-step=${steps[at]}>after step ${grouped(steps[at])}</span>
    <//>
    <div class="charts">
      <section>
        <h2>Weights</h2>
        <label
          >of${" "}
          <select value=${parameter} onChange=${(event) => adjust({ parameter: event.target.value })}>
            ${parameters.map((name) => html`<option value=${name}>${name}</option>`)}
          </select>
        </label>
        ${parameter && html`<${Weights} name=${parameter} step=${steps[at]} last=${steps[last]} />`}
      </section>
      <section>${whole && html`<${Outcome} step=${steps[at]} />`} <${Health} step=${steps[at]} /></section>
    </div>
  `;
}

/** A parameter as it was, on the scale of its last step, so that one sees it grow. */
function Weights({ name, step, last }) {
  const of = (when) => tensor("/api/time/filters", { step: when, name });
  const final = useAsked(() => of(last), [name, last]);
  const asked = useAsked(() => of(step), [name, step]);
  const limit = final.answer ? Math.max(Math.abs(final.answer.min), Math.abs(final.answer.max)) : undefined;
  if (!asked.answer) return html`<${Waiting} asked=${asked} what="…" />`;
  return html`<${Picture}
    tensor=${asked.answer}
    name=${`${name} after step ${step}`}
    limit=${limit || undefined}
    width=${Math.min(innerWidth - 60, 560)}
    height=${420}
  />`;
}

/** What the network took the image for. */
function Outcome({ step }) {
  const image = imageOf(useRoute().query);
  const asked = useAsked(() => post("/api/time/trace", { step, ...posted(image) }), [step, image]);
  if (!asked.answer) return html`<h2>This image</h2><${Waiting} asked=${asked} what="…" />`;
  const { probabilities, loss, label } = asked.answer;
  return html`<h2>This image</h2>
    <p>The loss was <b class="number" data-loss=${loss}>${brief(loss, 4)}</b>.</p>
    <${Probabilities} probabilities=${probabilities} label=${label} />`;
}

/** How much gradient arrived at each layer, at the sample that is nearest. */
function Health({ step }) {
  const health = useStore((state) => state.health);
  const nearest = useMemo(() => {
    if (!health?.steps.length) return null;
    const far = health.steps.map((one) => Math.abs(one - step));
    return far.indexOf(Math.min(...far));
  }, [health, step]);
  if (nearest === null) return null;
  const sizes = health.gradient[nearest];
  const most = Math.max(...health.gradient.flat().filter((one) => one !== null), 1e-30);
  const least = Math.min(...health.gradient.flat().filter((one) => one > 0), most);
  const length = (size) => (size > 0 ? 4 + (96 * Math.log(size / least)) / (Math.log(most / least) || 1) : 0);
  return html`<h2>Gradient that arrives</h2>
    <p class="hint">Its norm at step ${grouped(health.steps[nearest])}, from ${brief(least)} to ${brief(most)}, logarithmic.</p>
    <table class="bars">
      ${health.layers.map(
        ({ path, op }, i) =>
          html`<tr>
            <th scope="row">${layerName(op, path)}</th>
            <td class="track"><i style=${{ width: `${length(sizes[i])}%`, background: "var(--warm)" }} /></td>
            <td class="number">${sizes[i] === null ? "–" : brief(sizes[i])}</td>
          </tr>`,
      )}
    </table>
    <${DeadUnits} units=${health.units} step=${step} />`;
}
