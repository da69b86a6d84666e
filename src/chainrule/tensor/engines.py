"""Who computes: native code, or NumPy alone.

Outside compiled functions each operation runs at once: small ones by NumPy, whose calls are cheap, large ones by a cached
program of that one operation. ``engine("reference")`` leaves everything, compiled functions too, to NumPy, node by node: the
definition of right, to compare with. Where there is no native code, for want of LLVM or of kernels for this processor, NumPy
computes everything too, which is said at the first moment at which that makes a difference.
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
"""Multiply-adds, or elements, from which on a program of one operation is faster than NumPy."""


_NATIVE = frozenset(
    one
    for one in ops.REGISTRY.values()
    if one.elementwise
    or one.reduces
    or one.images
    or one.multiply_adds
    or one.role is Role.NORMALISER
    or one is ops.random_bits
)
"""What is worth a native call of its own. Moves are views in NumPy, and free; it finds places (argmax, gather) as fast."""
_DTYPES = frozenset({float32, float64, bool_})


def native(primitive: Primitive, values: Sequence[Array], attributes: Mapping[str, Any], type_: TensorType) -> Array:
    """Runs one primitive on whichever is faster for its size."""
    if primitive.elementwise and type_.size < _WORTH_A_PROGRAM:  # what is asked most often, asked first
        return ops.run_reference(primitive, values, attributes, type_)
    if (
        primitive not in _NATIVE
        or work(primitive, values, type_) < _WORTH_A_PROGRAM
        or not (_DTYPES.issuperset([one.dtype for one in values]) or primitive is ops.random_bits)
    ):
        return ops.run_reference(primitive, values, attributes, type_)
    if not has_native_code():
        return ops.run_reference(primitive, values, attributes, type_)
    found = backend().run_single(primitive, values, attributes)
    return ops.run_reference(primitive, values, attributes, type_) if found is None else found


def work(primitive: Primitive, values: Sequence[Array | Node], type_: TensorType) -> int:
    """How much there is to do: multiply-adds of a contraction, else elements. Only the shapes of ``values`` are looked at."""
    if primitive.elementwise:
        return type_.size
    if primitive.multiply_adds is not None:
        return int(primitive.multiply_adds(*values, type_))
    return max([type_.size, *(int(one.size) for one in values)])


class engine:  # noqa: N801 - used like a function
    """Let ``name`` compute from now on, on every thread: "native" (as usual) or "reference" (NumPy for everything).

    As ``with engine("reference"):`` only inside.
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
    """Whether operations made here and now run at once, large ones in native code, and nobody wants to see each of them."""
    return ops.engine_in_use() is native and ops.history_kept() != "everything"


def is_reference() -> bool:
    """Whether NumPy computes everything: it was chosen, or there is no native code."""
    check_engine()
    return ops.default_engine() is ops.run_reference or not has_native_code()


_told = False


def has_native_code() -> bool:
    """Whether native code can be made and run on this machine. The first time that somebody asks in vain, that is a warning."""
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
    """Refuse ``what``, which means nothing without a program.

    Raises:
        UserError: this machine has no native code.
    """
    obstacle = backend().obstacle()
    if obstacle is not None:
        raise UserError(
            f"{what}: {obstacle}, so no program is made: call the function itself, which NumPy then computes, as with "
            f"{VARIABLE}=reference"
        )


def check_engine() -> None:
    """UserError if the environment variable names no engine, and none was chosen since."""
    if ops.default_engine() is _refuse:
        raise UserError(f"the environment variable {VARIABLE} is {_asked()!r}: set it to one of {', '.join(ENGINES)}")


def _asked() -> str:
    return os.environ.get(VARIABLE, "").strip().lower() or "native"


def _refuse(*_: object) -> Array:
    """The engine of a wrong environment variable. Whatever is computed first says so; an import is no place to stop at."""
    check_engine()
    raise AssertionError("another engine was chosen meanwhile")


def _from_environment() -> None:
    name = _asked()
    if name in ENGINES:
        engine(name)
    else:
        ops.set_default_engine(_refuse)


_from_environment()
