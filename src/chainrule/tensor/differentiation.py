"""Gradients of a tensor: asking for them, computing them, keeping them, and assigning what they lead to."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from chainrule import ops
from chainrule.arguments import explained_methods, flag
from chainrule.errors import UserError, warn
from chainrule.grad import refuse_freed
from chainrule.graph import INPUT, Array, Graph, Role, leaf
from chainrule.graph.dtypes import is_float
from chainrule.tensor.backward import gradients
from chainrule.tensor.engines import runs_natively
from chainrule.tensor.handle import Handle
from chainrule.tensor.operands import as_node
from chainrule.tensor.tracing import active_trace, beginning

if TYPE_CHECKING:
    from typing import Self

    from chainrule.tensor.tensor import Tensor


@explained_methods
class Differentiable(Handle):
    """What a tensor has to do with gradients."""

    __slots__ = ()

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient arrives at this tensor or passes through it. It can be set, as by ``requires_grad_()``."""
        return self.node.requires_grad

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        self.requires_grad_(flag("requires_grad", wanted))

    @property
    def graph(self) -> Graph:
        """The graph of the whole computation of this tensor.

        Raises:
            UserError: ``backward()`` has freed it.
        """
        if self.node.is_freed:
            refuse_freed(self.node, "graph", "look at the graph before")
        return Graph(self.node)

    def backward(
        self, upstream: Tensor | Array | None = None, *, retain_graph: bool | None = None, create_graph: bool = False
    ) -> None:
        """Add d self / d p to ``p.grad`` for each parameter and ``requires_grad`` tensor p that this tensor depends on.

        ``upstream`` is the gradient of the error with respect to this tensor, of its shape; it is required unless this is a
        single number. Afterwards the graph is freed with its intermediate values, so that keeping errors of many steps takes
        little memory; ``retain_graph=True`` keeps it for a second ``backward()``. ``create_graph=True`` makes the gradients
        differentiable themselves, and retains the graph unless ``retain_graph=False``.

        Raises:
            UserError: this tensor depends on nothing that asks for a gradient, or the graph was freed.
        """
        if not self.requires_grad:
            raise UserError(
                f"backward: {self.node.type} depends on nothing that asks for a gradient: was it computed under no_grad(), "
                "or from tensors made without requires_grad=True?"
            )
        seed = None if upstream is None else as_node(upstream, self.dtype)
        as_program = not create_graph and runs_natively()
        retain = (create_graph or ops.history_kept() == "everything") if retain_graph is None else retain_graph
        with ops.history("gradients" if create_graph else "nothing"):
            for node, gradient in gradients(self.node, seed, as_program, retain):
                owner = node.owner() if node.owner is not None else None
                if owner is not None and gradient is not None:
                    _refuse_to_leave_the_trace(owner)
                    arriving = self._tensor(gradient)
                    owner.grad = arriving if owner.grad is None else owner.grad + arriving

    @property
    def grad(self) -> Tensor | None:
        """The sum of the gradients that have arrived, of the tensor's shape and dtype; None before the first.

        A hidden value keeps no gradient unless ``retain_grad()`` was called before ``backward()``; reading it then warns.
        """
        if self._grad is None:
            node = self._node
            if node.requires_grad and node.owner is None and node.operation.role is not Role.LEAF:
                warn(
                    f"grad: this {node.type}, from {node.operation.name} at {node.origin}, is a hidden value, whose gradient "
                    "is not kept: call retain_grad() on it before backward()"
                )
        return self._grad

    @grad.setter
    def grad(self, gradient: Tensor | None) -> None:
        self._grad = gradient

    def retain_grad(self) -> None:
        """Let ``backward()`` keep the gradient of this hidden value in ``grad``, as for a leaf. To be called before it.

        Raises:
            UserError: no gradient passes here.
        """
        node = self.node
        if not node.requires_grad:
            raise UserError(f"retain_grad: no gradient passes {node.type}: it depends on nothing that asks for one")
        if node.owner is not None:
            return
        node.owner = weakref.ref(self)
        if node.remembered is not None:  # otherwise it gets the owner when it is made
            node.remembered.owner = node.owner

    def requires_grad_(self, wanted: bool = True) -> Self:
        """Ask for the gradient of this tensor, or with False no longer ask for it; returns the tensor itself.

        It holds for what is computed from the tensor afterwards. A tensor without a gradient becomes a leaf, also if it was
        computed. A hidden value that a gradient passes through already is left as it is (``retain_grad()`` keeps its gradient).

        Raises:
            UserError: the dtype is no float, or False is asked of a hidden value that a gradient passes through; ``detach()``
                gives a tensor with its numbers through which none passes.
        """
        node = self.node
        if bool(wanted) is node.requires_grad:
            return self
        if not wanted:
            if node.operation.role is not Role.LEAF and node.operation is not ops.stop_gradient:
                raise UserError(
                    f"requires_grad_: {node.type}, from {node.operation.name} at {node.origin}, depends on what asks for a "
                    "gradient: use detach() for a value through which none passes, or no_grad() around what computes it"
                )
            self._node = leaf(node.value, label=node.label) if node.value is not None else beginning(node, None, node.label)
            return self
        if not is_float(node.dtype):
            raise UserError(f"requires_grad_: only floats can require a gradient, this is {node.type}: use astype('float32')")
        trace = active_trace()
        if node.value is not None:
            self._node = leaf(node.value, INPUT, requires_grad=True, label=node.label, owner=weakref.ref(self))
        else:
            self._node = beginning(node, self, node.label)
            if trace is not None:
                trace.owners.add(id(self))
        return self

    def assign(self, value: Any) -> None:
        """Give a leaf that asks for a gradient the numbers of ``value``, of the same shape, as optimizers do.

        What was computed before keeps the old numbers.

        Raises:
            UserError: this is any other tensor, which is immutable, or the shape differs, or a function is being compiled.
        """
        node = self.node
        if node.operation is not INPUT or not node.requires_grad:
            raise UserError(
                f"assign: {node.type} is no leaf that asks for a gradient, and all other tensors are immutable: build a new "
                "one, or make it a Parameter"
            )
        if active_trace() is not None:
            raise UserError(
                f"assign: a compiled function cannot assign {node.type}, a tensor with requires_grad=True: make it a Parameter"
            )
        new = self._tensor(as_node(value, node.dtype))
        if new.shape != node.shape:
            raise UserError(f"assign: this tensor is {node.type}, the value has shape {new.shape}")
        self._node = leaf(new.numpy(), INPUT, requires_grad=True, label=node.label, owner=node.owner)

    def detach(self) -> Tensor:
        """A tensor with the same numbers, through which no gradient passes."""
        return self._tensor(ops.stop_gradient(self.node))


def _refuse_to_leave_the_trace(owner: Tensor) -> None:
    """Refuse a gradient for a tensor from outside of the trace: it would have no numbers. Cells and inputs are fine."""
    trace = active_trace()
    if trace is not None and type(owner) is owner._tensor and id(owner) not in trace.owners and owner.node.value is not None:
        raise UserError(
            f"backward: the traced function uses {owner.node.type}, made outside with requires_grad=True: pass it as an "
            "argument, or make it a Parameter"
        )
