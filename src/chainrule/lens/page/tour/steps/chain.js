/** L4: the chain rule along one path of the network, from a weight of the first layer to the error. */

import { html } from "../../html.js";
import { brief } from "../../numbers.js";
import { Name } from "../../parts/formula.js";
import { numbers } from "../choices.js";
import { weights } from "../finding.js";
import { largest, placeIn } from "../subject.js";
import { name, number, ratio } from "../wording.js";

export const step = {
  name: "chain",
  line: "L4",
  title: "The chain rule, on this network",
  async prepare(subject) {
    const { about, array, loss, node } = subject;
    const weight = weights(subject)[0];
    if (!weight) return { absent: "This network has no weights." };
    const gradient = await array(weight.id, "upstream");
    const place = placeIn(gradient, largest(gradient));
    const found = await about("paths", { name: weight.name, index: place.join(",") });
    const factors = found.strongest.filter((one) => one.local !== null).map((one) => one.local);
    const changing = found.strongest.filter((one) => one.local !== null && one.local !== 1);
    const ones = factors.length - changing.length;
    return {
      at: { view: "node", id: weight.id, query: {}, show: ".stop" },
      formula: html`${ratio(["e"], ["w", "k"])} = ${ratio(["e"], ["h", "K"])} ${ratio(["h", "K"], ["h", "K−1"])} ⋯
      ${ratio(["h", "k"], ["w", "k"])}`,
      says: html`The weight ${name(weight, place)} changes the error by many paths through the graph. Along the strongest one,
      from the weight up to ${name(loss)}, stand ${factors.length} local
      gradients${ones > 0 && html`; ${ones} of them are 1 (additions, and numbers that only move)`}. The others:`,
      table: html`<ol class="factors">
        ${changing.map(
          (one) =>
            html`<li title=${`${node(one.node).name}[${one.unit.join(", ")}]`}>
              <${Name} name=${node(one.node).name} /> ${number(one.local)}
            </li>`,
        )}
      </ol>`,
      question: {
        asks: "What does this one path add to the gradient of the weight?",
        about: { name: weight.name, index: place },
        choices: numbers(
          [
            found.product,
            html`The product of the local gradients along the path. All paths together add up to ${number(found.sum)}, the
            gradient that the weight gets. Backpropagation finds that sum in one sweep: at each node the upstream gradient is
            known, and the local gradient is known.`,
          ],
          [
            [
              factors.reduce((sum, one) => sum + one, 0),
              "That is the sum of the local gradients. Along a path they are multiplied; only different paths are added.",
            ],
            [found.sum, "That is the gradient of the weight, the sum over all paths. This is one of them."],
            [-found.product, "The sign is lost: count the negative factors."],
            [changing[0]?.local ?? NaN, `That is the first factor alone, ${brief(changing[0]?.local)}; the others follow.`],
          ],
        ),
      },
    };
  },
};
