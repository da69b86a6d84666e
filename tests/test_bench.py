"""The comparison's own parts: pairs, table, picture, workloads. Nothing is measured here, and PyTorch is not needed."""

from __future__ import annotations

import ast
import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench import __main__ as command
from bench import zoo
from bench.grid import CASES
from bench.pairs import BenchError, Pairs, geometric_mean, run_json
from bench.report import Row, picture, table
from bench.workloads import WORKLOADS

from chainrule.models import MODELS


def pairs(ours: list[float], theirs: list[float]) -> Pairs:
    def runs(times: list[float], memory: float) -> list[dict[str, float]]:
        return [{"median_ms": ms, "peak_rss_mb": memory, "first_step_s": 1.0} for ms in times]

    return Pairs(runs(ours, 100), runs(theirs, 300))


def first_step(seconds: float, compiling: float) -> dict[str, float]:
    return {"first_step_s": seconds, "compile_s": compiling}


ROWS = [
    Row("mlp", "eager", pairs([1, 2, 1], [2, 2, 3]), first_step(0.5, 0.4), first_step(0.2, 0.1), 0.8),
    Row("lenet", "compile", pairs([4, 4], [2, 3]), first_step(1.5, 1.2), first_step(0.3, 0.12), 0.2),
]


def test_ratios_are_taken_pair_by_pair() -> None:
    both = ROWS[0].pairs
    assert both.ratios == [2, 1, 3]
    assert both.ratio == 2
    assert both.spread == (1, 3)
    assert ROWS[0].memory_ratio == pytest.approx(1 / 3)
    assert geometric_mean([2, 0.5]) == pytest.approx(1)


def test_the_table_says_where_we_lose() -> None:
    text = table(ROWS, ["A fact."])
    assert "| mlp | 2.00 | 1.00 to 3.00 |" in text
    assert "| 1.50 | 0.30 | 1.00 | 1.20 | 10% |" in text
    assert "Slower on: lenet." in text
    assert text.endswith("A fact.\n")


def test_the_picture_is_well_formed_and_names_everything() -> None:
    root = ElementTree.fromstring(picture(ROWS))
    words = " ".join(root.itertext())
    assert "mlp 2.00; lenet 0.62" in words
    bars = [one for one in root.iter() if one.get("class") in ("win", "lose")]
    assert [one.get("class") for one in bars] == ["win", "lose"]


def test_a_failed_run_is_told_in_words() -> None:
    with pytest.raises(BenchError, match=r"failed with status 3:\nno such thing"):
        run_json([sys.executable, "-c", "import sys; print('no such thing', file=sys.stderr); sys.exit(3)"])
    assert run_json([sys.executable, "-c", "print('words'); print('{\"a\": 1}')"]) == {"a": 1}


def test_without_pytorch_the_command_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "mlp", "--torch-python", "/nowhere/python"])
    assert command.main() == 1
    assert "pip install torch==2.13.0" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["bench", "alexnet"])
    assert command.main() == 1
    assert "unknown workload 'alexnet': known are mlp, lenet" in capsys.readouterr().err


PARAMETERS = {"mlp": 535_818, "lenet": 61_706, "resnet18": 11_173_962, "resnet50": 25_557_032, "mobilenet_v2": 3_504_872}
SOME_NAMES = {
    "mlp": "5.weight",
    "lenet": "11.bias",
    "resnet18": "blocks.2.skip.0.weight",
    "resnet50": "blocks.15.body.7.running_var",
    "mobilenet_v2": "features.4.body.3.weight",
}


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_workloads_are_the_published_networks(name: str) -> None:
    model = WORKLOADS[name].model()
    assert sum(one.size for one in model.parameters()) == PARAMETERS[name]
    assert SOME_NAMES[name] in model.state_dict()


def test_the_grid_has_every_kind_of_convolution() -> None:
    kinds = " ".join(case.name for case in CASES)
    for kind in ("3x3", "1x1", "5x5", "7x7 stride 2", "depthwise", "grouped", "dilated", "transposed"):
        assert kind in kinds


def test_every_model_has_a_side_in_pytorch() -> None:
    """Torchvision's, or the same file of ours with PyTorch's layers."""
    torchvision = set(json.loads((Path(__file__).parent / "expected" / "models.json").read_text()))
    source = ast.parse((Path(zoo.__file__).parent / "zoo_torch.py").read_text())
    (own,) = (
        ast.literal_eval(one.value)
        for one in source.body
        if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "_OWN"
    )
    assert torchvision | set(own) == set(MODELS)
    assert not torchvision & set(own)
    for name, (file, _) in own.items():
        assert MODELS[name].make.__module__ == f"chainrule.models.{file}"


def test_a_model_is_measured_for_the_table(tmp_path: Path) -> None:
    run = zoo.ours("mlp", "--seconds", "0", "--second-batch", "3", cache=str(tmp_path))
    assert run["compile_s"] > 0
    assert run["second_batch_s"] > 0
    measured = {"mode": "eager", "cold": run, "cached": run, "ours": [run] * 3, "theirs": [run, {**run, "median_ms": 0.0}, run]}
    (tmp_path / "models.json").write_text(json.dumps({"mlp": measured}))
    text = zoo.measure("no such python", ["mlp"], 3, ["eager"], tmp_path)
    assert "| mlp | 1.00 | 0.00 | 1.00 |" in text
    assert "Slower on: none." in text
