/** L9: a fully connected layer works on the vectorised image and fits templates. */

import { html } from "../../html.js";
import { numbers } from "../choices.js";
import { flattening, linear } from "../finding.js";
import { name, number } from "../wording.js";

export const step = {
  name: "templates",
  line: "L9",
  title: "Flatten, and fit templates",
  prepare(subject) {
    const [flat, found] = [flattening(subject), linear(subject)];
    if (!flat || !found) return { absent: "This network flattens no maps into a vector." };
    const [, channels, height, width] = subject.node(flat.inputs[0]).shape;
    if (channels * height * width !== found.x.shape.at(-1) || height * width < 2)
      return { absent: "In this network what is flattened has one place only." };
    const [c, y, x] = [channels - 1, height >> 1, width - 1];
    const right = (c * height + y) * width + x;
    return {
      at: { view: "node", id: found.weight.id, query: {}, show: ".filters" },
      formula: html`<var>h</var> = <var>W</var> vec(<var>x</var>) + <var>b</var>`,
      says: html`${name(flat)} lays ${number(channels)} × ${number(height)} × ${number(width)} numbers into one vector, row by
      row and channel by channel, counted from 0. Each row of ${name(found.weight)}, put back into that shape, is a template:
      the layer takes the dot product of each with what it sees.`,
      question: {
        asks: html`At which place of the vector is the number [channel ${c}, row ${y}, column ${x}]?`,
        about: { node: flat.id, place: [c, y, x] },
        choices: numbers(
          [right, `${c} channels of ${height} · ${width} numbers come before it, then ${y} rows of ${width}, then ${x} more.`],
          [
            [
              (y * width + x) * channels + c,
              "That would be so if the channels lay innermost. Here each channel lies as a whole.",
            ],
            [(c * width + x) * height + y, "That counts column by column. Here the rows lie one after the other."],
            [y * width + x, "That is its place in its own channel; the channels before it come first."],
          ],
        ),
      },
    };
  },
};
