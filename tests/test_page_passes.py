"""The lens's views of one image's pass in a browser: backwards step by step, a node, a convolution's windows, what if.

Every number that is compared here is one that the page shows, against the Python array that it is of.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from chainrule.lens.server.subject import Subject
from chainrule.lens.tracing import Pass
from chainrule.lens.tracing.paths import paths
from chainrule.lens.tracing.receptive_field import receptive_field
from chainrule.lens.tracing.what_if import PixelEdit, WeightEdit, what_if
from chainrule.lens.tracing.windows import input_gradient, weight_gradient, window
from chainrule.train import RunFolder
from lens_server import Lens, served
from running import idx_folder, noted

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from browser import OpenPage

CLOSE = {"rtol": 1e-6, "atol": 1e-12}


@pytest.fixture(scope="module")
def first_image(shipped_lens: Lens) -> Pass:
    """The pass of test image 0, in Python."""
    shown = shipped_lens.subject.image(0)
    return shipped_lens.subject.tracer.trace(shown.pixels, shown.label)


def node_of(found: Pass, operation: str, which: int = 0) -> int:
    return [row.index for row in found.explanation.rows if row.operation == operation][which]


def table_behind(page: Page, figure: Locator) -> np.ndarray[Any, Any]:
    """The numbers of a picture, by its button "numbers", row by row."""
    figure.get_by_role("button", name="Numbers of").click()
    page.locator("dialog[open] tbody tr").first.wait_for()
    rows = page.locator("dialog[open] tbody tr").all_inner_texts()
    page.keyboard.press("Escape")
    page.locator("dialog[open]").wait_for(state="hidden")
    return np.array([[float(cell) for cell in row.split("\t")[1:]] for row in rows])


def cells(table: Locator) -> np.ndarray[Any, Any]:
    """The numbers in the cells of a small matrix."""
    table.locator("td").first.wait_for()
    rows = table.locator("tr").all()
    return np.array([[float(cell.get_attribute("data-value") or "nan") for cell in row.locator("td").all()] for row in rows])


def number(locator: Locator, name: str) -> float:
    return float(locator.get_attribute(name) or "nan")


# ---- backward


def test_one_steps_from_the_loss_to_the_image(shipped_lens: Lens, first_image: Pass, open_page: OpenPage) -> None:
    page = open_page(shipped_lens.address, "#/backward")
    page.get_by_role("status").get_by_text("step 1 of").wait_for()
    order = [row.index for row in first_image.steps()]
    seen = []
    for _ in order:
        seen.append(int((page.locator("#stop-title a").get_attribute("href") or "").split("?")[0].split("/")[-1]))
        if len(seen) < len(order):
            page.keyboard.press("ArrowRight")
            page.get_by_role("status").get_by_text(f"step {len(seen) + 1} of").wait_for()
    assert seen == order
    assert page.get_by_role("button", name="Forward").is_disabled()
    page.keyboard.press("Home")
    page.get_by_role("status").get_by_text("step 1 of").wait_for()


def test_upstream_times_local_is_downstream_in_the_numbers_that_are_shown(
    shipped_lens: Lens, first_image: Pass, open_page: OpenPage
) -> None:
    relu = node_of(first_image, "maximum")
    row = first_image.row(relu)
    step = [one.index for one in first_image.steps()].index(relu) + 1
    page = open_page(shipped_lens.address, f"#/backward?step={step}")
    found = {
        name: table_behind(page, page.locator(f"figure[data-name^='{name}']"))
        for name in ("upstream gradient", "local gradient", "downstream gradient")
    }
    assert row.upstream is not None
    assert np.allclose(found["upstream gradient"], row.upstream.reshape(-1, 28), **CLOSE)
    assert np.allclose(found["upstream gradient"] * found["local gradient"], found["downstream gradient"], rtol=1e-6)
    assert np.allclose(found["downstream gradient"], row.edges[0].downstream.reshape(-1, 28), **CLOSE)


RESIDUAL = """
from chainrule import nn
from chainrule.nn import functional as F

class Net(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.first = nn.Conv2d(channels, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Linear(4, classes)

    def forward(self, x):
        x = F.relu(self.first(x))
        return self.last((x + F.relu(self.second(x))).mean(axis=(2, 3)))

def make(channels, classes, size):
    return Net(channels, classes)
"""


def test_two_gradients_meet_at_the_input_of_a_residual_block(tmp_path: Path, open_page: OpenPage) -> None:
    idx_folder(tmp_path / "patterns")
    (tmp_path / "nets.py").write_text(RESIDUAL)
    line = ("--data", tmp_path / "patterns", "--model", f"{tmp_path / 'nets.py'}:make", "--epochs", 1)
    noted("train", *line, "--out", tmp_path / "run")
    with served(Subject.of_run(RunFolder.open(tmp_path / "run"))) as lens:
        shown = lens.subject.image(0)
        found = lens.subject.tracer.trace(shown.pixels, shown.label)
        relu = node_of(found, "maximum")
        row = found.row(relu)
        parts = [edge.downstream for user in found.explanation.rows for edge in user.edges if edge.input is row.node]
        page = open_page(lens.address, f"#/node/{relu}")
        pictures = page.locator(".sum[data-summands='2'] figure")
        pictures.nth(2).wait_for()
        tables = [table_behind(page, pictures.nth(number)) for number in range(3)]
        page.close()
    assert row.upstream is not None
    assert len(parts) == 2
    flat = [part.reshape(-1, part.shape[-1]) for part in parts]
    for table in tables[:2]:
        assert any(np.allclose(table, part, **CLOSE) for part in flat)
    assert not np.allclose(tables[0], tables[1], **CLOSE)
    assert np.allclose(tables[0] + tables[1], tables[2], rtol=1e-5, atol=1e-9)
    assert np.allclose(tables[2], row.upstream.reshape(-1, row.upstream.shape[-1]), **CLOSE)


def test_a_parameter_is_where_the_way_back_ends(shipped_lens: Lens, first_image: Pass, open_page: OpenPage) -> None:
    bias = first_image.parameter("0.bias")
    step = [one.index for one in first_image.steps()].index(bias.index) + 1
    page = open_page(shipped_lens.address, f"#/backward?step={step}")
    page.get_by_text("Here the way back ends").wait_for()
    table = page.locator("figure[data-name='upstream gradient of 0.bias'] table")
    assert np.allclose(cells(table)[0], bias.upstream, **CLOSE)


# ---- node


def test_a_convolution_shows_its_value_and_gradients(shipped_lens: Lens, first_image: Pass, open_page: OpenPage) -> None:
    conv = node_of(first_image, "conv2d")
    row = first_image.row(conv)
    page = open_page(shipped_lens.address, f"#/node/{conv}")
    page.get_by_role("heading", name="conv2d(image, 0.weight)").wait_for()
    assert row.upstream is not None
    assert np.allclose(table_behind(page, page.locator("figure[data-name^='value of h']")), row.value.reshape(-1, 28), **CLOSE)
    upstream = table_behind(page, page.locator("figure[data-name^='upstream gradient of']"))
    assert np.allclose(upstream, row.upstream.reshape(-1, 28), **CLOSE)
    for edge, name in zip(row.edges, ("image", "0.weight"), strict=True):
        shown = table_behind(page, page.locator(f"figure[data-name='downstream gradient to {name}']"))
        assert np.allclose(shown, edge.downstream.reshape(-1, edge.downstream.shape[-1]), **CLOSE)
    check = page.locator(".check.right")
    check.wait_for()
    assert number(check, "data-error") < 1e-4


def test_a_window_slides_over_the_padded_image(shipped_lens: Lens, first_image: Pass, open_page: OpenPage) -> None:
    conv = node_of(first_image, "conv2d")
    page = open_page(shipped_lens.address, f"#/node/{conv}?output=2&unit=2,1,1")
    page.locator(".sliding[data-place='1,1']").wait_for()
    for key, place in ((None, (1, 1)), ("ArrowUp", (0, 1)), ("ArrowLeft", (0, 0))):  # into the padding
        if key is not None:
            page.get_by_role("application").focus()
            page.keyboard.press(key)
        expected = window(first_image, conv, 2, place)
        sliding = page.locator(f".sliding[data-place='{place[0]},{place[1]}']")
        page.wait_for_function(
            "(wanted) => Math.abs(document.querySelector('.sliding').dataset.value - wanted) < 1e-5", arg=expected.value
        )
        products = cells(sliding.locator("figure[data-name=products] table"))
        assert np.allclose(products, expected.products[0], rtol=1e-6, atol=1e-9)
        assert np.isclose(products.sum() + (expected.bias or 0), expected.value, rtol=1e-5)
        assert np.allclose(cells(sliding.locator("figure[data-name=kernel] table")), expected.kernel[0], **CLOSE)
        padded = sliding.locator("figure[data-name=patch] td.padding")
        assert padded.count() == int((~expected.inside).sum())


@pytest.mark.parametrize(("typed", "chosen"), [("4", 4), ("99", 5), ("-3", 0), ("2.6", 3)])
def test_a_filter_that_is_typed_is_the_one_that_the_address_has(
    shipped_lens: Lens, first_image: Pass, open_page: OpenPage, typed: str, chosen: int
) -> None:
    conv = node_of(first_image, "conv2d")
    page = open_page(shipped_lens.address, f"#/node/{conv}?unit=2,999,-1")  # a place outside, which becomes the nearest inside
    field = page.get_by_label("filter", exact=True)
    field.fill(typed)
    field.press("Enter")
    page.wait_for_function("(chosen) => location.hash.includes(`output=${chosen}`)", arg=chosen)
    page.locator(".sliding[data-place='27,0']").wait_for()
    assert field.input_value() == str(chosen)


def test_weighted_patches_add_up_to_the_gradient_of_the_weight(
    shipped_lens: Lens, first_image: Pass, open_page: OpenPage
) -> None:
    conv = node_of(first_image, "conv2d", 1)
    expected = weight_gradient(first_image, conv, 3, 2)
    page = open_page(shipped_lens.address, f"#/node/{conv}?way=weight&output=3&input=2")
    slider = page.get_by_role("slider", name="Place")
    slider.focus()
    page.keyboard.press("End")
    page.locator("figure[data-name='sum so far']").get_by_text("sum of all places").wait_for()
    total = cells(page.locator("figure[data-name='sum so far'] table"))
    shown = cells(page.locator("figure[data-name='gradient of the weight'] table"))
    assert np.allclose(shown, expected.gradient, **CLOSE)
    assert np.allclose(total, expected.gradient, rtol=1e-4, atol=1e-6 * np.abs(expected.gradient).max())


def test_the_flipped_filter_slides_over_the_upstream_gradient(
    shipped_lens: Lens, first_image: Pass, open_page: OpenPage
) -> None:
    conv = node_of(first_image, "conv2d", 1)
    expected = input_gradient(first_image, conv, 2, 3)
    page = open_page(shipped_lens.address, f"#/node/{conv}?way=input&output=3&input=2")
    sliding = page.locator(".sliding")
    sliding.locator(".result").wait_for()
    y, x = map(int, (sliding.get_attribute("data-place") or "").split(","))
    assert np.allclose(cells(sliding.locator("figure[data-name='flipped filter'] table")), expected.flipped, **CLOSE)
    assert np.isclose(number(sliding.locator("[data-sum]"), "data-sum"), expected.part[y, x], rtol=1e-5)
    assert np.isclose(number(sliding.locator(".result"), "data-value"), expected.downstream[y, x], rtol=1e-5)


def test_a_unit_shows_its_row_of_the_jacobian_and_its_receptive_field(
    shipped_lens: Lens, first_image: Pass, open_page: OpenPage
) -> None:
    pool = node_of(first_image, "max_pool2d", 1)
    page = open_page(shipped_lens.address, f"#/node/{pool}?unit=3,2,2")
    field = receptive_field(first_image, pool, (0, 3, 2, 2))
    page.locator(f"[data-box='{field.box.top},{field.box.left},{field.box.height},{field.box.width}']").wait_for()
    measured = table_behind(page, page.locator("figure[data-name='measured receptive field']"))
    assert np.allclose(measured, field.measured, **CLOSE)
    row = page.locator("figure[data-name^='row of the local gradient']")
    local = first_image.local(pool, 0, (0, 3, 2, 2))
    assert np.allclose(table_behind(page, row), local.row.reshape(-1, local.row.shape[-1]), **CLOSE)


# ---- what if


def test_a_weight_is_raised_and_taken_back(shipped_lens: Lens, first_image: Pass, open_page: OpenPage) -> None:
    before = first_image.parameter("0.weight").value.copy()
    page = open_page(shipped_lens.address, "#/what_if?what=0.weight&at=1,0,2,2")
    page.get_by_role("button", name="+0.01").click()
    result = page.locator(".result-of-change")
    page.locator("[data-changed]").wait_for()
    value = float(np.float32(f"{float(before[1, 0, 2, 2]) + 0.01:.7g}"))
    expected = what_if(shipped_lens.subject.tracer, first_image, [WeightEdit("0.weight", (1, 0, 2, 2), value)])
    assert np.isclose(number(result, "data-before"), first_image.loss, rtol=1e-6)
    assert np.isclose(number(result, "data-after"), expected.after, rtol=1e-6)
    assert np.isclose(number(result, "data-predicted"), expected.predicted, rtol=1e-6)
    shown = [int(one) for one in (page.locator("[data-changed]").get_attribute("data-changed") or "").split(",")]
    places = [first_image.graph.index[one.node] for one in expected.changed]
    assert shown == [one for one in places if one in set(shown)]
    assert len(shown) > 10
    page.get_by_role("button", name="Reset").click()
    page.get_by_text("Nothing is changed yet").wait_for()
    page.locator("[data-changed]").wait_for(state="detached")
    assert number(result, "data-after") == number(result, "data-before")
    again = shipped_lens.subject.tracer.trace(shipped_lens.subject.image(0).pixels, 7)
    assert np.array_equal(again.parameter("0.weight").value, before)


def test_a_mark_says_where_the_probabilities_were_before_the_change(
    shipped_lens: Lens, first_image: Pass, open_page: OpenPage
) -> None:
    page = open_page(shipped_lens.address, "#/what_if")
    page.locator(".probabilities tr").first.wait_for()
    assert page.locator(".probabilities u").count() == page.get_by_text("before the change").count() == 0
    bias = first_image.parameter("11.bias").value
    page.goto("about:blank")
    page.goto(f"{shipped_lens.address}#/what_if?edits=11.bias:3={float(bias[3]) + 4}")
    page.get_by_text("before the change").wait_for()
    places = page.evaluate(
        """() => [...document.querySelectorAll(".probabilities .track")].map((track) => {
        const [whole, mark] = [track, track.querySelector("u")].map((one) => one.getBoundingClientRect());
        return ((mark.left + mark.right) / 2 - whole.left) / whole.width; })"""
    )
    assert np.allclose(places, first_image.probabilities, atol=0.003)


def test_a_gradient_that_is_0_everywhere_has_no_scale(shipped_lens: Lens, first_image: Pass, open_page: OpenPage) -> None:
    relu = node_of(first_image, "maximum")
    value, (edge,) = first_image.row(relu).value, first_image.row(relu).edges
    for places, alone in ((value == 0, "all 0"), (value > 0, None)):
        unit = np.argwhere(places)[0].tolist()
        assert first_image.local(relu, edge.position, tuple(unit)).row.any() == (alone is None)
        page = open_page(shipped_lens.address, f"#/node/{relu}?unit={','.join(map(str, unit[1:]))}")
        legend = page.locator("figure[data-name^='row of the local gradient'] .legend").first
        legend.wait_for()
        assert (legend.inner_text() == alone) == (alone is not None)


def test_what_is_typed_stays_while_the_page_draws_itself(shipped_lens: Lens, open_page: OpenPage) -> None:
    page = open_page(shipped_lens.address, "#/what_if?what=0.bias&at=2")
    page.locator("[data-gradient]").wait_for()
    field = page.get_by_label("New value as a number")
    field.fill("-100")
    page.evaluate("() => dispatchEvent(new HashChangeEvent('hashchange'))")  # after which each view draws itself
    page.evaluate("() => new Promise((later) => requestAnimationFrame(() => requestAnimationFrame(later)))")
    assert field.input_value() == "-100"
    field.press("Enter")
    page.get_by_text("0.bias [2] ← −100").wait_for()


def test_a_pixel_is_chosen_and_changed_by_the_keyboard(shipped_lens: Lens, open_page: OpenPage) -> None:
    page = open_page(shipped_lens.address, "#/what_if?what=pixel")
    picture = page.locator("figure[data-name=image] canvas")
    picture.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.get_by_text("pixel [0, 1, 1]").wait_for()
    page.get_by_role("button", name="+0.1").click()
    page.locator("[data-changed]").wait_for()
    result = page.locator(".result-of-change")
    assert number(result, "data-after") != number(result, "data-before")


def test_a_bias_of_minus_100_kills_its_channel_and_no_other(shipped_lens: Lens, first_image: Pass, open_page: OpenPage) -> None:
    page = open_page(shipped_lens.address, "#/what_if?what=0.bias&at=2")
    field = page.get_by_label("New value as a number")
    field.fill("-100")
    field.press("Enter")
    page.get_by_text("these give nothing but 0 now").wait_for()
    expected = what_if(shipped_lens.subject.tracer, first_image, [WeightEdit("0.bias", (2,), -100.0)])
    relu = node_of(first_image, "maximum")
    after = expected.changed_pass.graph.nodes[relu].value
    assert after is not None
    assert [channel for channel in range(6) if not after[0, channel].any()] == [2]
    said = page.locator("[data-channels]").first.get_attribute("data-channels") or ""
    shown = dict(one.split(": ") for one in said.split("; "))
    assert shown[str(relu)] == "2"
    silent = {str(first_image.graph.index[one.node]): " ".join(map(str, one.silent)) for one in expected.silenced if one.silent}
    assert shown == silent


def test_a_pixel_outside_of_a_units_receptive_field_changes_nothing_of_it(
    shipped_lens: Lens, first_image: Pass, open_page: OpenPage
) -> None:
    pool = node_of(first_image, "max_pool2d")
    box = receptive_field(first_image, pool, (0, 3, 2, 2)).box
    for y, inside in ((box.top, True), (box.top + box.height, False)):
        page = open_page(shipped_lens.address, f"#/what_if?what=pixel&at=0,{y},{box.left}&edits=pixel:0,{y},{box.left}=0.9")
        page.locator("[data-changed]").wait_for()
        expected = what_if(shipped_lens.subject.tracer, first_image, [PixelEdit((0, y, box.left), 0.9)])
        shown = (page.locator("[data-changed]").get_attribute("data-changed") or "").split(",")
        assert str(pool) in shown  # other units of that node change
        changed = expected.changed_pass.graph.nodes[pool].value
        known = first_image.graph.nodes[pool].value
        assert known is not None
        assert changed is not None
        conv = node_of(first_image, "conv2d")
        window = np.s_[0, 3, 4:6, 4:6]  # what the unit of the pooling looks at
        first, later = first_image.graph.nodes[conv].value, expected.changed_pass.graph.nodes[conv].value
        assert first is not None
        assert later is not None
        assert np.array_equal(first[window], later[window]) is not inside
        if not inside:
            assert changed[0, 3, 2, 2] == known[0, 3, 2, 2]


# ---- paths


def lit_nodes(page: Page) -> set[int]:
    """The nodes that are lit in the graph, all of which is open."""
    page.locator(".lit-by").wait_for()
    return {int(one.get_attribute("data-node") or -1) for one in page.locator(".graph .box.lit[data-node]").all()}


def check_paths(page: Page, found: Pass, name: str, index: tuple[int, ...]) -> None:
    """What the page shows of all paths from an element is what Python has, number by number."""
    expected = paths(found, name, index)
    shown = page.locator(".paths")
    shown.wait_for()
    assert np.isclose(number(shown, "data-gradient"), expected.gradient, **CLOSE)
    assert np.isclose(number(shown, "data-sum"), expected.sum, **CLOSE)
    assert np.isclose(number(shown, "data-product"), expected.product, **CLOSE)
    steps = shown.locator("tr[data-node]").all()
    assert [int(one.get_attribute("data-node") or -1) for one in steps] == [
        found.graph.index[one.node] for one in expected.strongest
    ]
    factors = np.array([number(one, "data-local") for one in steps[1:]])
    assert np.allclose(factors, [one.local for one in expected.strongest[1:]], **CLOSE)
    assert np.isclose(factors.prod(), expected.product, rtol=1e-5)
    assert shown.locator(".check.right").count() == 1
    shown.get_by_role("link", name="Light them up in the graph").click()
    leaves = {found.graph.index[node] for node in found.graph.leaves}
    assert lit_nodes(page) - leaves == {found.graph.index[one.node] for one in expected.nodes} - leaves
    page.get_by_role("button", name="Light everything").click()
    page.locator(".lit-by").wait_for(state="hidden")
    assert page.locator(".graph .unlit").count() == 0


def test_a_click_on_a_weight_lights_all_its_paths(shipped_lens: Lens, first_image: Pass, open_page: OpenPage) -> None:
    weight = first_image.parameter("3.weight")
    page = open_page(shipped_lens.address, f"#/node/{weight.index}")
    page.get_by_text("Choose one of its numbers in the picture").wait_for()
    picture = page.locator("figure[data-name='value of 3.weight'] canvas")
    box = picture.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 5, box["y"] + 5)  # in the first filter, not between two
    page.locator(".paths").wait_for()
    index = tuple(map(int, page.evaluate("() => new URLSearchParams(location.hash.split('?')[1]).get('unit')").split(",")))
    assert len(index) == 4
    check_paths(page, first_image, "3.weight", index)


def test_a_pixel_has_paths_through_the_winners_of_a_pooling(shipped_lens: Lens, first_image: Pass, open_page: OpenPage) -> None:
    gradient = first_image.source("image").upstream
    assert gradient is not None
    index = tuple(map(int, np.unravel_index(np.abs(gradient).argmax(), gradient.shape)))
    node = first_image.source("image").index
    page = open_page(shipped_lens.address, f"#/node/{node}?unit={','.join(map(str, index[1:]))}")
    page.locator(".paths").wait_for()
    assert page.locator(".path").get_by_text("at the winner of each window").count() == 2
    check_paths(page, first_image, "image", index)


def test_a_weight_of_few_numbers_is_chosen_by_the_keyboard(shipped_lens: Lens, first_image: Pass, open_page: OpenPage) -> None:
    bias = first_image.parameter("11.bias")
    page = open_page(shipped_lens.address, f"#/node/{bias.index}")
    page.get_by_role("button", name="value of 11.bias: choose 7").focus()
    page.keyboard.press("Enter")
    check_paths(page, first_image, "11.bias", (7,))


def test_a_path_that_ends_at_a_dead_unit_says_so(shipped_lens: Lens, first_image: Pass, open_page: OpenPage) -> None:
    weight = first_image.parameter("7.weight")
    unit, column = np.argwhere(weight.upstream == 0)[0].tolist()
    page = open_page(shipped_lens.address, f"#/node/{weight.index}?unit={unit},{column}")
    expected = paths(first_image, "7.weight", (unit, column))
    assert expected.gradient == expected.product == 0
    page.get_by_text("The path ends before the loss").wait_for()
    page.get_by_text(f"reaches {len(expected.nodes)} of ").wait_for()
