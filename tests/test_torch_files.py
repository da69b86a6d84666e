"""Files of torch.save: their tensors come out as they went in, nothing in them is run, what is damaged or hostile is refused.

The files in ``expected/torch_files`` are PyTorch's own, made by ``scripts/torch_files.py``; others are written here by hand.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import re
import struct
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open

import chainrule as cr
from chainrule import UserError, models
from chainrule.formats import convert_torch_file, load_torch_file, save_safetensors
from chainrule.formats.pickles import Refused, read_pickle
from chainrule.models import load_weights
from running import done, refused

FOLDER = Path(__file__).parent / "expected" / "torch_files"
PICKLE = pickle.dumps


# ---- files by hand


class Named:
    """What a pickle names without anybody having it: written as GLOBAL."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Call:
    """A call of what is named."""

    def __init__(self, function: Named, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments


class Persistent:
    """An identifier of a storage."""

    def __init__(self, *words: Any) -> None:
        self.words = words


def pickled(value: Any) -> bytes:
    """A pickle of protocol 2 of dicts, lists, tuples, texts, numbers and the classes above."""
    return b"\x80\x02" + _written(value) + b"."


def _written(value: Any) -> bytes:
    if isinstance(value, Named):
        return b"c" + value.module.encode() + b"\n" + value.name.encode() + b"\n"
    if isinstance(value, Call):
        return _written(value.function) + _written(value.arguments) + b"R"
    if isinstance(value, Persistent):
        return _written(value.words) + b"Q"
    if isinstance(value, dict):
        return b"}(" + b"".join(_written(part) for item in value.items() for part in item) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(_written, value)) + b"e"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(_written, value)) + b"t"
    return pickle.dumps(value, 2)[2:-1]


FLOATS = Named("torch", "FloatStorage")
REBUILD = Named("torch._utils", "_rebuild_tensor_v2")


def tensor(count: int, shape: Any, strides: Any, offset: Any = 0, key: str = "0", kind: Named = FLOATS) -> Call:
    """A tensor as torch.save writes it."""
    return Call(REBUILD, Persistent("storage", kind, key, "cpu", count), offset, shape, strides, False, {})


def archive(path: Path, value: Any, storages: dict[str, bytes] | None = None, **others: bytes) -> Path:
    """A zip archive as torch.save writes it."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", value if isinstance(value, bytes) else pickled(value))
        for key, content in {"0": np.arange(6, dtype=np.float32).tobytes(), **(storages or {})}.items():
            file.writestr(f"archive/data/{key}", content)
        for name, content in others.items():
            file.writestr(f"archive/{name}", content)
    return path


def test_the_files_by_hand_are_read(tmp_path: Path) -> None:
    path = archive(tmp_path / "file.pth", {"a": tensor(6, (2, 3), (3, 1)), "b": tensor(6, (3,), (2,), 1)})
    read = load_torch_file(path)
    assert read["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert read["b"].tolist() == [1, 3, 5]
    swapped = {"0": np.arange(6, dtype=">f4").tobytes()}
    path = archive(tmp_path / "big.pth", {"a": tensor(6, (2, 3), (3, 1))}, swapped, byteorder=b"big")
    assert load_torch_file(path)["a"].tolist() == [[0, 1, 2], [3, 4, 5]]


# ---- PyTorch's own files


def of_type(name: str) -> np.ndarray:
    if name == "bool":
        return np.arange(6).reshape(2, 3) > 0
    return np.arange(6).reshape(2, 3).astype(getattr(ml_dtypes, name, name))


@pytest.mark.parametrize(("file", "count"), [("every", 16), ("every_old", 11)])
def test_tensors_of_every_dtype_come_out(file: str, count: int, tmp_path: Path) -> None:
    made = convert_torch_file(FOLDER / f"{file}.pth", tmp_path / "out.safetensors")
    assert (made.tensors, made.numbers, made.entry, made.left_out) == (count, 6 * count, "", ())
    arrays = load_torch_file(FOLDER / f"{file}.pth")
    assert len(arrays) == count
    with safe_open(str(tmp_path / "out.safetensors"), framework="numpy") as written:
        for name, array in arrays.items():
            assert array.dtype == of_type(name).dtype
            assert array.tolist() == of_type(name).tolist()
            if "float8" not in name:  # which NumPy cannot read from such a file
                assert written.get_tensor(name).tobytes() == of_type(name).tobytes()


@pytest.mark.parametrize("file", ["views", "views_old"])
def test_views_of_one_storage_come_out_each_by_itself(file: str, tmp_path: Path) -> None:
    convert_torch_file(FOLDER / f"{file}.pth", tmp_path / "out.safetensors")
    whole = np.arange(24, dtype=np.float32).reshape(4, 6)
    expected = {
        **{"whole": whole, "turned": whole.T, "part": whole[1:, ::2], "row": whole[2]},
        **{"empty": np.empty((0, 3)), "scalar": np.array(3), "single": np.array([[[7]]])},
    }
    read = cr.load(tmp_path / "out.safetensors")
    assert {name: array.tolist() for name, array in read.items()} == {name: one.tolist() for name, one in expected.items()}
    assert {name: array.shape for name, array in read.items()} == {name: one.shape for name, one in expected.items()}
    parts = load_torch_file(FOLDER / f"{file}.pth")
    assert np.shares_memory(parts["whole"], parts["turned"])


@pytest.mark.parametrize("file", ["checkpoint", "checkpoint_old"])
def test_of_a_checkpoint_the_weights_are_taken_and_the_rest_is_listed(file: str, tmp_path: Path) -> None:
    path = tmp_path / f"{file}.pth"
    path.write_bytes((FOLDER / f"{file}.pth").read_bytes())
    out = done("convert", path)
    assert out.splitlines() == [
        "taken: the tensors of its entry state_dict; left out: epoch (3), arch ('small'), optimizer (2 entries), "
        "seen (2 entries)",
        f"{tmp_path}/{file}.safetensors: 7 tensors, 29 numbers (float32, int64)",
    ]
    model = cr.nn.Sequential(cr.nn.Conv2d(1, 2, 3), cr.nn.BatchNorm2d(2))
    assert load_weights(model, tmp_path / f"{file}.safetensors").notes == ()
    assert model[0].weight.numpy().ravel().tolist() == list(range(18))
    assert refused("convert", path).startswith(f"{tmp_path}/{file}.safetensors exists already: delete it, or give another name")
    done("convert", path, tmp_path / "momentum.safetensors", "--entry", "optimizer.state.0")
    assert list(cr.load(tmp_path / "momentum.safetensors")) == ["momentum_buffer"]
    message = refused("convert", path, tmp_path / "other", "--entry", "state_dict.9")
    assert message.startswith(f"{path} has no entry 'state_dict.9': there is 0.weight, 0.bias, 1.weight, 1.bias, ")


def test_the_converted_file_says_what_it_fits_and_what_comes_next(tmp_path: Path) -> None:
    state = models.lenet().state_dict()
    storages = {str(number): value.tobytes() for number, value in enumerate(state.values())}
    values = {
        name: tensor(value.size, value.shape, tuple(stride // 4 for stride in value.strides), 0, str(number))
        for number, (name, value) in enumerate(state.items())
    }
    path = archive(tmp_path / "net.pth", {"module." + name: value for name, value in values.items()}, storages)
    lines = done("convert", path).splitlines()
    assert lines[0] == f"{tmp_path}/net.safetensors: 10 tensors, 61,706 numbers (float32)"
    assert lines[1] == "It fits lenet of 10 classes."
    assert lines[2].endswith(f"predict --weights {tmp_path}/net.safetensors IMAGE...")
    model = models.lenet()
    assert load_weights(model, tmp_path / "net.safetensors").notes[0].startswith("names in the file begin with 'module.'")
    assert all((value == state[name]).all() for name, value in model.state_dict().items())


def test_of_several_places_with_tensors_the_usual_one_is_taken_or_asked_for(tmp_path: Path) -> None:
    one, other = tensor(6, (6,), (1,)), tensor(6, (3,), (2,))
    path = archive(tmp_path / "usual.pth", {"ema": {"w": one}, "model": {"w": other}})
    made = convert_torch_file(path)
    assert (made.entry, made.left_out) == ("model", ("ema (1 entries)",))
    path = archive(tmp_path / "several.pth", {"student": {"w": one}, "teacher": {"w": other}})
    with pytest.raises(UserError, match=r"holds tensors at several places \(student, teacher\): name the one .* with --entry$"):
        convert_torch_file(path)
    assert convert_torch_file(path, entry="teacher").entry == "teacher"
    path = archive(tmp_path / "inner.pth", {"checkpoint": {"state_dict": {"w": one, "steps": 3}, "lr": 0.1}})
    made = convert_torch_file(path)
    assert (made.entry, made.left_out) == ("checkpoint.state_dict", ("checkpoint.lr (0.1)", "steps (3)"))
    path = archive(tmp_path / "alone.pth", one)
    assert convert_torch_file(path).tensors == 1
    assert list(cr.load(tmp_path / "alone.safetensors")) == ["tensor"]
    path = archive(tmp_path / "nothing.pth", {"epoch": 3, "lr": [0.1]})
    with pytest.raises(UserError, match=r"holds no tensors, but epoch, lr: save model.state_dict\(\) with PyTorch$"):
        convert_torch_file(path)
    path = archive(tmp_path / "twice.pth", {"w": one, "a": {"b": one}, "a.b": other})
    with pytest.raises(UserError, match=r"has two tensors that would both be named a.b: give --entry$"):
        convert_torch_file(path)


# ---- nothing is run


class Evil:
    """What runs a command wherever it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hostile_pickle_is_refused_by_name_and_nothing_of_it_runs(protocol: int, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    content = pickle.dumps({"state_dict": Evil(f"touch {ran}")}, protocol)
    for number, path in enumerate([archive(tmp_path / "zip.pth", content), tmp_path / "old.pth"]):
        if number == 1:
            path.write_bytes(old(content))
        message = refused("convert", path)
        name = f"{os.system.__module__}.system"
        assert message.startswith(
            f"{path} holds {name}, which is neither a tensor nor a container: reading it would be running"
        )
        for other in (["summary"], ["predict", "a.png"], ["evaluate", "--data", "mnist"]):
            assert refused(*other, "--weights", path).startswith(f"{path} is a pickle, as torch.save writes it, which may run")
        for read in (cr.load, lambda path: load_weights(models.lenet(), path), cr.formats.load_safetensors):
            with pytest.raises(UserError):
                read(path)
    assert not ran.exists()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["old.pth", "zip.pth"]
    pickle.loads(content)  # so the file is as hostile as it should be
    assert ran.exists()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "os.system"),
        (b"(ios\nsystem\n.", "os.system"),
        (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.", "builtins.eval"),
        (b"\x80\x02cbuiltins\ngetattr\n.", "builtins.getattr"),
        (b"\x80\x02ctorch\nload\n.", "torch.load"),
        (b"\x80\x02ctorch._utils\n_rebuild_qtensor\n.", "torch._utils._rebuild_qtensor"),
        (b"\x80\x02cnumpy.core.multiarray\nscalar\n.", "numpy.core.multiarray.scalar"),
        (b"\x80\x02\x82\x01.", "the instruction EXT1 1"),
        (b"\x80\x05\x97.", "the instruction NEXT_BUFFER"),
        (b"\x80\x05\x96\x01\0\0\0\0\0\0\0a.", "the instruction BYTEARRAY8"),
        (b"\x80\x02(ctorch\nTensor\no.", "the instruction OBJ"),
        (b"\x80\x04\x8c\x02os\x8c\x0a\x1b[31mevil\n\x93.", "os.\\x1b[31mevil\\n"),
        (b"Psystem\n.", "the instruction PERSID 'system'"),
        (b"\x80\x02ctorch\nFloatStorage\n)R.", "torch.FloatStorage"),
        (b"\x80\x02ctorch.nn.parameter\nParameter\n)\x81.", "torch.nn.parameter.Parameter"),
    ],
)
def test_whatever_is_named_is_refused_by_its_name(content: bytes, name: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "file.pth", content)
    with pytest.raises(UserError) as caught:
        convert_torch_file(path)
    assert str(caught.value).startswith(f"{path} holds {name}")


def test_a_whole_model_and_a_program_are_refused_with_what_to_save() -> None:
    message = refused("convert", FOLDER / "module.pth", "out")
    assert "holds torch.nn.modules.linear.Linear, which is neither a tensor nor a container" in message
    assert message.endswith("save the tensors alone: torch.save(model.state_dict(), 'weights.pth')")
    assert "it is a program of TorchScript (torch.jit.save)" in refused("convert", FOLDER / "program.pth", "out")
    assert "overlaps itself, as expanded tensors do: save it with .contiguous()" in refused(
        "convert", FOLDER / "expanded.pth", "out"
    )


def test_nothing_else_in_the_package_reads_a_pickle() -> None:
    package = Path(cr.__file__).parent
    for file in package.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(import|from) (pickle|cPickle|_pickle|shelve|dill|joblib)\b", text, re.M), file
        assert not re.search(r"allow_pickle=True|marshal\.load", text), file
        if "pickletools" in text:
            assert file.name == "pickles.py"


# ---- damaged, and made to deceive

LOOP = b"\x80\x02]q\x00h\x00a."
LAUGHS = b"\x80\x02]q\x00(" + b"K\x01" * 10 + b"e" + b"".join(
    b"](" + b"h%c" % level * 10 + b"eq%c" % (level + 1) for level in range(20)
) + b"."  # fmt: skip


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (tensor(6, (7,), (1,)), "a tensor of shape [7], offset 0 and strides [1] reaches beyond its storage of 6 numbers"),
        (tensor(6, (2, 3), (3, 1), 1), "reaches beyond its storage of 6 numbers"),
        (tensor(6, (1,), (1,), 6), "reaches beyond its storage of 6 numbers"),
        (tensor(6, (2, 3), (1, 1)), "strides [1, 1] overlaps itself"),
        (tensor(6, (1 << 40, 1 << 40), (0, 0)), "strides [0, 0] overlaps itself"),
        (tensor(6, (2, 3), (2, 1)), "overlaps itself"),
        (tensor(6, (2,), (1, 1)), "has not a stride for each axis"),
        (tensor(6, (2,), (-1,)), "it is damaged: -1 is no size"),
        (tensor(6, (2.0,), (1,)), "it is damaged: 2.0 is no size"),
        (tensor(6, (True,), (1,)), "it is damaged: True is no size"),
        (tensor(6, (6,), (1,), -1), "it is damaged: -1 is no size"),
        (tensor(6, 6, 1), "a shape is no list of sizes"),
        (tensor(6, (0, 1 << 61), (1, 1)), "reaches beyond its storage"),
        (tensor(60, (6,), (1,)), "storage '0' is said to hold 60 numbers of 4 bytes, and has 24 bytes"),
        (tensor(6, (6,), (1,), kind=Named("torch", "DoubleStorage")), "is said to hold 6 numbers of 8 bytes, and has 24 bytes"),
        (tensor(24, (6,), (1,), kind=Named("torch", "BoolStorage")), "holds what is neither true nor false"),
        (tensor(6, (6,), (1,), key="1"), "the numbers of storage '1' are missing"),
        (tensor(6, (6,), (1,), key="../data.pkl"), "the numbers of storage '../data.pkl' are missing"),
        (Call(REBUILD, 3, 0, (1,), (1,), False, {}), "a tensor has no storage"),
        (Call(REBUILD), "it is damaged (TypeError"),
        (Persistent("storage", FLOATS, "0", "cpu"), "a storage is named in an unknown way"),
        (Persistent("storage", "FloatStorage", "0", "cpu", 6), "a storage is of no known class"),
        (Persistent("storage", FLOATS, "0", "cpu", -6), "a storage has no size"),
        ({(1, 2): 3}, "a dict whose keys are neither texts nor numbers, but of class tuple"),
        (LOOP, "containers hold themselves"),
        (LAUGHS, "containers hold each other without end"),
        (b"]" * 200 + b"a" * 199 + b".", "nested more than 50 deep"),
        (b"", "it is damaged"),
        (b".", "it is damaged"),
        (b"\x80\x02}", "it is damaged"),
        (b"\x80\x02(((K\x01u.", "it is damaged"),
        (b"\x80\x02h\x07.", "it is damaged (KeyError"),
        (b"\x80\x02K\x01K\x02a.", "it is damaged: a int is used as a list"),
        (b"\x80\x02X\xff\xff\xff\x7fa.", "it is damaged"),
        (b"\x80\x02\x8b\xff\xff\xff\x7fa.", "it is damaged"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x0fa.", "it is damaged"),
    ],
)
def test_what_does_not_fit_together_is_refused(value: Any, reason: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "file.pth", {"w": value} if not isinstance(value, bytes) else value)
    with pytest.raises(UserError) as caught:
        convert_torch_file(path)
    assert str(caught.value).startswith(f"{path} cannot be converted: ")
    assert reason in str(caught.value)
    assert [one.name for one in tmp_path.iterdir()] == ["file.pth"]


def test_an_archive_that_torch_does_not_write_is_refused(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.pth"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", pickled({"w": tensor(1 << 24, (1 << 24,), (1,))}))
        file.writestr("archive/data/0", bytes(4 << 24))  # 64 MB in 64 kB
    with pytest.raises(UserError, match=r"is compressed in the archive, which torch.save never does"):
        convert_torch_file(bomb)

    twice = tmp_path / "twice.pth"
    with zipfile.ZipFile(twice, "w") as file:
        file.writestr("archive/data.pkl", pickled({}))
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("archive/data.pkl", pickled({}))
    with pytest.raises(UserError, match=r"not of torch.save \(which has one data.pkl\)"):
        convert_torch_file(twice)

    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as file:
        file.writestr("a.txt", "text")
    with pytest.raises(UserError, match=r"is a zip archive, but not of torch.save"):
        convert_torch_file(other)

    large = tmp_path / "large.pth"
    archive(large, {"w": tensor(6, (6,), (1,))})
    content = large.read_bytes()
    place = content.rindex(b"PK\1\2")
    sizes = struct.pack("<II", 1 << 30, 1 << 30)
    large.write_bytes(content[: place + 20] + sizes + content[place + 28 :])
    with pytest.raises(UserError, match=r"its entries say that they are larger than the file|is no whole zip archive"):
        convert_torch_file(large)


def test_a_file_cut_off_anywhere_or_with_a_flipped_byte_is_refused_or_reads_the_same(tmp_path: Path) -> None:
    for name in ("checkpoint", "checkpoint_old"):
        content = (FOLDER / f"{name}.pth").read_bytes()
        path = tmp_path / "file.pth"
        for length in range(0, len(content), 37):
            path.write_bytes(content[:length])
            with pytest.raises(UserError):
                load_torch_file(path)
        for place in range(0, len(content), 11):
            flipped = bytearray(content)
            flipped[place] ^= 0x55
            path.write_bytes(flipped)
            with contextlib.suppress(UserError):
                load_torch_file(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is no file of torch.save: give a .pth or .pt file of PyTorch"),
        (b"\x89HDF\r\n\x1a\n", "is no file of torch.save"),
        (PICKLE({"a": 1}), "is a pickle, but not of torch.save: save the tensors with torch.save"),
        (b"\0" * 257 + b"ustar" + bytes(300), "is in the format of PyTorch before 0.2, a tar archive"),
        (b"\x10\0\0\0\0\0\0\0{}", "is a safetensors file already: it needs no conversion"),
        (b"\x80\2\0\0\0\0\0\0{}", "is a safetensors file already: it needs no conversion"),
        (b"PK\3\4", "cannot be converted: it is no whole zip archive"),
    ],
)
def test_files_of_other_kinds_are_told_from_torchs(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        convert_torch_file(path, tmp_path / "out")
    assert str(caught.value).startswith(f"{path} {reason}")
    for no_file, why in ((tmp_path, "is a folder"), (tmp_path / "missing.pth", "does not exist")):
        with pytest.raises(UserError) as caught:
            convert_torch_file(no_file, tmp_path / "out")
        assert str(caught.value) == f"{no_file} {why}: expected a file of torch.save"


def test_a_tensor_whose_name_no_safetensors_file_can_hold_is_refused(tmp_path: Path) -> None:
    for name, why in (
        ("__metadata__", "no tensor of a safetensors file can be named '__metadata__': give it another name"),
        ("a\ud800", "'a\\ud800' cannot be written in UTF-8: give the tensor another name"),
    ):
        with pytest.raises(UserError) as caught:
            save_safetensors(tmp_path / "out", {"w": np.ones(1), name: np.ones(2)})
        assert str(caught.value) == f"save_safetensors: {why}"
    assert list(tmp_path.iterdir()) == []


# ---- before PyTorch 1.6


def old(tree: Any, keys: Any = (), *storages: bytes, system: Any = None) -> bytes:
    """A file as PyTorch wrote it before 1.6."""
    parts = [pickled(0x1950A86A20F9469CFC6C), pickled(1001), pickled(system or {"little_endian": True})]
    parts += [tree if isinstance(tree, bytes) else pickled(tree), pickled(list(keys))]
    return b"".join([*parts, *storages])


def test_a_storage_of_an_old_file_may_be_part_of_another(tmp_path: Path) -> None:
    numbers = struct.pack("<q", 6) + np.arange(6, dtype=np.float32).tobytes()
    view = Persistent("storage", FLOATS, "0", "cpu", 6, ("1", 2, 3))
    value = {"w": Call(REBUILD, view, 1, (2,), (1,), False, {})}
    path = tmp_path / "old.pth"
    path.write_bytes(old(value, ["0"], numbers))
    assert load_torch_file(path)["w"].tolist() == [3, 4]
    big = struct.pack(">q", 6) + np.arange(6, dtype=">f4").tobytes()
    path.write_bytes(old(value, ["0"], big, system={"little_endian": False}))
    assert load_torch_file(path)["w"].tolist() == [3, 4]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (old({"w": tensor(6, (6,), (1,))}), "the numbers of storage '0' are missing"),
        (old({"w": tensor(6, (6,), (1,))}, ["0"], struct.pack("<q", 6)), "end behind the end of the file"),
        (old({"w": tensor(6, (6,), (1,))}, ["0"], struct.pack("<q", 1 << 60)), "end behind the end of the file"),
        (old({"w": tensor(6, (6,), (1,))}, [3]), "the keys of its storages are no list of texts"),
        (old({"w": Persistent("module", Named("torch.nn.modules.linear", "Linear"), "a.py", "code")}), ""),
        (old({"w": Persistent("module", "net.Net", "net.py", "code")}), ""),
    ],
)
def test_an_old_file_that_does_not_fit_together_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    path.write_bytes(content)
    expected = f"{path} cannot be converted: " if reason else f"{path} holds "
    with pytest.raises(UserError) as caught:
        load_torch_file(path)
    assert str(caught.value).startswith(expected)
    assert reason in str(caught.value)


def test_a_structure_that_is_absurdly_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chainrule.formats.pickles._MOST_INSTRUCTIONS", 100)
    with pytest.raises(Refused, match=r"its structure is absurdly large \(more than 100 instructions\)"):
        read_pickle(io.BytesIO(b"\x80\x02" + b"N" * 1000 + b"."), lambda identifier: None)


def test_the_command_as_a_process_ends_with_a_sentence(tmp_path: Path) -> None:
    from running import process

    path = archive(tmp_path / "file.pth", pickle.dumps(Evil(f"touch {tmp_path / 'ran'}")))
    started = process("convert", path, stdout=subprocess.PIPE)
    out, err = started.communicate(timeout=60)
    assert (started.returncode, out) == (2, "")
    assert "system, which is neither a tensor nor a container" in err
    assert not (tmp_path / "ran").exists()
