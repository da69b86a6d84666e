"""Names and formulas of nodes, as people write them on a blackboard: ``h1 = w @ x``, ``dh1/dw = x``."""

from __future__ import annotations

import re

from chainrule.graph import CONSTANT, Graph, Node
from chainrule.lens.numbers import number
from chainrule.ops import Primitive, broadcast

_SYMBOLS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "matmul": "@"}
_FORMAL = re.compile(r"\b[xy]\b")  # what primitives call their first and second input


def is_number(node: Node) -> bool:
    """Whether a node is a constant without a name whose elements are all the same number, such as the 2 in ``2 * x``, or what a
    broadcast makes of it."""
    return _number_of(node) is not None


def _number_of(node: Node) -> float | None:
    """The number that ``node`` is; None if it is not just a number."""
    while node.operation is broadcast:
        node = node.inputs[0]
    if node.operation is not CONSTANT or node.label or node.value is None or node.size == 0:
        return None
    first = node.value.flat[0]
    return float(first) if bool((node.value == first).all()) else None


def names(graph: Graph) -> dict[Node, str]:
    """A name per node: its label; the number that it is; ``e`` for the error; ``h1, h2, ...`` for what leads there.

    Leaves without a label are ``c1, c2, ...`` if constant, else ``x1, x2, ...``. No two nodes share a name, numbers apart.
    """
    taken = {node.label for node in graph.nodes if node.label}
    used: dict[str, int] = {}
    found: dict[Node, str] = {}

    def fresh(stem: str) -> str:
        while True:
            used[stem] = used.get(stem, 0) + 1
            name = f"{stem}{used[stem]}"
            if name not in taken:
                return name

    seen: set[str] = set()
    for node in graph.nodes:
        if node.label:
            name = node.label if node.label not in seen else fresh(f"{node.label}#")
            seen.add(name)
        elif (value := _number_of(node)) is not None:
            name = number(value)
        elif node.is_leaf:
            name = fresh("c" if node.operation is CONSTANT else "x")
        elif node in graph.outputs and "e" not in taken:
            name = "e"
        else:
            name = fresh("h")
        found[node] = name
    return found


def formula(node: Node, named: dict[Node, str]) -> str:
    """How the node came to be: ``w @ x``, ``h2 ** 2``, ``maximum(0, h1)``; empty for a leaf."""
    operands = [_operand(named[one]) for one in node.inputs]
    match node.operation.name, operands:
        case _, []:
            return ""
        case ("add" | "subtract" | "multiply" | "divide" | "matmul") as name, [left, right]:
            return f"{left} {_SYMBOLS[name]} {right}"
        case "negative", [one]:
            return f"-{one}"
        case "tensor_power", [base, exponent]:
            return f"{base} ** {exponent}"
        case "power", [one]:
            return f"{one} ** {_operand(number(node.attributes['exponent']))}"
    return f"{node.operation.name}({', '.join(named[one] for one in node.inputs)})"


def local_formula(node: Node, position: int, named: dict[Node, str]) -> str:
    """The local gradient for an input, in the names of the graph: ``x`` for w in ``w @ x``; ``2 * h2`` in ``h2 ** 2``."""
    operands = [_operand(named[one]) for one in node.inputs]
    if node.operation.name == "power":
        return _power_slope(operands[0], node.attributes["exponent"])
    assert isinstance(node.operation, Primitive)  # a leaf has no inputs
    declared = node.operation.local
    words = declared[min(position, len(declared) - 1)]
    if words in ("x", "y"):
        return named[node.inputs["xy".index(words)]]
    return _FORMAL.sub(lambda found: operands["xy".index(found[0])], words)


def _power_slope(base: str, exponent: float) -> str:
    if exponent in (0, 1):
        return number(exponent)
    power = "" if exponent == 2 else f"^{_operand(number(exponent - 1))}"
    return f"{number(exponent)} * {base}{power}"


def _operand(name: str) -> str:
    return f"({name})" if name.startswith("-") else name
