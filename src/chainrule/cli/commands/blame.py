"""``chainrule blame``: which images a trained model finds strangest."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from chainrule.arguments import whole_number
from chainrule.cli.app import app, check_environment
from chainrule.cli.choosing import chosen_model
from chainrule.cli.parsing import NamingCommand
from chainrule.cli.saying import say
from chainrule.display import displayed
from chainrule.errors import unknown_value

_BATCH = 64  # images that are measured at a time; each has gradients of its own meanwhile


@app.command(
    cls=NamingCommand,
    epilog="Examples:\n\n  chainrule blame runs/lenet-mnist-1\n\n  chainrule blame runs/photos --by gradient --count 200\n\n"
    "  chainrule blame runs/photos --split test --json",
)
def blame(
    run: Annotated[Path, typer.Argument(help="Folder of a run.", show_default=False)],
    split: Annotated[str, typer.Option(help="Which images: those of train, or of test.")] = "train",
    by: Annotated[str, typer.Option(help="Order them by loss, or by gradient, its norm for an image alone.")] = "loss",
    count: Annotated[int, typer.Option(help="How many images are named.", min=1)] = 100,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the table (suspects.csv) and the pictures (suspects.png); by default the folder suspects in the "
            "run's.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """The images with the largest losses or gradients: wrong labels, damaged files, rare cases."""
    from chainrule.cli.reading import ReadingProgress, beside, say_notes
    from chainrule.cli.tables import suspects_table
    from chainrule.data import Loader
    from chainrule.train import open_images
    from chainrule.train.config import MOST_COUNTED
    from chainrule.train.diagnosis.suspects import ORDERS, find_suspects, write_suspects
    from chainrule.train.opening import check_data_of_run

    check_environment()
    whole_number("count", count, 1, MOST_COUNTED)
    for what, value, known in (("split", split, ("train", "test")), ("order of suspects", by, ORDERS)):
        if value not in known:
            raise unknown_value(what, value, known)
    trained = chosen_model(run, None, "", movable=False)
    check_data_of_run(trained.source, trained.data, "put its images back there")
    with ReadingProgress(beside()) as progress:
        dataset, notes, files = open_images(trained.data, trained.image_shape, split, progress)
    say_notes(notes, beside())
    loader = Loader(dataset, _BATCH, shuffle=False, transforms=[trained.normalise])
    done = 0
    with ReadingProgress(beside()) as progress:

        def measured(images: int) -> None:
            nonlocal done
            done += images
            progress(f"measuring {dataset.name}", done, len(dataset))

        names = None if files is None else list(map(str, files))
        found = find_suspects(trained.model, loader, by, count, names, measured)
    target = run / "suspects" if out is None else out
    write_suspects(target, found, dataset)
    if as_json:
        typer.echo(json.dumps({"by": found.by, "images": found.images, "suspects": [asdict(one) for one in found.found]}))
        return
    suspects_table(found)
    say(f"\nall {len(found.found):,} as a table, and the first as pictures: {displayed(target)}")
