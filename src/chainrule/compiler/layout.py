"""Pass: in which order each value lies in memory.

Images are stored channels-last, because kernels take vectors of channels; nobody outside the compiler sees it. A value that
is made element by element takes the order of its largest input. What a kernel cannot read as it lies is copied first: the
pass inserts ``copy`` nodes, and says for every value that may be stored in which order.
"""

from __future__ import annotations

from dataclasses import dataclass

from chainrule import ops
from chainrule.compiler.values import (
    COPY,
    Order,
    Strides,
    copy,
    dense_strides,
    is_movement,
    moved,
    natural,
    only_unit_axes_change,
    same_places,
)
from chainrule.graph import Graph, Node
from chainrule.ops import OUTPUT, Primitive

CHANNELS_LAST: Order = (0, 2, 3, 1)


@dataclass
class Layout:
    """The graph with copies, the order of every value, and how many copies there are."""

    graph: Graph
    orders: dict[Node, Order]
    copies: int

    def strides(self, node: Node) -> tuple[int, Strides] | None:
        """Where a value's elements lie if it is stored; None for a movement that is no view."""
        return _places(node, self.orders)


def _places(node: Node, orders: dict[Node, Order]) -> tuple[int, Strides] | None:
    chain = []
    while is_movement(node):
        chain.append(node)
        node = node.inputs[0]
    start, strides = 0, dense_strides(node.shape, orders[node])
    for one in reversed(chain):
        found = moved(one, start, strides)
        if found is None:
            return None
        start, strides = found
    return start, strides


def _source(node: Node) -> Node:
    while is_movement(node):
        node = node.inputs[0]
    return node


def is_elementwise(node: Node) -> bool:
    """Computed point by point in registers: an elementwise primitive, or a one-hot row."""
    operation = node.operation
    return isinstance(operation, Primitive) and not node.is_leaf and (operation.elementwise or operation is ops.one_hot)


def is_reduction(node: Node) -> bool:
    """Sums, and largest and smallest values, along axes."""
    return isinstance(node.operation, Primitive) and node.operation.reduces


def _images(node: Node) -> tuple[int | str, ...]:
    """Which inputs of a node must lie channels-last, and whether it does itself."""
    return node.operation.images if isinstance(node.operation, Primitive) else ()


def _reads_row_major(node: Node) -> bool:
    """Whether kernels take all inputs row-major: heavy operations that know neither images nor matrices."""
    operation = node.operation
    if operation is ops.matmul:
        return node.ndim > 3
    return isinstance(operation, Primitive) and operation.heavy and not operation.images


def choose_layout(graph: Graph, stored_naturally: set[Node]) -> Layout:
    """``stored_naturally``: outputs that must lie row-major, such as new values of parameters."""
    return _Chooser(graph, stored_naturally).layout()


class _Chooser:
    def __init__(self, graph: Graph, stored_naturally: set[Node]) -> None:
        self.graph, self.stored_naturally = graph, stored_naturally
        self.consumers = graph.consumers()
        self.orders: dict[Node, Order] = {}
        self.new: dict[Node, Node] = {}
        self.copied: dict[tuple[Node, Order], Node] = {}

    def layout(self) -> Layout:
        for node in self.graph.nodes:
            self.new[node] = self._placed(node)
        outputs = []
        for node in self.graph.outputs:
            found = self.new[node]
            if _source(found).is_leaf:  # its memory is somebody else's, and may change before it is looked at
                found = self._copy(found, natural(node.ndim))
            elif node in self.stored_naturally:
                found = self._dense(found, natural(node.ndim))
            outputs.append(found)
        graph = Graph(*outputs)
        return Layout(graph, self.orders, sum(1 for one in graph.nodes if one.operation is COPY))

    def _placed(self, node: Node) -> Node:
        inputs = [self.new[one] for one in node.inputs]
        images = _images(node)
        if images:
            inputs = [
                self._dense(one, CHANNELS_LAST if place in images else natural(one.ndim)) for place, one in enumerate(inputs)
            ]
        elif node.operation is ops.reshape and not only_unit_axes_change(node):
            inputs = [self._reshapable(node, inputs[0])]
        elif _reads_row_major(node):
            inputs = [self._dense(one, natural(one.ndim)) for one in inputs]
        elif node.operation is ops.matmul:
            inputs = [self._viewed(one) for one in inputs]
        made = node if tuple(inputs) == node.inputs else node.over(inputs)
        if not is_movement(made):
            self.orders[made] = self._order(node, made)
        return made

    def _order(self, old: Node, node: Node) -> Order:
        plain = natural(node.ndim)
        if node.is_leaf or old in self.stored_naturally:
            return plain
        if node.operation is ops.matmul:
            return self._matmul_order(old, node)
        images = _images(node)
        if images:
            return CHANNELS_LAST if OUTPUT in images else plain
        if node.operation is ops.one_hot:
            return plain
        if is_elementwise(node) or node.operation in (ops.concatenate, ops.pad):
            return max((self._seen_order(one) for one in node.inputs), key=lambda found: found[0])[1]
        if is_reduction(node):
            axes = node.attributes.get("axes") or (node.attributes.get("axis"),)
            order = self._seen_order(node.inputs[0])[1]
            kept = [axis for axis in range(node.inputs[0].ndim) if axis not in axes]
            return tuple(kept.index(axis) for axis in order if axis not in axes)
        return plain

    def _seen_order(self, node: Node) -> tuple[int, Order]:
        """How many elements lie behind a value, and the order of its axes as they lie."""
        places = _places(node, self.orders)
        if places is None:
            return 0, natural(node.ndim)
        strides = places[1]
        elements = 1
        for size, stride in zip(node.shape, strides, strict=True):
            elements *= size if stride else 1
        ranked = sorted(range(node.ndim), key=lambda axis: (-abs(strides[axis]) if node.shape[axis] > 1 else 0, axis))
        free = [axis for axis in range(node.ndim) if node.shape[axis] == 1 or strides[axis] == 0]
        if free and len(free) < node.ndim and elements < node.size:
            return elements, natural(node.ndim)  # a broadcast has no say where whole values have one
        return elements, tuple(ranked)

    def _matmul_order(self, old: Node, node: Node) -> Order:
        """Row-major, or the last two axes swapped: whichever leaves less to pack. See ``transposed_product``."""
        plain = natural(node.ndim)
        if node.ndim < 2:
            return plain
        swapped = (*plain[:-2], plain[-1], plain[-2])
        keeps, turns = packing(node, self.orders, False), packing(node, self.orders, True)
        wanted = self._order_it_meets(old)
        if wanted is not None:
            keeps, turns = (keeps + node.size, turns) if wanted else (keeps, turns + node.size)
        return swapped if turns < keeps else plain

    def _order_it_meets(self, node: Node) -> bool | None:
        """Whether a matrix should lie transposed, because it meets, element by element, one that lies so: a weight whose
        gradient it is, which lies row-major, or the activation that masks it. None if it meets none."""
        seen, stack = {node}, [(node, False)]
        met: bool | None = None
        plain = natural(node.ndim)
        swap = (*plain[:-2], plain[-1], plain[-2])
        while stack:
            one, turned = stack.pop()
            if one in self.stored_naturally:
                return turned
            for user in self.consumers.get(one, ()):
                if user in seen or user.size != node.size or user.ndim != node.ndim:
                    continue
                seen.add(user)
                if user.operation is ops.transpose:
                    stack.append((user, turned != (user.attributes["axes"] == swap)))
                elif is_elementwise(user):
                    stack.append((user, turned))
                    for other in user.inputs:
                        if met is None and other not in seen and other in self.new:
                            elements, order = self._seen_order(self.new[other])
                            if elements == node.size and order in (plain, swap):
                                met = turned != (order == swap)
        return met

    def _dense(self, node: Node, order: Order) -> Node:
        """``node``, or a copy of it that lies dense in ``order``."""
        places = _places(node, self.orders)
        if places is not None and places[0] == 0 and same_places(node.shape, places[1], dense_strides(node.shape, order)):
            return node
        return self._copy(node, order)

    def _copy(self, node: Node, order: Order) -> Node:
        if (node, order) not in self.copied:
            made = self.copied[node, order] = copy(node, order)
            self.orders[made] = order
        return self.copied[node, order]

    def _reshapable(self, node: Node, x: Node) -> Node:
        places = _places(x, self.orders)
        if places is not None and moved(node, *places) is not None:
            return x
        return self._copy(x, natural(x.ndim))

    def _viewed(self, node: Node) -> Node:
        return node if _places(node, self.orders) is not None else self._copy(node, natural(node.ndim))


def packing(node: Node, orders: dict[Node, Order], transposed: bool) -> int:
    """Elements to copy before a matrix product can run: its right factor must have its columns next to each other.

    Transposed, the product is computed as (right^T left^T)^T, so the left factor is what must lie right.
    """
    factor = node.inputs[0] if transposed else node.inputs[1]
    if factor.ndim < 2:
        return 0
    places = _places(factor, orders)
    if places is None:
        return 2 * factor.size
    stride = places[1][-2 if transposed else -1]
    return 0 if stride == 1 or factor.shape[-2 if transposed else -1] == 1 else factor.size
