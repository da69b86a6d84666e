/** What a network takes an image for: a bar a class, with a mark where it ended before a change. */

import { html } from "../html.js";
import { percent } from "../numbers.js";
import { useStore } from "../store.js";
import { className } from "./sample.js";

const MOST_CLASSES = 10;

/** All classes, or of many the image's own (`label`) and the most probable; `before` are the probabilities of earlier, or null. */
export function Probabilities({ probabilities, label, before = null }) {
  const meta = useStore((state) => state.meta);
  const all = probabilities.map((_, i) => i);
  const order = [...all].sort((one, other) => probabilities[other] - probabilities[one]);
  const shown = all.length <= MOST_CLASSES ? all : [...new Set([label, ...order.slice(0, MOST_CLASSES - 1)])];
  return html`<table class="bars probabilities">
      ${shown.map(
        (i) =>
          html`<tr class=${i === label ? "of-label" : ""}>
            <th scope="row">${className(meta, i)}</th>
            <td class="track">
              <i style=${{ width: `${100 * probabilities[i]}%`, background: "var(--accent)" }} />
              ${before && html`<u style=${{ left: `${100 * before[i]}%` }} title=${`before: ${percent(before[i])}`} />`}
            </td>
            <td class="number">${percent(probabilities[i])}</td>
          </tr>`,
      )}
    </table>
    ${before && html`<p class="hint before-mark"><u aria-hidden="true"></u> before the change</p>`}`;
}
