"""Runs a single operation as a program, for code that runs node by node outside of compiled functions.

Programs are kept for the next call with values of the same shapes, dtypes and strides: a program reads its inputs in the
order in which their axes lie in memory. The number of kept programs is bounded; those that were used longest ago are dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chainrule import ops
from chainrule.cpu.runtime.lent import LentProgram, StandIn
from chainrule.graph import Array
from chainrule.ops import Primitive
from chainrule.recent import Recent

_programs: Recent[Any, LentProgram] = Recent(1024)


def run(primitive: Primitive, values: Sequence[Array], attributes: Mapping[str, Any]) -> Array | None:
    """Compute ``primitive`` of ``values`` natively.

    The result has the shape and dtype that the primitive's NumPy reference returns; its axes lie in memory in the order that
    is fastest to compute. None if this thread is already within a run, in a signal handler or a finalizer.
    """
    key = (primitive, tuple(attributes.items()), tuple([(one.shape, one.strides, one.dtype) for one in values]))
    program = _programs.get(key) or _programs.get_or_make(key, lambda: _program(primitive, values, attributes))
    outputs = program.run(values)
    return None if outputs is None else outputs[0]


def _program(primitive: Primitive, values: Sequence[Array], attributes: Mapping[str, Any]) -> LentProgram:
    stand_ins = [StandIn.lying_as(one) for one in values]
    with ops.running_on(None):
        node = primitive(*[one.node for one in stand_ins], **attributes)
    return LentProgram([node], stand_ins)
