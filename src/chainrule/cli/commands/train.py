"""``chainrule train``: trains a model, or goes on with a run."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chainrule.cli.app import NOT_READ, app, check_environment
from chainrule.cli.help import Command
from chainrule.cli.output import Output
from chainrule.cli.saying import say_whose_code
from chainrule.cli.width import columns
from chainrule.data.named import folder_of_images
from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.signals import die, listener, tell
from chainrule.train.augmentations import AUGMENTATIONS
from chainrule.train.config import Config, check_code, elsewhere
from chainrule.train.optimization import OPTIMIZERS, SCHEDULES

if TYPE_CHECKING:
    from chainrule.train import RunFolder, Trainer
    from chainrule.train.opening import Opened


_DEFAULT = Config()
NOTHING_YET = "Stopped; nothing had been trained yet."


_WITH_RESUME = ("resume", "on_nan", "data", "model", "lens")
"""Parameters that may stand beside --resume; the last two say where files of the run are now."""

_NOT_OF_THE_RUN = ("out", "resume", "max_memory", "max_time", "lens")
"""Parameters that say nothing of what is trained."""

_MODEL, _UPDATES = "Model and data", "Optimisation"
_VARIETY, _RUN = "Augmentation and regularisation", "Run"
"""Titles of the groups of options in the help."""


@app.command(
    cls=Command,
    epilog="Examples:\n\n  chainrule train\n\n  chainrule train --model mlp --optimizer adam --epochs 5\n\n"
    "  chainrule train --data photos/ --augment flip,crop=4 --out runs/photos\n\n"
    "  chainrule train --model resnet18 --weights FILE --data photos/ --freeze 'conv1|bn1|layer[1-3]' --lr 0.01\n\n"
    "  chainrule train --model resnet20 --data photos/ --mixup 0.2 --ema 0.999 --warm-up 0.1 --schedule cosine\n\n"
    "  chainrule train --resume runs/lenet-mnist-1",
)
def train(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Option(help="Model, one of those that `chainrule models` lists, or FILE.py:FUNCTION.", rich_help_panel=_MODEL),
    ] = _DEFAULT.model,
    weights: Annotated[
        str,
        typer.Option(
            help="File of weights to begin with (safetensors), or a run's folder; a classifier for other classes is replaced.",
            show_default=False,
            rich_help_panel=_MODEL,
        ),
    ] = _DEFAULT.weights,
    freeze: Annotated[
        str,
        typer.Option(
            help="Pattern of parts that are not trained, such as 'conv1|layer\\[1-3]'; see `chainrule summary MODEL`.",
            show_default=False,
            rich_help_panel=_MODEL,
        ),
    ] = _DEFAULT.freeze,
    data: Annotated[
        str,
        typer.Option(
            help="mnist, or a folder: class/image.png, four IDX files, or CIFAR-10's binary files.", rich_help_panel=_MODEL
        ),
    ] = _DEFAULT.data,
    image_size: Annotated[
        str,
        typer.Option(
            help="Resize the images of a folder to height x width, such as 32x32. By default small ones of one size stay "
            "as they are, and others become 64x64 or less.",
            show_default=False,
            rich_help_panel=_MODEL,
        ),
    ] = _DEFAULT.image_size,
    image_mode: Annotated[
        str,
        typer.Option(help="Convert the images of a folder: L (grey) or RGB.", show_default=False, rich_help_panel=_MODEL),
    ] = _DEFAULT.image_mode,
    normalise: Annotated[
        str,
        typer.Option(
            help="What images are normalised by: images (their own mean and standard deviation), imagenet, or MEAN/STD, such "
            "as 0.5/0.5. By default as --weights were trained, and without weights images.",
            show_default=False,
            rich_help_panel=_MODEL,
        ),
    ] = _DEFAULT.normalise,
    limit: Annotated[
        int, typer.Option(help="Use only so many training images; 0 for all.", rich_help_panel=_MODEL)
    ] = _DEFAULT.limit,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.", rich_help_panel=_UPDATES)] = _DEFAULT.epochs,
    batch_size: Annotated[
        int, typer.Option(help="Images that go through the model at once.", rich_help_panel=_UPDATES)
    ] = _DEFAULT.batch_size,
    accumulate: Annotated[
        int,
        typer.Option(help="Batches for one step: their gradients are those of one large batch.", rich_help_panel=_UPDATES),
    ] = _DEFAULT.accumulate,
    optimizer: Annotated[
        str, typer.Option(help=f"One of {', '.join(OPTIMIZERS)}.", rich_help_panel=_UPDATES)
    ] = _DEFAULT.optimizer,
    lr: Annotated[
        float | None,
        typer.Option(
            help="Learning rate (the peak of a one-cycle); each optimizer has its own default.", rich_help_panel=_UPDATES
        ),
    ] = None,
    lr_of: Annotated[
        str,
        typer.Option(
            help="Learning rates of parts, by pattern, such as fc=0.1,layer4=0.01.",
            show_default=False,
            rich_help_panel=_UPDATES,
        ),
    ] = _DEFAULT.lr_of,
    momentum: Annotated[float, typer.Option(help="Momentum (beta1 of Adam).", rich_help_panel=_UPDATES)] = _DEFAULT.momentum,
    nesterov: Annotated[
        bool, typer.Option(help="Nesterov's form of the momentum of sgd.", rich_help_panel=_UPDATES)
    ] = _DEFAULT.nesterov,
    weight_decay: Annotated[float, typer.Option(help="Weight decay.", rich_help_panel=_UPDATES)] = _DEFAULT.weight_decay,
    clip_norm: Annotated[
        float, typer.Option(help="Scale gradients to this norm where it is larger; 0: never.", rich_help_panel=_UPDATES)
    ] = _DEFAULT.clip_norm,
    clip_value: Annotated[
        float, typer.Option(help="Cut each element of a gradient off at this size; 0: never.", rich_help_panel=_UPDATES)
    ] = _DEFAULT.clip_value,
    schedule: Annotated[
        str, typer.Option(help=f"Learning rate over time: {', '.join(SCHEDULES)}.", rich_help_panel=_UPDATES)
    ] = _DEFAULT.schedule,
    warm_up: Annotated[
        float,
        typer.Option(
            help="Steps in which the learning rate rises; below 1, their share of all. By default 0.3 for a one-cycle, else 0.",
            show_default=False,
            rich_help_panel=_UPDATES,
        ),
    ] = _DEFAULT.warm_up,
    ema: Annotated[
        float,
        typer.Option(
            help="Keep and test averages of the weights, with this decay, such as 0.999; 0: the weights themselves.",
            rich_help_panel=_UPDATES,
        ),
    ] = _DEFAULT.ema,
    patience: Annotated[
        int,
        typer.Option(
            help="Stop after so many epochs without a better one, and keep the best; 0: never, and keep the last.",
            rich_help_panel=_UPDATES,
        ),
    ] = _DEFAULT.patience,
    augment: Annotated[
        str,
        typer.Option(
            help=f"{', '.join(AUGMENTATIONS)}, or a list such as flip,crop=4,cutout=8,jitter=0.2.", rich_help_panel=_VARIETY
        ),
    ] = _DEFAULT.augment,
    mixup: Annotated[
        float, typer.Option(help="Mix images in pairs, by shares from Beta(a, a) of this a; 0: not.", rich_help_panel=_VARIETY)
    ] = _DEFAULT.mixup,
    cutmix: Annotated[
        float,
        typer.Option(
            help="Put boxes of other images in, by areas from Beta(a, a) of this a; 0: not.", rich_help_panel=_VARIETY
        ),
    ] = _DEFAULT.cutmix,
    label_smoothing: Annotated[
        float, typer.Option(help="Share of the uniform distribution in the target.", rich_help_panel=_VARIETY)
    ] = _DEFAULT.label_smoothing,
    flip_test: Annotated[
        bool,
        typer.Option("--flip-test", help="Judge images as they are and mirrored, and take the mean.", rich_help_panel=_VARIETY),
    ] = _DEFAULT.flip_test,
    precision: Annotated[
        str, typer.Option(help="float32, float64, or bfloat16 products.", rich_help_panel=_RUN)
    ] = _DEFAULT.precision,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and augmentation.", rich_help_panel=_RUN)] = _DEFAULT.seed,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Threads that prepare batches; 0: none, they are prepared between steps. By default 0 for images that lie "
            "in memory, such as MNIST's, else 2.",
            show_default=False,
            rich_help_panel=_RUN,
        ),
    ] = _DEFAULT.workers,
    silence: Annotated[
        str,
        typer.Option(
            help="Names of notes on what looks wrong that are not wanted, such as identical-images, or all; see docs/lint.md.",
            show_default=False,
            rich_help_panel=_RUN,
        ),
    ] = _DEFAULT.silence,
    health: Annotated[
        bool,
        typer.Option(
            "--health/--no-health",
            help="Record gradients, updates and units that are always 0, for `chainrule health`.",
            rich_help_panel=_RUN,
        ),
    ] = _DEFAULT.health,
    checkpoint_every: Annotated[
        int,
        typer.Option(help="Steps between checkpoints; 0: twice a minute and after each epoch.", rich_help_panel=_RUN),
    ] = _DEFAULT.checkpoint_every,
    on_nan: Annotated[
        str,
        typer.Option(
            help="What to do about a step that is not finite: explain finds its first cause, keeps the step and stops; stop "
            "stops at once; skip goes on without it.",
            rich_help_panel=_RUN,
        ),
    ] = _DEFAULT.on_nan,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the run; by default runs/<model>-<data>-<number>.", rich_help_panel=_RUN)
    ] = None,
    max_memory: Annotated[
        str,
        typer.Option(
            help="Refuse a training that needs more memory, such as 2GB, before it begins.",
            show_default=False,
            rich_help_panel=_RUN,
        ),
    ] = "",
    max_time: Annotated[
        str,
        typer.Option(
            help="Refuse a training that takes longer, such as 30m or 2h, once its first steps are measured.",
            show_default=False,
            rich_help_panel=_RUN,
        ),
    ] = "",
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Continue the run in this folder with its own options; --data and --model say where its files are now.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    lens: Annotated[
        bool,
        typer.Option("--lens", help="Open a page in the browser that shows the training as it runs.", rich_help_panel=_RUN),
    ] = False,
) -> None:
    """Train a model; without options, LeNet on MNIST, which ships with chainrule."""
    listener.at_once(NOTHING_YET)
    with contextlib.ExitStack() as held:
        _train(context, out, resume, held)


def _train(context: typer.Context, out: Path | None, resume: Path | None, held: contextlib.ExitStack) -> None:
    """What ``train`` does; the lock on the run's folder is ``held`` to its end."""
    from chainrule.cli.lens_beside import lens_beside
    from chainrule.cli.reading import ALL_IN_FILE, ReadingProgress, beside, say_notes
    from chainrule.formats import write_atomically
    from chainrule.train import RunFolder, Trainer, open_datasets
    from chainrule.train.forecast import read_memory, read_time
    from chainrule.train.opening import check_data_of_run

    output: Output = context.obj
    output.goes_on = True
    check_environment()
    options = {name: value for name, value in context.params.items() if name not in _NOT_OF_THE_RUN}
    memory, seconds = context.params["max_memory"], context.params["max_time"]
    limits = read_memory(memory) if memory else None, read_time(seconds) if seconds else None
    if resume is not None:
        _only_resume(context)
        folder = RunFolder.open(resume)
        moved = folder.config = _moved(context, folder)
        if _typed(context, "on_nan"):
            folder.config = dataclasses.replace(folder.config, on_nan=options["on_nan"])
        folder.lock.take()
        listener.at_once(f"Stopped before a further step; the run is as it was.\n{_resume(folder)}")
    else:
        config = Config(**options)
        folder = RunFolder.new(out, config) if out is not None else RunFolder.numbered(config)
    held.callback(lambda: folder.lock.release())  # that of the folder which it has then
    if resume is not None:
        check_data_of_run(displayed(resume), folder.config.data, "put it there again, or give --data, where it is now")
        check_code(displayed(resume), folder.config)
    say_whose_code(folder.config.model, folder.config.model_digest)  # before any of it is run
    with ReadingProgress(beside()) as progress:
        opened = open_datasets(folder.config, progress)
    say_notes(opened.notes, beside(), ALL_IN_FILE)
    folder.config = opened.config
    trainer = Trainer(folder, training=opened.training, test=opened.test)
    if resume is not None:
        trainer.resume()
        if moved != RunFolder.open(resume).config:  # and its images are those of the checkpoint
            folder.rewrite_config(moved)
    else:
        folder.make()
        listener.at_once(f"{NOTHING_YET}\n{_resume(folder)}")
    if opened.notes and not folder.notes.exists():
        write_atomically(folder.notes, "".join(f"{note.text()}\n" for note in opened.notes))
    lens = held.enter_context(lens_beside(folder.path)) if context.params["lens"] else None
    if lens is not None:
        lens.announce()
    _run(trainer, opened, output, *limits)
    if lens is not None:
        lens.stay()


def _only_resume(context: typer.Context) -> None:
    """A resumed run takes its options from its folder; any other on the line is a mistake."""
    for name in context.params:
        if name not in _WITH_RESUME and _typed(context, name):
            option = "--" + name.replace("_", "-")
            raise UserError(f"{option} cannot be changed by --resume, which takes the run's own options: leave it out")


def _moved(context: typer.Context, folder: RunFolder) -> Config:
    """The options of a run that is resumed, with the places of its files where they are now, if that is said."""
    config, data, model = folder.config, context.params["data"], context.params["model"]
    if _typed(context, "model"):
        config = elsewhere(config, model)
    if not _typed(context, "data"):
        return config
    if not folder.checkpoint.exists():
        raise UserError(
            f"{displayed(folder.path)} holds no checkpoint yet, by which its images could be told from others: leave --data "
            "out, or begin a new run"
        )
    folder_of_images(data)  # which complains if there is nothing of that name
    return dataclasses.replace(config, data=data)


def _typed(context: typer.Context, name: str) -> bool:
    """Whether an option was typed, and is not at its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _run(trainer: Trainer, opened: Opened, output: Output, most_memory: int | None, most_time: float | None) -> None:
    from chainrule.cli.watching import ConsoleWatcher
    from chainrule.train import NotFiniteError, Stopped
    from chainrule.train.forecast import TooMuchError, check_memory, memory_of

    again = _resume(trainer.folder)
    watcher = ConsoleWatcher(
        trainer, opened, output, f"Stopped at once; the steps since the last checkpoint will be repeated.\n{again}", most_time
    )
    try:
        watcher.say_memory(memory := memory_of(trainer, opened.training))
        if most_memory is not None:
            check_memory(trainer, memory, most_memory)
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
    except TooMuchError:
        trainer.folder.discard()
        raise
    except UserError as error:
        if isinstance(error, NotFiniteError) and error.cause is not None:
            watcher.close()
            typer.echo("\n".join(error.cause.lines(columns())))
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
