"""Activations and losses where they are near 0, near 1 or huge: values, slopes and curvatures to their last digits.

What is expected is written with functions that lose nothing there, in float64. The tests ask for relative accuracy in the
tails, where a composition such as 1 - tanh(x)^2 has nothing left; between -4 and 4, where slopes cross zero, for accuracy of
the largest.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import ops
from chainrule.graph import Array
from chainrule.nn import functional as F

Function = Callable[[cr.Tensor], cr.Tensor]
TINY, LARGE = (1e-30, 1e-10, 1e-5, 1e-3), (150.0, 1e10, 1e30)


SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def s(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1 + small)


def softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def sech2(x: Array) -> Array:
    return 4 * s(2 * x) * s(-2 * x)


def normal(x: Array) -> Array:
    """The density of the normal distribution."""
    return np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def below(x: Array) -> Array:
    """The normal distribution function."""
    return np.frompyfunc(math.erfc, 1, 1)(-x * math.sqrt(0.5)).astype(float) / 2


def by_tanh(x: Array) -> tuple[Array, Array, Array]:
    """gelu's approximation, as x s(t)."""
    c = 2 * math.sqrt(2 / math.pi)
    t, slope, curvature = c * (x + 0.044715 * x**3), c * (1 + 3 * 0.044715 * x * x), c * 6 * 0.044715 * x
    d = s(t) * s(-t)
    return x * s(t), s(t) + x * d * slope, 2 * d * slope + x * (d * (s(-t) - s(t)) * slope**2 + d * curvature)


def mish(x: Array) -> tuple[Array, Array, Array]:
    """x tanh(softplus(x))."""
    t, d = np.tanh(softplus(x)), sech2(softplus(x))
    return x * t, t + x * d * s(x), 2 * d * s(x) + x * d * s(x) * (s(-x) - 2 * t * s(x))


@dataclass(frozen=True)
class Tail:
    """A function of one number, with its slope and curvature; ``growth``: its exponent grows as this power of x, and with it
    the error that the rounding of the exponent makes. ``low`` is where it begins to be defined."""

    f: Function
    exact: Callable[[Array], tuple[Any, Any, Any]]
    growth: int = 1
    low: float = -math.inf


def bce(t: float) -> Tail:
    return Tail(
        lambda x: F.binary_cross_entropy_with_logits(x, cr.zeros(x.shape, x.dtype) + t, reduction="none"),
        lambda x: (t * softplus(-x) + (1 - t) * softplus(x), (1 - t) * s(x) - t * s(-x), s(x) * s(-x)),
    )


def of_two(loss: Callable[[cr.Tensor], cr.Tensor]) -> Function:
    """A function of the logits (x, 0, -200) of three classes, the last of which does not count."""
    return lambda x: loss(cr.stack([x, x * 0, x * 0 - 200], axis=1))


def labelled(label: int, **options: Any) -> Function:
    return of_two(lambda z: F.cross_entropy(z, np.full(z.shape[0], label), reduction="none", **options))


def expected_of_label(label: int) -> Callable[[Array], tuple[Array, Array, Array]]:
    if label == 0:
        return lambda x: (softplus(-x), -s(-x), s(x) * s(-x))
    return lambda x: (softplus(x), s(x), s(x) * s(-x))


TAILS: dict[str, Tail] = {
    "sigmoid": Tail(F.sigmoid, lambda x: (s(x), s(x) * s(-x), -s(x) * s(-x) * np.tanh(x / 2))),
    "tanh": Tail(F.tanh, lambda x: (np.tanh(x), sech2(x), -2 * np.tanh(x) * sech2(x))),
    "silu": Tail(
        F.silu, lambda x: (x * s(x), s(x) + x * s(x) * s(-x), s(x) * s(-x) * (2 - x * np.tanh(x / 2)))
    ),
    "gelu": Tail(F.gelu, lambda x: (x * below(x), below(x) + x * normal(x), normal(x) * (2 - x * x)), growth=2),
    "gelu by tanh": Tail(lambda x: F.gelu(x, "tanh"), by_tanh, growth=3),
    "relu": Tail(F.relu, lambda x: (np.maximum(x, 0), x > 0, 0 * x)),
    "relu6": Tail(F.relu6, lambda x: (np.clip(x, 0, 6), (x > 0) & (x < 6), 0 * x)),
    "leaky_relu": Tail(F.leaky_relu, lambda x: (np.where(x > 0, x, 0.01 * x), np.where(x > 0, 1, 0.01), 0 * x)),
    "erf": Tail(
        cr.erf,
        lambda x: (
            np.frompyfunc(math.erf, 1, 1)(x).astype(float),
            2 / math.sqrt(math.pi) * np.exp(-x * x),
            -4 / math.sqrt(math.pi) * x * np.exp(-x * x),
        ),
        growth=2,
    ),
    "erfc": Tail(
        cr.erfc,
        lambda x: (
            np.frompyfunc(math.erfc, 1, 1)(x).astype(float),
            -2 / math.sqrt(math.pi) * np.exp(-x * x),
            4 / math.sqrt(math.pi) * x * np.exp(-x * x),
        ),
        growth=2,
    ),
    "softplus": Tail(lambda x: cr.Tensor(ops.softplus(x.node)), lambda x: (softplus(x), s(x), s(x) * s(-x))),
    "nn softplus": Tail(lambda x: F.softplus(x, threshold=1e30), lambda x: (softplus(x), s(x), s(x) * s(-x))),
    "logsigmoid": Tail(F.logsigmoid, lambda x: (-softplus(-x), s(-x), -s(x) * s(-x))),
    "softsign": Tail(
        F.softsign, lambda x: (x / (1 + abs(x)), 1 / (1 + abs(x)) ** 2, -2 * np.sign(x) / (1 + abs(x)) ** 3)
    ),
    "elu": Tail(
        lambda x: F.elu(x, 1.5),
        lambda x: (
            np.where(x > 0, x, 1.5 * np.expm1(np.minimum(x, 0))),
            np.where(x > 0, 1, 1.5 * np.exp(np.minimum(x, 0))),
            np.where(x > 0, 0, 1.5 * np.exp(np.minimum(x, 0))),
        ),
    ),
    "celu": Tail(
        lambda x: F.celu(x, 2.0),
        lambda x: (
            np.where(x > 0, x, 2 * np.expm1(np.minimum(x, 0) / 2)),
            np.where(x > 0, 1, np.exp(np.minimum(x, 0) / 2)),
            np.where(x > 0, 0, np.exp(np.minimum(x, 0) / 2) / 2),
        ),
    ),
    "selu": Tail(
        F.selu,
        lambda x: (
            SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0))),
            SELU_SCALE * np.where(x > 0, 1, SELU_ALPHA * np.exp(np.minimum(x, 0))),
            SELU_SCALE * np.where(x > 0, 0, SELU_ALPHA * np.exp(np.minimum(x, 0))),
        ),
    ),
    "hardtanh": Tail(F.hardtanh, lambda x: (np.clip(x, -1, 1), abs(x) < 1, 0 * x)),
    "hardsigmoid": Tail(F.hardsigmoid, lambda x: (np.clip(x / 6 + 0.5, 0, 1), np.where(abs(x) < 3, 1 / 6, 0), 0 * x)),
    "hardswish": Tail(
        F.hardswish,
        lambda x: (
            x * np.clip(x / 6 + 0.5, 0, 1),
            np.where(abs(x) < 3, x / 3 + 0.5, x > 0),
            np.where(abs(x) < 3, 1 / 3, 0),
        ),
    ),
    "mish": Tail(F.mish, mish),
    "glu": Tail(
        lambda x: F.glu(cr.stack([x * 0 + 2, x], axis=1), 1)[:, 0],
        lambda x: (2 * s(x), 2 * s(x) * s(-x), -2 * s(x) * s(-x) * np.tanh(x / 2)),
    ),
    "prelu": Tail(
        lambda x: F.prelu(x, cr.tensor([0.25]).astype(x.dtype)),
        lambda x: (np.where(x > 0, x, 0.25 * x), np.where(x > 0, 1, 0.25), 0 * x),
    ),
    "huber_loss": Tail(
        lambda x: F.huber_loss(x, x.detach() * 0, reduction="none", delta=2.0),
        lambda x: (
            np.where(abs(x) < 2, x * x / 2, 2 * (abs(x) - 1)),
            np.where(abs(x) < 2, x, 2 * np.sign(x)),
            np.where(abs(x) < 2, 1, 0),
        ),
    ),
    "kl_div of log_softmax": Tail(
        of_two(
            lambda z: F.kl_div(
                F.log_softmax(z, 1), cr.zeros(z.shape, z.dtype) + cr.tensor([1.0, 0.0, 0.0]), reduction="none"
            )[:, 0]
        ),
        expected_of_label(0),
    ),
    "log1p": Tail(cr.log1p, lambda x: (np.log1p(x), 1 / (1 + x), -1 / (1 + x) ** 2), low=-0.9),
    "expm1": Tail(lambda x: cr.expm1(-x), lambda x: (np.expm1(-x), -np.exp(-x), np.exp(-x)), low=-80),
    "binary cross-entropy of 0": bce(0.0),
    "binary cross-entropy of 1": bce(1.0),
    "binary cross-entropy of 1/4": bce(0.25),
    "cross-entropy of the label": Tail(labelled(0), expected_of_label(0)),
    "cross-entropy of another label": Tail(labelled(1), expected_of_label(1)),
    "cross-entropy with weights": Tail(
        labelled(0, weight=[2.0, 3.0, 4.0]), lambda x: (2 * softplus(-x), -2 * s(-x), 2 * s(x) * s(-x))
    ),
    "cross-entropy of probabilities": Tail(
        of_two(lambda z: F.cross_entropy(z, cr.zeros(z.shape, z.dtype) + cr.tensor([1.0, 0.0, 0.0]), reduction="none")),
        expected_of_label(0),
    ),
    "log_softmax": Tail(of_two(lambda z: F.log_softmax(z, 1)[:, 0]), lambda x: (-softplus(-x), s(-x), -s(x) * s(-x))),
    "softmax": Tail(
        of_two(lambda z: F.softmax(z, 1)[:, 0]), lambda x: (s(x), s(x) * s(-x), -s(x) * s(-x) * np.tanh(x / 2))
    ),
    "nll_loss of log_softmax": Tail(
        of_two(lambda z: F.nll_loss(F.log_softmax(z, 1), np.zeros(z.shape[0], int), reduction="none")), expected_of_label(0)
    ),
    "mse_loss": Tail(
        lambda x: F.mse_loss(x, x.detach() * 0 + 1, reduction="none"), lambda x: ((x - 1) ** 2, 2 * (x - 1), 2 + 0 * x)
    ),
    "l1_loss": Tail(lambda x: F.l1_loss(x, x.detach() * 0, reduction="none"), lambda x: (abs(x), np.sign(x), 0 * x)),
    "smooth_l1_loss": Tail(
        lambda x: F.smooth_l1_loss(x, x.detach() * 0, reduction="none", beta=2.0),
        lambda x: (
            np.where(abs(x) < 2, x * x / 4, abs(x) - 1), np.where(abs(x) < 2, x / 2, np.sign(x)), np.where(abs(x) < 2, 0.5, 0)
        ),
    ),
}  # fmt: skip


def value_slope_and_curvature(f: Function) -> Callable[[cr.Tensor], list[cr.Tensor]]:
    def run(x: cr.Tensor) -> list[cr.Tensor]:
        x = x * 1
        z = f(x)
        (slope,) = cr.grad(z.sum(), [x], create_graph=True)
        assert slope is not None
        (curvature,) = cr.grad(slope.sum(), [x]) if slope.requires_grad else (None,)
        return [z, slope, x * 0 if curvature is None else curvature]

    return run


def inputs(tail: Tail, dtype: str) -> Array:
    near = np.concatenate([np.linspace(-100, 100, 801), *([-one, one] for one in TINY), np.linspace(-4, 4, 101)])
    return near[near >= tail.low].astype(dtype)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", TAILS)
def test_values_slopes_and_curvatures_are_right_in_the_tails(name: str, dtype: str, compiled: bool) -> None:
    tail = TAILS[name]
    x = inputs(tail, dtype)
    run = value_slope_and_curvature(tail.f)
    found = (cr.compile(run) if compiled else run)(cr.tensor(x, requires_grad=True))
    exact = x.astype(np.float64)
    limits = np.finfo(dtype)
    with np.errstate(under="ignore"):
        for what, have, wanted in zip(("value", "slope", "curvature"), found, tail.exact(exact), strict=True):
            wanted = np.asarray(wanted, np.float64)
            inner = np.abs(x) <= 4
            allowed = limits.eps * (16 + 4 * np.abs(exact) ** tail.growth) * np.abs(wanted)
            scale = np.minimum(np.abs(x), 1) if what == "value" else 1  # a value near 0 keeps its digits
            allowed += 16 * limits.eps * np.abs(wanted[inner]).max() * inner * scale
            allowed += limits.tiny * 64 * (1 + exact * exact)  # below, numbers may be taken for 0
            error = np.abs(have.numpy().astype(np.float64) - wanted)
            worst = int(np.where(np.isnan(error), np.inf, error / allowed).argmax())
            assert error[worst] <= allowed[worst], (
                f"the {what} of {name} at {x[worst]} is {have.numpy()[worst]}, right is {wanted[worst]}: "
                f"{error[worst] / allowed[worst]:.3g} times the error allowed"
            )


@pytest.mark.parametrize("name", TAILS)
def test_large_inputs_give_the_limits(name: str) -> None:
    tail = TAILS[name]
    x = np.array([sign * one for one in LARGE for sign in (1, -1) if sign > tail.low], np.float32)
    found = value_slope_and_curvature(tail.f)(cr.tensor(x, requires_grad=True))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for have, wanted in zip(found, tail.exact(x.astype(np.float64)), strict=True):
            known = np.isfinite(np.asarray(wanted, np.float64))
            np.testing.assert_allclose(have.numpy()[known], np.asarray(wanted, np.float32)[known], rtol=1e-5, atol=1e-30)
            assert not np.isnan(have.numpy()).any()


def test_every_activation_and_loss_is_here() -> None:
    no_tails = {
        "adaptive_avg_pool2d",
        "affine",
        "avg_pool2d",
        "batch_norm",
        "conv1d",
        "conv2d",
        "conv3d",
        "conv_transpose2d",
        "dropout",
    }
    no_tails |= {"flatten", "group_norm", "layer_norm", "linear", "max_pool2d", "normalised"}
    no_tails |= {"adaptive_avg_pool1d", "adaptive_max_pool1d", "adaptive_max_pool2d", "avg_pool1d", "max_pool1d", "interpolate"}
    no_tails |= {"channel_shuffle", "pad", "pixel_shuffle", "pixel_unshuffle", "unfold", "embedding", "conv_transpose1d"}
    no_tails |= {"dropout2d", "stochastic_depth", "instance_norm", "local_response_norm", "rms_norm", "normalize"}
    no_tails |= {"cosine_similarity", "scaled_dot_product_attention"}
    no_tails |= {"binary_cross_entropy"}  # of probabilities, whose slopes grow without bound
    there = {name for name in F.__all__ if inspect.isfunction(getattr(F, name))} - no_tails
    tried = " ".join([*TAILS, "binary_cross_entropy_with_logits", "cross_entropy"])
    assert not {name for name in there if name not in tried}


def test_the_first_inputs_that_were_wrong() -> None:
    def loss(logit: float, target: float) -> tuple[float, float]:
        x = cr.tensor([logit], requires_grad=True)
        error = F.binary_cross_entropy_with_logits(x, [target])
        error.backward()
        assert x.grad is not None
        return error.item(), x.grad.item()

    assert loss(17.0, 1.0)[0] == pytest.approx(4.139938e-08, rel=1e-5)
    assert loss(-18.0, 0.0) == pytest.approx((1.522998e-08, 1.522998e-08), rel=1e-5)
