"""Layers, losses and their functions, with PyTorch's names, arguments, defaults and parameter names."""

from typing import TYPE_CHECKING, Any

from chainrule.habits import LAYERS, absent
from chainrule.nn import functional, init
from chainrule.nn.containers import ModuleList, Sequential
from chainrule.nn.layers.activations import GELU, LeakyReLU, ReLU, ReLU6, Sigmoid, SiLU, Softmax, Tanh
from chainrule.nn.layers.convolution import Conv1d, Conv2d, ConvTranspose2d
from chainrule.nn.layers.dropout import Dropout
from chainrule.nn.layers.linear import Identity, Linear
from chainrule.nn.layers.losses import BCEWithLogitsLoss, CrossEntropyLoss, L1Loss, MSELoss, NLLLoss, SmoothL1Loss
from chainrule.nn.layers.normalisation import BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm
from chainrule.nn.layers.pooling import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d
from chainrule.nn.layers.shaping import Flatten
from chainrule.nn.module import Module
from chainrule.tensor import Buffer, Parameter

__all__ = [
    "GELU",
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "Buffer",
    "Conv1d",
    "Conv2d",
    "ConvTranspose2d",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "GroupNorm",
    "Identity",
    "L1Loss",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "ModuleList",
    "NLLLoss",
    "Parameter",
    "ReLU",
    "ReLU6",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SmoothL1Loss",
    "Softmax",
    "Tanh",
    "functional",
    "init",
]

if not TYPE_CHECKING:  # a type checker that saw it would accept every misspelt name

    def __getattr__(name: str) -> Any:
        raise absent("module 'chainrule.nn'", name, LAYERS)
