/** The image that goes through the network: its number, its class, and what the network takes it for. */

import { tensor } from "../api.js";
import { percent } from "../numbers.js";
import { imageOf, isNumbered, pixelsOf, usePass } from "../passes.js";
import { adjust, here, useRoute } from "../router.js";
import { useStore } from "../store.js";
import { html, useEffect } from "../html.js";
import { useAsked } from "./asked.js";
import { NumberField } from "./number_field.js";
import { Raster } from "./raster.js";

export function Sample() {
  const name = imageOf(useRoute().query);
  const { answer: pass } = usePass();
  return isNumbered(name)
    ? html`<${Numbered} index=${Number(name)} pass=${pass} />`
    : html`<${Own} name=${name} pass=${pass} />`;
}

/** A drawing, or a file of one's own. */
function Own({ name, pass }) {
  const meta = useStore((state) => state.meta);
  const { answer: image } = useAsked(() => (pass ? pixelsOf(pass) : null), [pass]);
  const what = name.startsWith("drawn") ? "your drawing" : "your image";
  return html`<div class="sample" role="group" aria-label="Image">
    ${image && html`<${Raster} tensor=${image} scale="image" height=${34} width=${60} label=${what} plain />`}
    <div>
      <span
        >${what}
        <button
          class="quiet"
          aria-label="Back to the test images"
          title="Back to the test images"
          onClick=${() => adjust({ image: undefined })}
        >
          ×
        </button></span
      >
      ${pass && html`<${Verdict} meta=${meta} pass=${pass} />`}
    </div>
  </div>`;
}

function Numbered({ index, pass }) {
  const meta = useStore((state) => state.meta);
  const count = meta.dataset?.count ?? 1;
  const { answer: image, trouble } = useAsked(() => tensor("/api/image", { index }), [index]);
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
        <${NumberField}
          label="Number of the image"
          min="0"
          max=${count - 1}
          value=${index}
          choose=${(text) => adjust({ image: Math.min(Math.max(Math.round(Number(text)) || 0, 0), count - 1) })}
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
      ${pass && html`<${Verdict} meta=${meta} pass=${pass} />`}
      ${trouble && html`<span class="verdict" role="alert">${trouble.message}</span>`}
    </div>
  </div>`;
}

/** The image's class, and what the network takes it for. */
function Verdict({ meta, pass }) {
  const best = pass.probabilities.indexOf(Math.max(...pass.probabilities));
  const right = pass.label === best;
  const probability = percent(pass.probabilities[best]);
  const notes = pass.notes?.length ? html`<span class="verdict">${pass.notes.join("; ")}</span>` : null;
  if (!pass.labelled) return html`<span class="verdict">taken for ${className(meta, best)}, ${probability}</span>${notes}`;
  return html`<span class="verdict"
      >${className(meta, pass.label)} <span class=${right ? "right" : "wrong"}
        >${right ? "✓" : `→ ${className(meta, best)}`} ${probability}</span
      ></span
    >${notes}`;
}

const imageNow = () => Number(imageOf(here().query));

export const className = (meta, label) => meta.classes?.[label] ?? String(label);
