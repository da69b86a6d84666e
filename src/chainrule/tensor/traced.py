"""What tracing leaves of a function: a program, the cells that it reads and assigns, and how its results are put together."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from chainrule.errors import UserError
from chainrule.graph import COMPILED, Node, leaf
from chainrule.tensor.backend import Program, backend
from chainrule.tensor.calls import Change, Given
from chainrule.tensor.cells import Cell, in_memory, written
from chainrule.tensor.guards import Guards
from chainrule.tensor.tensor import Tensor
from chainrule.tensor.tracing import Trace
from chainrule.tensor.tree import flatten, rebuilt


class Results:
    """What a traced function returned: its tensors become outputs of the program."""

    def __init__(self, returned: Any, inputs: Sequence[Tensor]) -> None:
        self.outputs: list[Node] = []
        self._leaves: list[Any] = []
        flatten(returned, self._leaves)
        places = {id(tensor): place for place, tensor in enumerate(inputs)}
        for number, value in enumerate(self._leaves):
            if isinstance(value, Tensor) and not isinstance(value, Cell):
                self._leaves[number] = _Output(len(self.outputs), value.requires_grad, places.get(id(value)))
                self.outputs.append(value.node)
        self._tree = rebuilt(returned, iter([None] * len(self._leaves)))  # an output of the program is a tuple itself

    def values(self, program: Program, inputs: Sequence[Given], name: str) -> Any:
        """What the function returns after a run: its results, with the outputs of ``program`` as tensors labelled ``name``."""
        leaves = [leaf.value(program, inputs, name) if type(leaf) is _Output else leaf for leaf in self._leaves]
        return rebuilt(self._tree, iter(leaves))


class _Output(NamedTuple):
    """A tensor among the results: the number of its output, whether it has a history, and the input that it is, if any."""

    number: int
    has_history: bool
    input: int | None

    def value(self, program: Program, inputs: Sequence[Given], name: str) -> Tensor:
        if self.input is not None:
            given = inputs[self.input].tensor
            if given is not None:
                return given
        array = np.array(program.output(self.number), order="C")
        if not self.has_history:
            return Tensor(leaf(array))
        made = Tensor.__new__(Tensor)
        made.grad = None
        made._node = leaf(array, COMPILED, requires_grad=True, label=name, owner=weakref.ref(made))
        return made


class Parts:
    """What a trace captured, as inputs and outputs of a graph. New values of cells and gradients become further outputs."""

    def __init__(self, trace: Trace, inputs: Sequence[Tensor], leaves: Sequence[Node], outputs: Sequence[Node]) -> None:
        self.trace, self.leaves, self.outputs = trace, list(leaves), list(outputs)
        self.state: list[tuple[Node, int]] = []
        for cell, node in trace.writes.items():
            self.state.append((trace.old_value(cell), self._output(node)))
        self.gradients = [
            (cell, None if gradient is None else self._output(gradient.node)) for cell, gradient in trace.gradients.items()
        ]
        self.input_gradients = [
            (place, self._output(tensor.grad.node)) for place, tensor in enumerate(inputs) if tensor.grad is not None
        ]
        places = {node: place for place, node in enumerate(self.leaves)}
        self.checks = [(places.get(node), self._output(node), check) for node, check in trace.checks]

    def _output(self, node: Node) -> int:
        self.outputs.append(node)
        return len(self.outputs) - 1

    def traced(self, number: int, program: Program, results: Results, guards: Guards) -> Traced:
        """The parts, with the ``program`` that was made of them, as the tracing of that ``number``."""
        trace = self.trace
        return Traced(
            number,
            program,
            self.leaves,
            [(cell, node) for cell, node in trace.reads.items() if program.needs(node)],
            list(trace.writes),
            [(cell, old.node) for cell, old in trace.gradient_reads.items() if old is not None and program.needs(old.node)],
            [(cell, None if output is None else _looking(program, output)) for cell, output in self.gradients],
            self.input_gradients,
            [(weakref.ref(module), mode) for module, mode in trace.modes.items()],
            guards,
            dict(trace.asks),
            dict(trace.wants),
            {cell: old is not None for cell, old in trace.gradient_reads.items()},
            self.checks,
            results,
            len(self.outputs),
        )


@dataclass
class Traced:
    """A program, what it captured, and the guards under which it holds."""

    number: int  # among those of the function
    program: Program
    inputs: list[Node]
    cells: list[tuple[Cell, Node]]
    written: list[Cell]
    old_gradients: list[tuple[Cell, Node]]
    gradients: list[tuple[Cell, Callable[[], Tensor] | None]]  # fetches it; None where the gradient was cleared
    input_gradients: list[tuple[int, int]]  # place among the inputs, output
    modes: list[tuple[weakref.ref[Any], bool]]  # modules, and the ``training`` flag that each was given
    guards: Guards
    asks: dict[Cell, bool]
    wants: dict[Cell, bool]  # parameters whose ``requires_grad`` the function set, and to what
    had_gradient: dict[Cell, bool]
    checks: list[tuple[int | None, int, Callable[[Any], None]]]  # input or None, output, check
    results: Results
    outputs: int  # how many; what is observed comes after them

    def __post_init__(self) -> None:
        self.bound = [cell for cell, _ in self.cells]
        for cell, node in self.cells:  # once for all: a cell's memory never moves
            self.program.bind(node, cell.memory())
        backend().return_idle()  # what values of cells had, and operations before this; the program has an arena of its own
        self.checks_computed = [(number, check) for place, number, check in self.checks if place is None]
        self.may_refuse = bool(self.checks_computed) or self.program.may_refuse

    def broken(self) -> Change | None:
        """A change since tracing with which the program no longer holds; None if there is none."""
        sentence = self.guards.broken()
        if sentence is not None:
            cause, remedy = (
                sentence.partition(" changed ")[0],
                "pass it as a tensor, or keep it in a cr.Buffer that is assigned",
            )
            return Change(sentence, cause, remedy)
        for cell, asked in self.asks.items():
            if cell.requires_grad is not asked:
                return Change(f"{cell.name or 'a parameter'}.requires_grad changed from {asked} to {not asked}")
        for cell, had in self.had_gradient.items():
            if cell.has_gradient is not had:
                now = "has" if cell.has_gradient else "has no"
                return Change(f"{cell.name or 'a cell'} {now} gradient, unlike when the function was traced")
        return None

    def run(self, inputs: Sequence[Given], name: str) -> Any:
        """Run the program once. If a value is refused with a UserError, all cells keep their values."""
        program = self.program
        for place, _, check in self.checks:
            if place is not None:
                check(inputs[place].array)
        held = [np.ascontiguousarray(given.array) for given in inputs]
        for node, array in zip(self.inputs, held, strict=True):
            if program.needs(node):
                program.bind(node, array)
        for cell, node in self.old_gradients:
            gradient = cell.grad
            assert gradient is not None
            held.append(np.ascontiguousarray(gradient.numpy()))
            program.bind(node, held[-1])
        in_memory(self.bound)
        before = [cell.memory().copy() for cell in self.written] if self.may_refuse else []
        try:
            program.run()
            for number, check in self.checks_computed:
                check(program.output(number))
        except UserError:
            for cell, value in zip(self.written, before, strict=True):
                np.copyto(cell.memory(), value)
            raise
        finally:
            written(self.written)
        for cell, look in self.gradients:
            cell.gradient_arrives(look)
        for place, output in self.input_gradients:
            tensor = inputs[place].tensor
            if tensor is None:  # an array: in the plain function too, its tensor is gone
                continue
            tensor.requires_grad_()  # as the function may have asked
            gradient = _looking(program, output)()
            tensor.grad = gradient if tensor.grad is None else tensor.grad + gradient
        for reference, mode in self.modes:
            module = reference()
            if module is not None and module.training is not mode:
                module.training = mode
        for cell, wanted in self.wants.items():
            cell.requires_grad = wanted
        return self.results.values(program, inputs, name)


def _looking(program: Program, number: int) -> Callable[[], Tensor]:
    """A function that copies an output from the program's memory, which the next run overwrites."""
    return lambda: Tensor(leaf(np.array(program.output(number), order="C")))
