"""Programs for what runs at once, outside compiled functions: they take values as they lie, often with channels last, and leave
theirs in memory that is used again. All of them work in one and the same arena, one after the other.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule import ops
from chainrule.compiler.values import dense_strides, same_places
from chainrule.cpu.memory import aligned_memory, recycled
from chainrule.cpu.program import Program
from chainrule.graph import Array, Graph, Node, TensorType, leaf

_WORTH_WAKING = 50e-6
"""Seconds of work from which on other threads, which are asleep between programs, are woken."""
_lock = threading.Lock()
_owner: int | None = None  # the thread that holds it
_arena = aligned_memory(0)
_arenas = 0  # that there were


@dataclass(frozen=True)
class Operand:
    """A value: the ``leaf`` that is its memory, and the ``node`` that sees in it what the operations are given. If not taken
    ``as_it_lies``, it is copied wherever it does not lie row-major."""

    leaf: Node
    node: Node
    as_it_lies: bool

    @classmethod
    def lying_as(cls, value: Array) -> Operand:
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


class NestedError(Exception):
    """Programs that are lent memory cannot run within each other."""


class LentProgram:
    """``outputs``, made of the nodes of ``operands``, as a program whose operands' addresses go straight into its table."""

    def __init__(self, outputs: Sequence[Node], operands: Sequence[Operand]) -> None:
        program = self._program = Program(Graph(*outputs), lent_memory=True, alone_under=_WORTH_WAKING)
        self._arena = 0  # the number of the one that it is bound to
        self._addresses = program.addresses
        self._operands = [
            (one.as_it_lies, program.address_places(one.leaf) if program.needs(one.leaf) else []) for one in operands
        ]
        self._blocks: list[tuple[int, list[tuple[int, int]]]] = []  # bytes, and where their address goes
        self._results: list[tuple[int, tuple[int, ...], np.dtype[Any], int, tuple[int, ...]]] = []  # block, and the view of it
        blocks: dict[int, int] = {}
        for number, node in enumerate(outputs):
            (view, nbytes), itemsize = program.output_place(number), node.dtype.itemsize
            if view.region not in blocks:
                blocks[view.region] = len(blocks)
                self._blocks.append((nbytes, program.address_places(number)))
            strides = tuple(stride * itemsize for stride in view.strides)
            self._results.append((blocks[view.region], node.shape, node.dtype, view.start * itemsize, strides))

    def run(self, values: Sequence[Array]) -> list[Array]:
        """The outputs, for operands that lie as those that it was made for.

        Raises:
            NestedError: this thread is within a run already, in a signal handler or when something is freed.
        """
        global _owner
        thread = threading.get_ident()
        if _owner == thread:
            raise NestedError
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
        for (as_it_lies, places), value in zip(self._operands, values, strict=True):
            if places:
                array = value if as_it_lies else np.ascontiguousarray(value)
                held.append(array)
                address = array.__array_interface__["data"][0]
                for place, offset in places:
                    addresses[place] = address + offset
        blocks = []
        for nbytes, places in self._blocks:
            memory = recycled(nbytes)
            blocks.append(memory)
            address = memory.__array_interface__["data"][0]
            for place, offset in places:
                addresses[place] = address + offset
        self._program.run()
        return [
            np.ndarray(shape, dtype, blocks[block], start, strides) for block, shape, dtype, start, strides in self._results
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


def _after_fork_in_child() -> None:
    global _lock, _owner
    _lock, _owner = threading.Lock(), None  # a thread that the copy does not have may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
