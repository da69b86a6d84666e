"""A digit that is drawn on the lens's page: it goes through the network while one draws, by keyboard, mouse or from a file."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from lens_server import Lens

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from browser import OpenPage

GREYS = 51
THREE = "Right*9 Down*4 Left*6 Right*6 Down*5 Left*9"
"""A 3 as moves of the pen: its upper bar, down, the middle bar and back, down, and the lower bar."""


@pytest.fixture
def page(shipped_lens: Lens, open_page: OpenPage) -> Page:
    found = open_page(shipped_lens.address, "#/draw", expected=("willReadFrequently",))
    found.locator("canvas.pad").wait_for()
    return found


def drawn(page: Page) -> np.ndarray[Any, Any]:
    """The pixels of the pad, from 0 to 1, as they are shown."""
    numbers = page.evaluate(
        """() => { const pad = document.querySelector("canvas.pad");
        return [...pad.getContext("2d").getImageData(0, 0, pad.width, pad.height).data].filter((_, i) => i % 4 === 0); }"""
    )
    return np.round(np.array(numbers, np.float64).reshape(28, 28) / 255 * GREYS) / GREYS


def shown(page: Page) -> np.ndarray[Any, Any]:
    return np.array([float(one.get_attribute("data-probability") or "nan") for one in page.locator(".classes button").all()])


def settled(page: Page) -> None:
    """The answer that is shown is the one for what is drawn now: the address has both."""
    page.wait_for_function(
        """() => { const query = new URLSearchParams(location.hash.split("?")[1]);
        const key = `${query.get("drawing")} ${query.get("class")}`;
        const { of, wanted } = document.querySelector(".classes").dataset;
        return of === wanted && wanted === key; }"""
    )


def draw_with_keys(page: Page, moves: str) -> None:
    page.locator("canvas.pad").focus()
    page.keyboard.press("Space")
    for move in moves.split():
        direction, count = move.split("*")
        for _ in range(int(count)):
            page.keyboard.press(f"Shift+Arrow{direction}")


def numbers_behind(page: Page, figure: Locator) -> np.ndarray[Any, Any]:
    figure.get_by_role("button", name="Numbers of").click()
    page.locator("dialog[open] tbody tr").first.wait_for()
    rows = page.locator("dialog[open] tbody tr").all_inner_texts()
    page.keyboard.press("Escape")
    return np.array([[float(cell) for cell in row.split("\t")[1:]] for row in rows])


def test_a_digit_is_drawn_with_the_keyboard_alone(page: Page, shipped_lens: Lens) -> None:
    """Scenario 16: probabilities and the gradient for a class that one picks are those of Python."""
    assert page.get_by_role("heading", name="Nothing is drawn yet").is_visible()
    draw_with_keys(page, THREE)
    settled(page)
    pixels = drawn(page)
    assert pixels[7, 9:19].min() == 1  # the upper bar, where the pen began
    tracer = shipped_lens.subject.tracer
    image = tracer.image_of_drawing(pixels.astype(np.float32))
    probabilities, _, _ = tracer.judge(image)
    np.testing.assert_allclose(shown(page), probabilities, rtol=1e-5, atol=1e-7)
    best = int(probabilities.argmax())
    assert page.locator(".classes .winner").get_attribute("data-class") == str(best)
    eight = page.locator(".classes button[data-class='8']")
    eight.focus()
    page.keyboard.press("Enter")
    settled(page)
    assert eight.get_attribute("aria-pressed") == "true"
    _, loss, gradient = tracer.judge(image, 8)
    towards = page.locator(".towards")
    assert float(towards.get_attribute("data-loss") or "nan") == pytest.approx(loss, rel=1e-6)
    expected = -gradient.sum(axis=0)
    np.testing.assert_allclose(numbers_behind(page, towards.locator("figure")), expected, rtol=1e-4, atol=1e-6)
    missing = np.where(pixels < 0.5, expected, -np.inf)
    assert towards.locator("[data-brighter]").get_attribute("data-brighter") == str(int(missing.argmax()))
    row, column = np.unravel_index(missing.argmax(), missing.shape)
    assert f"Most of all ink is missing at row {row}, column {column}" in towards.inner_text()
    before = shown(page)[8]
    towards.get_by_role("button", name="Change the drawing so").click()
    settled(page)
    assert shown(page)[8] > before
    page.locator("canvas.pad").focus()
    page.keyboard.press("u")
    settled(page)
    np.testing.assert_array_equal(drawn(page), pixels)
    page.keyboard.press("c")
    settled(page)
    assert not drawn(page).any()


def test_probabilities_follow_each_stroke_within_a_tenth_of_a_second(page: Page) -> None:
    page.locator("canvas.pad").focus()
    page.keyboard.press("Space")
    settled(page)
    took = []
    for _ in range(7):
        before = page.locator(".classes").get_attribute("data-of")
        begin = time.perf_counter()
        page.keyboard.press("Shift+ArrowDown")
        page.wait_for_function("(before) => document.querySelector('.classes').dataset.of !== before", arg=before)
        took.append(time.perf_counter() - begin)
    assert sorted(took)[len(took) // 2] < 0.1, took


def test_the_mouse_draws_and_the_link_is_the_drawing(page: Page, shipped_lens: Lens, open_page: OpenPage) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/api/draw" in request.url else None)
    box = page.locator("canvas.pad").bounding_box()
    assert box is not None
    middle = box["x"] + box["width"] / 2
    page.mouse.move(middle, box["y"] + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(middle, box["y"] + 0.8 * box["height"], steps=40)
    page.mouse.up()
    settled(page)
    pixels = drawn(page)
    assert pixels[7:21, 13:15].min() > 0.9  # a line without gaps
    assert not pixels[:, :10].any()
    assert len(asked) < 40  # one question at a time, and the last drawing wins
    other = open_page(page.url, expected=("willReadFrequently",))
    other.locator("canvas.pad").wait_for()
    settled(other)
    np.testing.assert_array_equal(drawn(other), pixels)
    other.locator(".classes button[data-class='7']").click()
    settled(other)
    other.get_by_role("link", name="See every node of this drawing").click()
    other.locator(".stop").wait_for()
    assert other.locator(".sample").get_by_text("your drawing").is_visible()
    tracer = shipped_lens.subject.tracer
    found = tracer.trace(tracer.image_of_drawing(pixels.astype(np.float32)), 7)
    other.get_by_role("button", name="Last step").click()
    other.wait_for_function("() => document.querySelector('.stepping [role=status]').textContent.startsWith('step')")
    kept = shipped_lens.post("/api/trace", {"pixels": [pixels.tolist()], "label": 7}).json
    assert kept["loss"] == pytest.approx(found.loss, rel=1e-6)
    other.get_by_role("button", name="Back to the test images").click()
    other.get_by_label("Number of the image").wait_for()


def test_a_file_that_is_dark_on_light_becomes_a_drawing(page: Page) -> None:
    digit = Image.new("L", (56, 56), 255)
    digit.paste(0, (26, 10, 30, 46))
    file = io.BytesIO()
    digit.save(file, "PNG")
    page.locator("input[type=file]").set_input_files({"name": "one.png", "mimeType": "image/png", "buffer": file.getvalue()})
    page.get_by_text("dark and light are exchanged").wait_for()
    settled(page)
    pixels = drawn(page)
    assert pixels[6:22, 13:15].min() > 0.85
    assert not pixels[:, :11].any()


def test_a_file_that_is_no_image_is_explained(shipped_lens: Lens, open_page: OpenPage) -> None:
    page = open_page(shipped_lens.address, "#/draw", expected=("400 (Bad Request)",))
    page.locator("input[type=file]").set_input_files({"name": "x.png", "mimeType": "image/png", "buffer": b"no image"})
    page.locator(".trouble").wait_for()
    assert "x.png" in page.locator(".trouble").inner_text()
