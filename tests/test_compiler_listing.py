"""The passes can be looked at: each prints what it left, and a program the code of its kernels."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import chainrule as cr
from chainrule import UserError, nn, optim
from chainrule.compiler.listing import nest
from chainrule.compiler.nest import Access, Instruction, Nest, Reduction, Store
from chainrule.cpu.planner import ALL_PASSES

NAMES = [one.name for one in ALL_PASSES]


def step_of(show: str | None = None) -> tuple[cr.tensor, ...]:  # type: ignore[valid-type]
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 3))
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    @cr.compile(show=show)
    def step(images: cr.Tensor, labels: cr.Tensor) -> cr.Tensor:
        optimizer.zero_grad()
        error = nn.functional.cross_entropy(model(images), labels)
        error.backward()
        optimizer.step()
        return error

    return step, np.ones((2, 1, 8, 8), np.float32), np.array([0, 1])


def sections(printed: str) -> dict[str, str]:
    """What is shown after each pass, by its name."""
    parts = printed.split("---- after ")[1:]
    return {one.split(":")[0]: one for one in parts}


def test_all_passes_are_rows_of_one_list() -> None:
    assert NAMES == ["simplify", "widen", "layout", "fuse", "lower", "schedule", "stages", "memory"]
    step, *batch = step_of()
    assert [one.name for one in step.prepare(*batch).passes] == NAMES


def test_everything_that_passes_leave_is_shown_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    step, *batch = step_of("all")
    step(*batch)
    shown = sections(capsys.readouterr().err)
    assert list(shown) == NAMES
    assert "conv2d" in shown["simplify"]
    assert "images" in shown["simplify"]
    assert "axes lie as (0, 2, 3, 1)" in shown["layout"]
    assert "cluster 0, heavy: " in shown["fuse"]
    assert "loops over 2 x 4 x 6 x 6" in shown["fuse"]
    assert "conv2d[strides 144 x 1 x 24 x 4] = conv2d(images[strides 64 x 64 x 8 x 1], 0.weight[" in shown["lower"]
    assert "v4 = maximum(" in shown["lower"]
    assert "gathers the sum of v" in shown["lower"]
    assert "lies over 0.weight" in shown["schedule"]
    assert "stage 0: " in shown["stages"]
    assert "loops_" in shown["stages"]
    assert "stages 0 to " in shown["memory"]


def test_only_what_is_asked_for_is_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    step, *batch = step_of("fuse, lower")
    step.prepare(*batch)
    assert list(sections(capsys.readouterr().err)) == ["fuse", "lower"]
    monkeypatch.setenv("CHAINRULE_SHOW", "memory")
    step, *batch = step_of()
    step.prepare(*batch)
    assert list(sections(capsys.readouterr().err)) == ["memory"]
    monkeypatch.delenv("CHAINRULE_SHOW")
    step, *batch = step_of()
    step.prepare(*batch)
    assert capsys.readouterr().err == ""


def test_a_pass_that_there_is_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    step, *batch = step_of("fuze")
    with pytest.raises(UserError, match=r"^unknown pass 'fuze': did you mean 'fuse'\? Known: all, fuse, layout, lower, memory"):
        step.prepare(*batch)
    monkeypatch.setenv("CHAINRULE_SHOW", "lowr")
    step, *batch = step_of()
    with pytest.raises(UserError, match=r"^unknown pass \(CHAINRULE_SHOW\) 'lowr': did you mean 'lower'\?"):
        step.prepare(*batch)


def test_a_nest_is_shown_as_loops() -> None:
    one = Nest(
        (6, 1000),
        4,
        (
            Instruction("load", "float32", access=Access(1, "float32", 2, (1000, 1))),
            Instruction("constant", "float32", attributes=(("number", 2.0),)),
            Instruction("multiply", "float32", (0, 1)),
        ),
        (Store(2, Access(0, "float32", 0, (1, 6))),),
        (Reduction(2, "sum", Access(2, "float32", 0, (0, 1), unit_stride=1000)),),
    )
    assert nest(one, ["y", "x", "total"]) == [
        "for i < 6, 2 units of 4",
        "  for j < 1,000",
        "    v0 = x[1000 i + j + 2]  (float32)",
        "    v1 = constant() with number=2.0  (float32)",
        "    v2 = multiply(v0, v1)  (float32)",
        "    y[i + 6 j] = v2",
        "    total[j + 1000 unit] gathers the sum of v2",
    ]


def test_a_program_shows_the_code_of_its_kernels() -> None:
    step, *batch = step_of("memory")  # made now, not kept from before
    program = step.prepare(*batch)
    first = program.assembly(0)
    assert first == program.assembly(np.int64(0))
    assert "ret" in first
    matmul = program.assembly("matmul")
    assert "matmul_" in matmul
    assert matmul != first
    with pytest.raises(UserError, match=r"^assembly: no kernel is 'bogus': give a number or a part of one of these\n0 "):
        program.assembly("bogus")
    for wrong in (10_000, True, 1.5):
        with pytest.raises(UserError, match="assembly: no kernel is"):
            program.assembly(wrong)


def test_code_that_was_kept_by_another_process_says_how_to_see_it(tmp_path: object) -> None:
    program = """
import numpy as np, chainrule as cr
f = cr.compile(lambda x: (x @ x).exp())
program = f.prepare(np.ones((64, 64), np.float32))
try:
    print("code" if "matmul_" in program.assembly("matmul") else "none")
except cr.UserError as error:
    print(error)
"""

    def run() -> str:
        environment = dict(os.environ, CHAINRULE_CACHE=str(tmp_path))
        return subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert run() == "code\n"
    assert run() == (
        "assembly: this program was kept by an earlier process, without what its code was made from: set the environment "
        "variable CHAINRULE_CACHE to nothing, or CHAINRULE_SHOW=memory, and run again\n"
    )
