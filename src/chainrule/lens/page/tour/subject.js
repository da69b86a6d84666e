/** What steps ask: the network, the pass of the image, its arrays, and the lecture's small examples. */

import { post } from "../api.js";
import { unravel } from "../draw/arrange.js";
import { aboutPass, pixelsOf, tensorOf } from "../passes.js";

export function subjectOf(network, pass) {
  return {
    network,
    pass,
    loss: network.byId.get(network.loss),
    node: (id) => network.byId.get(id),
    array: (node, which, more) => tensorOf(pass, node, which, more),
    about: (what, query) => aboutPass(pass, what, query),
    image: () => pixelsOf(pass),
    example: (text, values) => post("/api/expression", { text, values, learning_rate: 0.1 }),
  };
}

/** Where the largest number of an array is, by `size` (its absolute value, unless told otherwise): its index. */
export function largest(array, size = Math.abs) {
  let [best, most] = [0, -Infinity];
  for (let i = 0; i < array.values.length; i++) {
    const one = size(array.values[i], i);
    if (one > most) [best, most] = [i, one];
  }
  return best;
}

/** The place of a number in the whole array, of which large ones are sent with steps. */
export const placeIn = (array, index) => unravel(index, array.shape).map((one, axis) => one * (array.step?.[axis] ?? 1));

/** The same of a unit of a node: the batch of one image is no axis of it. */
export function unitIn(array, index) {
  const place = placeIn(array, index);
  return place.length === 2 ? place.slice(1) : place;
}
