/** L11: padding adds a border of zeros, stride is the step. */

import { html } from "../../html.js";
import { numbers } from "../choices.js";
import { convolutions, kernelOf } from "../finding.js";
import { name, number } from "../wording.js";

export const step = {
  name: "padding",
  line: "L11",
  title: "Padding and stride",
  prepare(subject) {
    const wide = convolutions(subject).filter((one) => kernelOf(subject, one).height > 1);
    const node = wide.find((one) => one.convolution.padding[0] > 0) ?? wide[0];
    if (!node) return { absent: "This network has no convolution that is wider than one place." };
    const { padding, padding_after: after, stride, dilation } = node.convolution;
    const [before, k, out] = [subject.node(node.inputs[0]).shape[2], kernelOf(subject, node).height, node.shape[2]];
    const border = padding[0] + after[0];
    const rows = (p, s) => Math.floor((before + p - dilation[0] * (k - 1) - 1) / s) + 1;
    const other = stride[0] === 1 ? 2 : 1;
    const right = rows(border, other);
    return {
      at: { view: "node", id: node.id, query: { way: "forward" }, show: ".convolution" },
      formula: html`out = ⌊(in + 2<var>p</var> − <var>k</var>) / <var>s</var>⌋ + 1`,
      says: html`${name(node)} has filters of ${number(k)} rows over an input of ${number(before)} rows, with padding
      ${number(padding[0])} above and ${number(after[0])} below (rows of zeros), and stride ${number(stride[0])}: so the output
      has ${number(out)} rows.
      ${
        border > 0
          ? html`Without the padding it would have ${number(rows(0, stride[0]))}.`
          : html`With a border of one row on each side it would have ${number(rows(2, stride[0]))}.`
      }`,
      question: {
        asks: html`How many rows would the output have with stride ${other}?`,
        about: { node: node.id, stride: other },
        choices: numbers(
          [
            right,
            `⌊(${before} + ${border} − ${dilation[0] * (k - 1) + 1}) / ${other}⌋ + 1 = ${right}: a larger step leaves fewer places, a smaller one more.`,
          ],
          [
            [out, "That is what it has now. The stride is the step of the window, so the number of places changes with it."],
            [right - 1, "Almost: the window stands at its first place too, before the first step. That is the + 1."],
            [
              border ? rows(0, other) : before,
              "The window also goes over the border of zeros, and ends where it touches the last row.",
            ],
            [before * other, "A larger step leaves fewer places, not more."],
          ],
        ),
      },
    };
  },
};
