/** L13: the backward pass of a convolution, towards its weight: patches weighted by the upstream gradient. */

import { html } from "../../html.js";
import { grouped } from "../../numbers.js";
import { numbers } from "../choices.js";
import { wideConvolution } from "../finding.js";
import { largest, placeIn } from "../subject.js";
import { name, number, ratio } from "../wording.js";

export const step = {
  name: "convolution-to-weight",
  line: "L13",
  title: "Convolution backwards, to the weight",
  async prepare(subject) {
    const node = wideConvolution(subject);
    if (!node) return { absent: "This network has no convolution that is wider than one place." };
    const upstream = await subject.array(node.id, "upstream");
    const at = largest(upstream);
    const [[output, y, x], arrives] = [placeIn(upstream, at), upstream.values[at]];
    const { channels, patch, kernel, inside } = await subject.about("window", { node: node.id, channel: output, y, x });
    const { c, a, b } = brightest(patch, inside);
    const [pixel, weight] = [patch[c][a][b], kernel[c][a][b]];
    return {
      at: {
        view: "node",
        id: node.id,
        query: { way: "weight", output, input: channels[c] },
        show: ".convolution",
      },
      formula: html`${ratio(["e"], ["w", "a, b"])} = Σ<sub>y, x</sub> upstream<sub>y, x</sub> · <var>x</var
        ><sub>y+a, x+b</sub>`,
      says: html`Each place where the filter stood sends back its patch, weighted by the upstream gradient there; all
      ${grouped(node.shape[2] * node.shape[3])} places are summed, as the weight is shared. At row ${y}, column ${x} of output
      ${output} of ${name(node)} the upstream gradient is ${number(arrives)}. Under the weight w[${a}, ${b}] of channel
      ${channels[c]} lies ${number(pixel)}; the weight is ${number(weight)}.`,
      question: {
        asks: html`What does this one place add to the gradient of w[${a}, ${b}]?`,
        about: { node: node.id, output, input: channels[c], place: [y, x], tap: [a, b] },
        choices: numbers(
          [arrives * pixel, "Upstream times what the weight was multiplied by. The button Play adds up all the places."],
          [
            [arrives * weight, "That is upstream times the weight: what the input gets, not the weight."],
            [
              arrives,
              "That is what a bias gets: its local gradient is 1. The weight met a number, which is its local gradient.",
            ],
            [pixel, "That is the local gradient alone. It still has to be multiplied by the upstream gradient."],
          ],
        ),
      },
    };
  },
};

/** The largest number of a patch inside of the image. */
function brightest(patch, inside) {
  let best = { c: 0, a: 0, b: 0, size: -1 };
  patch.forEach((rows, c) =>
    rows.forEach((row, a) =>
      row.forEach((one, b) => inside[a][b] && Math.abs(one) > best.size && (best = { c, a, b, size: Math.abs(one) })),
    ),
  );
  return best;
}
