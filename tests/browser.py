"""A real browser in tests of the lens's page: Chromium, headless, by Playwright. What goes wrong in the page fails the test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    OpenPage = Callable[..., Page]

NAMES = ("chromium", "chromium-browser", "google-chrome")


def wait_for_view(page: Page, fragment: str) -> None:
    """Wait until the address ends with ``fragment``, but for its query."""
    page.wait_for_function("(wanted) => location.hash.split('?')[0] === wanted", arg=fragment)


def why_no_browser() -> str:
    """What is missing for a browser; empty if nothing is."""
    for package in ("playwright", "axe_playwright_python"):
        if find_spec(package) is None:
            return f"the package {package} is not installed"
    if not any(map(shutil.which, NAMES)):
        return f"there is no browser: none of {', '.join(NAMES)} is on the PATH"
    return ""


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser. Where there is none the tests are skipped, unless CI is set: there it is a failure."""
    reason = why_no_browser()
    if reason and os.environ.get("CI"):
        pytest.fail(f"CI is set, and {reason}")
    if reason:
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    executable = next(filter(None, map(shutil.which, NAMES)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def watched_pages(browser: Browser) -> Iterator[OpenPage]:
    """``open_page(address, fragment)`` opens a page; at the end of the test no page may have asked any other machine, nor have
    said anything in its console but what ``expected`` (parts of messages) names."""
    complaints: list[str] = []
    contexts = []

    def open_page(
        address: str,
        fragment: str = "",
        size: tuple[int, int] = (1440, 900),
        dark: bool = False,
        expected: tuple[str, ...] = (),
        before: Callable[[Page], None] | None = None,
    ) -> Page:
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)

        def complain(text: str) -> None:
            if not any(part in text for part in expected):
                complaints.append(text)

        page.on("console", lambda message: complain(f"{message.type}: {message.text} {message.location.get('url', '')}"))
        page.on("pageerror", lambda error: complain(f"error: {error}"))
        host = urlsplit(address).netloc
        page.on(
            "request",
            lambda request: (
                None
                if urlsplit(request.url).scheme in ("data", "blob") or urlsplit(request.url).netloc == host
                else complain(f"a request to {request.url}")
            ),
        )
        if before is not None:
            before(page)
        page.goto(address + fragment)
        return page

    try:
        yield open_page
    finally:
        for context in contexts:
            context.close()
    assert not complaints, complaints
