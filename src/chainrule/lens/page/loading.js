/** Asks for what the page shows, follows a training that is live, and comes back when the server was away. */

import { get, isExported } from "./api.js";
import { prepared } from "./network.js";
import { forget } from "./passes.js";
import { read, update } from "./store.js";

const EVERY = 1000; // milliseconds

let next = 0;
let opened = false;

export async function begin() {
  await open();
  if (!isExported) setInterval(tick, EVERY);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !isExported) tick();
  });
}

async function open() {
  try {
    const meta = await get("/api/meta");
    document.title = `${meta.title} · chainrule lens`;
    update({ meta, live: meta.live });
    const [graph] = await Promise.all([get("/api/graph"), followHistory()]);
    update({ graph: prepared(graph, meta), trouble: null });
    opened = true;
  } catch (trouble) {
    update({ trouble: { error: trouble.message, hint: trouble.hint ?? "" } });
    if (!(trouble.hint || trouble.status)) throw trouble;
  }
}

let busy = false;

async function tick() {
  if (document.hidden || busy || read().connection === "refused") return;
  busy = true;
  try {
    if (!opened || read().connection === "lost") {
      if (opened) await get("/api/meta");
      forget();
      next = 0;
      await open();
    } else if (read().live) {
      await followHistory();
      if (Date.now() > look) await lookAgain();
    }
  } catch {
    // said by the connection's state
  } finally {
    busy = false;
  }
}

let look = 0;

/** What is worst may change while it trains. */
async function lookAgain() {
  look = Date.now() + 5 * EVERY;
  const meta = await get("/api/meta");
  update({ meta, live: meta.live });
}

async function followHistory() {
  if (!read().meta.can.history) return;
  const { live, next: following, rows, health } = await get("/api/history", { since: next });
  const all = next === 0 ? rows : rows.length ? [...read().rows, ...rows] : read().rows;
  next = following;
  update({ live, rows: all, health: health ?? read().health });
}
