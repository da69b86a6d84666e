"""The lens's view of a training in a browser: curves that grow, heat maps and dead units, each with its numbers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from browser import wait_for_view
from chainrule.lens.server.subject import Subject
from chainrule.train import RunFolder
from lens_server import GrowingRun, Lens, served
from running import idx_folder, noted

if TYPE_CHECKING:
    from browser import OpenPage


def test_the_loss_grows_without_a_reload(growing_lens: tuple[Lens, GrowingRun], open_page: OpenPage) -> None:
    lens, run = growing_lens
    page = open_page(lens.address)
    page.locator(".chart[data-last]").first.wait_for()
    assert page.get_by_text("training now").is_visible()
    loaded = page.evaluate("performance.timeOrigin")
    rows = lens.get("/api/history?since=0")["rows"]
    assert page.locator(".chart").first.get_attribute("data-last") == str(rows[-1]["step"])
    run.grow(2)
    rows = lens.get("/api/history?since=0")["rows"]
    page.locator(f".chart[data-last='{rows[-1]['step']}']").first.wait_for()
    run.end()
    page.get_by_text("training now").wait_for(state="hidden")
    assert page.evaluate("performance.timeOrigin") == loaded


def test_the_numbers_behind_the_curve_are_those_of_the_run(trained_lens: Lens, open_page: OpenPage) -> None:
    page = open_page(trained_lens.address, "#/train")
    page.get_by_role("button", name="Numbers of Loss").click()
    shown = [
        [cell.replace(",", "") for cell in row.split("\t")] for row in page.locator("dialog[open] tbody tr").all_inner_texts()
    ]
    rows = trained_lens.get("/api/history?since=0")["rows"]
    steps = sorted({row["step"] for row in rows})
    assert [int(line[0]) for line in shown] == steps
    for place, name in (
        (1, "loss"),
        (2, "test_loss"),
    ):  # a test has the step of the batch before it
        known = {row["step"]: row[name] for row in rows if row[name] is not None}
        ours = {int(line[0]): float(line[place]) for line in shown if line[0] in map(str, known)}
        assert ours == pytest.approx(known, rel=1e-6)


def test_gradient_flow_has_a_row_a_layer_and_a_click_opens_it(trained_lens: Lens, open_page: OpenPage) -> None:
    health = trained_lens.get("/api/history?since=0")["health"]
    page = open_page(trained_lens.address, "#/train")
    figure = page.locator("figure[data-title='Gradient flow']")
    figure.wait_for()
    assert len(figure.locator(".labels li").all()) == len(health["layers"])
    figure.get_by_role("button", name="Numbers").click()
    lines = [row.split("\t") for row in page.locator("dialog[open] tbody tr").all_inner_texts()]
    shown = np.array([[float(cell) for cell in line[1:]] for line in lines])
    expected = np.array(health["gradient"], np.float64)
    assert np.allclose(shown, expected[-len(shown) :], rtol=1e-6, atol=0)
    page.keyboard.press("Escape")
    canvas = figure.locator("canvas")
    box = canvas.bounding_box()
    assert box is not None
    canvas.click(position={"x": box["width"] / 2, "y": box["height"] / len(health["layers"]) / 2})
    wait_for_view(page, f"#/node/{health['layers'][0]['node']}")


def test_the_heat_map_is_read_by_the_keyboard(trained_lens: Lens, open_page: OpenPage) -> None:
    health = trained_lens.get("/api/history?since=0")["health"]
    page = open_page(trained_lens.address, "#/train")
    canvas = page.locator("figure[data-title='Gradient flow'] canvas")
    canvas.focus()
    page.keyboard.press("ArrowDown")
    said = canvas.get_attribute("aria-label")
    assert said is not None
    assert f"step {health['steps'][-1]:,}" in said


@pytest.mark.parametrize(
    "group", ["[data-title='Gradient flow'] .labels", "[data-title='Update per weight'] .labels", ".strips"]
)
def test_rows_are_one_stop_of_tab_and_arrow_keys_go_along_them(trained_lens: Lens, open_page: OpenPage, group: str) -> None:
    page = open_page(trained_lens.address, "#/train")
    links = page.locator(f"{group} a")
    links.first.wait_for()
    assert page.locator(f"{group} a[tabindex='0']").count() == 1
    names = links.all_inner_texts()
    focused = "() => document.activeElement.innerText"
    links.first.focus()
    for key, place in (("ArrowDown", 1), ("ArrowUp", 0), ("ArrowUp", 0), ("End", -1), ("ArrowDown", -1), ("Home", 0)):
        page.keyboard.press(key)
        assert page.evaluate(focused) == names[place]
    page.keyboard.press("ArrowDown")
    assert page.locator(f"{group} a[tabindex='0']").all_inner_texts() == [names[1]]


def test_dead_units_are_counted(trained_lens: Lens, open_page: OpenPage) -> None:
    units = trained_lens.get("/api/history?since=0")["health"]["units"]
    page = open_page(trained_lens.address, "#/train")
    strips = page.locator(".dead-units canvas")
    strips.first.wait_for()
    assert len(strips.all()) == len(units)


SIGMOIDS = """
from chainrule import nn

def make(channels, classes, size):
    between = [layer for _ in range(6) for layer in (nn.Linear(16, 16), nn.Sigmoid())]
    first = nn.Linear(channels * size[0] * size[1], 16)
    return nn.Sequential(nn.Flatten(), first, nn.Sigmoid(), *between, nn.Linear(16, classes))
"""


def test_early_layers_of_a_deep_sigmoid_network_fade_and_a_click_opens_one(tmp_path: Path, open_page: OpenPage) -> None:
    idx_folder(tmp_path / "patterns")
    (tmp_path / "nets.py").write_text(SIGMOIDS)
    line = ("--data", tmp_path / "patterns", "--model", f"{tmp_path / 'nets.py'}:make", "--epochs", 1, "--batch-size", 8)
    noted("train", *line, "--out", tmp_path / "run")
    with served(Subject.of_run(RunFolder.open(tmp_path / "run"))) as lens:
        health = lens.get("/api/history?since=0")["health"]
        gradient = health["gradient"][-1]
        linear = [number for number, layer in enumerate(health["layers"]) if layer["op"] == "Linear"]
        early, late = linear[0], linear[-1]
        assert gradient[early] < 1e-3 * gradient[late]
        page = open_page(lens.address, "#/train")
        figure = page.locator("figure[data-title='Gradient flow']")
        figure.wait_for()
        canvas = figure.locator("canvas")
        box = canvas.bounding_box()
        assert box is not None
        row = box["height"] / len(health["layers"])
        picture = np.asarray(Image.open(io.BytesIO(canvas.screenshot())).convert("L"))
        colours = [int(picture[int((number + 0.5) * row), -4]) for number in (early, late)]
        assert colours[0] < colours[1]  # from dark (small) to bright (large)
        canvas.click(position={"x": box["width"] / 2, "y": (early + 0.5) * row})
        wait_for_view(page, f"#/node/{health['layers'][early]['node']}")
        page.close()
