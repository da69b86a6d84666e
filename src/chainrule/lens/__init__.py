"""The lens: shows every gradient of a computation."""

from __future__ import annotations

from collections.abc import Iterable

from chainrule.arguments import explained
from chainrule.lens.audit import Audit, AuditRow
from chainrule.lens.explain import Explanation, explain
from chainrule.lens.expression import parse_expression, parse_values
from chainrule.lens.layers import LayerRows
from chainrule.lens.rows import Edge, Row, Step, Summand

__all__ = [
    "Audit",
    "AuditRow",
    "Edge",
    "Explanation",
    "LayerRows",
    "Row",
    "Step",
    "Summand",
    "explain",
    "explain_expression",
    "parse_expression",
    "parse_values",
]


@explained
def explain_expression(text: str, assignments: Iterable[str], step: float | None = None) -> tuple[Explanation, list[str]]:
    """Explain what a person typed: ``explain_expression("(w @ x - y)**2", ["w=[1,2]", "x=[3,4]", "y=5"], step=0.1)``.

    Also returns lines to print after the explanation: names that were given but not used, and a step of gradient descent
    for each name.
    """
    values = parse_values(assignments)
    explanation = explain(parse_expression(text, values))
    unused = [name for name, value in values.items() if value.node not in explanation.graph.index]
    notes = [f"note: {name} is given, but the expression does not use it" for name in unused]
    return explanation, notes if step is None else notes + explanation.step_lines(step)
