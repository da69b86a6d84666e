"""Optimizers, schedules of the learning rate, gradient clipping, averages of the weights."""

from typing import TYPE_CHECKING, Any

from chainrule.habits import OPTIM, absent
from chainrule.optim.adagrad import Adagrad
from chainrule.optim.adam import Adam, AdamW, NAdam, RAdam
from chainrule.optim.averaging import EMA
from chainrule.optim.clipping import clip_grad_norm_, clip_grad_value_
from chainrule.optim.cycles import CyclicLR, OneCycleLR
from chainrule.optim.optimizer import Optimizer
from chainrule.optim.plateau import ReduceLROnPlateau
from chainrule.optim.rmsprop import RMSprop
from chainrule.optim.schedule import Schedule, SequentialLR
from chainrule.optim.schedules import (
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)
from chainrule.optim.sgd import SGD

__all__ = [
    "EMA",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "NAdam",
    "OneCycleLR",
    "Optimizer",
    "PolynomialLR",
    "RAdam",
    "RMSprop",
    "ReduceLROnPlateau",
    "Schedule",
    "SequentialLR",
    "StepLR",
    "clip_grad_norm_",
    "clip_grad_value_",
]

if not TYPE_CHECKING:  # a type checker that saw it would accept every misspelt name

    def __getattr__(name: str) -> Any:
        raise absent("module 'chainrule.optim'", name, OPTIM)
