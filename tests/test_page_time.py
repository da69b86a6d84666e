"""The lens's slider over the steps of a run: filters and probabilities as they were, held against the run's snapshots."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from chainrule.train.diagnosis.health_record import read_health
from chainrule.train.snapshots import read_snapshot
from lens_server import Lens

if TYPE_CHECKING:
    from browser import OpenPage


def test_the_slider_shows_filters_and_probabilities_of_its_step(
    trained_lens: Lens, trained_run: Path, open_page: OpenPage
) -> None:
    kept = trained_lens.get("/api/time")
    steps, name = kept["steps"], kept["parameters"][0]
    page = open_page(trained_lens.address, f"#/time?step={steps[1]}")
    page.locator(f"[role=status][data-step='{steps[1]}']").wait_for()
    for move, step in (("", steps[1]), ("ArrowRight", steps[2]), ("Home", steps[0]), ("End", steps[-1])):
        if move:
            page.locator("h1").click()
            page.keyboard.press(move)
        figure = page.locator(f"figure.picture[data-name='{name} after step {step}']")
        figure.wait_for()
        figure.get_by_role("button", name=f"Numbers of {name} after step {step}").click()
        rows = [row.split("\t") for row in page.locator("dialog[open] tbody tr").all_inner_texts()]
        page.keyboard.press("Escape")
        values = read_snapshot(trained_run / "snapshots", step).values[name]
        shown = np.array([float(cell.replace("−", "-").replace(",", "")) for row in rows for cell in row[1:]])
        np.testing.assert_allclose(shown, values.reshape(-1)[: shown.size], rtol=1e-6, atol=1e-9)
        trace = trained_lens.post("/api/time/trace", {"step": step, "index": 0}).json
        page.locator(f"[data-loss='{trace['loss']}']").wait_for()
    assert f"step={steps[-1]}" in page.evaluate("location.hash")


def test_it_plays_from_the_first_step_to_the_last(trained_lens: Lens, open_page: OpenPage) -> None:
    steps = trained_lens.get("/api/time")["steps"]
    page = open_page(trained_lens.address, f"#/time?step={steps[-3]}")
    page.get_by_role("button", name="Play", exact=True).click()
    page.locator(f"[role=status][data-step='{steps[-1]}']").wait_for()
    page.get_by_role("button", name="Play", exact=True).wait_for()


def test_units_are_those_that_were_dead_in_the_epoch_before(trained_lens: Lens, trained_run: Path, open_page: OpenPage) -> None:
    record = read_health(trained_run / "health.bin")
    steps, census = trained_lens.get("/api/time")["steps"], record.census
    page = open_page(trained_lens.address, f"#/time?step={steps[0]}")
    page.get_by_text(f"counted after each epoch, for the first time after step {census.steps[1]}").wait_for()
    page.keyboard.press("End")
    page.locator(f"[role=status][data-step='{steps[-1]}']").wait_for()
    at = [step <= steps[-1] for step in census.steps].count(True) - 1
    dead = int((census.alive[at] <= census.steps[at - 1]).sum())
    page.get_by_text(f"epoch {census.epochs[at]}, which ended with step {census.steps[at]}").wait_for()
    shown = page.locator(".dead-units .strip-count").all_inner_texts()
    assert sum(int(text.split(" ")[0]) for text in shown) == dead
    assert len(shown) == len(record.plan.units) > 0
