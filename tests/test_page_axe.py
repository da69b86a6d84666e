"""The lens's views under an automatic checker of accessibility, axe: names, roles, contrast, by keyboard reachable."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest

from lens_server import Lens

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from browser import OpenPage

VIEWS = {
    "#/train": ".heat canvas",
    "#/graph?open=all": ".graph .box",
    "#/backward?step=12": ".product figure",
    "#/node/CONVOLUTION?unit=2,1,1": ".sliding td",
    "#/node/WEIGHT?unit=1,0,1,1": ".paths td",
    "#/graph?lit=0.weight:1,0,1,1&open=all": ".graph .lit",
    "#/what_if": ".what-if canvas",
    "#/time": "figure.picture",
    "#/draw": "canvas",
    "#/explain": ".graph.expression",
    "#/backward?tour=convolution": ".tour .question",
}
"""An address of each view, and what is there when it has drawn itself."""


def watched(page: Page) -> None:
    page.add_init_script((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))


def violations(page: Page) -> list[dict[str, Any]]:
    """What the checker calls serious or critical, each with the first elements that it is about."""
    found: dict[str, Any] = page.evaluate("async () => await axe.run(document, { resultTypes: ['violations'] })")
    return [
        {
            "rule": one["id"],
            "help": one["help"],
            "at": [(node["html"][:200], node["failureSummary"]) for node in one["nodes"][:3]],
        }
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("look", ["light", "dark", "narrow"])
def test_no_view_has_a_serious_fault(look: str, trained_lens: Lens, open_page: OpenPage) -> None:
    nodes = trained_lens.get("/api/graph")["nodes"]
    convolution = next(one for one in nodes if one.get("convolution"))
    size = (400, 800) if look == "narrow" else (1440, 900)
    page = open_page(trained_lens.address, size=size, dark=look == "dark", before=watched)
    found = {}
    for fragment, there in VIEWS.items():
        address = fragment.replace("CONVOLUTION", str(convolution["id"])).replace("WEIGHT", str(convolution["inputs"][1]))
        page.evaluate("(address) => { location.hash = address; }", address)
        page.wait_for_function("(address) => location.hash.startsWith(address)", arg=address.partition("?")[0])
        page.locator(there).first.wait_for()
        found[fragment] = violations(page)
    assert found == {fragment: [] for fragment in VIEWS}


def test_the_checker_sees_what_is_wrong(trained_lens: Lens, open_page: OpenPage) -> None:
    page = open_page(trained_lens.address, "#/graph", before=watched)
    page.locator(".graph .box").first.wait_for()
    page.evaluate("() => { document.querySelector('[aria-label=Keys]').outerHTML = '<button></button>'; }")
    assert [one["rule"] for one in violations(page)] == ["button-name"]
