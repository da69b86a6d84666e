/** Points at a part of the page: scrolls it into sight and frames it, once the view has drawn it. */

const PATIENCE = 6000; // milliseconds that a view has for drawing what is pointed at
const SETTLED = 700; // after which pictures above it have got their size
const FRAMED = "tour"; // the attribute data-tour

let latest = 0;

/** Frames the first element of `selector`, and nothing else; null frames nothing. */
export function reveal(selector) {
  latest += 1;
  for (const element of document.querySelectorAll("[data-tour]")) delete element.dataset[FRAMED];
  if (selector) setTimeout(() => look(selector, latest, Date.now() + PATIENCE), 60);
}

function look(selector, mine, until) {
  if (mine !== latest) return;
  const element = document.querySelector(`main ${selector}`);
  if (!element) {
    if (Date.now() < until) setTimeout(() => look(selector, mine, until), 80);
    return;
  }
  element.dataset[FRAMED] = "here";
  align(element);
  setTimeout(() => mine === latest && align(element), SETTLED);
}

function align(element) {
  const { top, bottom } = element.getBoundingClientRect();
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (top < 0 || bottom > innerHeight - (innerWidth > 900 ? 0 : innerHeight / 2))
    element.scrollIntoView({ block: "start", behavior: calm ? "auto" : "smooth" });
}
