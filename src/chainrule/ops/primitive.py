"""What a primitive is, and how applying one makes a node.

A primitive stands on one page with everything that is to be known of it: its shape rule, its NumPy reference (the
definition of right), its gradient rules, its role, what those rules read, and rows of examples that tests run it on. A
missing field is a TypeError at import. Who runs it is in ``execution``.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from chainrule.errors import InternalError, UserError
from chainrule.graph.dtypes import as_dtype, is_float
from chainrule.graph.node import CONSTANT, NO_ATTRIBUTES, Node, Remembered, Role, TensorType
from chainrule.ops.execution import AsUsual, mode, usual

Rule = Callable[[Node, Node], Node]
"""``rule(node, upstream)``: the downstream gradient for one input, emitted as nodes."""

OUTPUT: Final = "output"
"""In ``saves``: the rules read the node's own value. In ``images``: the result is one."""


@dataclass(frozen=True)
class EachInput:
    """One gradient rule for every input of a primitive that takes any number: ``rule(node, upstream, position)``."""

    rule: Callable[[Node, Node, int], Node] = field(repr=False)


@dataclass(frozen=True)
class Blocked:
    """No gradient passes, and why."""

    reason: str


@dataclass(frozen=True)
class Spec:
    """One example to run a primitive on: the types of its inputs, its attributes, and where values may lie.

    ``inputs`` are shapes; ``dtypes`` one dtype per input, or one for all. ``domain`` is the interval that random inputs
    are drawn from; integers come from ``integers`` (low, high exclusive).
    """

    inputs: tuple[tuple[int, ...], ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    dtypes: tuple[str, ...] = ("float32",)
    domain: tuple[float, float] = (-2.0, 2.0)
    integers: tuple[int, int] = (0, 5)

    def dtype_of(self, position: int) -> np.dtype[Any]:
        return as_dtype(self.dtypes[position] if len(self.dtypes) > 1 else self.dtypes[0])


@dataclass(frozen=True, eq=False)
class Primitive:
    """One operation on tensors.

    - ``shape(*types, **attributes)``: type of the output; raises a UserError that names the values that do not fit.
    - ``reference(*arrays, **attributes)``: the result by NumPy, for any float width; the definition of right.
    - ``vjp``: per input a rule that emits the downstream gradient, None for an input that gets none; or one
      ``EachInput`` rule; or ``Blocked``.
    - ``local``: per input the local gradient as a formula, for people.
    - ``saves``: the forward values that the rules read: positions of inputs, and ``OUTPUT``. Of a switcher, the rule for one
      input reads the other. All other values are freed as soon as nobody holds them.
    - ``elementwise``: each output element depends only on the input elements at its own place.
    - ``rearranges``: the reference computes nothing, so NumPy has nothing to warn of.

    What engines and the compiler go by:

    - ``expensive``: so much work an element that a value which several places need is rather stored than computed again.
    - ``reduces``: axes go, in a loop that adds up or chooses; a compiled reduction shares the loop of what it reads.
    - ``heavy``: it has kernels of its own, and shares its loops with nothing.
    - ``images``: which inputs are images (N, C, H, W), and ``OUTPUT`` if the result is: kernels want their channels last.
    - ``multiply_adds(*types, output)``: of a contraction, how many multiplications, each with its addition, it takes when
      computed as it is defined.
    """

    name: str
    role: Role
    doc: str
    shape: Callable[..., TensorType]
    reference: Callable[..., Any]
    vjp: tuple[Rule | None, ...] | EachInput | Blocked
    local: tuple[str, ...]
    saves: tuple[int | str, ...]
    spec: Sequence[Spec]
    elementwise: bool = False
    rearranges: bool = False
    expensive: bool = False
    reduces: bool = False
    heavy: bool = False
    images: tuple[int | str, ...] = ()
    multiply_adds: Callable[..., int] | None = None

    def __post_init__(self) -> None:
        if self.name in REGISTRY:
            raise InternalError(f"two primitives are named {self.name!r}")
        if isinstance(self.vjp, Blocked) != (self.role is Role.BLOCKER):
            raise InternalError(f"primitive {self.name!r}: a blocker, and only a blocker, declares Blocked")
        REGISTRY[self.name] = self

    def __call__(self, *inputs: Node, **attributes: Any) -> Node:
        """The node of this primitive applied to ``inputs``; runs it at once unless only tracing.

        What runs at once remembers its inputs where a gradient may come back to them, their values where a rule reads them,
        and forgets all else, so that memory is freed; ``history`` widens that to everything or narrows it to nothing.
        """
        type_ = self.shape(*map(_type_of, inputs), **attributes)
        engine, history = mode.engine, mode.history
        requires_grad = False
        if history != "nothing":
            for place, one in enumerate(inputs):
                if one.requires_grad and self.passes_gradient_to(place):
                    requires_grad = is_float(type_.dtype)
                    break
        if engine is AsUsual.ENGINE:  # as ``engine_in_use``, without a call for every node
            engine = usual[0]
        if engine is None:
            return Node(self, inputs, type_, attributes, None, requires_grad)
        values = []
        for one in inputs:
            if one.value is None:
                raise UserError(f"{self.name}: an input {why_no_value(one)}")
            values.append(one.value)
        value = engine(self, values, attributes, type_)
        if history == "everything":
            return Node(self, inputs, type_, attributes, value, requires_grad)
        if requires_grad:
            for array in values:
                if array.nbytes >= _LARGE:
                    inputs = self._remembered(inputs)
                    break
            return Node(self, inputs, type_, attributes, value, True)
        return Node(CONSTANT, (), type_, NO_ATTRIBUTES, value)

    def _remembered(self, inputs: tuple[Node, ...]) -> tuple[Node, ...]:
        """What a node that ran keeps of its inputs: those on the way of a gradient; of large values, those that rules read."""
        saves = self.saves
        remembered = []
        for place, one in enumerate(inputs):
            value = one.value
            assert value is not None
            if value.nbytes >= _LARGE:
                read = place in saves and (self.role is not Role.SWITCHER or inputs[1 - place].requires_grad)
                if one.inputs:
                    one = remember(one)
                    if read:
                        one.value = value
                elif not read and not one.requires_grad and 0 not in value.strides:  # what is repeated is small itself
                    one = Remembered.of(one)
            remembered.append(one)
        return tuple(remembered)

    def downstream(self, node: Node, upstream: Node, position: int) -> Node | None:
        """Gradient of the error with respect to input ``position`` of ``node``, as nodes; None where none passes."""
        if isinstance(self.vjp, Blocked):
            return None
        if isinstance(self.vjp, EachInput):
            return self.vjp.rule(node, upstream, position)
        rule = self.vjp[position]
        return None if rule is None else rule(node, upstream)

    def passes_gradient_to(self, position: int) -> bool:
        if isinstance(self.vjp, Blocked):
            return False
        return isinstance(self.vjp, EachInput) or self.vjp[position] is not None

    def __repr__(self) -> str:
        return f"<Primitive {self.name}>"


_type_of = operator.attrgetter("type")
REGISTRY: dict[str, Primitive] = {}


def remember(node: Node) -> Remembered:
    """What the graph keeps of a value that ran: the number itself only where the rules of its own primitive read it."""
    kept = node.remembered
    if kept is None:
        kept = Remembered.of(node)
        if OUTPUT in node.operation.saves:  # type: ignore[attr-defined]  # only results of primitives are remembered
            kept.value = node.value
    return kept


_LARGE = 1 << 14
"""Bytes of a value from which on it is worth a node of its own to forget it."""


def why_no_value(node: Node) -> str:
    """The end of a message that begins with what has no value."""
    if isinstance(node, Remembered):
        return (
            f"was computed at {node.origin} and is freed: its own tensor is gone, and no gradient rule reads it; hold on to "
            "the tensor, or compute it within chainrule.ops.history('everything')"
        )
    return f"was traced at {node.origin} and has no value: use it only inside the traced function"


def rows(*spec: Spec) -> tuple[Spec, ...]:
    return spec
