"""Chooses the kernels of heavy operations: the table from primitives to kernel families.

Shapes of nodes are (N, C, H, W), as users see them; images lie in memory as (N, H, W, C), as kernels read them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType

from chainrule import ops
from chainrule.compiler.tasks import HeavyTask, Place
from chainrule.cpu.codegen.target import Target
from chainrule.cpu.kernel import KernelSteps
from chainrule.cpu.kernels import contraction, depthwise, gathering, pooling, scan, sorting, winograd
from chainrule.cpu.kernels import random_bits as random_family
from chainrule.cpu.kernels.geometry import Geometry
from chainrule.errors import InternalError
from chainrule.graph import Node
from chainrule.graph.dtypes import name_of

Operands = dict[str, Place]
"""Where operands lie, by the names that the steps of kernels use for them."""
Lowering = Callable[[HeavyTask, Target], tuple[KernelSteps, Operands]]
"""A function that returns the kernels of a task, and where their operands lie."""


def steps_of(task: HeavyTask, target: Target) -> tuple[KernelSteps, Operands]:
    """Return the kernels of a heavy operation, in order, and where its inputs and output lie.

    The caller decides where the operand "status" and temporaries lie.

    Raises:
        InternalError: there are no kernels for the primitive.
    """
    lowering = _TABLE.get(task.node.operation)
    if lowering is None:
        raise InternalError(f"no kernels for primitive {task.node.operation.name!r}, made at {task.origin}")
    return lowering(task, target)


def has_kernels(operation: object) -> bool:
    """Return whether there are kernels for a primitive."""
    return operation in _TABLE


# ---- convolution


def _geometry(node: Node, image: tuple[int, ...], output: tuple[int, ...], kernel: tuple[int, ...]) -> Geometry:
    """Return the geometry of a convolution, from the shapes (N, C, H, W) of image and output, and (KH, KW) of the kernel."""
    attributes = node.attributes
    return Geometry(
        batch=image[0],
        channels=image[1],
        filters=output[1],
        image=(image[2], image[3]),
        output=(output[2], output[3]),
        kernel=(kernel[0], kernel[1]),
        stride=attributes["stride"],
        padding=attributes["padding"],
        dilation=attributes["dilation"],
        groups=attributes["groups"],
    )


def _family(geometry: Geometry, dtype: str) -> ModuleType:
    """Return the family whose kernels compute a convolution of this geometry fastest."""
    if depthwise.suits(geometry):
        return depthwise
    return winograd if dtype == "float32" and winograd.suits(geometry) else contraction


def _convolution(task: HeavyTask, target: Target) -> tuple[KernelSteps, Operands]:
    node = task.node
    image, weight = node.inputs
    geometry = _geometry(node, image.shape, node.shape, weight.shape[2:])
    steps = _family(geometry, name_of(node.dtype)).convolution(target, name_of(node.dtype), geometry)
    return steps, {"image": task.inputs[0], "weight": task.inputs[1], "out": task.output}


def _input_gradient(task: HeavyTask, target: Target) -> tuple[KernelSteps, Operands]:
    node = task.node
    upstream, weight = node.inputs
    geometry = _geometry(node, node.shape, upstream.shape, weight.shape[2:])
    steps = _family(geometry, name_of(node.dtype)).input_gradient(target, name_of(node.dtype), geometry)
    return steps, {"upstream": task.inputs[0], "weight": task.inputs[1], "out": task.output}


def _weight_gradient(task: HeavyTask, target: Target) -> tuple[KernelSteps, Operands]:
    node = task.node
    image, upstream = node.inputs
    geometry = _geometry(node, image.shape, upstream.shape, node.shape[2:])
    steps = _family(geometry, name_of(node.dtype)).weight_gradient(target, name_of(node.dtype), geometry)
    return steps, {"image": task.inputs[0], "upstream": task.inputs[1], "out": task.output}


# ---- matrix product


def _matmul(task: HeavyTask, target: Target) -> tuple[KernelSteps, Operands]:
    """Return the kernels of a matrix product.

    A vector is a matrix with a single row or column. If the output lies transposed in memory, b^T a^T is computed in place of
    a b.
    """
    a, b = task.node.inputs
    left, right = task.inputs
    m, k = (a.shape[-2], a.shape[-1]) if a.ndim > 1 else (1, a.shape[0])
    n = b.shape[-1] if b.ndim > 1 else 1
    a_row, a_column = left.strides[-2:] if a.ndim > 1 else (0, left.strides[0])
    b_row, b_column = right.strides[-2:] if b.ndim > 1 else (right.strides[0], 0)
    batch = math.prod(a.shape[:-2]) if a.ndim > 2 else 1
    a_batch, b_batch = _batch_stride(a, left), _batch_stride(b, right)
    dtype = name_of(task.node.dtype)
    turned = task.node.ndim >= 2 and task.output.strides[-1] != 1 and task.node.shape[-1] > 1
    if turned:
        steps = contraction.matmul(target, dtype, batch, n, m, k, (b_batch, b_column, b_row), (a_batch, a_column, a_row))
        return steps, {"a": right, "b": left, "out": task.output}
    steps = contraction.matmul(target, dtype, batch, m, n, k, (a_batch, a_row, a_column), (b_batch, b_row, b_column))
    return steps, {"a": left, "b": right, "out": task.output}


def _batch_stride(x: Node, place: Place) -> int:
    """Return the elements from one matrix of ``x`` to the next; 0 if there is a single matrix.

    Axes of size 1 are skipped, as their strides mean nothing.
    """
    return next((place.strides[axis] for axis in range(x.ndim - 3, -1, -1) if x.shape[axis] > 1), 0)


# ---- pooling


def _pool(name: str, *operands: str) -> Lowering:
    """Return the lowering to the kernels that the function ``name`` of ``pooling`` makes; ``operands`` name the inputs."""
    make = getattr(pooling, name)

    def lowering(task: HeavyTask, target: Target) -> tuple[KernelSteps, Operands]:
        node, attributes = task.node, dict(task.node.attributes)
        image = node.shape if name == "sum_pool_gradient" else node.inputs[0].shape
        if name == "max_pool_route":
            output = node.inputs[1].shape
        else:
            output = node.inputs[0].shape if name == "sum_pool_gradient" else node.shape
        attributes.pop("size", None)
        steps = make(
            target, name_of(node.dtype), image[0], image[1], (image[2], image[3]), (output[2], output[3]), **attributes
        )  # fmt: skip
        return steps, {**dict(zip(operands, task.inputs, strict=True)), "out": task.output}

    return lowering


# ---- indexing, and random numbers


def _gather(task: HeavyTask, target: Target) -> tuple[KernelSteps, Operands]:
    x, indices = task.node.inputs
    axis = task.node.attributes["axis"]
    steps = gathering.gather(
        target,
        name_of(x.dtype),
        name_of(indices.dtype),
        math.prod(x.shape[:axis]),
        x.shape[axis],
        math.prod(x.shape[axis + 1 :]),
        indices.size,
    )
    return steps, {"x": task.inputs[0], "indices": task.inputs[1], "out": task.output}


def _scatter_add(task: HeavyTask, target: Target) -> tuple[KernelSteps, Operands]:
    x, indices = task.node.inputs
    axis, shape = task.node.attributes["axis"], task.node.shape
    steps = gathering.scatter_add(
        target,
        name_of(x.dtype),
        name_of(indices.dtype),
        math.prod(shape[:axis]),
        shape[axis],
        math.prod(shape[axis + 1 :]),
        indices.size,
    )
    return steps, {"x": task.inputs[0], "indices": task.inputs[1], "out": task.output}


def _extreme(largest: bool) -> Lowering:
    """Return the lowering of argmax (``largest``) or argmin."""

    def lowering(task: HeavyTask, target: Target) -> tuple[KernelSteps, Operands]:
        x = task.node.inputs[0]
        axis = task.node.attributes["axis"]
        before, after = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
        steps = gathering.extreme_place(target, name_of(x.dtype), largest, before, x.shape[axis], after)
        return steps, {"x": task.inputs[0], "out": task.output}

    return lowering


def _cumsum(task: HeavyTask, target: Target) -> tuple[KernelSteps, Operands]:
    x, axis = task.node.inputs[0], task.node.attributes["axis"]
    before, after = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    steps = scan.cumsum(target, name_of(x.dtype), task.node.attributes["reverse"], before, x.shape[axis], after)
    return steps, {"x": task.inputs[0], "out": task.output}


def _argsort(task: HeavyTask, target: Target) -> tuple[KernelSteps, Operands]:
    x, axis = task.node.inputs[0], task.node.attributes["axis"]
    before, after = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    steps = sorting.argsort(target, name_of(x.dtype), task.node.attributes["descending"], before, x.shape[axis], after)
    return steps, {"x": task.inputs[0], "out": task.output}


def _random_bits(task: HeavyTask, target: Target) -> tuple[KernelSteps, Operands]:
    steps = random_family.random_bits(target, task.node.size, task.node.attributes["bits"])
    return steps, {"state": task.inputs[0], "out": task.output}


_TABLE: dict[object, Lowering] = {
    ops.conv2d: _convolution,
    ops.conv2d_input_gradient: _input_gradient,
    ops.conv2d_weight_gradient: _weight_gradient,
    ops.matmul: _matmul,
    ops.max_pool2d: _pool("max_pool", "image"),
    ops.max_pool2d_route: _pool("max_pool_route", "image", "upstream"),
    ops.max_pool2d_pick: _pool("max_pool_pick", "image", "values"),
    ops.sum_pool2d: _pool("sum_pool", "image"),
    ops.sum_pool2d_gradient: _pool("sum_pool_gradient", "upstream"),
    ops.gather: _gather,
    ops.scatter_add: _scatter_add,
    ops.argmax: _extreme(True),
    ops.argmin: _extreme(False),
    ops.argsort: _argsort,
    ops.cumsum: _cumsum,
    ops.random_bits: _random_bits,
}
