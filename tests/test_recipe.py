"""Recipes: a program from a kept recipe is the program that the passes make; whatever changes the program changes the file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, ops, optim
from chainrule.cpu import planner
from chainrule.cpu.codegen import code_cache
from chainrule.cpu.codegen.target import host_target
from chainrule.cpu.recipe import Recipe, recipe_name
from chainrule.cpu.runtime.program import Program
from chainrule.graph import Graph, Node, TensorType, leaf
from chainrule.graph.dtypes import float32, float64
from chainrule.tensor import Tensor
from small_training import training

TARGET = host_target()


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path))
    code_cache.forget()
    return tmp_path


def recipes(folder: Path) -> list[Path]:
    return sorted(folder.glob("program-*.json"))


def no_passes(*_: object) -> None:
    pytest.fail("the passes ran again")


def test_the_second_program_of_a_graph_runs_no_pass_and_gives_the_same_bits(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = training()
    weights, loss, passes = run()
    assert len(recipes(folder)) >= 1
    monkeypatch.setattr(planner, "make_recipe", no_passes)
    again = run()
    assert np.array_equal(again[0], weights)
    assert again[1:] == (loss, passes)


@pytest.mark.parametrize("wrong", ["exchanged", "empty", "foreign", "one bit"])
def test_a_recipe_that_is_not_what_its_name_says_is_made_anew(
    wrong: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = [graph_of()[0], graph_of(axes=(1,))[0]]
    names = [recipe_name(one, [], TARGET, False) for one in graphs]
    stages = [len(Program(one).stages) for one in graphs]
    contents = [(folder / name).read_bytes() for name in names]
    flipped = [one[:-9] + bytes([one[-9] ^ 1]) + one[-8:] for one in contents]
    damaged = {"exchanged": contents[::-1], "empty": [b"", b""], "foreign": [b"{}", b"[]"], "one bit": flipped}[wrong]
    for name, content in zip(names, damaged, strict=True):
        (folder / name).write_bytes(content)
    assert [len(Program(one).stages) for one in graphs] == stages
    assert [(folder / name).read_bytes() for name in names] != damaged
    monkeypatch.setattr(planner, "make_recipe", no_passes)
    assert [len(Program(one).stages) for one in graphs] == stages


def test_the_passes_give_the_same_recipe_each_time(folder: Path) -> None:
    """Whatever places in memory nodes and buffers happen to have, by which sets of them are ordered."""

    def written() -> bytes:
        x = cr.tensor(np.zeros((2, 3, 8, 8), np.float32))
        layers = [nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()) for _ in range(3)]
        model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(192, 2))

        @cr.compile
        def step(x: Tensor) -> Tensor:
            loss = (model(x) ** 2).mean()
            loss.backward()
            return loss

        step.prepare(x)
        kept = max(recipes(folder), key=lambda path: path.stat().st_size)  # the others are of single operations
        content = kept.read_bytes()
        kept.unlink()
        return content

    assert len({written() for _ in range(4)}) == 1


def test_a_recipe_names_what_goes_in_and_what_comes_out() -> None:
    """All that another backend must know to be given the same arguments and cells."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    @cr.compile
    def step(batch: dict[str, cr.Tensor], rate: np.float32) -> cr.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch["images"]) * rate, batch["labels"])
        loss.backward()
        optimizer.step()
        return loss

    batch = {"images": cr.ones((5, 3)), "labels": cr.tensor([0, 1, 0, 1, 1])}
    for again in (False, True):  # made by the passes, and from the file
        code_cache.forget()
        program = (
            cr.compile(step.__wrapped__).prepare(batch, np.float32(1.0)) if again else step.prepare(batch, np.float32(1.0))
        )
        recipe = program._recipe  # type: ignore[attr-defined]
        given = {one.name: (one.dtype, one.shape) for one in recipe.inputs}
        assert len(given) == len(recipe.inputs)
        assert given["batch['images']"] == ("float32", (5, 3))
        assert given["batch['labels']"] == ("int64", (5,))
        assert given["rate"] == ("float32", ())
        assert given["0.weight"] == ("float32", (4, 3))
        assert given["1.running_var"] == ("float32", (4,))
        left = [one.name for one in recipe.outputs]
        assert {"0.weight", "2.bias", "1.running_mean"} <= set(left)
        assert [one.region for one in recipe.outputs if one.name == "0.weight"] == [
            one.region for one in recipe.inputs if one.name == "0.weight"
        ], "the new value lies where the old one lay"


def test_a_recipe_survives_as_bytes() -> None:
    x = leaf(TensorType((4, 6), float32))
    with ops.running_on(None):
        y = ops.multiply(ops.matmul(x, ops.transpose(x, axes=(1, 0))), leaf(np.arange(16, dtype=np.float32).reshape(4, 4)))
        graph = Graph(y, ops.sum_(y, axes=(1,)))
    made = planner.make_recipe(graph, [], TARGET, False)
    back = Recipe.decoded(made.encoded())
    assert back.encoded() == made.encoded()
    assert (back.regions, back.outputs, back.inputs, back.arena_bytes) == (
        made.regions,
        made.outputs,
        made.inputs,
        made.arena_bytes,
    )
    assert [call.kernel.name for stage in back.stages for call in stage] == [
        call.kernel.name for stage in made.stages for call in stage
    ]


def test_constants_that_the_passes_made_are_in_the_recipe(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def value() -> np.ndarray:
        x = leaf(TensorType((3,), float32))
        with ops.running_on(None):
            numbers = ops.gather(
                leaf(np.array([5.0, 7.0, 9.0], np.float32)), leaf(np.array([2, 0, 1], np.int64)), axis=0
            )  # known while compiling
            program = Program(Graph(ops.add(x, numbers)))
        program.bind(x, np.ones(3, np.float32))
        program.run()
        return program.output(0).copy()

    first = value()
    monkeypatch.setattr(planner, "make_recipe", no_passes)
    np.testing.assert_array_equal(value(), first)
    np.testing.assert_array_equal(first, [10, 6, 8])


def graph_of(
    shape: Sequence[int] = (3, 4), dtype: object = float32, axes: Sequence[int] = (0,), number: float = 2.0, label: str = ""
) -> tuple[Graph, Node]:
    x = leaf(TensorType(tuple(shape), dtype), label=label)  # type: ignore[arg-type]
    with ops.running_on(None):
        total = ops.sum_(ops.multiply(x, x), axes=tuple(axes))
        return Graph(ops.multiply(total, ops.full(total.type, number))), x


def test_the_name_tells_all_that_a_program_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def name(graph_and_leaf: tuple[Graph, Node], target: object = TARGET, state: bool = False, lent: bool = False) -> str:
        graph, x = graph_and_leaf
        return recipe_name(graph, [(x, 0)] if state else [], target, lent)  # type: ignore[arg-type]

    assert name(graph_of()) == name(graph_of())
    different = [
        name(graph_of()),
        name(graph_of(shape=(4, 3))),
        name(graph_of(dtype=float64)),
        name(graph_of(axes=(1,))),
        name(graph_of(number=3.0)),
        name(graph_of(label="weight")),
        name(graph_of(), replace(TARGET, cpu="other")),
        name(graph_of(), state=True),
        name(graph_of(), lent=True),
    ]
    monkeypatch.setattr("chainrule.cpu.recipe.versions", lambda: ("other",))
    different.append(name(graph_of()))
    assert len(set(different)) == len(different)


def test_the_line_of_the_program_is_part_of_what_is_shown() -> None:
    x = leaf(TensorType((3,), float32))
    with ops.running_on(None):
        one = Graph(ops.exp(x))
        other = Graph(ops.exp(x))
    assert recipe_name(one, [], TARGET, False) != recipe_name(other, [], TARGET, False)
    assert recipe_name(one, [], TARGET, True) == recipe_name(other, [], TARGET, True)


@pytest.mark.parametrize("damage", ["removed code", "half a recipe", "all removed"])
def test_what_is_missing_is_made_again(folder: Path, damage: str) -> None:
    run = training()
    weights, loss, _ = run()
    code_cache.forget()
    for file in folder.iterdir():
        if damage == "all removed" or (damage == "removed code" and file.name.startswith("loops")):
            file.unlink()
        elif damage == "half a recipe" and file.suffix == ".json":
            file.write_bytes(file.read_bytes()[:-20])
    again = run()
    assert np.array_equal(again[0], weights)
    assert again[1] == loss


def test_too_little_memory_is_refused_from_a_recipe_too() -> None:
    @cr.compile
    def enough(x: Tensor) -> Tensor:
        return ((x @ x) @ x).sum()

    x = cr.tensor(np.ones((50, 50), np.float32))
    enough(x)
    for _ in range(2):
        with pytest.raises(cr.UserError, match=r"(?s)needs [\d,]+ bytes, max_memory allows 100.*matmul"):
            cr.compile(enough._function, max_memory=100)(x)


def test_a_second_process_gives_the_same_bits_without_a_pass(folder: Path) -> None:
    program = (
        "import sys, hashlib; sys.path.insert(0, 'tests')\n"
        "from small_training import training\n"
        "weights, loss, _ = training()()\n"
        "print(hashlib.sha256(weights.tobytes()).hexdigest(), loss, 'chainrule.compiler.fuse' in sys.modules)\n"
    )
    root = Path(__file__).parents[1]
    environment = {**os.environ, "CHAINRULE_CACHE": str(folder)}
    found = [
        subprocess.run(
            [sys.executable, "-c", program], cwd=root, env=environment, capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(2)
    ]
    assert found[0][:2] == found[1][:2]
    assert [one[2] for one in found] == ["True", "False"]
