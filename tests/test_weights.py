"""Weights from files of chainrule and of others: read tensor by tensor, fitted to a model by name, refused in a few lines."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import chainrule as cr
from chainrule import UserError, models, nn
from chainrule.formats import WeightFile, convert_torch_file
from chainrule.models import MODELS, Loaded, load_weights, nearest_model
from chainrule.models.layouts import best_view, views
from chainrule.nn.fitting import grouped
from chainrule.tensor import tracing

State = dict[str, np.ndarray]


def small(classes: int = 4) -> nn.Module:
    return models.resnet20(num_classes=classes)


def state_of(model: nn.Module, seed: int = 0) -> State:
    """Other values for all of a model's state; variances are not negative."""
    rng = np.random.default_rng(seed)

    def other(name: str, value: np.ndarray) -> np.ndarray:
        if value.dtype.kind != "f":
            return np.array(value + 7)
        numbers = rng.standard_normal(value.shape).astype(value.dtype)
        return np.abs(numbers) if name.endswith("running_var") else numbers

    return {name: other(name, value) for name, value in model.state_dict().items()}


def holds(model: nn.Module, state: Mapping[str, Any], but: tuple[str, ...] = ()) -> bool:
    """Whether a model's state is this one, whatever its dtype."""
    return all(
        (value == state[name].astype(value.dtype)).all() for name, value in model.state_dict().items() if name not in but
    )


def sharded(folder: Path, state: State, shards: int = 3) -> Path:
    """An index and its shards, as Hugging Face names them."""
    folder.mkdir(exist_ok=True)
    names = list(state)
    files = [f"model-{number:05}-of-{shards:05}.safetensors" for number in range(1, shards + 1)]
    places = {name: files[number * shards // len(names)] for number, name in enumerate(names)}
    for file in files:
        save_file({name: state[name] for name in names if places[name] == file}, folder / file, {"format": "pt"})
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


# ---- what fits


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("own", ["float32", "float64"])
def test_numbers_are_converted_to_the_dtype_of_the_parameter(dtype: str, own: str, tmp_path: Path) -> None:
    model = small().astype(own)
    state = state_of(model)
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    stored = {name: value.astype(kind) if value.dtype.kind == "f" else value for name, value in state.items()}
    save_file(stored, tmp_path / "file.safetensors")
    assert load_weights(model, tmp_path / "file.safetensors") == Loaded()
    assert holds(model, stored)
    assert {value.dtype for value in model.state_dict().values()} == {np.dtype(own), np.dtype(np.int64)}


@pytest.mark.parametrize("prefix", ["model.", "module.", "backbone.", "net.module.", "0."])
def test_a_prefix_is_recognised_and_said(prefix: str, tmp_path: Path) -> None:
    model = small()
    state = state_of(model)
    save_file({prefix + name: value for name, value in state.items()}, tmp_path / "file.safetensors")
    loaded = load_weights(model, tmp_path / "file.safetensors")
    assert loaded.notes == (f"names in the file begin with {prefix!r}, which is left out",)
    assert holds(model, state)


def test_of_a_checkpoint_with_other_things_the_model_is_taken(tmp_path: Path) -> None:
    model = small()
    state = state_of(model)
    optimizer = cr.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    cr.save(tmp_path / "file", {"model": state, "optimizer": optimizer.state_dict(), "epoch": np.int64(3)})
    loaded = load_weights(model, tmp_path / "file")
    assert loaded.notes == (
        "names in the file begin with 'model.', which is left out; what does not is not used: epoch, optimizer.group.0.lr, "
        "optimizer.group.0.momentum",
    )
    assert holds(model, state)


def test_an_index_of_shards_is_read_and_so_is_its_folder(tmp_path: Path) -> None:
    model = small()
    state = state_of(model)
    index = sharded(tmp_path / "hf", state)
    for path in (index, tmp_path / "hf"):
        model = small()
        assert load_weights(model, path) == Loaded()
        assert holds(model, state)
    assert list(cr.load(index)) == list(WeightFile(index))


def test_counts_of_batches_may_be_missing_or_too_many(tmp_path: Path) -> None:
    model = small()
    state = state_of(model)
    counts = tuple(name for name in state if name.endswith("num_batches_tracked"))
    save_file({name: value for name, value in state.items() if name not in counts}, tmp_path / "old.safetensors")
    assert load_weights(model, tmp_path / "old.safetensors") == Loaded(missing=counts)
    assert holds(model, state, but=counts)
    linear = nn.Sequential(nn.Linear(2, 2))
    weights = state_of(linear)
    save_file({**weights, "1.num_batches_tracked": np.array(3)}, tmp_path / "more.safetensors")
    assert load_weights(linear, tmp_path / "more.safetensors") == Loaded(unexpected=("1.num_batches_tracked",))


def test_auxiliary_classifiers_of_others_are_left_out_and_that_is_said(tmp_path: Path) -> None:
    with tracing():  # which makes no initial values
        full, model = (models.googlenet(num_classes=3, aux_logits=wanted) for wanted in (True, False))
    state = state_of(full)
    save_file(state, tmp_path / "googlenet.safetensors")
    loaded = load_weights(model, tmp_path / "googlenet.safetensors")
    assert loaded.notes == (
        "not used, as the model has no auxiliary classifiers: aux1.conv.* (5 entries), aux1.fc1.* (2 entries), aux1.fc2.* (2 "
        "entries), aux2.conv.* (5 entries), aux2.fc1.* (2 entries), aux2.fc2.* (2 entries)",
    )
    assert holds(model, state)


def test_a_parameter_at_two_places_needs_to_be_in_the_file_once(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    model[2].weight = model[0].weight
    for left_out in ("0.weight", "2.weight"):
        state = {name: value for name, value in model.state_dict().items() if name != left_out}
        state = {name: value + 1 for name, value in state.items()}
        save_file(state, tmp_path / "file.safetensors")
        assert load_weights(model, tmp_path / "file.safetensors") == Loaded()
        assert (model[0].weight.numpy() == state["2.weight" if left_out == "0.weight" else "0.weight"]).all()


def test_new_classes_leave_the_last_layer_alone(tmp_path: Path) -> None:
    state = state_of(small(10))
    save_file(state, tmp_path / "file.safetensors")
    headless = {name: value for name, value in state.items() if not name.startswith("fc.")}
    save_file(headless, tmp_path / "headless.safetensors")
    for file, said in (("file", "the file's is for 10 classes"), ("headless", "the file has none")):
        model = small(3)
        before = model.state_dict()
        loaded = load_weights(model, tmp_path / f"{file}.safetensors", new_classifier=True)
        assert loaded.notes == (f"the classifier fc has new weights, for 3 classes: {said}",)
        assert loaded.missing == ("fc.weight", "fc.bias")
        assert holds(model, {**state, "fc.weight": before["fc.weight"], "fc.bias": before["fc.bias"]})


def test_the_classifier_of_every_model_is_its_last_layer() -> None:
    for name, entry in MODELS.items():
        with tracing():
            model = entry.model(entry.image[0], 17, entry.image[1:])
        last = dict(model.named_modules())[models.classifier(model)]
        assert last.weight.shape[0] == 17, name
    with pytest.raises(UserError, match=r"^this ReLU has no parameters, so there is no classifier$"):
        models.classifier(nn.ReLU())


def test_a_file_is_not_in_memory_twice(tmp_path: Path) -> None:
    model = nn.Sequential(*[nn.Linear(512, 512) for _ in range(8)])  # 8 MB
    model.save(tmp_path / "file.safetensors")
    size = (tmp_path / "file.safetensors").stat().st_size
    tracemalloc.start()
    try:
        load_weights(model, tmp_path / "file.safetensors")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.4 * size  # the new values, and a tensor


# ---- what does not


def test_all_that_does_not_fit_is_said_in_groups_and_nothing_is_assigned(tmp_path: Path) -> None:
    model = small()
    before = {name: value.copy() for name, value in model.state_dict().items()}
    state = {name: value for name, value in state_of(model).items() if not name.startswith("layer3.")}
    state["conv1.weight"] = np.zeros((8, 3, 3, 3), np.float32)
    state["head.scale"] = np.zeros(2, np.float32)
    save_file(state, tmp_path / "file.safetensors")
    with pytest.raises(UserError) as caught:
        load_weights(model, tmp_path / "file.safetensors")
    lines = str(caught.value).split("\n")
    assert lines[0] == f"{tmp_path}/file.safetensors does not fit this CifarResNet:"
    assert lines[1] == "  missing: layer3.0.* (10 entries), layer3.1.* (10 entries), layer3.2.* (10 entries)"
    assert lines[2:] == [
        "  unexpected: head.scale",
        "  conv1.weight: the model has shape (16, 3, 3, 3), the file (8, 3, 3, 3)",
        lines[-1],
    ]
    assert lines[-1].startswith("Nearest is resnet20: ")
    assert max(map(len, lines)) < 200
    assert holds(model, before)
    with pytest.raises(UserError, match=r"^[^\n]* does not fit this CifarResNet:\n  conv1.weight: [^\n]*\nNearest is resnet20"):
        load_weights(model, tmp_path / "file.safetensors", strict=False)
    del state["conv1.weight"]
    save_file(state, tmp_path / "file.safetensors")
    loaded = load_weights(model, tmp_path / "file.safetensors", strict=False)
    assert loaded.unexpected == ("head.scale",)
    assert "conv1.weight" in loaded.missing


def test_names_that_begin_alike_are_grouped() -> None:
    assert grouped(["a", "b.c"]) == "a, b.c"
    layers = [f"layer4.{block}.{part}" for block in range(3) for part in ("conv.weight", "bn.weight", "bn.bias")]
    assert grouped(layers) == "layer4.0.* (3 entries), layer4.1.* (3 entries), layer4.2.* (3 entries)"
    assert grouped([*layers, "fc.weight", "fc.bias"]) == (
        "layer4.0.* (3 entries), layer4.1.* (3 entries), layer4.2.* (3 entries), fc.* (2 entries)"
    )
    assert grouped([f"layer4.{number}.weight" for number in range(15)]) == "layer4.* (15 entries)"
    many = [f"{letter}.{number}" for letter in "abcdefghijklmnop" for number in range(9)]
    assert grouped(many).endswith("h.* (9 entries) and 8 more groups")
    assert grouped([str(number) for number in range(9)]).startswith("0, 1, 2")


def test_a_state_dict_of_another_model_is_said_in_groups_too() -> None:
    with pytest.raises(UserError) as caught:
        small().load_state_dict(models.resnet32(num_classes=4).state_dict())
    assert len(str(caught.value)) < 400
    with pytest.raises(
        UserError, match=r"of another shape: .*layer1\.\* \(\d+ entries\).*; the first is conv1.weight: the model"
    ):
        small().load_state_dict({name: value[None] for name, value in small().state_dict().items()})


@pytest.mark.parametrize("name", MODELS)
def test_a_file_of_each_model_names_that_model_whatever_its_classes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them alone has its names and shapes, so the file says what it is of."""
    entry = MODELS[name]
    with tracing():
        model = entry.model(entry.image[0], 17, entry.image[1:])
    file = object.__new__(WeightFile)
    file.shapes = {f"module.{path}": cell.shape for path, cell in model.state_cells().items()}
    fit = nearest_model(file)
    assert fit is not None
    assert (fit.name, fit.classes, fit.channels, fit.whole) == (name, 17, entry.image[0], True)


OTHERS = json.loads((Path(__file__).parent / "expected" / "other_names.json").read_text())


class OfOthers(WeightFile):
    """A file of a network with the names and shapes of others: all numbers of an entry are its place."""

    def __init__(self, name: str) -> None:
        self.path, self.metadata = Path(f"{name}.safetensors"), {}
        self.shapes = {path: tuple(shape) for path, shape in OTHERS[name].items()}
        self.dtypes = dict.fromkeys(self.shapes, "float32")
        self._places = {path: place for place, path in enumerate(self.shapes)}

    def __getitem__(self, name: str) -> np.ndarray:
        return np.full(self.shapes[name], self._places[name], np.float32)


@pytest.mark.parametrize("name", OTHERS)
def test_the_names_of_timm_and_hugging_face_are_translated(name: str) -> None:
    """Each to another, of the same kind (weight, bias, ...), and all shapes fit."""
    file = OfOthers(name)
    fit = nearest_model(file)
    assert fit is not None
    assert (fit.name, fit.classes, fit.whole) == (name.split()[1], 1000, True)
    view = best_view(views(file), models.weights._of_catalogue(fit.name)[0])
    assert sorted(view.names.values()) == sorted(file)
    kinds = {(ours.rpartition(".")[2], theirs.rpartition(".")[2]) for ours, theirs in view.names.items()}
    assert {pair for pair in kinds if pair[0] != pair[1]} <= {
        ("layer_scale", "gamma"),
        ("layer_scale", "layer_scale_parameter"),
    }


def test_what_others_keep_in_another_shape_is_brought_into_ours() -> None:
    with tracing():
        model = models.convnext_tiny()
    loaded = load_weights(model, OfOthers("transformers convnext_tiny"))
    assert loaded.notes == (
        "names in the file are those of Hugging Face's ConvNeXt, and were translated; its last normalisation adds 1e-12 to the "
        "variance there and 1e-6 here, so scores differ by some millionths",
    )
    place = list(OTHERS["transformers convnext_tiny"]).index("convnext.encoder.stages.2.layers.8.layer_scale_parameter")
    assert model.features[5][8].layer_scale.shape == (384, 1, 1)
    assert (model.features[5][8].layer_scale.numpy() == place).all()


def test_a_file_of_another_model_names_the_one_that_fits(tmp_path: Path) -> None:
    models.mobilenet_small(num_classes=5, channels=1).save(tmp_path / "mobile.safetensors")
    with pytest.raises(UserError, match=r"\nIt fits mobilenet_small of 5 classes and 1 channels: use that model$"):
        load_weights(small(), tmp_path / "mobile.safetensors")
    save_file({"x.weight": np.zeros((2, 2), np.float32)}, tmp_path / "none.safetensors")
    with pytest.raises(UserError, match=r"\nNo model of the catalogue is near: give the network that it was made for, as FILE"):
        load_weights(small(), tmp_path / "none.safetensors")


def test_another_number_of_classes_is_said_as_such(tmp_path: Path) -> None:
    small(10).save(tmp_path / "file.safetensors")
    with pytest.raises(UserError) as caught:
        load_weights(small(4), tmp_path / "file.safetensors")
    assert str(caught.value) == (
        f"{tmp_path}/file.safetensors is for 10 classes, this CifarResNet has 4: build the model for 10 classes, or load with "
        "new_classifier=True, which leaves its last layer as it is"
    )


def test_a_quantised_network_is_refused(tmp_path: Path) -> None:
    state = small().state_dict()
    save_file({**state, "fc.weight": state["fc.weight"].astype(np.int8)}, tmp_path / "file.safetensors")
    with pytest.raises(
        UserError, match=r"holds I8 numbers for fc.weight: it is of a quantised network; use the file of the net"
    ):
        load_weights(small(), tmp_path / "file.safetensors")


@pytest.mark.parametrize(
    ("name", "number", "dtype"),
    [
        ("conv1.weight", np.nan, "float32"),
        ("fc.bias", -np.inf, "float16"),
        ("fc.bias", 1e39, "float64"),
        ("bn1.running_mean", np.inf, "float32"),
        ("bn1.running_var", np.nan, ml_dtypes.bfloat16),
    ],
)
def test_weights_with_which_nothing_can_be_computed_are_refused(name: str, number: float, dtype: Any, tmp_path: Path) -> None:
    model = small()
    before = model.state_dict()
    array = before[name].astype(dtype)
    array.reshape(-1)[-1] = number
    save_file({**before, name: array}, tmp_path / "file.safetensors")
    with pytest.raises(UserError) as caught:
        load_weights(model, tmp_path / "file.safetensors")
    assert str(caught.value) == (
        f"{tmp_path}/file.safetensors holds numbers in {name} that are nan or infinite in float32: it was saved after a "
        "training had diverged, or it is damaged; use another copy"
    )
    assert holds(model, before)


def test_a_file_of_which_nothing_would_be_used_is_refused(tmp_path: Path) -> None:
    nn.Linear(3, 2).save(tmp_path / "file.safetensors")
    with pytest.raises(UserError) as caught:
        load_weights(nn.Linear(3, 5), tmp_path / "file.safetensors", new_classifier=True)
    assert str(caught.value) == (
        f"{tmp_path}/file.safetensors has nothing for this Linear but its last layer, which begins anew, so that nothing of "
        "the file would be used: leave the file out"
    )


def test_a_bit_that_is_not_what_was_written_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    model = small()
    model.save(path)
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    before = {name: value.copy() for name, value in model.state_dict().items()}
    with pytest.raises(UserError, match=r"file.safetensors is damaged: its checksum says"):
        load_weights(model, path)
    assert holds(model, before)


@pytest.mark.parametrize("start", [b"PK\3\4", b"\x80\2", b"\x80\4"])
def test_a_pickle_is_not_read_but_told_how_to_convert(start: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(start + bytes(100))
    for read in (cr.load, WeightFile, lambda path: load_weights(small(), path)):
        with pytest.raises(UserError) as caught:
            read(path)
        assert str(caught.value) == (
            f"{path} is a pickle, as torch.save writes it, which may run code when it is read, so it is not: "
            f"`chainrule convert {path}` takes the tensors out of it into a safetensors file"
        )


@pytest.mark.parametrize("file_name", ["weights.safetensors", "weights.bin"])
@pytest.mark.parametrize("length", range(96, 648, 8))
def test_no_safetensors_file_is_taken_for_a_pickle(length: int, file_name: str, tmp_path: Path) -> None:
    """Its first byte is the lowest of the length of its header, which is that of a pickle for one file in 32."""
    header = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'.ljust(length)
    path = tmp_path / file_name
    path.write_bytes(length.to_bytes(8, "little") + header + np.arange(2, dtype="<f4").tobytes())
    assert cr.load(path)["a"].tolist() == [0, 1]
    with pytest.raises(UserError, match=r"is a safetensors file already: it needs no conversion$"):
        convert_torch_file(path, tmp_path / "out")


# ---- shards


def damaged(index: Path, *, shard: int = 2) -> Path:
    return index.with_name(f"model-{shard:05}-of-00003.safetensors")


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    index = sharded(tmp_path, state_of(small()))
    damaged(index).unlink()
    with pytest.raises(UserError) as caught:
        WeightFile(index)
    count = json.loads(index.read_text())["weight_map"]
    held = sum(file == damaged(index).name for file in count.values())
    assert str(caught.value) == (
        f"{index} says that {held} of {len(count)} tensors are in model-00002-of-00003.safetensors, which is not in "
        f"{tmp_path}: put it beside the index"
    )


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    index = sharded(tmp_path, state_of(small()))
    damaged(index).write_bytes(damaged(index).read_bytes()[:-10])
    with pytest.raises(UserError, match=r"^\S*model-00002-of-00003.safetensors \([\d,]+ bytes\) is no whole safetensors file"):
        WeightFile(index)
    with pytest.raises(UserError, match=rf"use another copy \(it is one of the shards of {re.escape(str(index))}\)$"):
        WeightFile(index)


def test_a_shard_that_lacks_a_tensor_is_named(tmp_path: Path) -> None:
    state = state_of(small())
    index = sharded(tmp_path, state)
    save_file({"fc.bias": state["fc.bias"]}, damaged(index))
    with pytest.raises(UserError, match=r"is in model-00002-of-00003.safetensors, which does not hold it \(nor \d+ others\): "):
        WeightFile(index)


@pytest.mark.parametrize("place", ["../secret.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", "C:x", "a\\b"])
def test_nothing_outside_the_folder_is_read(place: str, tmp_path: Path) -> None:
    index = sharded(tmp_path / "folder", state_of(small()))
    save_file({"fc.bias": np.zeros(4, np.float32)}, tmp_path / "secret.safetensors")
    index.write_text(json.dumps({"weight_map": {"fc.bias": place}}))
    with pytest.raises(UserError, match="shards are files in the folder of the index, and nothing outside of it is read"):
        WeightFile(index)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": 3}}', "[" * 100_000])
def test_a_damaged_index_is_refused(text: str, tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text)
    with pytest.raises(UserError, match=r"index.json is no index of shards \(.*; use another copy$"):
        WeightFile(index)


def test_of_a_folder_the_file_that_is_meant_is_taken_or_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder without a safetensors file: give a file of weights"):
        WeightFile(tmp_path)
    small().save(tmp_path / "a.safetensors")
    assert WeightFile(tmp_path).path == tmp_path / "a.safetensors"
    small().save(tmp_path / "b.safetensors")
    with pytest.raises(
        UserError, match=r"several files of weights \(a.safetensors, b.safetensors\): name the one that is meant"
    ):
        WeightFile(tmp_path)
    small().save(tmp_path / "model.safetensors")
    assert WeightFile(tmp_path).path.name == "model.safetensors"
    with pytest.raises(UserError, match=r"missing.safetensors does not exist: expected a safetensors file"):
        WeightFile(tmp_path / "missing.safetensors")


def test_a_negative_variance_is_refused(tmp_path: Path) -> None:
    model = small()
    before = model.state_dict()
    array = before["bn1.running_var"].copy()
    array[-1] = -0.25
    save_file({**before, "bn1.running_var": array}, tmp_path / "file.safetensors")
    with pytest.raises(UserError) as caught:
        load_weights(model, tmp_path / "file.safetensors")
    assert str(caught.value) == (
        f"{tmp_path}/file.safetensors holds -0.25 in bn1.running_var, and a variance is never negative: it is damaged, or was "
        "changed by hand; use another copy"
    )
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
