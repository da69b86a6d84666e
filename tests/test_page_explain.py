"""Expressions that are typed on the lens's page: values, gradients, roles and steps against what Python computes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import numpy as np
import pytest

from chainrule.lens.tracing.typed_expression import TypedExpression, typed_expression
from lens_server import Lens

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from browser import OpenPage

KINK = "max(0, w*x + b) * v"
VALUES = {"w": 1.5, "x": 1.0, "b": -0.5, "v": 2.0}


def fragment(text: str, values: dict[str, Any], **more: Any) -> str:
    return "#/explain?" + urlencode({"text": text, "values": json.dumps(values), **more})


def boxes(page: Page) -> dict[str, dict[str, Any]]:
    """What each box of the graph says, by the name of its node: role, value and gradient, None where not reached."""
    rows: list[dict[str, Any]] = page.evaluate(
        """() => [...document.querySelectorAll(".graph.expression .box")].map(({ dataset }) => ({
          name: dataset.name, role: dataset.role,
          value: JSON.parse(dataset.value ?? "null"), gradient: JSON.parse(dataset.gradient ?? "null") }))"""
    )
    return {row.pop("name"): row for row in rows}


def agree(page: Page, found: TypedExpression) -> None:
    """The boxes say what Python says."""
    seen = boxes(page)
    assert set(seen) == {row.name for row in found.explanation.rows}
    for row in found.explanation.rows:
        assert seen[row.name]["role"] == row.role.value
        np.testing.assert_allclose(seen[row.name]["value"], row.value, rtol=1e-12)
        assert row.upstream is not None
        np.testing.assert_allclose(seen[row.name]["gradient"], row.upstream, rtol=1e-12)


def wait_for_error(page: Page, error: float) -> None:
    page.wait_for_function(
        "(error) => Math.abs(document.querySelector('.explained')?.dataset.error - error) < 1e-9", arg=float(error)
    )


def test_the_lectures_example_stands_there_at_first(shipped_lens: Lens, open_page: OpenPage) -> None:
    page = open_page(shipped_lens.address, "#/explain")
    wait_for_error(page, 36)
    agree(page, typed_expression("(w @ x - y)**2", {"w": [1, 2], "x": [3, 4], "y": 5}, 0.01))
    update = page.locator("[data-update='w']")
    assert json.loads(update.get_attribute("data-next") or "") == [0.64, 1.52]
    assert page.locator("[data-update]").count() == 1  # x and y are data


def test_an_expression_is_typed_dragged_through_its_kink_and_trained(shipped_lens: Lens, open_page: OpenPage) -> None:
    """Scenario 15, by keyboard alone."""
    page = open_page(shipped_lens.address, fragment("w * x", VALUES))
    wait_for_error(page, 1.5)
    page.get_by_label("Expression of the error e").focus()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(KINK)
    wait_for_error(page, 2)
    agree(page, typed_expression(KINK, VALUES))
    page.get_by_label("Slider of x").focus()
    for _ in range(14):
        page.keyboard.press("ArrowLeft")  # from 1 down to 0.3, where w*x + b is below 0
    wait_for_error(page, 0)
    x = float(page.get_by_label("Value of x").input_value())
    assert x == pytest.approx(0.3)
    dead = typed_expression(KINK, {**VALUES, "x": x})
    agree(page, dead)
    assert boxes(page)["w"]["gradient"] == 0
    assert page.locator(".edge.nothing").count() == 6  # all but that from the max to e, which is v
    assert "no step changes anything" in page.locator(".warning").inner_text()
    page.get_by_label("Slider of x").focus()
    for _ in range(14):
        page.keyboard.press("ArrowRight")
    wait_for_error(page, 2)
    step = page.get_by_role("button", name="Step", exact=True)
    values: dict[str, Any] = dict(VALUES)
    errors = [2.0]
    for _ in range(3):
        stepped = typed_expression(KINK, values, 0.1).stepped
        values = {name: values[name] if name == "x" else float(stepped[name]) for name in values}
        step.focus()
        page.keyboard.press("Enter")
        found = typed_expression(KINK, values, 0.1)
        errors.append(found.explanation.error)
        wait_for_error(page, found.explanation.error)
        agree(page, found)
    page.get_by_role("button", name="Numbers of Error over steps").click()
    page.locator("dialog[open] tbody tr").first.wait_for()
    rows = [row.split("\t") for row in page.locator("dialog[open] tbody tr").all_inner_texts()]
    assert [row[0] for row in rows] == ["0", "1", "2", "3"]
    np.testing.assert_allclose([float(row[1]) for row in rows], errors, rtol=1e-6)
    page.keyboard.press("Escape")
    page.wait_for_function("() => location.hash.includes('steps=3')")
    again = open_page(page.url)
    wait_for_error(again, errors[-1])
    agree(again, found)
    again.get_by_role("button", name="Back to the start").click()
    wait_for_error(again, 2)


def test_steps_forwards_and_backwards_are_told_with_their_numbers(shipped_lens: Lens, open_page: OpenPage) -> None:
    page = open_page(shipped_lens.address, fragment("w*x + w", {"w": 3, "x": 2}, at=0))
    page.locator("[data-at='0']").wait_for()
    seen = boxes(page)
    assert (seen["w"]["value"], seen["h1"]["value"], seen["w"]["gradient"]) == (3, None, None)
    said = page.locator(".step-said")
    for at, has in (
        (1, "h1 = w · x = 3 · 2 = 6"),
        (2, "e = h1 + w = 6 + 3 = 9"),
        (3, "the way back begins at the error"),
        (4, "all together"),
    ):
        page.keyboard.press("ArrowRight")
        page.locator(f"[data-at='{at}']").wait_for()
        assert has in " ".join(said.inner_text().replace("\n", " ").split()), at
        assert boxes(page)["e"]["value"] == (9 if at >= 2 else None)
        assert boxes(page)["w"]["gradient"] == (3 if at == 4 else None)
    parts = {
        one.get_attribute("data-input"): one.get_attribute("data-downstream") for one in said.locator("[data-input]").all()
    }
    assert parts == {"w": "2", "x": "3"}
    assert "1 + 2 = 3" in " ".join(said.inner_text().split())
    page.keyboard.press("Home")
    page.locator("[data-at='0']").wait_for()


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("w * x^2", 5, "^ is not a power here. Write **."),
        ("w * (x + 1", 4, "'(' was never closed"),
        ("w * tan(x)", 4, "Unknown function 'tan'"),
    ],
)
def test_a_wrong_expression_is_explained_where_it_is_wrong(
    shipped_lens: Lens, open_page: OpenPage, text: str, place: int, said: str
) -> None:
    page = open_page(shipped_lens.address, fragment("w * x", {"w": 2, "x": 3}), expected=("400 (Bad Request)",))
    wait_for_error(page, 6)
    page.get_by_label("Expression of the error e").fill(text)
    misread = page.locator(".misread")
    misread.wait_for()
    assert misread.locator("[data-place]").get_attribute("data-place") == str(place)
    assert misread.locator("mark").inner_text() == text[place]
    assert said in misread.inner_text()
    page.get_by_label("Expression of the error e").fill("w * x * x")
    wait_for_error(page, 18)
    assert not misread.is_visible()


def test_each_example_is_explained(shipped_lens: Lens, open_page: OpenPage) -> None:
    page = open_page(shipped_lens.address, "#/explain")
    choice = page.get_by_label("Examples")
    choice.wait_for()
    for title in choice.locator("option").all_inner_texts():
        choice.select_option(title)
        text = page.get_by_label("Expression of the error e").input_value()
        values = json.loads(
            page.evaluate("""async () => { await new Promise((done) => setTimeout(done, 260));
            return new URLSearchParams(location.hash.split("?")[1]).get("values"); }""")
            or "null"
        )
        found = typed_expression(text, values or {"w": [1, 2], "x": [3, 4], "y": 5})
        wait_for_error(page, found.explanation.error)
        agree(page, found)
