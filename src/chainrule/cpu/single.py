"""Programs of one operation, for what runs at once outside compiled functions. Bounded: the ones used longest ago go.

A value's order of axes is part of the key, and the program takes it as it is.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from chainrule import forks, ops
from chainrule.cpu.lent import LentProgram, Operand
from chainrule.graph import Array
from chainrule.ops import Primitive

_MOST_PROGRAMS = 1024
_lock = forks.renewed(threading.RLock())
_programs: OrderedDict[Any, LentProgram] = OrderedDict()


def run(primitive: Primitive, values: Sequence[Array], attributes: Mapping[str, Any]) -> Array | None:
    """The value of ``primitive``, as ``run_reference`` gives it, in whatever order of axes it is quickest to make; None within
    another run on this thread."""
    key = (primitive, tuple(attributes.items()), tuple([(one.shape, one.strides, one.dtype) for one in values]))
    with _lock:
        program = _programs.get(key)
        if program is None:
            program = _programs[key] = _program(primitive, values, attributes)
            while len(_programs) > _MOST_PROGRAMS:
                _programs.popitem(last=False)
        else:
            _programs.move_to_end(key)
    found = program.run(values)
    return None if found is None else found[0]


def _program(primitive: Primitive, values: Sequence[Array], attributes: Mapping[str, Any]) -> LentProgram:
    operands = [Operand.lying_as(one) for one in values]
    with ops.running_on(None):
        node = primitive(*[one.node for one in operands], **attributes)
    return LentProgram([node], operands)
