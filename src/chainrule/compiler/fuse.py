"""Pass: which values are stored, and which share one loop over memory.

A *cluster* becomes one kernel: a heavy operation, or a loop over one space that computes elementwise values in registers,
stores some of them (its *roots*) and gathers others into reductions. Two rules decide:

- a value that several clusters need is computed again in each where that moves fewer bytes than storing it;
- two clusters over one space become one where they read the same memory or hand each other a value point by point, unless
  the second needs a reduction of the first whole, or something lies between them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from chainrule import ops
from chainrule.compiler.layout import Layout, is_elementwise, is_reduction
from chainrule.compiler.values import COPY, is_movement, only_unit_axes_change
from chainrule.graph import Node
from chainrule.ops import Primitive

AxisMap = tuple[int | None, int, int]
IndexMap = tuple[AxisMap, ...]
"""Per axis of a node: the loop axis it follows (None for none), stride and offset: index = stride * loop index + offset."""

_MOST_ROOTS = 24
_MOST_LOADS = 24
SMALL = 16384


def _is_expensive(node: Node) -> bool:
    return isinstance(node.operation, Primitive) and node.operation.expensive


@dataclass(eq=False)
class Cluster:
    """``space``: sizes of the loop axes, outermost first, none of size 1; ``None`` for a heavy operation."""

    roots: list[Node]
    space: tuple[int, ...] | None
    maps: dict[Node, IndexMap] = field(default_factory=dict)  # of each root, or of what a reduction gathers
    reads: dict[Node, set[IndexMap | None]] = field(default_factory=dict)  # stored values, and how they are read
    recomputed: set[Node] = field(default_factory=set)  # stored values that are cheaper to compute again than to read

    @property
    def is_heavy(self) -> bool:
        """Whether it is one heavy operation, which shares its loops with nothing."""
        return self.space is None

    @property
    def points(self) -> int:
        """How many points its loops visit; 1 without axes."""
        return math.prod(self.space or ())


@dataclass
class Fusion:
    """Clusters in an order in which they can run, and the values that are stored."""

    layout: Layout
    stored: set[Node]
    clusters: list[Cluster]


def fuse(layout: Layout) -> Fusion:
    """Clusters of the graph that ``layout`` describes, in an order in which they can run."""
    stored = _stored_values(layout)
    clusters = [_cluster_of(node, layout, stored) for node in layout.graph.nodes if node in stored and not node.is_leaf]
    merged = _Merging(clusters, layout).merged()
    for cluster in merged:
        _recompute(cluster, stored)
    return Fusion(layout, stored, merged)


def _recompute(cluster: Cluster, stored: set[Node]) -> None:
    """Do not read what can be computed from large values that the cluster reads anyway: a mask, from what it masks."""
    if cluster.is_heavy or cluster.points <= SMALL:
        return
    for node in list(cluster.reads):
        if not is_elementwise(node) or node in cluster.roots or 2 * node.size < cluster.points:
            continue
        sources, expensive = _sources(node, stored)
        large = {one for one in sources if 2 * one.size >= node.size}
        others = {one for one in cluster.reads if one is not node}
        if not expensive and large <= others and not any(_regroups(one) for one in _below(node, stored)):
            cluster.recomputed.add(node)
            del cluster.reads[node]
            for one in sources - large:
                cluster.reads.setdefault(one, set()).add(None)


def _regroups(node: Node) -> bool:
    return node.operation is ops.reshape and not only_unit_axes_change(node)


def _below(node: Node, stored: set[Node]) -> set[Node]:
    """What an inlined value is computed by, down to stored values."""
    seen: set[Node] = set()
    stack = list(node.inputs)
    while stack:
        one = stack.pop()
        if one not in seen and one not in stored:
            seen.add(one)
            stack.extend(one.inputs)
    return seen


# ---- which values are stored


def base_of(node: Node) -> Node:
    """The value that a movement is a view of."""
    while is_movement(node):
        node = node.inputs[0]
    return node


def is_heavy(node: Node) -> bool:
    """Whether a node is computed by kernels of its own, and not in a loop with others."""
    return not (node.is_leaf or is_elementwise(node) or is_movement(node) or is_reduction(node) or node.operation is COPY)


def _stored_values(layout: Layout) -> set[Node]:
    graph = layout.graph
    stored = {base_of(node) for node in graph.outputs}
    for node in graph.nodes:
        if node.is_leaf or is_reduction(node) or node.operation is COPY:
            stored.add(node)
        elif is_heavy(node):
            stored.add(node)
            stored |= {base_of(one) for one in node.inputs}
        elif node.operation is ops.reshape and not only_unit_axes_change(node):
            stored.add(base_of(node))
    consumers = graph.consumers()
    reaches: dict[Node, frozenset[Node]] = {}  # the stored values whose clusters compute a node, if it is not stored
    for node in reversed(graph.nodes):
        users: set[Node] = set()
        for one in consumers[node]:
            users |= {one} if one in stored else reaches[one]
        if node not in stored and is_elementwise(node) and _is_better_stored(node, users, consumers[node], stored):
            stored.add(node)
        reaches[node] = frozenset(users)
    return stored


def _is_better_stored(node: Node, users: set[Node], consumers: list[Node], stored: set[Node]) -> bool:
    if any(one.operation is ops.broadcast and one.size >= 4 * node.size for one in consumers) and node.size > 1:
        return node.operation not in (ops.cast, ops.negative)  # computed once, not at every point
    if len(users) < 2:
        return False
    sources, expensive = _sources(node, stored)
    if expensive and node.size > 1:
        return True
    large = sum(1 for one in sources if 2 * one.size >= node.size)
    return large * len(users) > large + 1 + len(users)


def _sources(node: Node, stored: set[Node]) -> tuple[set[Node], bool]:
    """The stored values that an inlined value is made of, and whether that takes expensive functions."""
    found: set[Node] = set()
    expensive = _is_expensive(node)
    stack, seen = list(node.inputs), {node}
    while stack:
        one = stack.pop()
        if one in seen:
            continue
        seen.add(one)
        if one in stored:
            found.add(one)
        else:
            expensive = expensive or _is_expensive(one)
            stack.extend(one.inputs)
    return found, expensive


# ---- index maps


def moved_map(node: Node, index: IndexMap) -> IndexMap:
    """From the index map of a movement to that of its input."""
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
    """Where the computation of ``node`` at a point begins: stored values, or reshapes of such, each with its index map."""
    stack, seen = [(node, index)], set()
    while stack:
        one, at = stack.pop()
        if (one, at) in seen:
            continue
        seen.add((one, at))
        if one in stored or (one.operation is ops.reshape and not only_unit_axes_change(one)):
            yield one, at
        elif is_movement(one):
            stack.append((one.inputs[0], moved_map(one, at)))
        elif one.operation is ops.one_hot:
            stack.append((one.inputs[0], at[:-1]))
        else:
            stack.extend((source, at) for source in one.inputs)


def identity_map(node: Node, order: tuple[int, ...]) -> tuple[tuple[int, ...], IndexMap]:
    """The space of a node whose axes lie in ``order``, and the map of its axes into it."""
    axes = [axis for axis in order if node.shape[axis] != 1]
    places = {axis: place for place, axis in enumerate(axes)}
    index: IndexMap = tuple((places[axis], 1, 0) if axis in places else (None, 0, 0) for axis in range(node.ndim))
    return tuple(node.shape[axis] for axis in axes), index


# ---- clusters


def _cluster_of(node: Node, layout: Layout, stored: set[Node]) -> Cluster:
    if is_heavy(node):
        made = Cluster([node], None)
        for one in node.inputs:
            made.reads.setdefault(base_of(one), set()).add(None)
        return made
    if is_reduction(node):
        x = node.inputs[0]
        space, index = identity_map(x, seen_order(x, layout))
        inner = [(x, index)]
    else:
        space, index = identity_map(node, layout.orders[node])
        one_hot = node.operation is ops.one_hot
        inner = [(node.inputs[0], index[:-1])] if one_hot else [(one, index) for one in node.inputs]
    made = Cluster([node], space, {node: index})
    for start, at in inner:
        for one, found in boundaries(start, at, stored):
            made.reads.setdefault(base_of(one), set()).add(found if one in stored else None)
    return made


def seen_order(node: Node, layout: Layout) -> tuple[int, ...]:
    """The order in which the axes of a value lie, also of one that is computed point by point."""
    places = layout.strides(node)
    if places is None:
        return tuple(range(node.ndim))
    return tuple(
        sorted(range(node.ndim), key=lambda axis: (-abs(places[1][axis]) if node.shape[axis] > 1 else 0, axis))
    )  # fmt: skip


class _Merging:
    """Merges clusters from the inputs on. ``before[i]`` has bit j set where cluster j must run before cluster i."""

    def __init__(self, clusters: list[Cluster], layout: Layout) -> None:
        self.layout = layout
        self.clusters = clusters
        self.alive: list[Cluster | None] = list(clusters)
        self.home: dict[Node, int] = {}
        self.before = [0] * len(clusters)

    def merged(self) -> list[Cluster]:
        by_space: dict[tuple[int, ...], list[int]] = {}
        for number, cluster in enumerate(self.clusters):
            for root in cluster.roots:
                self.home[root] = number
            direct = {self.home[one] for one in cluster.reads if one in self.home and self.home[one] != number}
            for one in direct:
                self.before[number] |= self.before[one] | 1 << one
            if cluster.space is None:
                continue
            candidates = by_space.setdefault(cluster.space, [])
            target = next((one for one in reversed(candidates[-12:]) if self._can_join(number, one, direct)), None)
            if target is None:
                candidates.append(number)
            else:
                self._join(number, target)
        return self._in_order()

    def _can_join(self, number: int, target: int, direct: set[int]) -> bool:
        cluster, other = self.clusters[number], self.clusters[target]
        if any(self.before[one] >> target & 1 for one in direct if one != target):
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
        return any(2 * one.size >= cluster.points and one.size > 1 for one in cluster.reads if one in other.reads)

    def _join(self, number: int, target: int) -> None:
        cluster, other = self.clusters[number], self.clusters[target]
        other.roots += cluster.roots
        other.maps |= cluster.maps
        for one, maps in cluster.reads.items():
            if self.home.get(one) != target:
                other.reads.setdefault(one, set()).update(maps)
        for root in cluster.roots:
            self.home[root] = target
        gained = self.before[number] & ~(1 << target)
        self.before[target] |= gained
        for later in range(len(self.clusters)):
            if self.before[later] >> target & 1:
                self.before[later] |= gained
        self.alive[number] = None

    def _in_order(self) -> list[Cluster]:
        """Each after those it needs: by need, and else as they came."""
        done: list[Cluster] = []
        emitted = 0
        waiting = [number for number, one in enumerate(self.alive) if one is not None]
        ghosts = sum(1 << number for number, one in enumerate(self.alive) if one is None)
        while waiting:
            rest = []
            for number in waiting:
                if self.before[number] & ~ghosts & ~emitted:
                    rest.append(number)
                else:
                    emitted |= 1 << number
                    done.append(self.clusters[number])
            assert len(rest) < len(waiting), "clusters wait for each other"
            waiting = rest
        return done
