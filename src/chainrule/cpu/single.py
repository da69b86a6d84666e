"""Programs of one operation, for what runs at once outside compiled functions. Bounded: the ones used longest ago go.

Values come as they lie, images often with their channels last, and so results are left: a value's order of axes is part of the
key, and the program takes it as it is. All programs work in one and the same arena, one after the other.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from chainrule import ops
from chainrule.compiler.values import dense_strides, same_places
from chainrule.cpu.memory import aligned_memory, recycled
from chainrule.cpu.program import Program
from chainrule.graph import Array, Graph, Node, TensorType, leaf
from chainrule.ops import Primitive

_MOST_PROGRAMS = 1024
_WORTH_WAKING = 50e-6
"""Seconds of work from which on other threads, which are asleep between operations, are woken."""
_lock = threading.Lock()
_programs: OrderedDict[Any, _Single] = OrderedDict()
_arena = aligned_memory(0)


def run(primitive: Primitive, values: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
    """The value of ``primitive``, as ``run_reference`` gives it, in whatever order of axes it is quickest to make."""
    key = (primitive, tuple(attributes.items()), tuple([(one.shape, one.strides, one.dtype) for one in values]))
    with _lock:
        single = _programs.get(key)
        if single is None:
            single = _programs[key] = _Single(primitive, values, attributes)
            while len(_programs) > _MOST_PROGRAMS:
                _programs.popitem(last=False)
        else:
            _programs.move_to_end(key)
        return single.run(values)


class _Single:
    """One program; its operands' addresses are written straight into its table."""

    def __init__(self, primitive: Primitive, values: Sequence[Array], attributes: Mapping[str, Any]) -> None:
        with ops.running_on(None):
            self.inputs = [_Input(one) for one in values]
            node = primitive(*[one.node for one in self.inputs], **attributes)
        program = self.program = Program(Graph(node), lent_memory=True, alone_under=_WORTH_WAKING)
        self.arena: Array | None = None
        self.addresses = program.addresses
        self.input_places = [program.address_places(one.leaf) if program.needs(one.leaf) else [] for one in self.inputs]
        self.output_places = program.address_places(0)
        place, itemsize = program.output_place(0), node.dtype.itemsize
        self.bytes, self.start = place.buffer.nbytes, place.start * itemsize
        self.shape, self.dtype, self.strides = node.shape, node.dtype, tuple(stride * itemsize for stride in place.strides)

    def run(self, values: Sequence[Array]) -> Array:
        global _arena
        if self.program.arena_bytes > _arena.nbytes:
            _arena = aligned_memory(self.program.arena_bytes)
        if self.arena is not _arena:
            self.program.lend(_arena)
            self.arena = _arena
        held = []
        for one, places, value in zip(self.inputs, self.input_places, values, strict=True):
            if places:
                array = value if one.as_it_lies else np.ascontiguousarray(value)
                held.append(array)
                address = array.__array_interface__["data"][0]
                for place, offset in places:
                    self.addresses[place] = address + offset
        memory = recycled(self.bytes)
        address = memory.__array_interface__["data"][0]
        for place, offset in self.output_places:
            self.addresses[place] = address + offset
        self.program.run()
        return np.ndarray(self.shape, self.dtype, memory, self.start, self.strides)


class _Input:
    """One operand: the ``leaf`` that is its memory, and the ``node`` that sees in it what the operation is given."""

    def __init__(self, value: Array) -> None:
        shape = value.shape
        strides = tuple(stride // value.itemsize for stride in value.strides)
        repeated = tuple(axis for axis, size in enumerate(shape) if size > 1 and strides[axis] == 0)
        kept = [axis for axis in range(value.ndim) if axis not in repeated]
        sizes = [shape[axis] for axis in kept]
        order = sorted(range(len(kept)), key=lambda i: (-strides[kept[i]] if sizes[i] > 1 else 0, i))
        dense = dense_strides(sizes, tuple(order))
        self.as_it_lies = math.prod(shape) > 0 and same_places(sizes, tuple(strides[axis] for axis in kept), dense)
        if not self.as_it_lies or (not repeated and order == sorted(order)):
            self.leaf = self.node = leaf(TensorType(shape, value.dtype))
            return
        self.leaf = leaf(TensorType(tuple(sizes[i] for i in order), value.dtype))
        node: Node = ops.transpose(self.leaf, axes=tuple(order.index(i) for i in range(len(order))))
        self.node = ops.broadcast(node, shape=shape, axes=repeated) if repeated else node
