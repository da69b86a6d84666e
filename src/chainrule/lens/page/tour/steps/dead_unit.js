/** L7: where every input is below 0 the gradient is 0: a dead ReLU. */

import { get } from "../../api.js";
import { html } from "../../html.js";
import { percent } from "../../numbers.js";
import { name, number, partial } from "../wording.js";

export const step = {
  name: "dead-unit",
  line: "L7",
  title: "A dead ReLU",
  async prepare(subject) {
    const { layers, probe } = await get("/api/relu");
    const known = layers.filter((layer) => layer.node !== null && layer.channels >= 3);
    if (!known.length) return { absent: "This network has no ReLU with several units." };
    const layer =
      known.find((one) => one.dead.some(Boolean)) ??
      known.reduce((most, one) => (Math.max(...one.zeros) > Math.max(...most.zeros) ? one : most));
    const node = subject.node(layer.node);
    const dead = layer.dead.indexOf(true);
    const shown = units(layer, dead);
    const said = (unit) => `0 in ${percent(layer.zeros[unit])} of all cases`;
    return {
      at: { view: "node", id: node.id, query: {}, show: ".product" },
      formula: html`all <var>z</var><sub>i</sub> ${"<"} 0 ⇒ ${partial("e", "w")} = 0`,
      says: html`${name(node)} has ${layer.channels} ${node.shape.length === 4 ? "channels" : "units"}. Dead, that is 0 for each
      of ${probe} images: ${number(layer.dead.filter(Boolean).length)}. Where z is below 0 the local gradient is 0; where it is
      so for every image, nothing that arrives gets through to the weights before it.`,
      question: {
        asks: "Which of these can no longer learn from these images?",
        about: { path: layer.path, units: shown },
        choices: [
          ...shown.map((unit) => ({
            says: `unit ${unit}: ${said(unit)}`,
            value: unit,
            right: unit === dead,
            why:
              unit === dead
                ? "It is 0 for each image, so its local gradient is 0 each time, and so is the gradient of its weights: a step of training leaves them where they are. A smaller learning rate, another initialisation or a leaky ReLU prevents that."
                : "For some images it is above 0, and for those the gradient passes to its weights.",
          })),
          {
            says: "none of them",
            right: dead < 0,
            why:
              dead < 0
                ? "Each of them is above 0 somewhere, and there the gradient passes: this layer has no dead unit. That is as it should be."
                : `Look again: unit ${dead} is 0 for every image, and so is the gradient of its weights.`,
          },
        ],
      },
    };
  },
};

/** Three units: the dead one, if there is one, and others that are 0 often and seldom; in order of their numbers. */
function units(layer, dead) {
  const others = layer.zeros
    .map((share, unit) => [share, unit])
    .filter(([, unit]) => !layer.dead[unit])
    .sort(([one], [other]) => other - one)
    .map(([, unit]) => unit);
  const chosen = [others[0], others[others.length >> 1], others.at(-1)];
  if (dead >= 0) chosen[0] = dead;
  return [...new Set(chosen.filter((unit) => unit !== undefined))].sort((one, other) => one - other);
}
