"""The subcommands, a file each: what a person types, and how it is answered. Everything else is in the library."""

from importlib import import_module

ORDER = ("train", "evaluate", "predict", "models", "summary", "explain")
"""The subcommands as the help lists them: a module with a function of that name, each added to the app as it is loaded."""

for _name in ORDER:
    import_module(f"chainrule.cli.commands.{_name}")
