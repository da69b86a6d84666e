/** L10: a unit sees a part of the image, its receptive field. */

import { html } from "../../html.js";
import { brief } from "../../numbers.js";
import { maps } from "../finding.js";
import { largest, placeIn } from "../subject.js";
import { name, number, partial } from "../wording.js";

export const step = {
  name: "receptive-field",
  line: "L10",
  title: "What a unit sees of the image",
  async prepare(subject) {
    const { image } = subject.network;
    const { height, width } = subject.network.meta.image ?? {};
    const candidates = image === null || !height ? [] : maps(subject);
    const found = await deepest(subject, candidates, height, width);
    if (!found) return { absent: "Each unit of this network sees the whole image." };
    const { node, unit, field } = found;
    const { box, measured } = field;
    const at = (y, x) => measured[y]?.[x] ?? 0;
    return {
      at: { view: "node", id: node.id, query: {}, show: ".product" },
      formula: html`${partial("h", "x")} = 0 outside of the receptive field`,
      says: html`The unit ${name(node, unit)} looks at a window of the layer before it, whose units look at windows in turn. So
      it sees ${number(box.height)} × ${number(box.width)} pixels of the ${height} × ${width} of the image; it lies at row
      ${unit[1]} of ${node.shape[2]}, column ${unit[2]} of ${node.shape[3]}.`,
      question: {
        asks: "Click a pixel that this unit sees.",
        about: { node: node.id, unit, box },
        image: await subject.image(),
        box,
        shows: { query: { unit: unit.join(",") }, show: ".unit" },
        right: (y, x) =>
          at(y, x) > 0
            ? `Row ${y}, column ${x} lies in the box. As measured, the unit changes there by ${brief(at(y, x))} for a pixel's change of 1.`
            : `Row ${y}, column ${x} lies in the box. For this image it happens to count nothing there: a ReLU or a pooling lets nothing through.`,
        wrong: (y, x) =>
          `Row ${y}, column ${x} lies outside of the box, which covers rows ${box.top} to ${box.top + box.height - 1} and columns ${box.left} to ${box.left + box.width - 1}: whatever that pixel is, the unit stays as it is.`,
      },
    };
  },
};

/** The last of the maps that has a unit which does not see the whole image: `{node, unit, field}`. */
async function deepest(subject, candidates, height, width) {
  let [low, high, best] = [0, candidates.length - 1, null];
  while (low <= high) {
    const middle = (low + high) >> 1;
    const node = candidates[middle];
    const value = await subject.array(node.id, "value");
    const [channel, y, x] = placeIn(value, largest(value));
    const field = await subject.about("receptive_field", { node: node.id, channel, y, x });
    const covers = field.whole.height >= height && field.whole.width >= width;
    if (covers) high = middle - 1;
    else [low, best] = [middle + 1, { node, unit: [channel, y, x], field }];
  }
  return best;
}
