"""The ``chainrule`` command: what a person types (commands), and what they are shown (console)."""

from chainrule.cli.commands import main

__all__ = ["main"]
