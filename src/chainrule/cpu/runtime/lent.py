"""Programs for what runs at once, outside compiled functions: they take values as they lie, often with channels last, and leave
theirs in memory that is used again. All of them work in one and the same arena, one after the other.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule import forks, ops
from chainrule.compiler.values import dense_strides, natural, same_places
from chainrule.cpu.runtime.memory import LINE, aligned_memory, apart, recycled
from chainrule.cpu.runtime.program import Program
from chainrule.graph import Array, Graph, Node, TensorType, leaf

_WORTH_WAKING = 50e-6
"""Seconds of work from which on other threads, which are asleep between programs, are woken."""
_LARGE = 1 << 17
"""Bytes of an output that gets memory of its own."""
_lock = forks.renewed(threading.RLock())  # a signal handler may come between the lock and the name of its owner
_owner: int | None = None  # the thread that holds it
_arena = aligned_memory(0)
_arenas = 0  # that there were


@dataclass(frozen=True)
class StandIn:
    """A value: the ``leaf`` that is its memory, and the ``node`` that sees in it what the operations are given. If not taken
    ``as_it_lies``, it is copied wherever it does not lie row-major."""

    leaf: Node
    node: Node
    as_it_lies: bool

    @classmethod
    def lying_as(cls, value: Array) -> StandIn:
        """A value that lies as ``value`` does, with its axes in any order, or repeated."""
        shape = value.shape
        strides = tuple(stride // value.itemsize for stride in value.strides)
        repeated = tuple(axis for axis, size in enumerate(shape) if size > 1 and strides[axis] == 0)
        kept = [axis for axis in range(value.ndim) if axis not in repeated]
        sizes = [shape[axis] for axis in kept]
        order = sorted(range(len(kept)), key=lambda i: (-strides[kept[i]] if sizes[i] > 1 else 0, i))
        dense = dense_strides(sizes, tuple(order))
        as_it_lies = math.prod(shape) > 0 and same_places(sizes, tuple(strides[axis] for axis in kept), dense)
        if not as_it_lies or (not repeated and order == sorted(order)):
            memory = node = leaf(TensorType(shape, value.dtype))
        else:
            memory = leaf(TensorType(tuple(sizes[i] for i in order), value.dtype))
            with ops.running_on(None):
                node = ops.transpose(memory, axes=tuple(order.index(i) for i in range(len(order))))
                node = ops.broadcast(node, shape=shape, axes=repeated) if repeated else node
        return cls(memory, node, as_it_lies)


stand_in = StandIn.lying_as


class LentProgram:
    """``outputs``, made of the nodes of ``stand_ins``, as a program whose stand_ins' addresses go straight into its table.

    ``row_major``: also the outputs lie so. ``bound``: leaves whose memory is given once for all. ``assigned``: those of them
    that get a new value there, and its node.
    """

    def __init__(
        self,
        outputs: Sequence[Node],
        stand_ins: Sequence[StandIn],
        *,
        row_major: bool = False,
        bound: Mapping[Node, Array] | None = None,
        assigned: Sequence[tuple[Node, Node]] = (),
    ) -> None:
        places = [leaf(node.type) for node in outputs] if row_major else []
        new = [*outputs, *(node for _, node in assigned)]
        state = [*((one, number) for number, one in enumerate(places))]
        state += [(memory, len(outputs) + number) for number, (memory, _) in enumerate(assigned)]
        program = self._program = Program(Graph(*new), state, lent_memory=True, alone_under=_WORTH_WAKING)
        self._arena = 0  # the number of the one that it is bound to
        self._addresses = program.addresses
        self._operands = [  # number, whether it is taken as it lies, and where its address goes
            (number, one.as_it_lies, program.address_places(one.leaf))
            for number, one in enumerate(stand_ins)
            if program.needs(one.leaf)
        ]
        for memory, array in (bound or {}).items():
            if program.needs(memory):
                program.bind(memory, array)
        self._lay_out(outputs, places)

    def _lay_out(self, outputs: Sequence[Node], places: Sequence[Node]) -> None:
        """Where outputs go: a large one to memory of its own, so that it can go alone, all others to one piece."""
        program = self._program
        small = 0  # bytes of the common piece, which comes last
        sizes: list[int] = []  # of the others
        self._blocks: list[tuple[int, list[tuple[int, int]]]] = []  # piece, and where addresses go
        self._results: list[tuple[int, tuple[int, ...], np.dtype[Any], int, tuple[int, ...]]] = []  # piece, and the view of it
        begins: dict[int | Node, tuple[int, int]] = {}  # by region, or by leaf: piece, byte
        for number, node in enumerate(outputs):
            if places:
                key: int | Node = places[number]
                start, strides, nbytes = 0, dense_strides(node.shape, natural(node.ndim)), node.type.nbytes
                where = program.address_places(places[number]) if program.needs(places[number]) else []
            else:
                view, nbytes = program.output_place(number)
                key, start, strides = view.region, view.start, view.strides
                where = program.address_places(number)
            if key not in begins:
                if nbytes >= _LARGE:
                    piece, begin = len(sizes), apart(len(sizes))
                    sizes.append(begin + nbytes)
                else:
                    piece, begin = -1, small
                    small += -(-nbytes // LINE) * LINE
                begins[key] = piece, begin
                self._blocks.append((piece, [(place, offset + begin) for place, offset in where]))
            piece, begin = begins[key]
            itemsize = node.dtype.itemsize
            in_bytes = tuple(stride * itemsize for stride in strides)
            self._results.append((piece, node.shape, node.dtype, begin + start * itemsize, in_bytes))
        self._sizes = [*sizes, *([small] if any(piece < 0 for piece, *_ in self._results) else [])]

    def run(self, values: Sequence[Array]) -> list[Array] | None:
        """The outputs, for stand_ins that lie as those that it was made for; None if this thread is within a run already, in a
        signal handler or when something is freed."""
        global _owner
        thread = threading.get_ident()
        if _owner == thread:
            return None
        with _lock:
            _owner = thread
            try:
                return self._run(values)
            finally:
                _owner = None

    def _run(self, values: Sequence[Array]) -> list[Array]:
        self._borrow()
        addresses = self._addresses
        held = []  # whatever was copied, until all is done
        for number, as_it_lies, places in self._operands:
            array = values[number]
            if not as_it_lies:
                array = np.ascontiguousarray(array)
                held.append(array)
            address = array.__array_interface__["data"][0]
            for place, offset in places:
                addresses[place] = address + offset
        pieces = [recycled(nbytes) for nbytes in self._sizes]
        for piece, places in self._blocks:
            address = pieces[piece][1]
            for place, offset in places:
                addresses[place] = address + offset
        self._program.run()
        return [
            np.ndarray(shape, dtype, pieces[piece][0], start, strides) for piece, shape, dtype, start, strides in self._results
        ]

    def _borrow(self) -> None:
        """The common arena, large enough."""
        global _arena, _arenas
        if self._program.arena_bytes > _arena.nbytes or not _arenas:
            _arena = aligned_memory(self._program.arena_bytes)
            _arenas += 1
        if self._arena != _arenas:
            self._program.lend(_arena)
            self._arena = _arenas


def _nobody_owns() -> None:
    global _owner
    _owner = None


forks.in_child(_nobody_owns)
