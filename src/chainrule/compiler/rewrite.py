"""Rewriting a graph by rules, node by node from the inputs to the outputs, so that each node is seen with rewritten inputs.

Nodes are immutable: a node that changes is replaced by a new one. Nodes that compute the same value become one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule import ops
from chainrule.graph import Graph, Node, Observed
from chainrule.graph.node import CONSTANT
from chainrule.graph.origin import originating_from
from chainrule.ops import running_on

Rule = Callable[[Node], "Node | None"]
"""Gives the replacement of a node, or None to keep it. It may make new nodes, to all of which the rule is applied in turn."""

_MOST_LOOKS = 50
"""The most times that the rule is applied to a node and its replacements."""
_SYMMETRIC = frozenset({ops.add, ops.multiply, ops.equal, ops.logical_and, ops.logical_or})


class Rewriter:
    """Applies a rule to the nodes of a graph. ``changed`` counts the nodes that were replaced."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.changed = 0
        self._known: dict[Any, Node] = {}
        self._done: dict[Node, Node] = {}

    def graph(self, graph: Graph) -> Graph:
        """The rewritten graph."""
        with running_on(None):
            for node in graph.nodes:
                self._rewritten(node)
        observed = [Observed(self._done[one.node], one.detail) for one in graph.observed]
        return Graph(*(self._done[output] for output in graph.outputs), observed=observed)

    def _rewritten(self, node: Node) -> Node:
        """The replacement of ``node``, after those of its inputs. Without recursion, as rules can make long chains of nodes."""
        stack = [node]
        while stack:
            current = stack[-1]
            if current in self._done:
                stack.pop()
                continue
            waiting = [source for source in current.inputs if source not in self._done]
            if waiting:
                stack.extend(waiting)
                continue
            stack.pop()
            self._done[current] = self._settled(current)
        return self._done[node]

    def _settled(self, node: Node) -> Node:
        """The replacement of ``node``, whose inputs are rewritten: the rule is applied until it changes nothing."""
        inputs = tuple(self._done[source] for source in node.inputs)
        keys = []
        for _ in range(_MOST_LOOKS):
            if inputs != node.inputs:
                node = node.over(inputs)
            keys.append(key_of(node))
            known = self._known.get(keys[-1])
            if known is not None:
                self.changed += known is not node
                node = known
                break
            with originating_from(node.origin):
                replacement = self.rule(node)
            if replacement is None or replacement is node:
                break
            self.changed += 1
            if replacement in self._done:
                node = self._done[replacement]
                break
            for source in replacement.inputs:
                if source not in self._done:
                    self._rewritten(source)
            node, inputs = replacement, tuple(self._done[source] for source in replacement.inputs)
        for key in keys:
            self._known[key] = node
        return node


def key_of(node: Node) -> Any:
    """A key that is equal for two nodes if they compute the same value."""
    if node.is_leaf and not node.attributes:
        if node.operation is CONSTANT and node.value is not None and node.size <= 64:
            return ("constant", str(node.type), np.ascontiguousarray(node.value).tobytes())
        return ("leaf", id(node))
    given = node.attributes
    attributes = tuple([(name, str(given[name])) for name in sorted(given)]) if given else ()
    inputs = [id(source) for source in node.inputs]
    if node.operation in _SYMMETRIC:
        inputs.sort()
    return (node.operation.name, tuple(inputs), attributes)
