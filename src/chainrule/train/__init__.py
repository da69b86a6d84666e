"""Training: the loop, its run folder, checkpoints, evaluation and use of what was trained."""

from chainrule.train.capsule import Capsule, open_capsule
from chainrule.train.command_line import command_line
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
