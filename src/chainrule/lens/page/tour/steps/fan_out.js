/** L4: where a value is used several times, its gradients are added. */

import { html } from "../../html.js";
import { numbers } from "../choices.js";
import { fanOut } from "../finding.js";
import { largest, unitIn } from "../subject.js";
import { name, number, partial, tableOfExample } from "../wording.js";

export const step = {
  name: "fan-out",
  line: "L4",
  title: "Where paths meet, gradients add up",
  async prepare(subject) {
    const node = fanOut(subject);
    if (!node) return inSmall(subject);
    const { summands } = subject.pass.byNode.get(node.id);
    const upstream = await subject.array(node.id, "upstream");
    const at = largest(upstream);
    const place = unitIn(upstream, at);
    const parts = await Promise.all(
      summands.map(async ({ from }) => {
        const { position } = subject.pass.byNode.get(from).edges.find((edge) => edge.input === node.id);
        return (await subject.array(from, "downstream", { position })).values[at];
      }),
    );
    const users = summands.map(({ from }) => subject.node(from));
    return {
      at: { view: "node", id: node.id, query: {}, show: ".sum" },
      formula: html`${partial("e", "h")} = the sum over all that use <var>h</var>`,
      says: html`${name(node)} is used ${summands.length} times: by
      ${users.map((user, i) => html`${i > 0 && " and "}${name(user)}`)}. At its unit [${place.join(", ")}] they send back
      ${parts.map((one, i) => html`${i > 0 && " and "}${number(one)}`)}.`,
      question: {
        asks: html`What is the upstream gradient of ${name(node)} there?`,
        about: { node: node.id, unit: place },
        choices: choicesOf(parts, upstream.values[at]),
      },
    };
  },
};

function choicesOf(parts, sum) {
  const product = parts.reduce((all, one) => all * one, 1);
  return numbers(
    [sum, "The sum: a change of the value reaches the error along each of the paths, and the changes add up."],
    [
      [product, "That is their product. Numbers along one path are multiplied; what comes from different paths is added."],
      [sum / parts.length, "That is their mean. Nothing is shared out: all of each change arrives."],
      [parts[0], "That is one of the paths alone; the value changes the error along the other ones too."],
      [parts.at(-1), "That is one of the paths alone; the value changes the error along the other ones too."],
    ],
  );
}

async function inSmall({ example }) {
  const found = await example("(w * x - y)**2 + w**2", { w: 1, x: 2, y: 3 });
  const w = found.nodes.find((node) => node.name === "w").id;
  const parts = found.nodes.flatMap((node) => node.edges.filter((edge) => edge.input === w).map((edge) => edge.downstream));
  return {
    absent: "In this network each value is used once, so here is an example in small: the lecture's, with weight decay.",
    formula: html`<var>e</var> = (<var>w x</var> − <var>y</var>)² + <var>w</var>²`,
    says: html`The weight w is used twice, with w = 1, x = 2, y = 3. The first use sends back ${number(parts[0])}, the second
    ${number(parts[1])}.`,
    table: tableOfExample(found),
    question: {
      asks: html`What is the gradient ${partial("e", "w")}?`,
      about: { expression: "(w * x - y)**2 + w**2" },
      choices: choicesOf(parts, found.gradients.w),
    },
  };
}
