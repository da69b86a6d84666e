"""A recipe: what a program is once a graph has gone through all passes. Numbers and names alone, so it is kept on disk, and a
second process that traces the same graph need not run the passes.

    graph ──> passes ──> stages of kernels ──> places in the arena ──> recipe ──> program
      └── its description, as a checksum ──> file ─────────────────────┘
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from chainrule.compiler.report import PassReport
from chainrule.cpu.codegen import disk_cache
from chainrule.cpu.codegen.code_cache import versions
from chainrule.cpu.codegen.target import Target
from chainrule.cpu.kernel import Kernel
from chainrule.graph import Array, Graph, Node
from chainrule.graph.dtypes import as_dtype
from chainrule.graph.node import CONSTANT

_MOST_CONSTANT_BYTES = 1 << 20
"""A recipe with more numbers in it is not kept."""


@dataclass(frozen=True)
class Region:
    """Memory of one buffer. In the arena it is at ``offset`` from stage ``first`` to stage ``last``; elsewhere all are -1."""

    label: str
    dtype: str
    nbytes: int
    offset: int = -1
    first: int = -1
    last: int = -1


@dataclass(frozen=True)
class CallRow:
    """One kernel in a stage. ``operands``: number of a region, and the byte in it where the operand begins."""

    kernel: Kernel
    operands: tuple[tuple[int, int], ...]
    origin: str


@dataclass(frozen=True)
class InputRow:
    """A leaf of the graph: what whoever runs the program provides, row-major. ``region`` is -1 if nothing needs it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    region: int


@dataclass(frozen=True)
class OutputRow:
    """A value that the program leaves: ``start`` and ``strides`` in elements of a region. The new value of a cell is named as
    the input that is its old one, and lies in that one's memory."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    region: int
    start: int
    strides: tuple[int, ...]


@dataclass
class Recipe:
    """Everything a program is built from.

    ``stages``: calls over the same units of work, in order; all threads wait between stages. ``inputs``: the leaves of the
    graph, in the order of ``leaves_in_order``. ``constants``: numbers that the passes made, by region. ``status`` is the region
    in which kernels report an index out of range.
    """

    regions: list[Region]
    stages: list[tuple[CallRow, ...]]
    inputs: list[InputRow]
    outputs: list[OutputRow]
    constants: dict[int, Array]
    status: int
    arena_bytes: int
    passes: list[PassReport] = field(default_factory=list)

    # ---- as bytes

    def encoded(self) -> bytes:
        kernels: dict[Kernel, int] = {}
        stages = [
            [[kernels.setdefault(call.kernel, len(kernels)), call.operands, call.origin] for call in stage]
            for stage in self.stages
        ]
        content = {
            "regions": [list(asdict(one).values()) for one in self.regions],
            "kernels": [
                [one.family, one.name, one.units, one.scratch_bytes, one.operations, one.bytes, one.direct_operations]
                for one in kernels
            ],
            "stages": stages,
            "inputs": [list(asdict(one).values()) for one in self.inputs],
            "outputs": [list(asdict(one).values()) for one in self.outputs],
            "constants": [[region, *_encoded(value)] for region, value in self.constants.items()],
            "status": self.status,
            "arena_bytes": self.arena_bytes,
            "passes": [[one.name, one.change] for one in self.passes],
        }
        return json.dumps(content, separators=(",", ":"), default=int).encode()

    @classmethod
    def decoded(cls, data: bytes) -> Recipe:
        content = json.loads(data)
        kernels = [
            Kernel(family, "", None, units, scratch_bytes, operations, nbytes, direct_operations, name)
            for family, name, units, scratch_bytes, operations, nbytes, direct_operations in content["kernels"]
        ]
        stages = [
            tuple(CallRow(kernels[number], tuple(map(tuple, operands)), origin) for number, operands, origin in stage)
            for stage in content["stages"]
        ]
        return cls(
            [Region(*row) for row in content["regions"]],
            stages,
            [InputRow(name, dtype, tuple(shape), region) for name, dtype, shape, region in content["inputs"]],
            [
                OutputRow(name, dtype, tuple(shape), region, start, tuple(strides))
                for name, dtype, shape, region, start, strides in content["outputs"]
            ],
            {region: _decoded(*value) for region, *value in content["constants"]},
            content["status"],
            content["arena_bytes"],
            [PassReport(name, change, 0.0) for name, change in content["passes"]],
        )


def _encoded(value: Array) -> tuple[str, list[int], str]:
    return value.dtype.name, list(value.shape), base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()


def _decoded(dtype: str, shape: list[int], data: str) -> Array:
    return np.frombuffer(base64.b64decode(data), as_dtype(dtype)).reshape(shape)


# ---- on disk

_FACTS = ()
"""The name of the file is a checksum of all that a recipe depends on; nothing else needs to be said there."""


def kept_recipe(name: str) -> Recipe | None:
    """The recipe in file ``name``, if there is one."""
    data = disk_cache.read(name, _FACTS)
    return None if data is None else Recipe.decoded(data)


def keep_recipe(name: str, recipe: Recipe) -> None:
    if sum(value.nbytes for value in recipe.constants.values()) <= _MOST_CONSTANT_BYTES:
        disk_cache.write(name, _FACTS, recipe.encoded())


def recipe_name(graph: Graph, state: Sequence[tuple[Node, int]], target: Target, lent_memory: bool) -> str:
    """The file of a graph's recipe: equal for graphs that compute the same at the same lines of the user's program. Programs
    that are lent memory, of which there are many, show no lines to anybody."""
    found = hashlib.sha256("\0".join((*target.parts(), *versions(), disk_cache.sources("compiler", "graph", "ops"))).encode())
    index = graph.index
    text = functools.lru_cache(maxsize=None)(str)  # many nodes are of one type, or at one line
    rows = []
    for node in graph.nodes:
        inputs = [index[one] for one in node.inputs]
        attributes = [f"{name}={value}" for name, value in node.attributes.items()]
        shown = "" if lent_memory else f"{node.label!r} {text(node.origin)}"
        rows.append(f"{node.operation.name} {inputs} {attributes} {text(node.type)} {shown}")
        if node.operation is CONSTANT and node.value is not None:
            rows.append(hashlib.sha256(np.ascontiguousarray(node.value).tobytes()).hexdigest())
    found.update("\n".join(rows).encode())
    ends = [index[one] for one in graph.outputs], [(index.get(old), str(old.type), new) for old, new in state], lent_memory
    found.update(repr(ends).encode())
    return f"program-{found.hexdigest()}.json"


def names_of(leaves: Sequence[Node], outputs: Sequence[Node], state: Sequence[tuple[Node, int]]) -> tuple[list[str], list[str]]:
    """Names of inputs and of outputs: labels, or else numbers. The new value of a cell is called as the cell."""
    inputs = [leaf.label or f"input {number}" for number, leaf in enumerate(leaves)]
    called = dict(zip(leaves, inputs, strict=True))
    cells = {number: called[old] for old, number in state}
    return inputs, [cells.get(number) or node.label or f"output {number}" for number, node in enumerate(outputs)]


def leaves_in_order(graph: Graph, state: Sequence[tuple[Node, int]]) -> list[Node]:
    """The leaves of the graph, and those that only a state knows."""
    found = dict.fromkeys(graph.leaves)
    found.update(dict.fromkeys(old for old, _ in state))
    return list(found)
