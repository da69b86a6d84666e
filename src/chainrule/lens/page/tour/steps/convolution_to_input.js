/** L13: the backward pass of a convolution, towards its input: the flipped filter over the upstream gradient. */

import { html } from "../../html.js";
import { brief } from "../../numbers.js";
import { wideConvolution } from "../finding.js";
import { largest, placeIn } from "../subject.js";
import { name, number } from "../wording.js";

export const step = {
  name: "convolution-to-input",
  line: "L13",
  title: "Convolution backwards, to the input",
  async prepare(subject) {
    const node = wideConvolution(subject);
    if (!node) return { absent: "This network has no convolution that is wider than one place." };
    const upstream = await subject.array(node.id, "upstream");
    const [output, y, x] = placeIn(upstream, largest(upstream));
    const { channels, kernel } = await subject.about("window", { node: node.id, channel: output, y, x });
    const filter = kernel[0];
    const stuffed = node.convolution.stride.some((one) => one > 1);
    const [last, end] = [filter.length - 1, filter[0].length - 1];
    const corners = [
      [0, 0, "That is where it stands forwards. Backwards the filter is turned by 180°."],
      [0, end, "That would be so if the filter were mirrored left to right; it is turned by 180°, upside down as well."],
      [last, 0, "That would be so if the filter were mirrored upside down; it is turned by 180°, left to right as well."],
      [last, end, ""],
    ].filter(([a, b], i) => i === 3 || !(a === last && b === end));
    return {
      at: { view: "node", id: node.id, query: { way: "input", output, input: channels[0] }, show: ".convolution" },
      formula: html`downstream = upstream${stuffed ? ", stuffed with zeros," : ""} ∗ flipped <var>w</var>`,
      says: html`Each pixel was met by every weight of the filter, at another place each time, and gets back upstream times
      weight from all of them. That is a convolution again: the filter, turned by 180°, slides over the upstream gradient of
      ${name(node)}${stuffed ? ", with zeros between its numbers" : ""}, padded with zeros. These are the corners of filter
      ${output}, channel ${channels[0]}, as it is forwards:`,
      question: {
        asks: "Which of them stands at the top left of the flipped filter?",
        columns: end > 0 ? 2 : 1,
        about: { node: node.id, output, input: channels[0] },
        choices: corners.map(([a, b, why]) => ({
          says: `w[${a}, ${b}] = ${brief(filter[a][b])}`,
          value: filter[a][b],
          right: a === last && b === end,
          why:
            why ||
            html`w[${a}, ${b}] = ${number(filter[a][b])}, the corner across. A pixel is met by the last weight when the filter
            stands furthest up and to the left of it: seen from the pixel, the last weight comes first.`,
        })),
      },
    };
  },
};
