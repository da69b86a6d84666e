"""Pass: decides which values are stored in memory, and which of them are computed in one common loop.

A *cluster* becomes one kernel. It is either a single heavy operation, or a loop over one space (a box of loop axes) that
computes elementwise values in registers, stores some of them and reduces others. The stored values and the results of
reductions are its *roots*. Two rules decide:

- A value that several clusters need is stored only if that moves fewer bytes than computing it again in each of them.
- Two clusters over the same space are merged if they read the same memory, or if the second reads a root of the first at the
  same point of the space. They are not merged if the second needs the finished result of a reduction in the first, or if
  another cluster has to run between the two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from chainrule import ops
from chainrule.compiler.layout import Layout, is_elementwise, is_reduction
from chainrule.compiler.precedence import Precedence
from chainrule.compiler.values import COPY, is_movement, only_unit_axes_change
from chainrule.graph import Node
from chainrule.ops import Primitive

AxisMap = tuple[int | None, int, int]
IndexMap = tuple[AxisMap, ...]
"""For each axis of a node: the loop axis that it follows (or None), a stride and an offset. The index along the axis is
stride * loop index + offset."""

_MOST_ROOTS = 24
_MOST_LOADS = 24
SMALL = 16384
"""Points of a space up to which it is not worth dividing among threads, nor saving reads."""


def _is_expensive(node: Node) -> bool:
    return isinstance(node.operation, Primitive) and node.operation.expensive


@dataclass(eq=False)
class Cluster:
    """Values that one kernel computes: see the module.

    ``space`` has the sizes of the loop axes, outermost first, none of them 1; it is None for a heavy operation.
    """

    roots: list[Node]
    space: tuple[int, ...] | None
    maps: dict[Node, IndexMap] = field(default_factory=dict)  # for each root, or for the input of a reduction
    reads: dict[Node, set[IndexMap | None]] = field(default_factory=dict)  # stored values; None: not point by point
    recomputed: set[Node] = field(default_factory=set)  # stored values that are cheaper to compute again than to read
    detail: int = 0  # of the observed values that it computes; 0 for what the outputs need

    @property
    def is_heavy(self) -> bool:
        """Whether the cluster is a single heavy operation."""
        return self.space is None

    @property
    def points(self) -> int:
        """The number of points in the space; 1 without axes."""
        return math.prod(self.space or ())


@dataclass
class Fusion:
    """The result of the pass: clusters in an order in which they can run, and the values that are stored.

    ``observing`` are the clusters of observed values: they read what the others store, and may run at any time after that.
    ``lost`` are observed values that cannot be had so: a sum or a heavy operation that no output needs lies before them.
    """

    layout: Layout
    stored: set[Node]
    clusters: list[Cluster]
    observing: list[Cluster]
    lost: set[Node]


def fuse(layout: Layout) -> Fusion:
    """Divide the graph of ``layout`` into clusters."""
    stored = _stored_values(layout)
    needed = layout.graph.nodes[: layout.graph.needed]
    clusters = [_cluster_of(node, layout, stored) for node in needed if node in stored and not node.is_leaf]
    merged = _Merging(clusters, layout).merged()
    for cluster in merged:
        _recompute(cluster, stored)
    stored |= set(layout.graph.leaves)
    return Fusion(layout, stored, merged, *_observing(layout, stored))


def _observing(layout: Layout, stored: set[Node]) -> tuple[list[Cluster], set[Node]]:
    """The clusters of those observed values that are not among ``stored``, which the outputs need, and the values that are
    lost: see ``Fusion``.

    What is computed from the same stored values over the same space shares a loop; more would have to wait for more.
    """
    shared: dict[tuple[int, tuple[int, ...] | None, frozenset[Node]], Cluster] = {}
    clusters: list[Cluster] = []
    lost: set[Node] = set()
    done: set[Node] = set()
    for node, detail in sorted(layout.graph.observed, key=lambda one: one.detail):
        node = base_of(node)
        if node in stored or node in done:
            continue
        done.add(node)
        if is_heavy(node) or any(is_heavy(inner) or is_reduction(inner) for inner in _below(node, stored)):
            lost.add(node)
            continue
        made = _cluster_of(node, layout, stored)
        made.detail = detail
        key = detail, made.space, frozenset(made.reads)
        other = shared.get(key)
        if other is None or len(other.roots) == _MOST_ROOTS:
            shared[key] = made
            clusters.append(made)
        else:
            other.roots += made.roots
            other.maps |= made.maps
            for read, maps in made.reads.items():
                other.reads[read].update(maps)
    return clusters, lost


def _recompute(cluster: Cluster, stored: set[Node]) -> None:
    """Let a cluster compute an elementwise value again instead of reading it, if it reads its large sources anyway.

    An example is a mask: it is computed again from the values that it masks.
    """
    if cluster.is_heavy or cluster.points <= SMALL:
        return
    for node in list(cluster.reads):
        if not is_elementwise(node) or node in cluster.roots or 2 * node.size < cluster.points:
            continue
        sources, expensive = _sources(node, stored)
        large = {source for source in sources if 2 * source.size >= node.size}
        others = {read for read in cluster.reads if read is not node}
        if not expensive and large <= others and not any(_regroups(inner) for inner in _below(node, stored)):
            cluster.recomputed.add(node)
            del cluster.reads[node]
            for source in sources - large:
                cluster.reads.setdefault(source, set()).add(None)


def _regroups(node: Node) -> bool:
    """Whether it is a reshape that does more than add or remove axes of size 1."""
    return node.operation is ops.reshape and not only_unit_axes_change(node)


def _below(node: Node, stored: set[Node]) -> set[Node]:
    """The nodes that are computed on the way from stored values to ``node``, which is not stored."""
    seen: set[Node] = set()
    stack = list(node.inputs)
    while stack:
        source = stack.pop()
        if source not in seen and source not in stored:
            seen.add(source)
            stack.extend(source.inputs)
    return seen


# ---- which values are stored


def base_of(node: Node) -> Node:
    """The value that ``node``, a chain of movements, is a view of; ``node`` itself if it is no movement."""
    while is_movement(node):
        node = node.inputs[0]
    return node


def is_heavy(node: Node) -> bool:
    """Whether a node is computed by kernels of its own, and so cannot share a loop with others."""
    return not (node.is_leaf or is_elementwise(node) or is_movement(node) or is_reduction(node) or node.operation is COPY)


def _stored_values(layout: Layout) -> set[Node]:
    """The values that get memory: outputs, leaves, reductions, copies, heavy operations and their inputs, inputs of reshapes
    that regroup, and those elementwise values that are better stored."""
    graph = layout.graph
    nodes = graph.nodes[: graph.needed]
    stored = {base_of(node) for node in graph.outputs}
    for node in nodes:
        if node.is_leaf or is_reduction(node) or node.operation is COPY:
            stored.add(node)
        elif is_heavy(node):
            stored.add(node)
            stored |= {base_of(source) for source in node.inputs}
        elif node.operation is ops.reshape and not only_unit_axes_change(node):
            stored.add(base_of(node))
    consumers = graph.consumers()
    reaches: dict[Node, frozenset[Node]] = {}  # for a node that is not stored: whose clusters compute it
    for node in reversed(nodes):
        users: set[Node] = set()
        for consumer in consumers[node]:
            users |= {consumer} if consumer in stored else reaches[consumer]
        if node not in stored and is_elementwise(node) and _is_better_stored(node, users, consumers[node], stored):
            stored.add(node)
        reaches[node] = frozenset(users)
    return stored


def _is_better_stored(node: Node, users: set[Node], consumers: list[Node], stored: set[Node]) -> bool:
    """Whether to store an elementwise value that the clusters of ``users`` need, instead of computing it in each of them."""
    if any(consumer.operation is ops.broadcast and consumer.size >= 4 * node.size for consumer in consumers) and node.size > 1:
        return node.operation not in (ops.cast, ops.negative)  # stored, it is not computed again at every point
    if len(users) < 2:
        return False
    sources, expensive = _sources(node, stored)
    if expensive and node.size > 1:
        return True
    large = sum(1 for source in sources if 2 * source.size >= node.size)
    return large * len(users) > large + 1 + len(users)  # traffic without, and with storing it


def _sources(node: Node, stored: set[Node]) -> tuple[set[Node], bool]:
    """The stored values that ``node`` is computed from, and whether an expensive function is computed on the way."""
    sources: set[Node] = set()
    expensive = _is_expensive(node)
    stack, seen = list(node.inputs), {node}
    while stack:
        source = stack.pop()
        if source in seen:
            continue
        seen.add(source)
        if source in stored:
            sources.add(source)
        else:
            expensive = expensive or _is_expensive(source)
            stack.extend(source.inputs)
    return sources, expensive


# ---- index maps


def moved_map(node: Node, index: IndexMap) -> IndexMap:
    """The index map of a movement's input, given that of the movement."""
    attributes, x = node.attributes, node.inputs[0]
    if node.operation is ops.broadcast:
        return tuple(step for axis, step in enumerate(index) if axis not in attributes["axes"])
    if node.operation is ops.transpose:
        back = sorted(range(node.ndim), key=lambda i: attributes["axes"][i])
        return tuple(index[i] for i in back)
    if node.operation is ops.slice_:
        return tuple(
            (axis, step * stride, begin + step * offset)
            for (axis, stride, offset), begin, step in zip(index, attributes["start"], attributes["step"], strict=True)
        )
    if node.operation is ops.flip:
        return tuple(
            (axis, -stride, size - 1 - offset) if place in attributes["axes"] else (axis, stride, offset)
            for place, ((axis, stride, offset), size) in enumerate(zip(index, x.shape, strict=True))
        )
    real = iter([step for step, size in zip(index, node.shape, strict=True) if size != 1])
    return tuple((None, 0, 0) if size == 1 else next(real) for size in x.shape)


def boundaries(node: Node, index: IndexMap, stored: set[Node]) -> Iterator[tuple[Node, IndexMap]]:
    """The values from which ``node`` is computed at a point, each with its index map: stored values, and reshapes that regroup.

    ``index`` is the map of ``node``.
    """
    stack, seen = [(node, index)], set()
    while stack:
        current, at = stack.pop()
        if (current, at) in seen:
            continue
        seen.add((current, at))
        if current in stored or (current.operation is ops.reshape and not only_unit_axes_change(current)):
            yield current, at
        elif is_movement(current):
            stack.append((current.inputs[0], moved_map(current, at)))
        elif current.operation is ops.one_hot:
            stack.append((current.inputs[0], at[:-1]))
        else:
            stack.extend((source, at) for source in current.inputs)


def identity_map(node: Node, order: tuple[int, ...]) -> tuple[tuple[int, ...], IndexMap]:
    """The space whose loops visit a node's elements with its axes in ``order``, outermost first, and the node's index map."""
    axes = [axis for axis in order if node.shape[axis] != 1]
    places = {axis: place for place, axis in enumerate(axes)}
    index: IndexMap = tuple((places[axis], 1, 0) if axis in places else (None, 0, 0) for axis in range(node.ndim))
    return tuple(node.shape[axis] for axis in axes), index


# ---- clusters


def _cluster_of(node: Node, layout: Layout, stored: set[Node]) -> Cluster:
    """The cluster that computes the single stored value ``node``."""
    if is_heavy(node):
        made = Cluster([node], None)
        for source in node.inputs:
            made.reads.setdefault(base_of(source), set()).add(None)
        return made
    if is_reduction(node):
        x = node.inputs[0]
        space, index = identity_map(x, seen_order(x, layout))
        inner = [(x, index)]
    else:
        space, index = identity_map(node, layout.orders[node])
        one_hot = node.operation is ops.one_hot
        inner = [(node.inputs[0], index[:-1])] if one_hot else [(source, index) for source in node.inputs]
    made = Cluster([node], space, {node: index})
    for start, at in inner:
        for read, read_at in boundaries(start, at, stored):
            made.reads.setdefault(base_of(read), set()).add(read_at if read in stored else None)
    return made


def seen_order(node: Node, layout: Layout) -> tuple[int, ...]:
    """The order of a value's axes in memory, outermost first; for a movement, their order in the memory that it views."""
    places = layout.strides(node)
    if places is None:
        return tuple(range(node.ndim))
    return tuple(
        sorted(range(node.ndim), key=lambda axis: (-abs(places[1][axis]) if node.shape[axis] > 1 else 0, axis))
    )  # fmt: skip


class _Merging:
    """Merges clusters greedily, from the inputs of the graph to its outputs.

    ``before`` says which clusters, by their numbers, must run before which. ``home`` is the number of the cluster that computes
    a stored value. ``alive`` has the numbers of the clusters that were not merged into another.
    """

    def __init__(self, clusters: list[Cluster], layout: Layout) -> None:
        self.layout = layout
        self.clusters = clusters
        self.alive = dict.fromkeys(range(len(clusters)))
        self.home: dict[Node, int] = {}
        self.before = Precedence(len(clusters))

    def merged(self) -> list[Cluster]:
        """The merged clusters, in an order in which they can run."""
        by_space: dict[tuple[int, ...], list[int]] = {}
        for number, cluster in enumerate(self.clusters):
            for root in cluster.roots:
                self.home[root] = number
            direct = {self.home[read] for read in cluster.reads if read in self.home and self.home[read] != number}
            self.before.put_after(number, direct)
            if cluster.space is None:
                continue
            candidates = by_space.setdefault(cluster.space, [])
            target = next((near for near in reversed(candidates[-12:]) if self._can_join(number, near, direct)), None)
            if target is None:
                candidates.append(number)
            else:
                self._join(number, target)
        return [self.clusters[number] for number in self.before.ordered(list(self.alive))]

    def _can_join(self, number: int, target: int, direct: set[int]) -> bool:
        """Whether cluster ``number``, which reads roots of the clusters ``direct``, can be merged into ``target``, usefully."""
        cluster, other = self.clusters[number], self.clusters[target]
        if any(self.before.precedes(target, earlier) for earlier in direct if earlier != target):
            return False
        if len(other.roots) + len(cluster.roots) > _MOST_ROOTS or len({*other.reads, *cluster.reads}) > _MOST_LOADS:
            return False
        shares = False
        for root in other.roots:
            for index in cluster.reads.get(root, ()):
                if is_reduction(root) or index != other.maps[root]:
                    return False
                shares = True
        if shares:
            return True
        return any(2 * read.size >= cluster.points and read.size > 1 for read in cluster.reads if read in other.reads)

    def _join(self, number: int, target: int) -> None:
        """Merge cluster ``number`` into ``target``."""
        cluster, other = self.clusters[number], self.clusters[target]
        other.roots += cluster.roots
        other.maps |= cluster.maps
        for read, maps in cluster.reads.items():
            if self.home.get(read) != target:
                other.reads.setdefault(read, set()).update(maps)
        for root in cluster.roots:
            self.home[root] = target
        self.before.merge(number, target)
        del self.alive[number]
