"""Transforms the weight: for each filter and channel the window g of 3 x 3 taps becomes G g G^T, packed for the products.

The result lies as (panel of columns, frequency, k, column of the panel). For the convolution, k counts channels and columns are
filters. For the gradient of the image, k counts filters, columns are channels, and the taps are flipped.
"""

from __future__ import annotations

from dataclasses import dataclass

from chainrule.cpu.codegen.emit import Module, Value, emitted_once, vector
from chainrule.cpu.codegen.target import Target
from chainrule.cpu.kernel import LLVM_TYPES, Kernel
from chainrule.cpu.kernels.contraction.turn import turned
from chainrule.cpu.kernels.winograd.tiling import LINE_BYTES, itemsize, padded
from chainrule.cpu.kernels.winograd.transforms import G, transform

VECTORS = 2
"""The vectors of a panel."""
_TAPS = 9
_BLOCK_BYTES = 12 * 1024
"""The size of the block of taps that is transposed at a time, so that it stays in the L1 cache."""


@dataclass(frozen=True)
class WeightLayout:
    """The layout of a transformed weight.

    Attributes:
        depth: the number of k.
        columns: the number of columns; those that pad the last panel hold meaningless numbers.
        width: the columns of a panel.
        side: the side of the output tiles that it is transformed for.
        is_forward: whether it is for the convolution, else for the gradient of the image.
    """

    depth: int
    columns: int
    width: int
    side: int
    is_forward: bool

    @property
    def panels(self) -> int:
        """The number of panels."""
        return -(-self.columns // self.width)

    @property
    def frequencies(self) -> int:
        """The number of elements of a transformed window."""
        return (self.side + 2) ** 2

    @property
    def plane(self) -> int:
        """Elements of a frequency of a panel: an odd number of rows, so that frequencies fall into different cache sets."""
        return (self.depth | 1) * self.width

    @property
    def panel_elements(self) -> int:
        """The elements of a panel."""
        return self.frequencies * self.plane

    @property
    def elements(self) -> int:
        """The elements of all panels."""
        return self.panels * self.panel_elements

    def block(self, dtype: str) -> int:
        """Return the number of k that are transformed at a time."""
        return min(self.depth, max(1, _BLOCK_BYTES // (_TAPS * self.width * itemsize(dtype))))

    def taps_bytes(self, dtype: str) -> int:
        """Return the bytes of scratch memory for the transposed taps of a block."""
        return padded(self.block(dtype) * _TAPS * self.width * itemsize(dtype), LINE_BYTES)

    @property
    def column_stride(self) -> int:
        """Elements of the weight, before the transform, from one column to the next."""
        return self.depth * _TAPS if self.is_forward else _TAPS

    @property
    def depth_stride(self) -> int:
        """Elements of the weight, before the transform, from one k to the next."""
        return _TAPS if self.is_forward else self.columns * _TAPS


def weight_transform(layout: WeightLayout, dtype: str) -> Kernel:
    """Return the kernel that transforms the weight.

    Its operands are the weight (O, C, 3, 3) and the transformed weight. A unit is a block of k of a panel.
    """
    size = itemsize(dtype)
    return Kernel(
        "winograd_weight",
        f"{dtype} {layout}",
        lambda target, name: _generate(layout, dtype, target, name),
        layout.panels * -(-layout.depth // layout.block(dtype)),
        scratch_bytes=layout.taps_bytes(dtype),
        bytes=size * (layout.depth * layout.columns * _TAPS + layout.elements),
    )


def _generate(layout: WeightLayout, dtype: str, target: Target, name: str) -> Module:
    module, element = Module(target.vector_bits, target.has_fma), LLVM_TYPES[dtype]
    f = module.function(name, [("ptr", "args"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")])
    emit_weight_block(module, element, layout)
    weight, result = (f.load(f.at(f["args"], i, "ptr"), "ptr") for i in range(2))
    block = layout.block(dtype)
    blocks = -(-layout.depth // block)
    with f.loop(f["begin"], f["end"]) as unit:
        panel, first = unit // blocks, f.index(f.index(unit % blocks) * block)
        count = f.index(f.least(layout.depth - first, block))
        place = f.at(result, f.index(panel * layout.panel_elements), element)
        f.call("weight_block", "void", weight, place, f["scratch"], panel, first, count)
    return module


@emitted_once
def emit_weight_block(module: Module, element: str, layout: WeightLayout) -> None:
    """Define weight_block(weight, result, taps, panel, first, count), which transforms ``count`` k from ``first`` on of a
    panel.

    ``result`` is the address of the transformed panel, ``taps`` scratch memory (see ``WeightLayout.taps_bytes``). Loop order:
    transpose the taps, so that columns are contiguous in ``taps``; then k, vectors of columns.
    """
    parameters = [("ptr noalias readonly", "weight"), ("ptr noalias", "result"), ("ptr noalias", "taps")]
    f = module.function(
        "weight_block", [*parameters, ("i64", "panel"), ("i64", "first"), ("i64", "count")], internal=True, inline=False
    )  # fmt: skip
    _emit_turn(module, element, layout)
    _emit_transform(module, element, layout)
    first_column = f.index(f["panel"] * layout.width)
    last = f.index(f.least(layout.columns - first_column, layout.width)) - 1
    source = f.at(f["weight"], f.index(first_column * layout.column_stride), element)
    source = f.at(source, f["first"] * layout.depth_stride, element)
    if layout.is_forward:
        f.call("turn", "void", source, f["taps"], f.index(f["count"] * _TAPS), last)
    else:
        with f.loop(0, f["count"]) as k:
            row = f.at(source, f.index(k * layout.depth_stride), element)
            f.call("turn", "void", row, f.at(f["taps"], k * (_TAPS * layout.width), element), f.index(_TAPS), last)
    f.call("transform", "void", f["taps"], f.at(f["result"], f["first"] * layout.width, element), f["count"])


def _emit_turn(module: Module, element: str, layout: WeightLayout) -> None:
    """Define turn(source, taps, count, last), which transposes: taps[i, column] = source[column, i] for i from 0 to ``count``.

    Column ``last`` is repeated to pad the panel. If ``count`` is no multiple of the square blocks that are transposed, the last
    block overlaps the one before.
    """
    parameters = [("ptr noalias readonly", "source"), ("ptr noalias", "taps"), ("i64", "count"), ("i64", "last")]
    f = module.function("turn", parameters, internal=True, inline=False)
    size = 16 // (4 if element == "float" else 8)
    type_ = vector(size, element)
    with f.loop(0, layout.width, size) as column:
        columns = [f.index(f.least(column + c, f["last"])) for c in range(size)]
        sources = [f.at(f["source"], one * layout.column_stride, element) for one in columns]
        place = f.at(f["taps"], column, element)
        with f.loop(0, f["count"], size) as start:
            first = f.index(f.least(start, f["count"] - size))
            lines = [f.load(f.at(one, first, element), type_) for one in sources]
            for i, line in enumerate(turned(f, lines)):
                f.store(line, f.at(f.at(place, first * layout.width, element), i * layout.width, element))


def _emit_transform(module: Module, element: str, layout: WeightLayout) -> None:
    """Define transform(taps, result, count), which computes G g G^T for ``count`` k."""
    parameters = [("ptr noalias readonly", "taps"), ("ptr noalias", "result"), ("i64", "count")]
    f = module.function("transform", parameters, internal=True, inline=False)
    matrix, span, lanes = G[layout.side], layout.side + 2, layout.width // VECTORS
    type_ = vector(lanes, element)
    with f.loop(0, f["count"]) as k, f.loop(0, layout.width, lanes) as column:
        source = f.at(f.at(f["taps"], f.index(k * (_TAPS * layout.width)), element), column, element)
        place = f.at(f.at(f["result"], k * layout.width, element), column, element)

        def tap(row: int, column: int, source: Value = source) -> Value:
            number = row * 3 + column
            number = number if layout.is_forward else _TAPS - 1 - number
            return f.load(f.at(source, number * layout.width, element), type_)

        columns = [transform(f, matrix, [tap(i, j) for i in range(3)]) for j in range(3)]
        for i in range(span):
            for j, value in enumerate(transform(f, matrix, [one[i] for one in columns])):
                f.store(value, f.at(place, (i * span + j) * layout.plane, element))
