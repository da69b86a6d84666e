/** L5: max routes the gradient, at one window of a max pooling. */

import { html } from "../../html.js";
import { brief } from "../../numbers.js";
import { pooling } from "../finding.js";
import { largest } from "../subject.js";
import { unravel } from "../../draw/arrange.js";
import { name, number, ratio, tableOfExample } from "../wording.js";

export const step = {
  name: "routing",
  line: "L5",
  title: "Max routes the gradient",
  async prepare(subject) {
    const node = pooling(subject);
    if (!node) return inSmall(subject, "This network has no max pooling, so here is an example in small.");
    const source = subject.node(node.inputs[0]);
    const [values, upstream, outputs] = await Promise.all([
      subject.array(source.id, "value"),
      subject.array(node.id, "upstream"),
      subject.array(node.id, "value"),
    ]);
    const whole = [values, upstream].every((one) => !one.step || one.step.every((step_) => step_ === 1));
    const [, height, width] = values.shape;
    const [, rows, columns] = upstream.shape;
    const [down, across] = [Math.floor(height / rows), Math.floor(width / columns)];
    /** Numbers of the window of a unit, those that no other window begins with. */
    const windowOf = ([c, y, x]) =>
      [...Array(down * across).keys()].map(
        (i) => values.values[(c * height + y * down + Math.floor(i / across)) * width + x * across + (i % across)],
      );
    const clear = (i) => {
      const numbers = windowOf(unravel(i, upstream.shape));
      return numbers.filter((one) => one === outputs.values[i]).length === 1;
    };
    const best = whole && down * across > 1 ? largest(upstream, (one, i) => (one !== 0 && clear(i) ? Math.abs(one) : -1)) : -1;
    if (best < 0 || !clear(best))
      return inSmall(subject, "No window of this image has one winner that gets a gradient, so here is an example in small.");
    const unit = unravel(best, upstream.shape);
    const [numbers, arrives] = [windowOf(unit), upstream.values[best]];
    return {
      at: { view: "node", id: node.id, query: { unit: unit.join(",") }, show: ".product" },
      formula: html`<var>h</var> = max(<var>x</var><sub>1</sub>, …): ${ratio(["h"], ["x", "i"])} = 1 at the winner, else 0`,
      says: html`The unit ${name(node, unit)} is the largest number of its window of ${name(source)}. The upstream gradient that
      arrives at it is ${number(arrives)}. These are numbers of the window, as they lie:`,
      question: {
        asks: "Which of them gets the gradient?",
        columns: across,
        about: { node: node.id, unit, window: [down, across] },
        choices: numbers.map((value) => ({
          says: brief(value),
          value,
          right: value === outputs.values[best],
          why:
            value === outputs.values[best]
              ? html`It won, so its local gradient is 1: it gets all of ${number(arrives)}, and the others get 0.`
              : html`It lost to ${number(outputs.values[best])}: if it changes a little, the maximum stays as it is. Its local
                gradient is 0, and so is its share.`,
        })),
      },
    };
  },
};

async function inSmall({ example }, absent) {
  const found = await example("max(a, b)", { a: 2, b: -1 });
  const winner = found.gradients.a > found.gradients.b ? "a" : "b";
  return {
    absent,
    formula: html`<var>h</var> = max(<var>a</var>, <var>b</var>)`,
    says: "e = max(a, b), with a = 2 and b = −1. The upstream gradient of e is 1.",
    table: tableOfExample(found),
    question: {
      asks: "Which of the two gets the gradient?",
      about: { expression: "max(a, b)" },
      choices: [
        ...["a", "b"].map((one) => ({
          says: `${one} = ${brief(found.values[one])}, all of it`,
          value: found.values[one],
          right: one === winner,
          why:
            one === winner
              ? "It won, so its local gradient is 1: it gets the whole gradient, and the other one 0."
              : "It lost: if it changes a little, the maximum stays as it is. Its local gradient is 0.",
        })),
        {
          says: "both, all of it",
          right: false,
          why: "That is what a sum does. The maximum does not depend on the smaller one.",
        },
        {
          says: "both, a half each",
          right: false,
          why: "Nothing is shared out: raise the larger one by 1, and the maximum rises by 1.",
        },
      ],
    },
  };
}
