/** The page as a whole: what is shown, what is worst, the views, and what the server's state is. */

import { isExported } from "./api.js";
import { Keys } from "./parts/keys.js";
import { Trouble } from "./parts/asked.js";
import { Sample } from "./parts/sample.js";
import { Theme } from "./parts/theme.js";
import { go, link, useRoute } from "./router.js";
import { read, update, useStore } from "./store.js";
import { Tour, TourButton } from "./tour/panel.js";
import { html, useEffect } from "./html.js";
import { BackwardView } from "./views/backward.js";
import { DrawView } from "./views/draw.js";
import { ExplainView } from "./views/explain.js";
import { GraphView } from "./views/graph.js";
import { NodeView } from "./views/node.js";
import { TimeView } from "./views/time.js";
import { TrainView } from "./views/train.js";
import { WhatIfView } from "./views/what_if.js";
import { VIEWS } from "./words.js";

/** A view a file: its component by the name that stands in the address. */
const COMPONENTS = {
  train: TrainView,
  graph: GraphView,
  backward: BackwardView,
  node: NodeView,
  what_if: WhatIfView,
  time: TimeView,
  draw: DrawView,
  explain: ExplainView,
};

/** Views that are not of the image that is chosen at the top right. */
const OF_THEIR_OWN = ["draw", "explain"];

export function App() {
  const asked = useRoute().view;
  const meta = useStore((state) => state.meta);
  const trouble = useStore((state) => state.trouble);
  useEffect(listenToKeys, []);
  const view = Object.hasOwn(COMPONENTS, asked) && (asked !== "train" || offered(meta).includes(asked)) ? asked : firstView(meta);
  const View = COMPONENTS[view];
  return html`
    <a class="skip" href="#main" onClick=${toMain}>To the content</a>
    <${Connection} />
    <header class="top">
      <div class="subject">
        <h1>${meta ? meta.title : "chainrule lens"}</h1>
        ${meta && html`<${About} meta=${meta} />`}
      </div>
      <nav class="tabs" aria-label="Views">
        ${offered(meta).map(
          (name) =>
            html`<a href=${link(name)} title=${VIEWS[name].says} aria-current=${name === view ? "page" : null}
              >${VIEWS[name].title}</a
            >`,
        )}
      </nav>
      <div class="tools">
        ${meta?.can.images && !OF_THEIR_OWN.includes(view) && html`<${Sample} />`}
        ${meta?.can.images && html`<${TourButton} />`}
        <${Theme} />
        <button class="quiet" aria-label="Keys" title="Keys (?)" onClick=${() => update({ help: true })}>?</button>
      </div>
    </header>
    <${Finding} />
    <div class="body">
      <main id="main" tabindex="-1" class=${`view-${view}`}>
        ${trouble ? html`<${Trouble} trouble=${trouble} />` : meta && html`<${View} key=${view} />`}
      </main>
      ${meta?.can.images && html`<${Tour} />`}
    </div>
    <${Keys} />
  `;
}

function toMain(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

/** The views that this subject has: one that was never trained has no history, and a file has no Python that would answer. */
const offered = (meta) =>
  Object.keys(COMPONENTS).filter((name) => {
    if (name === "train") return !meta || meta.can.history;
    if (name === "time") return meta?.can.time;
    if (name === "what_if") return !meta || meta.can.what_if;
    return !(isExported && OF_THEIR_OWN.includes(name));
  });

const firstView = (meta) => offered(meta)[0];

function About({ meta }) {
  const live = useStore((state) => state.live);
  const kinds = { run: "a run", model: "a model", shipped: "ships with chainrule", example: "the lecture's example" };
  return html`<p class="about">
    ${live ? html`<span class="live">training now</span>` : (kinds[meta.kind] ?? meta.kind)}
    ${meta.model && html` · <span>${meta.model}</span>`} ${meta.dataset && html` · <span>${meta.dataset.name}</span>`}
  </p>`;
}

/** What is worst, as one sentence that leads to where it is. */
function Finding() {
  const finding = useStore((state) => state.meta?.finding);
  if (!finding) return null;
  const sentence = html`<strong>${finding.sentence}</strong>`;
  return html`<aside class="finding" aria-label="What is worst">
    <span class="mark" aria-hidden="true">▲</span>
    ${finding.node === null ? sentence : html`<a href=${link("node", finding.node)}>${sentence}</a>`}
    <span>${finding.remedy}</span>
  </aside>`;
}

function Connection() {
  const connection = useStore((state) => state.connection);
  const said = {
    lost: "The server does not answer: it may have been stopped. What is shown stays; the page goes on by itself when it is back.",
    refused:
      "The server does not accept this address, as its token is another one: open the address that chainrule lens printed.",
  }[connection];
  return html`<div role="status" class=${said ? "connection" : "connection none"}>${said}</div>`;
}

function listenToKeys() {
  const pressed = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
    const views = offered(read().meta);
    if (event.key === "?") update({ help: !read().help });
    else if (read().help) return;
    else if (/^[1-9]$/.test(event.key) && views[event.key - 1]) go(views[event.key - 1]);
    else return;
    event.preventDefault();
  };
  addEventListener("keydown", pressed);
  return () => removeEventListener("keydown", pressed);
}
