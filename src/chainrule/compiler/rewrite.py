"""How a pass changes a graph: node by node from the inputs on, each seen after its inputs were rewritten.

Nodes are never changed; what differs is made anew. Nodes that compute the same are made once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule import ops
from chainrule.graph import Graph, Node
from chainrule.graph.node import CONSTANT
from chainrule.graph.origin import originating_from
from chainrule.ops import running_on

Rule = Callable[[Node], "Node | None"]
"""What a node becomes; None: it stays. The rule may emit new nodes; what it gives is looked at again."""

_MOST_LOOKS = 50
_SYMMETRIC = frozenset({ops.add, ops.multiply, ops.equal, ops.logical_and, ops.logical_or})


class Rewriter:
    """Applies rules to a graph and counts what they changed."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.changed = 0
        self._known: dict[Any, Node] = {}
        self._done: dict[Node, Node] = {}

    def graph(self, graph: Graph) -> Graph:
        """The rewritten graph: each node once, inputs before the nodes that use them."""
        with running_on(None):
            for node in graph.nodes:
                self._rewritten(node)
        return Graph(*(self._done[one] for one in graph.outputs))

    def _rewritten(self, node: Node) -> Node:
        """``node`` over rewritten inputs, after the rule; works through chains that rules emit without recursion."""
        stack = [node]
        while stack:
            one = stack[-1]
            if one in self._done:
                stack.pop()
                continue
            waiting = [source for source in one.inputs if source not in self._done]
            if waiting:
                stack.extend(waiting)
                continue
            stack.pop()
            self._done[one] = self._settled(one)
        return self._done[node]

    def _settled(self, node: Node) -> Node:
        inputs = tuple(self._done[one] for one in node.inputs)
        keys = []
        for _ in range(_MOST_LOOKS):
            if inputs != node.inputs:
                node = node.over(inputs)
            keys.append(key_of(node))
            if keys[-1] in self._known:
                known = self._known[keys[-1]]
                self.changed += known is not node
                node = known
                break
            with originating_from(node.origin):
                found = self.rule(node)
            if found is None or found is node:
                break
            self.changed += 1
            if found in self._done:
                node = self._done[found]
                break
            for one in found.inputs:
                if one not in self._done:
                    self._rewritten(one)
            node, inputs = found, tuple(self._done[one] for one in found.inputs)
        for key in keys:
            self._known[key] = node
        return node


def key_of(node: Node) -> Any:
    """Equal for nodes that compute the same."""
    if node.is_leaf and not node.attributes:
        if node.operation is CONSTANT and node.value is not None and node.size <= 64:
            return ("constant", str(node.type), np.ascontiguousarray(node.value).tobytes())
        return ("leaf", id(node))
    attributes = tuple((name, str(value)) for name, value in sorted(node.attributes.items()))
    inputs = [id(one) for one in node.inputs]
    return (node.operation.name, tuple(sorted(inputs) if node.operation in _SYMMETRIC else inputs), attributes)
