"""The lens's page as one file in a browser: it opens without a server or a network. Names that look like markup are text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import chainrule as cr
from browser import wait_for_view
from chainrule import lens
from chainrule.lens.server.export import exported
from chainrule.lens.server.subject import Subject
from chainrule.train import RunFolder
from lens_server import Lens, served
from running import command, image_folder

if TYPE_CHECKING:
    from browser import OpenPage


@pytest.fixture(scope="module")
def file(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as a file, with its image 3."""
    path = tmp_path_factory.mktemp("export") / "page.html"
    path.write_text(exported(Subject.of_run(RunFolder.open(trained_run)), 3), encoding="utf-8")
    return path


def convolution(lens: Lens) -> Any:
    return next(node for node in lens.get("/api/graph")["nodes"] if node["convolution"] is not None)


def test_it_opens_from_a_disk_and_each_view_has_its_numbers(file: Path, trained_lens: Lens, open_page: OpenPage) -> None:
    page = open_page(file.as_uri(), "#/train")
    page.locator(".chart[data-last='18']").first.wait_for()
    page.locator("figure[data-title='Gradient flow']").wait_for()
    for view, there in (("Graph", ".box"), ("Backward", "#stop-title")):
        page.get_by_role("link", name=view, exact=True).focus()
        page.keyboard.press("Enter")
        wait_for_view(page, f"#/{view.lower()}")
        page.locator(there).first.wait_for()
        assert page.get_by_text("This file does not hold that").count() == 0, view
    node = convolution(trained_lens)
    page.evaluate("(to) => { location.hash = to; }", f"#/node/{node['id']}")
    window = page.locator(".sliding[data-value]")
    window.wait_for()
    y, x = map(int, str(window.get_attribute("data-place")).split(","))
    trace = trained_lens.post("/api/trace", {"index": 3}).json["trace"]
    values = trained_lens.tensor(f"/api/trace/{trace}/tensor?node={node['id']}&which=value")
    bias = trained_lens.get(f"/api/trace/{trace}/window?node={node['id']}&channel=0&y={y}&x={x}")["bias"]
    assert np.isclose(float(str(window.get_attribute("data-value"))), values[0, y, x] + bias, rtol=1e-6)


def test_a_notebook_shows_it_below_the_cell(trained_run: Path, tmp_path: Path, open_page: OpenPage) -> None:
    """In a frame that may do nothing but run scripts."""
    shown = lens.page(trained_run, image=3)._repr_html_()
    (tmp_path / "notebook.html").write_text(
        f"<!doctype html><meta charset='utf-8'><body><div class='output'>{shown}</div></body>", encoding="utf-8"
    )
    page = open_page((tmp_path / "notebook.html").as_uri())
    assert page.locator("iframe").get_attribute("sandbox") == "allow-scripts"
    frame = page.frame_locator("iframe")
    frame.locator(".chart[data-last='18']").first.wait_for()
    frame.get_by_role("link", name="Backward", exact=True).click()
    frame.get_by_role("status").get_by_text("step 1 of").wait_for()
    frame.get_by_role("link", name="Graph", exact=True).click()
    frame.locator(".box").first.wait_for()


def test_a_model_by_itself_is_shown_with_an_image_of_ones_own(tmp_path: Path, open_page: OpenPage) -> None:
    model = cr.nn.Sequential(cr.nn.Conv2d(3, 4, 3), cr.nn.ReLU(), cr.nn.Flatten(), cr.nn.Linear(144, 3))
    lens.page(model, np.random.default_rng(0).random((3, 8, 8)), 2).save(tmp_path / "page.html")
    page = open_page((tmp_path / "page.html").as_uri(), "#/backward")
    page.get_by_role("status").get_by_text("step 1 of").wait_for()
    page.get_by_role("heading", name="the model Sequential").wait_for()
    assert page.get_by_text("This file does not hold that").count() == 0


def test_it_says_how_to_get_the_tour(file: Path, open_page: OpenPage) -> None:
    page = open_page(file.as_uri(), "#/backward")
    page.get_by_role("status").get_by_text("step 1 of").wait_for()
    page.get_by_role("button", name="Tour", exact=True).click()
    panel = page.get_by_role("complementary", name="Tour")
    panel.get_by_text("chainrule lens RUN").wait_for()
    page.keyboard.press("t")
    panel.wait_for(state="detached")


MARKUP = "<img src=x onerror=alert(1)>"


def test_names_that_look_like_markup_are_text(tmp_path: Path, open_page: OpenPage) -> None:
    image_folder(tmp_path / "photos", (MARKUP, "&lt;b&gt;'\"`${1}"))
    path = tmp_path / f"run{MARKUP}"
    ended = command("train", "--data", tmp_path / "photos", "--model", "mlp", "--epochs", 1, "--out", path)
    assert ended.status == 0, ended
    with served(subject := Subject.of_run(RunFolder.open(path))) as lens:
        file = tmp_path / "page.html"
        file.write_text(exported(subject), encoding="utf-8")
        for address in (lens.address, file.as_uri()):
            page = open_page(address, "#/train")
            page.on("dialog", lambda dialog: pytest.fail(f"a script of a name ran: {dialog.message}"))
            page.get_by_role("heading", name=f"run{MARKUP}").wait_for()
            for view, there in (("graph", ".box"), ("backward", "#stop-title")):
                page.evaluate("(to) => { location.hash = to; }", f"#/{view}")
                page.locator(there).first.wait_for()
            assert page.locator("img[src=x]").count() == 0
            assert page.title() == f"{path} · chainrule lens"


def test_the_gallery_leads_to_its_pages(tmp_path: Path, open_page: OpenPage) -> None:
    script = Path(__file__).resolve().parent.parent / "scripts" / "lens_gallery.py"
    ended = subprocess.run(
        [sys.executable, script, "gallery", "--only", "lenet"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ended.stdout.split() == [str(Path("gallery", "lenet.html")), "1.0", "MB", str(Path("gallery", "index.html"))]
    page = open_page((tmp_path / "gallery" / "index.html").as_uri())
    page.get_by_role("link", name="lenet").click()
    page.get_by_role("heading", name="the LeNet that ships with chainrule").wait_for()
    page.locator(".box").first.wait_for()
