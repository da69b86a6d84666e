"""Programs for code that runs node by node, outside of compiled functions.

They read values as they lie in memory, often with channels last, and write their outputs to recycled memory. All of them share
a single arena, so they run one after the other.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule import forks, ops
from chainrule.collector import rare_collections
from chainrule.compiler.values import dense_strides, natural, same_places
from chainrule.cpu.runtime.memory import LINE, aligned_memory, apart, recycled
from chainrule.cpu.runtime.program import Program
from chainrule.graph import Array, Graph, Node, TensorType, leaf

_WORTH_WAKING = 50e-6
"""Seconds of work from which on it is worth waking other threads, which sleep between programs."""
_LARGE = 1 << 17
"""Bytes from which on an output gets a piece of memory of its own."""
_lock = forks.renewed(
    threading.RLock()
)  # reentrant, as a signal handler may run after the lock is taken and before its owner is noted
_owner: int | None = None  # the identifier of the thread that is within a run
_arena = aligned_memory(0)
_arenas = 0  # the number of arenas made so far, which is the number of the current arena


@dataclass(frozen=True)
class StandIn:
    """Represents, in the graph of a program, a value that the program will be given.

    Attributes:
        leaf: stands for the memory of the value, read in the order in which it lies there.
        node: a view of ``leaf`` with the axes of the value, for operations to use.
        as_it_lies: whether a program can read such a value where it lies. If not, it is first copied to row-major order,
            unless it lies so already.
    """

    leaf: Node
    node: Node
    as_it_lies: bool

    @classmethod
    def lying_as(cls, value: Array) -> StandIn:
        """Return a stand-in for values with the shape, dtype and strides of ``value``.

        Its axes may lie in memory in any order, and may be repeated (stride 0).
        """
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
    """A program that reads values as they lie in memory: their addresses are written straight into its table.

    Args:
        outputs: the nodes to compute, made of the nodes of ``stand_ins``.
        stand_ins: one for each value that ``run`` will be given.
        row_major: whether outputs shall lie in row-major order; else their axes lie in the order fastest to compute.
        bound: leaves whose memory stays the same in all runs, and that memory.
        assigned: pairs of a leaf in ``bound`` and the node of the new value that is written to its memory.
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
        with rare_collections():
            program = self._program = Program(Graph(*new), state, lent_memory=True, alone_under=_WORTH_WAKING)
        self._arena = 0  # the number of the arena that it is bound to
        self._addresses = program.addresses
        self._operands = [  # the number of the value, whether it is read as it lies, and where its address goes
            (number, one.as_it_lies, program.address_places(one.leaf))
            for number, one in enumerate(stand_ins)
            if program.needs(one.leaf)
        ]
        for memory, array in (bound or {}).items():
            if program.needs(memory):
                program.bind(memory, array)
        self._lay_out(outputs, places)

    def _lay_out(self, outputs: Sequence[Node], places: Sequence[Node]) -> None:
        """Decide in which piece of memory each output lies.

        A large output has a piece of its own, which is freed as soon as that output is gone. All others share the last piece.
        """
        program = self._program
        small = 0  # bytes of the shared piece
        sizes: list[int] = []  # bytes of each of the other pieces
        self._blocks: list[tuple[int, list[tuple[int, int]]]] = []  # piece, and where its address goes
        self._results: list[
            tuple[int, tuple[int, ...], np.dtype[Any], int, tuple[int, ...]]
        ] = []  # piece, and the view of it: shape, dtype, byte, strides
        begins: dict[int | Node, tuple[int, int]] = {}  # by region or leaf: piece, byte
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
        """Return the outputs for ``values``, which have the shapes, dtypes and strides of the stand-ins.

        None if this thread is already within a run, that is, in a signal handler or a finalizer that came in between.
        """
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
        held = []  # keeps copies alive until the run is over
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
        """Bind the program to the shared arena, which is replaced by a larger one if it is too small."""
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
