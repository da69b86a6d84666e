"""A recipe: the result of all passes over a graph, from which a program is built.

It consists of numbers and names alone, so it can be kept on disk: a second process that traces the same graph reads it there
and need not run the passes.

    graph ──> passes ──> stages of kernels ──> places in the arena ──> recipe ──> program
      └── its description, as a checksum ──> file ─────────────────────┘
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

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
"""A recipe whose constants take more bytes than this is not kept on disk."""


@dataclass(frozen=True)
class Region:
    """The memory of one buffer: ``nbytes`` bytes of ``dtype``; ``label`` says in words which value it holds.

    A region of the arena begins there at byte ``offset`` and is in use from stage ``first`` to stage ``last``, included. For
    memory outside of the arena (inputs, cells, constants) all three are -1.
    """

    label: str
    dtype: str
    nbytes: int
    offset: int = -1
    first: int = -1
    last: int = -1


@dataclass(frozen=True)
class CallRow:
    """One kernel in a stage. Each operand is the number of a region and the byte in it at which the operand begins.

    ``origin`` is the line of the user's program that the kernel belongs to, ``detail`` that of the observed values that it
    computes, 0 for what the outputs need. Within a stage, calls come in the order of their detail.
    """

    kernel: Kernel
    operands: tuple[tuple[int, int], ...]
    origin: str
    detail: int = 0


@dataclass(frozen=True)
class InputRow:
    """A leaf of the graph, whose value the caller provides in row-major order. ``region`` is -1 if no kernel uses it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    region: int


@dataclass(frozen=True)
class OutputRow:
    """A value that the program computes for its caller, at ``start`` in a region with ``strides``, both in elements.

    The new value of a cell has the name of the input that is its old value, and takes over that input's memory. The region of
    an observed value that cannot be computed is -1.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    region: int
    start: int
    strides: tuple[int, ...]


@dataclass
class Recipe:
    """Everything that a program is built from.

    Attributes:
        regions: the memory of all buffers; other fields refer to a region by its number in this list.
        stages: the kernels of each stage, in order. Kernels of a stage work on the same units; all threads wait for each
            other between stages.
        inputs: the leaves of the graph, in the order of ``leaves_in_order``.
        outputs: the outputs of the graph, in order, and then its observed values.
        constants: values that are fixed when the graph is compiled, by the number of their region.
        status: the region in which kernels report an index that is out of range.
        arena_bytes: the size of the arena.
        passes: what each pass changed.
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
        """Return the recipe as JSON, in the form that ``decoded`` reads. Each kernel appears once, without its generator."""
        kernels: dict[Kernel, int] = {}
        stages = [
            [[kernels.setdefault(call.kernel, len(kernels)), call.operands, call.origin, call.detail] for call in stage]
            for stage in self.stages
        ]
        content = {
            "regions": [_row(one) for one in self.regions],
            "kernels": [
                [
                    one.family,
                    one.units,
                    one.scratch_bytes,
                    one.operations,
                    one.bytes,
                    one.direct_operations,
                    one.name,
                    one.parameters,
                ]
                for one in kernels
            ],
            "stages": stages,
            "inputs": [_row(one) for one in self.inputs],
            "outputs": [_row(one) for one in self.outputs],
            "constants": [[region, *_encoded(value)] for region, value in self.constants.items()],
            "status": self.status,
            "arena_bytes": self.arena_bytes,
            "passes": [[one.name, one.change] for one in self.passes],
        }
        return json.dumps(content, separators=(",", ":"), default=int).encode()

    @classmethod
    def decoded(cls, data: bytes) -> Recipe:
        """Return the recipe that ``encoded`` wrote. Its kernels have no ``generate``; the times of its passes are 0."""
        content = json.loads(data)
        kernels = [
            Kernel(family, "", None, units, scratch_bytes, operations, nbytes, direct_operations, name, tuple(parameters))
            for family, units, scratch_bytes, operations, nbytes, direct_operations, name, parameters in content["kernels"]
        ]
        stages = [
            tuple(
                CallRow(kernels[number], tuple(map(tuple, operands)), origin, detail)
                for number, operands, origin, detail in stage
            )
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


def _row(one: Region | InputRow | OutputRow) -> list[Any]:
    """The fields in their order. ``dataclasses.asdict`` would copy each of them first."""
    return list(vars(one).values())


def _encoded(value: Array) -> tuple[str, list[int], str]:
    return value.dtype.name, list(value.shape), base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()


def _decoded(dtype: str, shape: list[int], data: str) -> Array:
    return np.frombuffer(base64.b64decode(data), as_dtype(dtype)).reshape(shape)


# ---- on disk

_FACTS = ()
"""``disk_cache`` can hold a file against facts that are written in it. A recipe needs none: the name of its file is a checksum
of everything that it depends on."""


def kept_recipe(name: str) -> Recipe | None:
    """Read the recipe from file ``name`` of the disk cache; None if there is no such file."""
    data = disk_cache.read(name, _FACTS)
    return None if data is None else Recipe.decoded(data)


def keep_recipe(name: str, recipe: Recipe) -> None:
    """Write ``recipe`` to file ``name`` of the disk cache, unless its constants are large."""
    if sum(value.nbytes for value in recipe.constants.values()) <= _MOST_CONSTANT_BYTES:
        disk_cache.write(name, _FACTS, recipe.encoded())


def recipe_name(graph: Graph, state: Sequence[tuple[Node, int]], target: Target, lent_memory: bool) -> str:
    """Return the name of the file that holds the recipe of a graph.

    It is a checksum of the target, of the versions and sources that the passes depend on, and of the graph with the values of
    its constants, ``state`` and ``lent_memory``. Labels and lines of the user's program are part of it, as profiles show
    them; programs with ``lent_memory`` (see ``Program``) are never shown, so theirs are left out and more graphs share a file.
    """
    digest = hashlib.sha256("\0".join((*target.parts(), *versions(), disk_cache.sources("compiler", "graph", "ops"))).encode())
    index = graph.index
    text = functools.lru_cache(maxsize=None)(str)  # cached, as many nodes share a type or a line
    rows = []
    for node in graph.nodes:
        inputs = [index[one] for one in node.inputs]
        attributes = [f"{name}={value}" for name, value in node.attributes.items()]
        shown = "" if lent_memory else f"{node.label!r} {text(node.origin)}"
        rows.append(f"{node.operation.name} {inputs} {attributes} {text(node.type)} {shown}")
        if node.operation is CONSTANT and node.value is not None:
            rows.append(hashlib.sha256(np.ascontiguousarray(node.value).tobytes()).hexdigest())
    digest.update("\n".join(rows).encode())
    state_now = [(index.get(old), str(old.type), new) for old, new in state]
    observed = [(index[one.node], one.detail) for one in graph.observed]
    ends = [index[one] for one in graph.outputs], observed, state_now, lent_memory
    digest.update(repr(ends).encode())
    return f"program-{digest.hexdigest()}.json"


def names_of(leaves: Sequence[Node], outputs: Sequence[Node], state: Sequence[tuple[Node, int]]) -> tuple[list[str], list[str]]:
    """Return the names of inputs and the names of outputs: their labels, or "input 3" and "output 3" where there is none.

    The new value of a cell has the same name as the cell.
    """
    inputs = [leaf.label or f"input {number}" for number, leaf in enumerate(leaves)]
    called = dict(zip(leaves, inputs, strict=True))
    cells = {number: called[old] for old, number in state}
    return inputs, [cells.get(number) or node.label or f"output {number}" for number, node in enumerate(outputs)]


def leaves_in_order(graph: Graph, state: Sequence[tuple[Node, int]]) -> list[Node]:
    """Return the leaves of the graph, followed by the cells' old values in ``state`` that the graph does not read."""
    leaves = dict.fromkeys(graph.leaves)
    leaves.update(dict.fromkeys(old for old, _ in state))
    return list(leaves)
