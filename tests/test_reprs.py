"""What objects show of themselves: every public class of the package, held to the same rules; and the tables."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import data, formats, graph, lens, models, nn, ops, optim, train
from chainrule.compiler.report import PassReport, PassReports
from chainrule.cpu.runtime.limits import Limits
from chainrule.cpu.runtime.profile import KernelRow, ProgramProfile
from chainrule.cpu.runtime.program import ArenaPlan, ArenaRow, Program
from chainrule.grad import Difference, Gradcheck, LocalKind
from chainrule.graph.tables import Contents, Table
from chainrule.nn.summary import Field, LayerSummary, Summary
from chainrule.optim.optimizer import Group
from chainrule.tensor import Cell, CompiledFunction, Trace
from chainrule.tensor.random import Generator
from chainrule.tensor.update import Updates
from chainrule.train.checkpoint import Progress, Sums
from chainrule.train.diagnosis.health import judged as judged_health
from chainrule.train.diagnosis.health_record import read_health
from chainrule.train.diagnosis.step_again import PullingImage
from chainrule.train.diagnosis.suspects import Suspect
from chainrule.train.evaluation import Confusion
from chainrule.train.lr_finder import judged
from chainrule.train.run_record import RunRecord
from recordings import Recording

PARTS = ("data", "formats", "graph", "grad", "lens", "models", "nn", "ops", "optim", "tensor", "train")
RESULTS = {
    *(ArenaPlan, ArenaRow, Confusion, Field, Generator, Group, KernelRow, LayerSummary, Limits, PassReport, PassReports),
    *(Program, ProgramProfile, Progress, Summary, Sums),
}
"""What nobody imports, but gets from something public."""


def public_classes() -> set[type]:
    modules = [cr, *(importlib.import_module(f"chainrule.{part}") for part in PARTS)]
    named = [getattr(module, name) for module in modules for name in module.__all__]
    classes = {one for one in named if inspect.isclass(one)} | RESULTS
    without = {one for one in classes if issubclass(one, BaseException) or inspect.isabstract(one) or one is train.Watcher}
    return {one for one in classes - without if one.__module__.startswith("chainrule")}


# ---- an example of each

LARGE = np.random.default_rng(0).standard_normal((64, 3, 32, 32)).astype(np.float32)
ARGUMENTS: dict[type, tuple[Any, ...]] = {
    nn.AdaptiveAvgPool2d: (2,),
    nn.AvgPool2d: (2,),
    nn.BatchNorm1d: (8,),
    nn.BatchNorm2d: (8,),
    nn.Conv1d: (3, 8, 3),
    nn.Conv2d: (3, 8, 3),
    nn.ConvTranspose2d: (3, 8, 3),
    nn.GroupNorm: (2, 8),
    nn.LayerNorm: (8,),
    nn.Linear: (300, 200),
    nn.MaxPool2d: (2,),
    nn.ModuleList: ([nn.ReLU()],),
    nn.Sequential: (nn.Linear(3, 4), nn.ReLU()),
    nn.AdaptiveAvgPool1d: (4,),
    nn.AdaptiveMaxPool1d: (4,),
    nn.AdaptiveMaxPool2d: (4,),
    nn.AvgPool1d: (3,),
    nn.ChannelShuffle: (2,),
    nn.Conv3d: (3, 8, 3),
    nn.ConvTranspose1d: (3, 8, 3),
    nn.Embedding: (10, 4),
    nn.InstanceNorm1d: (8,),
    nn.InstanceNorm2d: (8,),
    nn.LocalResponseNorm: (5,),
    nn.MaxPool1d: (3,),
    nn.PixelShuffle: (2,),
    nn.PixelUnshuffle: (2,),
    nn.RMSNorm: (8,),
    nn.ReflectionPad2d: (1,),
    nn.ReplicationPad2d: (1,),
    nn.ZeroPad2d: (1,),
    nn.StochasticDepth: (0.1, "row"),
    nn.Unflatten: (1, (2, 4)),
    nn.Upsample: (None, 2),
}


def twice(images: Any, rng: Any) -> Any:
    """A transform of a user's."""
    return images


def run_record() -> RunRecord:
    return RunRecord("runs/a", train.Config(), [], [], 0.5, 1.0, 5, 10, 3.0, ["cat", "dog"], "", None, True)


class Examples:
    """One example of every public class, made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.w = cr.Parameter(LARGE)
        self.data = data.ArrayDataset(LARGE[:, 0], np.arange(64) % 4, name="noise")
        self.optimizer = optim.SGD([self.w], lr=0.1, momentum=0.9)

    def explanation(self) -> lens.Explanation:
        w = cr.tensor(LARGE[:2], requires_grad=True)
        return cr.explain((w * w).sum())

    def audited(self) -> lens.Audit:
        return cr.audit(lambda: (self.w[:2] * 2).sum())

    def program(self) -> Program:
        f = cr.compile(lambda x: ((x * self.w).exp().sum(3) @ self.w[0, 0]).mean())
        f(LARGE)
        return f.program

    def images(self) -> data.ImageFolder:
        from PIL import Image

        (self.folder / "cat").mkdir()
        Image.new("L", (8, 6)).save(self.folder / "cat" / "a.png")
        return data.image_folder(self.folder)

    def trainer(self) -> train.Trainer:
        tiny = data.ArrayDataset(np.zeros((8, 28, 28), np.uint8), np.arange(8) % 2)
        folder = train.RunFolder.new(self.folder / "run", train.Config(model="mlp"))
        return train.Trainer(folder, training=tiny, test=tiny)

    def health(self) -> train.Health:
        return judged_health("runs/lenet-mnist-1", read_health(Recording().write(self.folder / "health.bin")))

    def trained(self) -> train.TrainedModel:
        made = train.TrainedModel.__new__(train.TrainedModel)
        made.model, made.image_shape, made.classes = nn.Sequential(), (1, 28, 28), ["a", "b"]
        return made

    def weights(self) -> formats.WeightFile:
        models.lenet().save(self.folder / "lenet.safetensors")
        return formats.WeightFile(self.folder / "lenet.safetensors")

    def of(self, kind: type) -> Any:
        special: dict[type, Callable[[], Any]] = {
            ArenaPlan: lambda: self.program().plan(),
            ArenaRow: lambda: self.program().plan()[0],
            Confusion: lambda: Confusion("cat", 10, 0.5, (("dog", 5),)),
            Field: lambda: Field(3, 1),
            Generator: lambda: Generator(3),
            Group: lambda: self.optimizer.groups[0],
            KernelRow: lambda: KernelRow("loops", "here", 0, 0.1, 10, 10, 0.5, 1.0, False),
            LayerSummary: lambda: nn.Linear(3, 4).summary((1, 3)).rows[0],
            Limits: lambda: Limits({"float32": 1.0, "float64": 0.5}, ((8192, 10.0), (1 << 20, 5.0)), 2),
            PassReport: lambda: self.program().passes[0],
            PassReports: lambda: self.program().passes,
            Program: self.program,
            ProgramProfile: lambda: self.program().profile(1, self.of(Limits)),
            Progress: Progress,
            Summary: lambda: nn.Linear(3, 4).summary((1, 3)),
            Sums: Sums,
            cr.Buffer: lambda: cr.Buffer(LARGE),
            cr.Parameter: lambda: self.w,
            cr.Tensor: lambda: cr.tensor(LARGE) * 2,
            cr.engine: lambda: cr.engine("native"),
            cr.precision: lambda: cr.precision("float32"),
            data.ArrayDataset: lambda: self.data,
            data.ImageFolder: self.images,
            data.Loader: lambda: data.Loader(self.data, 10, transforms=[data.Normalize(0.5, 0.5), twice]),
            data.Normalize: lambda: data.Normalize([0.5] * 3, [0.5] * 3),
            data.RandomCrop: lambda: data.RandomCrop(24, padding=2),
            data.ColorJitter: lambda: data.ColorJitter(0.1, 0.2, 0.3),
            data.CutMix: data.CutMix,
            data.Cutout: lambda: data.Cutout(8),
            data.Mixup: data.Mixup,
            data.RandomErasing: data.RandomErasing,
            data.AlternatingFlip: data.AlternatingFlip,
            data.RandomFlip: data.RandomFlip,
            data.RandomResizedCrop: lambda: data.RandomResizedCrop(32),
            data.RandomShift: lambda: data.RandomShift(2),
            Gradcheck: lambda: cr.gradcheck(lambda x: (x * x).sum(), np.ones(3)),
            LocalKind: lambda: next(iter(LocalKind)),
            graph.Graph: lambda: (cr.tensor(LARGE, requires_grad=True) * 2).graph,
            graph.Node: lambda: self.w.node,
            graph.Observed: lambda: graph.Observed(self.w.node, 1),
            graph.Origin: lambda: self.w.node.origin,
            graph.Remembered: lambda: graph.Remembered.of(self.w.node),
            graph.Role: lambda: graph.Role.LEAF,
            graph.TensorType: lambda: self.w.type,
            graph.inside_module: lambda: graph.inside_module("features.0", "Conv2d"),
            graph.originating_from: lambda: graph.originating_from(self.w.node.origin),
            Difference: lambda: Difference(1.0, 1.1, 2.0, 1e-9, 5, 6),
            lens.Audit: self.audited,
            lens.AuditRow: lambda: self.audited().worst,
            lens.Edge: lambda: next(edge for row in self.explanation().rows for edge in row.edges),
            lens.Explanation: self.explanation,
            lens.ExportedPage: lambda: lens.ExportedPage("a run", "<p>" * 100_000),
            lens.LayerRows: lambda: self.explanation().layers[0],
            formats.Converted: lambda: formats.Converted(Path("a.safetensors"), 2, 10, ("float32",)),
            formats.WeightFile: self.weights,
            models.Entry: lambda: models.MODELS["lenet"],
            models.Fit: lambda: models.nearest_model(self.weights()),
            models.Loaded: lambda: models.load_weights(models.lenet(), self.weights()),
            lens.Row: lambda: self.explanation().rows[0],
            lens.Step: lambda: lens.Step(LARGE, LARGE, LARGE),
            lens.Summand: lambda: lens.Summand("h1", LARGE),
            nn.Module: nn.Module,
            ops.Application: lambda: ops.Application((self.w.type,), ("x",)),
            ops.Custom: lambda: ops.Custom.named("rounded", "", lambda node, upstream: [upstream]),
            ops.Blocked: lambda: ops.REGISTRY["sign"].vjp,
            ops.EachInput: lambda: ops.REGISTRY["concatenate"].vjp,
            ops.Primitive: lambda: ops.add,
            ops.Spec: lambda: ops.add.spec[0],
            optim.CosineAnnealingLR: lambda: optim.CosineAnnealingLR(self.optimizer, 100),
            optim.CosineAnnealingWarmRestarts: lambda: optim.CosineAnnealingWarmRestarts(self.optimizer, 10, 2),
            optim.CyclicLR: lambda: optim.CyclicLR(self.optimizer, 0.1, 0.5, scale_fn=abs),
            optim.EMA: lambda: optim.EMA(nn.Linear(300, 200)),
            optim.ExponentialLR: lambda: optim.ExponentialLR(self.optimizer, 0.9),
            optim.LambdaLR: lambda: optim.LambdaLR(self.optimizer, lambda step: 0.9**step),
            optim.MultiStepLR: lambda: optim.MultiStepLR(self.optimizer, [30, 60]),
            optim.OneCycleLR: lambda: optim.OneCycleLR(self.optimizer, 0.5, 100),
            optim.SequentialLR: lambda: optim.SequentialLR(
                self.optimizer, [optim.LinearLR(self.optimizer), optim.StepLR(self.optimizer, 30)], [5]
            ),
            optim.StepLR: lambda: optim.StepLR(self.optimizer, 30),
            CompiledFunction: lambda: cr.compile(twice),
            Cell: lambda: Cell(LARGE),
            Trace: Trace,
            train.BadNode: lambda: train.first_bad_node(lambda x: (self.w * x).sum(), np.full(LARGE.shape, np.inf, np.float32)),
            train.Comparison: lambda: train.Comparison([run_record()], {}, []),
            train.Capsule: lambda: train.Capsule(
                train.Config(), ["a", "b"], 3, 0, 2, "the loss became nan", "photos", np.arange(2), LARGE[:2], np.arange(2), {}
            ),
            train.Config: train.Config,
            train.Evaluation: lambda: train.Evaluation(
                0.5, np.eye(100, dtype=np.int64) + 1, [f"class {i}" for i in range(100)]
            ),
            train.Finding: lambda: train.Finding("labels-count", "layer fc", "there are 10 scores", "make it with 3 outputs"),
            train.Findings: lambda: train.Findings([self.of(train.Finding)]),
            train.Health: self.health,
            train.Prediction: lambda: train.Prediction("a.png", (("cat", 0.9), ("dog", 0.1))),
            train.RateSweep: lambda: judged(np.geomspace(1e-4, 10, 300), np.linspace(2, 1, 300), 0.1),
            train.RunFolder: lambda: train.RunFolder(self.folder / "run", train.Config()),
            train.StepReport: lambda: train.StepReport(1, 10, 0, 0.5, 0.5, 100.0, 3.0),
            train.StepAgain: lambda: train.StepAgain(
                3, 1, 3, 0.5, 0.01, (PullingImage(7, "cat", 2.5),) * 50, "mnist train", ""
            ),
            train.Suspects: lambda: train.Suspects((Suspect(7, "7", 0, 1, "cat", "dog", 0.9, 2.5, 3.5),) * 50, 60_000, "loss"),
            train.TrainedModel: self.trained,
            train.Trainer: self.trainer,
            Updates: Updates,
        }
        if kind in special:
            return special[kind]()
        if issubclass(kind, optim.Optimizer):
            return kind([self.w])
        if issubclass(kind, optim.Schedule):
            return kind(self.optimizer)
        assert issubclass(kind, nn.Module), f"{kind.__name__} is a new public class: give it an example here"
        return kind(*ARGUMENTS.get(kind, ()))


@pytest.fixture
def examples(tmp_path: Path) -> Examples:
    return Examples(tmp_path)


# ---- the rules


def large(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return any(dataclasses.is_dataclass(one) or large(one) for one in value)
    return isinstance(value, np.ndarray | graph.Node)


@pytest.mark.parametrize("kind", sorted(public_classes(), key=lambda one: one.__qualname__), ids=lambda one: one.__name__)
def test_what_a_public_class_shows(kind: type, examples: Examples) -> None:
    example = examples.of(kind)
    assert type(example) is kind
    for shown in (repr(example), str(example)):
        assert not re.search(r" at 0x[0-9a-f]+", shown), "an address tells nobody anything"
        assert len(shown) <= 2_500
        assert "array(" not in shown, "numbers of an array are what a tensor shows, not what holds one"
    if dataclasses.is_dataclass(kind):
        held = [getattr(example, field.name) for field in dataclasses.fields(kind) if field.repr]
        dumped = hasattr(kind.__repr__, "__wrapped__")  # by dataclasses
        assert not (dumped and any(map(large, held))), "what holds arrays, nodes or rows needs a repr of its own"
    if isinstance(example, Table):
        assert repr(example) == str(example)
        html = example._repr_html_()
        assert html.count("<table>") == html.count("</table>") == 1
        assert html.count("<tr>") == html.count("</tr>") >= 2


def test_what_people_print_are_tables() -> None:
    tables = (ArenaPlan, Limits, PassReports, ProgramProfile, Summary, Gradcheck)
    tables += (lens.Audit, train.Evaluation, train.Health, train.RateSweep, train.StepAgain, train.Suspects)
    assert all(issubclass(one, Table) for one in tables)


def test_whoever_subclasses_shows_no_address_either() -> None:
    class Own(optim.Schedule):
        def values(self, step: int, group: Group) -> dict[str, float]:
            return {"lr": 0.5}

    class Images(data.Dataset):
        name, classes, labels, image_shape = "own", ["a"], np.zeros(2, np.int64), (1, 4, 4)

        def images(self, indices: Any) -> Any:
            return np.zeros((len(indices), 1, 4, 4), np.float32)

    assert repr(Own(optim.SGD([cr.Parameter([1.0])]))) == "Own(steps=0, lr=0.5)"
    assert repr(data.Loader(Images(), 2, shuffle=False)) == (
        "<Loader of <Images own: 2 images 1×4×4, 1 classes>: 1 batches of 2, the last may be smaller, in order, "
        "transforms [], 2 workers, next is batch 0 of epoch 0>"
    )


# ---- what they say


def test_reprs_by_heart(examples: Examples, tmp_path: Path) -> None:
    optimizer, schedule = examples.optimizer, examples.of(optim.StepLR)
    for _ in range(31):
        schedule.step()
    loader = examples.of(data.Loader)
    next(iter(loader))
    for shown, expected in (
        (schedule, "StepLR(step_size=30, gamma=0.1, steps=31, lr=0.01)"),
        (
            examples.of(optim.SequentialLR),
            "SequentialLR(schedules=[LinearLR(start_factor=0.3333333333333333, end_factor=1.0, total_iters=5, steps=0, "
            "lr=0.0333333), StepLR(step_size=30, gamma=0.1, steps=0, lr=0.1)], milestones=[5], steps=0, lr=0.0333333)",
        ),
        (
            loader,
            "<Loader of <ArrayDataset noise: 64 images 1×32×32, 4 classes>: 7 batches of 10, the last may be smaller, shuffled "
            "with seed 0, transforms [Normalize(mean=(0.5,), std=(0.5,)), twice], 0 workers, next is batch 1 of epoch 0>",
        ),
        (cr.engine("native"), "engine('native')"),
        (Generator(3), "Generator(seed=3, counter=0)"),
        (train.RunFolder("runs/a", train.Config()), "RunFolder('runs/a')"),
        (lens.Summand("h1", LARGE[0, 0, :1, :2]), "<Summand [[0.125730, -0.132105]] from h1>"),
    ):
        assert re.sub(r"\[\[.*\]\]", "[[...]]", repr(shown)) == re.sub(r"\[\[.*\]\]", "[[...]]", expected)
    assert re.fullmatch(
        r"<Program of \d+ kernels in \d+ stages for \w+, [\d,]+ bytes of values in between>", repr(examples.program())
    )
    assert repr(optimizer.groups[0]) == (
        "Group(lr=0.03333333333333333, momentum=0.9, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False, "
        "1 parameters)"
    )


def test_a_compiled_function_tells_its_programs_and_tracings() -> None:
    f = cr.compile(lambda x: x + 1)
    name = "test_a_compiled_function_tells_its_programs_and_tracings.<locals>.<lambda>"
    assert repr(f) == f"<CompiledFunction {name}: 0 programs, traced 0 times>"
    f(np.ones(2, np.float32))
    f(np.ones(2, np.float32))
    f(np.ones(3, np.float32))
    assert repr(f) == f"<CompiledFunction {name}: 2 programs, traced 2 times>"
    model = nn.Linear(2, 2)
    assert repr(cr.compile(model)) == "<CompiledFunction Linear: 0 programs, traced 0 times>"


def test_an_optimizer_shows_all_its_groups_also_while_tracing() -> None:
    w, v = cr.Parameter([1.0]), cr.Parameter([2.0])
    optimizer = optim.SGD([{"params": [w]}, {"params": [v], "lr": 0.5}], lr=0.1)
    expected = (
        "SGD(\n  Group(lr=0.1, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False, 1 parameters)\n"
        "  Group(lr=0.5, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False, 1 parameters)\n)"
    )
    assert repr(optimizer) == expected
    assert (
        repr(optim.SGD([w], lr=0.1))
        == "SGD(lr=0.1, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False)"
    )

    @cr.compile
    def step(x: cr.Tensor) -> cr.Tensor:
        assert repr(optimizer) == expected
        return x

    step(np.ones(1, np.float32))


def test_a_gradcheck_prints_as_a_table() -> None:
    assert str(Gradcheck(2, 1.3e-9, 3)) == (
        "gradcheck: gradients, and the gradients of gradients, agree with finite differences\n"
        "order  largest relative error  elements at kinks\n"
        "-----  ----------------------  -----------------\n"
        "    2                 1.3e-09                  3"
    )


def test_an_evaluation_shows_the_worst_classes_first() -> None:
    confusion = np.array([[9, 1], [4, 6]])
    assert str(train.Evaluation(0.25, confusion, ["cat", "dog"])) == (
        "loss 0.2500, accuracy 75.00% of 20 images\n"
        "class  images  right, %  taken for\n"
        "-----  ------  --------  ---------\n"
        "dog        10     60.00  cat (4)\n"
        "cat        10     90.00  dog (1)"
    )


def test_a_plan_and_the_passes_are_rows_and_tables() -> None:
    plan = ArenaPlan([ArenaRow("conv1", 1_000, 0, 0, 1), ArenaRow("relu", 2_000, 1_024, 1, 2)])
    assert plan[1].label == "relu"
    assert str(plan) == (
        "2 values, 3,000 bytes in all, in 3,024 bytes of memory\n"
        "value  bytes  offset  first stage  last stage\n"
        "-----  -----  ------  -----------  ----------\n"
        "conv1  1,000       0            0           1\n"
        "relu   2,000   1,024            1           2"
    )
    passes = PassReports([PassReport("simplify", "3 changes", 0.0015)])
    assert str(passes) == (
        "what each pass of the compiler changed\npass      change      ms\n--------  ---------  ---\nsimplify  3 changes  1.5"
    )
    assert str(PassReports([PassReport("simplify", "3 changes", 0.0)])).endswith(
        "the program was kept from an earlier process, so the passes took no time"
    )


def test_a_table_escapes_what_it_is_given_and_counts_what_it_leaves_out() -> None:
    contents = Contents("<title>", ("<name> x", "a&b>"), [("<script>", str(i)) for i in range(5)], ["<note>"], most=3)
    html = contents.html()
    assert not re.search(r"<(title|name|script|note)>", html)
    assert html.count("&lt;script&gt;") == 3
    assert "&lt;title&gt;" in html
    assert "a&amp;b" in html
    assert "... and 2 more rows" in html
    assert '<td style="text-align:right">2</td>' in html
    assert contents.text() == (
        "<title>\n<name> x  a&b\n--------  ---\n<script>    0\n<script>    1\n<script>    2\n... and 2 more rows\n<note>"
    )
    assert Contents("none", ("a", "b>"), []).text() == "none\na  b\n-  -"
