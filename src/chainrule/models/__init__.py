"""Models by name: a file for each family, built from the layers of ``nn`` alone.

Names, arguments, initial values and the names of parameters are torchvision's where torchvision has the model, so that files
of weights for its models fit. ``channels``, the number of channels of the images, is an addition.
"""

from __future__ import annotations

from chainrule.arguments import explained, pixels
from chainrule.errors import UserError, unknown_value
from chainrule.models.alexnet import alexnet
from chainrule.models.catalogue import MODELS, Entry
from chainrule.models.cifar_resnet import resnet9, resnet20, resnet32, resnet56
from chainrule.models.convnext import convnext_tiny
from chainrule.models.densenet import densenet121
from chainrule.models.efficientnet import efficientnet_b0, efficientnet_b1, efficientnet_b2, efficientnet_b3
from chainrule.models.fastnet import fastnet
from chainrule.models.googlenet import googlenet
from chainrule.models.lenet import lenet
from chainrule.models.mlp import mlp
from chainrule.models.mobilenet_v2 import mobilenet_small, mobilenet_v2
from chainrule.models.mobilenet_v3 import mobilenet_v3_large, mobilenet_v3_small
from chainrule.models.own import build_own, is_own
from chainrule.models.resnet import (
    resnet18,
    resnet18_small,
    resnet34,
    resnet50,
    resnet101,
    resnet152,
    resnext50_32x4d,
    wide_resnet50_2,
)
from chainrule.models.shufflenet import shufflenet_v2_x1_0
from chainrule.models.squeezenet import squeezenet1_0, squeezenet1_1
from chainrule.models.trained_lenet import TRAINED_LENET, trained_lenet
from chainrule.models.vgg import vgg11, vgg11_bn, vgg13, vgg13_bn, vgg16, vgg16_bn, vgg19, vgg19_bn, vgg_small
from chainrule.models.weights import Fit, Loaded, classes_in, classifier, load_weights, nearest_model
from chainrule.nn import Module


@explained
def check_name(name: str) -> None:
    """UserError, with the nearest names, unless ``name`` is one of ``MODELS`` or has the form ``FILE.py:FUNCTION``."""
    if name not in MODELS and not is_own(name):
        raise unknown_value("model", name, MODELS)


@explained
def build(name: str, channels: int, classes: int, size: tuple[int, int], digest: str = "") -> Module:
    """The model ``name`` for images (N, channels, *size): it returns scores (N, classes).

    ``name`` is one of ``MODELS``, or ``FILE.py:FUNCTION``, a function of (channels, classes, size) that makes a network; its
    file is run, if it has the SHA-256 ``digest`` or none is given.

    Raises:
        UserError: there is no such model, the images are too small for it, or the file is not what it should be.
    """
    height, width = pixels(size)
    if is_own(name):
        return build_own(name, channels, classes, (height, width), digest)
    check_name(name)
    entry = MODELS[name]
    try:
        if min(height, width) < entry.least and not entry.sized:  # those look for themselves
            raise UserError(f"it needs at least {entry.least} x {entry.least} pixels: use larger images, or a smaller model")
        return entry.model(channels, classes, (height, width))
    except UserError as error:
        raise UserError(f"model {name} cannot be built for images of {channels} x {height} x {width}: {error}") from None


__all__ = [
    "MODELS",
    "TRAINED_LENET",
    "Entry",
    "Fit",
    "Loaded",
    "alexnet",
    "build",
    "check_name",
    "classes_in",
    "classifier",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "fastnet",
    "googlenet",
    "lenet",
    "load_weights",
    "mlp",
    "mobilenet_small",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "nearest_model",
    "resnet9",
    "resnet18",
    "resnet18_small",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet50",
    "resnet56",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "shufflenet_v2_x1_0",
    "squeezenet1_0",
    "squeezenet1_1",
    "trained_lenet",
    "vgg11",
    "vgg11_bn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg19",
    "vgg19_bn",
    "vgg_small",
    "wide_resnet50_2",
]
