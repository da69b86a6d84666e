"""The subcommands, a file each: what a person types, and how it is answered. Everything else is in the library.

Each adds itself to the app as it is loaded, so the help lists them in the order of these lines.
"""

# isort: off
from chainrule.cli.commands import train as train
from chainrule.cli.commands import lr as lr
from chainrule.cli.commands import evaluate as evaluate
from chainrule.cli.commands import health as health
from chainrule.cli.commands import compare as compare
from chainrule.cli.commands import blame as blame
from chainrule.cli.commands import predict as predict
from chainrule.cli.commands import models as models
from chainrule.cli.commands import summary as summary
from chainrule.cli.commands import explain as explain
from chainrule.cli.commands import lens as lens
from chainrule.cli.commands import replay as replay
from chainrule.cli.commands import convert as convert
