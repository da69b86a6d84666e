"""The lens: shows every gradient of a computation."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from chainrule.arguments import explained
from chainrule.lens.audit import Audit, AuditRow
from chainrule.lens.explain import Explanation, explain
from chainrule.lens.exported_page import ExportedPage
from chainrule.lens.expression import parse_expression, parse_values
from chainrule.lens.layers import LayerRows
from chainrule.lens.rows import Edge, Row, Step, Summand

if TYPE_CHECKING:
    from chainrule.nn import Module
    from chainrule.train import RunFolder, TrainedModel

__all__ = [
    "Audit",
    "AuditRow",
    "Edge",
    "Explanation",
    "ExportedPage",
    "LayerRows",
    "Row",
    "Step",
    "Summand",
    "explain",
    "explain_expression",
    "page",
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


@explained
def page(
    shown: str | os.PathLike[str] | RunFolder | TrainedModel | Module | None = None, image: Any = None, label: int | None = None
) -> ExportedPage:
    """The lens's page on a network, with the pass of one image: a notebook shows it below the cell, ``save`` writes a file.

        cr.lens.page("runs/lenet-mnist-1", image=7)
        cr.lens.page(model, image=pixels, label=3).save("page.html")

    Args:
        shown: the folder of a run, a ``RunFolder``, a ``TrainedModel``, or any model that gives scores (1, classes) for an
            image (1, C, H, W), which is looked at in evaluation form; by default the LeNet that ships with chainrule.
        image: the number of a test image (by default the first one), the name of an image file, or an array (C, H, W) of bytes
            or of numbers from 0 to 1. A model by itself needs such an array, and gets it as it is, bytes divided by 255.
        label: the class of an array, whose loss is taken; without one it is the class that is most probable.

    Raises:
        UserError: there is no such run or image, the image does not fit the model, or the pass does not fit into memory.
    """
    from chainrule.lens.server.choosing import page_of_subject  # the server's libraries are loaded by those who ask for a page

    return page_of_subject(shown, image, label)
