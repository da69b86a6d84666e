"""``chainrule convert``: the tensors of a file of PyTorch, in a safetensors file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainrule.cli.app import app
from chainrule.cli.parsing import NamingCommand
from chainrule.cli.saying import say
from chainrule.display import displayed

_MOST_NAMED = 6


@app.command(
    cls=NamingCommand,
    epilog="Examples:\n\n  chainrule convert resnet18.pth\n\n  chainrule convert checkpoint.pt weights.safetensors --entry ema",
)
def convert(
    file: Annotated[Path, typer.Argument(help="File of torch.save: .pth, .pt, .bin, ...")],
    out: Annotated[
        Path | None,
        typer.Argument(help="File to write; by default the same name, ending in .safetensors.", show_default=False),
    ] = None,
    entry: Annotated[
        str,
        typer.Option(
            help="Which entry of the file to take, such as state_dict or ema.model. By default the usual one.",
            show_default=False,
        ),
    ] = "",
) -> None:
    """Take the tensors out of a pickle of PyTorch; none of its code is run."""
    from chainrule.formats import WeightFile, convert_torch_file
    from chainrule.models import nearest_model
    from chainrule.train import command_line

    made = convert_torch_file(file, out, entry)
    if made.entry or made.left_out:
        named = ", ".join(made.left_out[:_MOST_NAMED]) + (", ..." if len(made.left_out) > _MOST_NAMED else "")
        whose = f"of its entry {displayed(made.entry)}" if made.entry else "of the file itself"
        say(f"taken: the tensors {whose}" + (f"; left out: {named}" if named else ""))
    say(f"{displayed(made.path)}: {made.tensors:,} tensors, {made.numbers:,} numbers ({', '.join(made.dtypes)})")
    fit = nearest_model(WeightFile(made.path))
    if fit is not None and fit.whole:
        say(f"It fits {fit.name} of {fit.classes:,} classes.")
        say(f"use it: {command_line('predict', '--weights', made.path, 'IMAGE...')}")
