"""The door to native code: all that tensors need of whatever compiles and runs graphs, as a protocol.

    tensor/ ──> backend() ──> Backend: compile a graph, run one operation, lend memory, threads
                                 └── chainrule.cpu.interface, the only one so far

A second backend (a library in C, or WebAssembly, made from the same recipe) is another module with these functions, chosen in
``backend``. Nothing else in ``tensor`` knows that there is a ``cpu``.
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
    """A compiled graph: memory is bound to its leaves, then it runs, as often as one likes."""

    @property
    def passes(self) -> PassReports:
        """What each pass of the compiler changed."""
        ...

    @property
    def may_refuse(self) -> bool:
        """Whether a run may end with a UserError, which comes when all has run."""
        ...

    def needs(self, leaf: Node) -> bool:
        """Whether the program reads or writes the memory of a leaf at all."""
        ...

    def bind(self, leaf: Node, array: Array) -> None:
        """From now on the value of ``leaf`` is in the memory of ``array``, row-major, which the caller keeps alive."""
        ...

    def run(self) -> None:
        """Run once. Outputs stay as they are until the next run."""
        ...

    def output(self, number: int) -> Array:
        """Output ``number`` as a view of the program's memory: read or copy it before the next run."""
        ...

    def assembly(self, kernel: int | str) -> str:
        """The code of a kernel, by its number or a part of its name, as text."""
        ...

    def plan(self) -> ArenaPlan:
        """The memory of values in between, value by value."""
        ...

    def profile(self, runs: int = 5) -> ProgramProfile:
        """Run so often for real, and tell where the time went."""
        ...


class StandIn(Protocol):
    """A value that lies somewhere: ``leaf`` is its memory, ``node`` what operations see in it."""

    @property
    def leaf(self) -> Node:
        """The leaf that is the value's memory."""
        ...

    @property
    def node(self) -> Node:
        """What operations see in that memory: its axes in the value's own order."""
        ...


class LentProgram(Protocol):
    """A program over values as they lie, which leaves its outputs in memory that it gives away."""

    def run(self, values: Sequence[Array]) -> list[Array] | None:
        """The outputs, for values that lie as those that it was made for; None where this thread is within a run already, as
        in a signal handler: then node by node."""
        ...


class Backend(Protocol):
    """What a backend does."""

    def obstacle(self) -> str | None:
        """Why this machine has no native code, as one sentence without its full stop; None: it has. Where it has none, only
        threads and memory are asked for; see ``engines.has_native_code``."""
        ...

    def compile_graph(
        self, graph: Graph, state: Sequence[tuple[Node, int]], max_memory: int | None, show: str | None
    ) -> Program:
        """``graph`` as a program. ``state``: for each cell that is assigned, the leaf of its old value, and the number of the
        output that is the new one, which is left in the memory bound for the leaf. A UserError if the values in between take
        more than ``max_memory`` bytes. ``show``: passes after which what they left is printed, such as
        "fuse,lower" or "all"."""
        ...

    def run_single(self, primitive: Primitive, values: Sequence[Array], attributes: Mapping[str, Any]) -> Array | None:
        """The value of one primitive, as the reference engine gives it; None within another run on this thread."""
        ...

    def stand_in(self, value: Array) -> Any:
        """A ``StandIn`` for values that lie as ``value`` does."""
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
        """``outputs``, made of the nodes of ``stand_ins`` (this backend's own), as a program.

        ``row_major``: the outputs lie so. ``bound``: leaves whose memory is given once for all. ``assigned``: those of them
        that get a new value there, and its node.
        """
        ...

    def zeros(self, type_: TensorType, present: bool) -> Array:
        """An array of zeros where programs work well with it. ``present``: its memory is there at once, not when it is first
        touched."""
        ...

    def return_idle(self) -> None:
        """Give memory that is kept for later back to the system."""
        ...

    def set_threads(self, count: int | None) -> None:
        """Let programs run on so many threads."""
        ...

    def thread_count(self) -> int:
        """On how many threads programs run."""
        ...

    def check_environment(self) -> None:
        """A UserError if an environment variable that programs obey has a value that means nothing."""
        ...


@functools.cache
def backend() -> Backend:
    """The backend, loaded when it is first asked for."""
    from chainrule.cpu.codegen.availability import obstacle

    if obstacle() is not None:
        from chainrule.cpu import unavailable

        return unavailable
    from chainrule.cpu import interface

    return interface


@explained
def set_threads(count: int | None) -> None:
    """Let programs run on ``count`` threads from now on; None: on as many as the environment or the machine says.

    Raises:
        UserError: ``count`` is no whole number from 1 to what the machine can start.
    """
    backend().set_threads(count)


@explained
def thread_count() -> int:
    """On how many threads programs run: as ``set_threads`` said, else the environment variable ``CHAINRULE_THREADS``, else one
    per core that this process may use.

    Raises:
        UserError: ``CHAINRULE_THREADS`` is no such number.
    """
    return backend().thread_count()
