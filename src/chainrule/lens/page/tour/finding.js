/** Finds, in any network, the nodes that the lecture speaks of. Only nodes that a gradient reaches count. */

import { ofOneImage } from "../numbers.js";

const reached = ({ network, pass }) => network.nodes.filter((node) => !node.leaf && pass.byNode.has(node.id));

const edgesOf = ({ pass }, node) => pass.byNode.get(node.id).edges;

export const convolutions = (subject) => reached(subject).filter((node) => node.convolution);

/** Rows and columns of a convolution's filter. */
export function kernelOf({ network }, node) {
  const [outputs, perGroup, height, width] = network.byId.get(node.inputs[1]).shape;
  return { outputs, perGroup, height, width, count: outputs * perGroup * height * width };
}

/** A convolution whose filter has several places; the last one, as its numbers are the fewest. */
export const wideConvolution = (subject) => convolutions(subject).findLast((node) => kernelOf(subject, node).width > 1);

export const relu = (subject) =>
  reached(subject).find(
    (node) => node.op === "maximum" && edgesOf(subject, node).length === 1 && edgesOf(subject, node)[0].kind === "diagonal",
  );

export const pooling = (subject) => reached(subject).find((node) => node.op.startsWith("max_pool"));

/** A product of a vector and a matrix of weights: `{node, weight, x, matrix}`, with the weight where it is a parameter. */
export function linear(subject) {
  const { network } = subject;
  for (const node of reached(subject)) {
    if (node.op !== "matmul" || edgesOf(subject, node).length !== 2) continue;
    const [x, matrix] = node.inputs.map((id) => network.byId.get(id));
    const weight = matrix.op === "transpose" ? network.byId.get(matrix.inputs[0]) : matrix;
    if (weight.leaf === "parameter" && weight.shape.length === 2) return { node, weight, x, matrix };
  }
  return null;
}

/** An addition of two values that both get a gradient: where paths meet again, if there is such a place, else of a bias. */
export function addition(subject) {
  const all = reached(subject).filter((node) => node.op === "add" && edgesOf(subject, node).length === 2);
  const meets = (node) =>
    node.inputs.every((id) => !/^(broadcast|reshape)$/.test(subject.node(id).op) && !subject.node(id).leaf);
  return all.find(meets) ?? all[0];
}

/** The first value that is used several times, so that gradients meet there. */
export const fanOut = (subject) =>
  reached(subject).find((node) => {
    const { summands } = subject.pass.byNode.get(node.id);
    return summands.length > 1 && new Set(summands.map((one) => one.from)).size === summands.length;
  });

/** Where channels of maps become one vector. */
export const flattening = (subject) =>
  reached(subject).find(
    (node) => node.op === "reshape" && node.shape.length === 2 && subject.node(node.inputs[0]).shape.length === 4,
  );

/** The parameters that are no vectors, from the image on. */
export const weights = ({ network, pass }) =>
  network.nodes.filter((node) => node.leaf === "parameter" && node.shape.length > 1 && pass.byNode.has(node.id));

/** Values that are maps of several places, from the image on. */
export const maps = (subject) =>
  reached(subject).filter((node) => {
    const shape = ofOneImage(node.shape);
    return shape.length === 3 && shape[1] * shape[2] > 1 && subject.node(node.inputs[0]).shape.length === 4;
  });
