"""The precision of contractions: matrix products, convolutions and their gradients."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from chainrule.arguments import explained
from chainrule.errors import unknown_value
from chainrule.graph.dtypes import bfloat16, float32
from chainrule.graph.node import Node
from chainrule.ops.elementwise import round_to

PRECISIONS = ("float32", "float64", "bfloat16")


class _Precision(threading.local):
    name = "float32"


_precision = _Precision()


@explained
def precision(name: str) -> AbstractContextManager[None]:
    """A context that sets the precision of contractions made inside: ``float32``, ``float64`` or ``bfloat16``.

    With ``bfloat16``, float32 operands are rounded to bfloat16 and products summed in float32; all else stays float32.
    ``float32`` and ``float64`` take operands as they are. The contractions of a gradient are made where ``backward()`` is
    called, so the precision that is set there counts for them.
    """
    if name not in PRECISIONS:
        raise unknown_value("precision", name, PRECISIONS)
    return _within(name)


@contextmanager
def _within(name: str) -> Iterator[None]:
    before, _precision.name = _precision.name, name
    try:
        yield
    finally:
        _precision.name = before


def contraction_precision() -> str:
    """The name of the precision that is set now on this thread."""
    return _precision.name


def operand(node: Node) -> Node:
    """``node`` as an operand of a contraction: a float32 is rounded to bfloat16 if that precision is set."""
    if _precision.name != "bfloat16" or node.dtype != float32:
        return node
    return round_to(node, dtype=bfloat16)
