"""``cr.compile``: traces a Python function once for each signature, and then runs it as one native program.

    arguments ──> signature ──> traced before? ── yes ──> guards hold? ──> bind memory ──> one native call
                                     └── no ──> trace ──> passes ──> machine code ──┘

The compiled function does what the plain one does. Tensors, arrays and NumPy scalars among the arguments are inputs of the
program. Cells (parameters, buffers, optimizer state, the random counter) are captured: the program reads and writes their
memory. Everything else that Python read while tracing is frozen into the program, and guarded: when it has changed, the
function is traced again. ``docs/compiled-functions.md`` has the details for users.
"""

from __future__ import annotations

import inspect
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from chainrule import forks
from chainrule.arguments import explained, misfit_of, whole_number
from chainrule.collector import rare_collections
from chainrule.errors import UserError, UserTypeError, warn
from chainrule.graph import Graph, Observed
from chainrule.recent import Recent
from chainrule.tensor.backend import Program, backend
from chainrule.tensor.backward import refuse_outside
from chainrule.tensor.calls import Call, Change, Input, Method, Signature, as_tensors, changed_argument
from chainrule.tensor.cells import state_lock
from chainrule.tensor.engines import is_reference, require_native_code
from chainrule.tensor.guards import Guards, Notes
from chainrule.tensor.surroundings import RandomStates, Surroundings
from chainrule.tensor.traced import Parts, Results, Traced
from chainrule.tensor.tracing import Trace, active_trace, tracing
from chainrule.tensor.watched import noting

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
Q = ParamSpec("Q")
T = TypeVar("T")
_MOST_PROGRAMS = 16
"""The most programs that a function keeps. Beyond that, the least recently used are dropped."""
_MANY_TRACINGS = 5
"""The number of tracings for the same reason at which a warning is issued."""


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
        self._traced: dict[Hashable, list[Traced]] = {}
        self._kept: Recent[int, Signature] = Recent(_MOST_PROGRAMS, partial(_forget, self._traced))  # by their numbers
        self._reasons: list[str] = []
        self._causes: Counter[str] = Counter()
        self._last_signature: Signature | None = None
        self._lock = forks.renewed(threading.RLock())
        self._last: Traced | None = None
        self._methods: dict[int, tuple[weakref.ref[Any], CompiledFunction[Any, Any]]] = {}

    @property
    def _compiled_from(self) -> Callable[P, R]:
        """The plain function, which ``surroundings`` looks for in the functions that a traced one calls."""
        return self._function

    def __call__(self, *args: P.args, **options: P.kwargs) -> R:
        """The result of the function, computed by a program, which is made first if none fits these arguments."""
        if active_trace() is not None or is_reference():  # part of another traced function's graph, or all is for NumPy
            given, named = as_tensors((args, options))
            return self._function(*given, **named)
        with self._lock:
            call = Call(args, options)
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
            call = Call(args, options)
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
        made: CompiledFunction[Any, Any] = CompiledFunction(Method(self._function, reference), self._max_memory, self._show)
        methods[key] = reference, made
        return _Bound(made, instance)

    def _object(self) -> Any:
        """The object that was compiled, such as a model; None if it is a function."""
        function = self.__dict__.get("_function")
        return None if inspect.isroutine(function) or isinstance(function, Method) else function

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

    def _known(self, call: Call) -> tuple[Traced | None, Change | None]:
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

    def _made(self, call: Call, broken: Change | None) -> Traced:
        """The function traced for this call. ``broken`` is what changed; None if no program for such calls is known."""
        self._tell([broken] if broken is not None else self._news(call))
        with rare_collections():
            made = self._trace(call)
        self._traced.setdefault(call.signature, []).append(made)
        self._kept.keep(made.number, call.signature)
        self._last, self._last_signature = made, call.signature
        return made

    def _observed(self, trace: Trace) -> Sequence[Observed]:
        """What the program is to compute beside the outputs, for whoever watches (see ``ObservedFunction``)."""
        return ()

    def _news(self, call: Call) -> list[Change]:
        """Why no program fits: the differences between this call and the last one."""
        before, now, names = self._last_signature, call.signature, call.names(self._function)
        if before is None:
            inputs = [f"{name} {key}" for name, key in zip(names, now.leaves, strict=True) if isinstance(key, Input)]
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
        self._reasons.append("; ".join(change.sentence for change in changes))
        for change in changes:
            if change.cause:
                self._causes[change.cause] += 1
                if self._causes[change.cause] == _MANY_TRACINGS:
                    warn(
                        f"compile: {self.__name__} was traced {len(self._reasons)} times, {_MANY_TRACINGS} of them because "
                        f"{change.sentence}. Each value is a program of its own: {change.remedy}"
                    )

    def _trace(self, call: Call) -> Traced:
        plain = self._function.bound() if isinstance(self._function, Method) else self._function
        misfit = misfit_of(plain, *call.arguments, self.__name__)
        if misfit is not None:
            raise misfit
        objects = call.objects(self._function)
        before = Surroundings(plain, objects)
        states = RandomStates(before.generators)
        with tracing() as trace, noting():
            notes = trace.notes = Notes()
            names = call.input_names(self._function)
            inputs = [given.stand_in(trace, name) for given, name in zip(call.inputs, names, strict=True)]
            leaves = [stand_in.node for stand_in in inputs]  # the function may put a leaf of its own in the place of one
            given, named = call.with_inputs(inputs)
            results = Results(self._function(*given, **named), inputs)
            call.refuse_changes(self.__name__, given, named, inputs, self._function)
            drawn = states.drawn()
            if drawn is not None:
                raise UserError(
                    f"compile: {self.__name__} draws from {drawn} while it is traced, and would get the same numbers at each "
                    "call: draw with cr.random, or pass the numbers as an argument"
                )
            parts = Parts(trace, inputs, leaves, results.outputs)
            graph = Graph(*parts.outputs, observed=self._observed(trace))
            refuse_outside(f"compile: {self.__name__}", graph.nodes)
        notes.settle()
        after = Surroundings(plain, [*objects, *notes.objects()], notes.functions)
        changed = [guard.what for guard in before.guards.values() if guard.broken() is not None] + notes.side_effects()
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


def _forget(traced: dict[Hashable, list[Traced]], number: int, signature: Signature) -> None:
    """Remove a program, which the cache has dropped, from those that are known."""
    kept = [program for program in traced[signature] if program.number != number]
    if kept:
        traced[signature] = kept
    else:
        del traced[signature]


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
