"""The LeNet that ships with chainrule, with the weights of a default run on MNIST."""

from __future__ import annotations

from pathlib import Path

from chainrule import nn
from chainrule.arguments import explained
from chainrule.models.lenet import lenet
from chainrule.models.weights import load_weights

TRAINED_LENET = Path(__file__).with_name("trained") / "lenet-mnist.safetensors"
"""Its file of weights, made by ``scripts/trained_lenet.py``."""


@explained
def trained_lenet() -> nn.Sequential:
    """LeNet, trained on MNIST, in evaluation form: images (N, 1, 28, 28) of light digits on black -> scores (N, 10).

    It takes pixels from 0 to 1 less the mean 0.1307 of MNIST's, over their standard deviation 0.3081; what it says of whole
    files of images, as ``chainrule predict`` does, ``chainrule.train.shipped_model().predict(paths)`` says.
    """
    model = lenet()
    load_weights(model, TRAINED_LENET)
    model.eval()
    return model
