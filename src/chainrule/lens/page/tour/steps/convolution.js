/** L10: a convolution shares its weights: a filter slides over the image and takes a dot product at each place. */

import { html } from "../../html.js";
import { grouped } from "../../numbers.js";
import { numbers } from "../choices.js";
import { convolutions, kernelOf } from "../finding.js";
import { largest, placeIn } from "../subject.js";
import { name, number } from "../wording.js";

export const step = {
  name: "convolution",
  line: "L10",
  title: "A filter slides, and shares its weights",
  async prepare(subject) {
    const node = convolutions(subject)[0];
    if (!node) return { absent: "This network has no convolution." };
    const source = subject.node(node.inputs[0]);
    const kernel = kernelOf(subject, node);
    const value = await subject.array(node.id, "value");
    const [channel, y, x] = placeIn(value, largest(value));
    const seen = await subject.about("window", { node: node.id, channel, y, x });
    const [places, inputs] = [node.shape[2] * node.shape[3], source.shape[1] * source.shape[2] * source.shape[3]];
    const { outputs, perGroup, height, width, count } = kernel;
    const [down, across] = node.convolution.stride.map((one) => (one > 1 ? one : ""));
    return {
      at: {
        view: "node",
        id: node.id,
        query: { way: "forward", output: channel, input: seen.channels[0], unit: [channel, y, x].join(",") },
        show: ".convolution",
      },
      formula: html`<var>h</var><sub>o, y, x</sub> = Σ <var>w</var><sub>o, c, a, b</sub> · <var>x</var
        ><sub>c, ${down}y+a, ${across}x+b</sub> + <var>b</var><sub>o</sub>`,
      says: html`The filter ${channel} of ${name(node)} lies over the patch at row ${y}, column ${x}: the products add up to
      ${number(seen.sum)}${seen.bias !== null && html`, and with the bias ${number(seen.bias)} the value is ${number(seen.value)}`}.
      Move it with the arrow keys: the patch changes, the filter does not. There are ${number(outputs)} filters of ${perGroup} ×
      ${height} × ${width} weights, and ${grouped(places)} places.`,
      question: {
        asks: "How many weights does the layer have, biases aside?",
        about: { parameter: subject.node(node.inputs[1]).name },
        choices: numbers(
          [
            count,
            html`${outputs} · ${perGroup} · ${height} · ${width}: each filter is used at all ${grouped(places)} places. A fully
            connected layer from the same input to the same output would have ${grouped(inputs * outputs * places)}.`,
          ],
          [
            [
              count * places,
              "That would be a filter of its own at each place. A convolution shares one filter among all places.",
            ],
            [inputs * outputs * places, "That is a fully connected layer, which has a weight for each pair of numbers."],
            [count / outputs, "That is one filter. Each output channel has its own."],
            [outputs * places, "That is the number of outputs; the weights are shared among places."],
          ],
        ),
      },
    };
  },
};
