/** Asks for what the page shows, follows a training that is live, and comes back when the server was away. */

import { Trouble, get, isExported } from "./api.js";
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
    update({ meta, live: meta.live, trouble: null });
    await Promise.all([askForGraph(meta), followHistory()]);
    opened = true;
  } catch (trouble) {
    update({ trouble: { message: trouble.message, hint: trouble.hint ?? "" } });
    if (!(trouble instanceof Trouble)) throw trouble;
  }
}

/** A training that has just begun may have no model yet, which is no reason not to show its loss. */
async function askForGraph(meta) {
  try {
    update({ graph: prepared(await get("/api/graph"), meta), graphTrouble: null });
  } catch (trouble) {
    if (!trouble.status || trouble.status === 403) throw trouble;
    update({ graphTrouble: { message: trouble.message, hint: trouble.hint } });
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
    } else {
      if (read().live) await followHistory();
      if (Date.now() > look) await lookAgain();
    }
  } catch {
    // said by the connection's state
  } finally {
    busy = false;
  }
}

let look = 0;

/** What is worst may change while it trains; and of a run that is over, one wants to know whether the server is there. */
async function lookAgain() {
  look = Date.now() + 4 * EVERY;
  const meta = await get("/api/meta");
  update({ meta, live: meta.live });
  if (!read().graph) await askForGraph(meta);
}

async function followHistory() {
  if (!read().meta.can.history) return;
  const { live, next: following, rows, health, note, restarted } = await get("/api/history", { since: next });
  const all = next === 0 || restarted ? rows : rows.length ? [...read().rows, ...rows] : read().rows;
  next = following;
  update({ live, rows: all, health: health ?? read().health, note: note ?? null });
}
