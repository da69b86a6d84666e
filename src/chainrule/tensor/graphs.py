"""Functions about the graph of a computation: ``trace``, ``no_grad``, and those that compute and check gradients."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import reduce
from itertools import islice
from typing import Any

from chainrule import grad as gradients
from chainrule import ops
from chainrule.arguments import explained, real_number
from chainrule.errors import UserError
from chainrule.graph import COMPILED, Array, Graph, Node
from chainrule.tensor.backward import differentiable_nodes, refuse_compiled
from chainrule.tensor.tensor import Tensor, as_tensor, placeholder
from chainrule.tensor.tracing import tracing


@explained
def trace(f: Callable[..., Tensor], *inputs: Tensor) -> Graph:
    """The graph of ``f(*inputs)``, made without computing any value.

    ``inputs`` give shapes and dtypes; their numbers are not read. ``f`` returns a tensor or a tuple or list of tensors, which
    become the outputs of the graph.

    Raises:
        UserError: an argument or a result is not a tensor, or ``f`` reads the numbers of one.
    """
    if not callable(f):
        raise UserError(f"trace: f must be a function of tensors, got a {type(f).__name__}")
    for place, x in enumerate(inputs):
        if not isinstance(x, Tensor):
            raise UserError(f"trace: input {place} must be a tensor, got a {type(x).__name__}: pass cr.tensor(data)")
    with tracing():
        output: Any = f(*(placeholder(x.shape, x.dtype) for x in inputs))
    outputs = output if isinstance(output, tuple | list) else (output,)
    for result in outputs:
        if not isinstance(result, Tensor):
            raise UserError(f"trace: f must return a tensor or several, got a {type(result).__name__}")
    return Graph(*(result.node for result in outputs))


@explained
@contextmanager
def no_grad() -> Iterator[None]:
    """A context in which no graph is kept, and so no gradient can be computed: for evaluation and updates."""
    with ops.history("nothing"):
        yield


@explained
def grad(
    output: Tensor, inputs: Tensor | Iterable[Tensor], upstream: Any = None, *, create_graph: bool = False
) -> list[Tensor | None]:
    """The gradient of ``output`` with respect to each of ``inputs``, of its shape; None for one that it does not depend on.

    ``upstream`` is the gradient of the error with respect to ``output``, of its shape; it is required unless ``output`` is a
    single number. If a parameter among the inputs was assigned after ``output`` was computed, the gradient is with respect to
    the value it had then. ``create_graph=True`` makes the gradients differentiable themselves. The graph is not freed, and no
    ``.grad`` is changed.

    Raises:
        UserError: an input asks for no gradient, or the graph was freed.
    """
    if not isinstance(output, Tensor):
        raise UserError(f"grad: output must be a tensor, got a {type(output).__name__}")
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs) if isinstance(inputs, Iterable) else [inputs]
    for place, x in enumerate(inputs):
        if not isinstance(x, Tensor):
            raise UserError(f"grad: input {place} must be a tensor, got a {type(x).__name__}")
        if not x.requires_grad:
            raise UserError(f"grad: input {place}, {x.node.type}, asks for no gradient: make it with requires_grad=True")
    owned = [node for node in differentiable_nodes(output.node) if node.owner is not None]
    if any(x.node.operation is not COMPILED for x in inputs):  # otherwise theirs are asked for
        refuse_compiled("grad", owned)
    # A parameter that was assigned between two uses has several nodes; its gradient is the sum of theirs.
    nodes = [[node for node in owned if node.owner is not None and node.owner() is x] or [x.node] for x in inputs]
    seed = None if upstream is None else as_tensor(upstream, output.dtype).node
    with ops.history("gradients" if create_graph else "nothing"):
        arriving = iter(gradients.backprop(output.node, [node for of_input in nodes for node in of_input], seed))
        results: list[Tensor | None] = []
        for of_input in nodes:
            parts = [Tensor(node) for node in islice(arriving, len(of_input)) if node is not None]
            results.append(reduce(operator.add, parts) if parts else None)
    return results


@explained
def gradcheck(
    f: Callable[..., Tensor], *inputs: Any, order: int = 1, tolerance: float = 1e-5, seed: int = 0
) -> gradients.Gradcheck:
    """Compare the gradients of ``f`` at ``inputs`` with finite differences, in float64.

    Returns the largest relative error, and the number of elements at a kink (such as max(0, x) at x = 0), where any slope
    between the left and the right one is accepted. ``order=2`` checks the gradient of the gradient too. ``seed`` is for the
    random directions.

    Raises:
        UserError: a relative error is larger than ``tolerance``; the message names the worst element.
    """

    if not callable(f):
        raise UserError(f"gradcheck: f must be a function of tensors, got a {type(f).__name__}")
    tolerance = real_number("gradcheck: tolerance", tolerance)

    def of_nodes(*nodes: Node) -> Node:
        output: Any = f(*map(Tensor, nodes))
        if not isinstance(output, Tensor):
            raise UserError(f"gradcheck: f must return a tensor, got a {type(output).__name__}")
        return output.node

    arrays: list[Array] = [as_tensor(x).numpy() for x in inputs]
    return gradients.gradcheck(of_nodes, *arrays, order=order, tolerance=tolerance, seed=seed)
