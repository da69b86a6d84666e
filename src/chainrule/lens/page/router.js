/** Where the page is: `#/node/12?image=7&channel=3` is the view "node" of node 12. Each state is a link. */

import { useEffect, useState } from "./html.js";

const FIRST = "train";

/** The fragment as `{view, id, query}`; `id` is null where there is none. */
export function parse(fragment) {
  const [path, search = ""] = fragment.replace(/^#\/?/, "").split("?");
  const [view, id] = path.split("/");
  return {
    view: view || FIRST,
    id: id ? decoded(id) : null,
    query: Object.fromEntries(new URLSearchParams(search)),
  };
}

/** What a part of an address means; itself, where it is no text. */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export const here = () => parse(location.hash);

/** The link to a view. The image that is looked at and the tour's step stay the same, unless the query names others. */
export function link(view, id = null, query = {}) {
  const { image, tour } = here().query;
  const all = Object.entries({ image, tour, ...query }).filter(
    ([, value]) => value !== undefined && value !== null && value !== "",
  );
  const search = all.length ? `?${new URLSearchParams(all.map(([key, value]) => [key, String(value)]))}` : "";
  return `#/${view}${id === null ? "" : `/${encodeURIComponent(id)}`}${search}`;
}

export function go(view, id = null, query = {}) {
  location.hash = link(view, id, query);
}

/** Changes parts of the query without a new entry in the browser's history, as a slider does. */
export function adjust(changes) {
  const { view, id, query } = here();
  history.replaceState(null, "", location.pathname + location.search + link(view, id, { ...query, ...changes }));
  dispatchEvent(new HashChangeEvent("hashchange"));
}

/** Where the page is; the component draws itself again when that changes. */
export function useRoute() {
  const [route, setRoute] = useState(here);
  useEffect(() => {
    const moved = () => setRoute(here());
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  return route;
}
