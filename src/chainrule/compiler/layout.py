"""Pass: chooses for each value the order of its axes in memory.

Images are stored channels-last, because kernels process vectors of channels; the shapes that users see stay the same. An
elementwise value takes the order of its largest input. Where a kernel cannot read a value in the order that it has, the pass
inserts a ``copy`` node. The result has an order for every value that may be stored.
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
from chainrule.graph import Graph, Node, Observed
from chainrule.ops import OUTPUT, Primitive

CHANNELS_LAST: Order = (0, 2, 3, 1)
"""The order in which images, whose axes are (batch, channel, row, column), are stored."""


class Orders(dict[Node, Order]):
    """For each value that may be stored, the order of its axes in memory, which stays as it is once it is set."""

    def __init__(self) -> None:
        self.known: dict[Node, tuple[int, Strides] | None] = {}  # what ``_places`` has found

    def __repr__(self) -> str:
        return f"<Orders of {len(self)} values>"


@dataclass
class Layout:
    """The result of the pass: the graph with copies, the order of the axes of every value, and the number of copies."""

    graph: Graph
    orders: Orders
    copies: int

    def strides(self, node: Node) -> tuple[int, Strides] | None:
        """The start and strides of a value, in elements of the memory of the stored value that it is or is a view of.

        None if it is a movement that cannot be a view.
        """
        return _places(node, self.orders)


def _places(node: Node, orders: Orders) -> tuple[int, Strides] | None:
    """See ``Layout.strides``."""
    known, chain = orders.known, []
    while node not in known:
        chain.append(node)
        if not is_movement(node):
            break
        node = node.inputs[0]
    for node in reversed(chain):
        if not is_movement(node):
            known[node] = 0, dense_strides(node.shape, orders[node])
        else:
            places = known[node.inputs[0]]
            known[node] = None if places is None else moved(node, *places)
    return known[node]


def _source(node: Node) -> Node:
    """The value that ``node``, a chain of movements, is a view of; ``node`` itself if it is no movement."""
    while is_movement(node):
        node = node.inputs[0]
    return node


def is_elementwise(node: Node) -> bool:
    """Whether a node can be computed point by point in registers: an elementwise primitive, or ``one_hot``."""
    operation = node.operation
    return isinstance(operation, Primitive) and not node.is_leaf and (operation.elementwise or operation is ops.one_hot)


def is_reduction(node: Node) -> bool:
    """Whether a node is a sum, maximum or minimum along axes."""
    return isinstance(node.operation, Primitive) and node.operation.reduces


def _images(node: Node) -> tuple[int | str, ...]:
    """The numbers of the inputs that are images, which are stored channels-last; with ``OUTPUT`` if the node is one too."""
    return node.operation.images if isinstance(node.operation, Primitive) else ()


def _reads_row_major(node: Node) -> bool:
    """Whether the kernels of a node need all inputs row-major: heavy operations other than those on images and matrices."""
    operation = node.operation
    if operation is ops.matmul:
        return node.ndim > 3
    return isinstance(operation, Primitive) and operation.heavy and not operation.images


def choose_layout(graph: Graph, stored_naturally: set[Node]) -> Layout:
    """The layout of ``graph``. ``stored_naturally`` are outputs that must be row-major, such as new values of parameters."""
    return _Chooser(graph, stored_naturally).layout()


class _Chooser:
    """The state of the pass. ``new`` has the rewritten node for each node of the graph, ``copied`` the copies made so far."""

    def __init__(self, graph: Graph, stored_naturally: set[Node]) -> None:
        self.graph, self.stored_naturally = graph, stored_naturally
        self.consumers = graph.consumers()
        self.orders = Orders()
        self.new: dict[Node, Node] = {}
        self.copied: dict[tuple[Node, Order], Node] = {}

    def layout(self) -> Layout:
        for node in self.graph.nodes:
            self.new[node] = self._placed(node)
        outputs = []
        for node in self.graph.ends:
            output = self.new[node]
            if _source(output).is_leaf:  # memory of the caller, which may change before this is read
                output = self._copy(output, natural(node.ndim))
            elif node in self.stored_naturally:
                output = self._dense(output, natural(node.ndim))
            outputs.append(output)
        count = len(self.graph.outputs)
        observed = [Observed(node, one.detail) for node, one in zip(outputs[count:], self.graph.observed, strict=True)]
        graph = Graph(*outputs[:count], observed=observed)
        return Layout(graph, self.orders, sum(1 for node in graph.nodes if node.operation is COPY))

    def _placed(self, node: Node) -> Node:
        """``node`` over rewritten inputs, with copies of those that it cannot read as they are."""
        inputs = [self.new[source] for source in node.inputs]
        images = _images(node)
        if images:
            inputs = [
                self._dense(source, CHANNELS_LAST if place in images else natural(source.ndim))
                for place, source in enumerate(inputs)
            ]
        elif node.operation is ops.reshape and not only_unit_axes_change(node):
            inputs = [self._reshapable(node, inputs[0])]
        elif _reads_row_major(node):
            inputs = [self._dense(source, natural(source.ndim)) for source in inputs]
        elif node.operation is ops.matmul:
            inputs = [self._viewed(source) for source in inputs]
        made = node if tuple(inputs) == node.inputs else node.over(inputs)
        if not is_movement(made):
            self.orders[made] = self._order(node, made)
        return made

    def _order(self, old: Node, node: Node) -> Order:
        """The order in which to store ``node``, the rewritten form of ``old``."""
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
            return max((self._seen_order(source) for source in node.inputs), key=lambda seen: seen[0])[1]
        if is_reduction(node):
            axes = node.attributes.get("axes") or (node.attributes.get("axis"),)
            order = self._seen_order(node.inputs[0])[1]
            kept = [axis for axis in range(node.inputs[0].ndim) if axis not in axes]
            return tuple(kept.index(axis) for axis in order if axis not in axes)
        return plain

    def _seen_order(self, node: Node) -> tuple[int, Order]:
        """The number of distinct elements in memory that a value consists of, and the order of its axes there."""
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
            return elements, natural(node.ndim)  # the order of whole values counts more than that of a broadcast
        return elements, tuple(ranked)

    def _matmul_order(self, old: Node, node: Node) -> Order:
        """The order in which to store a matrix product: row-major, or with the last two axes swapped.

        The order decides whether the product is computed as it is or transposed (see ``packing``). The one that takes fewer
        copies is chosen, counting those that other users of the product would need.
        """
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
        """Whether a matrix should be stored transposed, to have the order of a matrix that it is combined with elementwise.

        That can be the weight whose gradient it is, which is row-major, or the activation that masks it. None if there is none.
        """
        seen, stack = {node}, [(node, False)]
        met: bool | None = None
        plain = natural(node.ndim)
        swap = (*plain[:-2], plain[-1], plain[-2])
        while stack:
            current, turned = stack.pop()
            if current in self.stored_naturally:
                return turned
            for user in self.consumers.get(current, ()):
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
        """``node`` if its elements are stored in ``order`` without gaps, otherwise a copy of it that is."""
        places = _places(node, self.orders)
        if places is not None and places[0] == 0 and same_places(node.shape, places[1], dense_strides(node.shape, order)):
            return node
        return self._copy(node, order)

    def _copy(self, node: Node, order: Order) -> Node:
        """A copy of ``node`` in ``order``, made once."""
        if (node, order) not in self.copied:
            made = self.copied[node, order] = copy(node, order)
            self.orders[made] = order
        return self.copied[node, order]

    def _reshapable(self, node: Node, x: Node) -> Node:
        """``x`` if the reshape ``node`` can be a view of it, otherwise a row-major copy."""
        places = _places(x, self.orders)
        if places is not None and moved(node, *places) is not None:
            return x
        return self._copy(x, natural(x.ndim))

    def _viewed(self, node: Node) -> Node:
        """``node`` if it is stored or a view, otherwise a row-major copy."""
        return node if _places(node, self.orders) is not None else self._copy(node, natural(node.ndim))


def packing(node: Node, orders: Orders, transposed: bool) -> int:
    """The number of elements to copy before a matrix product can run, as the rows of its right factor must be contiguous.

    ``transposed`` is for the product computed as (right^T left^T)^T, whose right factor is the transposed left one.
    """
    factor = node.inputs[0] if transposed else node.inputs[1]
    if factor.ndim < 2:
        return 0
    places = _places(factor, orders)
    if places is None:
        return 2 * factor.size
    stride = places[1][-2 if transposed else -1]
    return 0 if stride == 1 or factor.shape[-2 if transposed else -1] == 1 else factor.size
