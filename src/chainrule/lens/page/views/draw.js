/** A drawing goes through the network while one draws: what it is taken for, and which pixels would make it another class. */

import { post, tensor } from "../api.js";
import { GREYS, blank, drawingOf, drawingOfValues, outlineOf, rowsOf, textOf } from "../drawing.js";
import { isZero } from "../draw/scales.js";
import { html, useRef, useState } from "../html.js";
import { brief, exact, percent } from "../numbers.js";
import { Trouble, Waiting, useAsked } from "../parts/asked.js";
import { Derivative } from "../parts/formula.js";
import { useLatest } from "../parts/latest.js";
import { Legend } from "../parts/legend.js";
import { Pad } from "../parts/pad.js";
import { Picture } from "../parts/picture.js";
import { useQuery } from "../parts/query.js";
import { Raster } from "../parts/raster.js";
import { className } from "../parts/sample.js";
import { Numbers, rowsOfTensor } from "../parts/table.js";
import { imageOf, imageOfFile, isNumbered, passOf, pixelsOf, tensorOf } from "../passes.js";
import { here, link } from "../router.js";
import { useStore } from "../store.js";

const MOST_CLASSES = 12;
const MOST_UNDONE = 100;
const FOLLOWED = 0.25; // by how much the pixel with the largest gradient changes

export function DrawView() {
  const meta = useStore((state) => state.meta);
  if (!meta.image)
    return html`<${Trouble}
      trouble=${{ message: "There is no model yet.", hint: "It is there when the first epoch is over." }}
    />`;
  return meta.can.draw ? html`<${Drawn} meta=${meta} />` : html`<${Chosen} meta=${meta} />`;
}

// ---- a drawing

function Drawn({ meta }) {
  const { height, width } = meta.image;
  const [query, change] = useQuery();
  const text = query.drawing ?? (query.image?.startsWith("drawn.") ? query.image.split(".")[1] : "");
  const drawing = drawingOf(text, height, width);
  const before = useRef([]);
  const [rubber, setRubber] = useState(false);
  const [notes, setNotes] = useState([]);
  const [trouble, setTrouble] = useState(null);
  const picked = classOf(query.class, meta);
  const isBlank = !drawing.some((one) => one > 0);
  const key = `${textOf(drawing)} ${picked}`;
  const asked = useLatest(key, { pixels: rowsOf(drawing, width), label: picked }, (wanted) => post("/api/draw", wanted));
  const draw = (changed) => change({ drawing: textOf(changed) });
  const begin = () => {
    before.current = [...before.current.slice(-MOST_UNDONE), text];
  };
  const undo = () => {
    if (before.current.length) change({ drawing: before.current.pop() });
  };
  const replace = (changed) => {
    begin();
    draw(changed);
  };
  const clear = () => {
    replace(blank(height, width));
    setNotes([]);
  };
  const take = async (ask) => {
    try {
      const { values, said } = await ask();
      setTrouble(null);
      setNotes(said);
      replace(drawingOfValues(values));
    } catch (problem) {
      setTrouble(problem);
    }
  };
  const number = isNumbered(imageOf(here().query)) ? Number(imageOf(here().query)) : 0;
  const dropped = (file) => take(() => drawingFromFile(file));
  const label = picked ?? (asked.answer ? best(asked.answer.probabilities) : null);
  const seen = `drawn.${textOf(drawing)}${picked === null ? "" : `.${picked}`}`;
  return html`
    <p class="says">
      Draw with the mouse, a finger, or the keyboard: arrow keys move the pen, <kbd>space</kbd> puts ink, <kbd>shift</kbd> with
      an arrow key draws a line, <kbd>u</kbd> takes back, <kbd>c</kbd> clears.
    </p>
    ${trouble && html`<${Trouble} trouble=${trouble} />`}
    <${Droppable} onFile=${dropped}>
      <section class="drawn" aria-label="The drawing">
        <${Pad}
          drawing=${drawing}
          height=${height}
          width=${width}
          rubber=${rubber}
          begin=${begin}
          draw=${draw}
          undo=${undo}
          clear=${clear}
        />
        <div class="bar">
          <span class="choice" role="group" aria-label="What the pen does">
            <button aria-pressed=${String(!rubber)} onClick=${() => setRubber(false)}>pen</button>
            <button aria-pressed=${String(rubber)} onClick=${() => setRubber(true)}>rubber</button>
          </span>
          <button disabled=${!before.current.length} onClick=${undo}>Undo</button>
          <button disabled=${isBlank} onClick=${clear}>Clear</button>
          ${meta.can.images && html`<button onClick=${() => take(() => testImage(number))}>Test image ${number}</button>`}
          <${FileButton} onFile=${dropped} />
        </div>
        ${notes.map((note) => html`<p class="hint">${note}</p>`)}
      </section>
      <section aria-label="What the network takes it for">
        <${Classes}
          meta=${meta}
          probabilities=${isBlank ? null : (asked.answer?.probabilities ?? null)}
          of=${asked.of}
          wanted=${key}
          picked=${picked}
          pick=${(one) => change({ class: one === picked ? undefined : one })}
        />
        <p><a class="onwards" href=${link("backward", null, { image: seen })}>See every node of this drawing →</a></p>
      </section>
      ${
        label !== null &&
        asked.answer &&
        !isBlank &&
        html`<${Towards}
          gradient=${asked.answer?.gradient}
          loss=${asked.answer?.loss}
          drawing=${drawing}
          height=${height}
          width=${width}
          name=${className(meta, label)}
          picked=${picked !== null}
          of=${asked.of}
          follow=${replace}
        />`
      }
    <//>
    ${asked.trouble && html`<${Trouble} trouble=${asked.trouble} />`}
  `;
}

const best = (probabilities) => probabilities.indexOf(Math.max(...probabilities));

function classOf(text, meta) {
  const found = text === undefined || text === "" ? NaN : Number(text);
  return Number.isInteger(found) && found >= 0 && found < meta.classes.length ? found : null;
}

async function testImage(index) {
  const { values } = await tensor("/api/image", { index });
  return { values, said: [] };
}

/** A file as a drawing: what is dark on light becomes light on dark, as the digits are on which it was trained. */
async function drawingFromFile(file) {
  const content = { file: await encoded(file), name: file.name };
  let { values, notes } = await seen(content);
  if (values.reduce((sum, one) => sum + one, 0) > values.length / 2) {
    ({ values, notes } = await seen({ ...content, invert: true }));
    notes = [...notes, "dark and light are exchanged, as the network knows light strokes on dark"];
  }
  return { values, said: notes };
}

async function seen(content) {
  const { trace, notes } = await post("/api/trace", content);
  return { ...(await tensor(`/api/trace/${trace}/image`)), notes };
}

async function encoded(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}

// ---- a file

/** A network of colour photographs: a file goes through it instead of a drawing. */
function Chosen({ meta }) {
  const [query, change] = useQuery();
  const network = useStore((state) => state.graph);
  const [trouble, setTrouble] = useState(null);
  const name = query.file ?? (query.image?.startsWith("file.") ? query.image.split(".").slice(0, 2).join(".") : null);
  const picked = classOf(query.class, meta);
  const image = name && (picked === null ? name : `${name}.${picked}`);
  const asked = useAsked(() => (image ? passOf(image) : null), [image]);
  const { answer: pixels } = useAsked(() => (asked.answer ? pixelsOf(asked.answer) : null), [asked.answer]);
  const { answer: gradient } = useAsked(
    () => (asked.answer && network ? tensorOf(asked.answer, network.image, "upstream") : null),
    [asked.answer, network],
  );
  const choose = async (file) => {
    try {
      change({ file: imageOfFile({ file: await encoded(file), name: file.name }), class: undefined });
      setTrouble(null);
    } catch (problem) {
      setTrouble({ message: `${file.name} could not be read.`, hint: problem.message });
    }
  };
  const said = asked.answer && className(meta, picked ?? best(asked.answer.probabilities));
  return html`
    <p class="says">
      This network takes colour photographs of ${meta.image.height} × ${meta.image.width} pixels, which are hard to draw: drop
      the file of one here, or choose it.
    </p>
    ${trouble && html`<${Trouble} trouble=${trouble} />`}
    <${Droppable} onFile=${choose}>
      <section class="drawn" aria-label="The photograph">
        ${pixels ? html`<${Picture} tensor=${pixels} scale="image" name="your image" width=${420} height=${420} legend=${false} />` : html`<p class="drop-here">Drop a photograph here</p>`}
        <${FileButton} onFile=${choose} />
        ${asked.answer?.notes.map((note) => html`<p class="hint">${note}</p>`)}
        ${image && html`<${Waiting} asked=${asked} what="Python sends the image through the network …" />`}
      </section>
      ${
        asked.answer &&
        html`<section aria-label="What the network takes it for">
            <${Classes}
              meta=${meta}
              probabilities=${asked.answer.probabilities}
              picked=${picked}
              pick=${(one) => change({ class: one === picked ? undefined : one })}
            />
            <p><a class="onwards" href=${link("backward", null, { image })}>See every node of this image →</a></p>
          </section>
          ${
            gradient &&
            html`<section class="towards" aria-label=${`Towards ${said}`}>
              <h2>Towards ${said}</h2>
              <${Picture}
                tensor=${negated(gradient)}
                name=${`minus the gradient on the pixels for ${said}`}
                width=${420}
                height=${420}
              />
              <p>
                Brighter where it is orange, and darker where it is blue, in each of the colours, would make ${said} more
                probable.
              </p>
            </section>`
          }`
      }
    <//>
  `;
}

// ---- parts of both

function Droppable({ onFile, children }) {
  const [over, setOver] = useState(false);
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    const file = event.dataTransfer.files[0];
    if (file) onFile(file);
  };
  return html`<div
    class=${`draw ${over ? "over" : ""}`}
    onDragOver=${(event) => {
      event.preventDefault();
      setOver(true);
    }}
    onDragLeave=${() => setOver(false)}
    onDrop=${drop}
  >
    ${children}
  </div>`;
}

function FileButton({ onFile }) {
  const input = useRef(null);
  const chosen = (event) => {
    if (event.target.files[0]) onFile(event.target.files[0]);
    event.target.value = "";
  };
  return html`<button onClick=${() => input.current.click()}>File …</button
    ><input
      ref=${input}
      type="file"
      accept="image/*"
      class="none"
      aria-label="A file of an image"
      tabindex="-1"
      onChange=${chosen}
    />`;
}

/** The probability of each class as a bar; a click picks the class towards which pixels would have to change. */
function Classes({ meta, probabilities, of, wanted, picked, pick }) {
  const shown = meta.classes.map((_, i) => i);
  if (shown.length > MOST_CLASSES && probabilities) shown.sort((one, other) => probabilities[other] - probabilities[one]);
  const winner = probabilities && best(probabilities);
  const kept = shown.slice(0, MOST_CLASSES);
  if (picked !== null && !kept.includes(picked)) kept.push(picked);
  return html`<h2>
      ${probabilities ? html`${className(meta, winner)}, to ${percent(probabilities[winner])}` : "Nothing is drawn yet"}
    </h2>
    <div
      class="classes"
      role="group"
      aria-label="Classes: choose one to see which pixels would have to change"
      data-of=${of}
      data-wanted=${wanted}
    >
      ${kept.map(
        (i) =>
          html`<button
            key=${i}
            class=${i === winner ? "winner" : ""}
            aria-pressed=${String(i === picked)}
            aria-label=${`${className(meta, i)}, ${probabilities ? percent(probabilities[i]) : "no probability yet"}`}
            data-class=${i}
            data-probability=${probabilities ? exact(probabilities[i]) : null}
            onClick=${() => pick(i)}
          >
            <span class="class-name">${className(meta, i)}</span>
            <span class="track"><i style=${{ width: `${probabilities ? 100 * probabilities[i] : 0}%` }} /></span>
            <span class="number">${probabilities ? percent(probabilities[i]) : "–"}</span>
          </button>`,
      )}
    </div>
    <p class="hint">Choose a class to see which pixels would have to change for it.</p>`;
}

const negated = ({ values, min, max, ...rest }) => ({ ...rest, values: values.map((one) => -one), min: -max, max: -min });

/** Which pixels would have to become brighter or darker for a class: minus the gradient of its error, over the drawing. */
function Towards({ gradient, loss, drawing, height, width, name, picked, of, follow }) {
  const values = Float32Array.from(gradient.flat(), (one) => -(one ?? NaN));
  const [min, max] = [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
  const shown = { shape: [height, width], values, min, max };
  const limit = Math.max(-min, max) || 1;
  const followed = () =>
    follow(drawing.map((grey, at) => Math.min(Math.max(Math.round(grey + (GREYS * FOLLOWED * values[at]) / limit), 0), GREYS)));
  return html`<section class="towards" aria-label=${`Towards ${name}`} data-of=${of} data-loss=${exact(loss)}>
    <h2>${picked ? "Towards" : "Even more"} ${name}</h2>
    <figure class="picture" data-name="towards">
      <span class="outlined">
        <${Raster}
          tensor=${shown}
          limit=${limit}
          width=${420}
          height=${420}
          label=${`minus the gradient of the error for ${name} on the pixels`}
        />
        <svg viewBox=${`0 0 ${width} ${height}`} aria-hidden="true"><path d=${outlineOf(drawing, height, width)} /></svg>
      </span>
      <div class="under">
        <span class="formula">−<${Derivative} of="e" by="pixel" /></span>
        <${Legend} limit=${limit} none=${isZero(shown)} />
        <${Numbers} title=${`Minus the gradient for ${name}`} rows=${() => rowsOfTensor(shown)} />
      </div>
    </figure>
    <p>
      For ${name} the <b class="brighter">orange</b> pixels would have to become brighter and the
      <b class="darker">blue</b> ones darker. ${strongest(values, drawing, width)} The error e of ${name} is ${brief(loss, 4)}.
    </p>
    <button onClick=${followed}>Change the drawing so</button>
  </section>`;
}

/** In words: the empty pixel that asks most for ink, and the drawn one that asks most to be rubbed out. */
function strongest(values, drawing, width) {
  const most = (may, sign) => {
    let found = null;
    values.forEach((one, at) => {
      if (may(drawing[at]) && sign * one > 0 && (found === null || sign * one > sign * values[found])) found = at;
    });
    return found;
  };
  const place = (at) => `row ${Math.floor(at / width)}, column ${at % width}`;
  const brighter = most((grey) => grey < GREYS / 2, 1);
  const darker = most((grey) => grey > GREYS / 2, -1);
  return html`${brighter !== null && html`<span data-brighter=${brighter}>Most of all ink is missing at ${place(brighter)}</span>`}${brighter !== null && darker !== null && ", and "}${darker !== null && html`<span data-darker=${darker}>${brighter === null ? "There" : "there"} is too much of it at ${place(darker)}</span>`}${(brighter !== null || darker !== null) && "."}`;
}
