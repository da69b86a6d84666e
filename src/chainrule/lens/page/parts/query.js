/** What the address says, for views whose state changes faster than an address may. */

import { useEffect, useRef, useState } from "../html.js";
import { adjust, useRoute } from "../router.js";

const SETTLED = 200; // milliseconds; browsers slow pages down that change their address with each move of a mouse

/** `[query, change]`: the query with what `change({name: value})` has changed, at once; the address follows a moment later. */
export function useQuery() {
  const { query } = useRoute();
  const [ahead, setAhead] = useState({});
  const waiting = useRef({ timer: null, changes: {} });
  useEffect(() => () => clearTimeout(waiting.current.timer), []);
  const change = (changes) => {
    const now = waiting.current;
    Object.assign(now.changes, changes);
    setAhead({ ...now.changes });
    clearTimeout(now.timer);
    now.timer = setTimeout(() => {
      const all = now.changes;
      now.changes = {};
      adjust(all);
      setAhead({});
    }, SETTLED);
  };
  return [{ ...query, ...ahead }, change];
}
