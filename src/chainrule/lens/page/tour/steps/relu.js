/** L6: ReLU works per element; its Jacobian is diagonal. */

import { html } from "../../html.js";
import { brief, grouped, percent, sizeOf } from "../../numbers.js";
import { numbers } from "../choices.js";
import { relu } from "../finding.js";
import { largest, unitIn } from "../subject.js";
import { name, number, ratio } from "../wording.js";

export const step = {
  name: "relu",
  line: "L6",
  title: "ReLU works per element",
  async prepare(subject) {
    const node = relu(subject);
    if (!node) return { absent: "This network has no ReLU." };
    const edge = subject.pass.byNode.get(node.id).edges[0];
    const input = subject.node(edge.input);
    const [z, upstream] = await Promise.all([subject.array(input.id, "value"), subject.array(node.id, "upstream")]);
    const blocked = largest(upstream, (one, i) => (z.values[i] < 0 ? Math.abs(one) : -1));
    const open = largest(upstream, (one, i) => (z.values[i] > 0 ? Math.abs(one) : -1));
    const at = z.values[blocked] < 0 && upstream.values[blocked] !== 0 ? blocked : open;
    const [place, arrives, from] = [unitIn(upstream, at), upstream.values[at], z.values[at]];
    const passes = from > 0;
    const size = sizeOf(node.shape);
    return {
      at: { view: "node", id: node.id, query: { unit: place.join(",") }, show: ".passed" },
      formula: html`ReLU(<var>z</var>) = max(0, <var>z</var>): ${ratio(["h", "i"], ["z", "i"])} = 1 where <var>z</var
        ><sub>i</sub> > 0, else 0`,
      says: html`Each number of ${name(node)} depends on the one number of ${name(input)} at the same place, so of the
      ${grouped(size)} × ${grouped(size)} numbers of the Jacobian only the diagonal is not 0; and
      ${percent(edge.local.zeros, 0)} of the diagonal is 0 for this image. At [${place.join(", ")}] z is ${number(from)}, and
      the upstream gradient is ${number(arrives)}.`,
      question: {
        asks: html`What is the downstream gradient, which ${name(input)} gets there?`,
        about: { node: node.id, unit: place },
        choices: numbers(
          [
            passes ? arrives : 0,
            passes
              ? "z is above 0, so the local gradient is 1: the upstream gradient passes as it is."
              : "z is below 0, so the local gradient is 0: nothing passes, however large the upstream gradient is.",
          ],
          [
            [
              passes ? 0 : arrives,
              passes
                ? `z = ${brief(from)} is above 0: the local gradient is 1, and the gradient passes.`
                : `That passes where z > 0. Here z = ${brief(from)}, and the local gradient is 0.`,
            ],
            [arrives * from, "That is upstream times z. The local gradient is the slope of ReLU, 1 or 0, not its input."],
            [from, "That is z itself. It only decides whether the gradient passes."],
          ],
        ),
      },
    };
  },
};
