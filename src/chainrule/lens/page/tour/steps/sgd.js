/** L1: SGD updates each parameter. */

import { html } from "../../html.js";
import { brief } from "../../numbers.js";
import { numbers } from "../choices.js";
import { weights } from "../finding.js";
import { largest, placeIn } from "../subject.js";
import { name, number, ratio } from "../wording.js";

const RATE = 0.1;

export const step = {
  name: "sgd",
  line: "L1",
  title: "SGD updates each parameter",
  async prepare(subject) {
    const weight = weights(subject).at(-1);
    if (!weight) return { absent: "This network has no weights." };
    const [gradient, value] = await Promise.all([subject.array(weight.id, "upstream"), subject.array(weight.id, "value")]);
    const at = largest(gradient);
    const [place, g, w] = [placeIn(gradient, at), gradient.values[at], value.values[at]];
    return {
      at: { view: "node", id: weight.id, query: {}, show: ".product" },
      formula: html`<var>w</var><sub>k</sub> ← <var>w</var><sub>k</sub> − <var>η</var> ${ratio(["e"], ["w", "k"])}`,
      says: html`At a parameter the way back ends. ${name(weight, place)} = ${number(w)} has gradient ${number(g)} for this
      image. Take a step of SGD with the learning rate η = ${number(RATE)}.`,
      question: {
        asks: "What is the weight afterwards?",
        about: { node: weight.id, index: place, rate: RATE },
        choices: numbers(
          [
            w - RATE * g,
            `${brief(w)} − ${RATE} · ${brief(g)}: against the gradient, so that the error falls. Training takes the mean over a batch of images, and then does just this for every weight.`,
          ],
          [
            [w + RATE * g, "That goes along the gradient: uphill, and the error rises."],
            [w - g, "The learning rate is missing: the gradient says in which direction, η how far."],
            [-RATE * g, "That is the step. It is added to the weight that was there."],
          ],
        ),
      },
    };
  },
};
