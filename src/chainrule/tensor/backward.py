"""``backward()`` outside compiled functions: backprop over the values of a graph that ran node by node.

Where there is much to compute, all nodes of the gradient become one program, whose inputs are the values of the forward pass as
they lie. It is made when a graph of this structure first comes by, and used again for each one that comes after:

    graph that ran ──> structure ──> known? ── no ──> backprop over stand-ins without values ──> program
                                       └── yes ──> its program ──> gradients

Elsewhere the gradient's nodes run one by one, as the forward pass did. Afterwards the graph is freed, unless it is retained.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from chainrule import ops
from chainrule.errors import InternalError, UserError
from chainrule.grad import backprop, refuse_freed
from chainrule.graph import COMPILED, Array, Node, leaf, topological_order
from chainrule.recent import Recent
from chainrule.tensor.backend import backend
from chainrule.tensor.engines import has_native_code, work
from chainrule.tensor.tracing import active_trace

_WORTH_A_PROGRAM = 1 << 20
"""Multiply-adds, or elements, of the forward pass from which on its gradient is worth a program."""
_programs: Recent[Any, _Gradient] = Recent(64)


def differentiable_nodes(output: Node) -> list[Node]:
    """The nodes that a gradient of ``output`` can pass, inputs first; a UserError where the graph is freed."""
    order = topological_order([output], follow=lambda node: node.requires_grad)
    trace = active_trace()
    freed = () if trace is None else trace.freed
    for node in order:
        if node in freed or (not node.inputs and node.is_freed):
            refuse_freed(node)
    return order


def gradients(output: Node, upstream: Node | None, as_program: bool, retain: bool) -> list[tuple[Node, Node | None]]:
    """Each node whose gradient somebody keeps, and what arrives there, as ``backprop`` gives it. Frees the graph unless it is
    to be ``retained``."""
    order = differentiable_nodes(output)
    wanted = [node for node in order if node.owner is not None]
    trace = active_trace()
    if trace is not None and trace.notes is not None:
        refuse_outside("backward: the compiled function", order)
    refuse_compiled("backward", wanted)
    found = None
    if as_program and output.value is not None and _is_worth_a_program(order) and has_native_code():
        if upstream is not None and upstream.value is not None:
            upstream = leaf(upstream.value)  # its own history, or its place in this graph, does not matter
        structure = _Structure(output, order, wanted, upstream)
        found = _programs.get_or_make(structure.key, lambda: _Gradient(structure)).run(structure)
    if found is None:
        found = backprop(output, wanted, upstream)
    if not retain:
        _free(order)
    return list(zip(wanted, found, strict=True))


def refuse_outside(what: str, nodes: Iterable[Node]) -> None:
    """Raise where a traced graph goes on into one that ran outside, whose values the program would not read again."""
    for node in nodes:
        if node.inputs and node.value is not None:
            raise UserError(
                f"{what} uses {node.type}, computed outside at {node.origin} from tensors that ask for gradients: pass it as "
                "an argument, compute it inside, or use .detach() on it if no gradient is meant to pass"
            )


def refuse_compiled(what: str, nodes: Iterable[Node]) -> None:
    """Raise where a gradient would go back into a compiled function, which keeps no graph of its results."""
    for node in nodes:
        if node.operation is COMPILED:
            raise UserError(
                f"{what}: the gradient would be lost at {node.type}, a result of the compiled function {node.label}, which "
                f"keeps no graph: compute the error inside that function, or call the plain one, {node.label}.__wrapped__; "
                "where no gradient is meant to pass, use .detach() on the result"
            )


def _free(order: Sequence[Node]) -> None:
    """Let go of a graph: none of these nodes can be gone through again."""
    trace = active_trace()
    if trace is not None:  # the program needs the graph; what is refused node by node is refused here too
        trace.freed.update([node for node in order if node.inputs and node.operation is not ops.stop_gradient])
        return
    for node in order:
        if node.inputs:
            node.free()


def _is_worth_a_program(order: Sequence[Node]) -> bool:
    """Whether the forward pass had much to do; looks no further than it must."""
    done = 0
    for node in order:
        if isinstance(node.operation, ops.Primitive):
            done += work(node.operation, node.inputs, node.type)
            if done >= _WORTH_A_PROGRAM:
                return True
    return False


class _Structure:
    """A graph that ran, as far as gradients pass: what was applied to what, and the values in the order in which they come.

    ``key`` is equal for graphs whose gradients are computed alike."""

    def __init__(self, output: Node, order: Sequence[Node], wanted: Sequence[Node], upstream: Node | None) -> None:
        self.output, self.on_the_way, self.wanted, self.upstream = output, order, wanted, upstream
        numbers: dict[Node, int] = {}
        self.nodes: list[Node] = []  # those on the way, and before each what it takes from outside
        self.values: list[Array] = []  # of those nodes that have one: rules read no others
        key: list[Any] = [ops.contraction_precision()]
        for node in (*self.on_the_way, *(() if upstream is None else (upstream,))):
            taken = []
            for one in node.inputs if node.requires_grad else ():
                if one not in numbers:  # no gradient passes to it
                    numbers[one] = len(numbers)
                    self.nodes.append(one)
                    key.append((one.type, self._lies(one)))
                taken.append(numbers[one])
            numbers[node] = len(numbers)
            self.nodes.append(node)
            key.append((node.operation, *taken, *node.attributes.items(), node.type, self._lies(node)))
        key.append(tuple([numbers[one] for one in wanted]))
        key.append(upstream is None)
        self.key = tuple(key)

    def _lies(self, node: Node) -> tuple[int, ...] | None:
        """The strides of the value, which is noted; None without a value."""
        value = node.value
        if value is None:
            return None
        self.values.append(value)
        return value.strides


class _Gradient:
    """The gradient of one structure as a program."""

    def __init__(self, structure: _Structure) -> None:
        lying = [backend().stand_in(one) for one in structure.values]
        stand_ins: dict[Node, Node] = {}
        with ops.running_on(None):
            for node in structure.nodes:
                inputs = tuple([stand_ins[one] for one in node.inputs]) if node.requires_grad else ()
                stand_ins[node] = Node(
                    node.operation, inputs, node.type, node.attributes, None, node.requires_grad, origin=node.origin
                )
            upstream = None if structure.upstream is None else stand_ins[structure.upstream]
            found = backprop(stand_ins[structure.output], [stand_ins[one] for one in structure.wanted], upstream)
            outputs = [one for one in found if one is not None]
            with_values = [stand_ins[node] for node in structure.nodes if node.value is not None]
            made = {node: one.node for node, one in zip(with_values, lying, strict=True)}
            without = set(stand_ins.values()).difference(with_values)
            for node in topological_order(outputs, follow=lambda one: one not in made):
                if node in without:
                    raise InternalError(f"a gradient rule reads {node!r}, made at {node.origin}, which no `saves` declares")
                made[node] = node.over([made[one] for one in node.inputs]) if node.inputs else node
        self._program = backend().lent_program([made[one] for one in outputs], lying)
        self._arrives = [one is not None for one in found]

    def run(self, structure: _Structure) -> list[Node | None] | None:
        """The gradients; None within another run on this thread."""
        found = self._program.run(structure.values)
        if found is None:
            return None
        values = iter(found)
        return [leaf(next(values)) if arrives else None for arrives in self._arrives]
