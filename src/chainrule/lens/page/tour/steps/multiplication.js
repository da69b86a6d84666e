/** L5: multiplication switches the gradient, at one weight of a fully connected layer. */

import { html } from "../../html.js";
import { numbers } from "../choices.js";
import { linear } from "../finding.js";
import { largest, placeIn } from "../subject.js";
import { name, number, partial, tableOfExample } from "../wording.js";

export const step = {
  name: "multiplication",
  line: "L5",
  title: "Multiplication switches the gradient",
  async prepare(subject) {
    const found = linear(subject);
    if (!found) return inSmall(subject);
    const { node, x, matrix } = found;
    const [upstream, values, weights] = await Promise.all([
      subject.array(node.id, "upstream"),
      subject.array(x.id, "value"),
      subject.array(matrix.id, "value"),
    ]);
    const [height, width] = weights.shape;
    const [down, right] = weights.step ?? [1, 1];
    const input = largest({ values: values.values.filter((_, i) => i % down === 0).subarray(0, height) }) * down;
    const output = largest({ values: upstream.values.filter((_, i) => i % right === 0).subarray(0, width) }) * right;
    const [w, h, arrives] = [
      weights.values[(input / down) * width + output / right],
      values.values[input],
      upstream.values[output],
    ];
    return {
      at: { view: "node", id: node.id, query: {}, show: ".passed" },
      formula: html`<var>h</var> = <var>w</var> · <var>x</var>: ${partial("h", "w")} = <var>x</var>, ${partial("h", "x")} =
        <var>w</var>`,
      says: html`The unit ${name(node, [output])} is a sum of products. One of them is w · x, with the weight w = ${number(w)}
      and the value x = ${name(x, [input])} = ${number(h)}. The upstream gradient of the unit is ${number(arrives)}.`,
      question: {
        asks: html`Which gradient ${partial("e", "w")} does this weight get?`,
        about: { node: node.id, input, output },
        choices: numbers(
          [
            arrives * h,
            "Upstream times the other factor: the local gradient for w is x. A weight whose input is 0 learns nothing.",
          ],
          [
            [
              arrives * w,
              "That is upstream times w, which is this product's part of what x gets. The two factors are switched.",
            ],
            [arrives, "That is the upstream gradient as it is: what an addition would hand on."],
            [h, "That is the local gradient, x. It still has to be multiplied by the upstream gradient."],
          ],
        ),
      },
    };
  },
};

async function inSmall({ example }) {
  const found = await example("w * x", { w: 3, x: -2 });
  return {
    absent: "This network has no fully connected layer, so here is an example in small.",
    formula: html`<var>h</var> = <var>w</var> · <var>x</var>: ${partial("h", "w")} = <var>x</var>, ${partial("h", "x")} =
      <var>w</var>`,
    says: "e = w · x, with w = 3 and x = −2. The upstream gradient of e is 1.",
    table: tableOfExample(found),
    question: {
      asks: html`Which gradient ${partial("e", "w")} does w get?`,
      about: { expression: "w * x" },
      choices: numbers(
        [found.gradients.w, "Upstream times the other factor: the local gradient for w is x."],
        [
          [found.gradients.x, "That is what x gets: its local gradient is w. The two factors are switched."],
          [1, "That is the upstream gradient as it is: what an addition would hand on."],
          [found.error, "That is the value e, not a gradient."],
        ],
      ),
    },
  };
}
