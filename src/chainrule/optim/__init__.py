"""Optimizers, schedules of the learning rate, gradient clipping."""

from chainrule.optim.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop, clip_grad_norm_
from chainrule.optim.schedules import CosineAnnealingLR, LinearLR, OneCycleLR, Schedule, SequentialLR, StepLR

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
