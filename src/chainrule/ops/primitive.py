"""What a primitive is, and how applying one makes a node.

Everything about a primitive is declared in one place: its shape rule, its NumPy reference (which defines the right
result), its gradient rules, which forward values those read, its role, and example rows that tests run it on. A missing field
is a TypeError at import. The engines that run primitives are in ``execution``.
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
"""In ``saves``: the gradient rules read the node's own value. In ``images``: the result is an image."""


@dataclass(frozen=True)
class EachInput:
    """One gradient rule for every input of a primitive that takes any number: ``rule(node, upstream, position)``."""

    rule: Callable[[Node, Node, int], Node] = field(repr=False)


@dataclass(frozen=True)
class Blocked:
    """Declares that no gradient passes, and for what reason."""

    reason: str


@dataclass(frozen=True)
class Spec:
    """One example to run a primitive on: the types of its inputs, its attributes, and the range of values.

    ``inputs`` are shapes; ``dtypes`` has one dtype per input, or one for all. Random float inputs are drawn from the interval
    ``domain``, integers from ``integers`` (low, high exclusive).
    """

    inputs: tuple[tuple[int, ...], ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    dtypes: tuple[str, ...] = ("float32",)
    domain: tuple[float, float] = (-2.0, 2.0)
    integers: tuple[int, int] = (0, 5)

    def dtype_of(self, position: int) -> np.dtype[Any]:
        """The dtype of input ``position``."""
        return as_dtype(self.dtypes[position] if len(self.dtypes) > 1 else self.dtypes[0])


@dataclass(frozen=True, eq=False)
class Primitive:
    """One operation on tensors.

    - ``shape(*types, **attributes)``: type of the output; raises a UserError that names the values that do not fit.
    - ``reference(*arrays, **attributes)``: the result by NumPy, for any float width; it defines what is right.
    - ``vjp``: for each input the rule that emits its downstream gradient, or None if it gets no gradient; or a single
      ``EachInput`` rule for all; or ``Blocked``.
    - ``local``: for each input the local gradient as a formula, for people to read.
    - ``saves``: the forward values that the gradient rules read, as positions of inputs and ``OUTPUT``; all other values are
      freed as soon as nobody holds them. In a switcher, the rule for either input reads only the other input.
    - ``elementwise``: each output element depends only on the input elements at its own place.
    - ``rearranges``: the reference only moves values, so NumPy's warnings need not be silenced.

    Engines and the compiler are guided by:

    - ``expensive``: computing an element takes so much work that a value with several users is stored and not recomputed.
    - ``reduces``: it removes axes by summing or choosing; when compiled, it shares the loop that computes its input.
    - ``heavy``: it has kernels of its own, and is not fused into the loops of other operations.
    - ``images``: the positions of inputs that are images (N, C, H, W), and ``OUTPUT`` if the result is an image; kernels want
      images with their channels last.
    - ``multiply_adds(*types, output)``: for a contraction, the number of multiplications, each with its addition, when it is
      computed directly from its definition.
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
        """The node of this primitive applied to ``inputs``. It is run at once, unless the thread is tracing.

        A node that ran keeps its inputs only if a gradient may flow back to them, and their values only if a gradient rule
        reads them, so that all other memory is freed; inside ``history`` it keeps everything, or nothing.
        """
        type_ = self.shape(*map(_type_of, inputs), **attributes)
        engine, history = mode.engine, mode.history
        requires_grad = False
        if history != "nothing":
            for place, node in enumerate(inputs):
                if node.requires_grad and self.passes_gradient_to(place):
                    requires_grad = is_float(type_.dtype)
                    break
        if engine is AsUsual.ENGINE:  # the same as ``engine_in_use``, but without a call for every node
            engine = usual[0]
        if engine is None:
            made = Node(self, inputs, type_, attributes, None, requires_grad)
            if mode.made is not None:
                mode.made.append(made)
            return made
        values = []
        for node in inputs:
            if node.value is None:
                raise UserError(f"{self.name}: an input {why_no_value(node)}")
            values.append(node.value)
        value = engine(self, values, attributes, type_)
        if history == "everything":
            return Node(self, inputs, type_, attributes, value, requires_grad)
        if requires_grad:
            for array in values:
                if array.nbytes >= _LARGE:
                    inputs = remembered_inputs(inputs, self._reads(inputs))
                    break
            return Node(self, inputs, type_, attributes, value, True)
        return Node(CONSTANT, (), type_, NO_ATTRIBUTES, value)

    def _reads(self, inputs: tuple[Node, ...]) -> list[int]:
        """The positions of the inputs whose values the gradient rules will read."""
        switcher = self.role is Role.SWITCHER
        return [
            place
            for place in range(len(inputs))
            if place in self.saves and not (switcher and not inputs[1 - place].requires_grad)
        ]

    def pass_on(self, node: Node, upstream: Node, wanted: Sequence[bool]) -> list[Node | None]:
        """The downstream gradient for each input of ``node`` for which ``wanted`` is true, as nodes; None for the others."""
        return [self.downstream(node, upstream, place) if asked else None for place, asked in enumerate(wanted)]

    def downstream(self, node: Node, upstream: Node, position: int) -> Node | None:
        """Gradient of the error with respect to input ``position`` of ``node``, as nodes; None where none passes."""
        if isinstance(self.vjp, Blocked):
            return None
        if isinstance(self.vjp, EachInput):
            return self.vjp.rule(node, upstream, position)
        rule = self.vjp[position]
        return None if rule is None else rule(node, upstream)

    def passes_gradient_to(self, position: int) -> bool:
        """Whether input ``position`` gets a downstream gradient."""
        if isinstance(self.vjp, Blocked):
            return False
        return isinstance(self.vjp, EachInput) or self.vjp[position] is not None

    def __repr__(self) -> str:
        return f"<Primitive {self.name}>"


_type_of = operator.attrgetter("type")
REGISTRY: dict[str, Primitive] = {}


def remembered_inputs(inputs: tuple[Node, ...], reads: Sequence[int]) -> tuple[Node, ...]:
    """The inputs as a node that ran keeps them: large values are dropped, unless a gradient rule ``reads`` that position."""
    remembered = []
    for place, node in enumerate(inputs):
        value = node.value
        assert value is not None
        if value.nbytes >= _LARGE:
            read = place in reads
            if node.inputs:
                node = remember(node)
                if read:
                    node.value = value
            elif not read and not node.requires_grad and 0 not in value.strides:  # a broadcast array takes little memory
                node = Remembered.of(node)
        remembered.append(node)
    return tuple(remembered)


def remember(node: Node) -> Remembered:
    """The remembered form of ``node``; it has the value only if the gradient rules of the node's own primitive read it."""
    kept = node.remembered
    if kept is None:
        kept = Remembered.of(node)
        if OUTPUT in node.operation.saves:  # type: ignore[attr-defined]  # only results of primitives are remembered
            kept.value = node.value
    return kept


_LARGE = 1 << 14
"""Size in bytes from which dropping a value is worth the cost of another node."""


def why_no_value(node: Node) -> str:
    """Why ``node`` has no value and what to do, as the end of a message whose subject is the node."""
    if isinstance(node, Remembered):
        return (
            f"was computed at {node.origin} and is freed: its own tensor is gone, and no gradient rule reads it; hold on to "
            "the tensor, or compute it within chainrule.ops.history('everything')"
        )
    return f"was traced at {node.origin} and has no value: use it only inside the traced function"


def rows(*spec: Spec) -> tuple[Spec, ...]:
    """The examples as a tuple, for the field ``spec``."""
    return spec
