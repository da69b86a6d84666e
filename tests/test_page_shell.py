"""The lens's page in a browser: its header, its views, keys, colours, and what it says when the server is away."""

from __future__ import annotations

import re
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from browser import wait_for_view
from chainrule.lens.server.serving import LensServer
from lens_server import Lens, served

if TYPE_CHECKING:
    from browser import OpenPage


def contrast(one: str, other: str) -> float:
    """The contrast of two colours as a browser writes them, by the guidelines for accessible content (WCAG 2)."""

    def luminance(colour: str) -> float:
        shares = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_the_page_names_what_it_shows_and_leads_to_its_views(shipped_lens: Lens, open_page: OpenPage) -> None:
    page = open_page(shipped_lens.address, "#/graph")
    page.get_by_role("heading", name="the LeNet that ships with chainrule").wait_for()
    assert page.title() == "the LeNet that ships with chainrule · chainrule lens"
    views = page.get_by_role("navigation", name="Views").get_by_role("link")
    assert views.all_inner_texts() == [
        "Graph",
        "Backward",
        "Node",
        "What if",
        "Draw",
        "Explain",
    ]  # nobody knows how it was trained
    assert page.locator("[aria-current=page]").inner_text() == "Graph"
    page.keyboard.press("2")
    wait_for_view(page, "#/backward")
    page.go_back()
    wait_for_view(page, "#/graph")


def test_keys_are_listed_on_request(shipped_lens: Lens, open_page: OpenPage) -> None:
    page = open_page(shipped_lens.address, "#/graph")
    page.get_by_role("heading", name="the LeNet").wait_for()
    page.keyboard.press("?")
    page.get_by_role("dialog").get_by_text("go to a view").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")


def test_colours_follow_the_system_and_can_be_chosen(shipped_lens: Lens, open_page: OpenPage) -> None:
    seen = set()
    for dark in (False, True):
        page = open_page(shipped_lens.address, "#/graph", dark=dark)
        page.locator(".box").first.wait_for()
        colours = "(name) => { const e = document.querySelector(name), s = getComputedStyle(e); return s.color }"
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        seen.add(paper)
        for name in ("h1", ".about", ".tabs a", ".roles .hint", ".bar button"):
            assert contrast(page.evaluate(colours, name), paper) >= 4.5, (name, dark)
        page.get_by_role("button", name="Colours").click()  # light
        if dark:
            page.wait_for_function("(paper) => getComputedStyle(document.body).backgroundColor !== paper", arg=paper)
    assert len(seen) == 2


def test_a_wrong_token_is_explained(shipped_lens: Lens, open_page: OpenPage) -> None:
    address = shipped_lens.address.split("?")[0] + "?token=wrong"
    page = open_page(address, expected=("403",))
    page.get_by_text("open the address that chainrule lens printed").first.wait_for()


def test_a_server_that_stops_is_said_and_the_page_comes_back(shipped_lens: Lens, open_page: OpenPage) -> None:
    with served(shipped_lens.subject) as lens:
        page = open_page(lens.address, "#/graph", expected=("ERR_CONNECTION",))
        page.locator(".box").first.wait_for()
        port, token = lens.server.port, lens.server.token
    page.get_by_role("link", name="Backward").click()
    page.get_by_text("The server does not answer").first.wait_for()
    again = LensServer(shipped_lens.subject, port, token)
    try:
        assert again.port == port
        again.start()
        page.locator(".connection.none").wait_for(state="attached")
    finally:
        again.stop()


def test_a_page_sends_its_token_to_no_other_server_that_listens_there_later(shipped_lens: Lens, open_page: OpenPage) -> None:
    """Which could ask for everything with it, once the lens is back."""
    with served(shipped_lens.subject) as lens:
        page = open_page(lens.address, "#/graph", expected=("ERR_CONNECTION", "ERR_SOCKET_NOT_CONNECTED", "ERR_EMPTY_RESPONSE"))
        page.locator(".box").first.wait_for()
        port, token = lens.server.port, lens.server.token
    page.get_by_text("The server does not answer").first.wait_for()
    asked: list[tuple[str, str]] = []

    class Stranger(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, str(self.headers)))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"proof": "something"}')

        def log_message(self, *_: Any) -> None:
            pass

    stranger = HTTPServer(("127.0.0.1", port), Stranger)
    thread = Thread(target=stranger.serve_forever)
    thread.start()
    try:
        page.get_by_role("link", name="Backward").click()
        page.wait_for_timeout(2500)
    finally:
        stranger.shutdown()
        thread.join()
        stranger.server_close()
    assert {path.partition("?")[0] for path, _ in asked if path.startswith("/api")} == {"/api/here"}
    assert not any(token in path + headers for path, headers in asked)
    again = LensServer(shipped_lens.subject, port, token)
    try:
        again.start()
        page.locator(".connection.none").wait_for(state="attached")
    finally:
        again.stop()


@pytest.mark.parametrize(
    ("fragment", "part"), [("#/graph", ".box"), ("#/backward?step=20", ".way .legend"), ("#/backward?step=12", ".local .kind")]
)
def test_a_narrow_window_is_enough(shipped_lens: Lens, open_page: OpenPage, fragment: str, part: str) -> None:
    page = open_page(shipped_lens.address, fragment, size=(400, 800))
    page.locator(part).first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


@pytest.mark.parametrize("name", ["nothing", "constructor"])  # the second is a name that every object of JavaScript has
def test_an_unknown_view_is_the_first_one_and_its_tab_says_so(shipped_lens: Lens, open_page: OpenPage, name: str) -> None:
    page = open_page(shipped_lens.address, f"#/{name}")
    page.locator(".graph .box").first.wait_for()
    assert page.locator(".tabs [aria-current]").all_inner_texts() == ["Graph"]
