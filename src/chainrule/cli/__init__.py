"""The ``chainrule`` command: what a person types (commands), and what they are shown (watching, tables)."""

from chainrule.signals import listener

__all__ = ["main"]


def main() -> None:
    """Run the command with what is in ``sys.argv``; signals end it with a sentence, from before the commands are loaded."""
    with listener:
        from chainrule.cli import app, commands  # noqa: F401 - the commands are the app's once they are loaded

        app.main()
