"""The lens's guided tour in a browser: all steps by keyboard alone, questions answered by the numbers of Python's arrays."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.lens.server.subject import Subject
from chainrule.lens.tracing import Pass
from chainrule.lens.tracing.paths import paths
from chainrule.lens.tracing.receptive_field import receptive_field
from chainrule.nn import Conv2d
from chainrule.train import RunFolder
from lens_server import Lens, served
from running import done, idx_folder

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from browser import OpenPage

About = dict[str, Any]


@pytest.fixture(scope="module")
def first_image(shipped_lens: Lens) -> Pass:
    """The pass of test image 0, in Python."""
    return traced(shipped_lens)


def traced(lens: Lens) -> Pass:
    shown = lens.subject.image(0)
    return lens.subject.tracer.trace(shown.pixels, shown.label)


@pytest.fixture(scope="module")
def perceptron_lens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lens]:
    """A server of a run of an MLP, which has no convolution and no pooling."""
    folder = tmp_path_factory.mktemp("tour")
    idx_folder(folder / "patterns")
    done("train", "--data", folder / "patterns", "--model", "mlp", "--epochs", 1, "--out", folder / "run")
    with served(Subject.of_run(RunFolder.open(folder / "run"))) as lens:
        yield lens


# ---- the right answers


def unit_of(found: Pass, about: About, which: str, position: int | None = None) -> float:
    return float(found.tensor(about["node"], which, position)[tuple(about["unit"])])


def winner(found: Pass, about: About) -> float:
    """The largest number of a pooling's window."""
    (source,) = found.row(about["node"]).node.inputs
    channel, y, x = about["unit"]
    high, wide = about["window"]
    values = found.tensor(found.graph.nodes.index(source))
    return float(values[channel, y * high : (y + 1) * high, x * wide : (x + 1) * wide].max())


def stepped(found: Pass, about: About) -> float:
    row = found.parameter(about["name"]) if "name" in about else found.row(about["node"])
    index = tuple(about["index"])
    assert row.upstream is not None
    return float(row.value[index] - about["rate"] * row.upstream[index])


def rows_with_stride(found: Pass, about: About) -> float:
    image, kernel = found.row(about["node"]).node.inputs
    padding = found.row(about["node"]).node.attributes["padding"][0][0]
    values = [cr.tensor(found.row(found.graph.nodes.index(node)).value) for node in (image, kernel)]
    return cr.nn.functional.conv2d(*values, stride=about["stride"], padding=padding).shape[2]


def depthwise_and_pointwise(found: Pass, about: About) -> float:
    outputs, inputs, height, width = found.row(about["node"]).node.inputs[1].shape
    layers = Conv2d(inputs, inputs, (height, width), groups=inputs, bias=False), Conv2d(inputs, outputs, 1, bias=False)
    return sum(layer.weight.size for layer in layers)


def weighted_pixel(found: Pass, about: About) -> float:
    """What one place adds to the gradient of one weight; the convolution has stride 1 and no padding."""
    (y, x), (a, b) = about["place"], about["tap"]
    (image, _) = found.row(about["node"]).node.inputs
    upstream = found.tensor(about["node"], "upstream")[about["output"], y, x]
    return float(upstream * found.tensor(found.graph.nodes.index(image))[about["input"], y + a, x + b])


def first_of_flipped(found: Pass, about: About) -> float:
    (_, kernel) = found.row(about["node"]).node.inputs
    return float(np.flip(kernel.value[about["output"], about["input"]])[0, 0])


RIGHT: dict[str, Callable[[Pass, About], float | str]] = {
    "graph": lambda found, about: "at the error e, with 1",
    "example": lambda found, about: 2 * (0.5 * 2 - 3) * 2,
    "chain": lambda found, about: paths(found, about["name"], tuple(about["index"])).product,
    "addition": lambda found, about: f"{unit_of(found, about, 'upstream'):.3g} to each".replace("-", "−"),
    "multiplication": lambda found, about: float(found.row(about["node"]).edges[1].downstream[about["input"], about["output"]]),
    "routing": winner,
    "fan-out": lambda found, about: 2 * (1 * 2 - 3) * 2 + 2 * 1,
    "relu": lambda found, about: unit_of(found, about, "downstream"),
    "sgd": stepped,
    "fully-connected": lambda found, about: found.parameter(about["parameter"]).value.size,
    "templates": lambda found, about: float(np.ravel_multi_index(about["place"], (16, 5, 5))),
    "convolution": lambda found, about: found.parameter(about["parameter"]).value.size,
    "padding": rows_with_stride,
    "variants": depthwise_and_pointwise,
    "convolution-to-weight": weighted_pixel,
    "convolution-to-input": first_of_flipped,
}
"""The right answer of each question as Python has it, of those that are a number or a sentence."""

ORDER = ["graph", "example", "chain", "addition", "multiplication", "routing", "fan-out", "relu", "dead-unit", "sgd"]
ORDER += ["fully-connected", "templates", "convolution", "receptive-field", "padding", "variants"]
ORDER += ["convolution-to-weight", "convolution-to-input"]


# ---- the page


def asked(page: Page, step: str) -> About:
    """What the question of a step is about, once it is there."""
    page.locator(f".tour[data-step='{step}'] .question").wait_for()
    about: About = json.loads(page.locator(".question").get_attribute("data-about") or "")
    return about


def is_right(button: Locator, right: float | str) -> bool:
    if isinstance(right, str):
        return right in button.inner_text().replace("\n", " ")
    value = button.get_attribute("data-value")
    return value is not None and bool(np.isclose(float(value), right, rtol=1e-5, atol=1e-12))


def answer_with_keys(page: Page, right: float | str) -> None:
    """Answer every wrong choice, each of which must be explained, and then the right one."""
    buttons = page.locator(".choices button").all()
    good = [i for i, button in enumerate(buttons) if is_right(button, right)]
    assert len(good) == 1, (right, [button.inner_text() for button in buttons])
    assert len(buttons) >= 3
    for i in [*(i for i in range(len(buttons)) if i != good[0]), good[0]]:
        page.keyboard.press("abcdefgh"[i])
        page.locator(f".choices li:nth-child({i + 1}) button[aria-pressed=true]").wait_for()
        verdict = page.locator(".answer-verdict").inner_text()
        assert verdict.startswith("✓ Right." if i == good[0] else "✗ Not that."), verdict
        assert len(verdict) > 40
    assert f"answer={good[0]}" in page.url


def answer_with_a_pixel(page: Page, box: tuple[int, int, int, int]) -> None:
    """Answer with a pixel outside of the box, and with one in it, by the arrow keys."""
    top, left, height, width = box
    outside = (0, 0) if top > 0 or left > 0 else (height, width)
    page.locator(".question canvas").focus()
    place = (0, 0)
    for wanted, verdict in ((outside, "✗ Not that."), ((top + height // 2, left + width // 2), "✓ Right.")):
        for axis, (back, forth) in enumerate((("ArrowUp", "ArrowDown"), ("ArrowLeft", "ArrowRight"))):
            for _ in range(abs(wanted[axis] - place[axis])):
                page.keyboard.press(forth if wanted[axis] > place[axis] else back)
        if place == wanted:  # the cursor appears with the first arrow key
            page.keyboard.press("ArrowUp")
        page.keyboard.press("Enter")
        page.locator(".answer-verdict").get_by_text(verdict).wait_for()
        assert f"answer={wanted[0]}%2C{wanted[1]}" in page.url
        place = wanted


def test_all_steps_on_the_lenet_that_ships_by_keyboard_alone(
    shipped_lens: Lens, first_image: Pass, open_page: OpenPage
) -> None:
    page = open_page(shipped_lens.address, "#/graph")
    page.locator(".sample .verdict").wait_for()
    page.keyboard.press("t")
    for i, step in enumerate(ORDER):
        about = asked(page, step)
        assert f"tour={step}" in page.url
        assert page.locator(".tour h2").evaluate("(title) => title === document.activeElement")
        if step == "dead-unit":
            (layer,) = [one for one in shipped_lens.get("/api/relu")["layers"] if one["path"] == about["path"]]
            (dead,) = [unit for unit in about["units"] if layer["zeros"][unit] == 1]
            answer_with_keys(page, dead)
        elif step == "receptive-field":
            box = receptive_field(first_image, about["node"], tuple(about["unit"])).box
            answer_with_a_pixel(page, (box.top, box.left, box.height, box.width))
        else:
            answer_with_keys(page, RIGHT[step](first_image, about))
        assert page.locator(".tour-bar").get_by_text(f"{i + 1} of {len(ORDER)}").is_visible()
        if i < len(ORDER) - 1:
            page.keyboard.press("n")
    lines = {
        title.split(" · ")[0]
        for title in page.locator(".tour-progress button").evaluate_all("(all) => all.map((b) => b.title)")
    }
    assert lines == {f"L{number}" for number in range(1, 14)}
    page.keyboard.press("p")
    asked(page, ORDER[-2])
    page.keyboard.press("t")
    page.locator(".tour").wait_for(state="detached")
    assert "tour=" not in page.url


def test_a_step_points_at_what_it_speaks_of(shipped_lens: Lens, open_page: OpenPage) -> None:
    page = open_page(shipped_lens.address, "#/graph")
    page.get_by_role("button", name="Tour").click()
    asked(page, "graph")
    page.locator(".graph[data-tour]").wait_for()
    page.get_by_role("button", name="17: Convolution backwards, to the weight").click()
    about = asked(page, "convolution-to-weight")
    page.locator(".convolution[data-tour]").wait_for()
    assert f"#/node/{about['node']}?" in page.url
    assert "way=weight" in page.url
    page.get_by_role("link", name="Backward").click()  # one may look elsewhere, and the tour stays
    page.locator(".small-map").wait_for()
    asked(page, "convolution-to-weight")
    page.get_by_role("button", name="Show it").click()
    page.locator(".convolution[data-tour]").wait_for()


def test_a_step_and_its_answer_are_a_link_in_a_narrow_window_too(shipped_lens: Lens, open_page: OpenPage) -> None:
    page = open_page(shipped_lens.address, "#/graph?tour=example&answer=0", size=(400, 800))
    page.locator(".answer-verdict").get_by_text("✓ Right.").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.get_by_role("button", name="Fold").click()
    page.locator(".question").wait_for(state="hidden")
    assert page.get_by_role("button", name="Next").is_visible()


@pytest.mark.parametrize("waited", ["", "await new Promise((later) => requestAnimationFrame(later));"])
def test_a_key_pressed_twice_goes_two_steps_however_fast(perceptron_lens: Lens, open_page: OpenPage, waited: str) -> None:
    page = open_page(perceptron_lens.address, "#/graph?tour=routing")
    asked(page, "routing")
    press = "document.body.dispatchEvent(new KeyboardEvent('keydown', { key: 'n', bubbles: true }))"
    page.evaluate(f"async () => {{ {press}; {waited} {press}; }}")
    asked(page, "relu")
    page.evaluate("() => { const next = document.querySelector('.tour .next'); next.click(); next.click(); }")
    asked(page, "sgd")


def test_a_network_without_such_nodes_gets_an_example_or_says_that_a_step_is_left_out(
    perceptron_lens: Lens, open_page: OpenPage
) -> None:
    found = traced(perceptron_lens)
    page = open_page(perceptron_lens.address, "#/graph?tour=routing")
    asked(page, "routing")
    page.get_by_text("This network has no max pooling, so here is an example in small.").wait_for()
    answer_with_keys(page, 2.0)
    page.keyboard.press("n")
    page.keyboard.press("n")
    about = asked(page, "relu")
    answer_with_keys(page, RIGHT["relu"](found, {**about, "unit": [0, *about["unit"]]}))
    page.get_by_role("button", name="13: A filter slides").click()
    page.get_by_text("This network has no convolution. This step is left out.").wait_for()
    page.keyboard.press("n")
    page.locator(".tour[data-step='receptive-field'] .absent").wait_for()
