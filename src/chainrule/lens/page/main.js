/** Begins: asks what is shown, draws the page, and keeps the training's history up to date. */

import "./in_frame.js";
import { App } from "./app.js";
import { begin } from "./loading.js";
import { html, render } from "./html.js";

const place = document.getElementById("page");
place.replaceChildren();
render(html`<${App} />`, place);
begin();
