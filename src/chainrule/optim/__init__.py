"""Optimizers, schedules of the learning rate, gradient clipping."""

from chainrule.optim.adam import Adam, AdamW
from chainrule.optim.clipping import clip_grad_norm_
from chainrule.optim.cycles import OneCycleLR
from chainrule.optim.optimizer import Optimizer
from chainrule.optim.rmsprop import RMSprop
from chainrule.optim.schedule import Schedule, SequentialLR
from chainrule.optim.schedules import CosineAnnealingLR, LinearLR, StepLR
from chainrule.optim.sgd import SGD

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "CosineAnnealingLR",
    "LinearLR",
    "OneCycleLR",
    "Optimizer",
    "RMSprop",
    "Schedule",
    "SequentialLR",
    "StepLR",
    "clip_grad_norm_",
]
