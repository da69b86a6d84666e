"""Programs of one operation, for what runs at once outside compiled functions. Bounded: the ones used longest ago go.

A value's order of axes is part of the key, and the program takes it as it is.
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
    """The value of ``primitive``, as ``run_reference`` gives it, in whatever order of axes it is quickest to make; None within
    another run on this thread."""
    key = (primitive, tuple(attributes.items()), tuple([(one.shape, one.strides, one.dtype) for one in values]))
    program = _programs.get(key) or _programs.get_or_make(key, lambda: _program(primitive, values, attributes))
    found = program.run(values)
    return None if found is None else found[0]


def _program(primitive: Primitive, values: Sequence[Array], attributes: Mapping[str, Any]) -> LentProgram:
    stand_ins = [StandIn.lying_as(one) for one in values]
    with ops.running_on(None):
        node = primitive(*[one.node for one in stand_ins], **attributes)
    return LentProgram([node], stand_ins)
