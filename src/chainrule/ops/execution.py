"""Who runs primitives, and what nodes remember of what ran: for the whole process, or for what is made in a ``with`` block."""

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
"""Where NumPy says nothing of 1/0, which is inf, and 0/0, which is nan: what to make of them is for the health checks.

``np.errstate`` would be made anew for each operation, which costs more than a small operation itself; a copy of a context costs
next to nothing, and may be entered on any thread and within another one."""
_quiet.run(np.seterr, all="ignore")


History = Literal["gradients", "nothing", "everything"]


class AsUsual(enum.Enum):
    """Stands for the engine of the whole process, in a thread that ``running_on`` did not give another."""

    ENGINE = 0


usual: list[Engine] = [run_reference]


class Mode(threading.local):
    engine: Engine | AsUsual | None = AsUsual.ENGINE  # None: only trace, run nothing
    history: History = "gradients"


mode = Mode()


@contextmanager
def history(kept: History) -> Iterator[None]:
    """What nodes made inside remember of their inputs: ``gradients`` (as usual), ``nothing``, or ``everything``."""
    before, mode.history = mode.history, kept
    try:
        yield
    finally:
        mode.history = before


def history_kept() -> History:
    """What nodes made now remember."""
    return mode.history


@contextmanager
def running_on(engine: Engine | None) -> Iterator[None]:
    """Nodes made inside run on ``engine``; None only traces them: shapes, dtypes and structure, no values."""
    before, mode.engine = mode.engine, engine
    try:
        yield
    finally:
        mode.engine = before


def set_default_engine(engine: Engine) -> Engine:
    """What runs primitives from now on, on every thread; returns what did before."""
    before, usual[0] = usual[0], engine
    return before


def default_engine() -> Engine:
    """What runs primitives where ``running_on`` says nothing else."""
    return usual[0]


def engine_in_use() -> Engine | None:
    """What runs primitives here and now; None: they are only traced."""
    engine = mode.engine
    return usual[0] if engine is AsUsual.ENGINE else engine


def is_tracing() -> bool:
    return mode.engine is None
