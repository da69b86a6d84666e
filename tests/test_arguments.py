"""Whole numbers wherever a public call takes them: of Python and of NumPy alike, and nothing that is no whole number."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import UserError, nn
from chainrule.data import ArrayDataset, Loader
from chainrule.models import build
from chainrule.nn import functional as F
from chainrule.optim import SGD, CosineAnnealingLR, LinearLR, OneCycleLR, SequentialLR, StepLR
from chainrule.tensor import random
from chainrule.train import Config
from expected import cases

OTHER_INTEGERS: list[Callable[[int], Any]] = [np.int64, np.int32, np.int8, np.array, cr.tensor]
NO_INTEGERS: list[Any] = [True, np.True_, 2.0, np.float64(2), "2", 1j]


def takes_whole_numbers(parameter: inspect.Parameter) -> bool:
    return re.search(r"\bint\b|Size|Padding", str(parameter.annotation)) is not None


def with_other_integers(value: Any, kind: Callable[[int], Any]) -> Any:
    """``value`` with every integer in it as another kind of integer; None if it holds none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return kind(value)
    if isinstance(value, tuple | list) and value:
        members = [with_other_integers(one, kind) for one in value]
        return None if None in [one for one in members if not isinstance(one, cr.Tensor)] else type(value)(members)
    return None


def is_plain(value: Any) -> bool:
    """Whether nothing of NumPy is left in what a layer keeps of its arguments."""
    return not isinstance(value, np.integer | np.ndarray) and (
        not isinstance(value, tuple | list) or all(is_plain(one) for one in value)
    )


# ---- layers

VARIED = [(case, name) for case in cases.LAYERS for name in case.arguments if with_other_integers(case.arguments[name], int)]


def given_to(case: cases.Layer) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 5, case.shape) if case.values == "places" else rng.standard_normal(case.shape).astype(np.float32)


@pytest.mark.parametrize(("case", "name"), VARIED, ids=[f"{case.name}: {name}" for case, name in VARIED])
def test_a_layer_takes_any_integer_where_it_takes_integers(case: cases.Layer, name: str) -> None:
    make = getattr(nn, case.layer)
    x = given_to(case)
    cr.manual_seed(1)
    usual = make(**case.arguments).train(case.training)
    for kind in OTHER_INTEGERS:
        cr.manual_seed(1)
        layer = make(**{**case.arguments, name: with_other_integers(case.arguments[name], kind)}).train(case.training)
        np.testing.assert_array_equal(layer(x).numpy(), usual(x).numpy())
        assert repr(layer) == repr(usual)
        assert all(is_plain(value) for value in vars(layer).values())


@pytest.mark.parametrize(("case", "name"), VARIED, ids=[f"{case.name}: {name}" for case, name in VARIED])
def test_a_layer_refuses_what_is_no_whole_number_and_names_the_argument(case: cases.Layer, name: str) -> None:
    x = given_to(case)
    for wrong in NO_INTEGERS:
        with pytest.raises(UserError) as caught:
            getattr(nn, case.layer)(**{**case.arguments, name: wrong})(x)
        assert repr(wrong) in str(caught.value)
        assert name in str(caught.value)


def layer_arguments() -> Iterator[tuple[str, str]]:
    for kind in nn.__all__:
        made = getattr(nn, kind)
        if isinstance(made, type) and issubclass(made, nn.Module) and not kind.endswith("Loss"):
            for name, parameter in inspect.signature(made.__init__).parameters.items():
                if takes_whole_numbers(parameter):
                    yield kind, name


def test_every_whole_number_of_every_layer_is_tried() -> None:
    tried = {(case.layer, name) for case, name in VARIED}
    assert sorted(set(layer_arguments()) - tried) == []


# ---- functions of layers

IMAGE = np.random.default_rng(0).standard_normal((2, 4, 6, 6)).astype(np.float32)
SIGNAL = IMAGE[:, :, 0]
WEIGHT = np.random.default_rng(1).standard_normal((4, 2, 3, 3)).astype(np.float32)
WINDOWS = {"kernel_size": 3, "stride": (2, 1), "padding": 1}

FUNCTIONS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("conv2d", (IMAGE, WEIGHT), {"stride": 2, "padding": (1, 2), "dilation": (1, 2), "groups": 2}),
    ("conv2d", (IMAGE, WEIGHT), {"padding": ((0, 1), (2, 0)), "groups": 2}),
    ("conv1d", (SIGNAL, WEIGHT[:, :, 0]), {"stride": 2, "padding": (1,), "dilation": 2, "groups": 2}),
    ("conv3d", (IMAGE[:, :, :, None], WEIGHT[:, :, None]), {"stride": 2, "padding": (0, 1, 2), "dilation": 1, "groups": 2}),
    (
        "conv_transpose2d",
        (IMAGE, WEIGHT),
        {"stride": 2, "padding": (1, 0), "output_padding": 1, "dilation": (1, 2), "groups": 2},
    ),
    (
        "conv_transpose1d",
        (SIGNAL, WEIGHT[:, :, 0]),
        {"stride": 2, "padding": (1,), "output_padding": 1, "dilation": 2, "groups": 2},
    ),
    ("unfold", (IMAGE,), {"kernel_size": 2, "dilation": (1, 2), "padding": 1, "stride": 2}),
    ("interpolate", (IMAGE,), {"size": (4, 9)}),
    ("interpolate", (IMAGE,), {"size": 9}),
    ("pixel_shuffle", (IMAGE,), {"upscale_factor": 2}),
    ("pixel_unshuffle", (IMAGE,), {"downscale_factor": 2}),
    ("pad", (IMAGE,), {"pad": (1, 2, 0, 1)}),
    ("max_pool2d", (IMAGE,), {**WINDOWS, "dilation": 2}),
    ("avg_pool2d", (IMAGE,), WINDOWS),
    ("adaptive_avg_pool2d", (IMAGE,), {"output_size": (4, 2)}),
    ("adaptive_avg_pool2d", (IMAGE,), {"output_size": 4}),
    ("adaptive_max_pool2d", (IMAGE,), {"output_size": (4, 2)}),
    ("adaptive_max_pool2d", (IMAGE,), {"output_size": 5}),
    ("max_pool1d", (SIGNAL,), {"kernel_size": 3, "stride": (2,), "padding": 1, "dilation": 2}),
    ("avg_pool1d", (SIGNAL,), {"kernel_size": (3,), "stride": 2, "padding": 1}),
    ("adaptive_avg_pool1d", (SIGNAL,), {"output_size": 4}),
    ("adaptive_max_pool1d", (SIGNAL,), {"output_size": (4,)}),
    ("channel_shuffle", (IMAGE,), {"groups": 2}),
    ("local_response_norm", (IMAGE,), {"size": 3}),
    ("layer_norm", (IMAGE,), {"normalized_shape": (6, 6)}),
    ("layer_norm", (IMAGE,), {"normalized_shape": 6}),
    ("rms_norm", (IMAGE,), {"normalized_shape": (6, 6)}),
    ("normalize", (IMAGE,), {"dim": (1, 2)}),
    ("cosine_similarity", (IMAGE, WEIGHT[0, 0, 0, 0]), {"dim": -1}),
    ("embedding", ([[0, 3]], IMAGE[0, 0]), {"padding_idx": -2}),
    ("group_norm", (IMAGE,), {"num_groups": 2}),
    ("flatten", (IMAGE,), {"start_dim": 1, "end_dim": -2}),
    ("glu", (IMAGE,), {"dim": 1}),
    ("softmax", (IMAGE,), {"dim": 1}),
    ("log_softmax", (IMAGE,), {"dim": (1, -1)}),
    ("cross_entropy", (IMAGE[:, :, 0, 0], [1, 2]), {"ignore_index": 2}),
    ("nll_loss", (IMAGE[:, :, 0, 0], [1, 2]), {"ignore_index": 2}),
]
CALLS = [(name, inputs, options, varied) for name, inputs, options in FUNCTIONS for varied in options]
CALL_NAMES = [f"{name}: {varied} of {options[varied]}" for name, _, options, varied in CALLS]


@pytest.mark.parametrize(("name", "inputs", "options", "varied"), CALLS, ids=CALL_NAMES)
def test_a_function_takes_any_integer_and_nothing_else(
    name: str, inputs: tuple[Any, ...], options: dict[str, Any], varied: str
) -> None:
    given = [cr.tensor(one) for one in inputs]
    call = getattr(F, name)
    expected = call(*given, **options).numpy()
    for kind in OTHER_INTEGERS:
        found = call(*given, **{**options, varied: with_other_integers(options[varied], kind)})
        np.testing.assert_array_equal(found.numpy(), expected)
    for wrong in NO_INTEGERS:
        with pytest.raises(UserError) as caught:
            call(*given, **{**options, varied: wrong})
        assert repr(wrong) in str(caught.value)
        assert varied in str(caught.value) or varied == "dim"  # which the tensor's own functions call axis


def test_every_whole_number_of_every_function_is_tried() -> None:
    tried = {(name, varied) for name, _, _, varied in CALLS}
    takes = {
        (name, argument)
        for name in F.__all__
        for argument, parameter in inspect.signature(getattr(F, name)).parameters.items()
        if takes_whole_numbers(parameter) or argument == "dim"
    }
    assert sorted(takes - tried - {("affine", "shape"), ("normalised", "axes")}) == []


# ---- tensors

X = cr.tensor(np.arange(24, dtype=np.float32).reshape(2, 3, 4))

TENSORS: list[tuple[str, Callable[..., Any], Any]] = [
    *[(name, lambda n, name=name: getattr(X, name)(axis=n), -1) for name in ("sum", "mean", "max", "min", "var", "flip")],
    *[(f"cr.{name}", lambda n, name=name: getattr(cr, name)(X, axis=n), (0, 2)) for name in ("sum", "mean", "max", "min")],
    ("argmax", lambda n: X.argmax(n), 1),
    ("argmin", lambda n: X.argmin(n), 1),
    ("any", lambda n: X.any(n), (1, 2)),
    ("all", lambda n: X.all(n), 1),
    ("var: ddof", lambda n: X.var(0, ddof=n), 1),
    ("reshape", lambda n: X.reshape(n), (4, -1)),
    ("reshape to one axis", lambda n: X.reshape(n), 24),
    ("reshape, sizes one by one", lambda n: X.reshape(6, n), 4),
    ("flatten", lambda n: X.flatten(n), 1),
    ("transpose", lambda n: X.transpose(n), (2, 0, 1)),
    ("transpose, axes one by one", lambda n: X.transpose(2, n, 1), 0),
    ("swapaxes", lambda n: X.swapaxes(0, n), 2),
    ("squeeze", lambda n: X[:1].squeeze(n), 0),
    ("expand_dims", lambda n: X.expand_dims(n), 1),
    ("broadcast_to", lambda n: X.broadcast_to(n), (5, 2, 3, 4)),
    ("pad", lambda n: X.pad([(1, 1), n, (0, 2)]), (2, 0)),
    ("zeros", lambda n: cr.zeros(n), (2, 3)),
    ("ones", lambda n: cr.ones(n), 3),
    ("full", lambda n: cr.full((2, n), 7.0), 3),
    ("concatenate", lambda n: cr.concatenate([X, X], n), 1),
    ("stack", lambda n: cr.stack([X, X], n), 1),
    ("one_hot", lambda n: cr.one_hot([0, 1], n), 3),
    ("index", lambda n: X[n], 1),
    ("random.uniform", lambda n: random.Generator(1).uniform(n), (2, 3)),
    ("random.normal", lambda n: random.Generator(1).normal(n), 3),
    ("Generator", lambda n: random.Generator(n).uniform(3), 5),
]


@pytest.mark.parametrize(("call", "usual"), [(call, usual) for _, call, usual in TENSORS], ids=[one[0] for one in TENSORS])
def test_tensors_take_any_integer_and_nothing_else(call: Callable[[Any], cr.Tensor], usual: Any) -> None:
    expected = call(usual)
    for kind in OTHER_INTEGERS:
        found = call(with_other_integers(usual, kind))
        assert {type(size) for size in found.shape} <= {int}
        np.testing.assert_array_equal(found.numpy(), expected.numpy())
    for wrong in NO_INTEGERS:
        with pytest.raises(UserError):
            call(wrong)


def test_what_a_traced_graph_keeps_of_axes_and_sizes_is_plain() -> None:
    """Recipes are written to disk: an integer of NumPy would be another key, or none."""
    one, four = np.int64(1), np.int64(4)
    graph = cr.trace(lambda x: x.sum((one, np.int64(2))).reshape(one, -1).broadcast_to((four, np.int64(2))), X)
    assert all(is_plain(value) for node in graph for value in node.attributes.values())


# ---- everything else

SETTINGS: list[tuple[str, Callable[[Any], Any], int]] = [
    ("manual_seed", cr.manual_seed, 3),
    ("set_threads", cr.set_threads, 1),
    ("batch_size", lambda n: Loader(ArrayDataset(np.zeros((4, 3, 3), np.uint8), [0, 1, 0, 1]), batch_size=n), 2),
    ("StepLR", lambda n: StepLR(optimizer(), n), 2),
    ("CosineAnnealingLR", lambda n: CosineAnnealingLR(optimizer(), n), 2),
    ("LinearLR", lambda n: LinearLR(optimizer(), total_iters=n), 2),
    ("OneCycleLR", lambda n: OneCycleLR(optimizer(), 1.0, n), 2),
    ("SequentialLR", lambda n: in_a_row(optimizer(), n), 2),
    ("steps", lambda n: setattr(StepLR(optimizer(), 1), "steps", n), 2),
    ("model", lambda n: build("mlp", n, 4, (2, 2)), 2),
    ("Config", lambda n: Config(epochs=n), 2),
    ("gradcheck", lambda n: cr.gradcheck(lambda x: x * x, [1.0], order=n), 2),
]


def in_a_row(optimizer: SGD, milestone: Any) -> SequentialLR:
    return SequentialLR(optimizer, [StepLR(optimizer, 1), StepLR(optimizer, 1)], [milestone])


def optimizer() -> SGD:
    return SGD([cr.Parameter([1.0])], momentum=0.9)


@pytest.fixture
def usual_threads() -> Iterator[None]:
    yield
    cr.set_threads(None)


@pytest.mark.usefixtures("usual_threads")
@pytest.mark.parametrize(("call", "usual"), [(call, usual) for _, call, usual in SETTINGS], ids=[one[0] for one in SETTINGS])
def test_settings_take_any_integer_and_nothing_else(call: Callable[[Any], Any], usual: int) -> None:
    for kind in OTHER_INTEGERS:
        call(kind(usual))
    for wrong in NO_INTEGERS:
        with pytest.raises(UserError):
            call(wrong)


def test_a_configuration_holds_integers_of_python() -> None:
    made = Config(batch_size=np.int64(8), checkpoint_every=np.int32(5))
    assert made == Config(batch_size=8, checkpoint_every=5)
    assert (type(made.batch_size), type(made.checkpoint_every)) == (int, int)


# ---- every public call


def public() -> Iterator[tuple[str, Any]]:
    """What a user calls: functions, classes, and methods of classes, of every public module."""
    modules = [cr, nn, F, nn.init, cr.optim, cr.data, cr.formats, cr.models, cr.lens, cr.train, cr.random]
    for module in modules:
        for name in getattr(module, "__all__", [key for key in vars(module) if not key.startswith("_")]):
            one = getattr(module, name)
            its_own = hasattr(module, "__all__") or getattr(one, "__module__", "") == module.__name__
            is_class = inspect.isclass(one) and one.__module__.startswith("chainrule.") and not issubclass(one, BaseException)
            if is_class or (inspect.isfunction(one) and its_own):
                yield f"{module.__name__}.{name}", one


NOT_MADE_BY_USERS = {
    *("Edge", "Explanation", "Row", "Step", "Summand"),  # what explain() gives
    *("Audit", "AuditRow"),  # what audit() gives
    "ExportedPage",  # what lens.page() gives
    *(
        "BadNode",
        "Capsule",
        "NotFiniteError",
        "Comparison",
        "Evaluation",
        "Finding",
        "Findings",
        "Health",
        "Prediction",
        "RateSweep",
        "StepReport",
        "StepAgain",
        "Suspects",
        "Watcher",
    ),  # what training gives, and a protocol
    "LayerRows",  # what an explanation gives
    *("Dataset", "Optimizer", "Schedule"),  # abstract
    *("cannot_write", "leftovers", "temporary_name"),  # what other parts of chainrule write files with
    "Identity",  # takes whatever stood in its place
    *("Node", "Tensor"),  # made by operations and by cr.tensor(): a check would slow each of them down
}
PUBLIC = [(name, one) for name, one in public() if name.rpartition(".")[2] not in NOT_MADE_BY_USERS]
METHODS = [
    (f"{name}.{key}", kind, method)
    for name, kind in public()
    if inspect.isclass(kind) and kind.__name__ not in NOT_MADE_BY_USERS - {"Tensor", "Explanation"}
    for part in (kind.__mro__ if kind.__name__ == "Tensor" else (kind,))  # Tensor has its methods from its parts
    for key, method in vars(part).items()
    if inspect.isfunction(method) and not key.startswith("_") and key not in ("forward", "extra_repr", "values", "contents")
]


def test_the_walk_meets_what_it_is_for() -> None:
    names = {name for name, _ in PUBLIC}
    assert {"chainrule.compile", "chainrule.nn.Conv2d", "chainrule.data.Loader", "chainrule.train.Config"} <= names
    assert len(names) > 140
    assert len(METHODS) > 110
    assert {"chainrule.Tensor.sum", "chainrule.Tensor.exp", "chainrule.Tensor.backward"} <= {name for name, _, _ in METHODS}


@pytest.mark.parametrize(("name", "call"), PUBLIC, ids=[name for name, _ in PUBLIC])
def test_an_argument_that_a_public_call_does_not_have_is_named(name: str, call: Any) -> None:
    with pytest.raises(UserError, match="argument 'surely_not'"):
        call(surely_not=1)


@pytest.mark.parametrize(("name", "kind", "method"), METHODS, ids=[name for name, _, _ in METHODS])
def test_an_argument_that_a_public_method_does_not_have_is_named(name: str, kind: type, method: Any) -> None:
    with pytest.raises(UserError, match="argument 'surely_not'"):
        method(object.__new__(kind), surely_not=1)


FLAGS = [
    (f"{name}: {flag}", call, flag)
    for name, call in PUBLIC
    for flag, one in inspect.signature(call).parameters.items()
    if one.annotation in ("bool", "bool | None", bool) and one.kind is not one.POSITIONAL_ONLY
]


@pytest.mark.parametrize(("name", "call", "flag"), FLAGS, ids=[name for name, _, _ in FLAGS])
def test_a_flag_is_true_or_false(name: str, call: Any, flag: str) -> None:
    needed = [
        np.zeros((2, 3), np.float32)
        for one in inspect.signature(call).parameters.values()
        if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD
    ]
    for wrong in ("yes", 1, 0.0, [True]):
        with pytest.raises(UserError) as caught:
            call(*needed, **{flag: wrong})
        assert f"{flag} must be True or False, got {wrong!r}" in str(caught.value)


def test_there_are_flags_to_walk() -> None:
    assert len(FLAGS) >= 40
