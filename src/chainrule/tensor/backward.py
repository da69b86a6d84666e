"""``backward()`` outside compiled functions: backpropagation through a graph whose nodes have run one by one.

After a large forward pass, all nodes of the gradient are compiled into one program. Its inputs are the values of the forward
pass, in the memory layout that each of them has. The program is made for the first graph of a structure, and used again for all
later graphs of the same structure:

    graph that ran ──> structure ──> known? ── no ──> backprop over nodes without values ──> program
                                       └── yes ──> its program ──> gradients

After a small forward pass the nodes of the gradient run one by one, as those of the forward pass did. Either way the graph is
freed afterwards, unless it is retained.
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
"""The work of a forward pass (see ``engines.work``) from which on compiling a program for its gradient pays off."""
_programs: Recent[Any, _Gradient] = Recent(64)
"""Programs for gradients, by the ``key`` of their ``_Structure``."""


def differentiable_nodes(output: Node) -> list[Node]:
    """The nodes below ``output`` through which a gradient passes, inputs before the nodes that use them.

    Raises:
        UserError: an earlier ``backward()`` freed a part of this graph.
    """
    order = topological_order([output], follow=lambda node: node.requires_grad)
    trace = active_trace()
    freed = () if trace is None else trace.freed
    for node in order:
        if node in freed or (not node.inputs and node.is_freed):
            refuse_freed(node)
    return order


def gradients(output: Node, upstream: Node | None, as_program: bool, retain: bool) -> list[tuple[Node, Node | None]]:
    """Pairs of a node and its gradient, for each node below ``output`` whose gradient is kept (which has an ``owner``).

    The gradient is None for a node that none arrives at. ``upstream`` is the gradient of the error with respect to ``output``;
    None stands for 1. ``as_program`` allows the gradients to be computed by one program. The graph is freed unless ``retain``
    is set.
    """
    order = differentiable_nodes(output)
    wanted = [node for node in order if node.owner is not None]
    trace = active_trace()
    if trace is not None and trace.notes is not None:
        refuse_outside("backward: the compiled function", order)
    refuse_compiled("backward", wanted)
    computed = None
    if as_program and output.value is not None and _is_worth_a_program(order) and has_native_code():
        if upstream is not None and upstream.value is not None:
            upstream = leaf(upstream.value)  # without its history, which would be part of the structure
        structure = _Structure(output, order, wanted, upstream)
        computed = _programs.get_or_make(structure.key, lambda: _Gradient(structure)).run(structure)
    if computed is None:
        computed = backprop(output, wanted, upstream, None if trace is None else trace.passed)
    if not retain:
        _free(order)
    return list(zip(wanted, computed, strict=True))


def refuse_outside(what: str, nodes: Iterable[Node]) -> None:
    """Refuse a traced graph that continues into nodes computed before tracing: the program would keep their present values.

    ``what`` begins the message.
    """
    for node in nodes:
        if node.inputs and node.value is not None:
            raise UserError(
                f"{what} uses {node.type}, computed outside at {node.origin} from tensors that ask for gradients: pass it as "
                "an argument, compute it inside, or use .detach() on it if no gradient is meant to pass"
            )


def refuse_compiled(what: str, nodes: Iterable[Node]) -> None:
    """Refuse a gradient that would have to pass through a compiled function, which keeps no graph of its results.

    ``what`` begins the message.
    """
    for node in nodes:
        if node.operation is COMPILED:
            raise UserError(
                f"{what}: the gradient would be lost at {node.type}, a result of the compiled function {node.label}, which "
                f"keeps no graph: compute the error inside that function, or call the plain one, {node.label}.__wrapped__; "
                "where no gradient is meant to pass, use .detach() on the result"
            )


def _free(order: Sequence[Node]) -> None:
    """Free the nodes in ``order``, so that no later gradient can pass through them."""
    trace = active_trace()
    if trace is not None:  # the program needs the inputs, so only a note is made, which later refuses these nodes
        trace.freed.update([node for node in order if node.inputs and node.operation is not ops.stop_gradient])
        return
    for node in order:
        if node.inputs:
            node.free()


def _is_worth_a_program(order: Sequence[Node]) -> bool:
    """Whether the forward pass did enough work for a program of its gradient to pay off.

    A rule of the user's own may read anything, so it is asked each time, and not once for all graphs of a structure.
    """
    if any(isinstance(node.operation, ops.Custom) for node in order):
        return False
    done = 0
    for node in order:
        if isinstance(node.operation, ops.Primitive):
            done += work(node.operation, node.inputs, node.type)
            if done >= _WORTH_A_PROGRAM:
                return True
    return False


class _Structure:
    """A graph that ran, as far as gradients pass through it: its operations, edges, types and memory layouts.

    ``key`` is equal for two graphs whose gradients one program can compute. ``values`` are the arrays that the program reads.
    """

    def __init__(self, output: Node, order: Sequence[Node], wanted: Sequence[Node], upstream: Node | None) -> None:
        self.output, self.on_the_way, self.wanted, self.upstream = output, order, wanted, upstream
        numbers: dict[Node, int] = {}
        self.nodes: list[Node] = []  # ``on_the_way``, each after those of its inputs that are not among them
        self.values: list[Array] = []  # the values of ``nodes``, where kept; gradient rules read no others
        key: list[Any] = [ops.contraction_precision()]
        for node in (*self.on_the_way, *(() if upstream is None else (upstream,))):
            input_numbers = []
            for source in node.inputs if node.requires_grad else ():
                if source not in numbers:  # an input that no gradient passes to
                    numbers[source] = len(numbers)
                    self.nodes.append(source)
                    key.append((source.type, self._layout(source)))
                input_numbers.append(numbers[source])
            numbers[node] = len(numbers)
            self.nodes.append(node)
            key.append((node.operation, *input_numbers, *node.attributes.items(), node.type, self._layout(node)))
        key.append(tuple([numbers[node] for node in wanted]))
        key.append(upstream is None)
        self.key = tuple(key)

    def _layout(self, node: Node) -> tuple[int, ...] | None:
        """The strides of the node's value, in bytes. Adds the value to ``values``. None if the node has no value."""
        value = node.value
        if value is None:
            return None
        self.values.append(value)
        return value.strides


class _Gradient:
    """The program that computes the gradients of all graphs of one structure."""

    def __init__(self, structure: _Structure) -> None:
        stand_ins = [backend().stand_in(value) for value in structure.values]
        valueless: dict[Node, Node] = {}  # a copy of each node, without its value
        with ops.running_on(None):
            for node in structure.nodes:
                inputs = tuple([valueless[source] for source in node.inputs]) if node.requires_grad else ()
                valueless[node] = Node(
                    node.operation, inputs, node.type, node.attributes, None, node.requires_grad, origin=node.origin
                )
            upstream = None if structure.upstream is None else valueless[structure.upstream]
            results = backprop(valueless[structure.output], [valueless[node] for node in structure.wanted], upstream)
            outputs = [result for result in results if result is not None]
            readable = [valueless[node] for node in structure.nodes if node.value is not None]
            made = {node: stand_in.node for node, stand_in in zip(readable, stand_ins, strict=True)}  # what the program reads
            unreadable = set(valueless.values()).difference(readable)
            for node in topological_order(outputs, follow=lambda node: node not in made):
                if node in unreadable:
                    raise InternalError(f"a gradient rule reads {node!r}, made at {node.origin}, which no `saves` declares")
                made[node] = node.over([made[source] for source in node.inputs]) if node.inputs else node
        self._program = backend().lent_program([made[node] for node in outputs], stand_ins)
        self._arrives = [result is not None for result in results]

    def run(self, structure: _Structure) -> list[Node | None] | None:
        """The gradients for the wanted nodes of ``structure``, each None where none arrives.

        The whole result is None if this thread is in the middle of another run, as in a signal handler.
        """
        outputs = self._program.run(structure.values)
        if outputs is None:
            return None
        values = iter(outputs)
        return [leaf(next(values)) if arrives else None for arrives in self._arrives]
