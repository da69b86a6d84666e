/** What views stand on: the network, and the pass of the image through it. Until they are there, it is said why not. */

import { html } from "../html.js";
import { usePass } from "../passes.js";
import { useStore } from "../store.js";
import { Trouble, Waiting } from "./asked.js";

/** `View` with the `network` and, unless `needsPass` is false, the `pass`. */
export function WithNetwork({ view: View, needsPass = true }) {
  const network = useStore((state) => state.graph);
  const trouble = useStore((state) => state.graphTrouble);
  const asked = usePass();
  if (!network && trouble) return html`<${Trouble} trouble=${trouble} />`;
  if (!network) return html`<p class="waiting" role="status">The network is on its way …</p>`;
  if (needsPass && !asked.answer)
    return html`<${Waiting} asked=${asked} what="Python sends the image through the network …" />`;
  return html`<${View} network=${network} pass=${asked.answer} />`;
}
