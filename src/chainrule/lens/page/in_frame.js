/**
 * For a page that was exported and stands in a frame without an address of its own, as a notebook shows it (srcdoc): there
 * addresses are those of the page around it, so links to views are followed here, by the fragment alone.
 */

if (location.protocol === "about:") {
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href^='#']");
    if (!link || event.defaultPrevented) return;
    event.preventDefault();
    location.hash = link.getAttribute("href");
  });
  history.replaceState = (state, title, address) => {
    location.hash = address.slice(address.indexOf("#"));
  };
}
