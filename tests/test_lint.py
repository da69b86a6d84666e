"""What ``lint`` finds before a first step, and that it stays silent on every healthy network.

The page docs/lint.md has an example of each finding, which test_lint_page.py runs in both directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import UserError, data, nn, optim, train
from chainrule.models import MODELS, build
from chainrule.nn import functional as F
from chainrule.tensor import Tensor, tracing
from chainrule.train.diagnosis.batch_faults import Order, label_faults, size_faults
from chainrule.train.diagnosis.findings import NAMES, Finding, Findings
from chainrule.train.diagnosis.graph_faults import graph_faults
from chainrule.train.diagnosis.loss_trace import trace_loss
from chainrule.train.diagnosis.untraining import differentiable, never_used

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((32, 1, 8, 8)).astype(np.float32)
LABELS = RNG.integers(0, 4, 32)
SMALL = ("mlp", "lenet", "resnet20", "mobilenet_small", "squeezenet1_1", "shufflenet_v2_x1_0", "fastnet", "vgg_small")
BIASED = ("vgg_small", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn")
"""Networks whose convolutions have biases in front of batch normalisations, as in the paper's: that is true of them."""


def plain(*tail: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4), *tail)


def lint(model: nn.Module, images: Any = IMAGES, labels: Any = LABELS, loss: Any = F.cross_entropy, **options: Any) -> Findings:
    return train.lint(lambda images, labels: loss(model(images), labels), images, labels, **options)


def only(findings: Findings) -> Finding:
    (found,) = findings
    return found


# ---- healthy networks


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_said_of_the_graph_of_a_healthy_network(name: str) -> None:
    """Without memory for weights: what needs numbers is tested on small networks."""
    entry = MODELS[name]
    side = max(entry.least, 16)
    with tracing():
        model = build(name, entry.image[0], 10, (side, side))
    images, labels = np.zeros((4, entry.image[0], side, side), np.float32), np.arange(4)
    traced = trace_loss("lint", lambda x, y: F.cross_entropy(model(x), y, label_smoothing=0.1), (images, labels))
    order = Order(np.arange(40) % 10, [str(i) for i in range(10)], 4, False, True)
    found = [*graph_faults(traced), *size_faults(traced, order), *label_faults(traced, order)]
    assert [one.name for one in found] == (["bias-before-batch-norm"] if name in BIASED else [])
    assert not list(never_used(traced))
    reached = differentiable(traced)
    assert all(traced.trace.reads[one] in reached for one in model.parameters() if one.requires_grad)


@pytest.mark.parametrize("name", SMALL)
def test_nothing_is_said_of_the_numbers_of_a_healthy_network(name: str) -> None:
    entry = MODELS[name]
    side = max(entry.least, 12)
    cr.manual_seed(1)
    model = build(name, entry.image[0], 10, (side, side))
    images = RNG.standard_normal((8, entry.image[0], side, side)).astype(np.float32)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    found = lint(model, images, np.arange(8), optimizer=optimizer, silence="bias-before-batch-norm")
    assert str(found) == "nothing looks wrong"


@pytest.mark.parametrize("make", [nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU, nn.LeakyReLU, nn.Sigmoid])
def test_nothing_is_said_of_three_plain_layers(make: Callable[[], nn.Module]) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), make(), nn.Linear(32, 32), make(), nn.Linear(32, 4))
    assert lint(model) == Findings()


def test_a_last_layer_may_begin_with_weights_of_0() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 4))
    model[3].weight.assign(np.zeros((4, 32)))
    assert lint(model) == Findings()


# ---- that looking changes nothing


def test_looking_changes_nothing() -> None:
    cr.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.Dropout(0.5), nn.Flatten(), nn.Linear(72, 4), nn.Softmax(dim=1)
    )
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    state = model.state_dict()
    random = cr.random.default_generator.state.numpy().copy()

    @cr.compile
    def step(images: Tensor, labels: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    assert train.lint(step, IMAGES, LABELS, optimizer=optimizer).names == ("softmax-before-cross-entropy",)
    assert train.untrained(step, IMAGES, LABELS, model=model, optimizer=optimizer) == Findings()
    assert not optimizer.state
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(np.array_equal(state[name], value) for name, value in model.state_dict().items())
    np.testing.assert_array_equal(random, cr.random.default_generator.state.numpy())
    step(IMAGES, LABELS)
    kept = {key: value.copy() for key, value in optimizer.state_dict().items()}
    train.lint(step, IMAGES, LABELS, optimizer=optimizer)
    assert all(np.array_equal(kept[name], value) for name, value in optimizer.state_dict().items())
    step(IMAGES, LABELS)
    assert step.explain_retrace().startswith("tracing 1: the first call")
    assert "tracing 2" not in step.explain_retrace()


# ---- losses


def place(line: str) -> str:
    return f"test_lint.py:{lint.__code__.co_firstlineno + 1}" if line == "lint" else line


def test_a_softmax_before_cross_entropy_is_found_with_its_place() -> None:
    found = only(lint(plain(nn.Softmax(dim=1))))
    assert found.name == "softmax-before-cross-entropy"
    assert found.place == f"layer 2, Softmax ({place('lint')})"
    assert found.remedy == "leave the softmax out: cross_entropy takes scores"
    assert f"at {place('lint')} a softmax is taken of them again" in found.what


@pytest.mark.parametrize(
    ("made", "remedy"),
    [
        (lambda x: x.exp() / x.exp().sum(1, keepdims=True), "leave the softmax out"),
        (lambda x: x.sigmoid(), "leave the sigmoid out"),
        (lambda x: F.log_softmax(x, 1), "leave the log_softmax out"),
        (lambda x: F.softmax(x, 1).log(), "leave the logarithm of a softmax out"),
        (lambda x: (F.softmax(x, 1) + 1e-8).log(), "leave the logarithm of a softmax out"),
        (lambda x: F.softmax(x, 1).clip(1e-8, 1.0).log(), "leave the logarithm of a softmax out"),
    ],
)
def test_probabilities_and_their_logarithms_before_cross_entropy(made: Any, remedy: str) -> None:
    found = only(lint(plain(), loss=lambda x, y: F.cross_entropy(made(x), y)))
    assert (found.name, found.remedy.startswith(remedy)) == ("softmax-before-cross-entropy", True)


HARMLESS: tuple[tuple[Any, str], ...] = (
    (lambda p: p * 1.0, "0 and 1"),
    (lambda p: p / 0.5, "0 and 2"),
    (lambda p: p + 1e-6, "1e-06 and 1"),
    (lambda p: 2 * p - 1, "-1 and 1"),
    (lambda p: 1 - p, "0 and 1"),
    (lambda p: cr.clip(p, 1e-6, 1 - 1e-6), "1e-06 and 1"),
    (lambda p: cr.clip(3 * p.reshape(32, 4) + 1e-6, 0, 2), "1e-06 and 2"),
)


@pytest.mark.parametrize(("change", "limits"), HARMLESS)
def test_probabilities_are_seen_behind_arithmetic_that_leaves_them_close_together(change: Any, limits: str) -> None:
    yes = (LABELS[:, None] == np.arange(4)).astype(np.float32)
    for made in (lambda x: F.softmax(x, 1), lambda x: x.sigmoid()):
        found = only(lint(plain(), loss=lambda x, y, made=made: F.cross_entropy(change(made(x)), y)))
        assert found.name == "softmax-before-cross-entropy"
        assert f"as they lie between {limits}, the loss stays large" in found.what
        found = only(
            lint(plain(), labels=yes, loss=lambda x, y, made=made: F.binary_cross_entropy_with_logits(change(made(x)), y))
        )
        assert found.name == "sigmoid-before-logits-loss"
        found = only(lint(plain(), loss=lambda x, y, made=made: F.nll_loss(change(made(x)), y)))
        assert found.name == "nll-loss-without-logarithm"


def test_scores_that_reach_far_enough_may_be_limited_by_a_sigmoid() -> None:
    yes = (LABELS[:, None] == np.arange(4)).astype(np.float32)
    scale = nn.Parameter(np.float32(3.0))
    for change in (
        lambda p: p * 20,
        lambda p: 30 * p - 15,
        lambda p: p / 0.05,
        lambda p: p * scale,
        lambda p: 0.1 / (p + 0.01),
    ):
        found = lint(plain(), loss=lambda x, y, change=change: F.cross_entropy(change(x.sigmoid()), y))
        assert str(found) == "nothing looks wrong"
    found = lint(plain(), labels=yes, loss=lambda x, y: F.binary_cross_entropy_with_logits(30 * x.sigmoid() - 15, y))
    assert str(found) == "nothing looks wrong"


def test_what_is_no_fault_of_a_loss() -> None:
    yes = (LABELS[:, None] == np.arange(4)).astype(np.float32)
    for labels, loss in (
        (LABELS, lambda x, y: F.nll_loss(F.log_softmax(x, 1), y)),
        (LABELS, lambda x, y: F.nll_loss((F.softmax(x, 1) + 1e-8).log(), y)),
        (LABELS, lambda x, y: F.cross_entropy(x / 0.5, y)),
        (yes, lambda x, y: F.cross_entropy(x, y)),
        (yes, lambda x, y: F.binary_cross_entropy(x.sigmoid(), y)),
        (yes, lambda x, y: F.binary_cross_entropy_with_logits(x, y)),
        (yes, lambda x, y: F.binary_cross_entropy_with_logits(x, y, pos_weight=np.ones(4, np.float32))),
        (yes, lambda x, y: ((x - y) ** 2).mean()),
        (yes, lambda x, y: F.mse_loss(F.softmax(x), y)),
        (yes, lambda x, y: F.mse_loss(F.softplus(x.sigmoid()), y)),
        (yes[:, 0], lambda x, y: ((x[:, 0] - y) ** 2).mean()),
        (yes[:, 0], lambda x, y: ((x[:, 0] - 0.5) ** 2 * y).mean()),
        (yes[:, :1], lambda x, y: (x * y).mean()),
    ):
        assert str(lint(plain(), labels=labels, loss=loss)) == "nothing looks wrong"


@pytest.mark.parametrize("made", [lambda x: F.softmax(x, 1), lambda x: x.sigmoid()])
def test_probabilities_before_the_loss_with_logits_and_nll_loss(made: Any) -> None:
    yes = (LABELS[:, None] == np.arange(4)).astype(np.float32)
    found = only(lint(plain(), labels=yes, loss=lambda x, y: F.binary_cross_entropy_with_logits(made(x), y)))
    assert found.name == "sigmoid-before-logits-loss"
    assert "take binary_cross_entropy in place of" in found.remedy
    found = only(lint(plain(), loss=lambda x, y: F.nll_loss(made(x), y)))
    assert found.name == "nll-loss-without-logarithm"
    assert found.remedy.startswith("take log_softmax in place of the s")


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 6), st.integers(1, 3), st.booleans())
def test_shapes_that_broadcast_are_found_and_others_are_not(examples: int, outputs: int, alike: bool) -> None:
    model = nn.Linear(3, outputs)
    x = np.arange(3 * examples, dtype=np.float32).reshape(examples, 3) % 5
    target = np.ones((examples, outputs) if alike else examples, np.float32)
    fits = alike or outputs in (1, examples)
    if not fits:
        found = train.lint(lambda x, y: ((model(x) - y) ** 2).mean(), x, target)
        assert found.names == ("does-not-run",)
        return
    found = train.lint(lambda x, y: (model(x) - y).abs().sum(), x, target)
    assert ("broadcast-in-loss" in found.names) is (not alike)
    if not alike:
        one = next(one for one in found if one.name == "broadcast-in-loss")
        assert f"a prediction of shape {(examples, outputs)} and a target of shape {(examples,)}" in one.what


# ---- layers and optimizers


def test_frozen_layers_and_a_teacher_may_be_in_evaluation_mode() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 4))
    train.freeze(model, "0|1")
    assert lint(model) == Findings()
    model[1].requires_grad_(True)
    assert only(lint(model)).place == "layer 1, BatchNorm2d"
    teacher = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 4)).eval()
    student = plain()

    def loss(images: Tensor) -> Tensor:
        with cr.no_grad():
            wanted = F.softmax(teacher(images), 1)
        return F.cross_entropy(student(images), wanted)

    assert train.lint(loss, IMAGES) == Findings()


def test_a_step_that_calls_train_itself_is_in_training_mode() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 4)).eval()
    assert train.lint(lambda x, y: F.cross_entropy(model.train()(x), y), IMAGES, LABELS) == Findings()
    assert model.training is False


def test_biases_that_no_normalisation_subtracts_are_none_of_its_business() -> None:
    for norm in (nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.BatchNorm1d(4).eval()):
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), norm)
        assert "bias-before-batch-norm" not in lint(model).names
    found = only(lint(nn.Sequential(nn.Conv2d(1, 2, 3), nn.InstanceNorm2d(2), nn.Flatten(), nn.Linear(72, 4))))
    assert (found.name, found.place) == ("bias-before-batch-norm", f"layer 0, Conv2d ({place('lint')})")
    assert found.remedy == "make such layers with bias=False"


def test_a_schedule_may_begin_with_a_rate_of_0() -> None:
    model = plain()
    optimizer = optim.SGD([{"params": [model[1].weight]}, {"params": [model[1].bias], "lr": 0}], lr=0.1)
    found = only(lint(model, optimizer=optimizer))
    assert (found.name, found.place) == ("learning-rate-zero", "optimizer SGD, group 1")
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    optim.LambdaLR(optimizer, lambda step: step / 10)
    assert optimizer.lr == 0
    assert lint(model, optimizer=optimizer) == Findings()


def test_a_parameter_of_two_optimizers_is_named() -> None:
    model = plain()
    both = [optim.SGD(model.parameters(), lr=0.1), optim.Adam(model.parameters())]
    found = only(lint(model, optimizer=both))
    assert (found.name, found.place) == ("parameter-twice", "Adam, the 2. optimizer")
    assert found.what.startswith("parameter 1.weight and 1 more are updated by SGD, the 1. optimizer, too")


# ---- data


def test_labels_of_all_data_are_looked_at() -> None:
    labels = np.append(LABELS, 4)
    images = np.zeros((33, 1, 8, 8), np.uint8)
    loader = data.Loader(data.ArrayDataset(images, labels, [str(i) for i in range(5)]), 32)
    found = only(lint(plain(), loader=loader))
    assert (found.name, found.place) == ("labels-out-of-range", "argument labels of all data")
    assert "the label 4 in row 32 is out of range: the scores have 4 classes" in found.what


def test_a_batch_of_one_says_what_will_happen() -> None:
    cells = data.ArrayDataset(np.zeros((33, 1, 8, 8), np.uint8), np.append(LABELS, 0))
    spatial = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 4))
    found = only(lint(spatial, loader=data.Loader(cells, 32)))
    assert (found.name, found.place) == ("batch-of-one", f"layer 1, BatchNorm2d ({place('lint')})")
    assert found.what.endswith(
        "of 33 examples in batches of 32, the last batch has one: it is normalised by its own statistics"
    )
    assert lint(spatial, loader=data.Loader(cells, 31)) == Findings()
    assert lint(spatial.eval(), loader=data.Loader(cells, 32), silence="evaluation-mode") == Findings()
    assert only(lint(spatial.train(), IMAGES[:1], LABELS[:1])).what.startswith("the batch has one example")


@pytest.mark.parametrize("scale", [1e-3, 100.0])
def test_inputs_that_a_layer_normalises_may_have_any_range(scale: float) -> None:
    assert only(lint(plain(), IMAGES * scale)).name == "unnormalised-inputs"
    assert lint(nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 4)), IMAGES * scale) == Findings()
    assert lint(plain(), IMAGES / 2 + 0.5) == Findings()


@pytest.mark.filterwarnings("ignore:layer 1 .Linear. got numbers of uint8")
def test_pixels_that_are_whole_numbers_are_found_too() -> None:
    pixels = RNG.integers(0, 256, IMAGES.shape).astype(np.uint8)
    found = only(lint(plain(), pixels, loss=lambda x, y: F.cross_entropy(x, y)))
    assert found.name == "unnormalised-inputs"
    assert "argument images, goes from 0 to 255" in found.what
    padded = nn.Sequential(nn.ZeroPad2d(1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(25, 4))
    assert only(lint(padded, pixels.astype(np.float32))).name == "unnormalised-inputs"


def test_the_layer_is_named_at_which_activations_vanish_or_explode() -> None:
    cr.manual_seed(0)
    layers = [layer for _ in range(10) for layer in (nn.Linear(64, 64), nn.Sigmoid())]
    found = only(lint(nn.Sequential(nn.Flatten(), *layers, nn.Linear(64, 4))))
    assert (found.name, found.place) == ("vanishing-activations", f"layer 9, Linear ({place('lint')})")
    assert "layer 5 of 11 with weights: a factor of 0.18 for each, so hardly anything of an example gets" in found.what
    assert "nn.init.kaiming_normal_" in found.remedy
    plains = [nn.Linear(64, 64) for _ in range(6)]
    for layer in plains:
        layer.weight.assign(RNG.standard_normal((64, 64)))
    found = only(lint(nn.Sequential(nn.Flatten(), *plains, nn.Linear(64, 4))))
    assert (found.name, found.place) == ("exploding-activations", f"layer 4, Linear ({place('lint')})")
    plains[2].weight.assign(np.full((64, 64), 1e38))
    found = only(lint(nn.Sequential(nn.Flatten(), *plains, nn.Linear(64, 4))))
    assert found.what.endswith("is no longer finite behind this one, layer 3 of 7 with weights, for 32 examples")
    assert "train.first_bad_node" in found.remedy


# ---- the call


def test_wrong_arguments_are_named() -> None:
    model = plain()
    loss = lambda x, y: F.cross_entropy(model(x), y)  # noqa: E731
    for call, message in (
        (lambda: train.lint(3, IMAGES), r"lint: needs a function that gives the loss of a batch, got a int"),
        (lambda: train.lint(lambda x: model(x), IMAGES), r"must return the loss, one float number, .* got float32\[32, 4\]"),
        (lambda: train.lint(lambda x: None, IMAGES), r"got no tensor: return the tensor itself, not loss.item\(\)"),
        (lambda: train.lint(loss, IMAGES), r"labels|missing|y"),
        (lambda: train.lint(loss, IMAGES, LABELS, optimizer=model), r"lint: optimizer must be one of chainrule.optim"),
        (lambda: train.lint(loss, IMAGES, LABELS, optimizer=[3]), r"or a list of them, got a int"),
        (lambda: train.lint(loss, IMAGES, LABELS, loader=[1]), r"lint: loader must be a chainrule.data.Loader, got a list"),
        (lambda: train.lint(loss, IMAGES, LABELS, silence="labels"), r"unknown finding in lint: silence 'labels'"),
        (lambda: train.lint(loss, IMAGES, LABELS, silence=3), r"must be names of findings, such as 'labels-count', got 3"),
        (lambda: train.lint(loss, IMAGES, LABELS, silence=[3]), r"got 3 among them"),
        (lambda: train.untrained(loss, IMAGES, LABELS, model=3), r"untrained: model must be a module of chainrule.nn"),
        (lambda: train.untrained(lambda x: model(x).sum().item(), IMAGES, model=model), r"while tracing"),
    ):
        with pytest.raises(UserError, match=message):
            call()


def test_findings_are_silenced_by_name() -> None:
    model = plain(nn.Softmax(dim=1))
    found = lint(model, IMAGES * 100)
    assert found.names == ("softmax-before-cross-entropy", "unnormalised-inputs")
    assert found.without("unnormalised-inputs") == lint(model, IMAGES * 100, silence=["unnormalised-inputs"])
    assert lint(model, IMAGES * 100, silence="unnormalised-inputs, softmax-before-cross-entropy") == Findings()
    assert lint(model, IMAGES * 100, silence="all") == found.without(NAMES) == Findings()


def test_batches_may_be_trees_and_losses_one_of_several_results() -> None:
    model = plain(nn.Softmax(dim=1))

    def step(batch: dict[str, Tensor]) -> dict[str, Any]:
        scores = model(batch["x"])
        return {"scores": scores, "loss": F.cross_entropy(scores, batch["y"])}

    assert only(train.lint(step, {"x": IMAGES, "y": LABELS})).name == "softmax-before-cross-entropy"
