"""Primitives that make whole numbers: floor, ceil, round, and the quotient that is rounded down with its remainder.

The rounded ones pass no gradient: they are flat between their jumps. The remainder does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.graph.node import Array, Role
from chainrule.ops.elementwise import _BF16_TWO, _ONE_ROWS, _float, _number, multiply, negative
from chainrule.ops.primitive import Blocked, Primitive, Spec, rows

_FLAT = Blocked("its slope is 0 wherever it has one")


def _to_whole(name: str, reference: Callable[[Array], Any], doc: str) -> Primitive:
    return Primitive(
        name,
        Role.BLOCKER,
        doc,
        shape=_float(name),
        reference=reference,
        vjp=_FLAT,
        local=("0",),
        saves=(),
        spec=(*_ONE_ROWS, Spec(((4,),), dtypes=("bfloat16",))),
        elementwise=True,
    )


floor: Primitive = _to_whole("floor", np.floor, "z = x rounded down to a whole number: (...) -> (...).")
ceil: Primitive = _to_whole("ceil", np.ceil, "z = x rounded up to a whole number: (...) -> (...).")
round_: Primitive = _to_whole("round", np.rint, "z = x rounded to the nearest whole number, halves to even: (...) -> (...).")

# Quotients that lie between whole numbers, with room for a finite difference.
_APART = rows(
    Spec(((3, 5), (3, 5)), domain=(0.4, 2.0)),
    Spec(((2, 3), (2, 3)), dtypes=("float64",)),
    Spec(((0,), (0,))),
    Spec(((), ())),
)
_WHOLE = Spec(((2, 3), (2, 3)), dtypes=("int32",), integers=(1, 6))

floor_divide: Primitive = Primitive(
    "floor_divide",
    Role.BLOCKER,
    "z = floor(x / y) of the exact quotient: (...), (...) -> (...). An integer divided by 0 gives 0, as in NumPy.",
    shape=_number("floor_divide"),
    reference=np.floor_divide,
    vjp=_FLAT,
    local=("0", "0"),
    saves=(),
    spec=(*_APART, _WHOLE, _BF16_TWO),
    elementwise=True,
    expensive=True,
)

remainder: Primitive = Primitive(
    "remainder",
    Role.SCALER,
    "z = x - floor(x / y) y, with the sign of y: (...), (...) -> (...). Of an integer and 0 it is 0, as in NumPy.",
    shape=_number("remainder"),
    reference=np.remainder,
    vjp=(lambda z, u: u, lambda z, u: negative(multiply(u, floor_divide(*z.inputs)))),
    local=("1", "-floor(x / y)"),
    saves=(0, 1),
    spec=(*_APART, _WHOLE, _BF16_TWO),
    elementwise=True,
    expensive=True,
)
