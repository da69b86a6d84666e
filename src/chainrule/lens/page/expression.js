/**
 * Expressions that are typed: what Python answers about one, arranged for the page, and the way that steps of gradient descent
 * take from its values.
 */

import { post } from "./api.js";
import { useEffect, useRef, useState } from "./html.js";
import { prepared } from "./network.js";
import { brief, shapeText } from "./numbers.js";

const FEW = 6; // numbers that are written out

export const EXAMPLES = [
  { title: "The lecture's: (wᵀx − y)²", text: "(w @ x - y)**2", values: { w: [1, 2], x: [3, 4], y: 5 }, rate: 0.01 },
  { title: "A kink", text: "max(0, w*x + b) * v", values: { w: 1.5, x: 1, b: -0.5, v: 2 }, rate: 0.1 },
  { title: "A value used twice", text: "(w*x - y)**2 + 0.5*w**2", values: { w: -1, x: 1.5, y: 2 }, rate: 0.1 },
  { title: "A dead ReLU", text: "(max(0, w*x + b) - y)**2", values: { w: 1, x: 1, b: -2, y: 1 }, rate: 0.1 },
  { title: "A neuron with a sigmoid", text: "(sigmoid(w*x + b) - y)**2", values: { w: -1, x: 2, b: 0.5, y: 1 }, rate: 1 },
  {
    title: "Two layers",
    text: "(v @ relu(W @ x + b) - y)**2",
    values: {
      v: [1, -0.5],
      W: [
        [1, 0.5],
        [-1, 1],
      ],
      x: [1, 2],
      b: [0, 0.5],
      y: 2,
    },
    rate: 0.02,
  },
];

/** Names of data, which training leaves as they are: x, y and t, as long as another name is left. */
export function dataAmong(names) {
  const data = names.filter((name) => /^[xyt]\d*$/i.test(name));
  return data.length < names.length ? data : [];
}

/**
 * The answers along `steps` steps of gradient descent, the first for the `values` themselves: `{answers, trouble, busy}`. `wanted`
 * is `{text, values, rate, fixed, steps}`; the names in `fixed` keep their values. What was answered is not asked again.
 */
export function useDescent(wanted) {
  const [state, setState] = useState({ answers: [], trouble: null, busy: true, steps: 0 });
  const line = useRef({ busy: false, wanted, key: null, answers: [], gone: false });
  const key = JSON.stringify(wanted);
  if (key !== JSON.stringify(line.current.wanted)) line.current.wanted = wanted;
  useEffect(
    () => () => {
      line.current.gone = true;
    },
    [],
  );
  useEffect(() => {
    if (!line.current.busy) walk(line.current, setState);
  }, [key]);
  return state;
}

async function walk(line, setState) {
  line.busy = true;
  let done;
  do {
    done = line.wanted;
    const { text, values, rate, fixed, steps } = done;
    const key = JSON.stringify([text, values, rate, fixed]);
    const answers = key === line.key ? line.answers : [];
    try {
      while (answers.length <= steps && line.wanted === done && !line.gone)
        answers.push(
          await post("/api/expression", {
            text,
            values: answers.length ? after(answers.at(-1), fixed) : values,
            learning_rate: rate,
          }),
        );
      if (answers.length) Object.assign(line, { key, answers });
      if (answers.length > steps) setState({ answers: answers.slice(0, steps + 1), trouble: null, busy: false });
    } catch (trouble) {
      if (line.wanted === done) setState((before) => ({ ...before, trouble, busy: false }));
    }
  } while (line.wanted !== done && !line.gone);
  line.busy = false;
}

/** The values after a step: Python's, but for names that keep theirs. */
export const after = ({ names, values, stepped }, fixed) =>
  Object.fromEntries(names.map((name) => [name, fixed.includes(name) ? values[name] : stepped[name]]));

/** Whether all numbers are finite. */
export const isFinite = (value) => [value].flat(8).every((one) => one !== null);

/** The answer as a network that can be laid out, with `forwards` and `backwards`: its hidden values in the two orders. */
export function networkOf(answer, sizes) {
  const nodes = answer.nodes.map((node) => ({
    ...node,
    op: node.name,
    module: "",
    leaf: node.formula ? null : "parameter",
    shape: [],
  }));
  const error = answer.nodes.at(-1).id;
  const network = prepared({ nodes, modules: [], loss: error, image: null, scores: null }, null);
  const hidden = network.nodes.filter((node) => node.formula);
  return { ...network, sizes, error, forwards: hidden, backwards: hidden.filter((node) => node.upstream !== null).reverse() };
}

/** What a node's users pass back to it, `[{from, downstream}]`, in the order of the way back. */
export function summandsOf(network, node) {
  return [...network.nodes]
    .reverse()
    .flatMap((user) =>
      user.edges.filter((edge) => edge.input === node.id).map((edge) => ({ from: user, downstream: edge.downstream })),
    );
}

/** A value as it is said: a number, a short list, or the shape of what is longer. */
export function told(value, digits = 4) {
  if (!Array.isArray(value)) return brief(value, digits);
  const all = value.flat(8);
  return all.length <= FEW
    ? `[${value.map((one) => told(one, Math.min(digits, 3))).join(", ")}]`
    : `${shapeText(shapeOf(value))} numbers`;
}

/** The same in a product or a difference: what is negative stands in parentheses. */
export const toldInside = (value) => (told(value).startsWith("−") ? `(${told(value)})` : told(value));

const shapeOf = (value) => (Array.isArray(value) ? [value.length, ...shapeOf(value[0])] : []);

/** A formula in the lecture's words. */
export const lecture = (formula) => formula.replaceAll("maximum(", "max(").replaceAll("minimum(", "min(");

/** A formula with the numbers put in for the names of nodes. */
export function withNumbers(formula, network) {
  const values = new Map(network.nodes.map((node) => [node.name, node.value]));
  return lecture(formula)
    .replace(/[\p{L}_][\p{L}\d_]*/gu, (name, at, whole) =>
      values.has(name) && whole[at + name.length] !== "(" ? toldInside(values.get(name)) : name,
    )
    .replaceAll("**", "^")
    .replaceAll("*", "·")
    .replaceAll("-", "−");
}
