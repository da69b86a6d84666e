"""Groups the nodes that share a box when a graph is drawn by layers: those of one call of a layer, without making cycles.

Outside of layers, the nodes of one call of a function, such as ``cross_entropy``, share a box.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from chainrule.graph.graph import Graph
from chainrule.graph.node import CONSTANT, INPUT, Node


@dataclass
class Group:
    """Nodes that share a box; ``path`` is the path of their layer in the model, or the name of their function; empty for a node
    on its own."""

    path: str
    nodes: list[Node]


def module_groups(graph: Graph) -> list[Group]:
    """One group for each call of a layer or a function, with the leaves that only this call reads; any other node is a group on
    its own.

    A layer's nodes that are linked to each other share a group, unless a path leads out of the group and back in: then the
    node where it comes back starts a new group, so that the groups form a graph without cycles.
    """
    runs = _linked_in_module(graph)
    functions = Counter(node.origin.call for node in graph.nodes if not node.is_leaf)  # how many nodes a call of one made
    parts: dict[Node, list[Group]] = {}  # the groups of each run, in order
    group_of: dict[Node, Group] = {}
    users: dict[int, list[Group]] = {}  # the groups that read each group, by its id
    groups: list[Group] = []
    for node in graph.nodes:
        if node.is_leaf:
            continue
        path = node.origin.module or (node.origin.function if functions[node.origin.call] > 1 else "")
        reads = [group_of[input_node] for input_node in node.inputs if input_node in group_of]
        parts_of_run = parts.setdefault(runs[node], [])
        if path and parts_of_run and not _leads_to(parts_of_run[-1], reads, users):
            group = parts_of_run[-1]
            group.nodes.append(node)
        else:
            group = Group(path, [node])
            parts_of_run.append(group)
            groups.append(group)
        group_of[node] = group
        for read in reads:
            if read is not group:
                users.setdefault(id(read), []).append(group)
    for leaf, consumers in graph.consumers().items():
        if leaf.is_leaf:
            readers = {id(group_of[user]): group_of[user] for user in consumers}
            reader = next(iter(readers.values()), None)
            if reader and reader.path and len(readers) == 1 and leaf not in graph.outputs and _joins(leaf, reader):
                reader.nodes.append(leaf)
            else:
                groups.append(Group("", [leaf]))
    for group in groups:
        group.nodes.sort(key=graph.index.__getitem__)
    # sorted by the first node that is not a leaf: a layer's parameter may stand long before the layer's later calls
    return sorted(groups, key=lambda group: min((n.is_leaf, graph.index[n]) for n in group.nodes)[1])


def _linked_in_module(graph: Graph) -> dict[Node, Node]:
    """For each node that is not a leaf, the representative of all nodes linked to it within its layer (union-find)."""
    parent = {node: node for node in graph.nodes if not node.is_leaf}

    def find(node: Node) -> Node:
        while parent[node] is not node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for node in parent:
        for input_node in node.inputs:
            if input_node in parent and _same_call(input_node, node):
                parent[find(input_node)] = find(node)
    return {node: find(node) for node in parent}


def _same_call(a: Node, b: Node) -> bool:
    return a.origin.module == b.origin.module and a.origin.call == b.origin.call


def _leads_to(group: Group, reads: list[Group], users: dict[int, list[Group]]) -> bool:
    """Whether a path leads from ``group`` to another group in ``reads``: then a node that reads these cannot join the group."""
    wanted = {id(read) for read in reads if read is not group}
    seen: set[int] = set()
    stack = list(users.get(id(group), ())) if wanted else []
    while stack:
        group_on_path = stack.pop()
        if id(group_on_path) in wanted:
            return True
        if id(group_on_path) not in seen:
            seen.add(id(group_on_path))
            stack += users.get(id(group_on_path), ())
    return False


def _joins(leaf: Node, reader: Group) -> bool:
    """Whether a leaf belongs into the box of the only layer that reads it; data from outside (an image, a target) does not."""
    if leaf.operation is CONSTANT:
        return not leaf.label and (leaf.size == 1 or leaf.origin.module == reader.path or leaf.origin.function == reader.path)
    return leaf.operation is not INPUT
