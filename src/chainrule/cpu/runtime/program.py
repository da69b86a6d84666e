"""A program: a compiled graph, ready to run on this processor.

    graph ──> recipe, read from disk or made by the passes ──> executable: one native call per run

Every region has a fixed place: in the arena, in a cell's own memory, or, for inputs, in the caller's array. Nothing is
allocated while the program runs.
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
    """A value in the arena: what it is, its size and its offset in bytes, and the first and last stage that need it."""

    label: str
    nbytes: int
    offset: int
    first: int
    last: int


class ArenaPlan(Table, tuple[ArenaRow, ...]):
    """The values of an arena, in the order of first use. Prints as a table."""

    def contents(self) -> Contents:
        """Return the table: a row for each value, under a title with the sum of their bytes and the size of the arena."""
        rows = [(row.label, f"{row.nbytes:,}", f"{row.offset:,}", str(row.first), str(row.last)) for row in self]
        end = max((row.offset + row.nbytes for row in self), default=0)
        total = sum(row.nbytes for row in self)
        title = f"{len(self)} values, {total:,} bytes in all, in {end:,} bytes of memory"
        return Contents(title, ("value", "bytes>", "offset>", "first stage>", "last stage>"), rows, most=60)


class Program:
    """A graph as native code.

    Args:
        graph: the graph to compile.
        state: for each cell that the program assigns, the leaf of its old value and the number of the output that is the new
            value. The new value is written to the memory that is bound for the leaf.
        target: the processor to compile for; by default the one that this runs on.
        max_memory: the largest arena in bytes that the program may need; None for no limit.
        lent_memory: the program has no memory of its own: the caller lends it an arena (``lend``), and writes the addresses of
            leaves and outputs where ``address_places`` says.
        alone_under: if it takes less than this time, in seconds, the program runs on the caller's thread alone.
        show: names of passes whose results are printed, such as "fuse,lower" or "all"; None for those that the environment
            variable ``CHAINRULE_SHOW`` names.

    Raises:
        UserError: the program needs more than ``max_memory``, or ``show`` names a pass that does not exist.
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
        """Build the program from the recipe on disk if there is one, else from a new recipe; returns that recipe.

        If passes are to be shown, they have to run, so the recipe is made anew.
        """
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
        from chainrule.cpu.planner import make_recipe  # imports all passes and families of kernels, so only if needed

        made = make_recipe(graph, state, self.target, lent_memory, shown)
        self._build(made, leaves, max_memory)
        keep_recipe(name, made)
        return made

    @property
    def passes(self) -> PassReports:
        """What each pass changed, and the time that it took: 0 if the recipe was read from disk."""
        return PassReports(self._recipe.passes)

    # ---- memory

    def plan(self) -> ArenaPlan:
        """Return the values of the arena with their places there, in the order of first use."""
        return ArenaPlan(_arena_rows(self._recipe))

    def __repr__(self) -> str:
        kernels = sum(len(stage.calls) for stage in self.stages)
        return (
            f"<Program of {kernels} kernels in {len(self.stages)} stages for {self.target.name}, "
            f"{self.arena_bytes:,} bytes of values in between>"
        )

    @property
    def arena_bytes(self) -> int:
        """The size of the arena, which holds all values that are neither inputs nor cells nor constants."""
        return self._recipe.arena_bytes

    # ---- native code

    def _build(self, recipe: Recipe, leaves: Sequence[Node], max_memory: int | None) -> None:
        """Link the kernels of ``recipe``; raises MissingCodeError if it came from disk and the code cache lacks one of them."""
        if max_memory is not None and recipe.arena_bytes > max_memory:
            raise _too_large(recipe, max_memory)
        slots: dict[tuple[int, int], int] = {}
        self.stages = []
        for stage in recipe.stages:
            calls = [
                Call(call.kernel, tuple([slots.setdefault(operand, len(slots)) for operand in call.operands]), call.detail)
                for call in stage
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
        """Use ``memory`` as the arena from now on: at least ``arena_bytes`` bytes, from a multiple of ``memory.SAME_PLACE``.

        A program with ``lent_memory`` does not keep it alive; that is left to the lender.
        """
        self._memory = None if self._lent else memory  # lent memory is kept alive by the lender
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
        """Return where in ``addresses`` the address of a region stands, each with the bytes to add to it there."""
        found = self._places.get(region)
        if found is None:
            slots, places = self._slots_of.get(region, ()), self._executable.places
            found = self._places[region] = [(place, offset) for slot, offset in slots for place in places(slot)]
        return found

    def _bind_constants(self) -> None:
        values = dict(self._recipe.constants)
        for node, region in self._leaves.items():
            if node.value is not None:  # a constant, or a value that a traced function found outside of it
                values[region] = node.value
        self._constants = {region: np.ascontiguousarray(value) for region, value in values.items()}
        for region, value in self._constants.items():
            self._bind(region, value)

    def needs(self, leaf: Node) -> bool:
        """Return whether the program reads or writes the memory of ``leaf`` at all."""
        return leaf in self._leaves

    def bind(self, leaf: Node, array: Array) -> None:
        """Use the memory of ``array``, which lies in row-major order, for the value of ``leaf`` from now on.

        If ``leaf`` is the old value of a cell, runs write the new value there.
        """
        region = self._leaves[leaf]
        self._bound[region] = array
        self._bind(region, array)

    def address_places(self, where: Node | int) -> list[tuple[int, int]]:
        """Return where in ``addresses`` the address of a leaf, or of the output with a number, has to be written.

        The result has pairs (index, bytes): the address plus so many bytes goes to that index.
        """
        region = self._leaves[where] if isinstance(where, Node) else self._recipe.outputs[where].region
        return self._places_of(region)

    @property
    def may_refuse(self) -> bool:
        """Whether a run may end with a UserError, as the program reads at indices that may be outside of their axis.

        The error is raised after all kernels have run.
        """
        return bool(self._slots_of.get(self._recipe.status))

    @property
    def addresses(self) -> memoryview:
        """The addresses of all operands of all kernels, int64.

        Writing here is the fastest way to bind; the caller keeps the memory at those addresses alive.
        """
        return self._table

    def output_place(self, number: int) -> tuple[OutputRow, int]:
        """Return where output ``number`` lies in its region, and the size of the region in bytes."""
        view = self._recipe.outputs[number]
        return view, self._recipe.regions[view.region].nbytes

    def assembly(self, kernel: int | str) -> str:
        """Return the code of a kernel in this processor's assembly language.

        ``kernel`` is its number in the order of the program, or a part of its name, family or origin, such as "matmul" or
        "train.py:12"; the first kernel that fits is taken.

        Raises:
            UserError: there is no such kernel (the message lists all kernels), or the program was read from disk, without the
                generators of its code.
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

    def observe(self, detail: int) -> None:
        """Let runs from now on compute the observed values up to ``detail``; 0, at first, for none of them."""
        self._executable.observe(detail)

    def run(self) -> None:
        """Run once. Outputs stay as they are until the next run.

        Raises:
            UserError: an index was outside of its axis.
        """
        self._executable.run()
        if self._status_now[0]:
            position, index = int(self._status_now[0]) - 1, int(self._status_now[1])
            self._status_now[:] = 0
            raise UserError(f"gather: index {index} at position {position} is outside its axis")

    def profile(self, runs: int = 5, limits: Limits | None = None) -> ProgramProfile:
        """Run the program ``runs`` times, and compare the times of its kernels with the limits of the machine.

        The runs are real; afterwards cells get their old values back. ``limits`` are measured if not given.

        Raises:
            UserError: ``runs`` is less than 1.
        """
        kept = [(array, array.copy()) for array in self._bound.values() if array.flags.writeable]
        try:
            dtypes = [_arithmetic(call, self._recipe) for stage in self._recipe.stages for call in stage]
            return profiled(self._executable, self._origins, dtypes, list(self._bound.values()), runs, limits)
        finally:
            for array, values in kept:
                np.copyto(array, values)

    def output(self, number: int) -> Array:
        """Return output ``number`` as a view of the program's memory: read or copy it before the next run.

        Observed values come after the outputs. Those that cannot be computed are nan.
        """
        view = self._recipe.outputs[number]
        if view.region < 0:
            return np.full(view.shape, np.nan, as_dtype(view.dtype))
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
    """Return the dtype of the multiply-adds of a call: float64 if any operand is, else float32."""
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
