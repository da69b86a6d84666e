/** Units that were 0 for all images of an epoch: no gradient comes through them, so they never learn again. */

import { grouped } from "../numbers.js";
import { link } from "../router.js";
import { html, useEffect, useRef } from "../html.js";
import { layerName } from "../words.js";
import { useRoving } from "./roving.js";
import { Numbers } from "./table.js";

/** The units as they were counted last, or, with `step`, when the last epoch ended that was over by then. */
export function DeadUnits({ units, step = Infinity }) {
  const roving = useRoving();
  if (!units.length) return null;
  const taken = units[0].censuses.filter((one) => one.epoch > 0);
  const last = taken.findLast((one) => one.step <= step);
  if (!last && step === Infinity) return null;
  if (!last)
    return html`<figure class="dead-units">
      <h2>Dead units</h2>
      <p class="says">
        ${taken.length ? `Units are counted after each epoch, for the first time after step ${grouped(taken[0].step)}.` : "No epoch has ended yet: units are counted after each."}
      </p>
    </figure>`;
  const layers = units.map((unit) => ({ ...unit, ...censusOf(unit, last.step) }));
  const linked = layers.filter((one) => one.node !== null);
  const when = step === Infinity ? "the last epoch" : `epoch ${grouped(last.epoch)}, which ended with step ${grouped(last.step)}`;
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
      ${count ? `${grouped(count)} of ${grouped(all)} channels were 0 for every image of ${when}: a dead unit passes no gradient and never learns again.` : `None: each of ${grouped(all)} channels was above 0 for some image of ${when}.`}
    </p>
    <div class="strips" onKeyDown=${roving.onKeyDown}>
      ${layers.map(
        (one) =>
          html`<span class="strip-label"
              >${one.node === null ? layerName(one.op, one.path) : html`<a href=${link("node", one.node)} tabindex=${roving.tabindex(linked.indexOf(one))}>${layerName(one.op, one.path)}</a>`}</span
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

/** The census of a layer's units after a step, and which channels it found dead: not above 0 since the census before. */
function censusOf({ censuses }, step) {
  const at = censuses.findIndex((one) => one.step === step);
  const last = censuses[at];
  const begin = censuses[at - 1]?.step ?? 0;
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
