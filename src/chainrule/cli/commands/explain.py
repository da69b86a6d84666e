"""``chainrule explain``: every gradient of an expression."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from chainrule.cli.app import app
from chainrule.cli.parsing import FormulaCommand
from chainrule.cli.saying import say
from chainrule.cli.width import columns
from chainrule.display import displayed


@app.command(
    cls=FormulaCommand,
    epilog="Examples:\n\n  chainrule explain \"(w @ x - y)**2\" 'w=[1,2]' 'x=[3,4]' y=5 --step 0.1\n\n"
    "  chainrule explain \"sum(relu(W @ x))\" 'W=[[1,-2],[3,4]]' 'x=[1,1]' --svg relu.svg\n\n"
    '  chainrule explain "-a**2" a=-3',
)
def explain(
    expression: Annotated[str, typer.Argument(help="Arithmetic on the names that follow; it must give one number.")],
    values: Annotated[
        list[str] | None, typer.Argument(help="name=number, or a list in quotes: 'name=\\[1,2]'.", show_default=False)
    ] = None,
    step: Annotated[
        float | None, typer.Option(help="Learning rate: also show one step of gradient descent, w <- w - eta de/dw.")
    ] = None,
    svg: Annotated[Path | None, typer.Option(help="Draw the graph into this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Every node of an expression: its value, and its upstream, local and downstream gradients."""
    from chainrule.formats import write_atomically
    from chainrule.graph.wrapping import wrapped
    from chainrule.lens import explain_expression
    from chainrule.lens.rendering import equation

    explanation, notes = explain_expression(expression, values or [], step)
    if svg is not None:
        write_atomically(svg, explanation.svg(title=f"e = {expression.strip()}"))
    if as_json:
        typer.echo(json.dumps(explanation.to_json()))
        return
    typer.echo(explanation.table(columns()))
    for note in notes:
        typer.echo("\n".join(equation(note, columns()) if " <- " in note else wrapped(note, columns())))
    if svg is not None:
        say(f"drawing: {displayed(svg)}")
