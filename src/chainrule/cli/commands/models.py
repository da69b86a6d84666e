"""``chainrule models``: the models that there are."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from chainrule.cli.app import app
from chainrule.cli.help import Command
from chainrule.errors import unknown_value
from chainrule.models import MODELS


@app.command(
    cls=Command,
    epilog="Examples:\n\n  chainrule models\n\n  chainrule models resnet\n\n  chainrule models --json",
)
def models(
    text: Annotated[str, typer.Argument(help="Only models whose name contains this text.", show_default=False)] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """The models that there are: parameters, multiply-adds, images, receptive fields, papers."""
    from chainrule.cli.tables import models_table

    chosen = {name: entry for name, entry in MODELS.items() if text.lower() in name}
    if not chosen:
        raise unknown_value("model", text, MODELS)
    if as_json:
        facts = ("image", "classes", "least", "parameters", "multiply_adds", "receptive_field", "paper")
        rows = [{"name": name, **{fact: getattr(entry, fact) for fact in facts}} for name, entry in chosen.items()]
        typer.echo(json.dumps(rows))
        return
    models_table(chosen)
