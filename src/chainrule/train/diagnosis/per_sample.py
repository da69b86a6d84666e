"""The gradient of each example by itself, of a whole batch in one pass: how far each of them pulls the parameters.

    forward ──> input x and output y of each layer ──> backward: upstream gradient u of each y ──> one gradient an example

A layer's gradient is a sum over examples, so with x and u each example's term can be computed alone, and its length: for a
linear layer without further axes, |x| |u| (Goodfellow, "Efficient per-example gradient computations", 2015); for a convolution,
by a convolution with a group for each example.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from chainrule import nn, ops
from chainrule.arguments import explained
from chainrule.errors import UserError
from chainrule.nn import Module
from chainrule.nn import functional as F
from chainrule.nn.functional.sizes import pair, sides
from chainrule.tensor import Parameter, Tensor, compile
from chainrule.tensor.graphs import grad

Loss = Callable[[Tensor, Tensor], Tensor]
Measure = Callable[[Any, Any], tuple[Tensor, Tensor]]
"""Images and labels of a batch to the loss of each example, and the norm of its gradient: both (N,)."""


def _cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(scores, labels, reduction="none")


@explained
def per_sample_measure(model: Module, loss: Loss | None = None) -> Measure:
    """A compiled function that gives, for a batch of images and labels, the loss of each example and the norm of its gradient
    with respect to all trainable parameters together.

    The model is in evaluation form meanwhile, as otherwise batch normalisation would mix the examples. ``loss`` takes scores
    and labels and returns the loss of each example (N,); by default it is the cross-entropy.

    Raises:
        UserError: a trainable parameter belongs to a layer for which this is not known, or to two layers.
    """
    measure = scored_measure(model, loss)
    return lambda images, labels: measure(images, labels)[1:]


def scored_measure(model: Module, loss: Loss | None = None) -> Callable[[Any, Any], tuple[Tensor, Tensor, Tensor]]:
    """As ``per_sample_measure``, with the scores of the images, which the same pass computes, as the first result."""
    layers = _layers_of(model)
    uses: list[tuple[Module, Tensor, Tensor]] = []

    def note(layer: Module, inputs: tuple[Any, ...], output: Any) -> None:
        uses.append((layer, inputs[0], output))

    @compile
    def measured(images: Any, labels: Any) -> tuple[Tensor, Tensor, Tensor]:
        uses.clear()
        scores = model(images)
        losses = (loss or _cross_entropy)(scores, labels)
        if losses.shape != (len(images),):
            raise UserError(
                f"per_sample_measure: loss returned shape {losses.shape} for {len(images)} examples: expected one number for "
                "each"
            )
        norms = _norms(losses, uses)
        uses.clear()
        return scores, losses, norms

    def measure(images: Any, labels: Any) -> tuple[Tensor, Tensor, Tensor]:
        with model.evaluating(), ExitStack() as hooks:
            for layer in layers:
                hooks.enter_context(layer.register_forward_hook(note))
            found: tuple[Tensor, Tensor, Tensor] = measured(images, labels)
            return found

    return measure


@explained
def per_sample_gradient_norms(model: Module, batch: Sequence[Any], loss: Loss | None = None) -> np.ndarray[Any, Any]:
    """The norm of the gradient of each example of ``batch`` (images, labels), by itself: (N,). See ``per_sample_measure``,
    which is the one to keep where there are several batches."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise UserError("per_sample_gradient_norms: batch must be a pair (images, labels)")
    return per_sample_measure(model, loss)(*batch)[1].numpy()


def _layers_of(model: Module) -> list[Module]:
    """The layers that have trainable parameters."""
    found: list[Module] = []
    owner: dict[int, str] = {}
    for path, layer in model.named_modules():
        own = [(name, one) for name, one in layer._cells.items() if isinstance(one, Parameter) and one.requires_grad]
        for name, parameter in own:
            place = f"{path}.{name}" if path else name
            if id(parameter) in owner:
                raise UserError(
                    f"gradients of single examples: {owner[id(parameter)]} and {place} are the same parameter: what an example "
                    "contributes to it by both is not known"
                )
            owner[id(parameter)] = place
        if not own:
            continue
        if type(layer) not in _RULES:
            known = ", ".join(kind.__name__ for kind in _RULES)
            raise UserError(
                f"gradients of single examples: {path or 'the model'} is a {type(layer).__name__} with the parameter "
                f"{own[0][0]}; they are known for {known}: freeze it (requires_grad = False) to leave it out"
            )
        found.append(layer)
    if not found:
        raise UserError("gradients of single examples: the model has no trainable parameter")
    return found


def _norms(losses: Tensor, uses: Sequence[tuple[Module, Tensor, Tensor]]) -> Tensor:
    """The norm of each example's gradient (N,), from the layers that were called, with their inputs and outputs."""
    upstream = grad(losses.sum(), [output for _, _, output in uses])
    by_layer: dict[int, tuple[Module, list[tuple[Tensor, Tensor]]]] = {}
    for (layer, x, _), u in zip(uses, upstream, strict=True):
        if u is not None:
            by_layer.setdefault(id(layer), (layer, []))[1].append((x, u))
    squares: list[Tensor] = []
    for layer, calls in by_layer.values():
        if len(calls) == 1 and type(layer) is nn.Linear and calls[0][0].ndim == 2:
            squares += _of_linear(layer, *calls[0])
            continue
        each = [_RULES[type(layer)](layer, x, u) for x, u in calls]
        # A layer that is used twice has the sum of both as its gradient.
        squares += [_squares(_sum(one[name] for one in each)) for name in each[0]]
    return _sum(squares).sqrt() if squares else losses * 0


def _sum(terms: Iterable[Tensor]) -> Tensor:
    return functools.reduce(operator.add, terms)


def _squares(x: Tensor) -> Tensor:
    """The sum of the squares of each example: (N, ...) -> (N,)."""
    return (x * x).sum(tuple(range(1, x.ndim)))


def _of_linear(layer: Module, x: Tensor, u: Tensor) -> list[Tensor]:
    """The squared norms (N,) of the gradients of weight and bias: u x^T, a matrix of rank 1 for each example, is not made."""
    length = _squares(u)
    return ([_squares(x) * length] if _trains(layer, "weight") else []) + ([length] if _trains(layer, "bias") else [])


def _trains(layer: Any, name: str) -> bool:
    parameter = getattr(layer, name, None)
    return parameter is not None and bool(parameter.requires_grad)


def _chosen(layer: Module, gradients: dict[str, Callable[[], Tensor]]) -> dict[str, Tensor]:
    """Those of the layer's parameters that are trained."""
    return {name: make() for name, make in gradients.items() if _trains(layer, name)}


# ---- the gradients of a layer's parameters, one an example, from its input x and the upstream gradient u of its output


def _linear(layer: Any, x: Tensor, u: Tensor) -> dict[str, Tensor]:
    x, u = x.reshape(len(x), -1, x.shape[-1]), u.reshape(len(u), -1, u.shape[-1])
    return _chosen(layer, {"weight": lambda: u.transpose(0, 2, 1) @ x, "bias": lambda: u.sum(1)})


def _convolution(layer: Any, x: Tensor, u: Tensor) -> dict[str, Tensor]:
    """All examples side by side as channels, with groups that keep them apart."""

    def weight() -> Tensor:
        count = len(x)
        kernel, stride, dilation = layer.kernel_size, pair("stride", layer.stride), pair("dilation", layer.dilation)
        border: Any = sides(layer.padding, kernel, stride, dilation)
        image, zeros = x, border
        if layer.padding_mode != "zeros":
            (top, bottom), (left, right) = border
            image, zeros = F.pad(x, (left, right, top, bottom), mode=layer.padding_mode), ((0, 0), (0, 0))
        found = ops.conv2d_weight_gradient(
            image.reshape(1, -1, *image.shape[2:]).node,
            u.reshape(1, -1, *u.shape[2:]).node,
            kernel=kernel,
            stride=stride,
            padding=zeros,
            dilation=dilation,
            groups=count * layer.groups,
        )
        return Tensor(found).reshape(count, *layer.weight.shape)

    return _chosen(layer, {"weight": weight, "bias": lambda: u.sum((2, 3))})


def _batch_norm(layer: Any, x: Tensor, u: Tensor) -> dict[str, Tensor]:
    """In evaluation form: y = weight (x - mean) / sqrt(variance + eps) + bias, the same for all examples."""
    axes = tuple(range(2, x.ndim))
    shape = (1, -1, *(1,) * (x.ndim - 2))

    def weight() -> Tensor:
        normal = (x - layer.running_mean.reshape(shape)) / (layer.running_var.reshape(shape) + layer.eps).sqrt()
        product: Tensor = u * normal
        return product.sum(axes) if axes else product

    return _chosen(layer, {"weight": weight, "bias": lambda: u.sum(axes) if axes else u})


_RULES: dict[type[Module], Callable[[Any, Tensor, Tensor], dict[str, Tensor]]] = {
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
}
"""The layers for which gradients of single examples are known."""
