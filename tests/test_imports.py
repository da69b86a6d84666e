"""What may import what: the layers of the package, the libraries they may lean on, and how long an import takes."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import chainrule
from chainrule import train

PACKAGE = Path(chainrule.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# The table, bottom to top: part -> (parts of the package, libraries). A part may always import itself, the standard library
# and ANYWHERE. ROOT is the package's own __init__.
ROOT = ""
ANYWHERE = frozenset({"errors", "habits", "arguments", "forks", "recent", "collector", "signals", "display", "ownership"})
CORE = frozenset({"graph", "ops", "grad", "tensor", "compiler", "cpu"})
COMPUTED = "a name that is computed"
BELOW_TRAIN = CORE | {"nn", "optim", "data", "formats", "models"}
LAYERS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "errors": (frozenset(), frozenset()),
    "display": (frozenset(), frozenset()),
    "forks": (frozenset(), frozenset()),
    "ownership": (frozenset(), frozenset()),
    "recent": (frozenset(), frozenset()),
    "collector": (frozenset(), frozenset()),
    "signals": (frozenset(), frozenset()),
    "habits": (frozenset(), frozenset()),
    "arguments": (frozenset(), frozenset()),
    "graph": (frozenset(), frozenset({"numpy", "ml_dtypes"})),
    "ops": (frozenset({"graph"}), frozenset({"numpy"})),
    "grad": (frozenset({"graph", "ops"}), frozenset({"numpy"})),
    "compiler": (frozenset({"graph", "ops"}), frozenset({"numpy"})),
    "cpu": (frozenset({"graph", "ops", "compiler"}), frozenset({"numpy", "llvmlite"})),
    "tensor": (frozenset({"graph", "ops", "grad"}), frozenset({"numpy"})),
    "formats": (frozenset(), frozenset({"numpy", "ml_dtypes", "safetensors"})),
    "nn": (frozenset({"graph", "ops", "tensor", "formats"}), frozenset({"numpy"})),
    "optim": (frozenset({"graph", "ops", "tensor"}), frozenset({"numpy"})),
    "data": (frozenset(), frozenset({"numpy", "PIL"})),
    "models": (frozenset({"nn", "tensor", "formats"}), frozenset({"numpy"})),
    "train": (BELOW_TRAIN, frozenset({"numpy", "PIL"})),
    "lens": (BELOW_TRAIN | {"train", ROOT}, frozenset({"numpy", "PIL"})),
    "cli": (BELOW_TRAIN | {"train", "lens", ROOT}, frozenset({"numpy", "PIL", "typer", "rich"})),
    ROOT: (BELOW_TRAIN | {"train", "lens"}, frozenset()),
}

DOORS = {"tensor/backend.py": frozenset({"cpu", "compiler"})}
"""Files that may import more than their part."""

LIBRARIES = {"lens/server/": frozenset({"starlette", "uvicorn"})}
"""Rooms that may import libraries which the rest of their part may not."""


def part_of(file: Path) -> str:
    """The top-level part that a file belongs to: ``graph`` for graph/node.py, ``cli`` for cli.py, ROOT for __init__.py."""
    top = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return {"__init__": ROOT, "__main__": "cli"}.get(top, top)


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that a file imports, wherever in it: ``chainrule.graph.node``, ``numpy.typing``."""
    package = ("chainrule", *file.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, one.name) for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*above, *([node.module] if node.module else [])))
            yield from ((node.lineno, f"{base}.{one.name}") for one in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "importlib.import_module",
            "import_module",
            "__import__",
        ):
            name = node.args[0]
            yield node.lineno, name.value if isinstance(name, ast.Constant) else COMPUTED


def chainrule_part(name: str) -> str:
    """The part that ``chainrule.x.y`` lies in; a public name such as ``chainrule.Tensor`` lies in ROOT."""
    parts = [*name.split("."), ROOT]
    is_part = (PACKAGE / parts[1]).is_dir() or (PACKAGE / f"{parts[1]}.py").is_file()
    return parts[1] if is_part else ROOT


ROOMS = {
    "kernels": frozenset({"kernel", "codegen"}),
    "codegen": frozenset({"kernel"}),
    "runtime": frozenset({"kernel", "codegen", "recipe", "planner"}),  # the planner where no recipe was kept
}
"""The rooms of cpu, and what of cpu each may import besides itself. What lies beside them may import all."""


LATER = {"__init__.py": chainrule, "train/__init__.py": train}
"""The packages that import what they export when it is first used."""


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_of_cpu_imports_only_what_lies_below_it(room: str) -> None:
    files = sorted((PACKAGE / "cpu" / room).rglob("*.py"))
    assert len(files) > 5
    for file in files:
        for line, name in imports(file):
            if name.startswith("chainrule.cpu."):
                target = name.split(".")[2]
                assert target in {room, *ROOMS[room]}, f"{file.relative_to(PACKAGE)}:{line} imports {name}"


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(PACKAGE)) for file in FILES])
def test_a_file_imports_only_what_its_layer_may(file: Path) -> None:
    part = part_of(file)
    assert part in LAYERS, f"{part} is a new part of the package: give it a line in the table"
    parts, libraries = LAYERS[part]
    place = file.relative_to(PACKAGE).as_posix()
    if place in LATER:  # what it loads later it imports for type checkers too, where this test sees it
        assert {name for _, name in imports(file)} >= set(later_for_checkers(LATER[place]).values())
    libraries = libraries.union(*(further for room, further in LIBRARIES.items() if place.startswith(room)))
    wrong = []
    for line, name in imports(file):
        top = name.split(".")[0]
        if top == "chainrule":
            target = chainrule_part(name)
            if target not in {part, *ANYWHERE, *parts, *DOORS.get(place, ())}:
                wrong.append(f"{file.relative_to(PACKAGE)}:{line} imports {name}")
        elif top not in sys.stdlib_module_names and top not in libraries and not (top == COMPUTED and place in LATER):
            wrong.append(f"{file.relative_to(PACKAGE)}:{line} imports {name}")
    assert not wrong, f"{part or 'the package'} may import {sorted(parts)} and {sorted(libraries)}: {wrong}"


def test_the_numbers_of_the_lens_know_nothing_of_its_server() -> None:
    files = [file for file in FILES if part_of(file) == "lens" and "server" not in file.parts]
    files.remove(PACKAGE / "lens" / "__init__.py")  # the door to both, which loads the server when a page is asked for
    assert len(files) > 10
    assert [(file.name, name) for file in files for _, name in imports(file) if name.startswith("chainrule.lens.server")] == []


def later_for_checkers(package: ModuleType) -> dict[str, str]:
    """What a package's own file imports for type checkers only: name -> dotted name."""
    body = ast.parse(Path(str(package.__file__)).read_text(encoding="utf-8")).body
    block = next(node for node in body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    lines = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {one.name: f"{node.module}.{one.name}" for node in lines for one in node.names}


def test_type_checkers_know_everything_that_is_loaded_later_and_where_it_is() -> None:
    at = {name: module if module == f"chainrule.{name}" else f"{module}.{name}" for name, module in chainrule._LATER.items()}
    assert later_for_checkers(chainrule) == at
    assert later_for_checkers(train) == {name: f"chainrule.train.{module}.{name}" for name, module in train._LATER.items()}


@pytest.mark.parametrize("package", LATER.values(), ids=LATER)
def test_every_public_name_is_there_however_late(package: ModuleType) -> None:
    code = (
        f"import importlib; package = importlib.import_module({package.__name__!r})\n"
        "for name in package.__all__: assert not name.startswith('_') and getattr(package, name) is not None\n"
        "import types; print([name for name in package.__all__ if isinstance(getattr(package, name), types.ModuleType)])"
    )
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    modules = {name for name, module in vars(package)["_LATER"].items() if module == f"chainrule.{name}"}
    assert (ran.returncode, ran.stderr) == (0, "")
    assert set(ast.literal_eval(ran.stdout)) == (modules | {"random"} if package is chainrule else set())
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_the_table_has_no_circle() -> None:
    seen: set[str] = set(ANYWHERE)
    for part, (parts, _) in LAYERS.items():
        if part not in (ROOT, "lens", "cli"):
            assert parts <= seen, f"{part} may import what stands above it"
        seen.add(part)


def test_the_imports_of_a_file_are_found_wherever_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    file = tmp_path / "nn" / "layers.py"
    file.parent.mkdir()
    file.write_text(
        "import numpy as np, typer\nfrom chainrule.ops import compose\nfrom . import losses\nfrom .. import lens\n"
        "from ..graph.node import Node\nif TYPE_CHECKING:\n    from rich import print\n"
        "def f():\n    import chainrule.cli\n    importlib.import_module('onnx')\n    __import__(name)\n"
    )
    found = [name for _, name in sorted(imports(file))]
    assert sorted(found) == sorted(
        [
            "numpy",
            "typer",
            "chainrule.ops.compose",
            "chainrule.nn.losses",
            "chainrule.lens",
            "chainrule.graph.node.Node",
            "rich.print",
            "chainrule.cli",
            "onnx",
            COMPUTED,
        ]
    )
    assert part_of(file) == "nn"


# ---- circles


def modules_loaded_by(file: Path) -> set[str]:
    """The modules of chainrule that a file imports at run time, inside functions too; not what only type checkers see."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    unseen = {
        id(inner)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for inner in ast.walk(block)
    }
    lines = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and id(node) not in unseen and node.module]
    return {str(node.module) for node in lines} | {f"{node.module}.{one.name}" for node in lines for one in node.names}


def test_only_what_numpy_itself_calls_closes_a_circle_among_the_files_of_tensor() -> None:
    files = {f"chainrule.tensor.{file.stem}": file for file in FILES if part_of(file) == "tensor" and file.stem != "__init__"}
    below = {module: modules_loaded_by(file) & files.keys() for module, file in files.items()}
    assert below["chainrule.tensor.functions"] >= {"chainrule.tensor.tensor", "chainrule.tensor.indexing"}
    for _ in files:  # what is reached by one file more each time
        below = {module: reached.union(*(below[other] for other in reached)) for module, reached in below.items()}
    circle = {module.rpartition(".")[2] for module, reached in below.items() if module in reached}
    assert circle == {"tensor", "making", "functions", "numpy_protocols"}  # Tensor.__array_function__ needs them


# ---- what an import loads, and how long it takes


def python(code: str) -> str:
    """What a fresh interpreter prints that finds this package where this one did."""
    prepared = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); {code}"
    done = subprocess.run([sys.executable, "-c", prepared], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


def test_an_import_loads_numpy_and_ml_dtypes_and_nothing_else_from_outside() -> None:
    before, after = (
        {name.split(".")[0] for name in json.loads(python(f"{first}import json; print(json.dumps(sorted(sys.modules)))"))}
        for first in ("", "import chainrule; ")
    )
    loaded = {name for name in after - before - sys.stdlib_module_names if not name.startswith("_")}
    assert loaded == {"chainrule", "numpy", "ml_dtypes"}


def test_every_public_part_is_there_after_one_import_and_loaded_when_it_is_asked_for() -> None:
    code = """
import chainrule as cr, inspect, json
before = [name for name in sys.modules if name.startswith("chainrule.")]
listed = dir(cr)
parts = [name for name in cr.__all__ if inspect.ismodule(getattr(cr, name))]
cr.nn.functional.relu, cr.optim.SGD, cr.data.Loader, cr.models.lenet, cr.train.Trainer, cr.formats.load_safetensors
print(json.dumps([before, listed, parts, dir(cr), cr.nn is sys.modules["chainrule.nn"], cr.explain is cr.lens.explain]))
"""
    before, listed, parts, afterwards, same_module, same_function = json.loads(python(code))
    assert set(parts) == {"data", "formats", "lens", "models", "nn", "optim", "random", "train"}
    assert not {f"chainrule.{name}" for name in parts} & set(before), "loaded before anybody asked"
    assert {name for name in listed if not name.startswith("__")} == set(chainrule.__all__)
    assert {"__version__", "__doc__", "__all__"} <= set(listed)
    assert afterwards == listed
    assert same_module
    assert same_function


def test_all_that_is_public_exists_and_an_unknown_name_is_an_attribute_error_that_knows_the_near_ones() -> None:
    assert all(hasattr(chainrule, name) for name in chainrule.__all__)
    assert chainrule.__all__ == sorted(set(chainrule.__all__), key=lambda name: (not name[0].isupper(), name))
    with pytest.raises(AttributeError, match="module 'chainrule' has no attribute 'optm'") as caught:
        chainrule.optm  # noqa: B018
    assert (caught.value.name, caught.value.obj) == ("optm", chainrule)  # what Python's "Did you mean" is made of
