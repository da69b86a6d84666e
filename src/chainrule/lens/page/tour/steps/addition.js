/** L5: addition distributes the gradient. */

import { html } from "../../html.js";
import { brief } from "../../numbers.js";
import { sentences } from "../choices.js";
import { addition } from "../finding.js";
import { largest, unitIn } from "../subject.js";
import { name, number, partial } from "../wording.js";

export const step = {
  name: "addition",
  line: "L5",
  title: "Addition distributes the gradient",
  async prepare(subject) {
    const node = addition(subject);
    if (!node) return { absent: "This network adds nothing." };
    const upstream = await subject.array(node.id, "upstream");
    const at = largest(upstream);
    const [place, arrives] = [unitIn(upstream, at), upstream.values[at]];
    const value = (await subject.array(node.id, "value")).values[at];
    const [one, other] = node.inputs.map(subject.node);
    const half = brief(arrives / 2);
    return {
      at: { view: "node", id: node.id, query: {}, show: ".passed" },
      formula: html`<var>h</var> = <var>a</var> + <var>b</var>: ${partial("h", "a")} = ${partial("h", "b")} = 1`,
      says: html`${name(node)} = ${name(one)} + ${name(other)}. Its unit [${place.join(", ")}] has the value ${number(value)},
      and the upstream gradient that arrives there is ${number(arrives)}, the largest of all its units.`,
      question: {
        asks: html`What is passed back to ${name(one)} and to ${name(other)} there?`,
        about: { node: node.id, unit: place },
        choices: sentences(
          [
            `${brief(arrives)} to each`,
            html`Both local gradients are 1, so each summand gets the upstream gradient as it is: a change of either one changes
            the sum just as much.`,
          ],
          [
            [`${half} to each`, "Nothing is shared out: raise one summand by 1, and the sum rises by 1, not by a half."],
            [`${brief(arrives)} to the larger, 0 to the other`, "That is what max does. A sum depends on both."],
            [
              `${brief(arrives)} times the other summand, to each`,
              "That is what multiplication does. In a sum the other number does not matter.",
            ],
          ],
          1,
        ),
      },
    };
  },
};
