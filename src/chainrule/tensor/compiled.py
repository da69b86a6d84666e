"""``cr.compile``: a Python function traced once per signature, and then run as one native program.

    arguments ──> signature ──> traced before? ── yes ──> guards hold? ──> bind memory ──> one native call
                                     └── no ──> trace ──> passes ──> machine code ──┘

The decorated function means what the plain one means. Cells (parameters, buffers, optimizer state, the random counter) are
captured: the program reads and writes their memory. Python values read while tracing are frozen into the program; the
``training`` flags of modules, and whether a parameter asks for gradients or a cell had one, are guarded: where they changed,
the function is traced again.
"""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, ParamSpec, TypeVar

import numpy as np

from chainrule import forks, ops
from chainrule.errors import UserError
from chainrule.graph import Array, Graph, Node, leaf
from chainrule.graph.dtypes import as_dtype
from chainrule.tensor.cells import Cell, in_memory, written
from chainrule.tensor.engines import is_reference
from chainrule.tensor.tensor import Tensor, placeholder, tensor
from chainrule.tensor.tracing import Trace, active_trace, tracing

if TYPE_CHECKING:
    from chainrule.cpu.program import Program

P = ParamSpec("P")
R = TypeVar("R")
_MOST_PROGRAMS = 16
"""Programs that one function keeps; of more signatures, the ones used longest ago are forgotten."""


@dataclass
class _Traced:
    """One program, what it captured, and the state of Python under which it holds."""

    program: Program
    inputs: list[Node]
    cells: list[tuple[Cell, Node]]
    written: list[Cell]
    old_gradients: list[tuple[Cell, Node]]
    gradients: list[tuple[Cell, Callable[[], Tensor] | None]]  # fetches it; None where the gradient was cleared
    input_gradients: list[tuple[int, int]]  # place among the inputs, output
    flags: dict[Any, bool]
    asks: dict[Cell, bool]
    had_gradient: dict[Cell, bool]
    checks: list[tuple[int | None, int, Callable[[Any], None]]]  # input or None, output, check
    results: Any

    def __post_init__(self) -> None:
        self.bound = [cell for cell, _ in self.cells]
        from chainrule.cpu.memory import return_idle

        for cell, node in self.cells:  # once for all: a cell's memory never moves
            self.program.bind(node, cell.memory())
        return_idle()  # what values of cells had, and operations before this; the program has an arena of its own

    def broken_guard(self) -> str | None:
        """What changed since tracing that the program does not know of; None if nothing did."""
        for module, mode in self.flags.items():
            if module.training is not mode:
                return f"{type(module).__name__}.training changed from {mode} to {not mode}"
        for cell, asked in self.asks.items():
            if cell.requires_grad is not asked:
                return f"{cell.name or 'a parameter'}.requires_grad changed from {asked} to {not asked}"
        for cell, had in self.had_gradient.items():
            if cell.has_gradient is not had:
                now = "has" if cell.has_gradient else "has no"
                return f"{cell.name or 'a cell'} {now} gradient, unlike when the function was traced"
        return None


class CompiledFunction(Generic[P, R]):
    """What ``cr.compile`` makes of a function; call it like the function."""

    def __init__(self, function: Callable[P, R], max_memory: int | None) -> None:
        functools.update_wrapper(self, function)
        self._function, self._max_memory = function, max_memory
        self._traced: OrderedDict[Any, list[_Traced]] = OrderedDict()
        self._reasons: list[str] = []
        self._lock = forks.renewed(threading.RLock())
        self._last: _Traced | None = None

    def __call__(self, *args: P.args, **options: P.kwargs) -> R:
        if active_trace() is not None or is_reference():  # part of another traced function's graph, or all is for NumPy
            return self._function(*_as_tensors(args), **_as_tensors(options))
        with self._lock:
            arrays: list[_Argument] = []
            signature = (_signature((args, options), arrays), ops.contraction_precision(), ops.history_kept())
            traced = self._find(signature, args, options, arrays)
            return _run(traced, arrays)  # type: ignore[no-any-return]

    def prepare(self, *args: P.args, **options: P.kwargs) -> Program:
        """Trace and compile for these arguments without running anything."""
        with self._lock:
            arrays: list[_Argument] = []
            signature = (_signature((args, options), arrays), ops.contraction_precision(), ops.history_kept())
            return self._find(signature, args, options, arrays).program

    @property
    def program(self) -> Program:
        """The program that ran or was prepared last: its ``passes``, ``plan()`` and ``profile()``."""
        if self._last is None:
            raise UserError(f"{self.__name__} has not run yet: call it, or prepare(...) it with example arguments")  # type: ignore[attr-defined]
        return self._last.program

    def __repr__(self) -> str:
        name = getattr(self._function, "__qualname__", type(self._function).__name__)
        programs = sum(map(len, self._traced.values()))
        return f"<CompiledFunction {name}: {programs} programs, traced {len(self._reasons)} times>"

    def explain_retrace(self) -> str:
        """Why the function was traced, each time, one line a tracing."""
        return "\n".join(self._reasons) or "not traced yet"

    def _find(self, signature: Any, args: Any, options: Any, arrays: list[_Argument]) -> _Traced:
        known = self._traced.get(signature, [])
        broken = None
        for traced in known:
            broken = traced.broken_guard()
            if broken is None:
                self._traced.move_to_end(signature)
                self._last = traced
                return traced
        self._reasons.append(f"tracing {len(self._reasons) + 1}: {broken or self._news(signature, arrays)}")
        made = self._trace(args, options, arrays)
        self._traced.setdefault(signature, []).append(made)
        self._traced.move_to_end(signature)
        while sum(map(len, self._traced.values())) > _MOST_PROGRAMS:
            oldest = next(iter(self._traced))
            self._traced[oldest].pop(0)
            if not self._traced[oldest]:
                del self._traced[oldest]
        self._last = made
        return made

    def _news(self, signature: Any, arrays: list[_Argument]) -> str:
        shapes = ", ".join(f"{one.array.dtype.name}{list(one.array.shape)}" for one in arrays)
        return f"{'the first call' if not self._traced else 'new arguments'}: {shapes or 'no tensors'}"

    def _trace(self, args: Any, options: Any, arrays: list[_Argument]) -> _Traced:
        from chainrule.cpu.program import Program

        inputs: list[tuple[Tensor, Node]] = []  # with the leaf, as the function may put a leaf of its own in its place
        with tracing() as trace:

            def stand_in(argument: _Argument) -> Tensor:
                made = placeholder(argument.array.shape, argument.array.dtype, argument.asks_for_gradient)
                inputs.append((made, made.node))
                return made

            remaining = iter(arrays)
            given, named = _rebuilt((args, options), lambda _: stand_in(next(remaining)))
            found = self._function(*given, **named)
            outputs: list[Node] = []
            results = _rebuilt_results(found, outputs)
            parts = _Parts(trace, inputs, outputs)
            graph = Graph(*outputs)
        program = Program(graph, parts.state, max_memory=self._max_memory)
        return parts.traced(program, results)


def compile(function: Callable[P, R] | None = None, *, max_memory: int | None = None) -> Any:
    """Compile ``function``, such as a whole training step: forward, backward, update.

    It is traced at the first call with arguments of new shapes or dtypes, and runs as one native program from then on.
    Tensors and NumPy arrays among the arguments are inputs; all other arguments are frozen. ``max_memory``: bytes that the
    values in between may take; what needs more is refused with a UserError before anything runs.

        @cr.compile
        def step(images, labels):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            return loss
    """
    if function is None:
        return lambda f: CompiledFunction(f, max_memory)
    if not callable(function):
        raise UserError(f"compile: needs a function, got {type(function).__name__}")
    return CompiledFunction(function, max_memory)


# ---- arguments and results


class _Argument(NamedTuple):
    """A tensor among the arguments: its numbers, and itself if it is a tensor."""

    array: Array
    tensor: Tensor | None
    asks_for_gradient: bool


def _signature(value: Any, arrays: list[_Argument]) -> Any:
    """What decides which program fits: shapes and dtypes of tensors, everything else by value. Collects the tensors."""
    if isinstance(value, Cell):
        return ("cell", id(value))
    if isinstance(value, Tensor):
        node = value.node
        arrays.append(_Argument(value.numpy() if node.value is None else node.value, value, node.requires_grad))
        return ("tensor", node.type, node.requires_grad)
    if isinstance(value, np.ndarray):
        dtype = as_dtype(value.dtype)  # refuses what no tensor can be
        arrays.append(_Argument(value.astype(dtype, copy=False), None, False))  # the other order of bytes is not for programs
        return ("tensor", (value.shape, dtype), False)
    if isinstance(value, tuple | list):
        return (type(value).__name__, *(_signature(one, arrays) for one in value))
    if isinstance(value, dict):
        return ("dict", *((name, _signature(one, arrays)) for name, one in value.items()))
    if isinstance(value, int | float | str | bytes | bool | type(None)):
        return (type(value).__name__, value)
    return ("object", id(value))


def _rebuilt(value: Any, stand_in: Callable[[Any], Tensor]) -> Any:
    """``value`` with every tensor that ``_signature`` collected replaced, in the same order."""
    if isinstance(value, Tensor | np.ndarray) and not isinstance(value, Cell):
        return stand_in(value)
    if isinstance(value, tuple | list):
        return _like(value, (_rebuilt(one, stand_in) for one in value))
    if isinstance(value, dict):
        return {name: _rebuilt(one, stand_in) for name, one in value.items()}
    return value


def _like(value: Any, members: Iterable[Any]) -> Any:
    """``members`` in the kind of tuple or list that ``value`` is."""
    return value._make(members) if hasattr(value, "_make") else type(value)(members)


def _as_tensors(value: Any) -> Any:
    return _rebuilt(value, lambda one: one if isinstance(one, Tensor) else tensor(one))


@dataclass(frozen=True)
class _Result:
    """Stands for output ``number`` in what the function returned."""

    number: int


def _rebuilt_results(value: Any, outputs: list[Node]) -> Any:
    if isinstance(value, Tensor):
        outputs.append(value.node)
        return _Result(len(outputs) - 1)
    if isinstance(value, tuple | list):
        return _like(value, (_rebuilt_results(one, outputs) for one in value))
    if isinstance(value, dict):
        return {name: _rebuilt_results(one, outputs) for name, one in value.items()}
    return value


def _with_values(value: Any, program: Program) -> Any:
    if isinstance(value, _Result):
        return Tensor(leaf(np.array(program.output(value.number), order="C")))
    if isinstance(value, tuple | list):
        return _like(value, (_with_values(one, program) for one in value))
    if isinstance(value, dict):
        return {name: _with_values(one, program) for name, one in value.items()}
    return value


class _Parts:
    """What a trace captured, as inputs and outputs of a graph; adds to ``outputs``."""

    def __init__(self, trace: Trace, inputs: Sequence[tuple[Tensor, Node]], outputs: list[Node]) -> None:
        self.trace, self.inputs, self.outputs = trace, list(inputs), outputs
        self.state: list[tuple[Node, int]] = []
        for cell, node in trace.writes.items():
            self.state.append((trace.old_value(cell), self._output(node)))
        self.gradients = [
            (cell, None if gradient is None else self._output(gradient.node)) for cell, gradient in trace.gradients.items()
        ]
        self.input_gradients = [
            (place, self._output(one.grad.node)) for place, (one, _) in enumerate(self.inputs) if one.grad is not None
        ]
        places = {node: place for place, (_, node) in enumerate(self.inputs)}
        self.checks = [(places.get(node), self._output(node), check) for node, check in trace.checks]

    def _output(self, node: Node) -> int:
        self.outputs.append(node)
        return len(self.outputs) - 1

    def traced(self, program: Program, results: Any) -> _Traced:
        trace = self.trace
        return _Traced(
            program,
            [node for _, node in self.inputs],
            [(cell, node) for cell, node in trace.reads.items() if program.needs(node)],
            list(trace.writes),
            [(cell, one.node) for cell, one in trace.gradient_reads.items() if one is not None and program.needs(one.node)],
            [(cell, None if output is None else _looking(program, output)) for cell, output in self.gradients],
            self.input_gradients,
            dict(trace.flags),
            dict(trace.asks),
            {cell: one is not None for cell, one in trace.gradient_reads.items()},
            self.checks,
            results,
        )


# ---- running


def _run(traced: _Traced, arrays: list[_Argument]) -> Any:
    program = traced.program
    for place, _, check in traced.checks:
        if place is not None:
            check(arrays[place].array)
    held = [np.ascontiguousarray(one.array) for one in arrays]
    for node, array in zip(traced.inputs, held, strict=True):
        if program.needs(node):
            program.bind(node, array)
    for cell, node in traced.old_gradients:
        gradient = cell.grad
        assert gradient is not None
        held.append(np.ascontiguousarray(gradient.numpy()))
        program.bind(node, held[-1])
    in_memory(traced.bound)
    try:
        program.run()
    finally:
        written(traced.written)
    for place, number, check in traced.checks:
        if place is None:
            check(program.output(number))
    for cell, look in traced.gradients:
        cell.gradient_arrives(look)
    for place, output in traced.input_gradients:
        tensor = arrays[place].tensor
        if tensor is None:  # an array: in the plain function too, its tensor is gone
            continue
        tensor.requires_grad_()  # as the function may have asked
        found = _looking(program, output)()
        tensor.grad = found if tensor.grad is None else tensor.grad + found
    return _with_values(traced.results, program)


def _looking(program: Program, number: int) -> Callable[[], Tensor]:
    """Fetches an output from the program's memory, where it lies until the next run."""
    return lambda: Tensor(leaf(np.array(program.output(number), order="C")))
