"""Make the pictures of the lens in docs/pictures: a LeNet is trained and looked at in a real browser, view by view.

    python scripts/lens_pictures.py [--chromium /usr/bin/chromium] [VIEW ...]

Needs the dev extra and a Chromium. The training takes half a minute; the pictures are the same but for its figures.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from chainrule.lens.server.serving import LensServer
from chainrule.lens.server.subject import Subject
from chainrule.train import RunFolder

_PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures"
_SIZE = {"width": 1280, "height": 800}  # pixels

VIEWS = {
    "train": "#/train",
    "graph": "#/graph?image=0",
    "backward": "#/backward?image=0&step=33",
    "node": "#/node/CONVOLUTION?image=0",
    "what-if": "#/what_if?image=0&at=0,0,2,2&edits=0.weight:0,0,2,2=0.3",
    "time": "#/time?image=0&step=STEP",
    "draw": "#/draw",
    "explain": "#/explain",
    "tour": "#/node?image=0&tour=relu",
}
"""What each picture shows; CONVOLUTION is the node of the second convolution, STEP one of the first
of which the weights are kept."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("views", nargs="*", default=list(VIEWS), help=f"of {', '.join(VIEWS)}; all, if none is named")
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser's program")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # so that the title is no path of this machine
        run = Path("runs") / "lenet-mnist-1"
        subprocess.run([sys.executable, "-m", "chainrule", "train", "--epochs", "2", "--out", str(run)], check=True)
        server = LensServer(Subject.of_run(RunFolder.open(run)), 0)
        server.start()
        try:
            _pictures(server.address, a.views, a.chromium)
        finally:
            server.stop()


def _pictures(address: str, views: list[str], chromium: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport=_SIZE, color_scheme="light", reduced_motion="reduce")
        page.goto(address)
        convolution, step = _second_convolution(page), _asked(page, "/api/time")["steps"][8]
        for name in views:
            page.goto(address + VIEWS[name].replace("CONVOLUTION", str(convolution)).replace("STEP", str(step)))
            page.wait_for_load_state("networkidle")
            page.wait_for_timeout(500)
            page.screenshot(path=_PICTURES / f"lens-{name}.png")
            print(f"docs/pictures/lens-{name}.png")
        browser.close()


def _second_convolution(page: Page) -> int:
    return [int(node["id"]) for node in _asked(page, "/api/graph")["nodes"] if node["convolution"]][1]


def _asked(page: Page, path: str) -> Any:
    """What the server answers."""
    return page.evaluate(
        """async (path) => {
            const token = new URLSearchParams(location.search).get("token");
            return (await fetch(path, { headers: { "X-Chainrule-Token": token } })).json();
        }""",
        path,
    )


if __name__ == "__main__":
    main()
