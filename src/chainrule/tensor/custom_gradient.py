"""``cr.custom_gradient``: functions that compute as existing operations do, and go backward by a rule of their author's own.

The forward function runs on stand-ins for the arguments. What it computes becomes the value of a single node, ``ops.Custom``,
whose inputs are the arguments; so gradients go from that node straight to them, by the rule. In a traced graph the node has
its value as one more input, with all operations that lead there. The compiler puts that in the node's place once the
rule has been asked.

No gradient may leave by another way: a tensor that asks for one and is no argument is refused.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import Any, Generic, ParamSpec

import numpy as np

from chainrule import ops
from chainrule.arguments import explained, misfit_of
from chainrule.errors import UserError
from chainrule.graph import INPUT, Node, Role, current_module, inside_module, leaf, topological_order
from chainrule.graph.dtypes import is_float
from chainrule.ops.custom import Application, joined, parts
from chainrule.tensor.calls import parameter_name
from chainrule.tensor.tensor import Tensor, tensor
from chainrule.tensor.tree import flatten

P = ParamSpec("P")


@dataclass(frozen=True)
class _Saved:
    """Where the rule finds a saved value: ``kind`` is input, output, extra (a further input of the node) or plain.

    ``at`` is its position there, or the value itself if it is no tensor. ``depends``: an extra one that the arguments lead to.
    """

    kind: str
    at: Any
    depends: bool = False


class CustomGradient(Generic[P]):
    """The result of ``cr.custom_gradient``, which is called like the forward function, and returns its output or outputs."""

    def __init__(self, forward: Callable[P, Any], backward: Callable[..., Any], exact: bool) -> None:
        functools.update_wrapper(self, forward, updated=())
        self.__name__: str = getattr(forward, "__name__", type(forward).__name__)
        self.__qualname__: str = getattr(forward, "__qualname__", self.__name__)
        self._forward, self._backward = forward, backward
        self._operation = ops.Custom.named(self.__name__, forward.__doc__ or "", self._rule, exact)

    @property
    def _compiled_from(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """The two functions, in which ``surroundings`` looks for what a compiled function depends on."""
        return self._forward, self._backward

    def __repr__(self) -> str:
        return f"<CustomGradient {self.__name__}, backward by {_described(self._backward)}>"

    def __reduce__(self) -> str:
        """As for a function: copies are the same object, and pickle writes the name under which it is found again."""
        return self.__qualname__

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """As for a function: in a class it is a method, whose forward function gets the instance as its first argument."""
        return self if instance is None else MethodType(self, instance)

    def __call__(self, *args: P.args, **options: P.kwargs) -> Any:
        """The output of the forward function, or a tuple of its outputs."""
        given = self._arguments(args, options)
        places = [place for place, value in enumerate(given) if isinstance(value, Tensor)]
        nodes = tuple([given[place].node for place in places])
        kept = ops.history_kept()
        asks = kept != "nothing" and any(node.requires_grad for node in nodes)
        whole = ops.is_tracing() or kept == "everything"
        path = ".".join(filter(None, (current_module(), self.__name__)))
        with inside_module(path, "custom gradient"):
            begins = [_beginning(node, whole, kept != "nothing") for node in nodes]
            for place, node in zip(places, begins, strict=True):
                given[place] = Tensor(node)
            outputs, saved, single = self._taken_apart(self._forward(*given, **options))
            names = tuple([self._parameter(place) for place in places])
            self._refuse_captured([*outputs, *[one.node for one in saved if isinstance(one, Tensor)]], begins)
            made = self._applied(nodes, names, begins, outputs, saved, asks, whole)
        return made[0] if single else tuple(made)

    def _applied(
        self,
        nodes: tuple[Node, ...],
        names: tuple[str, ...],
        begins: Sequence[Node],
        outputs: Sequence[Node],
        saved: Sequence[Any],
        asks: bool,
        whole: bool,
    ) -> list[Tensor]:
        """The outputs as tensors: those of floats are, or are parts of, the node of this call."""
        floats = [node for node in outputs if is_float(node.dtype)]
        if not floats or not (asks or whole):
            return [Tensor(_without_gradient(node, whole)) for node in outputs]
        extras: list[Node] = []
        places: list[_Saved] = []
        for one in saved:
            node = one.node if isinstance(one, Tensor) else None
            if node is None:
                places.append(_Saved("plain", one))
            elif node in begins:
                places.append(_Saved("input", begins.index(node)))
            elif node in floats:
                places.append(_Saved("output", floats.index(node)))
            else:
                places.append(_Saved("extra", len(nodes) + len(extras), node.requires_grad))
                extras.append(_without_gradient(node, whole))
        application = Application(tuple([node.type for node in floats]), names, tuple(places), tuple(begins) if whole else ())
        with ops.history(ops.history_kept() if whole else "nothing"):
            value = joined(floats, application)
        if whole:
            inputs, reads = (*nodes, *extras, _without_gradient(value, whole)), None
        else:
            inputs = (*nodes, *extras)
            reads = [place.at for place in places if place.kind in ("input", "extra")]
        made = self._operation.apply(application, inputs, value.value, asks, reads)
        remaining = iter(parts(made, application))
        return [Tensor(next(remaining) if is_float(node.dtype) else _without_gradient(node, whole)) for node in outputs]

    # ---- what the forward function gets and returns

    def _arguments(self, args: tuple[Any, ...], options: dict[str, Any]) -> list[Any]:
        """The arguments by position, arrays as tensors. Tensors passed by name move there too, out of ``options``.

        Raises:
            UserError: they do not fit the forward function, or a tensor is where no gradient could be passed back to it.
        """
        misfit = misfit_of(self._forward, args, options, self.__name__)
        if misfit is not None:
            raise misfit
        bound = inspect.signature(self._forward).bind(*args, **options)
        options.clear()
        options.update(bound.kwargs)
        given: list[Any] = []
        for place, value in enumerate(bound.args):
            if isinstance(value, np.generic):
                raise UserError(
                    f"{self.__name__}: the argument {self._parameter(place)} is a number of NumPy: pass {value.item()!r}, "
                    "which gets no gradient, or a tensor"
                )
            given.append(tensor(value) if isinstance(value, np.ndarray) else value)
        for place, value in enumerate(given):
            if not isinstance(value, Tensor) and _holds_a_tensor(value):
                raise UserError(
                    f"{self.__name__}: the argument {self._parameter(place)} is a {type(value).__name__} with a tensor in it: "
                    "make each tensor an argument of its own, as the backward function returns a gradient for each"
                )
        for name, value in options.items():
            if _holds_a_tensor(value):
                raise UserError(
                    f"{self.__name__}: the argument {name}, which can only be passed by name, is or holds a tensor: let the "
                    "function take it by position, as the backward function returns the gradients in this order"
                )
        return given

    def _parameter(self, place: int) -> str:
        return parameter_name(self._forward, place)

    def _taken_apart(self, result: Any) -> tuple[list[Node], list[Any], bool]:
        """The outputs and the saved values that the forward function returned, and whether it is a single output."""
        where = f"{self.__name__}, whose forward function is at {_line(self._forward)},"
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], tuple | list)):
            got = f"a tuple of {len(result)}" if isinstance(result, tuple) and len(result) != 2 else None
            if isinstance(result, tuple) and len(result) == 2:
                got = f"saved as a {type(result[1]).__name__}"
            raise UserError(
                f"{where} must return two things: its output, or a tuple of outputs, and a tuple of what its backward function "
                f"needs, which is () if that is nothing; got {got or 'a ' + type(result).__name__}"
            )
        outputs, saved = result
        single = not isinstance(outputs, tuple | list)
        several = [outputs] if single else list(outputs)
        for one in several:
            if not isinstance(one, Tensor):
                raise UserError(f"{where} must return tensors, got a {type(one).__name__} as output")
        if not several:
            raise UserError(f"{where} returned no output")
        return [one.node for one in several], list(saved), single

    def _refuse_captured(self, results: Sequence[Node], begins: Sequence[Node]) -> None:
        """Refuse results that depend on a tensor which asks for a gradient, but is no argument: it would get none."""
        own = set(begins)
        for node in topological_order(results, follow=lambda node: node.requires_grad and node not in own):
            ends = node.operation.role is Role.LEAF or node.is_freed or node.operation is ops.stop_gradient
            if ends:
                label = f" {node.label!r}" if node.label else ""
                raise UserError(
                    f"{self.__name__}, whose forward function is at {_line(self._forward)}, uses the {node.operation.name}"
                    f"{label}, {node.type}, which asks for a gradient, but is no argument, so it would get none: pass it as an "
                    "argument, or use .detach() on it if none is meant to pass"
                )

    # ---- the way back

    def _rule(self, node: Node, upstream: Node) -> list[Node | None]:
        """The downstream gradient for each argument that is a tensor, as the backward function computes it."""
        application: Application = node.attributes["application"]
        arriving = [Tensor(one) for one in parts(upstream, application)]
        given: list[Any] = [arriving[0] if len(arriving) == 1 else tuple(arriving)]
        outputs: list[Node] | None = None
        for number, place in enumerate(application.saved):
            if place.kind == "plain":
                given.append(place.at)
            elif place.kind == "output":
                outputs = outputs or parts(node, application)
                given.append(Tensor(outputs[place.at]))
            elif place.depends and ops.history_kept() != "nothing":
                given.append(Tensor(self._without_second_gradient(node, place.at, number)))
            else:
                given.append(Tensor(node.inputs[place.at]))
        where = f"{self.__name__}: its backward function {_described(self._backward)}"
        misfit = misfit_of(self._backward, tuple(given), {}, "backward")
        if misfit is not None:
            raise UserError(f"{where} gets the upstream gradient and {len(given) - 1} saved values: {misfit}")
        return self._checked(self._backward(*given), node, where)

    def _checked(self, result: Any, node: Node, where: str) -> list[Node | None]:
        """The gradients that the backward function returned, one for each argument; a UserError that begins with ``where``."""
        names = node.attributes["application"].arguments
        arguments = node.inputs[: len(names)]
        floats = [place for place, one in enumerate(arguments) if is_float(one.dtype)]
        several = list(result) if isinstance(result, tuple | list) else [result]
        if len(several) != len(floats):
            raise UserError(
                f"{where} must return a gradient for each argument that is a tensor of floats, which are "
                f"{', '.join(names[place] for place in floats)}; got {len(several)}"
            )
        downstream: list[Node | None] = [None] * len(arguments)
        for place, one in zip(floats, several, strict=True):
            argument = arguments[place]
            for_this = f"for the argument {names[place]}, {argument.type}"
            if one is None and argument.requires_grad:
                raise UserError(
                    f"{where} returned None {for_this}, which asks for a gradient: return cr.zeros_like({names[place]}) if "
                    "none is meant to pass"
                )
            if one is not None and not isinstance(one, Tensor):
                raise UserError(
                    f"{where} returned a {type(one).__name__} {for_this}: a gradient must be a tensor, computed from those "
                    "that it was given"
                )
            if one is not None and one.node.type != argument.type:
                raise UserError(
                    f"{where} returned {one.node.type} {for_this}: a gradient has the shape and dtype of what it is for"
                )
            downstream[place] = None if one is None else one.node
        return downstream

    def _without_second_gradient(self, node: Node, place: int, number: int) -> Node:
        """A saved value that the forward function computed, as a node that refuses to pass a gradient on."""

        def refuse(_: Node, __: Node) -> list[Node | None]:
            raise UserError(
                f"{self.__name__}: its backward function {_described(self._backward)} cannot be differentiated again, as it "
                f"reads saved value {number}, {value.type}, which the forward function computed: save the arguments or the "
                "output instead, and compute it from them in the backward function"
            )

        names = node.attributes["application"].arguments
        arguments, value = node.inputs[: len(names)], node.inputs[place]
        application = Application((value.type,), names, begins=arguments)
        operation = ops.Custom.named(f"saved by {self.__name__}", "", refuse)
        return operation.apply(application, (*arguments, value), value.value, True, None)


@explained
def custom_gradient(backward: Callable[..., Any], *, exact: bool = True) -> Callable[[Callable[P, Any]], CustomGradient[P]]:
    """Decorator: a function whose forward pass is made of existing operations, and whose backward pass is ``backward``.

    The function below it returns its output, or a tuple of outputs, and a tuple of what ``backward`` needs (its arguments, its
    outputs, other tensors, or anything else). ``backward(upstream, *saved)`` gets the gradient of the error with respect to the
    output, of its shape and dtype (a tuple of them for several outputs of floats), and what was saved. It returns the gradient
    for each argument that is a tensor of floats, of that argument's shape and dtype: a single tensor, or a tuple. None is
    allowed for an argument that asks for no gradient. ``exact=False`` says that it is not meant to be the derivative, as in a
    straight-through estimator, so that ``cr.audit`` does not call it wrong. ``docs/custom-gradients.md`` has examples.

    Raises:
        UserError: ``backward`` is no function; and at each call, if what either function takes or returns does not fit.
    """
    if not callable(backward):
        raise UserError(f"custom_gradient: backward must be a function, got a {type(backward).__name__}")

    def decorate(forward: Callable[P, Any]) -> CustomGradient[P]:
        if not callable(forward):
            raise UserError(
                f"custom_gradient: what is decorated must be a function, got a {type(forward).__name__}: write "
                f"@cr.custom_gradient(backward) above the function that computes the output"
            )
        return CustomGradient(forward, backward, exact)

    return decorate


def _beginning(node: Node, whole: bool, asks: bool) -> Node:
    """The stand-in for an argument: of the same value, and in a traced graph linked to it, but with no gradient to it.

    It asks for a gradient itself, so that what depends on it can be told from what depends on other tensors.
    """
    asks = asks and is_float(node.dtype)
    if whole:
        return Node(ops.stop_gradient, (node,), node.type, {}, node.value, asks, label=node.label)
    if node.value is None:
        raise UserError(f"an argument of a custom gradient {ops.why_no_value(node)}")
    return leaf(node.value, INPUT, requires_grad=asks, label=node.label)


def _without_gradient(node: Node, whole: bool) -> Node:
    """``node`` as an input or output at which no gradient passes; where the graph is kept ``whole``, with its history."""
    if whole:
        return ops.stop_gradient(node)
    assert node.value is not None  # it ran
    return leaf(node.value)


def _holds_a_tensor(value: Any) -> bool:
    """Whether a value that is no tensor is a list, dict, ... with a tensor somewhere in it."""
    leaves: list[Any] = []
    flatten(value, leaves)
    return any(isinstance(one, Tensor) for one in leaves)


def _described(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__name__', type(function).__name__)} ({_line(function)})"


def _line(function: Callable[..., Any]) -> str:
    """Where a function is defined, as ``model.py:12``."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{os.path.basename(code.co_filename)}:{code.co_firstlineno}" if code is not None else "an unknown line"
