/**
 * Questions to the server. What it refuses is thrown as `Trouble`, whose message and hint are whole sentences.
 *
 * A page that was exported as one file holds the answers itself: see `in_file.js`.
 */

import { answersInFile, valuesInFile } from "./in_file.js";
import { read, update } from "./store.js";

export class Trouble extends Error {
  constructor(error, hint = "", status = 0, place = null) {
    super(error);
    this.hint = hint;
    this.status = status;
    this.place = place; // in a text that was sent, where it is wrong
  }
}

const token = new URLSearchParams(location.search).get("token") ?? "";
const embedded = await answersInFile();

export const isExported = embedded !== null;

/** The path with a query, whose empty parts are left out. */
export function pathOf(path, query = {}) {
  const parts = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
  return parts.length ? `${path}?${new URLSearchParams(parts.map(([key, value]) => [key, String(value)]))}` : path;
}

export async function get(path, query) {
  const whole = pathOf(path, query);
  if (isExported) return answerInFile(embedded.json, whole);
  return (await ask(whole)).json();
}

export async function post(path, body) {
  if (isExported) return answerInFile(embedded.json, path);
  const headers = { "Content-Type": "application/json" };
  return (await ask(path, { method: "POST", headers, body: JSON.stringify(body) })).json();
}

/** An array: `{shape, of, step, min, max, nonfinite, values}`, with `values` a Float32Array, row by row. */
export async function tensor(path, query) {
  const whole = pathOf(path, query);
  if (isExported) {
    const found = answerInFile(embedded.tensors, whole);
    return { ...found.header, values: valuesInFile(embedded.numbers, found) };
  }
  const response = await ask(whole);
  return { ...JSON.parse(response.headers.get("X-Chainrule-Tensor")), values: new Float32Array(await response.arrayBuffer()) };
}

function answerInFile(answers, path) {
  if (path in answers) return answers[path];
  throw new Trouble(
    "This file does not hold that.",
    "It was exported without it: chainrule lens on the run itself shows everything.",
  );
}

/** Whether what answers now is a server that knows the token: another program may listen where it was. */
async function isOurs() {
  const hex = (bytes) => Array.from(bytes, (one) => one.toString(16).padStart(2, "0")).join("");
  const text = (string) => new TextEncoder().encode(string);
  const nonce = hex(crypto.getRandomValues(new Uint8Array(16)));
  const key = await crypto.subtle.importKey("raw", text(token), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const expected = hex(new Uint8Array(await crypto.subtle.sign("HMAC", key, text(`here ${nonce}`))));
  const response = await fetch(`api/here?nonce=${nonce}`);
  return response.ok && (await response.json()).proof === expected;
}

async function ask(path, options = {}) {
  let response;
  try {
    if (token && read().connection === "lost" && !(await isOurs())) throw new Error("it is another one");
    response = await fetch(path.slice(1), { ...options, headers: { ...options.headers, "X-Chainrule-Token": token } });
  } catch {
    if (read().connection !== "lost") update({ connection: "lost" });
    throw new Trouble("The server does not answer.", "It may have been stopped; the page goes on by itself when it is back.");
  }
  if (response.ok) {
    if (read().connection !== "open") update({ connection: "open" });
    return response;
  }
  let said = {};
  try {
    said = await response.json();
  } catch {
    // not ours: the status must do
  }
  if (response.status === 403) update({ connection: "refused" });
  throw new Trouble(
    said.error ?? `The server answered with status ${response.status}.`,
    said.hint ?? "",
    response.status,
    said.place,
  );
}
