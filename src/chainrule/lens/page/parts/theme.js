/** Light or dark: as the system has it, or as one chooses. */

import { read, update, useStore } from "../store.js";
import { html, useEffect } from "../html.js";

const NEXT = { auto: "light", light: "dark", dark: "auto" };
const SYMBOLS = { auto: "◐", light: "○", dark: "●" };

const system = matchMedia("(prefers-color-scheme: dark)");

export const isDark = () => (read().theme === "auto" ? system.matches : read().theme === "dark");

/** True when it is dark; the component draws itself again when that changes. */
export function useDark() {
  const theme = useStore((state) => state.theme);
  useStore((state) => state.systemDark);
  return theme === "auto" ? system.matches : theme === "dark";
}

system.addEventListener("change", () => {
  update({ systemDark: system.matches });
  apply();
});

function apply() {
  document.documentElement.dataset.theme = isDark() ? "dark" : "light";
}

export function Theme() {
  const theme = useStore((state) => state.theme);
  useEffect(() => {
    try {
      update({ theme: localStorage.getItem("chainrule-theme") ?? "auto" });
    } catch {
      // a file that was opened from a disk may have no storage
    }
    apply();
  }, []);
  const choose = () => {
    update({ theme: NEXT[theme] });
    apply();
    try {
      localStorage.setItem("chainrule-theme", NEXT[theme]);
    } catch {
      // then it holds until the page is closed
    }
  };
  const says = theme === "auto" ? "as the system" : theme;
  return html`<button class="quiet" aria-label=${`Colours: ${says}`} title=${`Colours: ${says}`} onClick=${choose}>
    ${SYMBOLS[theme]}
  </button>`;
}
