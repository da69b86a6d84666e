"""The recipes of CONTRIBUTING.md: a toy of each kind is added to a copy of the package, by the files that its recipe names and
no others, and used in a process of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

import chainrule

PACKAGE = Path(chainrule.__file__).parent
CONTRIBUTING = PACKAGE.parents[1] / "CONTRIBUTING.md"
Edit = Callable[[str], str]


class Toy(NamedTuple):
    """What is added to which file of the package, and a program that uses it and prints "works"."""

    files: dict[str, Edit]
    program: str


def new(text: str) -> Edit:
    """A file that there was not."""

    def write(before: str) -> str:
        assert not before, "the toy's file is there already"
        return text

    return write


def added(text: str) -> Edit:
    """At the end of a file."""
    return lambda before: before + text


def in_front_of(mark: str, text: str) -> Edit:
    """Before the first place where ``mark`` stands."""

    def edit(before: str) -> str:
        assert mark in before, f"{mark!r} is not there any more"
        return before.replace(mark, text + mark, 1)

    return edit


def both(*edits: Edit) -> Edit:
    def edit(before: str) -> str:
        for one in edits:
            before = one(before)
        return before

    return edit


CHOICE = """    from chainrule.cpu.codegen.availability import obstacle

    if obstacle() is not None:
        from chainrule.cpu import unavailable

        return unavailable
    from chainrule.cpu import interface
"""
"""What ``tensor/backend.py`` says of the backend that there is."""

TOYS = {
    "A primitive": Toy(
        {
            "ops/elementwise.py": added(
                """

cube: Primitive = Primitive(
    "cube",
    Role.SCALER,
    "z = x^3: (...) -> (...).",
    _float("cube"),
    lambda x: x * x * x,
    (lambda z, u: multiply(u, scaled(multiply(_x(z), _x(z)), 3.0)),),
    ("3 x^2",),
    (0,),
    _ONE_ROWS,
    elementwise=True,
)
"""
            ),
            "ops/__init__.py": added("\n\nfrom chainrule.ops.elementwise import cube  # noqa: E402\n"),
            "cpu/kernels/emitters.py": in_front_of(
                '    "divide": lambda', '    "cube": lambda f, x, instruction, dtypes: x[0] * x[0] * x[0],\n'
            ),
        },
        """
import numpy as np, chainrule as cr
from chainrule import ops
from chainrule.tensor import Tensor
x = np.linspace(-2, 2, 1001, dtype=np.float32)
def f(x):
    x.requires_grad_()
    y = Tensor(ops.cube(x.node))
    y.sum().backward()
    return y, x.grad
compiled = cr.compile(f)
y, slope = compiled(x)
np.testing.assert_allclose(y.numpy(), x**3, rtol=1e-6)
np.testing.assert_allclose(slope.numpy(), 3 * x**2, rtol=1e-6)
kernels = [call.kernel.family for stage in compiled.program._recipe.stages for call in stage]
assert set(kernels) == {"loops"}, kernels
with cr.engine("reference"):
    np.testing.assert_allclose(f(cr.tensor(x))[0].numpy(), x**3, rtol=1e-6)
""",
    ),
    "A kernel family": Toy(
        {
            "ops/move.py": added(
                """

from chainrule.ops.primitive import Blocked  # noqa: E402

mirror: Primitive = Primitive(
    "mirror",
    Role.BLOCKER,
    "z = x, the last element first: (n) -> (n).",
    shape=lambda x: x,
    reference=lambda x: x[::-1].copy(),
    vjp=Blocked("a toy"),
    local=("0",),
    saves=(),
    spec=rows(Spec(((5,),))),
    heavy=True,
)
"""
            ),
            "ops/__init__.py": added("\n\nfrom chainrule.ops.move import mirror  # noqa: E402\n"),
            "cpu/kernels/mirroring.py": new(
                """\"\"\"The toy: a vector, the last element first.\"\"\"

from __future__ import annotations

from chainrule.cpu.codegen.emit import Module
from chainrule.cpu.codegen.target import Target
from chainrule.cpu.kernel import Kernel, KernelStep, KernelSteps


def mirror(target: Target, size: int) -> KernelSteps:
    kernel = Kernel("mirror", str(size), lambda target, name: _generate(target, name, size), units=size, bytes=8 * size)
    return KernelSteps([KernelStep(kernel, ("x", "out"))])


def _generate(target: Target, name: str, size: int) -> Module:
    module = Module(target.vector_bits, target.has_fma)
    f = module.function(name, [("ptr", "args"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")])
    x, out = (f.load(f.at(f["args"], i, "ptr"), "ptr") for i in range(2))
    with f.loop(f["begin"], f["end"]) as unit:
        f.store(f.load(f.at(x, unit, "float"), "float"), f.at(out, f.index(size - 1) - unit, "float"))
    return module
"""
            ),
            "cpu/kernels/operations.py": both(
                in_front_of("Operands = dict", "from chainrule.cpu.kernels import mirroring\n\n"),
                added(
                    """
_TABLE[ops.mirror] = lambda task, target: (
    mirroring.mirror(target, task.node.size),
    {"x": task.inputs[0], "out": task.output},
)
"""
                ),
            ),
        },
        """
import numpy as np, chainrule as cr
from chainrule import ops
from chainrule.tensor import Tensor
x = np.arange(7, dtype=np.float32)
compiled = cr.compile(lambda x: Tensor(ops.mirror((x * 2).node)))
assert compiled(x).tolist() == (2 * x[::-1]).tolist()
assert "mirror" in {call.kernel.family for stage in compiled.program._recipe.stages for call in stage}
""",
    ),
    "A pass": Toy(
        {
            "compiler/renaming.py": new(
                """\"\"\"Pass: a toy that counts nodes.\"\"\"

from chainrule.graph import Graph


def count(graph: Graph) -> tuple[Graph, int]:
    return graph, len(graph)
"""
            ),
            "compiler/pipeline.py": added(
                "\nfrom chainrule.compiler.renaming import count  # noqa: E402\n"
                '\nPASSES.insert(2, _over_graph("count", count))\n'
            ),
        },
        """
import numpy as np, chainrule as cr
program = cr.compile(lambda x: x.exp() + 1).prepare(np.ones(3, np.float32))
assert [one.name for one in program.passes][:4] == ["simplify", "widen", "count", "layout"]
assert str(program.passes[2]).startswith("count: ")
""",
    ),
    "A layer": Toy(
        {
            "nn/functional/activations.py": added(
                """

@on_tensors
def doubled(x: Tensor) -> Tensor:
    \"\"\"2 x.\"\"\"
    return x * 2
"""
            ),
            "nn/functional/__init__.py": both(
                in_front_of(
                    "from chainrule.nn.functional.convolution", "from chainrule.nn.functional.activations import doubled\n"
                ),
                in_front_of('    "dropout",', '    "doubled",\n'),
            ),
            "nn/layers/activations.py": added(
                """

class Doubled(Module):
    \"\"\"2 x.\"\"\"

    def forward(self, x: Tensor) -> Tensor:
        return F.doubled(x)
"""
            ),
            "nn/__init__.py": both(
                in_front_of("from chainrule.nn.layers.convolution", "from chainrule.nn.layers.activations import Doubled\n"),
                in_front_of('    "Dropout",', '    "Doubled",\n'),
            ),
        },
        """
import numpy as np, chainrule as cr
from chainrule import nn
assert nn.Sequential(nn.Doubled(), nn.ReLU())([[-1.0, 2.0]]).tolist() == [[0.0, 4.0]]
assert nn.functional.doubled([1.0]).tolist() == [2.0]
try:
    nn.Doubled(3)
except cr.UserError as error:
    print(error)
assert "Doubled" in dir(nn)
""",
    ),
    "An optimizer": Toy(
        {
            "optim/sgd.py": added(
                """

class SignSGD(Optimizer):
    \"\"\"w <- w - lr sign(g).\"\"\"

    def __init__(self, params: Iterable[Any], lr: float = 1e-2) -> None:
        super().__init__(params, {"lr": lr})

    def _update(self, group: Any, parameter: Any, gradient: Any) -> None:
        parameter.assign(parameter - (gradient.sign() * group["lr"]).astype(parameter.dtype))
"""
            ),
            "optim/__init__.py": both(
                in_front_of("from chainrule.optim.sgd", "from chainrule.optim.sgd import SignSGD\n"),
                in_front_of('    "StepLR",', '    "SignSGD",\n'),
            ),
            "train/optimization.py": in_front_of(
                '    "rmsprop": Kind(', '    "signsgd": Kind(0.001, 0, lambda c, p: optim.SignSGD(p, c.peak_lr)),\n'
            ),
        },
        """
import numpy as np, chainrule as cr
from chainrule import optim, train
from chainrule.models import build
from chainrule.train.optimization import make_optimizer
w = cr.Parameter([1.0, -1.0])
optimizer = optim.SignSGD([w], lr=0.5)
(w * w).sum().backward()
optimizer.step()
assert w.tolist() == [0.5, -0.5], w
made = make_optimizer(train.Config(optimizer="signsgd"), build("mlp", 1, 10, (4, 4)))
assert type(made).__name__ == "SignSGD" and made.lr == 0.001, made
""",
    ),
    "A model": Toy(
        {
            "models/linear.py": new(
                """\"\"\"The toy: one matrix.\"\"\"

from __future__ import annotations

from chainrule import nn


def linear(num_classes: int = 10, channels: int = 1, size: tuple[int, int] = (28, 28)) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], num_classes))
"""
            ),
            "models/catalogue.py": both(
                in_front_of("from chainrule.models.mlp", "from chainrule.models.linear import linear\n"),
                in_front_of(
                    '    "lenet": Entry(',
                    '    "linear": Entry(linear, _DIGIT, 10, 1, 7_850, 7_840, None, "nobody", sized=True),\n',
                ),
            ),
            "models/__init__.py": both(
                in_front_of("from chainrule.models.mlp", "from chainrule.models.linear import linear\n"),
                in_front_of('    "mlp",', '    "linear",\n'),
            ),
        },
        """
import subprocess, sys
from chainrule.models import build
assert build("linear", 1, 3, (4, 4)).summary((1, 1, 4, 4)).parameters == 51
shown = subprocess.run([sys.executable, "-m", "chainrule", "summary", "linear"], capture_output=True, text=True, check=True)
assert "7,850" in shown.stdout, shown
""",
    ),
    "A data source": Toy(
        {
            "data/checkers.py": new(
                """\"\"\"The toy: black and white images.\"\"\"

from __future__ import annotations

import numpy as np

from chainrule.data.dataset import ArrayDataset


def checkers(split: str) -> ArrayDataset:
    images = np.zeros((20, 28, 28), np.uint8)
    images[1::2] = 255
    return ArrayDataset(images, np.arange(20) % 2, ["black", "white"], f"checkers {split}")
"""
            ),
            "data/named.py": both(
                in_front_of("from chainrule.data.cifar", "from chainrule.data.checkers import checkers\n"),
                in_front_of("_IDX_PREFIXES =", "KNOWN['checkers'] = checkers\n"),
            ),
            "data/__init__.py": added("\n\nfrom chainrule.data.checkers import checkers  # noqa: E402\n"),
        },
        """
import subprocess, sys, tempfile
from chainrule import data
assert len(data.load_dataset("checkers")) == len(data.checkers("test")) == 20
with tempfile.TemporaryDirectory() as folder:
    command = [sys.executable, "-m", "chainrule", "train", "--data", "checkers", "--model", "mlp", "--epochs", "1", "--out"]
    shown = subprocess.run([*command, folder + "/run"], capture_output=True, text=True)
    assert shown.returncode == 0, shown
    assert "100.00%" in shown.stdout, shown
""",
    ),
    "A subcommand": Toy(
        {
            "cli/commands/names.py": new(
                """\"\"\"The toy: a subcommand that prints names.\"\"\"

from __future__ import annotations

from chainrule.cli.app import app


@app.command()
def names() -> None:
    \"\"\"The names of the models.\"\"\"
    from chainrule.cli.tables import list_models

    list_models()
"""
            ),
            "cli/commands/__init__.py": added("from chainrule.cli.commands import names as names\n"),
            "cli/tables.py": added(
                """

def list_models() -> None:
    from chainrule.models import MODELS

    console().print(", ".join(MODELS))
"""
            ),
        },
        """
import subprocess, sys
shown = subprocess.run([sys.executable, "-m", "chainrule", "names"], capture_output=True, text=True, check=True)
assert shown.stdout.startswith("mlp, lenet, "), shown
""",
    ),
    "A backend": Toy(
        {
            "slow/interface.py": new(
                """\"\"\"The toy: a backend that lets NumPy compute a graph, node by node.\"\"\"

from __future__ import annotations

import numpy as np

from chainrule import ops
from chainrule.graph import leaf


class Program:
    passes, may_refuse = (), False

    def __init__(self, graph, state):
        self._graph, self._state, self._memory = graph, state, {}

    def needs(self, leaf):
        return leaf in set(self._graph.leaves) | {old for old, _ in self._state}

    def bind(self, leaf, array):
        self._memory[leaf] = array

    def run(self):
        values = {}
        for node in self._graph.nodes:
            if node.is_leaf:
                values[node] = self._memory[node].copy() if node in self._memory else node.value
            else:
                inputs = [values[one] for one in node.inputs]
                values[node] = ops.run_reference(node.operation, inputs, node.attributes, node.type)
        self._outputs = [values[node] for node in self._graph.outputs]
        for old, number in self._state:
            self._memory[old][...] = self._outputs[number]

    def output(self, number):
        return self._outputs[number]


def compile_graph(graph, state, max_memory, show):
    return Program(graph, state)


def obstacle():
    return None


def run_single(primitive, values, attributes):
    return None


class _StandIn:
    def __init__(self, value):
        self.leaf = self.node = leaf(type(leaf(value).type)(value.shape, value.dtype))


stand_in = _StandIn


class _Lent:
    def run(self, values):
        return None


def lent_program(outputs, stand_ins, **_):
    return _Lent()


def zeros(type_, present):
    return np.zeros(*type_)


def return_idle():
    pass


def set_threads(count):
    pass


def thread_count():
    return 1
"""
            ),
            "tensor/backend.py": lambda before: before.replace(CHOICE, "    from chainrule.slow import interface\n"),
        },
        """
import sys
import numpy as np, chainrule as cr
from chainrule import nn, optim
def trained(compile):
    cr.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3))
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    def step(images, labels):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss
    run = cr.compile(step) if compile else step
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((4, 1, 8, 8)).astype(np.float32), np.array([0, 1, 2, 0])
    for _ in range(4):
        loss = run(cr.tensor(images), cr.tensor(labels))
    return [loss.item(), *(one.numpy() for one in model.parameters())]
for ours, plain in zip(trained(True), trained(False)):
    np.testing.assert_allclose(ours, plain, rtol=1e-6)
assert cr.thread_count() == 1
assert not any(name.startswith(("chainrule.cpu", "llvmlite")) for name in sys.modules)
""",
    ),
}


def recipes() -> dict[str, list[str]]:
    """The files that each recipe names, by what it adds: with <family> and the like for what is new."""
    text = CONTRIBUTING.read_text(encoding="utf-8").partition("## How to")[2]
    found = {}
    for bullet in re.split(r"^- ", text, flags=re.MULTILINE)[1:]:
        name, _, rest = bullet.partition(":")
        of_the_package = [one for one in re.findall(r"`([^`\s]+\.py)`", rest) if not one.startswith(("tests/", "scripts/"))]
        found[name.strip("*")] = [one for one in of_the_package if one not in ("cpu/kernel.py", "cpu/recipe.py")]  # to be read
    return found


def test_each_kind_of_thing_that_is_added_has_a_recipe_and_a_toy() -> None:
    assert set(TOYS) <= set(recipes())
    assert {"A primitive", "A kernel family", "A layer", "An optimizer", "A data source", "A subcommand", "A backend"} <= set(
        TOYS
    )


@pytest.mark.parametrize("kind", TOYS)
def test_a_recipe_names_every_file_that_changes_and_no_other(kind: str) -> None:
    patterns = [re.escape(one).replace("<", "(?P<").replace(">", ">[a-z_]+)") for one in recipes()[kind]]
    named = [re.sub(r"\(\?P<\w+>", "(", one) for one in patterns]
    for file in TOYS[kind].files:
        assert any(re.fullmatch(one, file) for one in named), f"{file} changes, which the recipe does not name"
    for pattern in named:
        assert any(re.fullmatch(pattern, file) for file in TOYS[kind].files), f"the recipe names {pattern} in vain"


@pytest.mark.parametrize("kind", TOYS)
def test_what_a_recipe_adds_works(kind: str, tmp_path: Path) -> None:
    copy = tmp_path / "chainrule"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for name, edit in TOYS[kind].files.items():
        file = copy / name
        file.parent.mkdir(exist_ok=True)
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        after = edit(before)
        assert after != before, f"nothing changed in {name}"
        file.write_text(after, encoding="utf-8")
    environment = dict(os.environ, PYTHONPATH=str(tmp_path), CHAINRULE_CACHE=str(tmp_path / "cache"))
    program = TOYS[kind].program + "\nprint('works')\n"
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert ran.stdout.endswith("works\n"), ran.stdout + ran.stderr
