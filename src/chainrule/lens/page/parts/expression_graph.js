/** The graph of an expression: each node with its value and its gradient, as far as they are computed at a step. */

import { layoutOf } from "../draw/layout.js";
import { lecture, told } from "../expression.js";
import { html, useEffect, useMemo, useRef, useState } from "../html.js";
import { brief } from "../numbers.js";
import { ROLES } from "../words.js";

export const SIZES = { node: { width: 156, height: 82 }, leaf: { width: 138, height: 82 } };
const SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉";
const MOST_HEIGHT = 430;
const MOST_ZOOM = 1.25;
const LEAST_ZOOM = 0.62; // below it the text cannot be read: the drawing is scrolled instead

/** `reached` says of a node's id whether its `value` and its `gradient` are known yet; `current` is the node of the step. */
export function ExpressionGraph({ network, reached, current, backwards, choose }) {
  const frame = useRef(null);
  const [wide, setWide] = useState(900);
  useEffect(() => {
    const watcher = new ResizeObserver(() => setWide(frame.current.clientWidth));
    watcher.observe(frame.current);
    return () => watcher.disconnect();
  }, []);
  const structure = network.nodes.map((node) => `${node.id}:${node.inputs}`).join(" ");
  const layout = useMemo(() => layoutOf(network, new Set(), [wide, MOST_HEIGHT]), [structure, wide]);
  const zoom = Math.max(Math.min(wide / layout.width, MOST_HEIGHT / layout.height, MOST_ZOOM), LEAST_ZOOM);
  return html`<div
    ref=${frame}
    class="graph expression"
    tabindex="0"
    role="group"
    aria-label="Computation graph of the expression"
  >
    <svg
      width=${layout.width * zoom}
      height=${layout.height * zoom}
      viewBox=${`0 0 ${layout.width} ${layout.height}`}
      style=${{ marginInline: layout.width * zoom < wide ? "auto" : "0" }}
    >
      <defs>
        <marker
          id="forth"
          viewBox="0 0 8 8"
          refX="7"
          refY="4"
          markerWidth="10"
          markerHeight="10"
          markerUnits="userSpaceOnUse"
          orient="auto"
        >
          <path d="M0 0.8 8 4 0 7.2z" />
        </marker>
      </defs>
      ${layout.edges.map((edge) => html`<${Edge} key=${edge.key} edge=${edge} network=${network} reached=${reached} current=${current} backwards=${backwards} />`)}
      ${layout.boxes.map((box) => html`<${Box} key=${box.key} box=${box} node=${network.byId.get(box.id)} network=${network} reached=${reached(box.id)} isCurrent=${box.id === current} choose=${choose} />`)}
    </svg>
  </div>`;
}

/** An edge in the colour of the role once the gradient has come back along it; broken where it is 0. */
function Edge({ edge, network, reached, current, backwards }) {
  const [, from, to] = /node (\d+) > node (\d+)/.exec(edge.key).map(Number);
  const user = network.byId.get(to);
  const passed = backwards && reached(to).passed;
  const gradients = user.edges.filter((one) => one.input === from).map((one) => one.downstream);
  const nothing = passed && gradients.flat(9).every((one) => one === 0);
  return html`<path
    class=${`edge ${passed ? "passed" : ""} ${nothing ? "nothing" : ""} ${to === current ? "now" : ""}`}
    style=${{ "--role": `var(--${user.role})` }}
    d=${edge.path}
    marker-end=${edge.arrow ? "url(#forth)" : null}
  />`;
}

function Box({ box, node, network, reached, isCurrent, choose }) {
  const isLeaf = !node.formula;
  const [x, symbol] = [isLeaf ? box.width / 2 : 32, ROLES[node.role]?.symbol];
  const anchor = isLeaf ? "middle" : "start";
  const strip = 24;
  const fits = Math.floor((box.width - 12) / 7);
  const e = network.byId.get(network.error).name;
  const said = `${node.name}${isLeaf ? "" : ` = ${lecture(node.formula)}`}${reached.value ? ` = ${told(node.value)}` : ""}${reached.gradient ? `; gradient ${told(node.upstream)}` : ""}`;
  return html`<g
    class=${`box ${isLeaf ? "parameter" : "node"} ${isCurrent ? "current" : ""} ${reached.value ? "" : "pending"}`}
    style=${{ transform: `translate(${box.x}px, ${box.y}px)`, "--role": isLeaf ? "var(--strong-rule)" : `var(--${node.role})` }}
    data-node=${node.id}
    data-name=${node.name}
    data-role=${node.role}
    data-value=${reached.value ? JSON.stringify(node.value) : null}
    data-gradient=${reached.gradient ? JSON.stringify(node.upstream) : null}
    onClick=${() => !isLeaf && choose(node.id)}
  >
    <title>${said}</title>
    <rect class="face" width=${box.width} height=${box.height} rx="7" />
    ${!isLeaf && html`<rect class="badge" x="7" y="7" width="18" height="18" rx="4" /><text class="symbol" x="16" y="20.5" text-anchor="middle">${symbol}</text>`}
    <text class="formula-text" x=${x} y="20" text-anchor=${anchor}
      >${cut(pretty(isLeaf ? node.name : `${node.name} = ${node.formula}`), fits - (isLeaf ? 0 : 2))}</text
    >
    <text class="value-text" x=${box.width / 2} y=${box.height - strip - 11} text-anchor="middle"
      >${reached.value ? short(node.value, fits) : "?"}</text
    >
    ${
      reached.gradient &&
      html`<path
          class="gradient-strip"
          d=${`M1 ${box.height - strip}H${box.width - 1}v${strip - 8}a7 7 0 0 1 -7 7H8a7 7 0 0 1 -7 -7z`}
        />
        <text class="gradient-text" x=${box.width / 2} y=${box.height - 7.5} text-anchor="middle"
          ><tspan class="by">∂${e}/∂${pretty(node.name)}</tspan> ${short(node.upstream, fits - node.name.length - 6)}</text
        >`
    }
  </g>`;
}

/** A formula in plain text, as it is set: h₁·w, h₂². */
const pretty = (formula) =>
  lecture(formula)
    .replaceAll(" ** 2", "²")
    .replaceAll(" ** 3", "³")
    .replaceAll("**", "^")
    .replaceAll(" * ", "·")
    .replaceAll("-", "−")
    .replace(/(?<=\bh)\d+/g, (digits) => [...digits].map((one) => SUBSCRIPTS[one]).join(""));

/** A value in the room that there is. */
function short(value, most) {
  for (const digits of [4, 3, 2]) if (told(value, digits).length <= most) return told(value, digits);
  const all = [value].flat(8);
  return all.length > 1 ? `${all.length} numbers` : brief(value, 2);
}

const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
