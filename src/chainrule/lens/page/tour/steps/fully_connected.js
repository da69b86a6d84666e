/** L8: a multi-layer perceptron: each unit looks at all inputs. */

import { html } from "../../html.js";
import { grouped } from "../../numbers.js";
import { numbers } from "../choices.js";
import { linear } from "../finding.js";
import { name, number } from "../wording.js";

export const step = {
  name: "fully-connected",
  line: "L8",
  title: "A layer of a multi-layer perceptron",
  prepare(subject) {
    const found = linear(subject);
    if (!found) return { absent: "This network has no fully connected layer." };
    const { node, weight, x } = found;
    const [outputs, inputs] = [node.shape.at(-1), x.shape.at(-1)];
    return {
      at: { view: "node", id: node.id, query: {}, show: ".product" },
      formula: html`<var>h</var><sub>k</sub> = Σ<sub>j</sub> <var>w</var><sub>kj</sub> <var>x</var><sub>j</sub> + <var>b</var
        ><sub>k</sub>`,
      says: html`A fully connected layer, the first of this network: ${number(inputs)} numbers come in, ${number(outputs)} come
      out, and each output has a weight of its own for each input. ${name(weight)} holds them. Such layers with a ReLU between
      them are a multi-layer perceptron.`,
      question: {
        asks: html`How many weights does ${name(weight)} have?`,
        about: { parameter: weight.name },
        choices: numbers(
          [outputs * inputs, `${grouped(outputs)} · ${grouped(inputs)}: a weight for each pair of an output and an input.`],
          [
            [outputs + inputs, "That is the sum of units. Each output has its own weight for each input: they multiply."],
            [inputs, "That is what one output has. Each output has its own."],
            [outputs, "That is the number of biases, one an output."],
          ],
        ),
      },
    };
  },
};
