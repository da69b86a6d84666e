"""``chainrule train``: trains a model, or goes on with a run."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chainrule.cli.app import NOT_READ, app, check_environment
from chainrule.cli.help import Command
from chainrule.cli.output import Output
from chainrule.cli.saying import say_whose_code
from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.signals import die, listener, tell
from chainrule.train.augmentations import AUGMENTATIONS
from chainrule.train.config import Config
from chainrule.train.optimization import OPTIMIZERS, SCHEDULES

if TYPE_CHECKING:
    from chainrule.train import Opened, RunFolder, Trainer


_DEFAULT = Config()
NOTHING_YET = "Stopped; nothing had been trained yet."


@app.command(
    cls=Command,
    epilog="Examples:\n\n  chainrule train\n\n  chainrule train --model mlp --optimizer adam --epochs 5\n\n"
    "  chainrule train --data photos/ --augment flip,crop=4 --out runs/photos\n\n  chainrule train --resume runs/lenet-mnist-1",
)
def train(
    context: typer.Context,
    model: Annotated[
        str, typer.Option(help="Model, one of those that `chainrule models` lists, or FILE.py:FUNCTION.")
    ] = _DEFAULT.model,
    data: Annotated[
        str, typer.Option(help="mnist, or a folder: class/image.png, four IDX files, or CIFAR-10's binary files.")
    ] = _DEFAULT.data,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = _DEFAULT.epochs,
    batch_size: Annotated[int, typer.Option(help="Images per step.")] = _DEFAULT.batch_size,
    optimizer: Annotated[str, typer.Option(help=f"One of {', '.join(OPTIMIZERS)}.")] = _DEFAULT.optimizer,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate (the peak of a one-cycle); each optimizer has its own default.")
    ] = None,
    momentum: Annotated[float, typer.Option(help="Momentum (beta1 of Adam).")] = _DEFAULT.momentum,
    weight_decay: Annotated[float, typer.Option(help="Weight decay.")] = _DEFAULT.weight_decay,
    schedule: Annotated[str, typer.Option(help=f"Learning rate over time: {', '.join(SCHEDULES)}.")] = _DEFAULT.schedule,
    label_smoothing: Annotated[
        float, typer.Option(help="Share of the uniform distribution in the target.")
    ] = _DEFAULT.label_smoothing,
    augment: Annotated[
        str, typer.Option(help=f"{', '.join(AUGMENTATIONS)}, or a list such as shift=2,flip,crop=4.")
    ] = _DEFAULT.augment,
    image_size: Annotated[
        str,
        typer.Option(
            help="Resize the images of a folder to height x width, such as 32x32. By default small ones of one size stay "
            "as they are, and others become 64x64 or less.",
            show_default=False,
        ),
    ] = _DEFAULT.image_size,
    image_mode: Annotated[
        str, typer.Option(help="Convert the images of a folder: L (grey) or RGB.", show_default=False)
    ] = _DEFAULT.image_mode,
    precision: Annotated[str, typer.Option(help="float32, float64, or bfloat16 products.")] = _DEFAULT.precision,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and augmentation.")] = _DEFAULT.seed,
    limit: Annotated[int, typer.Option(help="Use only so many training images; 0 for all.")] = _DEFAULT.limit,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Threads that prepare batches; 0: none, they are prepared between steps. By default 0 for images that lie "
            "in memory, such as MNIST's, else 2.",
            show_default=False,
        ),
    ] = _DEFAULT.workers,
    checkpoint_every: Annotated[
        int, typer.Option(help="Steps between checkpoints; 0: twice a minute and after each epoch.")
    ] = _DEFAULT.checkpoint_every,
    out: Annotated[Path | None, typer.Option(help="Folder for the run; by default runs/<model>-<data>-<number>.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Continue the run in this folder with its own options.")] = None,
) -> None:
    """Train a model; without options, LeNet on MNIST, which ships with chainrule."""
    listener.at_once(NOTHING_YET)
    with contextlib.ExitStack() as held:
        _train(context, out, resume, held)


def _train(context: typer.Context, out: Path | None, resume: Path | None, held: contextlib.ExitStack) -> None:
    """What ``train`` does; the lock on the run's folder is ``held`` to its end."""
    from chainrule.cli.reading import ALL_IN_FILE, ReadingProgress, beside, say_notes
    from chainrule.formats import write_atomically
    from chainrule.train import RunFolder, Trainer, open_datasets

    output: Output = context.obj
    output.goes_on = True
    check_environment()
    options = {name: value for name, value in context.params.items() if name not in ("out", "resume")}
    if resume is not None:
        _only_resume(context)
        folder = RunFolder.open(resume)
        folder.lock.take()
        listener.at_once(f"Stopped before a further step; the run is as it was.\n{_resume(folder)}")
    else:
        config = Config(**options)
        folder = RunFolder.new(out, config) if out is not None else RunFolder.numbered(config)
    held.callback(lambda: folder.lock.release())  # that of the folder which it has then
    with ReadingProgress(beside()) as progress:
        opened = open_datasets(folder.config, progress)
    say_notes(opened.notes, beside(), ALL_IN_FILE)
    folder.config = opened.config
    say_whose_code(folder.config)
    trainer = Trainer(folder, training=opened.training, test=opened.test)
    if resume is not None:
        trainer.resume()
    else:
        folder.make()
        listener.at_once(f"{NOTHING_YET}\n{_resume(folder)}")
    if opened.notes and not folder.notes.exists():
        write_atomically(folder.notes, "".join(f"{note.text()}\n" for note in opened.notes))
    _run(trainer, opened, output)


def _only_resume(context: typer.Context) -> None:
    """A resumed run takes its options from its folder; any other on the line is a mistake."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if name != "resume" and source is not None and source.name == "COMMANDLINE":
            option = "--" + name.replace("_", "-")
            raise UserError(f"{option} cannot be changed by --resume, which takes the run's own options: leave it out")


def _run(trainer: Trainer, opened: Opened, output: Output) -> None:
    from chainrule.cli.watching import ConsoleWatcher
    from chainrule.train import Stopped

    again = _resume(trainer.folder)
    watcher = ConsoleWatcher(
        trainer, opened, output, f"Stopped at once; the steps since the last checkpoint will be repeated.\n{again}"
    )
    try:
        evaluation = trainer.train(watcher)
    except Stopped:
        listener.over()
        watcher.close()
        done = f"step {trainer.progress.step} of {trainer.steps}"
        why = "" if listener.asked else ", as nobody reads the output any more"
        tell(f"Stopped after {done}{why}; everything is saved.\n{again}")
        if listener.asked:
            die(listener.asked)
        raise typer.Exit(NOT_READ) from None
    except UserError as error:
        if isinstance(error.__cause__, OSError):  # nothing is wrong with the run itself
            raise UserError(f"{error}\nThen {again[0].lower()}{again[1:]}") from error
        raise
    finally:
        listener.at_once()
        watcher.close()
    ended = f"Stopped at the end: the training is complete, and everything is saved in {trainer.folder.path}."
    listener.at_once(ended)
    if listener.asked:  # after the last image of the last evaluation
        listener.over()
        tell(ended)
        die(listener.asked)
    watcher.finish(evaluation)
    if output.lost:
        tell(f"The training is complete, and everything is saved in {displayed(trainer.folder.path)}.")


def _resume(folder: RunFolder) -> str:
    from chainrule.train import command_line

    return f"Resume with: {command_line('train', '--resume', folder.path)}"
