/** L12: 1x1 and depthwise convolutions. */

import { html } from "../../html.js";
import { grouped } from "../../numbers.js";
import { numbers } from "../choices.js";
import { convolutions, kernelOf } from "../finding.js";
import { name, number } from "../wording.js";

export const step = {
  name: "variants",
  line: "L12",
  title: "1 × 1 and depthwise convolutions",
  prepare(subject) {
    const all = convolutions(subject);
    const channels = (node) => subject.node(node.inputs[0]).shape[1];
    const isSmall = (node) => kernelOf(subject, node).height * kernelOf(subject, node).width === 1;
    const isDepthwise = (node) => node.convolution.groups > 1 && node.convolution.groups === channels(node);
    const node =
      all.find((one) => one.convolution.groups === 1 && channels(one) > 1 && !isSmall(one)) ??
      all.find((one) => isDepthwise(one) && !isSmall(one));
    if (!node) return { absent: "This network has no convolution over several channels that is wider than one place." };
    const { outputs, height, width } = kernelOf(subject, node);
    const inputs = channels(node);
    const [depthwise, pointwise] = [inputs * height * width, inputs * outputs];
    const [small, deep] = [all.filter(isSmall).length, all.filter(isDepthwise).length];
    return {
      at: { view: "node", id: node.id, query: { way: "forward" }, show: ".convolution" },
      formula: html`depthwise: <var>C</var> · <var>k</var>², 1 × 1: <var>C</var> · <var>O</var>`,
      says: html`A 1 × 1 convolution mixes channels at one place; a depthwise one slides a filter over each channel alone. Of
      this network's ${number(all.length)} convolutions ${number(small)} are 1 × 1 and ${number(deep)} depthwise. ${name(node)}
      goes from ${number(inputs)} to ${number(outputs)} channels with filters of ${height} × ${width}; an ordinary convolution
      has ${grouped(inputs * outputs * height * width)} weights for that.`,
      question: {
        asks: "How many weights do a depthwise convolution and a 1 × 1 one after it need instead?",
        about: { node: node.id },
        choices: numbers(
          [
            depthwise + pointwise,
            `${inputs} · ${height} · ${width} = ${grouped(depthwise)} for the depthwise one, and ${inputs} · ${outputs} = ${grouped(pointwise)} for the 1 × 1. The two together see what the ordinary one sees, with fewer weights and multiplications.`,
          ],
          [
            [depthwise * pointwise, "The two come one after the other: their weights are added."],
            [depthwise, "That is the depthwise one alone, which cannot mix channels."],
            [pointwise, "That is the 1 × 1 one alone, which sees no neighbours."],
            [inputs * outputs * height * width, "That is the ordinary convolution: a filter for each pair of channels."],
          ],
        ),
      },
    };
  },
};
