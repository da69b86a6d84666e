"""A graph: the nodes that lead to some outputs, in an order in which they can run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from chainrule.graph.node import Node


def topological_order(outputs: Iterable[Node], follow: Callable[[Node], bool] | None = None) -> list[Node]:
    """Every node that ``outputs`` depend on, each after its inputs; iterative, so a chain of 100,000 nodes is fine.

    If ``follow`` is given, only nodes for which it holds are listed and walked through.
    """
    order: list[Node] = []
    seen: set[Node] = set()
    for output in outputs:
        if output in seen or not (follow is None or follow(output)):
            continue
        seen.add(output)
        stack = [(output, iter(output.inputs))]
        while stack:
            node, inputs = stack[-1]
            for input_node in inputs:
                if input_node not in seen and (follow is None or follow(input_node)):
                    seen.add(input_node)
                    stack.append((input_node, iter(input_node.inputs)))
                    break
            else:
                order.append(node)
                stack.pop()
    return order


class Observed(NamedTuple):
    """A value that is looked at while the outputs are computed: in runs whose detail is ``detail`` (1 or more) or higher."""

    node: Node
    detail: int


class Graph:
    """The computation of ``outputs``: all their nodes, each after its inputs.

    Values that are ``observed`` beside are for whoever watches. Nodes that only these need come last, from number ``needed``
    on, and count as nobody's consumers: no pass of the compiler decides otherwise about the outputs because of them.
    """

    def __init__(self, *outputs: Node, observed: Sequence[Observed] = ()) -> None:
        self.outputs, self.observed = outputs, tuple(observed)
        self.nodes = topological_order(outputs)
        self.needed = len(self.nodes)
        if observed:
            self.nodes = topological_order(self.ends)
        self.index = {node: position for position, node in enumerate(self.nodes)}

    @property
    def ends(self) -> tuple[Node, ...]:
        """The outputs, and then the observed values."""
        return (*self.outputs, *(one.node for one in self.observed))

    @property
    def leaves(self) -> list[Node]:
        """The nodes without inputs: constants, parameters, buffers, inputs."""
        return [node for node in self.nodes if node.is_leaf]

    def consumers(self) -> dict[Node, list[Node]]:
        """For each node, the nodes needed for the outputs that take it as an input (twice where it is taken twice)."""
        consumers_of: dict[Node, list[Node]] = {node: [] for node in self.nodes}
        for node in self.nodes[: self.needed]:
            for input_node in node.inputs:
                consumers_of[input_node].append(node)
        return consumers_of

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in Counter(n.operation.name for n in self.nodes).most_common(6))
        return f"<Graph of {len(self.nodes)} nodes: {counts}>"
