/** The image that goes through the network: its number, its class, and what the network takes it for. */

import { tensor } from "../api.js";
import { percent } from "../numbers.js";
import { imageOf, usePass } from "../passes.js";
import { adjust, here, useRoute } from "../router.js";
import { useStore } from "../store.js";
import { html, useEffect } from "../html.js";
import { useAsked } from "./asked.js";
import { Raster } from "./raster.js";

export function Sample() {
  const index = imageOf(useRoute().query);
  const meta = useStore((state) => state.meta);
  const count = meta.dataset?.count ?? 1;
  const { answer: image } = useAsked(() => tensor("/api/image", { index }), [index]);
  const { answer: pass } = usePass();
  const move = (by) => adjust({ image: Math.min(Math.max(imageNow() + by, 0), count - 1) });
  useEffect(() => {
    const pressed = (event) => {
      if (event.ctrlKey || event.metaKey || event.target.closest("input, select, textarea, dialog")) return;
      if (event.key === "[") move(-1);
      if (event.key === "]") move(1);
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
  const best = pass ? pass.probabilities.indexOf(Math.max(...pass.probabilities)) : null;
  const right = pass && pass.label === best;
  return html`<div class="sample" role="group" aria-label="Image">
    ${image && html`<${Raster} tensor=${image} scale="image" height=${34} width=${60} label=${`image ${index}`} plain />`}
    <div>
      <span class="stepper">
        <button
          class="quiet"
          aria-label="Image before"
          title="Image before ([)"
          disabled=${index <= 0}
          onClick=${() => move(-1)}
        >
          ‹
        </button>
        <input
          type="number"
          aria-label="Number of the image"
          min="0"
          max=${count - 1}
          value=${index}
          onChange=${(event) => adjust({ image: Math.min(Math.max(Math.round(Number(event.target.value)) || 0, 0), count - 1) })}
        />
        <button
          class="quiet"
          aria-label="Image after"
          title="Image after (])"
          disabled=${index >= count - 1}
          onClick=${() => move(1)}
        >
          ›
        </button>
      </span>
      ${
        pass &&
        html`<span class="verdict"
          >${pass.labelled && html`${className(meta, pass.label)} `}<span class=${right ? "right" : "wrong"}
            >${right ? "✓" : `→ ${className(meta, best)}`} ${percent(pass.probabilities[best])}</span
          ></span
        >`
      }
    </div>
  </div>`;
}

const imageNow = () => imageOf(here().query);

export const className = (meta, label) => meta.classes?.[label] ?? String(label);
