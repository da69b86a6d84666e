/**
 * The graph as a tree: nodes in the modules that made them, modules in modules. A module that is called twice is a box for each
 * call, or there would be a cycle between boxes. What stands outside of all modules behind the scores is the box "loss".
 */

export const LOSS = "(loss)";
export const ROOT = "";

/** Roles from the one that says most about a layer to the one that says least: a convolution's bias is not what it is about. */
const RANK = ["custom", "switcher", "router", "normaliser", "scaler", "blocker", "distributor", "mover"];

/** The answer of GET /api/graph with what views ask of it: `byId`, `users`, `groups` by key, and the `group` of each node. */
export function prepared(graph, meta) {
  const byId = new Map(graph.nodes.map((node) => [node.id, { ...node, users: [] }]));
  for (const node of byId.values()) for (const input of new Set(node.inputs)) byId.get(input).users.push(node.id);
  const nodes = [...byId.values()];
  const kinds = new Map(graph.modules.map((module) => [module.path, module]));
  const network = { ...graph, meta, nodes, byId, groups: new Map(), kinds };
  network.fromImage = descendants(network, graph.image);
  const calls = callsOf(network);
  network.groups.set(ROOT, newGroup(ROOT, "", 0, "", null));
  for (const node of nodes) {
    const key = groupOf(network, node, calls);
    node.group = key;
    network.groups.get(key).nodes.push(node.id);
    for (let at = key; at !== null; at = network.groups.get(at).parent) network.groups.get(at).all.push(node.id);
  }
  for (const group of network.groups.values()) describe(network, group);
  network.main = mainChain(network);
  return network;
}

function newGroup(key, path, call, kind, parent) {
  return { key, path, call, kind, parent, groups: [], nodes: [], all: [] };
}

/** Which call of each module a node belongs to: `Map(path -> Map(id -> call from 0))`, for modules that are entered again. */
function callsOf({ nodes, byId, kinds }) {
  const found = new Map();
  for (const path of kinds.keys()) {
    const within = new Set(nodes.filter((node) => node.module === path || node.module.startsWith(`${path}.`)));
    const inside = (node) => within.has(node);
    const reach = new Map(); // the latest call of this module that a node depends on, -1 if on none
    const call = new Map();
    for (const node of nodes) {
      let latest = -1;
      for (const id of node.inputs) {
        const input = byId.get(id);
        if (inside(node) && !inside(input) && reach.get(id) >= 0) latest = Math.max(latest, reach.get(id) + 1);
        else latest = Math.max(latest, reach.get(id));
      }
      if (inside(node)) {
        if (latest < 0 && node.inputs.some((id) => !inside(byId.get(id)))) latest = 0;
        if (latest >= 0) call.set(node.id, latest);
      }
      reach.set(node.id, latest);
    }
    if ([...call.values()].some((one) => one > 0)) {
      for (const node of [...nodes].reverse())
        if (inside(node) && !call.has(node.id)) {
          const users = node.users.filter((id) => call.has(id)).map((id) => call.get(id));
          call.set(node.id, users.length ? Math.min(...users) : 0);
        }
      found.set(path, call);
    }
  }
  return found;
}

/** The key of the innermost group of a node; makes the group, and those around it. */
function groupOf(network, node, calls) {
  if (node.module) return moduleGroup(network, node.module, node.id, calls);
  if (node.id === network.image) return ROOT;
  if (!network.fromImage.has(node.id) && node.users.length) return groupOf(network, network.byId.get(node.users[0]), calls);
  if (network.scores === null || !dependsOn(network, node, network.scores)) return ROOT;
  if (!network.groups.has(LOSS)) {
    network.groups.set(LOSS, newGroup(LOSS, LOSS, 0, "loss", ROOT));
    network.groups.get(ROOT).groups.push(LOSS);
  }
  return LOSS;
}

function moduleGroup(network, path, id, calls) {
  const call = calls.get(path)?.get(id) ?? 0;
  const key = call ? `${path}#${call + 1}` : path;
  if (!network.groups.has(key)) {
    const module = network.kinds.get(path);
    const outer = module?.parent ?? path.split(".").slice(0, -1).join(".");
    const parent = outer ? moduleGroup(network, outer, id, calls) : ROOT;
    network.groups.set(key, newGroup(key, path, call, module?.kind ?? "", parent));
    network.groups.get(parent).groups.push(key);
  }
  return key;
}

/** What depends on a node, and the node itself; without one, what is no leaf. */
function descendants({ nodes }, id) {
  if (id === null) return new Set(nodes.filter((node) => !node.leaf).map((node) => node.id));
  const found = new Set([id]);
  for (const node of nodes) if (node.inputs.some((input) => found.has(input))) found.add(node.id);
  return found;
}

function dependsOn(network, node, id) {
  const seen = new Set();
  const open = [node.id];
  while (open.length) {
    const at = open.pop();
    if (at === id) return at !== node.id;
    if (at < id || seen.has(at)) continue;
    seen.add(at);
    open.push(...network.byId.get(at).inputs);
  }
  return false;
}

/** A group's title, role, and the node whose value leaves it. */
function describe(network, group) {
  const inside = new Set(group.all);
  const values = group.all.map((id) => network.byId.get(id)).filter((node) => !node.leaf);
  const leaving = values.filter((node) => node.id === network.loss || node.users.some((id) => !inside.has(id)));
  group.out = (leaving.at(-1) ?? values.at(-1))?.id ?? null;
  group.roles = values.map((node) => node.role);
  group.role = group.groups.length ? null : (RANK.find((role) => group.roles.includes(role)) ?? "mover");
  group.isLoss = group.key === LOSS || (group.kind === "function" && group.out === network.loss);
  if (group.isLoss) group.role = "normaliser";
  group.parameters = group.all.filter((id) => network.byId.get(id).leaf === "parameter");
  group.main = values.find((node) => node.role === group.role)?.id ?? group.out; // what it is about: the convolution of a Conv2d
  group.opens = group.all.length > 1;
  group.title = group.isLoss ? "loss" : group.kind && group.kind !== "function" ? group.kind : group.path;
  group.subtitle =
    group.key === LOSS || group.path === group.title ? "" : group.path + (group.call ? `, call ${group.call + 1}` : "");
}

/** The groups and nodes at the top, in order: what a small map of the network shows. */
function mainChain(network) {
  const top = new Map();
  for (const node of network.nodes) {
    let key = node.group;
    if (key === ROOT) {
      top.set(`node ${node.id}`, {
        key: `node ${node.id}`,
        title: node.id === network.image ? "image" : node.name,
        nodes: [node.id],
        role: node.role,
      });
      continue;
    }
    while (network.groups.get(key).parent !== ROOT) key = network.groups.get(key).parent;
    const { title, subtitle, all, role } = network.groups.get(key);
    top.set(key, { key, title, subtitle, nodes: all, role });
  }
  const last = (one) => one.nodes.findLast((id) => !network.byId.get(id).leaf) ?? -1; // by which they are in order
  return [...top.values()]
    .sort((one, other) => last(one) - last(other))
    .filter((one) => one.nodes.some((id) => !network.byId.get(id).leaf || id === network.image));
}

/** How a node is called in a sentence: `h4 = h1 + h3 in conv1 (Conv2d)`. */
export function nodeTitle(node) {
  return node.formula ? `${node.name} = ${node.formula}` : node.name;
}

/** Where a node stands: `Conv2d conv1`, `loss`. */
export function placeOf(network, node) {
  const group = network.groups.get(node.group);
  if (!group || group.key === ROOT) return node.id === network.image ? "the image" : "";
  return [group.title, group.subtitle].filter(Boolean).join(" ");
}

/** The nearest node that a click on `id` should open: the node itself, if the graph has it. */
export const exists = (network, id) => id !== null && network.byId.has(Number(id));
