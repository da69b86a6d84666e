"""The ``chainrule`` command as a whole: its help, its exit statuses, and how a mistake is answered."""

from __future__ import annotations

import functools
import sys
import warnings
from typing import Annotated, Any

import typer

from chainrule import __version__
from chainrule.cli.output import OutputError, UnreadError, noticed_output
from chainrule.cli.parsing import CommandGroup
from chainrule.cli.saying import complain, warn
from chainrule.cli.width import settle
from chainrule.display import displayed
from chainrule.errors import InternalError, UserError
from chainrule.tensor.backend import backend
from chainrule.tensor.engines import check_engine, is_reference

UNREAD, REFUSED, BUG, NOT_READ = 1, 2, 70, 128 + 13  # as the help says; the last is what a shell shows for SIGPIPE, signal 13

_STATUSES = """Exit status:

0    all is done

1    predict could not read some of the images

2    what was typed, or what it names, cannot be used

70   a bug in chainrule

129  stopped, as the terminal has gone (SIGHUP)

130  stopped by Ctrl-C (SIGINT)

141  stopped, as nobody reads the output any more (SIGPIPE)

143  stopped by kill (SIGTERM)"""

app = typer.Typer(
    cls=CommandGroup,
    help="Trains convolutional networks fast on the machine you have, and shows you every gradient.",
    epilog=_STATUSES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command: a user's mistake gets one message and exit status 2, never a traceback."""
    settle()
    usual, warnings.showwarning = warnings.showwarning, warn
    with noticed_output() as output:
        try:
            _command()(obj=output)
        except UserError as error:
            complain(str(error))
            sys.exit(REFUSED)
        except InternalError as error:
            complain(f"{error}\nThis is a bug in chainrule: please report it with this message.")
            sys.exit(BUG)
        except MemoryError as error:
            complain(f"there is not enough memory{f' ({error})' if str(error) else ''}: smaller sizes would need less")
            sys.exit(REFUSED)
        except UnreadError:  # the reader of a pipe has seen enough
            sys.exit(NOT_READ)
        except OutputError as error:
            complain(f"standard output cannot be written ({error.strerror})")
            sys.exit(REFUSED)
        except OSError as error:  # the system refuses something that no part of chainrule foresaw
            if error.filename is None:
                raise
            complain(f"{displayed(error.filename)}: {error.strerror}")
            sys.exit(REFUSED)
        finally:
            warnings.showwarning = usual


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"chainrule {__version__}")
        raise typer.Exit


@functools.cache
def _command() -> Any:
    """The command with its subcommands and their options: made once, from the signatures of functions, which takes long."""
    return typer.main.get_command(app)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    check_engine()


def check_environment() -> None:
    """UserError if a variable that native code obeys means nothing: said before anything is read or made."""
    if not is_reference():
        backend().check_environment()
