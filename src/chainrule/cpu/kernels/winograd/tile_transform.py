"""The transform of tiles of images: for each tile d the numbers M d M^T, for all tiles of some rows of tiles.

Two passes over channels in chunks: a vertical one from the image's rows to a *strip* that has a border of zeros on the left
and right, and a horizontal one from the strip to planes, one for each frequency. Where tiles overlap, the vertical pass does
their pixels once. The strip stays in the L1 cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from chainrule.cpu.codegen.emit import Function, Module, Value, vector
from chainrule.cpu.codegen.target import Target
from chainrule.cpu.kernel import LLVM_TYPES
from chainrule.cpu.kernels.geometry import Pair
from chainrule.cpu.kernels.winograd.tiling import LINE_BYTES, Tiling, itemsize, padded, plane_elements
from chainrule.cpu.kernels.winograd.transforms import Matrix, transform

_STRIP_BYTES = 18 * 1024


@dataclass(frozen=True)
class TileTransform:
    """Tiles of ``images`` (N, *size, pixel), as many as ``tiling`` says, of which tile (0, 0) begins at pixel -border.

    ``matrix`` takes the pixels that a tile sees along an axis to frequencies. Planes are (tile, channel) with ``pitch``
    elements per tile and have room for ``tiles`` tiles and ``channels`` of the ``pixel`` channels. ``single``: of the vertical
    frequencies only one is wanted, which the caller names.
    """

    name: str
    tiling: Tiling
    matrix: Matrix
    size: Pair
    border: Pair
    pixel: int
    channels: int
    tiles: int
    target: Target
    dtype: str
    single: bool = False

    @property
    def element(self) -> str:
        return LLVM_TYPES[self.dtype]

    @property
    def lanes(self) -> int:
        return self.target.lanes(itemsize(self.dtype))

    @property
    def frequencies(self) -> int:
        """Along one axis."""
        return len(self.matrix)

    @property
    def seen(self) -> int:
        """Pixels that a tile sees along one axis."""
        return len(self.matrix[0])

    @property
    def pitch(self) -> int:
        return plane_elements(padded(self.channels, self.lanes), self.dtype)

    @property
    def plane(self) -> int:
        return plane_elements(self.tiles * self.pitch, self.dtype)

    @property
    def vertical_frequencies(self) -> int:
        return 1 if self.single else self.frequencies

    @property
    def nbytes(self) -> int:
        """Of all planes, (vertical frequency, horizontal frequency)."""
        return self.vertical_frequencies * self.frequencies * self.plane * itemsize(self.dtype)

    # ---- scratch of its own: the strip (vertical frequency, pixel, channel of the chunk), then a row of zeros

    @cached_property
    def strip_width(self) -> int:
        return self.tiling.side * (self.tiling.columns - 1) + self.seen

    @cached_property
    def chunk(self) -> int:
        """Channels at a time: whole cache lines."""
        line = LINE_BYTES // itemsize(self.dtype)
        line_bytes = self.vertical_frequencies * self.strip_width * LINE_BYTES
        return min(padded(self.channels, line), max(1, _STRIP_BYTES // line_bytes) * line)

    @property
    def strip_plane(self) -> int:
        return plane_elements(self.strip_width * self.chunk, self.dtype)

    @property
    def strip_bytes(self) -> int:
        return self.vertical_frequencies * self.strip_plane * itemsize(self.dtype)

    @property
    def scratch_bytes(self) -> int:
        return self.strip_bytes + padded(self.size[1] * self.pixel * itemsize(self.dtype), LINE_BYTES)

    # ---- code

    def emit_clear(self, f: Function, scratch: Value) -> None:
        """Before the first transform of a thread: the border of the strip and the row of zeros."""
        f.call(
            "llvm.memset.p0.i64", "void", scratch, f.number(0, "i8"), f.index(self.scratch_bytes), f.number(0, "i1")
        )  # fmt: skip

    def emit(self, module: Module) -> None:
        """The function transform_NAME(images, planes, strip, zeros, begin, end, count, frequency).

        Rows of tiles ``begin`` to ``end``, ``count`` channels from that at ``images`` on; one vertical frequency, if single.
        """
        rows = _emit_vertical(module, self)
        _emit_horizontal(module, self)
        tiling, size, element = self.tiling, self.size, self.element
        parameters = [("ptr noalias readonly", "images"), ("ptr noalias", "planes"), ("ptr noalias", "strip")]
        parameters += [("ptr noalias readonly", "zeros"), ("i64", "begin"), ("i64", "end"), ("i64", "count")]
        f = module.function(f"transform_{self.name}", [*parameters, ("i64", "frequency")], internal=True, inline=False)
        table = f.variable(f"[{rows} x ptr]").place
        with f.loop(f["begin"], f["end"]) as row:
            image, line = row // tiling.rows, f.index(f.index(row % tiling.rows) * tiling.side)
            place = f.at(f["planes"], f.index((row - f["begin"]) * (tiling.columns * self.pitch)), element)
            for i in range(rows):
                offset: int | Value = i
                if self.single:
                    taps = f.at(Value(f, f"@{self.name}_taps", "ptr"), f.index(f["frequency"] * rows), "i64")
                    offset = f.load(f.at(taps, i, "i64"), "i64")
                y = line + offset - self.border[0]
                source_row = f.index(image * size[0]) + y
                source = f.at(f["images"], f.index(source_row * (size[1] * self.pixel)), element)
                source = f.select(f.compare("ult", y, size[0]), source, f["zeros"])
                f.store(source, f.at(table, i, "ptr"))
            with f.loop(0, f["count"], self.chunk) as channel:
                left = f.index(f.least(f["count"] - channel, self.chunk))
                f.call(f"vertical_{self.name}", "void", table, f["strip"], channel, left, f["frequency"])
                f.call(f"horizontal_{self.name}", "void", f["strip"], f.at(place, channel, element), left)

    def call(
        self,
        f: Function,
        images: Value,
        planes: Value,
        scratch: Value,
        rows: tuple[Value, Value],
        count: int | Value,
        frequency: int | Value = 0,
    ) -> None:
        """``scratch`` has ``scratch_bytes``, ``planes`` has ``nbytes``."""
        zeros = f.at(scratch, self.strip_bytes, "i8")
        f.call(
            f"transform_{self.name}", "void", images, planes, scratch, zeros, *rows, f.index(count), f.index(frequency)
        )  # fmt: skip


def _emit_vertical(module: Module, one: TileTransform) -> int:
    """The function vertical_NAME(rows, strip, first, count, frequency): M d for each column of pixels that tiles see.

    ``rows`` is a table of addresses of rows of pixels, of which ``count`` channels from ``first`` on are read. Returns how many
    rows that are: of a single frequency only those that it does not multiply by zero.
    """
    parameters = [("ptr noalias readonly", "rows"), ("ptr noalias", "strip"), ("i64", "first"), ("i64", "count")]
    f = module.function(f"vertical_{one.name}", [*parameters, ("i64", "frequency")], internal=True, inline=False)
    element, type_ = one.element, vector(one.lanes, one.element)
    rows, factors = one.seen, []
    if one.single:
        rows = _emit_taps(module, one)
        table = f.at(Value(f, f"@{one.name}_factors", "ptr"), f.index(f["frequency"] * rows), element)
        factors = [f.broadcast(f.at(table, i, element), type_) for i in range(rows)]
    sources = [f.at(f.load(f.at(f["rows"], i, "ptr"), "ptr"), f["first"], element) for i in range(rows)]

    def step(x: Value, channel: Value, mask: Value | None) -> None:
        place = f.index(x * one.pixel) + channel
        addresses = [f.at(source, place, element) for source in sources]
        values = [f.masked_load(p, mask, type_) if mask else f.load(p, type_) for p in addresses]
        start = f.at(f["strip"], f.index((x + one.border[1]) * one.chunk) + channel, element)
        for i, value in enumerate(_weighted(f, factors, values) if one.single else transform(f, one.matrix, values)):
            f.store(value, f.at(start, i * one.strip_plane, element))

    whole = f["count"] - f.index(f["count"] % one.lanes)
    mask = f.lane_mask(f["count"] - whole, one.lanes)
    with f.loop(0, min(one.size[1], one.strip_width - one.border[1])) as x:
        with f.loop(0, whole, one.lanes) as channel:
            step(x, channel, None)
        if one.pixel % one.lanes or one.channels % one.lanes:
            with f.when(f.compare("slt", whole, f["count"])):
                step(x, whole, mask)
    return rows


def _emit_taps(module: Module, one: TileTransform) -> int:
    """Tables of the rows and factors of each vertical frequency, all of the same length; returns it."""
    taps = [[(i, factor) for i, factor in enumerate(row) if factor] for row in one.matrix]
    length = max(len(row) for row in taps)
    filled = [row + [(row[0][0], Fraction(0))] * (length - len(row)) for row in taps]
    module.constant(f"{one.name}_taps", "i64", [i for row in filled for i, _ in row])
    module.constant(f"{one.name}_factors", one.element, [float(factor) for row in filled for _, factor in row])
    return length


def _weighted(f: Function, factors: Sequence[Value], values: Sequence[Value]) -> list[Value]:
    total = f.op(f"fmul {values[0].type} {factors[0].text}, {values[0].text}", values[0].type)
    for factor, value in zip(factors[1:], values[1:], strict=True):
        total = f.multiply_add(factor, value, total)
    return [total]


def _emit_horizontal(module: Module, one: TileTransform) -> None:
    """The function horizontal_NAME(strip, planes, count): (M d) M^T of one row of tiles, whole vectors of channels."""
    parameters = [("ptr noalias readonly", "strip"), ("ptr noalias", "planes"), ("i64", "count")]
    f = module.function(f"horizontal_{one.name}", parameters, internal=True, inline=False)
    element, type_, step = one.element, vector(one.lanes, one.element), one.tiling.side * one.chunk
    with f.loop(0, one.vertical_frequencies) as i, f.loop(0, one.tiling.columns) as tile:
        source = f.at(f["strip"], f.index(i * one.strip_plane) + f.index(tile * step), element)
        place = f.at(f["planes"], f.index(i * (one.frequencies * one.plane)) + f.index(tile * one.pitch), element)
        with f.loop(0, f["count"], one.lanes) as channel:
            start, target = f.at(source, channel, element), f.at(place, channel, element)
            values = [f.load(f.at(start, j * one.chunk, element), type_) for j in range(one.seen)]
            for j, value in enumerate(transform(f, one.matrix, values)):
                f.store(value, f.at(target, j * one.plane, element))


def image_transform(
    tiling: Tiling, target: Target, dtype: str, tiles: int, matrix: Matrix, single: bool = False
) -> TileTransform:
    """Of what the tiling's window sees, with all channels."""
    one = tiling
    return TileTransform(
        "image", one, matrix, one.source, one.border, one.channels, one.channels, tiles, target, dtype, single
    )  # fmt: skip
