/** Many links one below the other as one stop of the Tab key: arrow keys go from one to the next. */

import { useState } from "../html.js";

/** `{tabindex(i), onKeyDown}`: the first is of the i-th link, the second of what is around all of them, where links come in order. */
export function useRoving() {
  const [current, setCurrent] = useState(0);
  const onKeyDown = (event) => {
    const links = [...event.currentTarget.querySelectorAll("a")];
    const from = links.indexOf(event.target);
    const to = { ArrowUp: from - 1, ArrowDown: from + 1, Home: 0, End: links.length - 1 }[event.key];
    if (from < 0 || to === undefined) return;
    event.preventDefault();
    if (!links[to]) return;
    setCurrent(to);
    links[to].focus();
  };
  return { tabindex: (i) => (i === current ? 0 : -1), onKeyDown };
}
