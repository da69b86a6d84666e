"""cr.save, cr.load and model.save: what is saved comes back, of the same types and bits, and nothing else is written."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import chainrule as cr
from chainrule import UserError, models, nn, optim
from chainrule.formats import load_safetensors, save_safetensors

DTYPES = [
    *("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    *("float16", "float32", "float64", "complex64", "bfloat16"),
]


def same(one: Any, other: Any) -> bool:
    """Whether two values are of the same types, shapes, dtypes and bits."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, cr.Tensor):
        return same(one.numpy(), other.numpy())
    if isinstance(one, np.ndarray | np.generic):
        return (one.shape, one.dtype, one.tobytes()) == (other.shape, other.dtype, other.tobytes())
    return repr(one) == repr(other)


def again(path: Path, value: Any) -> Any:
    cr.save(path, value)
    return cr.load(path)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_arrays_of_every_dtype_come_back(dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).integers(0, 255, (*shape, 16), np.uint8)
    kinds = {"bool": np.uint8, "bfloat16": ml_dtypes.bfloat16}
    array = numbers.view(kinds.get(dtype, dtype))[..., :1].reshape(shape)  # of any bits
    array = np.asarray(array > 127 if dtype == "bool" else array).T
    assert same(again(tmp_path / "file", array), array)
    if dtype in ("bool", "uint8", "int32", "int64", "bfloat16", "float32", "float64"):
        assert same(again(tmp_path / "file", cr.tensor(array)), cr.tensor(array))


def test_what_is_nested_comes_back(tmp_path: Path) -> None:
    value = {
        "model": {"0.weight": np.eye(3, dtype=np.float32), "0": {"weight": cr.tensor([1.0, 2.0])}},
        "a.b": np.ones(2),
        "a": {"b": np.zeros(2), "b#2": np.full(1, 7)},
        3: [1, 2.5, (True, None, "text \N{SNOWMAN}", ()), [], {}],
        "numbers": [float("inf"), float("-inf"), float("nan"), -0.0, 0.1, 2**80, -(2**63), np.float16(0.1), np.int8(-3)],
        "__metadata__": np.arange(2),
        "": np.arange(1),
    }
    assert same(again(tmp_path / "file", value), value)
    for alone in (np.arange(3), 3, "text", None, [], {}, {"v": "text"}, {"v": {}}, {"v": []}, "\ud800"):
        assert same(again(tmp_path / "file", alone), alone)
    for length in range(64):
        assert again(tmp_path / "file", "x" * length) == "x" * length
    ordered = OrderedDict(a=np.ones(1))
    assert same(again(tmp_path / "file", ordered), dict(ordered))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_training_goes_on_from_what_was_saved(tmp_path: Path) -> None:
    def parts() -> tuple[nn.Module, optim.Optimizer]:
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        return model, optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(model: nn.Module, optimizer: optim.Optimizer) -> None:
        optimizer.zero_grad()
        (model(np.arange(12, dtype=np.float32).reshape(4, 3)) ** 2).sum().backward()
        optimizer.step()

    model, optimizer = parts()
    step(model, optimizer)
    cr.save(tmp_path / "file", {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3})
    step(model, optimizer)
    other, its_optimizer = parts()
    loaded = cr.load(tmp_path / "file")
    other.load_state_dict(loaded["model"])
    its_optimizer.load_state_dict(loaded["optimizer"])
    assert loaded["epoch"] == 3
    step(other, its_optimizer)
    assert same(other.state_dict(), model.state_dict())


def test_a_model_is_saved_by_the_names_of_its_parameters(tmp_path: Path) -> None:
    model = models.lenet()
    model.save(tmp_path / "lenet.safetensors")
    assert same(cr.load(tmp_path / "lenet.safetensors"), dict(sorted(model.state_dict().items())))
    other = models.lenet()
    assert models.load_weights(other, tmp_path / "lenet.safetensors") == models.Loaded()
    assert same(other.state_dict(), model.state_dict())
    with pytest.raises(UserError, match=r"is a folder: give the name of a file$"):
        model.save(tmp_path)


def test_a_file_of_another_program_is_a_dict_of_arrays(tmp_path: Path) -> None:
    save_safetensors(tmp_path / "file", {"b": np.ones(2), "a": np.zeros((1, 2), np.float16)}, {"format": "pt"})
    assert same(cr.load(tmp_path / "file"), {"a": np.zeros((1, 2), np.float16), "b": np.ones(2)})


def itself() -> list[Any]:
    value: list[Any] = [1]
    value.append([value])
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), "save: the value is of class object, which is not made of numbers: keep numbers, texts, arrays and tensors"),
        ({"a": [0, nn.ReLU()]}, "'a.1' is of class ReLU, which is not made of numbers: .*tuples; pass its state_dict()"),
        ({"a": {1, 2}}, "'a' is of class set, which is not made of numbers"),
        ({"a": {1.5: 2}}, "'a' has the key 1.5: keys must be texts or whole numbers"),
        ({"a": np.array(["x"])}, "'a' holds no numbers, but <U1: keep"),
        (np.array([None]), "the value holds no numbers, but object: keep"),
        ([np.ones(2, np.complex128)], "'0' is of complex128, which a file cannot hold: convert it to one of bool, int8"),
        (itself(), "'1.0' holds itself, or is nested more than 100 deep"),
    ],
)
def test_what_cannot_be_saved_is_named_and_nothing_is_written(value: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("before")
    with pytest.raises(UserError, match=message.replace("(", r"\(").replace(")", r"\)")):
        cr.save(tmp_path / "file", value)
    assert (tmp_path / "file").read_text() == "before"


def test_arguments_in_pytorchs_order_are_told_so() -> None:
    with pytest.raises(UserError, match=r"^save: the path comes first, got a dict: write cr.save\(path, value\)$"):
        cr.save({"a": 1}, "file")  # type: ignore[arg-type]


def test_damage_and_edits_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    cr.save(path, {"a": np.arange(5.0), "b": 3})
    content = path.read_bytes()
    for place in (-1, -20, content.index(b'"b') + 2, content.index(b"3]") if b"3]" in content else -2):
        flipped = bytearray(content)
        flipped[place] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(UserError, match=r"is damaged: its checksum says|is no whole safetensors file"):
            cr.load(path)
    path.write_bytes(content[:-1])
    with pytest.raises(UserError, match="is no whole safetensors file"):
        cr.load(path)
    for tree in ({"array": "c"}, {"list": 3}, {"unknown": "a"}, {}, {"dict": [[1]]}):
        save_safetensors(path, {"a": np.zeros(1)}, {"chainrule.tree": json.dumps(tree)})
        with pytest.raises(UserError, match="says in a way that is not understood how its tensors belong together"):
            cr.load(path)


def test_equal_values_give_equal_files(tmp_path: Path) -> None:
    for name in "ab":
        cr.save(tmp_path / name, {"x": np.arange(3), "y": [1, np.ones(2)]})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert load_safetensors(tmp_path / "a")[0].keys() == {"x", "y.1"}
