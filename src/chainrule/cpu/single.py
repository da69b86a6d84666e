"""Programs of one operation, for what runs at once outside compiled functions. Bounded: the ones used longest ago go."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from chainrule import ops
from chainrule.cpu.program import Program
from chainrule.graph import Array, Graph, Node, TensorType, leaf
from chainrule.ops import Primitive

_MOST_PROGRAMS = 256
_lock = threading.Lock()
_programs: OrderedDict[Any, tuple[Program, list[Node]]] = OrderedDict()


def run(primitive: Primitive, values: Sequence[Array], attributes: Mapping[str, Any], type_: TensorType) -> Array:
    """The value of ``primitive``, as ``run_reference`` gives it."""
    key = (primitive.name, tuple((one.shape, one.dtype) for one in values), str(sorted(attributes.items())))
    with _lock:
        if key not in _programs:
            with ops.running_on(None):
                inputs = [leaf(TensorType(one.shape, one.dtype)) for one in values]
                node = primitive(*inputs, **attributes)
            _programs[key] = Program(Graph(node)), inputs
            while len(_programs) > _MOST_PROGRAMS:
                _programs.popitem(last=False)
        _programs.move_to_end(key)
        program, inputs = _programs[key]
        held = [np.ascontiguousarray(one) for one in values]
        for one, array in zip(inputs, held, strict=True):
            if program.needs(one):
                program.bind(one, array)
        program.run()
        return np.array(program.output(0), order="C")
