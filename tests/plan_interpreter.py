"""Runs a compiler's plan with NumPy: what the passes made, without native code. The definition of what a nest means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from chainrule.compiler.nest import Access, Instruction, Nest
from chainrule.compiler.pipeline import Compilation
from chainrule.compiler.tasks import Buffer, HeavyTask, LoopTask, Place
from chainrule.graph import Node
from chainrule.graph.dtypes import as_dtype
from chainrule.graph.node import TensorType
from chainrule.ops import REGISTRY, Primitive, run_reference

Arrays = dict[Buffer, np.ndarray]


def run_plan(plan: Compilation, leaves: Mapping[Node, np.ndarray]) -> list[np.ndarray]:
    """The outputs. New values of cells are left in the arrays of ``leaves`` too, which must be writable."""
    arrays: Arrays = {}
    for node, place in plan.lowered.places.items():
        if node in leaves:
            arrays[place.buffer] = leaves[node].reshape(-1)
        elif node.is_leaf and node.value is not None:
            arrays[place.buffer] = np.ascontiguousarray(node.value).reshape(-1)
    same = plan.schedule.takes_over

    def memory(buffer: Buffer) -> np.ndarray:
        buffer = same.get(buffer, buffer)
        if buffer not in arrays:
            arrays[buffer] = np.full(buffer.elements, 77, dtype=buffer.dtype)
        return arrays[buffer]

    for task in plan.schedule.tasks:
        if isinstance(task, LoopTask):
            run_nest(task.nest, [memory(one) for one in task.buffers])
        else:
            run_heavy(task, memory)
    return [
        view(memory(place.buffer), place, node.shape).copy()
        for node, place in zip(plan.outputs, (plan.lowered.places[one] for one in plan.outputs), strict=True)
    ]


def view(memory: np.ndarray, place: Place, shape: tuple[int, ...]) -> np.ndarray:
    return strided(memory, place.start, shape, place.strides)


def strided(memory: np.ndarray, start: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    """A view that may not leave the memory."""
    if 0 not in shape:
        ends = [(size - 1) * stride for size, stride in zip(shape, strides, strict=True)]
        low, high = start + sum(min(one, 0) for one in ends), start + sum(max(one, 0) for one in ends)
        assert low >= 0, "reads before the buffer"
        assert high < memory.size, f"reads element {high} of {memory.size}"
    return np.lib.stride_tricks.as_strided(memory[start:], shape, [stride * memory.itemsize for stride in strides])


def run_heavy(task: HeavyTask, memory: Any) -> None:
    values = [view(memory(place.buffer), place, one.shape) for one, place in zip(task.node.inputs, task.inputs, strict=True)]
    operation = task.node.operation
    assert isinstance(operation, Primitive)
    found = run_reference(operation, values, task.node.attributes, task.node.type)
    view(memory(task.output.buffer), task.output, task.node.shape)[...] = found


def run_nest(nest: Nest, operands: list[np.ndarray]) -> None:
    """Unit by unit, as the kernel would."""
    for unit in range(nest.units):
        begin = unit * nest.rows
        sizes = (min(nest.rows, nest.sizes[0] - begin), *nest.sizes[1:])

        def at(access: Access, begin: int = begin, sizes: tuple[int, ...] = sizes, unit: int = unit) -> np.ndarray:
            start = access.start + begin * access.strides[0] + unit * access.unit_stride
            return strided(operands[access.operand], start, sizes, access.strides)

        values: list[np.ndarray] = []
        for one in nest.body:
            values.append(evaluate(one, values, at, begin, sizes, nest))
        for store in nest.stores:
            at(store.access)[...] = values[store.value]
        for gather in nest.reductions:
            reduced = tuple(axis for axis, stride in enumerate(gather.access.strides) if stride == 0)
            combine = {"sum": np.sum, "max": np.max, "min": np.min}[gather.kind]
            value = np.broadcast_to(values[gather.value], sizes)
            if value.dtype != as_dtype(gather.access.dtype):
                value = value.astype(gather.access.dtype)
            total = combine(value, axis=reduced, keepdims=True) if reduced else value
            if reduced:
                kept = tuple(1 if axis in reduced else size for axis, size in enumerate(sizes))
                target = strided(
                    operands[gather.access.operand],
                    gather.access.start + begin * gather.access.strides[0] + unit * gather.access.unit_stride,
                    kept,
                    gather.access.strides,
                )
                target[...] = total
            else:
                at(gather.access)[...] = total


def evaluate(
    one: Instruction, values: list[np.ndarray], at: Any, begin: int, sizes: tuple[int, ...], nest: Nest
) -> np.ndarray:  # fmt: skip
    if one.name == "load":
        assert one.access is not None
        return np.array(at(one.access))
    if one.name == "constant":
        return np.asarray(one.attribute("number")).astype(as_dtype(one.dtype))
    if one.name == "index":
        total = np.full(sizes, one.attribute("start"), np.int64)
        for axis, stride in enumerate(one.attribute("strides")):
            places = np.arange(sizes[axis]) + (begin if axis == 0 else 0)
            total = total + (places * stride).reshape([-1 if i == axis else 1 for i in range(len(sizes))])
        return total
    if one.name == "unit_share":
        return np.asarray(1 / (sizes[0] * one.attribute("inner"))).astype(as_dtype(one.dtype))
    inputs = [values[i] for i in one.inputs]
    attributes = {name: as_dtype(value) if name == "dtype" else value for name, value in one.attributes}
    dtype = as_dtype(one.dtype)
    return run_reference(REGISTRY[one.name], inputs, attributes, TensorType((), dtype))
