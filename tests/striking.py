"""The command, struck by signals at a chosen moment. Run as a script: ``striking.py MOMENT SIGNALS CLOSES ARGUMENT...``

SIGNALS are numbers with commas between; CLOSES is a file descriptor that is closed first, such as the other end of standard
output, or -1. The moments are found by what the command calls, so nothing depends on the clock.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable
from typing import Any

MOMENTS = ("import", "options", "loading", "compiling", "step", "checkpoint", "evaluation", "end")
"""Of a training. There are more: in native code, when it does not matter as the signal is ignored, in other subcommands."""
_STEP = 5  # the second one of the second epoch


def strike(numbers: list[int], closes: int, wait: bool = True) -> None:
    """Be struck, each signal once the one before has been answered."""
    if closes >= 0:
        os.close(closes)
    for place, number in enumerate(numbers):
        os.kill(os.getpid(), number)
        deadline = time.monotonic() + 20
        while wait and not (place == 0 and _is_noted()):  # if it is not only noted, it ends the process
            assert time.monotonic() < deadline, "the signal was not answered"
            time.sleep(0.001)


def _is_noted() -> bool:
    signals = sys.modules.get("chainrule.signals")
    return signals is not None and signals.listener.asked != 0


class _Import:
    """Comes first where a module is looked for, and strikes when that is NumPy."""

    def __init__(self, hit: Callable[..., None]) -> None:
        self._hit = hit

    def find_spec(self, name: str, *_: object) -> None:
        if name == "numpy":
            self._hit()


def _before(owner: Any, name: str, hit: Callable[..., None], when: Callable[..., bool] = lambda *_: True) -> None:
    """Strike before ``owner.name`` is called for the first time that ``when`` is true of its arguments."""
    usual, left = getattr(owner, name), [hit]

    def struck(*arguments: Any, **options: Any) -> Any:
        if left and when(*arguments):
            left.pop()()
        return usual(*arguments, **options)

    setattr(owner, name, struck)


def prepare(moment: str, hit: Callable[..., None]) -> None:
    """See to it that ``hit`` is called at that moment."""
    if moment == "import":
        sys.meta_path.insert(0, _Import(hit))
        return
    import chainrule.cli.commands.train  # noqa: F401 - it makes a configuration of its own
    from chainrule import lens, models, train
    from chainrule.cli.watching import ConsoleWatcher
    from chainrule.train import config, opening, step, trainer

    at_step: Callable[..., bool] = lambda trained, *_: trained.progress.step == _STEP - 1  # noqa: E731
    if moment == "options":
        _before(config.Config, "__post_init__", hit)
    elif moment == "loading":
        _before(opening, "load_dataset", hit)
    elif moment == "compiling":
        _before(step.TrainingStep, "prepare", hit)
    elif moment == "step":
        _before(trainer.Trainer, "step", hit, at_step)
    elif moment == "native code":
        _before(trainer.Trainer, "step", lambda: _native(hit), at_step)
    elif moment == "ignored":
        _before(trainer.Trainer, "step", lambda: hit(wait=False), at_step)
    elif moment == "checkpoint":
        _before(os, "replace", hit, lambda _, target: os.path.basename(target) == "checkpoint.safetensors")
    elif moment == "evaluation":
        _before(ConsoleWatcher, "on_evaluation", hit)
    elif moment == "end":
        _before(ConsoleWatcher, "finish", hit)
    else:
        owner, name = {
            "loading a model": (train, "model_of_run"),
            "judging": (train, "evaluate"),
            "summing up": (models, "build"),
            "explaining": (lens, "explain_expression"),
        }[moment]
        _before(owner, name, hit)


def _native(hit: Callable[..., None]) -> None:
    """Two seconds of native code on the main thread, struck from another one after half a second."""
    import threading

    from chainrule.cpu.runtime.threads import runner

    def soon() -> None:
        time.sleep(0.5)
        print("struck at", time.time(), file=sys.stderr, flush=True)
        hit()

    rounds = int(runner().rounds_per_second * 2)
    threading.Thread(target=soon, daemon=True).start()
    runner().spin(rounds)
    print("native code ended at", time.time(), file=sys.stderr, flush=True)


if __name__ == "__main__":
    _moment, _numbers, _closes, *_arguments = sys.argv[1:]
    sys.argv = ["chainrule", *_arguments]  # from here on this process is the command
    prepare(_moment, functools.partial(strike, [int(number) for number in _numbers.split(",")], int(_closes)))
    from chainrule.cli import main

    main()
