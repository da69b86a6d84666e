"""``chainrule lens``: a page that shows every gradient of a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chainrule.arguments import whole_number
from chainrule.cli.app import app, check_environment
from chainrule.cli.parsing import NamingCommand
from chainrule.cli.saying import say, say_beside, say_whose_code
from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.signals import listener

if TYPE_CHECKING:
    from chainrule.lens.server.subject import Subject

_DEFAULT_PORT = 8517  # as that of ``lens.server.serving``, which is loaded only when the command runs


@app.command(
    cls=NamingCommand,
    epilog="Examples:\n\n  chainrule lens\n\n  chainrule lens --image my-seven.png\n\n  chainrule lens runs/lenet-mnist-1\n\n"
    "  chainrule lens runs/lenet-mnist-1 --no-browser --port 9000\n\n"
    "  chainrule lens runs/lenet-mnist-1 --image 7 --export seven.html",
)
def lens(
    run: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of a run, which may still be training; by default the LeNet that ships with chainrule, on digits.",
            show_default=False,
        ),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(
            help="Begin with this image: a file, or the number of a test image (./7 for a file whose name is a number).",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(help="Where the page is; the next one that is free if it is in use, and any for 0.", min=0)
    ] = _DEFAULT_PORT,
    export: Annotated[
        Path | None,
        typer.Option(
            help="Write the page into this file (.html) instead, with the pass of one image; it needs no server, no network.",
            show_default=False,
        ),
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address, and open no browser.")] = False,
) -> None:
    """Show a network and its training on a page in the browser: every value, every gradient, step by step."""
    from chainrule.lens.server.serving import LensServer, open_browser
    from chainrule.lens.server.subject import Subject
    from chainrule.train import RunFolder
    from chainrule.train.config import check_code

    check_environment()
    whole_number("port", port, 0, 65_535)
    if export is not None and export.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--export {displayed(export)}: the name must end with .html, as it is a page for a browser")
    if run is None:
        subject = Subject.shipped()
    else:
        folder = RunFolder.open(run)
        check_code(displayed(run), folder.config, False)
        say_whose_code(folder.config.model, folder.config.model_digest)
        subject = Subject.of_run(folder)
    number = None if image is None else subject.show(image)
    for note in () if number is None else subject.image(number).notes:
        say_beside("note: ", "bold", note)
    if export is not None:
        _write(subject, number, export)
        return
    server = LensServer(subject, port, keep_token=True)
    if port not in (0, server.port):
        say_beside("note: ", "bold", f"port {port} is in use: the lens is at {server.port}")
    address = server.address if number is None else f"{server.address}#/backward?image={number}"
    typer.echo(address)
    if no_browser or not open_browser(address):
        say("Open this address in a browser; Ctrl-C closes the lens.")
    listener.at_once("The lens is closed.")
    server.run()


def _write(subject: Subject, number: int | None, file: Path) -> None:
    """What ``--export`` does."""
    from chainrule.formats import write_atomically
    from chainrule.lens.server.export import exported
    from chainrule.train.room import size_text

    content = exported(subject, number).encode()
    write_atomically(file, content)
    say(f"page: {displayed(file)} ({size_text(len(content))})")
