/** L3: the lecture's example, e = (w x - y)^2. */

import { html } from "../../html.js";
import { brief } from "../../numbers.js";
import { numbers } from "../choices.js";
import { number, partial, tableOfExample } from "../wording.js";

export const step = {
  name: "example",
  line: "L3",
  title: "One weight, by hand",
  async prepare({ example }) {
    const found = await example("(w * x - y)**2", { w: 0.5, x: 2, y: 3 });
    const [w, x] = ["w", "x"].map((one) => found.nodes.find((node) => node.name === one));
    const product = found.nodes.find((node) => node.formula === "w * x");
    const right = found.gradients.w;
    return {
      formula: html`<var>e</var> = (<var>w x</var> − <var>y</var>)², ${partial("e", "w")} = 2(<var>h</var><sub>1</sub> −
        <var>y</var>) <var>x</var>`,
      says: html`Before the network, the lecture's example, which Python has just computed: w = ${number(w.value)}, x =
      ${number(x.value)}, y = 3. Read the table from below: each row takes what arrives (upstream), times its local gradient,
      and hands the product on (downstream).`,
      table: tableOfExample(found),
      question: {
        asks: html`Which gradient ${partial("e", "w")} arrives at the weight?`,
        about: { expression: "(w * x - y)**2" },
        choices: numbers(
          [
            right,
            `Upstream ${brief(product.upstream)} times local ${brief(x.value)}, as d(w x)/dw = x: ${brief(right)}. A step of training moves w from ${brief(w.value)} to ${brief(found.stepped.w)}, and the error falls from ${brief(found.error)} to ${brief(found.error_after)}.`,
          ],
          [
            [
              product.upstream,
              "That is the upstream gradient at h1 = w x. It still has to be multiplied by the local gradient, x.",
            ],
            [
              x.value,
              "That is the local gradient alone, d(w x)/dw = x. It still has to be multiplied by the upstream gradient.",
            ],
            [-right, "The size is right, the sign is not: w x is smaller than y, so a larger w makes the error smaller."],
            [found.gradients.x, "That is what x gets, whose local gradient is w. For w the local gradient is x."],
          ],
        ),
      },
    };
  },
};
