"""The main job, whole: `chainrule train` without options on all of MNIST. The longest test; the others do not repeat it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from chainrule.train import health


def test_train_without_options_reaches_99_percent_of_the_test_images(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-m", "chainrule", "train"], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    run = tmp_path / "runs/lenet-mnist-1"
    result = json.loads((run / "result.json").read_text())
    assert result["images"] == 10_000
    assert result["accuracy"] >= 0.99
    assert result["training_seconds"] < 300
    config = json.loads((run / "config.json").read_text())
    assert (config["model"], config["data"], config["epochs"], config["limit"]) == ("lenet", "mnist", 3, 0)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows if row["kind"] == "test"] == [1, 2, 3]
    assert rows[-1]["step"] == 3 * 938  # all 60,000 images, 64 at a time
    assert "mnist train: 10 classes, 60,000 training and 10,000 test images, grey, 28 x 28\n" in ran.stdout
    assert f"{round(10_000 * result['accuracy']):,} of 10,000 test images right" in ran.stdout
    assert health(run).sentences() == ["nothing stands out"]
