"""The engine that runs primitives, and what nodes keep of their inputs, for the whole process or within a ``with`` block."""

from __future__ import annotations

import contextvars
import enum
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from chainrule.graph.dtypes import bfloat16, float32
from chainrule.graph.node import Array, TensorType

if TYPE_CHECKING:
    from chainrule.graph.node import Node
    from chainrule.ops.primitive import Primitive

Engine = Callable[["Primitive", Sequence[Array], Mapping[str, Any], TensorType], Array]
"""Runs one primitive on arrays. The reference engine is ``run_reference``; the compiled one lives outside this package."""


def run_reference(primitive: Primitive, values: Sequence[Array], attributes: Mapping[str, Any], type_: TensorType) -> Array:
    """The reference engine: NumPy. bfloat16 is computed in float32 and rounded once, at the end."""
    for value in values:
        if value.dtype is bfloat16 or value.dtype == bfloat16:
            values = [value.astype(float32) if value.dtype == bfloat16 else value for value in values]
            break
    result: Any
    if primitive.rearranges:
        result = primitive.reference(*values, **attributes)
    else:
        result = _quiet.copy().run(primitive.reference, *values, **attributes)
    if not isinstance(result, np.ndarray):
        result = np.asarray(result)
    array: Array = result if result.dtype == type_.dtype else result.astype(type_.dtype)
    return array


_quiet = contextvars.Context()
"""A context in which NumPy does not warn of 1/0 (inf) and 0/0 (nan): the health checks report these.

Entering ``np.errstate`` for each operation costs more than a small operation itself; a copy of a context costs next to
nothing, and may be entered on any thread, also within another context."""
_quiet.run(np.seterr, all="ignore")


History = Literal["gradients", "nothing", "everything"]


class AsUsual(enum.Enum):
    """A marker: the thread uses the engine of the whole process, as ``running_on`` has not set another."""

    ENGINE = 0


usual: list[Engine] = [run_reference]


class Mode(threading.local):
    """The settings of a thread: its engine, and what nodes keep of their inputs."""

    engine: Engine | AsUsual | None = AsUsual.ENGINE  # None: only trace, run nothing
    history: History = "gradients"
    made: list[Node] | None = None  # while tracing: where each node is to be noted that is made


mode = Mode()


@contextmanager
def history(kept: History) -> Iterator[None]:
    """Set what nodes made inside keep of their inputs: what ``gradients`` need (the default), ``nothing`` or ``everything``."""
    before, mode.history = mode.history, kept
    try:
        yield
    finally:
        mode.history = before


def history_kept() -> History:
    """What nodes made now on this thread keep of their inputs."""
    return mode.history


@contextmanager
def running_on(engine: Engine | None) -> Iterator[None]:
    """Run nodes made inside on ``engine``. With None they are only traced: they get shapes and dtypes, but no values."""
    before, mode.engine = mode.engine, engine
    try:
        yield
    finally:
        mode.engine = before


@contextmanager
def noting_nodes() -> Iterator[list[Node]]:
    """A context that gives a list of all nodes that primitives make in it while tracing, those too that nothing will use."""
    before, mode.made = mode.made, []
    try:
        yield mode.made
    finally:
        mode.made = before


def set_default_engine(engine: Engine) -> Engine:
    """Set the engine that runs primitives from now on, on every thread; returns the engine before."""
    before, usual[0] = usual[0], engine
    return before


def default_engine() -> Engine:
    """The engine that runs primitives where ``running_on`` has not set another."""
    return usual[0]


def engine_in_use() -> Engine | None:
    """The engine that runs primitives now on this thread; None if they are only traced."""
    engine = mode.engine
    return usual[0] if engine is AsUsual.ENGINE else engine


def is_tracing() -> bool:
    """Whether primitives on this thread are only traced, not run."""
    return mode.engine is None
