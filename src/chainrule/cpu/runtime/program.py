"""A program: a compiled graph, ready to run on this processor.

    graph ──> recipe, kept or made by the passes ──> executable: one native call per run

Every region has a fixed place: in the arena, in a cell's own memory, or, for inputs, wherever the caller's array lies. Nothing
is allocated while it runs.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chainrule.arguments import as_whole
from chainrule.compiler.report import SHOW, PassReports
from chainrule.cpu.codegen.code_cache import MissingCodeError, assembly_of
from chainrule.cpu.codegen.target import Target, host_target
from chainrule.cpu.recipe import CallRow, OutputRow, Recipe, keep_recipe, kept_recipe, leaves_in_order, recipe_name
from chainrule.cpu.runtime.executable import Call, Executable, Stage
from chainrule.cpu.runtime.limits import Limits
from chainrule.cpu.runtime.memory import aligned_memory
from chainrule.cpu.runtime.profile import ProgramProfile, profiled
from chainrule.errors import UserError
from chainrule.graph import Array, Graph, Node
from chainrule.graph.dtypes import as_dtype
from chainrule.graph.tables import Contents, Table


@dataclass(frozen=True)
class ArenaRow:
    """One value of the arena: what it is, its bytes, its offset, and the stages between which it is needed."""

    label: str
    nbytes: int
    offset: int
    first: int
    last: int


class ArenaPlan(Table, tuple[ArenaRow, ...]):
    """The values of an arena, in the order of first use. Prints as a table."""

    def contents(self) -> Contents:
        rows = [(row.label, f"{row.nbytes:,}", f"{row.offset:,}", str(row.first), str(row.last)) for row in self]
        end = max((row.offset + row.nbytes for row in self), default=0)
        total = sum(row.nbytes for row in self)
        title = f"{len(self)} values, {total:,} bytes in all, in {end:,} bytes of memory"
        return Contents(title, ("value", "bytes>", "offset>", "first stage>", "last stage>"), rows, most=60)


class Program:
    """``graph`` as native code.

    ``state`` names the cells that it assigns: the leaf of the old value and the number of the output that is the new one;
    the new value is left in the memory that was bound for the leaf. A program that is ``lent_memory`` has none of its own: the
    caller lends it an arena (``lend``), and writes the addresses of leaves and outputs where ``address_places`` says.
    """

    def __init__(
        self,
        graph: Graph,
        state: Sequence[tuple[Node, int]] = (),
        *,
        target: Target | None = None,
        max_memory: int | None = None,
        lent_memory: bool = False,
        alone_under: float = 0.0,
        show: str | None = None,
    ) -> None:
        self._alone_under, self._lent = alone_under, lent_memory
        self.target = target or host_target()

        self._bound: dict[int, Array] = {}
        self._recipe = self._built(graph, state, max_memory, lent_memory, show)
        self.lend(aligned_memory(self.arena_bytes if not lent_memory else 0))
        self._bind_constants()

    def _built(
        self,
        graph: Graph,
        state: Sequence[tuple[Node, int]],
        max_memory: int | None,
        lent_memory: bool,
        show: str | None,
    ) -> Recipe:
        """From the recipe that was kept, or else from one made now, as where somebody wants to see the passes at work."""
        leaves = leaves_in_order(graph, state)
        name = recipe_name(graph, state, self.target, lent_memory)
        shown: list[str] = []
        if not lent_memory and (show is not None or os.environ.get(SHOW)):
            from chainrule.compiler.pipeline import passes_to_show
            from chainrule.cpu.planner import ALL_PASSES

            shown = passes_to_show(show, ALL_PASSES)
        kept = None if shown else kept_recipe(name)
        if kept is not None:
            with contextlib.suppress(MissingCodeError):
                self._build(kept, leaves, max_memory)
                return kept
        from chainrule.cpu.planner import make_recipe  # the passes, and all families of kernels

        made = make_recipe(graph, state, self.target, lent_memory, shown)
        self._build(made, leaves, max_memory)
        keep_recipe(name, made)
        return made

    @property
    def passes(self) -> PassReports:
        """What each pass changed; the times are 0 where a recipe was kept."""
        return PassReports(self._recipe.passes)

    # ---- memory

    def plan(self) -> ArenaPlan:
        """The arena, value by value, in the order of first use."""
        return ArenaPlan(_arena_rows(self._recipe))

    def __repr__(self) -> str:
        kernels = sum(len(stage.calls) for stage in self.stages)
        return (
            f"<Program of {kernels} kernels in {len(self.stages)} stages for {self.target.name}, "
            f"{self.arena_bytes:,} bytes of values in between>"
        )

    @property
    def arena_bytes(self) -> int:
        return self._recipe.arena_bytes

    # ---- native code

    def _build(self, recipe: Recipe, leaves: Sequence[Node], max_memory: int | None) -> None:
        if max_memory is not None and recipe.arena_bytes > max_memory:
            raise _too_large(recipe, max_memory)
        slots: dict[tuple[int, int], int] = {}
        self.stages = []
        for stage in recipe.stages:
            calls = [
                Call(call.kernel, tuple([slots.setdefault(operand, len(slots)) for operand in call.operands])) for call in stage
            ]
            self.stages.append(Stage(tuple(calls)))
        self._origins = [call.origin for stage in recipe.stages for call in stage]
        self._slots_of: dict[int, list[tuple[int, int]]] = {}
        for (region, offset), slot in slots.items():
            self._slots_of.setdefault(region, []).append((slot, offset))
        self._places: dict[int, list[tuple[int, int]]] = {}
        self._leaves = {leaf: row.region for leaf, row in zip(leaves, recipe.inputs, strict=True) if row.region >= 0}
        self._executable = Executable(self.stages, len(slots), self.target, self._alone_under)
        self._table = memoryview(self._executable.addresses)  # type: ignore[arg-type]
        self._status_now = np.zeros(4, np.int64)
        self._bind(recipe.status, self._status_now)

    def lend(self, memory: Array) -> None:
        """From now on the arena is ``memory``: bytes, at least ``arena_bytes`` of them, from the beginning of a page."""
        self._memory = None if self._lent else memory  # what is lent, the lender keeps
        base = memory.ctypes.data
        for number, region in enumerate(self._recipe.regions):
            if region.offset >= 0:
                self._bind_address(number, base + region.offset)

    def _bind_address(self, region: int, address: int) -> None:
        table = self._table
        for place, offset in self._places_of(region):
            table[place] = address + offset

    def _bind(self, region: int, array: Array) -> None:
        self._bind_address(region, array.__array_interface__["data"][0])

    def _places_of(self, region: int) -> list[tuple[int, int]]:
        """Where in ``addresses`` the address of a region stands, and how many bytes to add to it."""
        found = self._places.get(region)
        if found is None:
            slots, places = self._slots_of.get(region, ()), self._executable.places
            found = self._places[region] = [(place, offset) for slot, offset in slots for place in places(slot)]
        return found

    def _bind_constants(self) -> None:
        values = dict(self._recipe.constants)
        for node, region in self._leaves.items():
            if node.value is not None:  # a constant, or a leaf from outside of a traced function
                values[region] = node.value
        self._constants = {region: np.ascontiguousarray(value) for region, value in values.items()}
        for region, value in self._constants.items():
            self._bind(region, value)

    def needs(self, leaf: Node) -> bool:
        """Whether the program reads or writes the memory of a leaf at all."""
        return leaf in self._leaves

    def bind(self, leaf: Node, array: Array) -> None:
        """From now on the value of ``leaf`` is in the memory of ``array``, row-major, which the caller keeps alive."""
        region = self._leaves[leaf]
        self._bound[region] = array
        self._bind(region, array)

    def address_places(self, where: Node | int) -> list[tuple[int, int]]:
        """For a leaf, or the output of a number: where in ``addresses`` its address stands, and how many bytes to add to it."""
        region = self._leaves[where] if isinstance(where, Node) else self._recipe.outputs[where].region
        return self._places_of(region)

    @property
    def may_refuse(self) -> bool:
        """Whether a run may end with a UserError, which comes when all has run: an index may be outside its axis."""
        return bool(self._slots_of.get(self._recipe.status))

    @property
    def addresses(self) -> memoryview:
        """Of all operands of all kernels. Writing here is the quickest way to bind; the caller keeps the memory alive."""
        return self._table

    def output_place(self, number: int) -> tuple[OutputRow, int]:
        """Where output ``number`` lies in its region, and how many bytes that has."""
        view = self._recipe.outputs[number]
        return view, self._recipe.regions[view.region].nbytes

    def assembly(self, kernel: int | str) -> str:
        """The code of a kernel in this processor's assembly language.

        ``kernel``: its number in the order of running, or a part of its name, family or origin, such as "matmul" or
        "train.py:12". A UserError names those that there are.
        """
        calls = [call for stage in self._recipe.stages for call in stage]
        names = [f"{number} {call.kernel.name} at {call.origin}" for number, call in enumerate(calls)]
        if isinstance(kernel, str):
            found = [call for call, name in zip(calls, names, strict=True) if kernel in name]
        else:
            found = [calls[kernel]] if as_whole(kernel) is not None and -len(calls) <= kernel < len(calls) else []
        if not found:
            raise UserError(f"assembly: no kernel is {kernel!r}: give a number or a part of one of these\n" + "\n".join(names))
        if found[0].kernel.generate is None:
            raise UserError(
                "assembly: this program was kept by an earlier process, without what its code was made from: set the "
                f"environment variable CHAINRULE_CACHE to nothing, or {SHOW}=memory, and run again"
            )
        return assembly_of(found[0].kernel, self.target)

    def run(self) -> None:
        """Run once. Outputs stay as they are until the next run."""
        self._executable.run()
        if self._status_now[0]:
            position, index = int(self._status_now[0]) - 1, int(self._status_now[1])
            self._status_now[:] = 0
            raise UserError(f"gather: index {index} at position {position} is outside its axis")

    def profile(self, runs: int = 5, limits: Limits | None = None) -> ProgramProfile:
        """Run so often for real, and tell where the time went, against the machine's limits (measured, if not given).

        Cells have their values back afterwards."""
        kept = [(array, array.copy()) for array in self._bound.values() if array.flags.writeable]
        try:
            dtypes = [_arithmetic(call, self._recipe) for stage in self._recipe.stages for call in stage]
            return profiled(self._executable, self._origins, dtypes, list(self._bound.values()), runs, limits)
        finally:
            for array, values in kept:
                np.copyto(array, values)

    def output(self, number: int) -> Array:
        """Output ``number`` as a view of the program's memory: read or copy it before the next run."""
        view = self._recipe.outputs[number]
        region = self._recipe.regions[view.region]
        dtype = as_dtype(region.dtype)
        memory: Array | None
        if view.region in self._bound:  # the new value of a cell, in the cell's own memory
            memory, begin = self._bound[view.region].reshape(-1), 0
        else:
            memory, begin = self._memory, region.offset
            assert memory is not None, "what is lent memory leaves its outputs with the lender"
        strides = [stride * dtype.itemsize for stride in view.strides]
        return np.ndarray(view.shape, dtype, memory, begin + view.start * dtype.itemsize, strides)


def _arithmetic(call: CallRow, recipe: Recipe) -> str:
    """The dtype of the multiply-adds of a call: float64 where an operand is."""
    return "float64" if any(recipe.regions[region].dtype == "float64" for region, _ in call.operands) else "float32"


def _arena_rows(recipe: Recipe) -> list[ArenaRow]:
    rows = [ArenaRow(one.label, one.nbytes, one.offset, one.first, one.last) for one in recipe.regions if one.offset >= 0]
    return sorted(rows, key=lambda row: (row.first, row.offset))


def _too_large(recipe: Recipe, limit: int) -> UserError:
    rows = sorted(_arena_rows(recipe), key=lambda one: -one.nbytes)[:10]
    table = "\n".join(f"  {row.nbytes:>14,}  {row.label}" for row in rows)
    return UserError(
        f"compile: the program needs {recipe.arena_bytes:,} bytes, max_memory allows {limit:,}: use a smaller batch. "
        f"Its largest values, in bytes:\n{table}"
    )
