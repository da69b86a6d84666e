"""A graph: the nodes that lead to some outputs, in an order in which they can run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

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


class Graph:
    """The computation of ``outputs``: all their nodes, each after its inputs."""

    def __init__(self, *outputs: Node) -> None:
        self.outputs = outputs
        self.nodes = topological_order(outputs)
        self.index = {node: position for position, node in enumerate(self.nodes)}

    @property
    def leaves(self) -> list[Node]:
        """The nodes without inputs: constants, parameters, buffers, inputs."""
        return [node for node in self.nodes if node.is_leaf]

    def consumers(self) -> dict[Node, list[Node]]:
        """For each node, the nodes that take it as an input (twice where it is taken twice)."""
        consumers_of: dict[Node, list[Node]] = {node: [] for node in self.nodes}
        for node in self.nodes:
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
