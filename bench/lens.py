"""What the lens's page costs a training that it looks at: trainings with it and without, in turn, each a process of its own.

python -m bench.lens [--pairs 3] [--tabs 8] [--epochs 6] [--visible]

In a browser only the tab in front is visible, and the others ask for nothing; ``--visible`` shows all of them at once, as eight
windows side by side would. The figure is the ratio of images per second, the median over the steps after the first tenth.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

_HIDDEN = "Object.defineProperty(document, 'hidden', { get: () => true });"


def rate(folder: Path) -> float:
    """The images per second of a training, from what its folder says."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    speeds = [row["images_per_second"] for row in rows if row["kind"] == "train"]
    return statistics.median(speeds[len(speeds) // 10 :])


def trained(folder: Path, epochs: int, browser: Browser | None, tabs: int, visible: bool) -> float:
    """Train LeNet on MNIST into ``folder``, looked at in so many tabs if there is a browser: images per second."""
    line = [sys.executable, "-m", "chainrule", "train", "--epochs", str(epochs), "--out", str(folder)]
    environment = {
        **os.environ,
        "BROWSER": "true",
        "PYTHONUNBUFFERED": "1",
    }  # a browser that shows nothing: the tabs are opened here
    with subprocess.Popen(
        [*line, *(["--lens"] if browser else [])], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as running:
        assert running.stdout is not None
        context = None
        said = []
        for text in running.stdout:
            said.append(text)
            address = next((word for word in text.split() if word.startswith("http://127.0.0.1")), "")
            if browser and address and context is None:
                context = browser.new_context()
                for number in range(tabs):
                    page = context.new_page()
                    if number and not visible:
                        page.add_init_script(_HIDDEN)
                    page.goto(address)
        if context is not None:
            context.close()
    assert running.returncode == 0, "".join(said)
    assert browser is None or context is not None, "no address was printed"
    return rate(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--tabs", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--visible", action="store_true", help="show all tabs at once")
    a = parser.parse_args()
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        ratios = []
        for pair in range(a.pairs):
            speeds = {}
            for looked in (False, True) if pair % 2 else (True, False):
                folder = Path(place) / f"{pair}-{looked}"
                speeds[looked] = trained(folder, a.epochs, browser if looked else None, a.tabs, a.visible)
            ratios.append(speeds[False] / speeds[True])
            print(f"pair {pair + 1}: {speeds[False]:.0f} images/s, looked at {speeds[True]:.0f}: {ratios[-1]:.3f}", flush=True)
        browser.close()
    print(f"a step takes {statistics.median(ratios):.3f} times as long ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
