/** Steps that one goes through: first, back, play, forward, last, a slider and the arrow keys. */

import { html, useEffect, useState } from "../html.js";

/**
 * Of steps 0 to `last` the one `at` is shown; `now()` says which that is at this moment, `go(step)` goes to another, and playing
 * waits `pause` milliseconds at each. `label` names the slider, `says` the step in words, and what is inside stands behind it.
 */
export function Stepper({ at, last, now, go, pause, label, says, children }) {
  const [playing, setPlaying] = useState(false);
  const to = (step) => go(Math.min(Math.max(step, 0), last));
  useEffect(() => {
    const pressed = (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      if (event.target.closest("input[type=number], select, dialog, .raster")) return;
      const step = { ArrowRight: now() + 1, ArrowLeft: now() - 1, Home: 0, End: last }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      to(step);
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
    const timer = setTimeout(() => to(at + 1), pause);
    return () => clearTimeout(timer);
  }, [playing, at]);
  const play = () => {
    if (!playing && at === last) to(0);
    setPlaying(!playing);
  };
  return html`<div class="bar stepping">
    <span class="choice" role="group" aria-label="Steps">
      <button aria-label="First step" title="First (Home)" disabled=${at === 0} onClick=${() => to(0)}>|◀</button>
      <button aria-label="Back" title="Back (←)" disabled=${at === 0} onClick=${() => to(at - 1)}>◀</button>
      <button aria-label=${playing ? "Pause" : "Play"} title="Play" onClick=${play}>${playing ? "❚❚" : "Play"}</button>
      <button aria-label="Forward" title="Forward (→)" disabled=${at === last} onClick=${() => to(at + 1)}>▶</button>
      <button aria-label="Last step" title="Last (End)" disabled=${at === last} onClick=${() => to(last)}>▶|</button>
    </span>
    <input
      type="range"
      aria-label=${label}
      aria-valuetext=${says}
      min="1"
      max=${last + 1}
      value=${at + 1}
      onInput=${(event) => to(Number(event.target.value) - 1)}
    />
    ${children}
  </div>`;
}
