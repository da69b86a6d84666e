/** A question that is answered by a click or a key, and why the answer is right or wrong. */

import { exact } from "../numbers.js";
import { Raster } from "../parts/raster.js";
import { adjust, useRoute } from "../router.js";
import { html, useEffect, useRef } from "../html.js";
import { reveal } from "./pointing.js";

const LETTERS = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];

/**
 * `{asks, choices, columns, about}` has choices `{says, value, right, why}`, in a grid if there are `columns`;
 * `{asks, image, box, right, wrong, shows, about}` is answered by a pixel of the image, right in the box; `shows` is what of the
 * view (a part of the address, and what is framed) shows the answer. `about` tells which numbers of the arrays it is about.
 */
export function Question({ question, name }) {
  const given = useRoute().query.answer;
  const Kind = question.image ? Pixel : Choices;
  return html`<section class="question" aria-labelledby="question" data-about=${JSON.stringify(question.about ?? {})}>
    <h3 id="question">${question.asks}</h3>
    <${Kind} question=${question} given=${given} answer=${(one) => answered(question, one)} name=${name} />
  </section>`;
}

function answered({ shows }, answer) {
  adjust({ ...shows?.query, answer });
  if (shows) reveal(shows.show);
}

function Choices({ question, given, answer }) {
  const { choices, columns } = question;
  useEffect(() => {
    const pressed = (event) => {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.target.closest("input, select, textarea, dialog, .graph")) return;
      const at = LETTERS.indexOf(event.key);
      if (at < 0 || at >= choices.length) return;
      event.preventDefault();
      answer(at);
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, [choices]);
  const chosen = choices[Number(given ?? -1)];
  return html`<ol class=${`choices ${columns ? "grid" : ""}`} style=${columns ? { "--columns": columns } : null}>
      ${choices.map((choice, i) => {
        const state = choice !== chosen ? "" : choice.right ? "right" : "wrong";
        return html`<li>
          <button
            class=${state}
            aria-pressed=${String(choice === chosen)}
            data-value=${choice.value === undefined ? null : exact(choice.value)}
            onClick=${() => answer(i)}
          >
            <kbd>${LETTERS[i]}</kbd> <span>${choice.says}</span>
          </button>
        </li>`;
      })}
    </ol>
    <${Verdict} chosen=${chosen && { right: chosen.right, why: chosen.why }} />`;
}

/** The answer is a pixel: under the mouse, or under the cursor that the arrow keys move. */
function Pixel({ question, given, answer }) {
  const { image, box, right, wrong } = question;
  const [y, x] = given?.split(",").map(Number) ?? [];
  const known = Number.isInteger(y) && Number.isInteger(x);
  const inside = known && y >= box.top && y < box.top + box.height && x >= box.left && x < box.left + box.width;
  const marks = known ? [{ tile: 0, ...box, kind: "window" }] : [];
  if (known) marks.push({ tile: 0, top: y, left: x, height: 1, width: 1, kind: "answer" });
  return html`<${Raster}
      tensor=${image}
      scale="image"
      width=${252}
      height=${252}
      label="image: arrow keys move, Enter answers"
      marks=${marks}
      onPick=${(place) => answer(place.slice(-2).join(","))}
    />
    <p class="hint">Click a pixel; or arrow keys, and Enter.</p>
    <${Verdict} chosen=${known ? { right: inside, why: inside ? right(y, x) : wrong(y, x) } : null} />`;
}

function Verdict({ chosen }) {
  const place = useRef(null);
  const known = chosen !== null && chosen !== undefined;
  useEffect(() => {
    if (known) place.current.scrollIntoView({ block: "nearest" });
  }, [known, chosen?.why]);
  return html`<div role="status" class="answer-verdict" ref=${place}>
    ${chosen && html`<p class=${chosen.right ? "right" : "wrong"}><b>${chosen.right ? "✓ Right." : "✗ Not that."}</b> ${chosen.why}</p>`}
  </div>`;
}
