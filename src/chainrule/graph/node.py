"""A node: a value of a computation, and how it was computed.

A node is made once, and stays as it is until ``backward()`` frees its graph. It is either a *leaf* (a constant, a parameter,
an input: no inputs, no primitive applied) or the result of a primitive applied to the values of its inputs. Its array is in
``value``, which is None if the computation is only traced.

The graph must not keep arrays that nobody reads again. So where values are large, a node that ran does not keep the nodes that
it was given as inputs, which hold their arrays, but a ``Remembered`` node for each: the same without the value, unless a
gradient rule reads it.
"""

from __future__ import annotations

import enum
import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from chainrule.graph.dtypes import DType, is_float, name_of
from chainrule.graph.origin import Origin, current_origin

Array = NDArray[Any]


class Role(enum.Enum):
    """What a primitive does to the gradient that flows back through it; each role has a law that tests hold it to."""

    DISTRIBUTOR = "distributor"  # passes the upstream gradient on, whatever the forward values were (add, sum)
    SWITCHER = "switcher"  # the gradient for each input is computed from the other input (multiply, matmul, convolution)
    ROUTER = "router"  # sends the whole upstream gradient to the inputs that won (max, pooling, where)
    MOVER = "mover"  # moves values to other places; the gradient moves back (reshape, pad, gather)
    SCALER = "scaler"  # scales each element's gradient by a number of its own: a diagonal Jacobian (exp, tanh)
    NORMALISER = "normaliser"  # makes numbers along an axis compete: the gradient passed on sums to zero there (log_softmax)
    BLOCKER = "blocker"  # passes no gradient (comparison, argmax, stop_gradient)
    CUSTOM = "custom"  # does what its author's rule says (cr.custom_gradient)
    LEAF = "leaf"  # where gradients end: constants, parameters, inputs


class TensorType(NamedTuple):
    """Shape and dtype of a value."""

    shape: tuple[int, ...]
    dtype: DType

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that a contiguous array of this type takes."""
        return self.size * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{name_of(self.dtype)}[{', '.join(map(str, self.shape))}]"


class Operation(Protocol):
    """What the graph needs to know about an operation: a primitive (``ops.Primitive``) or that of a leaf."""

    @property
    def name(self) -> str:
        """The name under which it is shown, such as ``matmul``."""

    @property
    def role(self) -> Role:
        """What it does to the gradient that flows back."""

    @property
    def shape(self) -> Callable[..., TensorType]:
        """The shape rule: from the types of the inputs and the attributes to the type of the output."""


class Node:
    """One value of a computation: ``operation`` applied to ``inputs``, of ``type``.

    ``requires_grad`` is true where a gradient can arrive at a parameter or an input through this node. ``origin`` says
    which layer of the model and which line of the user's program made it. ``owner`` is a weak reference to the cell
    (parameter, buffer) or tensor whose value it is; leaves have it, and hidden values whose gradient is to be kept. ``label``
    is a name to show, empty for most nodes. ``remembered`` is the node that stands for this one among the inputs of later
    nodes, once such a node has been made.
    """

    __slots__ = (
        "__weakref__",
        "attributes",
        "inputs",
        "label",
        "operation",
        "origin",
        "owner",
        "remembered",
        "requires_grad",
        "type",
        "value",
    )

    def __init__(
        self,
        operation: Operation,
        inputs: tuple[Node, ...],
        type: TensorType,
        attributes: Mapping[str, Any],
        value: Array | None = None,
        requires_grad: bool = False,
        label: str = "",
        owner: weakref.ref[Any] | None = None,
        origin: Origin | None = None,
    ) -> None:
        self.operation = operation
        self.inputs = inputs
        self.type = type
        self.attributes = attributes
        self.value = value
        self.requires_grad = requires_grad
        self.label = label
        self.owner = owner
        self.origin = current_origin() if origin is None else origin
        self.remembered: Remembered | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value."""
        return self.type.shape

    @property
    def dtype(self) -> DType:
        """Dtype of the value."""
        return self.type.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.type.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.type.shape)

    @property
    def is_leaf(self) -> bool:
        """Whether it has no inputs; also true of a computed node that ``is_freed``."""
        return not self.inputs

    @property
    def is_freed(self) -> bool:
        """Whether it was computed, but ``backward()`` has freed its inputs: no gradient can pass it any more."""
        return self.requires_grad and not self.inputs and self.operation.role is not Role.LEAF

    def free(self) -> None:
        """Drop the inputs, so that their memory can be reclaimed."""
        self.inputs = ()
        if self.remembered is not None:
            self.remembered.free()

    def over(self, inputs: Sequence[Node]) -> Node:
        """A node of the same operation and origin, applied to other ``inputs`` of the same types; it has no value."""
        given = tuple(inputs)
        return Node(
            self.operation, given, self.type, self.attributes, None, self.requires_grad, self.label, self.owner, self.origin
        )

    def __repr__(self) -> str:
        label = f" {self.label!r}" if self.label else ""
        return f"<Node {self.operation.name}{label} {self.type}>"


class Remembered(Node):
    """What the graph keeps of a node that ran: all except its value, which is kept only if a gradient rule reads it."""

    __slots__ = ()

    @classmethod
    def of(cls, node: Node) -> Remembered:
        """The remembered form of ``node``, always the same object: gradients from several users are summed in one place."""
        if node.remembered is not None:
            return node.remembered
        made = cls.__new__(cls)
        made.operation = node.operation
        made.inputs = node.inputs
        made.type = node.type
        made.attributes = node.attributes
        made.value = None
        made.requires_grad = node.requires_grad
        made.label = node.label
        made.owner = node.owner
        made.origin = node.origin
        node.remembered = made
        return made

    def held(self, value: Array) -> Node:
        """A node like the original, with ``value`` given back to it, so that it can be computed with again."""
        made = Node(
            self.operation,
            self.inputs,
            self.type,
            self.attributes,
            value,
            self.requires_grad,
            self.label,
            self.owner,
            self.origin,
        )
        made.remembered = self
        return made

    @property
    def remembered(self) -> Remembered:  # type: ignore[override]
        """Itself."""
        return self

    def free(self) -> None:
        """Drop the inputs and the value, so that their memory can be reclaimed."""
        self.inputs, self.value = (), None


@dataclass(frozen=True, slots=True)
class _LeafOperation:
    """The operation of a leaf: applied to nothing, it only has a name."""

    name: str
    role: Role = Role.LEAF

    @property
    def shape(self) -> Callable[..., TensorType]:
        def leaf_has_no_rule(*_: object, **__: object) -> TensorType:
            raise TypeError(f"{self.name} is a leaf: its type is given, not derived")

        return leaf_has_no_rule


CONSTANT = _LeafOperation("constant")
PARAMETER = _LeafOperation("parameter")
BUFFER = _LeafOperation("buffer")
INPUT = _LeafOperation("input")
COMPILED = _LeafOperation("result of a compiled function")
"""The operation of a value that a compiled function returned: it has a history, but no gradient can flow back into it."""
NO_ATTRIBUTES: Mapping[str, Any] = {}


def leaf(
    value: Array | TensorType,
    operation: Operation = CONSTANT,
    *,
    requires_grad: bool = False,
    label: str = "",
    owner: weakref.ref[Any] | None = None,
) -> Node:
    """A leaf that holds ``value``; given only a type, it stands for a value that is provided when the graph runs.

    ``requires_grad`` has no effect on integers and bools, which have no gradient.
    """
    if isinstance(value, TensorType):
        return Node(operation, (), value, NO_ATTRIBUTES, None, requires_grad and is_float(value.dtype), label, owner)
    type_ = TensorType(value.shape, value.dtype)
    return Node(operation, (), type_, NO_ATTRIBUTES, value, requires_grad and is_float(type_.dtype), label, owner)
