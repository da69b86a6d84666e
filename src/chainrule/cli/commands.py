"""The ``chainrule`` command: what a person types, and how it is answered. Everything else is in the library."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chainrule import __version__
from chainrule.arguments import whole_number, written_whole
from chainrule.cli.help import Command
from chainrule.cli.output import Output, OutputError, UnreadError, noticed_output
from chainrule.cli.parsing import CommandGroup, FormulaCommand, NamingCommand
from chainrule.cli.width import columns, settle
from chainrule.display import displayed
from chainrule.errors import InternalError, UserError, unknown_value
from chainrule.models import MODELS
from chainrule.models.own import is_own
from chainrule.signals import die, listener, tell
from chainrule.tensor.backend import backend
from chainrule.tensor.engines import check_engine, is_reference
from chainrule.train.config import AUGMENTATIONS, MOST_COUNTED, OPTIMIZERS, SCHEDULES, Config

if TYPE_CHECKING:
    from chainrule.data import Dataset
    from chainrule.train import RunFolder, TrainedModel, Trainer

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

UNREAD, REFUSED, BUG, NOT_READ = 1, 2, 70, 128 + 13  # as the help says; the last one as a shell sees SIGPIPE, signal 13


def main() -> None:
    """Run the command: a user's mistake gets one message and exit status 2, never a traceback."""
    settle()
    usual, warnings.showwarning = warnings.showwarning, _warn
    with noticed_output() as output:
        try:
            app(obj=output)
        except UserError as error:
            _complain(str(error))
            sys.exit(REFUSED)
        except InternalError as error:
            _complain(f"{error}\nThis is a bug in chainrule: please report it with this message.")
            sys.exit(BUG)
        except MemoryError as error:
            _complain(f"there is not enough memory{f' ({error})' if str(error) else ''}: smaller sizes would need less")
            sys.exit(REFUSED)
        except UnreadError:  # the reader of a pipe has seen enough
            sys.exit(NOT_READ)
        except OutputError as error:
            _complain(f"standard output cannot be written ({error.strerror})")
            sys.exit(REFUSED)
        except OSError as error:  # the system refuses something that no part of chainrule foresaw
            if error.filename is None:
                raise
            _complain(f"{displayed(error.filename)}: {error.strerror}")
            sys.exit(REFUSED)
        finally:
            warnings.showwarning = usual


def _complain(message: str) -> None:
    _tell("error: ", "bold red", message)


def _warn(message: Warning | str, category: object, filename: str, *_: object, **__: object) -> None:
    """A warning as a person wants it: what it says, not which line of the library said so."""
    if f"{os.sep}PIL{os.sep}" in filename:  # it finds fault with what stands beside the pixels, and does not name the file
        return
    _tell("warning: ", "bold yellow", str(message))


def _tell(kind: str, style: str, message: str) -> None:
    from rich.console import Console
    from rich.text import Text

    from chainrule.cli.messages import message_lines

    shown = "\n".join(message_lines(kind + displayed(message, lines=True), columns()))
    said = shown.removeprefix(kind.rstrip()).removeprefix(" ")  # a first word that is too long for the line begins the next
    Console(stderr=True, soft_wrap=True).print(Text.assemble((kind, style), said))


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"chainrule {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    check_engine()


def _check_environment() -> None:
    """UserError if a variable that native code obeys means nothing: said before anything is read or made."""
    if not is_reference():
        backend().check_environment()


# ---- train

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
    _check_environment()
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
    _say_whose_code(folder.config)
    trainer = Trainer(folder, training=opened.training, test=opened.test)
    if resume is not None:
        trainer.resume()
    else:
        folder.make()
        listener.at_once(f"{NOTHING_YET}\n{_resume(folder)}")
    if opened.notes and not folder.notes.exists():
        write_atomically(folder.notes, "".join(f"{note.text()}\n" for note in opened.notes))
    _run(trainer, output)


def _say_whose_code(config: Config) -> None:
    """A word about a network of somebody's own, whose file is run."""
    if is_own(config.model):
        _tell(
            "note: ",
            "bold",
            f"the network is made by running {displayed(config.model)} (SHA-256 {config.model_digest[:12]}...), which may do "
            "whatever a program can: run only code that you trust",
        )


def _only_resume(context: typer.Context) -> None:
    """A resumed run takes its options from its folder; any other on the line is a mistake."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if name != "resume" and source is not None and source.name == "COMMANDLINE":
            option = "--" + name.replace("_", "-")
            raise UserError(f"{option} cannot be changed by --resume, which takes the run's own options: leave it out")


def _run(trainer: Trainer, output: Output) -> None:
    from chainrule.cli.console import ConsoleWatcher
    from chainrule.train import Stopped

    again = _resume(trainer.folder)
    watcher = ConsoleWatcher(
        trainer, output, f"Stopped at once; the steps since the last checkpoint will be repeated.\n{again}"
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


def _say(message: str) -> None:
    """Lines of at most the width that there is."""
    from rich.console import Console

    from chainrule.cli.messages import message_lines

    shown = "\n".join(message_lines(displayed(message, lines=True), columns()))
    Console(soft_wrap=True, highlight=False, markup=False).print(shown)


# ---- evaluate and predict


@app.command(
    cls=NamingCommand,
    epilog="Examples:\n\n  chainrule evaluate runs/lenet-mnist-1\n\n"
    "  chainrule evaluate runs/lenet-mnist-1 --data my-digits/ --json",
)
def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    data: Annotated[str | None, typer.Option(help="Another data set with the same classes; its test split is used.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Loss, accuracy and confusions of a trained model on the test images."""
    from chainrule.cli.console import confusion_table, worst_classes_table
    from chainrule.data import Loader
    from chainrule.train import RunFolder, TrainedModel, command_line, difference, judge
    from chainrule.train import evaluate as evaluate_on

    _check_environment()
    folder = RunFolder.open(run)
    _say_whose_code(folder.config)
    trained = TrainedModel(folder)
    test = _test_images(folder.config.data if data is None else data, trained)
    if test.image_shape != trained.image_shape:
        raise UserError(
            f"{test.name} has images {test.image_shape} (C, H, W), {displayed(run)} was trained on {trained.image_shape}: "
            "give data with images of that size"
        )
    if list(test.classes) != trained.classes:
        raise UserError(
            f"{displayed(run)} and {test.name} have different classes: {difference(trained.classes, test.classes)}: "
            "give data with the classes that it was trained on"
        )
    loader = Loader(test, 250, shuffle=False, transforms=[trained.normalise])
    found = evaluate_on(trained.model, loader, judge(trained.model, folder.config.precision))
    if as_json:
        facts = {"loss": found.loss, "accuracy": found.accuracy, "images": found.images, "classes": list(found.classes)}
        typer.echo(json.dumps({**facts, "confusion": found.confusion.tolist()}))
        return
    _say(
        f"{found.correct:,} of {found.images:,} test images right: accuracy {100 * found.accuracy:.2f}%, loss {found.loss:.4f}"
    )
    whole = command_line("evaluate", run, *([] if data is None else ["--data", data]), "--json")
    confusion_table(found, whole)
    worst_classes_table(found)


@app.command(
    cls=NamingCommand,
    epilog="Examples:\n\n  chainrule predict runs/lenet-mnist-1\n\n  chainrule predict runs/lenet-mnist-1 my-seven.png\n\n"
    "  chainrule predict runs/lenet-mnist-1 scans/*.jpg --invert --json",
)
def predict(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Image files (PNG, JPEG, WebP, ...); without any, three digits that ship with chainrule, for a model of MNIST."
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 3,
    invert: Annotated[bool, typer.Option(help="Turn light into dark first: for dark strokes on white.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """The most probable classes of images."""
    from chainrule.cli.console import prediction_table
    from chainrule.cli.reading import ReadingProgress, beside
    from chainrule.train import RunFolder, TrainedModel

    whole_number("top", top, 1, MOST_COUNTED)
    _check_environment()
    folder = RunFolder.open(run)
    _say_whose_code(folder.config)
    trained = TrainedModel(folder)
    with ReadingProgress(beside()) as progress:
        predictions = trained.predict(images or _samples(folder), top, invert, progress)
    unread = [one for one in predictions if one.error]
    if as_json:
        rows = [
            {
                "image": one.path,
                "top": [{"class": name, "probability": share} for name, share in one.top],
                "note": one.note,
                "error": one.error,
            }
            for one in predictions
        ]
        typer.echo(json.dumps(rows))
    else:
        if not images:
            _say(f"three of MNIST's test images, which ship in {Path(predictions[0].path).parent}:")
            predictions = [replace(one, path=Path(one.path).name) for one in predictions]
        prediction_table([one for one in predictions if not one.error])
    if unread:
        named = [f"{displayed(one.path)} {one.error}" for one in unread]
        _complain("\n  ".join([f"{len(unread):,} of {len(predictions):,} images cannot be read:", *named]))
        raise typer.Exit(UNREAD)


def _samples(run: RunFolder) -> Sequence[Path]:
    """The images that ship with chainrule, if they are what the run was trained on."""
    from chainrule.data import MNIST_SAMPLES
    from chainrule.train import command_line

    if run.config.data != "mnist":
        raise UserError(
            f"no image is given: `{command_line('predict', run.path, 'IMAGE...')}` takes files; the samples that ship with "
            f"chainrule are digits of MNIST, and {displayed(run.path)} was trained on {displayed(run.config.data)}"
        )
    return MNIST_SAMPLES


def _test_images(data: str, trained: TrainedModel) -> Dataset:
    """Images to test on; a folder's are converted to what the model takes."""
    from chainrule.cli.reading import ReadingProgress, beside, say_notes
    from chainrule.train import open_test_images

    with ReadingProgress(beside()) as progress:
        test, notes = open_test_images(data, trained.image_shape, progress)
    say_notes(notes, beside())
    return test


# ---- summary


@app.command(
    cls=Command,
    epilog="Examples:\n\n  chainrule models\n\n  chainrule models resnet\n\n  chainrule models --json",
)
def models(
    text: Annotated[str, typer.Argument(help="Only models whose name contains this text.", show_default=False)] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """The models that there are: parameters, multiply-adds, images, receptive fields, papers."""
    from chainrule.cli.console import models_table

    chosen = {name: entry for name, entry in MODELS.items() if text.lower() in name}
    if not chosen:
        raise unknown_value("model", text, MODELS)
    if as_json:
        facts = ("image", "classes", "least", "parameters", "multiply_adds", "receptive_field", "paper")
        rows = [{"name": name, **{fact: getattr(entry, fact) for fact in facts}} for name, entry in chosen.items()]
        typer.echo(json.dumps(rows))
        return
    models_table(chosen)


@app.command(
    cls=NamingCommand,
    epilog="Examples:\n\n  chainrule summary\n\n  chainrule summary resnet18\n\n"
    "  chainrule summary mlp --input 3x32x32 --classes 10\n\n  chainrule summary runs/lenet-mnist-1",
)
def summary(
    model: Annotated[str, typer.Argument(help="Name of a model, or folder of a run.")] = "lenet",
    image: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="Size of one image: channels x height x width. By default what the model is usually trained on.",
            show_default=False,
        ),
    ] = None,
    classes: Annotated[
        int | None, typer.Option(min=2, help="Number of classes. By default the model's usual number.", show_default=False)
    ] = None,
) -> None:
    """Layers of a model with output shapes, parameters, multiply-adds and receptive fields."""
    from chainrule.models import build
    from chainrule.tensor import tracing
    from chainrule.train import RunFolder, TrainedModel

    if model in MODELS or is_own(model):
        usual = MODELS[model] if model in MODELS else MODELS["lenet"]
        shape = usual.image if image is None else _image_shape(image)
        with tracing():  # which takes no memory, whatever the size
            network = build(model, shape[0], usual.classes if classes is None else classes, (shape[1], shape[2]))
    elif Path(model).is_dir():
        trained = TrainedModel(RunFolder.open(model))
        network, shape = trained.model, trained.image_shape
    else:
        raise UserError(f"{unknown_value('model', model, MODELS)}, or the folder of a run")
    from chainrule.cli.console import summary_table

    summary_table(network.summary((1, *shape)))


def _image_shape(text: str) -> tuple[int, int, int]:
    sizes = [written_whole(part) for part in text.lower().split("x")]
    if len(sizes) != 3 or not sizes[0] or not sizes[1] or not sizes[2]:
        raise UserError(f"--input must be channels x height x width, for example 3x32x32, got {text!r}")
    return sizes[0], sizes[1], sizes[2]


# ---- explain


@app.command(
    cls=FormulaCommand,
    epilog="Examples:\n\n  chainrule explain \"(w @ x - y)**2\" 'w=[1,2]' 'x=[3,4]' y=5 --step 0.1\n\n"
    "  chainrule explain \"sum(relu(W @ x))\" 'W=[[1,-2],[3,4]]' 'x=[1,1]' --svg relu.svg\n\n"
    '  chainrule explain "-a**2" a=-3',
)
def explain(
    expression: Annotated[str, typer.Argument(help="Arithmetic on the names that follow; it must give one number.")],
    values: Annotated[
        list[str] | None, typer.Argument(help="name=number, or a list in quotes: 'name=\\[1,2]'.", show_default=False)
    ] = None,
    step: Annotated[
        float | None, typer.Option(help="Learning rate: also show one step of gradient descent, w <- w - eta de/dw.")
    ] = None,
    svg: Annotated[Path | None, typer.Option(help="Draw the graph into this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Every node of an expression: its value, and its upstream, local and downstream gradients."""
    from chainrule.formats import write_atomically
    from chainrule.graph.wrapping import wrapped
    from chainrule.lens import explain_expression
    from chainrule.lens.rendering import equation

    explanation, notes = explain_expression(expression, values or [], step)
    if svg is not None:
        write_atomically(svg, explanation.svg(title=f"e = {expression.strip()}"))
    if as_json:
        typer.echo(json.dumps(explanation.to_json()))
        return
    typer.echo(explanation.table(columns()))
    for note in notes:
        typer.echo("\n".join(equation(note, columns()) if " <- " in note else wrapped(note, columns())))
    if svg is not None:
        _say(f"drawing: {displayed(svg)}")
