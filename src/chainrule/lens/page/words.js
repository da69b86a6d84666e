/** The lecture's words: what a node does to the gradient, and what kinds of local gradients there are. */

export const ROLES = {
  distributor: { symbol: "+", says: "Addition distributes the gradient: each input gets the upstream gradient as it is." },
  switcher: {
    symbol: "×",
    says: "Multiplication switches the gradient: each factor gets the upstream gradient times the other factor.",
  },
  router: { symbol: "∨", says: "Max routes the gradient: it goes to the input that was chosen, and the others get 0." },
  mover: { symbol: "→", says: "The numbers only move: the gradient moves back to where each of them came from." },
  scaler: {
    symbol: "∝",
    says: "Each number is changed by a function of its own: the gradient is scaled by that function's slope.",
  },
  normaliser: { symbol: "≈", says: "Numbers are set in relation to each other: the gradient of each depends on all of them." },
  blocker: { symbol: "∅", says: "No gradient passes: a small change of the input changes nothing, or it is not asked for." },
  custom: { symbol: "ƒ", says: "A function with a gradient rule of its own." },
  leaf: { symbol: "•", says: "Where the computation begins: a parameter, the image, or a constant." },
};

export const KINDS = {
  diagonal:
    "A number for each element: the Jacobian is diagonal, so upstream and local gradient are multiplied element by element.",
  routing: "Ones and zeros: each number of the upstream gradient goes to one place, and the others get 0.",
  constant: "The same whatever the numbers are.",
  dense: "A matrix: each output depends on many inputs. Its row for one output can be looked at in the node's view.",
  blocked: "0: no gradient passes here.",
};

export const LEAVES = {
  parameter: "a parameter: training changes it against its gradient",
  buffer: "a buffer: kept by the layer, not trained",
  input: "the image",
  constant: "a constant",
};

export const VIEWS = {
  train: { title: "Train", says: "Loss, accuracy, and how gradients flow while it trains" },
  graph: { title: "Graph", says: "The network as a computation graph" },
  backward: { title: "Backward", says: "Backpropagation, one node at a time" },
  node: { title: "Node", says: "One node: its value and its gradients" },
  what_if: { title: "What if", says: "Change a weight or a pixel and see what follows" },
  time: { title: "Time", says: "Filters and gradients as they were at earlier steps of the training" },
  draw: { title: "Draw", says: "Draw a digit, and see what the network takes it for while you draw" },
  explain: { title: "Explain", says: "Type an expression: its gradients, and steps against them" },
};

export const KEYS = [
  ["?", "show and hide these keys"],
  ["1 … 9", "go to a view"],
  ["Tab", "go to the next thing that can be used"],
  ["← →", "a step back or forward; move in a chart or a picture"],
  ["↑ ↓", "move in a chart, a picture or the graph"],
  ["Home End", "the first or last step"],
  ["Enter", "open what is marked"],
  ["+ −", "graph: zoom; e: expand or collapse; 0: show all"],
  ["/", "graph: search"],
  ["[ ]", "the image before or after this one"],
  ["t", "begin and leave the tour"],
  ["n p", "tour: the next step, the one before"],
  ["a b c d", "tour: answer the question"],
];

/** How a layer is called in a row: by its path, or, where that is only a number, also by what it is. */
export const layerName = (op, path) => (/^\d+$/.test(path) ? `${op} ${path}` : path || op);
