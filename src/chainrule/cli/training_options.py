"""The options of ``chainrule train`` for other subcommands, and a configuration as one types it."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import typer

from chainrule.errors import UserError
from chainrule.train.config import Config

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS = tuple(field.name for field in dataclasses.fields(Config) if not field.name.endswith("_digest"))
"""The parameters of ``train`` that are options of a training."""


def takes_training_options(function: F) -> F:
    """Decorator: ``**options`` of a subcommand are all options of a training, as ``chainrule train`` has them."""
    from chainrule.cli.commands.train import train  # which loads this module, if it is loaded first

    own = [one for one in inspect.signature(function, eval_str=True).parameters.values() if one.kind is not one.VAR_KEYWORD]
    theirs = inspect.signature(train, eval_str=True).parameters
    named = [*own, *(theirs[name] for name in OPTIONS)]
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in named]
    vars(function)["__signature__"] = inspect.Signature(parameters)
    function.__annotations__ = {one.name: one.annotation for one in parameters}
    return function


def refuse_options_beside(context: typer.Context, run: object) -> None:
    """UserError if options of a training were typed beside a run, which has its own."""
    for name in OPTIONS:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = "--" + name.replace("_", "-")
            raise UserError(f"{option} cannot be given beside the run {run}, which has its own options: leave one of them out")


def as_typed(config: Config, **changed: object) -> list[object]:
    """The options that make ``chainrule train`` train as ``config`` says, with some of them changed, as words to type."""
    words: list[object] = []
    usual = Config()
    for name in OPTIONS:
        value = changed.get(name, getattr(config, name))
        if value == getattr(usual, name):
            continue
        option = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words.append(option if value else option.replace("--", "--no-", 1))
        else:
            words += [option, f"{value:g}" if isinstance(value, float) else value]
    return words
