/** L2: a network is a computation graph, and e is the error at its end. */

import { html } from "../../html.js";
import { grouped } from "../../numbers.js";
import { sentences } from "../choices.js";
import { weights } from "../finding.js";
import { name, number, partial } from "../wording.js";

export const step = {
  name: "graph",
  line: "L2",
  title: "A network is a computation graph",
  prepare(subject) {
    const { network, pass, loss, node } = subject;
    const operations = network.nodes.filter((one) => !one.leaf).length;
    const one = partial(loss.name, loss.name);
    const begins = (other) => html`at ${name(other)}, with 0`;
    const first = weights(subject)[0];
    const wrong = [];
    if (first)
      wrong.push([
        begins(first),
        html`There it ends: ${name(first)} is where the gradient arrives. It comes from ${name(loss)}, along the graph, against
        the arrows.`,
      ]);
    if (network.scores !== null && network.scores !== network.loss)
      wrong.push([
        html`at the scores ${name(node(network.scores))}, with 1`,
        html`The scores come before the loss. Their gradient ${partial(loss.name, node(network.scores).name)} is worked out from
        ${name(loss)}: it is no given number.`,
      ]);
    wrong.push([
      html`at the image, with its pixels`,
      "That is the way forwards. Backwards it begins where the forward pass ended.",
    ]);
    return {
      at: { view: "graph", query: {}, show: ".graph" },
      formula: html`<var>e</var> = <var>f</var>(image; <var>w</var><sub>1</sub>, …, <var>w</var><sub>K</sub>)`,
      says: html`Forwards, ${grouped(operations)} operations lead from the image and the weights to one number at the end, the
      error: here ${name(loss)} = ${number(pass.loss)}. Each box is a layer and opens with +; its colour says what it does to
      the gradient.`,
      question: {
        asks: "Where does backpropagation begin, and with which gradient?",
        choices: sentences(
          [
            html`at the error ${name(loss)}, with 1`,
            html`${one} = 1: the error changes just as much as itself. From here on, each node multiplies what arrives by its
            own local gradient.`,
          ],
          wrong,
          2,
        ),
      },
    };
  },
};
