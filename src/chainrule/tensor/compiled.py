"""``cr.compile``: traces a Python function once for each signature, and then runs it as one native program.

    arguments ──> signature ──> traced before? ── yes ──> guards hold? ──> bind memory ──> one native call
                                     └── no ──> trace ──> passes ──> machine code ──┘

The compiled function does what the plain one does. Tensors, arrays and NumPy scalars among the arguments are inputs of the
program. Cells (parameters, buffers, optimizer state, the random counter) are captured: the program reads and writes their
memory. Everything else that Python read while tracing is frozen into the program, and guarded: when it has changed, the
function is traced again. ``docs/compiled-functions.md`` has the details for users.
"""

from __future__ import annotations

import functools
import inspect
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import MethodType
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, TypeVar, cast, overload

import numpy as np

from chainrule import forks, ops
from chainrule.arguments import explained, misfit_of, whole_number
from chainrule.errors import UserError, UserTypeError, warn
from chainrule.graph import COMPILED, Array, Graph, Node, TensorType, leaf
from chainrule.graph.dtypes import as_dtype
from chainrule.recent import Recent
from chainrule.tensor.backend import Program, backend
from chainrule.tensor.backward import refuse_outside
from chainrule.tensor.cells import Cell, in_memory, state_lock, written
from chainrule.tensor.engines import is_reference, require_native_code
from chainrule.tensor.guards import Guards, Notes
from chainrule.tensor.sameness import Identity, described, value_key
from chainrule.tensor.surroundings import RandomStates, Surroundings
from chainrule.tensor.tensor import Tensor, placeholder, tensor
from chainrule.tensor.tracing import Trace, active_trace, tracing
from chainrule.tensor.tree import flatten, paths, rebuilt
from chainrule.tensor.watched import noting

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
Q = ParamSpec("Q")
T = TypeVar("T")
_MOST_PROGRAMS = 16
"""The most programs that a function keeps. Beyond that, the least recently used are dropped."""
_MOST_TYPES = 1024
_MANY_TRACINGS = 5
"""The number of tracings for the same reason at which a warning is issued."""


class Change(NamedTuple):
    """Why a function is traced again, as a ``sentence``.

    If the same change may happen many times, ``cause`` identifies it, and ``remedy`` says how to avoid it.
    """

    sentence: str
    cause: str = ""
    remedy: str = ""


class CompiledFunction(Generic[P, R]):
    """The result of ``cr.compile``, which is called like the function that it compiles.

    A compiled method has programs of its own for each instance, which are dropped with the instance. All other attributes of a
    compiled object, such as the ``parameters()`` of a model, are those of the object.
    """

    def __init__(self, function: Callable[P, R], max_memory: int | None, show: str | None) -> None:
        self._function, self._max_memory, self._show = function, max_memory, show
        self.__wrapped__ = function
        self.__name__: str = getattr(function, "__name__", type(function).__name__)
        self.__qualname__: str = getattr(function, "__qualname__", self.__name__)
        self.__doc__ = function.__doc__
        self.__module__ = getattr(function, "__module__", __name__)
        self._traced: dict[Hashable, list[_Traced]] = {}
        self._kept: Recent[int, _Signature] = Recent(_MOST_PROGRAMS, partial(_forget, self._traced))  # by their numbers
        self._reasons: list[str] = []
        self._causes: Counter[str] = Counter()
        self._last_signature: _Signature | None = None
        self._lock = forks.renewed(threading.RLock())
        self._last: _Traced | None = None
        self._methods: dict[int, tuple[weakref.ref[Any], CompiledFunction[Any, Any]]] = {}

    @property
    def _compiled_from(self) -> Callable[P, R]:
        """The plain function, which ``surroundings`` looks for in the functions that a traced one calls."""
        return self._function

    def __call__(self, *args: P.args, **options: P.kwargs) -> R:
        """The result of the function, computed by a program, which is made first if none fits these arguments."""
        if active_trace() is not None or is_reference():  # part of another traced function's graph, or all is for NumPy
            given, named = _as_tensors((args, options))
            return self._function(*given, **named)
        with self._lock:
            call = _Call(args, options)
            with state_lock:  # nothing that the guards look at changes between them and the run
                traced, broken = self._known(call)
                if traced is not None:
                    return cast(R, traced.run(call.inputs, self.__name__))
            traced = self._made(call, broken)
            with state_lock:
                return cast(R, traced.run(call.inputs, self.__name__))

    def prepare(self, *args: P.args, **options: P.kwargs) -> Program:
        """Trace and compile for these arguments without running anything.

        Raises:
            UserError: this machine has no native code, so there are no programs.
        """
        require_native_code(f"{self.__name__}.prepare")
        with self._lock:
            call = _Call(args, options)
            traced, broken = self._known(call)
            return (traced or self._made(call, broken)).program

    @overload
    def __get__(self, instance: None, owner: type) -> CompiledFunction[P, R]: ...
    @overload
    def __get__(
        self: CompiledFunction[Concatenate[S, Q], T], instance: S, owner: type | None = None
    ) -> CompiledFunction[Q, T]: ...
    def __get__(self, instance: Any, owner: type | None = None) -> CompiledFunction[Any, Any]:
        """For a method: the compiled function of this instance, made at the first access.

        Its programs do not keep the instance alive. The object returned here does, as Python's bound methods do.
        """
        if instance is None:
            return self
        known = self._methods.get(id(instance))
        if known is not None and known[0]() is instance:
            return _Bound(known[1], instance)
        methods, key = self._methods, id(instance)
        try:
            reference = weakref.ref(instance, lambda _: methods.pop(key, None))
        except TypeError:
            raise UserError(
                f"compile: {self.__qualname__} is a method of {type(instance).__name__}, whose __slots__ allow no weak "
                "references: add '__weakref__' to them"
            ) from None
        made: CompiledFunction[Any, Any] = CompiledFunction(_Method(self._function, reference), self._max_memory, self._show)
        methods[key] = reference, made
        return _Bound(made, instance)

    def _object(self) -> Any:
        """The object that was compiled, such as a model; None if it is a function."""
        function = self.__dict__.get("_function")
        return None if inspect.isroutine(function) or isinstance(function, _Method) else function

    def __getattr__(self, name: str) -> Any:
        """Attributes that this class lacks are those of the compiled object, such as the parameters of a model."""
        compiled = self._object()
        if compiled is None:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(compiled, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Attributes of a compiled model are set on the model: ``compiled.training = False``."""
        compiled = None if name in _OWN else self._object()
        if compiled is None:
            object.__setattr__(self, name, value)
        else:
            setattr(compiled, name, value)

    def __delattr__(self, name: str) -> None:
        compiled = None if name in _OWN else self._object()
        if compiled is None:
            object.__delattr__(self, name)
        else:
            delattr(compiled, name)

    def __getitem__(self, place: Any) -> Any:
        """A layer of a compiled ``Sequential`` or ``ModuleList``."""
        return self._indexed("[...]")[place]

    def __setitem__(self, place: Any, value: Any) -> None:
        self._indexed("[...]")[place] = value

    def __len__(self) -> int:
        return len(self._indexed("len()"))

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        return iter(self._indexed("a loop over it"))

    def _indexed(self, asked: str) -> Any:
        compiled = self._object()
        if compiled is None or not hasattr(type(compiled), "__getitem__"):
            kind = "function" if compiled is None else type(compiled).__name__
            raise UserTypeError(f"{self.__name__}: {asked} means nothing for a compiled {kind}")
        return compiled

    @property
    def program(self) -> Program:
        """The program that ran or was prepared last: its ``passes``, ``plan()`` and ``profile()``.

        Raises:
            UserError: there is none yet, or there can be none, as this machine has no native code.
        """
        if self._last is None:
            require_native_code(f"{self.__name__}.program")
            raise UserError(f"{self.__name__} has not run yet: call it, or prepare(...) it with example arguments")
        return self._last.program

    def __repr__(self) -> str:
        programs = sum(map(len, self._traced.values()))
        return f"<CompiledFunction {self.__qualname__}: {programs} programs, traced {len(self._reasons)} times>"

    def explain_retrace(self) -> str:
        """Why the function was traced each time, with one line for each tracing."""
        return "\n".join(f"tracing {number}: {reason}" for number, reason in enumerate(self._reasons, 1)) or "not traced yet"

    # ---- programs

    def _known(self, call: _Call) -> tuple[_Traced | None, Change | None]:
        """A program for such a call whose guards all hold; if there is none, None and what changed, if anything did."""
        known = self._traced.get(call.signature, ())
        broken = None
        for place in range(len(known) - 1, -1, -1):  # the one used last comes first
            traced = known[place]
            reason = traced.broken()
            if reason is None:
                if place != len(known) - 1:
                    known.append(known.pop(place))  # type: ignore[union-attr]
                self._kept.get(traced.number)
                self._last, self._last_signature = traced, call.signature
                return traced, None
            broken = broken or reason
        return None, broken

    def _made(self, call: _Call, broken: Change | None) -> _Traced:
        """The function traced for this call. ``broken`` is what changed; None if no program for such calls is known."""
        self._tell([broken] if broken is not None else self._news(call))
        made = self._trace(call)
        self._traced.setdefault(call.signature, []).append(made)
        self._kept.keep(made.number, call.signature)
        self._last, self._last_signature = made, call.signature
        return made

    def _news(self, call: _Call) -> list[Change]:
        """Why no program fits: the differences between this call and the last one."""
        before, now, names = self._last_signature, call.signature, call.names(self._function)
        if before is None:
            inputs = [f"{name} {key}" for name, key in zip(names, now.leaves, strict=True) if isinstance(key, _Input)]
            return [Change(f"the first call: {', '.join(inputs) or 'no tensors'}")]
        if before.structure != now.structure:
            return [Change("the arguments have another structure")]
        changes = [
            changed_argument(name, old, new)
            for name, old, new in zip(names, before.leaves, now.leaves, strict=True)
            if old != new
        ]
        for what, old, new in zip(("the precision", "what is remembered for gradients"), before[2:], now[2:], strict=True):
            if old != new:
                changes.append(Change(f"{what} changed from {old} to {new}"))
        return changes or [Change("its program was forgotten, as there were many others")]

    def _tell(self, changes: Sequence[Change]) -> None:
        """Record the reasons for a tracing, and warn of one that has occurred many times."""
        self._reasons.append("; ".join(one.sentence for one in changes))
        for one in changes:
            if one.cause:
                self._causes[one.cause] += 1
                if self._causes[one.cause] == _MANY_TRACINGS:
                    warn(
                        f"compile: {self.__name__} was traced {len(self._reasons)} times, {_MANY_TRACINGS} of them because "
                        f"{one.sentence}. Each value is a program of its own: {one.remedy}"
                    )

    def _trace(self, call: _Call) -> _Traced:
        plain = self._function.bound() if isinstance(self._function, _Method) else self._function
        misfit = misfit_of(plain, *call.arguments, self.__name__)
        if misfit is not None:
            raise misfit
        objects = call.objects(self._function)
        before = Surroundings(plain, objects)
        states = RandomStates(before.generators)
        with tracing() as trace, noting():
            notes = trace.notes = Notes()
            names = call.input_names(self._function)
            inputs = [one.stand_in(trace, name) for one, name in zip(call.inputs, names, strict=True)]
            leaves = [one.node for one in inputs]  # the function may put a leaf of its own in the place of one
            given, named = call.with_inputs(inputs)
            results = _Results(self._function(*given, **named), inputs)
            call.refuse_changes(self.__name__, given, named, inputs, self._function)
            drawn = states.drawn()
            if drawn is not None:
                raise UserError(
                    f"compile: {self.__name__} draws from {drawn} while it is traced, and would get the same numbers at each "
                    "call: draw with cr.random, or pass the numbers as an argument"
                )
            parts = _Parts(trace, inputs, leaves, results.outputs)
            graph = Graph(*parts.outputs)
            refuse_outside(f"compile: {self.__name__}", graph.nodes)
        notes.settle()
        after = Surroundings(plain, [*objects, *notes.objects()], notes.functions)
        changed = [one.what for one in before.guards.values() if one.broken() is not None] + notes.side_effects()
        if changed:
            warn(
                f"compile: {self.__name__} changes {', '.join(dict.fromkeys(changed))}, which a compiled function does only "
                "while it is traced: return the value instead, or keep it in a cr.Buffer"
            )
        if before.iterators:
            warn(
                f"compile: {self.__name__} names an iterator, {before.iterators[0]}: what it takes from that is frozen into "
                "the program, the same at each call: take the value outside, and pass it as an argument"
            )
        program = backend().compile_graph(graph, parts.state, self._max_memory, self._show)
        return parts.traced(len(self._reasons), program, results, Guards(notes, before, after))


class _Bound(CompiledFunction[P, R]):
    """The compiled function of an instance, together with the instance, which it keeps alive."""

    __slots__ = ("_instance",)

    def __init__(self, made: CompiledFunction[P, R], instance: Any) -> None:
        object.__setattr__(self, "__dict__", made.__dict__)
        object.__setattr__(self, "_instance", instance)


_OWN = frozenset(
    {"__doc__", "__module__", "__name__", "__qualname__", "__wrapped__", "__dict__", "_causes", "_function", "_kept", "_last"}
    | {"_last_signature", "_lock", "_max_memory", "_methods", "_reasons", "_show", "_traced", "_instance"}
)
"""The names of attributes of compiled functions themselves; all others are those of the compiled object."""


def _forget(traced: dict[Hashable, list[_Traced]], number: int, signature: _Signature) -> None:
    """Remove a program, which the cache has dropped, from those that are known."""
    kept = [one for one in traced[signature] if one.number != number]
    if kept:
        traced[signature] = kept
    else:
        del traced[signature]


class _Method:
    """A function bound to an object that it does not keep alive."""

    def __init__(self, function: Callable[..., Any], instance: weakref.ref[Any]) -> None:
        self.function, self.instance = function, instance
        functools.update_wrapper(self, function, updated=())

    def bound(self) -> MethodType:
        return MethodType(self.function, self.instance())

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.function(self.instance(), *args, **options)


@overload
def compile(function: Callable[P, R], *, max_memory: int | None = None, show: str | None = None) -> CompiledFunction[P, R]: ...
@overload
def compile(
    function: None = None, *, max_memory: int | None = None, show: str | None = None
) -> Callable[[Callable[P, R]], CompiledFunction[P, R]]: ...
@explained
def compile(function: Callable[..., Any] | None = None, *, max_memory: int | None = None, show: str | None = None) -> Any:
    """Compile ``function``, such as a whole training step: forward, backward, update.

    It is traced at the first call with arguments of new shapes or dtypes, and runs as one native program from then on. Tensors,
    NumPy arrays and NumPy scalars among the arguments are inputs, also within lists, dicts and dataclasses. All else that it
    reads is frozen into the program, and where it changes, the function is traced again: other arguments, attributes of
    modules, optimizers and schedules, globals, variables of enclosing functions, attributes of objects that the code names.
    What cannot be noticed is what comes from outside of the program, such as the clock, a file or a fresh random generator.

    ``max_memory`` limits the bytes of intermediate values; a function that needs more is refused with a UserError before it
    runs. ``show`` names the passes of the compiler whose results are printed to standard error, such as "fuse,lower" or "all";
    the environment variable CHAINRULE_SHOW does that for every function.

        @cr.compile
        def step(images, labels):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            return loss
    """
    if function is None:
        return lambda f: compile(f, max_memory=max_memory, show=show)
    if max_memory is not None:
        max_memory = whole_number("compile: max_memory", max_memory, 0)
    if not callable(function):
        raise UserError(f"compile: needs a function, got {type(function).__name__}")
    if isinstance(function, type):
        raise UserError(f"compile: {function.__name__} is a class: compile an object of it, or one of its methods")
    return CompiledFunction(function, max_memory, show)


# ---- arguments


class _Input(NamedTuple):
    """What a program depends on of an input: its shape and dtype, whether it asks for a gradient, and whether it is ``weak``, a
    scalar that takes the dtype of the other operand."""

    type: TensorType
    asks_for_gradient: bool
    weak: bool

    def __str__(self) -> str:
        return f"{self.type}{' that asks for a gradient' if self.asks_for_gradient else ''}"


class _Given(NamedTuple):
    """An input of a call: its numbers, and the tensor if it is one."""

    array: Array
    tensor: Tensor | None
    key: _Input

    def stand_in(self, trace: Trace, name: str) -> Tensor:
        """The placeholder that the traced function gets instead."""
        made = placeholder(*self.key.type, self.key.asks_for_gradient, name)
        if self.key.weak:
            trace.weak.add(made.node)
        return made


class _Signature(NamedTuple):
    """What programs are chosen by: the structure of the arguments, their leaves, and settings of the thread."""

    structure: Hashable
    leaves: tuple[Hashable, ...]
    precision: str
    history: str


class _Call:
    """The arguments of a call: which of them are inputs of the program, and their signature."""

    __slots__ = ("_all", "inputs", "leaves", "signature")

    def __init__(self, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        self._all = (args, options)
        self.leaves: list[Any] = []
        self.inputs: list[_Given] = []
        try:
            structure = flatten(self._all, self.leaves)
        except RecursionError:
            raise UserError("compile: an argument contains itself: pass what is in it") from None
        keys = tuple([self._key(one) for one in self.leaves])
        self.signature = _Signature(structure, keys, ops.contraction_precision(), ops.history_kept())

    def _key(self, leaf: Any) -> Hashable:
        if isinstance(leaf, Tensor):
            if isinstance(leaf, Cell):
                return Identity(leaf)
            node = leaf.node
            key = _Input(node.type, node.requires_grad, False)
            self.inputs.append(_Given(leaf.numpy() if node.value is None else node.value, leaf, key))
            return key
        if isinstance(leaf, np.ndarray | np.generic) or _converts[type(leaf)]:
            array = np.asarray(leaf)
            dtype = as_dtype(array.dtype)  # refuses what no tensor can be
            array = array.astype(dtype, copy=False)  # the other order of bytes is not for programs
            key = _Input(TensorType(array.shape, dtype), False, isinstance(leaf, float))
            self.inputs.append(_Given(array, None, key))
            return key
        return value_key(leaf)

    @property
    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as they were passed: positional ones, and those by name."""
        return self._all

    def with_inputs(self, inputs: Sequence[Any]) -> Any:
        """The arguments with ``inputs`` in place of their own."""
        remaining = iter(inputs)
        leaves = [
            next(remaining) if isinstance(key, _Input) else leaf
            for leaf, key in zip(self.leaves, self.signature.leaves, strict=True)
        ]
        return rebuilt(self._all, iter(leaves))

    def names(self, function: Callable[..., Any]) -> list[str]:
        """A name for each leaf: the parameter of ``function`` that it belongs to, and the path from there."""
        args, options = self._all
        found: list[str] = []
        for place, one in enumerate(args):
            found += paths(one, _parameter(function, place))
        for name, one in options.items():
            found += paths(one, name)
        return found

    def input_names(self, function: Callable[..., Any]) -> list[str]:
        """A name for each input."""
        named = zip(self.names(function), self.signature.leaves, strict=True)
        return [name for name, key in named if isinstance(key, _Input)]

    def objects(self, function: Callable[..., Any]) -> list[tuple[str, Any]]:
        """The leaves that are not inputs, with their names."""
        named = zip(self.names(function), self.leaves, self.signature.leaves, strict=True)
        return [(name, leaf) for name, leaf, key in named if not isinstance(key, _Input)]

    def refuse_changes(self, name: str, given: Any, named: Any, inputs: Sequence[Tensor], function: Callable[..., Any]) -> None:
        """Refuse a function that changed a list, dict or dataclass argument: it got a copy, so the caller would not notice."""
        leaves: list[Any] = []
        structure = flatten((given, named), leaves)
        expected: list[Any] = []
        flatten(self.with_inputs(inputs), expected)
        if structure != self.signature.structure or any(a is not b for a, b in zip(leaves, expected, strict=True)):
            wrong = next((one for one, a, b in zip(self.names(function), leaves, expected, strict=False) if a is not b), "")
            raise UserError(
                f"compile: {name} changes an argument{f', {wrong},' if wrong else ''} in place, which its caller would not "
                "see: return the new value"
            )


def _as_tensors(arguments: Any) -> Any:
    """The arguments with arrays converted to tensors, for a function that runs without being compiled."""
    leaves: list[Any] = []
    flatten(arguments, leaves)
    converted = [
        tensor(one)
        if not isinstance(one, Tensor | float) and (isinstance(one, np.ndarray | np.generic) or _converts[type(one)])
        else one
        for one in leaves
    ]
    return rebuilt(arguments, iter(converted))


class _Converts(dict[type, bool]):
    """A cache: whether NumPy can convert values of a type to an array."""

    def __missing__(self, kind: type) -> bool:
        if len(self) > _MOST_TYPES:
            self.clear()
        found = self[kind] = any(hasattr(kind, name) for name in ("__array__", "__array_interface__", "__array_struct__"))
        return found


_converts = _Converts()


def _parameter(function: Callable[..., Any], place: int) -> str:
    """The name of the parameter at ``place``, for messages."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return f"argument {place + 1}"
    if isinstance(function, _Method):
        parameters = parameters[1:]
    for number, one in enumerate(parameters):
        if one.kind is inspect.Parameter.VAR_POSITIONAL:
            return f"{one.name}[{place - number}]"
        if number == place:
            return one.name
    return f"argument {place + 1}"


def changed_argument(name: str, old: Hashable, new: Hashable) -> Change:
    """The change of an argument since the last call."""
    if isinstance(new, _Input):
        return Change(f"the argument {name} changed from {_described(old)} to {new}")
    remedy = "pass it as a tensor or a NumPy scalar, such as np.float32(...), and it is an input of one program"
    if isinstance(new, Identity):
        remedy = "pass the tensors in it, or make it a dataclass"
    same = _described(old) == _described(new)
    after = f"another {_described(new).removeprefix('a ')}" if same else _described(new)
    return Change(f"the argument {name} changed from {_described(old)} to {after}", f"argument {name}", remedy)


def _described(key: Hashable) -> str:
    if isinstance(key, _Input):
        return str(key)
    if isinstance(key, Identity):
        return described(key.value)
    assert isinstance(key, tuple)
    kind, value, *_ = key
    if kind is float and isinstance(value, str):  # as value_key writes what == does not tell apart
        return described(float.fromhex(value))
    return value if kind is complex else described(value)


# ---- results


class _Results:
    """What a traced function returned: its tensors become outputs of the program."""

    def __init__(self, found: Any, inputs: Sequence[Tensor]) -> None:
        self.outputs: list[Node] = []
        self._leaves: list[Any] = []
        flatten(found, self._leaves)
        places = {id(one): place for place, one in enumerate(inputs)}
        for number, one in enumerate(self._leaves):
            if isinstance(one, Tensor) and not isinstance(one, Cell):
                self._leaves[number] = _Output(len(self.outputs), one.requires_grad, places.get(id(one)))
                self.outputs.append(one.node)
        self._tree = rebuilt(found, iter([None] * len(self._leaves)))  # an output of the program is a tuple itself

    def values(self, program: Program, inputs: Sequence[_Given], name: str) -> Any:
        return rebuilt(
            self._tree, iter([one.value(program, inputs, name) if type(one) is _Output else one for one in self._leaves])
        )


class _Output(NamedTuple):
    """A tensor among the results: the number of its output, whether it has a history, and the input that it is, if any."""

    number: int
    has_history: bool
    input: int | None

    def value(self, program: Program, inputs: Sequence[_Given], name: str) -> Tensor:
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


class _Parts:
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
            (place, self._output(one.grad.node)) for place, one in enumerate(inputs) if one.grad is not None
        ]
        places = {node: place for place, node in enumerate(self.leaves)}
        self.checks = [(places.get(node), self._output(node), check) for node, check in trace.checks]

    def _output(self, node: Node) -> int:
        self.outputs.append(node)
        return len(self.outputs) - 1

    def traced(self, number: int, program: Program, results: _Results, guards: Guards) -> _Traced:
        trace = self.trace
        return _Traced(
            number,
            program,
            self.leaves,
            [(cell, node) for cell, node in trace.reads.items() if program.needs(node)],
            list(trace.writes),
            [(cell, one.node) for cell, one in trace.gradient_reads.items() if one is not None and program.needs(one.node)],
            [(cell, None if output is None else _looking(program, output)) for cell, output in self.gradients],
            self.input_gradients,
            [(weakref.ref(module), mode) for module, mode in trace.modes.items()],
            guards,
            dict(trace.asks),
            dict(trace.wants),
            {cell: one is not None for cell, one in trace.gradient_reads.items()},
            self.checks,
            results,
        )


# ---- running


@dataclass
class _Traced:
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
    results: _Results

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

    def run(self, inputs: Sequence[_Given], name: str) -> Any:
        """Run the program once. If a value is refused with a UserError, all cells keep their values."""
        program = self.program
        for place, _, check in self.checks:
            if place is not None:
                check(inputs[place].array)
        held = [np.ascontiguousarray(one.array) for one in inputs]
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
            found = _looking(program, output)()
            tensor.grad = found if tensor.grad is None else tensor.grad + found
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
