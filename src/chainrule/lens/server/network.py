"""The network as the page draws it: nodes of the loss of one image, and the modules that they belong to."""

from __future__ import annotations

from typing import Any

from chainrule.graph import BUFFER, CONSTANT, INPUT, PARAMETER, Graph, Node
from chainrule.graph.dtypes import name_of as name_of_dtype
from chainrule.graph.node import Operation
from chainrule.lens.naming import formula, is_number
from chainrule.lens.tracing import Pass
from chainrule.nn import Module
from chainrule.train.diagnosis.findings import user_line

LEAVES: dict[Operation, str] = {PARAMETER: "parameter", BUFFER: "buffer", INPUT: "input", CONSTANT: "constant"}


def network(example: Pass, model: Module) -> dict[str, Any]:
    """Nodes and modules of the loss of an image. An id is the place of a node in the graph; constants that are numbers are left
    out."""
    graph, named = example.graph, example.names
    shown = [node for node in graph.nodes if not is_number(node)]
    return {
        "nodes": [_node(node, graph, named) for node in shown],
        "modules": modules(model, shown),
        "loss": graph.index[graph.outputs[0]],
        "image": graph.index.get(example.image),
        "scores": graph.index.get(example.scores),
    }


def _node(node: Node, graph: Graph, named: dict[Node, str]) -> dict[str, Any]:
    return {
        "id": graph.index[node],
        "op": node.operation.name,
        "kind": node.origin.kind or ("function" if node.origin.function else ""),
        "name": named[node],
        "formula": formula(node, named),
        "role": node.operation.role.value,
        "module": node.origin.module or node.origin.function,
        "inputs": [graph.index[one] for one in node.inputs if not is_number(one)],
        "shape": list(node.shape),
        "dtype": name_of_dtype(node.dtype),
        "leaf": LEAVES.get(node.operation) if node.is_leaf else None,
        "gradient": node.requires_grad,
        "line": user_line(node.origin),
        "convolution": _geometry(node),
    }


def _geometry(node: Node) -> dict[str, Any] | None:
    """Stride, padding, dilation and groups of a convolution; None for anything else."""
    given = node.attributes
    if not node.operation.name.startswith("conv") or "groups" not in given:
        return None
    return {
        "stride": list(given["stride"]),
        "padding": [before for before, _ in given["padding"]],
        "padding_after": [after for _, after in given["padding"]],
        "dilation": list(given["dilation"]),
        "groups": given["groups"],
    }


def modules(model: Module, nodes: list[Node]) -> list[dict[str, Any]]:
    """The modules that nodes belong to, and those around them, in the order of the model; functions outside of it come last."""
    used = {node.origin.module for node in nodes if node.origin.kind}
    around = used | {path[:end] for path in used for end in range(len(path)) if path[end] == "."}
    kinds = {path: type(module).__name__ for path, module in model.named_modules()}
    kinds |= {node.origin.module: node.origin.kind for node in nodes if node.origin.kind and node.origin.module not in kinds}
    kinds |= dict.fromkeys((node.origin.function for node in nodes if node.origin.function not in kinds), "function")
    around |= {node.origin.function for node in nodes}
    return [
        {"path": path, "parent": path.rpartition(".")[0], "kind": kind}
        for path, kind in kinds.items()
        if path in around and path
    ]
