/** The network as a computation graph: modules that open, nodes coloured by role or by the size of a number. */

import { MOST_ZOOM, layoutOf } from "../draw/layout.js";
import { scaleOf } from "../draw/scales.js";
import { ROOT, nodeTitle } from "../network.js";
import { brief, ofOneImage, percent, shapeText } from "../numbers.js";
import { Legend } from "../parts/legend.js";
import { brightness, useLit } from "../parts/paths.js";
import { WithNetwork } from "../parts/subject.js";
import { Numbers } from "../parts/table.js";
import { useDark } from "../parts/theme.js";
import { Glyph } from "../draw/glyph.js";
import { RoleLegend } from "../parts/role.js";
import { adjust, go, useRoute } from "../router.js";
import { html, useEffect, useMemo, useRef, useState } from "../html.js";
import { ROLES } from "../words.js";

/** What boxes can be coloured by: how a number is taken from a step of the pass, and what it is called. */
const COLOURS = {
  role: { title: "role" },
  value: { title: "value", of: (step) => rootMeanSquare(step.value), says: "size of the value (root mean square)" },
  gradient: {
    title: "gradient",
    of: (step) => rootMeanSquare(step.upstream),
    says: "size of the upstream gradient (root mean square)",
  },
  zeros: { title: "zeros", of: (step) => step.value.zeros, says: "share of zeros in the value" },
};

const rootMeanSquare = ({ norm, size }) => (norm === null || !size ? null : norm / Math.sqrt(size));

export const GraphView = () => html`<${WithNetwork} view=${Graph} needsPass=${false} />`;

function Graph({ network, pass }) {
  const { query } = useRoute();
  const [sought, setSought] = useState("");
  const [marked, setMarked] = useState(null);
  const by = COLOURS[query.by] ? query.by : "role";
  const expanded = useMemo(() => new Set(opened(network, query.open)), [network, query.open]);
  const [size, setSize] = useState([1360, 600]);
  const room = size.map((one) => Math.max(Math.round(one / 40) * 40, 200));
  const layout = useMemo(() => layoutOf(network, expanded, room), [network, expanded, ...room]);
  const paint = usePaint(network, pass, by);
  const lit = useLit();
  const setOpen = (keys) => adjust({ open: keys.size === openable(network).length ? "all" : [...keys].join(" ") || undefined });
  const toggle = (key) => {
    const next = new Set(expanded);
    if (next.has(key)) for (const one of next) if (one === key || isInside(network, one, key)) next.delete(one);
    if (!expanded.has(key)) next.add(key);
    setOpen(next);
    setMarked(key);
  };
  const found = useMemo(() => matches(network, sought), [network, sought]);
  const show = (id) => {
    const next = new Set(expanded);
    for (let key = network.byId.get(id).group; key !== ROOT; key = network.groups.get(key).parent) next.add(key);
    setOpen(next);
    setMarked(`node ${id}`);
    setSought("");
  };
  return html`
    <div class="bar">
      <div class="choice" role="group" aria-label="Colour">
        ${Object.entries(COLOURS).map(
          ([name, { title }]) =>
            html`<button aria-pressed=${String(name === by)} onClick=${() => adjust({ by: name })}>${title}</button>`,
        )}
      </div>
      <button onClick=${() => setOpen(new Set(openable(network)))}>Expand all</button>
      <button onClick=${() => setOpen(new Set())}>Collapse all</button>
      <div class="search">
        <input
          type="search"
          placeholder="Search (/)"
          aria-label="Search nodes and layers"
          value=${sought}
          onInput=${(event) => setSought(event.target.value)}
        />
        ${
          sought &&
          html`<ul class="matches">
            ${found.map(
              (node) =>
                html`<li>
                  <button onClick=${() => show(node.id)}><b>${node.name}</b> ${node.kind} ${node.module}</button>
                </li>`,
            )}
            ${!found.length && html`<li class="hint">There is no such node.</li>`}
          </ul>`
        }
      </div>
      <span class="right-end"><${Numbers} title="Nodes" rows=${() => tableOf(network, pass)} /></span>
    </div>
    ${
      lit &&
      html`<p class="bar lit-by" role="status">
        ${lit.shares.size} nodes on a path from <b>${lit.name}[${lit.index.replaceAll(",", ", ")}]</b> to the loss are lit: the
        brighter, the more of the gradient passes there.
        <button class="small" onClick=${() => adjust({ lit: undefined })}>Light everything</button>
      </p>`
    }
    <${Drawing} ...${{ network, layout, paint, lit, toggle, marked, setMarked, size, setSize }} />
    ${
      by === "role"
        ? html`<${RoleLegend} roles=${new Set(network.nodes.filter((node) => !node.leaf).map((node) => node.role))} />`
        : html`<p class="bar">
            <${Legend} scale=${by === "zeros" ? "size" : "logarithm"} low=${paint.low} high=${paint.high} />
            <span class="hint">${COLOURS[by].says}</span>
          </p>`
    }
  `;
}

const openable = (network) =>
  [...network.groups.values()].filter((group) => group.key !== ROOT && group.opens).map((group) => group.key);

const opened = (network, open) =>
  open === "all" ? openable(network) : (open ?? "").split(" ").filter((key) => key && network.groups.get(key)?.opens);

function isInside(network, key, outer) {
  for (let at = key; at !== null; at = network.groups.get(at).parent) if (at === outer) return true;
  return false;
}

function matches(network, sought) {
  const words = sought.toLowerCase().split(/\s+/).filter(Boolean);
  const text = (node) => `${node.name} ${node.op} ${node.kind} ${node.module} ${node.formula} ${node.role}`.toLowerCase();
  return words.length ? network.nodes.filter((node) => words.every((word) => text(node).includes(word))).slice(0, 12) : [];
}

/** Colours of boxes: `fill(node ids that stand for the box, role)`. */
function usePaint(network, pass, by) {
  const dark = useDark();
  return useMemo(() => {
    if (by === "role" || !pass) return { by: "role" };
    const numbers = new Map([...pass.byNode].map(([id, step]) => [id, COLOURS[by].of(step)]));
    const known = [...numbers.values()].filter((one) => one !== null && (by === "zeros" || one > 0));
    const [low, high] = by === "zeros" ? [0, 1] : [Math.min(...known), Math.max(...known)];
    const scale = scaleOf(by === "zeros" ? "size" : "logarithm", { low, high, dark });
    return { by, low, high, numbers, scale };
  }, [pass, by, dark, network]);
}

function Drawing({ network, layout, paint, lit, toggle, marked, setMarked, size, setSize }) {
  const frame = useRef(null);
  const [camera, setCamera] = useState(null); // {x, y, zoom}; null: all of it
  const [moving, setMoving] = useState(false);
  useEffect(() => {
    const watcher = new ResizeObserver(([entry]) => setSize([entry.contentRect.width, entry.contentRect.height]));
    watcher.observe(frame.current);
    return () => watcher.disconnect();
  }, []);
  const whole = fitted(layout, size);
  const at = camera ?? whole;
  const zoomAt = (factor, x = size[0] / 2, y = size[1] / 2) => {
    const zoom = Math.min(Math.max(at.zoom * factor, 0.03), 3);
    setCamera({ zoom, x: x - ((x - at.x) * zoom) / at.zoom, y: y - ((y - at.y) * zoom) / at.zoom });
  };
  useEffect(() => {
    const box = layout.boxes.find((one) => one.key === marked);
    if (!box) return setCamera(null);
    const zoom = Math.min(Math.max(at.zoom, 0.75), 1.2, 0.9 * Math.max(0.35, size[0] / box.width));
    if (whole.zoom >= 0.6) return setCamera(null);
    setCamera({
      zoom,
      x: box.width * zoom > size[0] ? 24 - box.x * zoom : size[0] / 2 - (box.x + box.width / 2) * zoom,
      y: size[1] / 2 - (box.y + box.height / 2) * zoom,
    });
    return undefined;
  }, [layout]);
  const drag = useDrag(at, setCamera, setMoving);
  useEffect(() => {
    const wheel = (event) => {
      event.preventDefault();
      const { left, top } = frame.current.getBoundingClientRect();
      setMoving(true);
      zoomAt(Math.exp(-event.deltaY / 400), event.clientX - left, event.clientY - top);
    };
    const element = frame.current;
    element.addEventListener("wheel", wheel, { passive: false });
    return () => element.removeEventListener("wheel", wheel);
  });
  const open = (box) => {
    const group = network.groups.get(box.key);
    if (group && (group.groups.length || group.isLoss)) toggle(box.key);
    else go("node", group ? group.main : box.id);
  };
  const mark = (box) => {
    setMarked(box.key);
    frame.current.querySelector(`[data-key="${CSS.escape(box.key)}"]`)?.focus();
    const [x, y] = [(box.x + box.width / 2) * at.zoom + at.x, (box.y + box.height / 2) * at.zoom + at.y];
    if (x < 60 || x > size[0] - 60 || y < 40 || y > size[1] - 40)
      setCamera({ ...at, x: at.x + size[0] / 2 - x, y: at.y + size[1] / 2 - y });
  };
  const pressed = (event) => {
    setMoving(false);
    const box =
      layout.boxes.find((one) => one.key === (event.target.closest?.("[data-key]")?.dataset.key ?? marked)) ?? layout.boxes[0];
    const directions = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key in directions) mark(nearest(layout.boxes, box, directions[event.key]) ?? box);
    else if (event.key === "Enter" || event.key === " ") open(box);
    else if (event.key === "e" && network.groups.get(box.key)?.opens) toggle(box.key);
    else if (event.key === "+") zoomAt(1.3);
    else if (event.key === "-") zoomAt(1 / 1.3);
    else if (event.key === "0") setCamera(null);
    else return;
    event.preventDefault();
  };
  useEffect(() => {
    const slash = (event) => {
      if (event.key !== "/" || event.target.closest("input, dialog")) return;
      event.preventDefault();
      document.querySelector(".search input").focus();
    };
    addEventListener("keydown", slash);
    return () => removeEventListener("keydown", slash);
  }, []);
  const first = layout.boxes.some((box) => box.key === marked) ? marked : layout.boxes[0]?.key;
  return html`<div ref=${frame} class=${`graph ${moving ? "moving" : ""}`} onKeyDown=${pressed} ...${drag}>
    <svg role="group" aria-label="Computation graph: arrow keys move, Enter opens" width=${size[0]} height=${size[1]}>
      <defs>
        <marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6.5" markerHeight="6.5" orient="auto">
          <path d="M0 0.8 8 4 0 7.2z" />
        </marker>
      </defs>
      <g class="camera" style=${{ transform: `translate(${at.x}px, ${at.y}px) scale(${at.zoom})` }}>
        ${layout.boxes.filter((box) => box.open).map((box) => html`<${Open} key=${box.key} box=${box} network=${network} toggle=${toggle} first=${first} />`)}
        ${layout.edges.map(
          (edge) =>
            html`<path
              key=${edge.key}
              class=${`edge ${edge.leaf ? "from-leaf" : ""} ${lit ? (isLit(lit, edge) ? "lit" : "unlit") : ""}`}
              d=${edge.path}
              marker-end=${edge.arrow ? "url(#arrow)" : null}
            />`,
        )}
        ${layout.boxes.filter((box) => !box.open).map((box) => html`<${Closed} key=${box.key} box=${box} network=${network} paint=${paint} lit=${lit} open=${open} toggle=${toggle} first=${first} />`)}
      </g>
    </svg>
    <div class="zoom" role="group" aria-label="Zoom">
      <button class="quiet" aria-label="Larger" title="Larger (+)" onClick=${() => zoomAt(1.3)}>+</button>
      <button class="quiet" aria-label="Smaller" title="Smaller (−)" onClick=${() => zoomAt(1 / 1.3)}>−</button>
      <button class="quiet" aria-label="Show all" title="Show all (0)" onClick=${() => setCamera(null)}>⤢</button>
    </div>
  </div>`;
}

function fitted({ width, height }, [wide, high]) {
  const zoom = Math.min(wide / width, high / height, MOST_ZOOM);
  return { zoom, x: (wide - width * zoom) / 2, y: (high - height * zoom) / 2 };
}

/** Moving the drawing with the mouse or a finger. */
function useDrag(at, setCamera, setMoving) {
  const start = useRef(null);
  return {
    onPointerDown: (event) => {
      if (event.target.closest("[data-key], button")) return;
      start.current = { x: event.clientX - at.x, y: event.clientY - at.y };
      event.currentTarget.setPointerCapture(event.pointerId);
      setMoving(true);
    },
    onPointerMove: (event) => {
      if (start.current) setCamera({ zoom: at.zoom, x: event.clientX - start.current.x, y: event.clientY - start.current.y });
    },
    onPointerUp: () => {
      start.current = null;
      setMoving(false);
    },
  };
}

/** The box that lies next in a direction: near, and not far aside. */
function nearest(boxes, from, [across, down]) {
  const middle = (box) => [box.x + box.width / 2, box.y + box.height / 2];
  const [x, y] = middle(from);
  let best = null;
  let least = Infinity;
  for (const box of boxes) {
    if (box === from || box.open) continue;
    const [dx, dy] = [middle(box)[0] - x, middle(box)[1] - y];
    const ahead = dx * across + dy * down;
    if (ahead <= 1) continue;
    const far = ahead + 2.5 * Math.abs(dx * down + dy * across);
    if (far < least) [best, least] = [box, far];
  }
  return best;
}

function Open({ box, network, toggle, first }) {
  const group = network.groups.get(box.key);
  const close = (event) => {
    event.stopPropagation();
    toggle(box.key);
  };
  return html`<g class="group open" style=${{ transform: `translate(${box.x}px, ${box.y}px)` }}>
    <rect width=${box.width} height=${box.height} rx="8" class=${`ground depth-${box.depth % 2}`} />
    <g
      class="title"
      data-key=${box.key}
      tabindex=${first === box.key ? 0 : -1}
      role="button"
      aria-expanded="true"
      aria-label=${`${group.title} ${group.subtitle}: collapse`}
      onClick=${close}
    >
      <rect width=${box.width} height="26" rx="8" />
      <text x="10" y="18"><tspan class="minus">−</tspan> ${group.title} <tspan class="path">${group.subtitle}</tspan></text>
    </g>
  </g>`;
}

/** Whether the signal goes along an edge: from a node on a path to one that reads it and is on a path. */
const isLit = ({ shares }, { source, readers }) => shares.has(source) && readers.some((id) => shares.has(id));

function Closed({ box, network, paint, lit, open, toggle, first }) {
  const group = box.kind === "group" ? network.groups.get(box.key) : null;
  const node = network.byId.get(group ? group.out : box.id);
  const role = group ? group.role : node.leaf ? "leaf" : node.role;
  const number = paint.by === "role" ? undefined : (paint.numbers.get(node.id) ?? null);
  const style = { transform: `translate(${box.x}px, ${box.y}px)`, "--role": role ? `var(--${role})` : "var(--strong-rule)" };
  if (number !== undefined && number !== null)
    style["--fill"] = paint.scale.of(paint.by !== "zeros" && number <= 0 ? paint.low : number);
  const on = number === undefined || number === null ? "" : paint.scale.bright(number) ? "on-bright" : "on-dark";
  const kind = group ? "group" : (node.leaf ?? "node");
  const bright = lit && brightness(lit.shares, group ? group.all : [node.id]);
  if (lit) style["--bright"] = bright ?? 0;
  const light = lit ? (bright === null ? "unlit" : "lit") : "";
  const expand = (event) => {
    event.stopPropagation();
    toggle(box.key);
  };
  const content = group
    ? html`<${GroupFace} group=${group} node=${node} box=${box} network=${network} />`
    : html`<${NodeFace} node=${node} box=${box} network=${network} />`;
  return html`<g
    class=${`box ${kind} ${on} ${light}`}
    style=${style}
    data-key=${box.key}
    tabindex=${first === box.key ? 0 : -1}
    role="button"
    data-node=${group && group.opens ? null : node.id}
    aria-expanded=${group?.opens ? "false" : null}
    aria-label=${labelOf(group, node, number, paint.by)}
    onClick=${() => open(box)}
  >
    <title>${labelOf(group, node, number, paint.by)}</title>
    ${group?.opens && html`<rect class="behind" x="3.5" y="3.5" width=${box.width} height=${box.height} rx="6" />`}
    <rect class="face" width=${box.width} height=${box.height} rx=${node.leaf && !group ? box.height / 2 : 6} />
    ${content}
    ${
      group?.opens &&
      html`<g class="expand" onClick=${expand}
        ><title>Expand (e)</title><rect x=${box.width - 21} y="3" width="18" height="18" rx="4" /><text
          x=${box.width - 12}
          y="16.5"
          text-anchor="middle"
          >+</text
        ></g
      >`
    }
  </g>`;
}

/** What stands in the box of a node, with which its name for screen readers begins, so that one can say what one sees. */
const inBox = (node) => (node.leaf && node.leaf !== "input" ? "" : `${titleIn(node)} ${shapeIn(node)}: `);

const titleIn = (node) => shortened(node.leaf === "input" ? "image" : node.op, 12);

const shapeIn = (node) => shortened(shapeText(ofOneImage(node.shape)), 14);

function labelOf(group, node, number, by) {
  const what = group
    ? `${group.title} ${group.subtitle}, ${group.all.length} nodes`
    : `${inBox(node)}${nodeTitle(node)}, ${node.leaf ?? node.role}`;
  const size =
    number === undefined || number === null ? "" : `, ${COLOURS[by].title} ${by === "zeros" ? percent(number) : brief(number)}`;
  return `${what}, ${shapeText(node.shape)}${size}`;
}

function GroupFace({ group, node, box, network }) {
  const middle = box.width / 2;
  return html`
    <${Glyph} shape=${ofOneImage(node.shape)} x=${middle} y="27" />
    <text class="name" x=${middle} y="60" text-anchor="middle">${shortened(group.title, 13)}</text>
    <text class="detail" x=${middle} y="74" text-anchor="middle">${shortened(localPath(network, group), 15)}</text>
    <${Roles} network=${network} group=${group} width=${box.width} y=${box.height - 10} />
  `;
}

/** A strip of the roles of the nodes inside. */
function Roles({ group, width, y }) {
  const counts = Object.keys(ROLES)
    .map((role) => [role, group.roles.filter((one) => one === role).length])
    .filter(([, count]) => count);
  const all = group.roles.length || 1;
  let x = 10;
  return counts.map(([role, count]) => {
    const wide = ((width - 20) * count) / all;
    x += wide;
    return html`<rect
      class="strip"
      x=${x - wide}
      y=${y}
      width=${Math.max(wide - 1, 1)}
      height="4"
      rx="1"
      style=${{ "--role": `var(--${role})` }}
    />`;
  });
}

function NodeFace({ node, box, network }) {
  const symbol = ROLES[node.leaf ? "leaf" : node.role].symbol;
  const y = box.height / 2;
  if (node.leaf && node.leaf !== "input")
    return html`<text class="detail" x=${box.width / 2} y=${y + 4} text-anchor="middle"
      >${shortened(localName(node), 15)}</text
    >`;
  return html`
    <rect class="badge" x="8" y=${y - 9} width="18" height="18" rx="4" />
    <text class="symbol" x="17" y=${y + 4.5} text-anchor="middle">${symbol}</text>
    <text class="name" x="32" y=${y - 2}>${titleIn(node)}</text>
    <text class="detail" x="32" y=${y + 13}>${shapeIn(node)}</text>
  `;
}

/** A module's path from the module around it. */
function localPath(network, group) {
  const outer = network.groups.get(group.parent).path;
  return outer ? group.subtitle.slice(outer.length + 1) : group.subtitle;
}

const localName = (node) =>
  node.module && node.name.startsWith(`${node.module}.`) ? node.name.slice(node.module.length + 1) : node.name;

const shortened = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

function tableOf(network, pass) {
  const heads = ["id", "name", "formula", "operation", "role", "layer", "shape", "size of value", "size of upstream gradient"];
  const lines = network.nodes.map((node) => {
    const step = pass?.byNode.get(node.id);
    const sizes = step ? [rootMeanSquare(step.value), rootMeanSquare(step.upstream)] : ["", ""];
    return [
      String(node.id),
      node.name,
      node.formula,
      node.op,
      node.leaf ?? node.role,
      node.module,
      shapeText(node.shape),
      ...sizes,
    ];
  });
  return { heads, lines };
}
