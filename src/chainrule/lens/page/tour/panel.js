/**
 * The guided tour: the lecture's statements on the network that is looked at, a step at a time, beside the views. The address
 * has the step (`tour=relu`) and the answer that was given (`answer=1`), so a step, asked or answered, is a link.
 */

import { isExported } from "../api.js";
import { Waiting, useAsked } from "../parts/asked.js";
import { usePass } from "../passes.js";
import { adjust, go, here, useRoute } from "../router.js";
import { useStore } from "../store.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { Question } from "./question.js";
import { reveal } from "./pointing.js";
import { STEPS } from "./steps.js";
import { subjectOf } from "./subject.js";

const kept = new WeakMap(); // what steps say, by the pass that they speak of

/** What a step says of a pass; asked for once. */
function prepared(network, pass, step) {
  if (!kept.has(pass)) kept.set(pass, new Map());
  const known = kept.get(pass);
  if (!known.has(step.name)) {
    const asked = Promise.resolve(step.prepare(subjectOf(network, pass)));
    asked.catch(() => known.delete(step.name));
    known.set(step.name, asked);
  }
  return known.get(step.name);
}

let going = null; // the step that was asked for last, until it is shown: whoever presses a key twice goes two steps
let awaited = null; // the step that is to be shown as soon as there are a network and a pass

/** The step that the next or the last key starts from. */
const current = () => going ?? STEPS.find((one) => one.name === here().query.tour) ?? STEPS[0];

/** Goes to a step, to the place on the page that it speaks of, unless the address names another step by then. */
async function moveTo(network, pass, step) {
  let at = null;
  const { tour } = here().query;
  going = step;
  awaited = network && pass ? null : step.name;
  if (network && pass) {
    try {
      at = (await prepared(network, pass, step))?.at;
    } catch {
      // the panel says why
    }
  }
  if (going !== step) return;
  going = null;
  if (here().query.tour !== tour) return;
  if (at) show(at, step);
  else {
    adjust({ tour: step.name, answer: undefined });
    reveal(null);
  }
}

function show(at, step, answer) {
  go(at.view, at.id ?? null, { ...at.query, tour: step.name, answer });
  reveal(at.show);
}

const leave = () => {
  going = null;
  adjust({ tour: undefined, answer: undefined });
  reveal(null);
};

/** Begins and leaves the tour; in an exported file, which does not hold what the tour asks for, what is said instead. */
export function TourButton() {
  const { tour } = useRoute().query;
  const network = useStore((state) => state.graph);
  const { answer: pass } = usePass();
  const state = useRef({});
  state.current = { network, pass };
  const toggle = () => {
    if (here().query.tour) leave();
    else if (isExported) adjust({ tour: STEPS[0].name });
    else moveTo(state.current.network, state.current.pass, STEPS[0]);
  };
  useEffect(() => {
    const pressed = (event) => {
      if (event.key !== "t" || isForOthers(event)) return;
      event.preventDefault();
      toggle();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
  return html`<button
    aria-pressed=${String(Boolean(tour))}
    title="The lecture on this network, step by step (t)"
    onClick=${toggle}
  >
    Tour
  </button>`;
}

const isForOthers = (event) =>
  event.defaultPrevented ||
  event.ctrlKey ||
  event.metaKey ||
  event.altKey ||
  event.target.closest("input, select, textarea, dialog");

export function Tour() {
  const { tour } = useRoute().query;
  const step = STEPS.find((one) => one.name === tour);
  if (!tour) return null;
  return isExported ? html`<${HowToGetIt} />` : html`<${Panel} step=${step ?? STEPS[0]} />`;
}

/** The tour asks Python about the network as it goes, and a file has none. */
function HowToGetIt() {
  const kind = useStore((state) => state.meta.kind);
  return html`<aside class="tour" aria-label="Tour">
    <div class="tour-bar">
      <span class="hint">not in this file</span>
      <button class="quiet" title="Leave the tour (t)" onClick=${leave}>Leave</button>
    </div>
    <div class="tour-text">
      <h2>The lecture, step by step</h2>
      <p>The tour computes as it goes, and this file has no Python that would. It is in the page that Python shows, under Tour:</p>
      <p><code>${kind === "run" ? "chainrule lens RUN" : "chainrule lens"}</code></p>
      <p>
        ${
          kind === "run"
            ? "RUN is the folder of the run; without one it is a tour of the LeNet that ships with chainrule."
            : "It is a tour of the LeNet that ships with chainrule."
        }
      </p>
    </div>
  </aside>`;
}

function Panel({ step }) {
  const network = useStore((state) => state.graph);
  const passed = usePass();
  const pass = passed.answer;
  const asked = useAsked(() => (network && pass ? prepared(network, pass, step) : null), [network, pass, step]);
  const [folded, setFolded] = useState(false);
  const title = useRef(null);
  const at = STEPS.indexOf(step);
  const move = (to) => STEPS[to] && moveTo(network, pass, STEPS[to]);
  const moveBy = (steps) => move(STEPS.indexOf(current()) + steps);
  useEffect(() => {
    title.current?.focus({ preventScroll: true });
    if (title.current) title.current.parentElement.scrollTop = 0;
    if (network && pass && STEPS[at + 1]) prepared(network, pass, STEPS[at + 1]).catch(() => {});
  }, [step, pass]);
  useEffect(() => {
    const pressed = (event) => {
      if (isForOthers(event)) return;
      const steps = { n: 1, p: -1 }[event.key];
      if (steps === undefined) return;
      event.preventDefault();
      moveBy(steps);
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, [network, pass]);
  const ready = asked.busy ? null : asked.answer;
  useEffect(() => {
    if (ready && awaited === step.name) {
      awaited = null;
      if (ready.at) show(ready.at, step);
    }
  }, [ready]);
  return html`<aside class=${`tour ${folded ? "folded" : ""}`} aria-label="Tour" data-step=${step.name}>
    <div class="tour-bar">
      <span class="number hint">${at + 1} of ${STEPS.length}</span>
      <button class="quiet fold" aria-expanded=${String(!folded)} onClick=${() => setFolded(!folded)}>
        ${folded ? "Unfold" : "Fold"}
      </button>
      <button class="quiet" title="Leave the tour (t)" onClick=${leave}>Leave</button>
    </div>
    <ol class="tour-progress" aria-label="Steps of the tour">
      ${STEPS.map(
        (one, i) =>
          html`<li>
            <button
              class=${i < at ? "done" : ""}
              aria-current=${i === at ? "step" : null}
              aria-label=${`${i + 1}: ${one.title}`}
              title=${`${one.line} · ${one.title}`}
              onClick=${() => move(i)}
            />
          </li>`,
      )}
    </ol>
    <div class="tour-text">
      <p class="tour-line">${step.line}</p>
      <h2 ref=${title} tabindex="-1">${step.title}</h2>
      ${ready === null && !asked.answer && html`<${Waiting} asked=${passed.trouble ? passed : asked} what="Python looks for its place in this network …" />`}
      ${asked.trouble && asked.answer !== null && html`<${Waiting} asked=${asked} />`}
      ${ready && html`<${Said} key=${`${step.name} ${pass.image}`} step=${step} ready=${ready} />`}
    </div>
    <div class="tour-ways">
      <button disabled=${at === 0} title="The step before (p)" onClick=${() => moveBy(-1)}>◀ Back</button>
      ${ready?.at && html`<button class="quiet" title="Go to what this step speaks of" onClick=${() => show(ready.at, step, here().query.answer)}>Show it</button>`}
      ${
        at < STEPS.length - 1
          ? html`<button class="next" title="The next step (n)" onClick=${() => moveBy(1)}>Next ▶</button>`
          : html`<button class="next" title="Leave the tour (t)" onClick=${leave}>Finish</button>`
      }
    </div>
  </aside>`;
}

/** What a step says, or why it is left out. */
function Said({ step, ready }) {
  if (ready.absent && !ready.question) return html`<p class="absent">${ready.absent} This step is left out.</p>`;
  return html`
    ${ready.formula && html`<p class="formula tour-formula">${ready.formula}</p>`}
    ${ready.absent && html`<p class="absent">${ready.absent}</p>`}
    <p>${ready.says}</p>
    ${ready.table}
    <${Question} question=${ready.question} name=${step.name} />
  `;
}
