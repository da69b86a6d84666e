"""A summary of a model, made by tracing it: output shapes, parameters, multiply-adds and receptive fields per layer.

The receptive field of a unit is the part of the input image that can change it. Through a window of reach
r = dilation (kernel - 1) + 1 and stride s, a field f with jump j (pixels of the image between neighbouring units) becomes
f + (r - 1) j with jump j s (Araujo, Norris and Sim, "Computing receptive fields of convolutional neural networks", 2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chainrule.graph import Graph, Node
from chainrule.graph.dtypes import DType
from chainrule.graph.tables import Contents, Table
from chainrule.nn.module import Module
from chainrule.ops import Custom, Primitive
from chainrule.tensor import placeholder, tracing


@dataclass(frozen=True)
class Field:
    """Receptive field along one axis: size in pixels of the input and jump between neighbouring units."""

    size: int
    jump: int


@dataclass(frozen=True)
class LayerSummary:
    """A layer without children, or a function with a gradient of its own (``cr.custom_gradient``).

    ``receptive_field`` is (height, width) in input pixels, None if the input is no image.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    receptive_field: tuple[int, int] | None


@dataclass(frozen=True, repr=False)
class Summary(Table):
    """A row per layer, in the order in which they run, and totals. Prints as a table."""

    model: str
    input_shape: tuple[int, ...]
    rows: tuple[LayerSummary, ...]
    parameters: int
    buffers: int
    multiply_adds: int

    def contents(self) -> Contents:
        """The table: a row per layer, and the totals below it."""
        header = ("layer", "kind", "output shape", "parameters>", "multiply-adds>", "receptive field>")
        least = ("receptive field", "multiply-adds", "kind", "output shape")
        rows = [
            (
                row.name,
                row.kind,
                " x ".join(map(str, row.output_shape)),
                f"{row.parameters:,}",
                f"{row.multiply_adds:,}",
                " x ".join(map(str, row.receptive_field)) if row.receptive_field else "",
            )
            for row in self.rows
        ]
        return Contents(self.model, header, rows, [self.totals], least=least)

    @property
    def totals(self) -> str:
        """The totals as a sentence: parameters, buffers, multiply-adds and the input shape."""
        buffers = f", {self.buffers:,} numbers in buffers" if self.buffers else ""
        shape = " x ".join(map(str, self.input_shape))
        return f"{self.parameters:,} parameters{buffers}, {self.multiply_adds:,} multiply-adds for an input of {shape}"


def summarise(model: Module, input_shape: tuple[int, ...], dtype: DType) -> Summary:
    """Trace ``model`` on an input of ``input_shape``, as after ``eval()``, and count; its training flags stay as they are."""
    outputs: dict[int, tuple[Module, Node]] = {}
    restore = _note_outputs(model, outputs)
    try:
        with tracing(), model.evaluating():
            image = placeholder(input_shape, dtype)
            graph = Graph(model(image).node)
    finally:
        restore()
    fields = _receptive_fields(graph, image.node)
    paths = {id(module): path for path, module in model.named_modules()}
    work = _work_by_module(graph)

    def row(name: str, kind: str, node: Node, parameters: int) -> LayerSummary:
        field = fields.get(node)
        seen = (min(field[0].size, input_shape[2]), min(field[1].size, input_shape[3])) if field else None
        return LayerSummary(name, kind, node.shape, parameters, work.get(name, 0), seen)

    customs = [node for node in graph.nodes if isinstance(node.operation, Custom)]
    rows = []
    for key, (module, node) in outputs.items():
        while customs and graph.index[customs[0]] <= graph.index.get(node, -1):
            rows.append(row(customs[0].origin.module, customs[0].origin.kind, customs.pop(0), 0))
        if not list(module.children()):
            name = paths[key] or type(module).__name__
            rows.append(row(name, type(module).__name__, node, sum(parameter.size for parameter in module.parameters())))
    return Summary(
        type(model).__name__,
        input_shape,
        tuple(rows),
        sum(parameter.size for parameter in model.parameters()),
        sum(buffer.size for buffer in model.buffers()),
        sum(map(multiply_adds, graph.nodes)),
    )


def _note_outputs(model: Module, outputs: dict[int, tuple[Module, Node]]) -> Callable[[], None]:
    """Make every module record the node it returns in ``outputs``; returns a function that undoes this."""
    modules = list(model.modules())

    def noting(module: Module, forward: Callable[..., object]) -> Callable[..., object]:
        def call(*inputs: object, **options: object) -> object:
            result = forward(*inputs, **options)
            node = getattr(result, "node", None)
            if isinstance(node, Node):
                outputs[id(module)] = (module, node)
            return result

        return call

    for module in modules:
        module.__dict__["forward"] = noting(module, module.forward)

    def restore() -> None:
        for module in modules:
            module.__dict__.pop("forward", None)

    return restore


def multiply_adds(node: Node) -> int:
    """Multiplications, each with its addition, that a node takes; only contractions count, as is usual."""
    count = node.operation.multiply_adds if isinstance(node.operation, Primitive) else None
    return 0 if count is None else int(count(*[input_node.type for input_node in node.inputs], node.type))


def _work_by_module(graph: Graph) -> dict[str, int]:
    """The multiply-adds of all nodes made in each module, by its path."""
    work: dict[str, int] = {}
    for node in graph.nodes:
        path = node.origin.module
        work[path] = work.get(path, 0) + multiply_adds(node)
    return work


@dataclass(frozen=True)
class _View:
    """What units of a node see along the height and the width of the image, and where these lie in the node.

    ``strides``: how many elements of the node, in row-major order, are between neighbours along the height, and the width;
    ``sizes``: how many neighbours there are. None once every unit sees the whole image. A reshape leaves both as they are.
    """

    height: Field
    width: Field
    strides: tuple[int, int] | None
    sizes: tuple[int, int]


def _receptive_fields(graph: Graph, image: Node) -> dict[Node, tuple[Field, Field]]:
    """The receptive field, along height and width, of each node's units; empty if the input is no image (N, C, H, W)."""
    if image.ndim != 4:
        return {}
    whole = (Field(image.shape[2], 1), Field(image.shape[3], 1))
    views = {image: _View(Field(1, 1), Field(1, 1), (image.shape[3], 1), (image.shape[2], image.shape[3]))}
    for node in graph.nodes:
        inputs = node.inputs[-1:] if isinstance(node.operation, Custom) else node.inputs  # its value sees what it sees
        below = [(place, views[input_node]) for place, input_node in enumerate(inputs) if input_node in views]
        if not below:
            continue
        height = max((view.height for _, view in below), key=lambda field: field.size)
        width = max((view.width for _, view in below), key=lambda field: field.size)
        located = [(place, view) for place, view in below if view.strides is not None]
        strides, sizes = _located(node, *located[0]) if len(located) == len(below) else (None, (1, 1))
        fields = _through_window(node, (height, width)) if strides is not None else whole
        views[node] = _View(*fields, strides, sizes)
    return {node: (view.height, view.width) for node, view in views.items()}


def _located(node: Node, place: int, view: _View) -> tuple[tuple[int, int] | None, tuple[int, int]]:
    """Strides and sizes of height and width in ``node``, given those in its input ``place``; None where it mixes all pixels."""
    assert view.strides is not None
    a, operation, before = node.attributes, node.operation, node.inputs[place].shape
    if operation.name == "reshape" or isinstance(operation, Custom):
        return view.strides, view.sizes
    axes = list(range(len(before)))  # what becomes of each axis of the input: an axis of the node, or None if it is summed over
    kept: list[int | None] = [*axes]
    if operation.name == "transpose":
        kept = [a["axes"].index(axis) for axis in axes]
    elif operation.name == "broadcast":
        kept = [axis for axis in range(node.ndim) if axis not in a["axes"]]
    elif operation.name == "matmul":
        kept[-1 if place == 0 else max(len(before) - 2, 0)] = None
    elif isinstance(operation, Primitive) and operation.reduces:
        gone = a["axes"] if "axes" in a else (a["axis"],)
        kept = [None if axis in gone else axis - sum(other < axis for other in gone) for axis in axes]
    strides, sizes = [], []
    for stride, size in zip(view.strides, view.sizes, strict=True):
        axis = next((axis for axis in axes if _holds(before, axis, stride, size)), None)
        new = None if axis is None else kept[axis]
        if axis is None or new is None:
            return None, (1, 1)
        inside = stride // math.prod(before[axis + 1 :])
        strides.append(math.prod(node.shape[new + 1 :]) * inside)
        sizes.append(size if node.shape[new] == before[axis] else node.shape[new])
    return (strides[0], strides[1]), (sizes[0], sizes[1])


def _holds(shape: tuple[int, ...], axis: int, stride: int, size: int) -> bool:
    """Whether the axis of a row-major array holds all ``size`` elements that are ``stride`` apart."""
    step = math.prod(shape[axis + 1 :])
    return step <= stride and stride * size <= step * shape[axis]


def _through_window(node: Node, field: tuple[Field, Field]) -> tuple[Field, Field]:
    """The fields behind ``node``, if it slides a window over the image; else the same fields."""
    a = node.attributes
    if node.operation.name == "conv2d":
        return _windowed(field, node.inputs[1].shape[2:], a["stride"], a["dilation"])
    if node.operation.name in ("max_pool2d", "sum_pool2d"):
        return _windowed(field, a["window"], a["stride"], a.get("dilation", (1, 1)))
    if node.operation.name == "conv2d_input_gradient":  # at most ceil(reach / stride) input units add to an output unit
        reach = [
            -(-(d * (k - 1) + 1) // s) for k, s, d in zip(node.inputs[1].shape[2:], a["stride"], a["dilation"], strict=True)
        ]
        return _windowed(field, reach, (1, 1), (1, 1))
    return field


def _windowed(
    field: tuple[Field, Field], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[Field, Field]:
    height, width = (
        Field(f.size + d * (k - 1) * f.jump, f.jump * s) for f, k, s, d in zip(field, kernel, stride, dilation, strict=True)
    )
    return height, width
