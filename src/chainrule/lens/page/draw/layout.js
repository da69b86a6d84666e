/**
 * Where boxes and edges of the graph stand. Each module is laid out alone, in layers from left to right, and placed in the
 * module around it as one box; an edge that skips layers has a lane of its own in each of them, so it goes around the boxes.
 * An edge into an open module ends at a port on its border and goes on inside.
 */

import { ROOT } from "../network.js";

export const NODE = { width: 118, height: 46 };
export const LEAF = { width: 104, height: 32 };
const SIZES = { node: NODE, leaf: LEAF }; // of boxes, unless the network has `sizes` of its own
export const CLOSED = { width: 100, height: 96 };
const PADDING = 16;
const TITLE = 28;
const BETWEEN_LAYERS = 34;
const BETWEEN_BOXES = 16;
const LANE = 10;
const SWEEPS = 6;
const LEAST_ROW = 400;

const BETWEEN_ROWS = 44;
const TURN = 18; // how far an edge that goes on in the next row sticks out

/** The largest zoom at which a drawing is shown: boxes larger than that say no more. */
export const MOST_ZOOM = 1.35;

/**
 * `{boxes, edges, width, height}` of the network, with the groups whose keys are in `expanded` open. What is wide is wrapped
 * into rows like a text, where that makes it larger in a place of `size`, its width and height.
 */
export function layoutOf(network, expanded, size = [1360, 600]) {
  const plans = new Map();
  const laidOut = (most) => level(network, ROOT, expanded, most, plans);
  const zoom = ({ width, height }) => Math.min(size[0] / width, size[1] / height, MOST_ZOOM);
  const first = laidOut(Infinity);
  let best = { most: Infinity, zoom: zoom(first) };
  let worse = 0; // rows in vain
  for (let rows = 2; worse < 2 && first.width / rows > LEAST_ROW && best.zoom < MOST_ZOOM; rows++) {
    worse += 1;
    for (const slack of [1.05, 1.25]) {
      const most = (slack * first.width) / rows;
      const found = zoom(laidOut(most));
      if (found > 1.1 * best.zoom) [best, worse] = [{ most, zoom: found }, 0];
    }
  }
  const whole = laidOut(best.most);
  const found = { boxes: [], edges: [] };
  place(whole, 0, 0, 0, found);
  return { ...found, width: whole.width, height: whole.height };
}

/** The items of a group, its edges, and where each stands, from the group's own corner; at most about `most` wide. */
function level(network, key, expanded, most, plans) {
  if (!plans.has(key)) plans.set(key, planOf(network, key, expanded));
  const { items, edges, layers } = plans.get(key);
  for (const item of items.values())
    if (item.opens) {
      item.inner = level(network, item.key, expanded, most - 2 * BETWEEN_LAYERS, plans);
      item.width = item.inner.width;
      item.height = item.inner.height;
    }
  return settled(key, edges, layers, most);
}

/** What of a group's layout does not depend on the room: its items, edges, layers and their order. */
function planOf(network, key, expanded) {
  const group = network.groups.get(key);
  const items = new Map();
  const itemOf = new Map();
  for (const one of group.groups) {
    const opens = expanded.has(one) && network.groups.get(one).opens;
    items.set(one, { key: one, kind: "group", opens, inner: null, ...CLOSED });
    for (const id of network.groups.get(one).all) itemOf.set(id, one);
  }
  for (const id of group.nodes) {
    const { leaf } = network.byId.get(id);
    const sizes = network.sizes ?? SIZES;
    const small = leaf !== null && leaf !== "input";
    items.set(`node ${id}`, { key: `node ${id}`, kind: "node", id, leaf: small, ...sizes[small ? "leaf" : "node"] });
    itemOf.set(id, `node ${id}`);
  }
  const edges = edgesOf(network, group.all, items, itemOf);
  const layers = layered(items, edges);
  addLanes(items, edges, layers);
  order(layers);
  return { items, edges, layers };
}

/** Edges between items, one for each value and item that reads it; ports for values that come from or go to the outside. */
function edgesOf(network, inside, items, itemOf) {
  const edges = new Map();
  const port = (side, id) => {
    const key = `${side} ${id}`;
    if (!items.has(key)) items.set(key, { key, kind: "port", side, id, width: 0, height: LANE });
    return key;
  };
  const join = (from, to, source, readers) => {
    const key = `${from} > ${to} ${source}`;
    if (from === to) return;
    if (!edges.has(key)) edges.set(key, { from, to, source, readers: [] });
    edges.get(key).readers.push(...readers);
  };
  for (const id of inside) {
    const { inputs, users } = network.byId.get(id);
    for (const input of inputs) join(itemOf.get(input) ?? port("in", input), itemOf.get(id), input, [id]);
    const outside = users.filter((user) => !itemOf.has(user));
    if (outside.length) join(itemOf.get(id), port("out", id), id, outside);
  }
  return [...edges.values()];
}

/** Layers by the longest path from the left; what has no inputs stands next to what reads it. */
function layered(items, edges) {
  const before = new Map([...items.keys()].map((key) => [key, []]));
  const after = new Map([...items.keys()].map((key) => [key, []]));
  for (const { from, to } of edges) {
    before.get(to).push(from);
    after.get(from).push(to);
  }
  const open = new Map([...before].map(([key, keys]) => [key, keys.length]));
  const ready = [...items.keys()].filter((key) => open.get(key) === 0);
  const rank = new Map();
  while (ready.length) {
    const key = ready.shift();
    rank.set(key, Math.max(0, ...before.get(key).map((one) => rank.get(one) + 1)));
    for (const one of after.get(key)) {
      open.set(one, open.get(one) - 1);
      if (open.get(one) === 0) ready.push(one);
    }
  }
  for (const key of items.keys()) if (!rank.has(key)) rank.set(key, 0); // a cycle, which no graph of ours has
  const last = Math.max(0, ...rank.values());
  for (const [key, item] of items) {
    if (item.kind === "port") rank.set(key, item.side === "in" ? 0 : last + (hasOut(items) ? 1 : 0));
    else if (!before.get(key).length && after.get(key).length)
      rank.set(key, Math.min(...after.get(key).map((one) => rank.get(one))) - 1);
  }
  const lowest = Math.min(...rank.values());
  const shift = [...items.values()].some((item) => item.kind === "port" && item.side === "in" && rank.get(item.key) > lowest)
    ? 1
    : 0;
  const layers = [];
  for (const [key, item] of items) {
    item.rank = item.kind === "port" && item.side === "in" ? 0 : rank.get(key) - lowest + shift;
    item.before = before.get(key);
    item.after = after.get(key);
    (layers[item.rank] ??= []).push(item);
  }
  for (let i = 0; i < layers.length; i++) layers[i] ??= [];
  const out = layers.flat().filter((item) => item.side === "out");
  for (const item of out) {
    layers[item.rank] = layers[item.rank].filter((one) => one !== item);
    item.rank = layers.length - 1;
  }
  layers[layers.length - 1].push(...out.filter((item) => !layers.at(-1).includes(item)));
  return layers;
}

const hasOut = (items) => [...items.values()].some((item) => item.side === "out");

/** Lanes where an edge skips layers; each edge gets its `chain`, the items from its start to its end. */
function addLanes(items, edges, layers) {
  for (const edge of edges) {
    const [start, end] = [items.get(edge.from), items.get(edge.to)];
    const chain = [start];
    for (let rank = start.rank + 1; rank < end.rank; rank++) {
      const lane = {
        key: `lane ${edge.from} ${edge.to} ${edge.source} ${rank}`,
        kind: "lane",
        rank,
        width: 0,
        height: LANE,
        before: [],
        after: [],
      };
      layers[rank].push(lane);
      chain.push(lane);
    }
    chain.push(end);
    edge.chain = chain;
    for (let i = 1; i < chain.length; i++) {
      (chain[i - 1].right ??= []).push(chain[i]);
      (chain[i].left ??= []).push(chain[i - 1]);
    }
  }
}

/** The order from top to bottom in each layer, by the mean place of the neighbours. */
function order(layers) {
  for (const layer of layers) layer.forEach((item, i) => (item.place = i));
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const down = sweep % 2 === 0;
    for (const layer of down ? layers : [...layers].reverse()) {
      const wished = new Map(
        layer.map((item) => [item, mean((down ? item.left : item.right)?.map((one) => one.place)) ?? item.place]),
      );
      layer.sort((one, other) => wished.get(one) - wished.get(other));
      layer.forEach((item, i) => (item.place = i - (layer.length - 1) / 2));
    }
  }
}

const mean = (numbers) => (numbers?.length ? numbers.reduce((sum, one) => sum + one, 0) / numbers.length : undefined);

/** Heights: boxes as near to their neighbours as the order allows, from the left, from the right, and from the left again. */
function align(edges, rows) {
  const offset = (item, edge) => {
    const side = edge.from === item.key ? item.inner?.outPorts : item.inner?.inPorts;
    return side?.has(edge.source) ? side.get(edge.source) - item.height / 2 : 0;
  };
  const joints = new Map([...new Set(rows.flat(2))].map((item) => [item, { left: [], right: [] }]));
  rows.forEach((row, number) => row.flat().forEach((item) => (item.row = number)));
  for (const edge of edges) {
    const { chain } = edge;
    for (let k = 1; k < chain.length; k++) {
      const [left, right] = [chain[k - 1], chain[k]];
      if (left.row !== right.row) continue;
      const shift = (k === 1 ? offset(left, edge) : 0) - (k === chain.length - 1 ? offset(right, edge) : 0);
      joints.get(left).right.push({ other: right, shift: -shift });
      joints.get(right).left.push({ other: left, shift });
    }
  }
  const near = (item, side) => {
    const known = joints.get(item)[side].filter(({ other }) => !other.leaf);
    return mean(known.map(({ other, shift }) => other.y + shift)) ?? item.y;
  };
  for (const row of rows) {
    for (const layer of row) spread(layer, () => 0);
    for (const side of ["left", "right", "left"])
      for (const layer of side === "left" ? row : [...row].reverse())
        spread(layer, (item) => near(item, item.leaf ? "right" : side));
  }
}

/** Coordinates: layers side by side, in rows. */
function settled(key, edges, layers, most) {
  const isRoot = key === ROOT;
  const all = layers.flat();
  const rows = wrapped(layers, most);
  align(edges, rows);
  let y = isRoot ? PADDING : PADDING / 2 + TITLE;
  let right = 0;
  for (const row of rows) {
    const items = row.flat();
    const top = Math.min(...items.map((item) => item.y - item.height / 2));
    const height = Math.max(...items.map((item) => item.y + item.height / 2)) - top;
    let x = PADDING + (rows.length > 1 ? TURN : 0);
    for (const layer of row) {
      const width = Math.max(0, ...layer.map((item) => item.width));
      for (const item of layer) Object.assign(item, { x: x + width / 2, from: x, to: x + width, y: item.y - top + y });
      x += width + BETWEEN_LAYERS;
    }
    right = Math.max(right, x - BETWEEN_LAYERS);
    y += height;
    row.bottom = y;
    y += BETWEEN_ROWS;
  }
  const out = all.filter((item) => item.side === "out");
  const width = Math.max(right + PADDING + (rows.length > 1 ? TURN : 0), 120);
  for (const item of out) item.x = width;
  for (const item of all) if (item.side === "in") item.x = 0;
  const ports = (side) => new Map(all.filter((item) => item.side === side).map((item) => [item.id, item.y]));
  const height = y - BETWEEN_ROWS + PADDING;
  return { key, items: all, edges, rows, right: right + TURN / 2, width, height, inPorts: ports("in"), outPorts: ports("out") };
}

/** Layers in rows: a row ends where only one line leads on, and it would be wider than `most` otherwise. */
function wrapped(layers, most) {
  const width = (layer) => Math.max(0, ...layer.map((item) => item.width)) + BETWEEN_LAYERS;
  const rows = [[]];
  let wide = 0;
  let breakable = 0; // how many layers of the row stand before the last place where it may end
  let before = 0; // their width
  for (const layer of layers) {
    const row = rows.at(-1);
    if (row.length) {
      const joined = new Set(row.at(-1).flatMap((item) => (item.right ?? []).map(() => item)));
      const ended = row.at(-1).every((item) => item.kind !== "port") && layer.every((item) => item.kind !== "port");
      if (joined.size === 1 && ended) [breakable, before] = [row.length, wide];
    }
    row.push(layer);
    wide += width(layer);
    if (wide > most && breakable) {
      rows.push(row.splice(breakable));
      wide -= before;
      breakable = 0;
    }
  }
  return rows;
}

/** How far the middles of two neighbours in a layer must be apart. */
const apart = (one, other) =>
  (one.height + other.height) / 2 + (one.kind === "lane" && other.kind === "lane" ? LANE / 2 : BETWEEN_BOXES);

/** Boxes of a layer as near as can be to where they wish to be, in their order and without touching (pooled averages). */
function spread(layer, wish) {
  const pools = [];
  let far = 0;
  layer.forEach((item, i) => {
    if (i) far += apart(layer[i - 1], item);
    const weight = item.leaf ? 0.02 : 1;
    pools.push({ sum: weight * (wish(item) - far), weight, items: [[item, far]] });
    while (pools.length > 1 && pools.at(-2).sum / pools.at(-2).weight > pools.at(-1).sum / pools.at(-1).weight) {
      const { sum, weight: heavy, items } = pools.pop();
      const last = pools.at(-1);
      last.sum += sum;
      last.weight += heavy;
      last.items.push(...items);
    }
  });
  for (const { sum, weight, items } of pools) for (const [item, place] of items) item.y = sum / weight + place;
}

/** Boxes and edges of a level, and of the open modules in it, in the coordinates of the whole drawing. */
function place(whole, left, top, depth, found) {
  for (const item of whole.items) {
    if (item.kind !== "group" && item.kind !== "node") continue;
    const box = {
      x: left + item.x - item.width / 2,
      y: top + item.y - item.height / 2,
      width: item.width,
      height: item.height,
    };
    found.boxes.push({
      key: item.key,
      kind: item.kind,
      id: item.id,
      open: Boolean(item.inner),
      parent: whole.key,
      depth,
      ...box,
    });
    if (item.inner) place(item.inner, box.x, box.y, depth + 1, found);
  }
  for (const edge of whole.edges) {
    const [start, end] = [edge.chain[0], edge.chain.at(-1)];
    const key = `${whole.key}/${edge.from} > ${edge.to} ${edge.source}`;
    found.edges.push({
      key,
      source: edge.source,
      readers: edge.readers,
      arrow: end.kind !== "port" && !end.inner,
      leaf: start.leaf === true,
      path: pathOf(edge, whole, left, top),
    });
  }
}

/** The path of an edge: straight along layers, curved between them, around the corner into the next row. */
function pathOf(edge, whole, left, top) {
  const [start, end] = [edge.chain[0], edge.chain.at(-1)];
  const height = (item, ports) => (ports?.has(edge.source) ? item.y - item.height / 2 + ports.get(edge.source) : item.y);
  const at = (x, y) => `${round(left + x)},${round(top + y)}`;
  let [x, y] = [start.x + start.width / 2, height(start, start.inner?.outPorts)];
  let path = `M${at(x, y)}L${at(start.to, y)}`;
  x = start.to;
  for (let i = 1; i < edge.chain.length; i++) {
    const [from, to] = [edge.chain[i - 1], edge.chain[i]];
    const down = to === end ? height(end, end.inner?.inPorts) : to.y;
    if (from.row !== to.row) path += turn(at, x, y, to.from, down, whole, from.row);
    else if (Math.abs(y - down) < 0.5) path += `L${at(to.from, down)}`;
    else path += `C${at((x + to.from) / 2, y)} ${at((x + to.from) / 2, down)} ${at(to.from, down)}`;
    [x, y] = [to === end ? end.x - end.width / 2 : to.to, down];
    path += `L${at(x, y)}`;
  }
  return path;
}

/** Out at the right, back between the rows, and in at the left of the next row, with round corners. */
function turn(at, x, y, to, down, { right, rows }, row) {
  const middle = rows[row].bottom + BETWEEN_ROWS / 2;
  const begin = to - TURN / 2;
  const r = Math.min(8, Math.abs(middle - y) / 2, Math.abs(down - middle) / 2);
  return (
    `L${at(right - r, y)}Q${at(right, y)} ${at(right, y + r)}L${at(right, middle - r)}Q${at(right, middle)} ${at(right - r, middle)}` +
    `L${at(begin + r, middle)}Q${at(begin, middle)} ${at(begin, middle + r)}L${at(begin, down - r)}Q${at(begin, down)} ${at(to, down)}`
  );
}

const round = (number) => Math.round(number * 10) / 10;
