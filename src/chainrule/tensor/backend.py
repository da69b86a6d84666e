"""The interface between tensors and native code: everything that tensors need from a backend, as a protocol.

    tensor/ ──> backend() ──> Backend: compile a graph, run one operation, lend memory, threads
                                 └── chainrule.cpu.interface, the only one so far

A second backend (a library in C, or WebAssembly, made from the same recipe) is another module with these functions, chosen by
the function ``backend``. No other file of ``tensor`` imports ``cpu``.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from chainrule.arguments import explained
from chainrule.graph import Array, Graph, Node, TensorType
from chainrule.ops import Primitive

if TYPE_CHECKING:
    from chainrule.compiler.report import PassReports
    from chainrule.cpu.runtime.profile import ProgramProfile
    from chainrule.cpu.runtime.program import ArenaPlan


class Program(Protocol):
    """A compiled graph. Memory is bound to its leaves first; then it can run any number of times."""

    @property
    def passes(self) -> PassReports:
        """What each pass of the compiler changed."""
        ...

    @property
    def may_refuse(self) -> bool:
        """Whether ``run`` may raise a UserError about a value. It is raised when the whole program has run, so the memory of
        assigned cells has been overwritten by then."""
        ...

    def needs(self, leaf: Node) -> bool:
        """Whether the program reads or writes the memory of ``leaf``; False for a leaf that no output depends on."""
        ...

    def bind(self, leaf: Node, array: Array) -> None:
        """Read ``leaf`` from the memory of ``array``, which is row-major, from now on. The caller keeps the array alive."""
        ...

    def observe(self, detail: int) -> None:
        """Let runs from now on compute the observed values of the graph up to ``detail``; 0, at first, for none of them."""
        ...

    def run(self) -> None:
        """Run once. The outputs keep their values until the next run."""
        ...

    def output(self, number: int) -> Array:
        """Output ``number`` as a view of the program's memory, which the next run overwrites.

        The observed values of the graph come after its outputs.
        """
        ...

    def assembly(self, kernel: int | str) -> str:
        """The machine code of a kernel as assembly text. ``kernel`` is its number, or a part of its name."""
        ...

    def plan(self) -> ArenaPlan:
        """Which intermediate value takes which part of the program's memory, and when."""
        ...

    def profile(self, runs: int = 5) -> ProgramProfile:
        """Run the program ``runs`` times, with its effects on cells, and report the time that each part took."""
        ...


class StandIn(Protocol):
    """A placeholder for an array in a graph that is to be compiled: ``leaf`` is the array's memory as a row-major value, and
    ``node`` views that memory with the array's own order of axes."""

    @property
    def leaf(self) -> Node:
        """The leaf that stands for the array's memory."""
        ...

    @property
    def node(self) -> Node:
        """The array as operations take it: a view of ``leaf`` with the axes in the array's own order."""
        ...


class LentProgram(Protocol):
    """A program that reads arrays in whatever memory layout they have, and returns each output in memory of its own."""

    def run(self, values: Sequence[Array]) -> list[Array] | None:
        """The outputs for ``values``, which must have the shapes, dtypes and strides of those that the program was made for.

        None if this thread is in the middle of another run, as in a signal handler: then the caller computes them node by
        node.
        """
        ...


class Backend(Protocol):
    """The functions of a backend."""

    def obstacle(self) -> str | None:
        """Why no native code can be made on this machine, as one sentence without its full stop; None if it can be made.

        Where there is an obstacle, only the functions for threads, memory and the environment are called; see
        ``engines.has_native_code``.
        """
        ...

    def compile_graph(
        self, graph: Graph, state: Sequence[tuple[Node, int]], max_memory: int | None, show: str | None
    ) -> Program:
        """Compile ``graph``.

        ``state`` has for each assigned cell the leaf of its old value, and the number of the output that is its new value,
        which the program writes into the memory bound to that leaf. ``max_memory`` limits the bytes of intermediate values;
        None: no limit. ``show`` names the passes whose results are printed, such as "fuse,lower" or "all".

        Raises:
            UserError: the intermediate values take more than ``max_memory`` bytes, or ``show`` names no pass.
        """
        ...

    def run_single(self, primitive: Primitive, values: Sequence[Array], attributes: Mapping[str, Any]) -> Array | None:
        """The value of ``primitive`` applied to ``values``, as the reference engine computes it.

        None if this thread is in the middle of another run, as in a signal handler.
        """
        ...

    def stand_in(self, value: Array) -> Any:
        """A ``StandIn`` for all arrays with the shape, dtype and strides of ``value``."""
        ...

    def lent_program(
        self,
        outputs: Sequence[Node],
        stand_ins: Sequence[Any],
        *,
        row_major: bool = False,
        bound: Mapping[Node, Array] | None = None,
        assigned: Sequence[tuple[Node, Node]] = (),
    ) -> LentProgram:
        """Compile ``outputs``, nodes computed from the nodes of ``stand_ins``, which this backend made.

        ``row_major`` makes the outputs row-major; otherwise each has the layout in which it is computed. ``bound`` gives
        further leaves with their memory, which stays the same in all runs. ``assigned`` has pairs of such a leaf and the node
        of its new value, which each run writes into the leaf's memory.
        """
        ...

    def zeros(self, type_: TensorType, present: bool) -> Array:
        """An array of zeros, placed in memory so that programs that use it are fast.

        ``present`` makes the system provide the memory now, and not page by page when it is first touched.
        """
        ...

    def return_idle(self) -> None:
        """Give memory that is kept for reuse back to the system."""
        ...

    def set_threads(self, count: int | None) -> None:
        """Run programs on ``count`` threads; None: on the number that ``thread_count`` gives without this setting."""
        ...

    def thread_count(self) -> int:
        """The number of threads that programs run on."""
        ...

    def check_environment(self) -> None:
        """Check the environment variables that programs obey.

        Raises:
            UserError: one of them has an invalid value.
        """
        ...


@functools.cache
def backend() -> Backend:
    """The backend of this machine, imported at the first call. Where no native code can be made, it is a substitute whose
    ``obstacle`` says why."""
    from chainrule.cpu.codegen.availability import obstacle

    if obstacle() is not None:
        from chainrule.cpu import unavailable

        return unavailable
    from chainrule.cpu import interface

    return interface


@explained
def set_threads(count: int | None) -> None:
    """Run programs on ``count`` threads from now on; None restores the default (see ``thread_count``).

    Raises:
        UserError: ``count`` is no whole number of at least 1, or far more than this machine has cores.
    """
    backend().set_threads(count)


@explained
def thread_count() -> int:
    """The number of threads that programs run on: the one given to ``set_threads``, else the environment variable
    ``CHAINRULE_THREADS``, else one per core that this process may use.

    Raises:
        UserError: ``CHAINRULE_THREADS`` is no valid number of threads.
    """
    return backend().thread_count()
