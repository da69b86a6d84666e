"""Training: the loop, its run folder, checkpoints, evaluation and use of what was trained."""

import importlib
from typing import TYPE_CHECKING, Any

from chainrule.habits import absent
from chainrule.train.command_line import command_line

__all__ = [
    "BadNode",
    "Capsule",
    "Comparison",
    "Config",
    "Evaluation",
    "Finding",
    "Findings",
    "Health",
    "NotFiniteError",
    "Prediction",
    "RateSweep",
    "RunFolder",
    "StepAgain",
    "StepReport",
    "Stopped",
    "Suspects",
    "TrainedModel",
    "Trainer",
    "Watcher",
    "command_line",
    "compare",
    "difference",
    "evaluate",
    "find_lr",
    "find_suspects",
    "first_bad_node",
    "freeze",
    "health",
    "judge",
    "lint",
    "model_of_run",
    "model_of_weights",
    "next_folder",
    "open_capsule",
    "open_datasets",
    "open_images",
    "outcome",
    "per_sample_gradient_norms",
    "per_sample_measure",
    "shipped_model",
    "step_again",
    "untrained",
]

if TYPE_CHECKING:  # the names in ``_LATER``; a test compares the two
    from chainrule.train.capsule import Capsule, open_capsule
    from chainrule.train.comparison import Comparison, compare
    from chainrule.train.config import Config
    from chainrule.train.diagnosis.bad_node import BadNode
    from chainrule.train.diagnosis.findings import Finding, Findings
    from chainrule.train.diagnosis.first_bad_node import first_bad_node
    from chainrule.train.diagnosis.health import Health, health
    from chainrule.train.diagnosis.linting import lint
    from chainrule.train.diagnosis.per_sample import per_sample_gradient_norms, per_sample_measure
    from chainrule.train.diagnosis.result_faults import outcome
    from chainrule.train.diagnosis.step_again import StepAgain, step_again
    from chainrule.train.diagnosis.suspects import Suspects, find_suspects
    from chainrule.train.diagnosis.untraining import untrained
    from chainrule.train.evaluation import Evaluation, evaluate, judge
    from chainrule.train.lr_finder import RateSweep, find_lr
    from chainrule.train.opening import open_datasets, open_images
    from chainrule.train.parts import freeze
    from chainrule.train.predict import Prediction, TrainedModel
    from chainrule.train.recovery import NotFiniteError
    from chainrule.train.run_data import difference
    from chainrule.train.run_folder import RunFolder, next_folder
    from chainrule.train.trained import model_of_run, model_of_weights, shipped_model
    from chainrule.train.trainer import Trainer
    from chainrule.train.watching import StepReport, Stopped, Watcher

_LATER = {
    "BadNode": "diagnosis.bad_node",
    "Capsule": "capsule",
    "Comparison": "comparison",
    "Config": "config",
    "Evaluation": "evaluation",
    "Finding": "diagnosis.findings",
    "Findings": "diagnosis.findings",
    "Health": "diagnosis.health",
    "NotFiniteError": "recovery",
    "Prediction": "predict",
    "RateSweep": "lr_finder",
    "RunFolder": "run_folder",
    "StepAgain": "diagnosis.step_again",
    "StepReport": "watching",
    "Stopped": "watching",
    "Suspects": "diagnosis.suspects",
    "TrainedModel": "predict",
    "Trainer": "trainer",
    "Watcher": "watching",
    "compare": "comparison",
    "difference": "run_data",
    "evaluate": "evaluation",
    "find_lr": "lr_finder",
    "find_suspects": "diagnosis.suspects",
    "first_bad_node": "diagnosis.first_bad_node",
    "freeze": "parts",
    "health": "diagnosis.health",
    "judge": "evaluation",
    "lint": "diagnosis.linting",
    "model_of_run": "trained",
    "model_of_weights": "trained",
    "next_folder": "run_folder",
    "open_capsule": "capsule",
    "open_datasets": "opening",
    "open_images": "opening",
    "outcome": "diagnosis.result_faults",
    "per_sample_gradient_norms": "diagnosis.per_sample",
    "per_sample_measure": "diagnosis.per_sample",
    "shipped_model": "trained",
    "step_again": "diagnosis.step_again",
    "untrained": "diagnosis.untraining",
}
"""Public names that are imported when first used, and their modules in this package, so that a command starts fast: each needs
a part of it."""


if not TYPE_CHECKING:  # a type checker that saw it would accept every misspelt name

    def __getattr__(name: str) -> Any:
        if name not in _LATER:
            raise absent("module 'chainrule.train'", name, {})
        value = getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
        globals()[name] = value  # from now on without this function
        return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
