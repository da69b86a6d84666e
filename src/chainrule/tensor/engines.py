"""The two engines: "native" uses native code, "reference" computes everything with NumPy.

Outside compiled functions each operation runs at once: small operations in NumPy, whose calls cost little, and large ones in a
cached program of that single operation. ``engine("reference")`` leaves everything to NumPy, node by node, compiled functions
included; its results define what is right, and others are compared with them. Where no native code can be made, because LLVM or
kernels for this processor are missing, NumPy computes everything too; a warning says so the first time it makes a difference.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from chainrule import ops
from chainrule.arguments import explained
from chainrule.errors import UserError, unknown_value, warn
from chainrule.graph import Array, Node, Role, TensorType
from chainrule.graph.dtypes import bool_, float32, float64
from chainrule.ops import Primitive
from chainrule.tensor.backend import backend

ENGINES = ("native", "reference")
VARIABLE = "CHAINRULE_ENGINE"
_WORTH_A_PROGRAM = 1 << 16
"""The work of an operation (see ``work``) from which on a program of its own is faster than NumPy."""


_NATIVE = frozenset(
    primitive
    for primitive in ops.REGISTRY.values()
    if primitive.elementwise
    or primitive.reduces
    or primitive.images
    or primitive.multiply_adds
    or primitive.role is Role.NORMALISER
    or primitive is ops.random_bits
)
"""Primitives that can be faster in a program of their own. NumPy moves values for free, as views, and gathers as fast."""
_DTYPES = frozenset({float32, float64, bool_})


def native(primitive: Primitive, values: Sequence[Array], attributes: Mapping[str, Any], type_: TensorType) -> Array:
    """``primitive`` applied to ``values``, computed by NumPy or by native code, whichever is faster for this size."""
    if primitive.elementwise and type_.size < _WORTH_A_PROGRAM:  # the most frequent case first
        return ops.run_reference(primitive, values, attributes, type_)
    if (
        primitive not in _NATIVE
        or work(primitive, values, type_) < _WORTH_A_PROGRAM
        or not (_DTYPES.issuperset([value.dtype for value in values]) or primitive is ops.random_bits)
    ):
        return ops.run_reference(primitive, values, attributes, type_)
    if not has_native_code():
        return ops.run_reference(primitive, values, attributes, type_)
    result = backend().run_single(primitive, values, attributes)
    return ops.run_reference(primitive, values, attributes, type_) if result is None else result


def work(primitive: Primitive, values: Sequence[Array | Node], type_: TensorType) -> int:
    """The work of an operation: multiply-adds of a contraction, otherwise elements of its largest input or output.

    ``type_`` is the type of the output. Only the shapes of ``values`` are read.
    """
    if primitive.elementwise:
        return type_.size
    if primitive.multiply_adds is not None:
        return int(primitive.multiply_adds(*values, type_))
    return max([type_.size, *(int(value.size) for value in values)])


class engine:  # noqa: N801 - used like a function
    """Switch all threads to an engine: "native" (the default), or "reference", which computes everything with NumPy.

    ``engine("reference")`` lasts until the next switch; ``with engine("reference"):`` restores the engine before it.

    Raises:
        UserError: there is no engine of that name.
    """

    @explained
    def __init__(self, name: str) -> None:
        if name not in ENGINES:
            raise unknown_value("engine", name, ENGINES)
        self._name = name
        self._before = ops.set_default_engine(native if name == "native" else ops.run_reference)

    def __repr__(self) -> str:
        return f"engine({self._name!r})"

    def __enter__(self) -> engine:
        return self

    def __exit__(self, *_: object) -> None:
        ops.set_default_engine(self._before)


def runs_natively() -> bool:
    """Whether the native engine is in use and not every node has to keep its value, so that several may be computed at once."""
    return ops.engine_in_use() is native and ops.history_kept() != "everything"


def is_reference() -> bool:
    """Whether NumPy computes everything, because the reference engine was chosen or no native code can be made."""
    check_engine()
    return ops.default_engine() is ops.run_reference or not has_native_code()


_told = False


def has_native_code() -> bool:
    """Whether native code can be made and run on this machine. If not, the first call warns."""
    global _told
    obstacle = backend().obstacle()
    if obstacle is not None and not _told:
        _told = True
        warn(
            f"{obstacle}. NumPy computes everything instead, operation by operation: the results are right, but take longer. "
            f"Set {VARIABLE}=reference to choose that yourself, without this warning"
        )
    return obstacle is None


def require_native_code(what: str) -> None:
    """Refuse ``what``, a call that needs a program, where no program can be made.

    Raises:
        UserError: no native code can be made on this machine.
    """
    obstacle = backend().obstacle()
    if obstacle is not None:
        raise UserError(
            f"{what}: {obstacle}, so no program is made: call the function itself, which NumPy then computes, as with "
            f"{VARIABLE}=reference"
        )


def check_engine() -> None:
    """Check the environment variable, unless an engine was chosen by a call since.

    Raises:
        UserError: the variable names no engine.
    """
    if ops.default_engine() is _refuse:
        raise UserError(f"the environment variable {VARIABLE} is {_asked()!r}: set it to one of {', '.join(ENGINES)}")


def _asked() -> str:
    return os.environ.get(VARIABLE, "").strip().lower() or "native"


def _refuse(*_: object) -> Array:
    """The engine for a wrong environment variable. It raises at the first computation, so that the import still succeeds."""
    check_engine()
    raise AssertionError("another engine was chosen meanwhile")


def _from_environment() -> None:
    name = _asked()
    if name in ENGINES:
        engine(name)
    else:
        ops.set_default_engine(_refuse)


_from_environment()
