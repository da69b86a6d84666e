"""The cases in which chainrule is held against PyTorch. One row each; a new layer, loss, optimizer or schedule is one more.

``scripts/expected_from_torch.py`` runs them in PyTorch, ``test_nn_agreement.py`` and ``test_optim_agreement.py`` in
chainrule. Nothing here knows either: models and formulas are functions of the module ``nn`` or of tensors, which both have.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any

# ---- layers


@dataclass(frozen=True)
class Layer:
    """One layer on one input. ``arguments`` are PyTorch's, but for those in ``torch``, which PyTorch spells differently.

    ``values`` says what the input is made of: "normal" numbers, "kinks", where activations bend and maxima tie, or "bends",
    which has the places where others do, or "places": whole numbers from 0 to 4, which have no gradient.
    ``batches`` is how many training passes come before the one that is compared. ``border`` is what PyTorch's F.pad
    (left, right, top, bottom) must do to the input first, for a padding that its layers cannot express.
    """

    name: str
    layer: str
    shape: tuple[int, ...]
    arguments: dict[str, Any]
    training: bool = True
    batches: int = 0
    values: str = "normal"
    torch: dict[str, Any] = field(default_factory=dict)
    border: tuple[int, int, int, int] | None = None


def layer(
    name: str,
    kind: str,
    shape: tuple[int, ...],
    *,
    training: bool = True,
    batches: int = 0,
    values: str = "normal",
    torch: dict[str, Any] | None = None,
    border: tuple[int, int, int, int] | None = None,
    **arguments: Any,
) -> Layer:
    return Layer(name, kind, shape, arguments, training, batches, values, torch or {}, border)


LAYERS = (
    layer("identity", "Identity", (2, 3)),
    layer("linear", "Linear", (4, 5), in_features=5, out_features=3),
    layer("linear without bias", "Linear", (4, 5), in_features=5, out_features=3, bias=False),
    layer("linear of a vector", "Linear", (5,), in_features=5, out_features=3),
    layer("linear over leading axes", "Linear", (2, 3, 5), in_features=5, out_features=4),
    # convolutions
    layer("conv1d", "Conv1d", (2, 3, 8), in_channels=3, out_channels=4, kernel_size=3),
    layer("conv1d strided", "Conv1d", (2, 3, 9), in_channels=3, out_channels=2, kernel_size=3, stride=2, padding=1),
    layer(
        "conv1d dilated in groups",
        "Conv1d",
        (2, 4, 9),
        in_channels=4,
        out_channels=6,
        kernel_size=3,
        padding=2,
        dilation=2,
        groups=2,
    ),
    layer("conv1d same", "Conv1d", (2, 2, 7), in_channels=2, out_channels=3, kernel_size=4, padding="same", bias=False),
    layer("conv2d", "Conv2d", (2, 3, 6, 5), in_channels=3, out_channels=4, kernel_size=3),
    layer("conv2d without bias", "Conv2d", (2, 3, 6, 5), in_channels=3, out_channels=4, kernel_size=(3, 2), bias=False),
    layer("conv2d 1x1", "Conv2d", (2, 4, 3, 3), in_channels=4, out_channels=5, kernel_size=1),
    layer(
        "conv2d strided", "Conv2d", (2, 2, 7, 6), in_channels=2, out_channels=3, kernel_size=3, stride=(2, 1), padding=(1, 2)
    ),
    layer("conv2d strided past an edge", "Conv2d", (1, 2, 6, 6), in_channels=2, out_channels=2, kernel_size=2, stride=3),
    layer("conv2d dilated", "Conv2d", (1, 2, 8, 7), in_channels=2, out_channels=2, kernel_size=3, padding=2, dilation=(2, 1)),
    layer("conv2d in groups", "Conv2d", (2, 4, 5, 5), in_channels=4, out_channels=6, kernel_size=3, padding=1, groups=2),
    layer("conv2d depthwise", "Conv2d", (2, 3, 5, 6), in_channels=3, out_channels=3, kernel_size=3, padding=1, groups=3),
    layer(
        "conv2d depthwise multiplied, strided",
        "Conv2d",
        (1, 3, 6, 5),
        in_channels=3,
        out_channels=6,
        kernel_size=3,
        stride=2,
        groups=3,
    ),
    layer("conv2d same", "Conv2d", (1, 2, 5, 6), in_channels=2, out_channels=3, kernel_size=(3, 5), padding="same"),
    layer("conv2d same, even", "Conv2d", (1, 2, 5, 6), in_channels=2, out_channels=2, kernel_size=(2, 4), padding="same"),
    layer(
        "conv2d same, dilated", "Conv2d", (1, 1, 6, 6), in_channels=1, out_channels=2, kernel_size=3, padding="same", dilation=2
    ),
    layer("conv2d valid", "Conv2d", (1, 2, 5, 5), in_channels=2, out_channels=2, kernel_size=3, padding="valid"),
    layer(
        "conv2d with sides of its own",
        "Conv2d",
        (1, 2, 5, 6),
        in_channels=2,
        out_channels=3,
        kernel_size=3,
        stride=2,
        padding=((1, 0), (2, 3)),
        torch={"padding": 0},
        border=(2, 3, 1, 0),
    ),
    layer("transposed", "ConvTranspose2d", (2, 3, 4, 3), in_channels=3, out_channels=2, kernel_size=3),
    layer(
        "transposed strided",
        "ConvTranspose2d",
        (1, 3, 4, 3),
        in_channels=3,
        out_channels=2,
        kernel_size=3,
        stride=2,
        padding=1,
        output_padding=1,
    ),
    layer(
        "transposed in groups, dilated",
        "ConvTranspose2d",
        (1, 4, 3, 4),
        in_channels=4,
        out_channels=6,
        kernel_size=(2, 3),
        stride=(2, 3),
        padding=(1, 0),
        output_padding=(1, 2),
        groups=2,
        dilation=(2, 1),
        bias=False,
    ),
    layer(
        "transposed depthwise",
        "ConvTranspose2d",
        (1, 3, 3, 3),
        in_channels=3,
        out_channels=3,
        kernel_size=4,
        stride=2,
        groups=3,
    ),
    layer("conv2d of one image", "Conv2d", (3, 6, 5), in_channels=3, out_channels=2, kernel_size=3, padding=1),
    layer("conv1d of one signal", "Conv1d", (2, 7), in_channels=2, out_channels=3, kernel_size=3),
    layer("transposed of one image", "ConvTranspose2d", (2, 3, 4), in_channels=2, out_channels=3, kernel_size=2, stride=2),
    *(
        layer(
            f"conv2d, {mode} border",
            "Conv2d",
            (2, 2, 5, 6),
            in_channels=2,
            out_channels=2,
            kernel_size=(3, 2),
            stride=(2, 1),
            padding=(1, 2),
            padding_mode=mode,
        )
        for mode in ("reflect", "replicate", "circular")
    ),
    layer(
        "conv2d same, reflect border",
        "Conv2d",
        (2, 6, 5),
        in_channels=2,
        out_channels=1,
        kernel_size=(2, 3),
        padding="same",
        dilation=2,
        padding_mode="reflect",
    ),
    *(
        layer(
            f"conv1d, {mode} border",
            "Conv1d",
            (1, 2, 6),
            in_channels=2,
            out_channels=2,
            kernel_size=4,
            padding=3,
            padding_mode=mode,
        )
        for mode in ("reflect", "replicate", "circular")
    ),
    layer("volumes", "Conv3d", (2, 3, 4, 5, 4), in_channels=3, out_channels=4, kernel_size=3),
    layer(
        "volumes, uneven",
        "Conv3d",
        (2, 4, 5, 6, 5),
        in_channels=4,
        out_channels=6,
        kernel_size=(3, 2, 1),
        stride=(2, 1, 2),
        padding=(2, 1, 0),
        dilation=(1, 2, 1),
        groups=2,
    ),
    layer(
        "volumes, each channel alone",
        "Conv3d",
        (1, 3, 4, 4, 4),
        in_channels=3,
        out_channels=3,
        kernel_size=2,
        groups=3,
        bias=False,
    ),
    layer(
        "one volume, same size", "Conv3d", (2, 4, 5, 3), in_channels=2, out_channels=3, kernel_size=(2, 3, 2), padding="same"
    ),
    *(
        layer(
            f"volumes, {mode} border",
            "Conv3d",
            (1, 2, 4, 3, 5),
            in_channels=2,
            out_channels=2,
            kernel_size=(2, 3, 2),
            padding=(1, 2, 1),
            padding_mode=mode,
        )
        for mode in ("reflect", "replicate", "circular")
    ),
    layer(
        "transposed signals",
        "ConvTranspose1d",
        (2, 4, 5),
        in_channels=4,
        out_channels=6,
        kernel_size=3,
        stride=2,
        padding=1,
        output_padding=1,
        groups=2,
        dilation=2,
    ),
    layer("transposed of one signal", "ConvTranspose1d", (2, 4), in_channels=2, out_channels=3, kernel_size=(2,), bias=False),
    # borders
    layer("zeros around", "ZeroPad2d", (1, 2, 2, 3), padding=(1, 2, 0, 3)),
    layer("zeros around one image, and cut", "ZeroPad2d", (2, 4, 3), padding=(1, 0, -2, 1)),
    layer("mirrored around", "ReflectionPad2d", (1, 2, 3, 4), padding=2),
    layer("mirrored around one image", "ReflectionPad2d", (1, 4, 3), padding=(2, 1, 3, 0)),
    layer("repeated around", "ReplicationPad2d", (1, 2, 3, 2), padding=(1, 4, 2, 3)),
    # other sizes
    layer("nearest, twice the size", "Upsample", (1, 2, 3, 2), scale_factor=2.0),
    layer("nearest of signals, three times the size", "Upsample", (2, 2, 4), size=12),
    layer("nearest, uneven", "Upsample", (1, 2, 5, 7), size=(7, 4)),
    layer("nearest by a factor", "Upsample", (1, 2, 5, 7), scale_factor=(1.7, 0.6)),
    layer("nearest by a factor that is recomputed", "Upsample", (1, 2, 5, 7), scale_factor=1.7, recompute_scale_factor=True),
    layer("nearest, exact", "Upsample", (1, 2, 5, 7), size=(7, 4), mode="nearest-exact"),
    layer("nearest, exact, by a factor", "Upsample", (1, 2, 5), scale_factor=1.7, mode="nearest-exact"),
    layer("linear between elements", "Upsample", (2, 2, 5), size=8, mode="linear"),
    layer("linear between elements, corners aligned", "Upsample", (2, 2, 5), size=8, mode="linear", align_corners=True),
    layer("bilinear, twice the size", "Upsample", (1, 2, 3, 4), scale_factor=2.0, mode="bilinear"),
    layer("bilinear, uneven", "Upsample", (1, 2, 6, 4), size=(4, 7), mode="bilinear", align_corners=False),
    layer("bilinear by a factor", "Upsample", (1, 2, 5, 7), scale_factor=(1.7, 0.6), mode="bilinear"),
    layer("bilinear, corners aligned", "Upsample", (1, 2, 3, 4), size=(5, 1), mode="bilinear", align_corners=True),
    layer("bicubic", "Upsample", (1, 1, 4, 5), size=(7, 3), mode="bicubic"),
    layer("bicubic by a factor", "Upsample", (1, 1, 4, 5), scale_factor=1.3, mode="bicubic"),
    layer("bicubic, corners aligned", "Upsample", (1, 1, 4, 5), size=(6, 9), mode="bicubic", align_corners=True),
    layer("areas", "Upsample", (1, 2, 5, 6), size=(3, 4), mode="area"),
    layer("areas of signals", "Upsample", (1, 2, 6), scale_factor=0.5, mode="area"),
    layer("pixels from channels", "PixelShuffle", (2, 8, 2, 3), upscale_factor=2),
    layer("pixels from channels of one image", "PixelShuffle", (9, 1, 2), upscale_factor=3),
    layer("channels from pixels", "PixelUnshuffle", (1, 2, 4, 6), downscale_factor=2),
    layer("unflatten", "Unflatten", (2, 6, 3), dim=1, unflattened_size=(2, 3)),
    layer("unflatten to what is left", "Unflatten", (2, 12), dim=-1, unflattened_size=(2, -1, 3)),
    # pooling
    layer("max pool", "MaxPool2d", (2, 3, 6, 5), kernel_size=2),
    layer("max pool with ties", "MaxPool2d", (2, 2, 6, 6), values="kinks", kernel_size=3, stride=2, padding=1),
    layer("max pool overlapping", "MaxPool2d", (1, 2, 7, 6), kernel_size=(3, 2), stride=(2, 1), padding=(1, 0)),
    layer("max pool dilated", "MaxPool2d", (1, 2, 7, 8), kernel_size=3, stride=2, padding=1, dilation=2),
    layer("max pool, ceil mode", "MaxPool2d", (1, 2, 6, 8), kernel_size=3, stride=2, ceil_mode=True),
    layer("max pool, ceil mode, dropped", "MaxPool2d", (1, 1, 5, 6), kernel_size=2, stride=3, padding=1, ceil_mode=True),
    layer("average pool", "AvgPool2d", (2, 3, 6, 5), kernel_size=2),
    layer("average pool, border counted", "AvgPool2d", (1, 2, 5, 6), kernel_size=3, stride=2, padding=1),
    layer(
        "average pool, border not counted",
        "AvgPool2d",
        (1, 2, 5, 6),
        kernel_size=3,
        stride=2,
        padding=1,
        count_include_pad=False,
    ),
    layer("average pool, ceil mode", "AvgPool2d", (1, 2, 6, 7), kernel_size=(3, 2), stride=2, padding=1, ceil_mode=True),
    layer(
        "average pool, ceil mode, border not counted",
        "AvgPool2d",
        (1, 2, 6, 7),
        kernel_size=3,
        stride=2,
        padding=(1, 0),
        ceil_mode=True,
        count_include_pad=False,
    ),
    layer("max pool of one image", "MaxPool2d", (2, 6, 5), kernel_size=2),
    layer("average pool of one image", "AvgPool2d", (2, 6, 5), kernel_size=3, stride=2, padding=1),
    layer("max pool of signals", "MaxPool1d", (2, 3, 9), values="kinks", kernel_size=3, stride=2, padding=1, dilation=2),
    layer("max pool of signals, ceil mode", "MaxPool1d", (2, 8), kernel_size=3, stride=2, ceil_mode=True),
    layer("average pool of signals", "AvgPool1d", (2, 3, 8), kernel_size=3),
    layer(
        "average pool of signals, border not counted",
        "AvgPool1d",
        (3, 8),
        kernel_size=(3,),
        stride=2,
        padding=1,
        ceil_mode=True,
        count_include_pad=False,
    ),
    layer("global average", "AdaptiveAvgPool2d", (2, 3, 4, 5), output_size=1),
    layer("adaptive average, even", "AdaptiveAvgPool2d", (1, 2, 6, 4), output_size=(3, 2)),
    layer("adaptive average, uneven", "AdaptiveAvgPool2d", (1, 2, 7, 5), output_size=(3, 4)),
    layer("adaptive average, enlarging", "AdaptiveAvgPool2d", (1, 2, 3, 5), output_size=(5, 7)),
    layer("adaptive average, one axis kept", "AdaptiveAvgPool2d", (1, 2, 5, 6), output_size=(None, 4)),
    layer("adaptive average, overlapping evenly", "AdaptiveAvgPool2d", (1, 2, 7, 8), output_size=(3, 7)),
    layer("adaptive average of one image", "AdaptiveAvgPool2d", (2, 7, 5), output_size=3),
    layer("adaptive average of signals", "AdaptiveAvgPool1d", (2, 3, 7), output_size=4),
    layer("adaptive average of one signal", "AdaptiveAvgPool1d", (3, 8), output_size=1),
    layer("global maximum", "AdaptiveMaxPool2d", (2, 3, 4, 5), output_size=1),
    layer("adaptive maximum, even", "AdaptiveMaxPool2d", (1, 2, 6, 4), values="kinks", output_size=(3, 2)),
    layer("adaptive maximum, uneven", "AdaptiveMaxPool2d", (2, 2, 7, 6), values="kinks", output_size=(5, 4)),
    layer("adaptive maximum, enlarging", "AdaptiveMaxPool2d", (2, 3, 5), output_size=(5, 7)),
    layer("adaptive maximum, one axis kept", "AdaptiveMaxPool2d", (1, 2, 5, 6), output_size=(None, 4)),
    layer("adaptive maximum of signals", "AdaptiveMaxPool1d", (2, 3, 7), values="kinks", output_size=5),
    # normalisation
    layer("batch norm of features", "BatchNorm1d", (5, 3), num_features=3),
    layer("batch norm of signals", "BatchNorm1d", (2, 3, 4), num_features=3, batches=1),
    layer("batch norm of signals, in use", "BatchNorm1d", (2, 3, 4), num_features=3, training=False, batches=2),
    layer("batch norm", "BatchNorm2d", (3, 2, 4, 3), num_features=2),
    layer("batch norm after batches", "BatchNorm2d", (3, 2, 4, 3), num_features=2, batches=3, momentum=0.3),
    layer("batch norm in use", "BatchNorm2d", (3, 2, 4, 3), num_features=2, training=False),
    layer("batch norm in use after batches", "BatchNorm2d", (3, 2, 4, 3), num_features=2, training=False, batches=3, eps=1e-3),
    layer("batch norm, mean of all batches", "BatchNorm2d", (3, 2, 4, 3), num_features=2, batches=3, momentum=None),
    layer(
        "batch norm in use, mean of all batches",
        "BatchNorm2d",
        (3, 2, 4, 3),
        num_features=2,
        training=False,
        batches=3,
        momentum=None,
    ),
    layer("batch norm, not affine", "BatchNorm2d", (3, 2, 4, 3), num_features=2, affine=False, batches=1),
    layer("batch norm, untracked", "BatchNorm2d", (3, 2, 4, 3), num_features=2, track_running_stats=False),
    layer(
        "batch norm, untracked, in use", "BatchNorm2d", (3, 2, 4, 3), num_features=2, track_running_stats=False, training=False
    ),
    layer("batch norm of one image", "BatchNorm2d", (1, 2, 4, 3), num_features=2, batches=1),
    layer("group norm", "GroupNorm", (2, 4, 3, 3), num_groups=2, num_channels=4),
    layer("group norm of features, not affine", "GroupNorm", (3, 6), num_groups=3, num_channels=6, affine=False),
    layer("instance norm of images", "InstanceNorm2d", (2, 3, 4, 3), num_features=3),
    layer("instance norm of images, affine", "InstanceNorm2d", (2, 3, 4, 3), num_features=3, affine=True, eps=1e-3),
    layer("instance norm of one image", "InstanceNorm2d", (3, 4, 3), num_features=3, affine=True),
    layer(
        "instance norm, tracked",
        "InstanceNorm2d",
        (2, 3, 2, 3),
        num_features=3,
        affine=True,
        track_running_stats=True,
        batches=2,
        momentum=0.3,
    ),
    layer(
        "instance norm in use, tracked",
        "InstanceNorm2d",
        (2, 3, 2, 3),
        num_features=3,
        track_running_stats=True,
        batches=2,
        training=False,
    ),
    layer("instance norm of signals in use", "InstanceNorm1d", (2, 3, 5), num_features=3, training=False),
    layer("instance norm of one signal, tracked", "InstanceNorm1d", (3, 5), num_features=3, track_running_stats=True),
    layer("rms norm", "RMSNorm", (2, 3, 5), normalized_shape=5),
    layer("rms norm over axes", "RMSNorm", (2, 3, 4), normalized_shape=(3, 4), eps=0.1),
    layer("rms norm, not affine", "RMSNorm", (4, 6), normalized_shape=6, elementwise_affine=False),
    layer("instance norm", "GroupNorm", (2, 3, 5), num_groups=3, num_channels=3, eps=1e-3),
    layer("layer norm", "LayerNorm", (2, 3, 5), normalized_shape=5),
    layer("layer norm over axes", "LayerNorm", (2, 3, 2, 4), normalized_shape=(3, 2, 4)),
    layer("layer norm without bias", "LayerNorm", (2, 3, 4), normalized_shape=(3, 4), bias=False),
    layer("layer norm, not affine", "LayerNorm", (4, 6), normalized_shape=6, elementwise_affine=False, eps=1e-2),
    layer("local response norm", "LocalResponseNorm", (2, 7, 3, 2), size=5, alpha=0.5),
    layer("local response norm, even", "LocalResponseNorm", (2, 5, 4), size=4, alpha=0.3, beta=0.5, k=2.0),
    layer("local response norm, wider than the channels", "LocalResponseNorm", (1, 2, 3, 3), size=5, k=0.5),
    # the rest
    layer("embedding", "Embedding", (3, 4), values="places", num_embeddings=5, embedding_dim=3),
    layer("embedding with padding", "Embedding", (7,), values="places", num_embeddings=6, embedding_dim=2, padding_idx=-3),
    layer("dropout in use", "Dropout", (3, 4), training=False),
    layer("dropout of nothing", "Dropout", (3, 4), p=0.0),
    layer("dropout of everything", "Dropout", (3, 4), p=1.0),
    layer("dropout of channels in use", "Dropout2d", (2, 3, 2, 2), training=False),
    layer("dropout of all channels", "Dropout2d", (2, 3, 2, 2), p=1.0),
    layer("channel shuffle", "ChannelShuffle", (2, 6, 2, 3), groups=2),
    layer("channel shuffle of signals", "ChannelShuffle", (1, 6, 2), groups=3),
    layer("flatten", "Flatten", (2, 3, 4, 2)),
    layer("flatten two axes", "Flatten", (2, 3, 4, 2), start_dim=-3, end_dim=2),
    layer("relu", "ReLU", (3, 6), values="kinks", inplace=False),
    layer("relu6", "ReLU6", (3, 6), values="kinks"),
    layer("hardtanh", "Hardtanh", (3, 6), values="kinks"),
    layer("hardtanh with limits", "Hardtanh", (3, 6), values="kinks", min_val=-0.5, max_val=6.0),
    layer("hardsigmoid", "Hardsigmoid", (3, 8), values="bends"),
    layer("hardswish", "Hardswish", (3, 8), values="bends"),
    layer("elu", "ELU", (3, 6), values="kinks"),
    layer("elu, steep", "ELU", (3, 6), values="kinks", alpha=1.5),
    layer("celu", "CELU", (3, 6), values="kinks"),
    layer("celu, flat", "CELU", (3, 6), values="kinks", alpha=0.5),
    layer("selu", "SELU", (3, 6), values="kinks"),
    layer("prelu", "PReLU", (3, 6), values="kinks"),
    layer("prelu of channels", "PReLU", (2, 3, 4), values="kinks", num_parameters=3, init=0.1),
    layer("prelu of a vector", "PReLU", (6,), values="kinks"),
    layer("mish", "Mish", (3, 8), values="bends"),
    layer("softplus", "Softplus", (3, 8), values="bends"),
    layer("softplus, steep", "Softplus", (3, 8), values="bends", beta=2.5, threshold=10.0),
    layer("log sigmoid", "LogSigmoid", (3, 8), values="bends"),
    layer("softsign", "Softsign", (3, 8), values="bends"),
    layer("glu", "GLU", (3, 6)),
    layer("glu over channels", "GLU", (2, 4, 3), values="kinks", dim=1),
    layer("leaky relu", "LeakyReLU", (3, 6), values="kinks"),
    layer("leaky relu, steep", "LeakyReLU", (3, 6), values="kinks", negative_slope=0.2),
    layer("sigmoid", "Sigmoid", (3, 6), values="kinks"),
    layer("tanh", "Tanh", (3, 6), values="kinks"),
    layer("gelu", "GELU", (3, 6), values="kinks"),
    layer("gelu by tanh", "GELU", (3, 6), values="kinks", approximate="tanh"),
    layer("silu", "SiLU", (3, 6), values="kinks"),
    layer("softmax", "Softmax", (3, 5), dim=1),
    layer("log softmax", "LogSoftmax", (3, 5), values="kinks", dim=-1),
    layer("softmax over channels", "Softmax", (2, 4, 3, 2), values="kinks", dim=1),
)

# ---- functions that no layer calls


@dataclass(frozen=True)
class Function:
    """One function on inputs, each a pair (what it is made of, shape): "normal" numbers, which are differentiated, a "mask" of
    bools, or a number as text, such as "5": whole numbers below it."""

    name: str
    function: str
    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    arguments: dict[str, Any]


def function(name: str, kind: str, *inputs: Any, **arguments: Any) -> Function:
    """A row; an input that is given by its shape alone is of normal numbers."""
    parts = tuple(one if isinstance(one[0], str) else ("normal", one) for one in inputs)
    return Function(name, kind, parts, arguments)


FUNCTIONS = (
    function("unfold", "unfold", (2, 3, 5, 6), kernel_size=3, padding=1),
    function("unfold strided", "unfold", (1, 2, 7, 6), kernel_size=(3, 2), dilation=(1, 2), padding=(1, 0), stride=(2, 1)),
    function("unfold of one image", "unfold", (2, 4, 4), kernel_size=2),
    function("normalize", "normalize", (4, 3)),
    function("normalize by the sum of magnitudes", "normalize", (4, 3), p=1.0, dim=0),
    function("normalize by the largest", "normalize", (4, 3, 2), p=float("inf"), eps=0.5),
    function("normalize by another norm", "normalize", (4, 3), p=3.0, dim=-1),
    function("cosine similarity", "cosine_similarity", (4, 3), (4, 3)),
    function("cosine similarity, broadcast", "cosine_similarity", (4, 1, 3), (5, 3), dim=-1),
    function("embedding", "embedding", ("4", (2, 3)), (4, 2), padding_idx=1),
    function("attention", "scaled_dot_product_attention", (2, 3, 4), (2, 5, 4), (2, 5, 6)),
    function("attention, masked", "scaled_dot_product_attention", (2, 3, 4), (2, 5, 4), (2, 5, 2), ("mask", (3, 5)), scale=0.7),
    function("attention, causal", "scaled_dot_product_attention", (2, 2, 4, 3), (2, 2, 5, 3), (2, 2, 5, 3), is_causal=True),
    function("attention, biased", "scaled_dot_product_attention", (3, 4), (5, 4), (5, 2), (3, 5)),
    function("pad of three axes", "pad", (2, 3, 4), pad=(1, 2, 0, 1, 1, 0), value=0.5),
    function("pad, circular", "pad", (2, 2, 3, 4), pad=(2, 1, 3, 0), mode="circular"),
)

# ---- losses


@dataclass(frozen=True)
class Loss:
    """One loss on one prediction of ``shape``.

    ``target``: "normal" numbers, "near" the prediction, "binary", "probabilities", or "labels" from 0 to classes - 1, of
    which some are ``arguments["ignore_index"]``, or "ignored": labels that all are, or "sparse probabilities", of which some
    are 0, or "log probabilities". ``values`` as for layers, or "masked": in each row one class, not the label's, scores -inf,
    or "probabilities" or "log probabilities", of each class on its own.
    """

    name: str
    loss: str
    shape: tuple[int, ...]
    target: str
    arguments: dict[str, Any]
    values: str = "normal"


def _loss(name: str, kind: str, shape: tuple[int, ...], target: str, values: str = "normal", **arguments: Any) -> Loss:
    """A row that is named after its arguments, too."""
    facts = [key if isinstance(value, list) else f"{key}={value}" for key, value in arguments.items()]
    return Loss(", ".join([name, *facts]), kind, shape, target, arguments, values)


def _options(**choices: tuple[Any, ...]) -> list[dict[str, Any]]:
    """All combinations; None leaves an argument out."""
    rows = [dict(zip(choices, row, strict=True)) for row in product(*choices.values())]
    return [{key: value for key, value in row.items() if value is not None} for row in rows]


_REDUCTIONS = (None, "sum", "none")
_WEIGHT = (None, [0.5, 2.0, 1.0, 0.25])

LOSSES = (
    *(_loss("squared error", "MSELoss", (3, 4), "normal", **row) for row in _options(reduction=_REDUCTIONS)),
    *(_loss("absolute error", "L1Loss", (3, 4), "normal", **row) for row in _options(reduction=_REDUCTIONS)),
    _loss("absolute error at kinks", "L1Loss", (3, 4), "near", "kinks", reduction="sum"),
    *(
        _loss("smooth absolute error", "SmoothL1Loss", (4, 4), "near", **row)
        for row in _options(beta=(None, 0.3, 0.0), reduction=_REDUCTIONS)
    ),
    _loss("smooth absolute error at kinks", "SmoothL1Loss", (3, 4), "near", "kinks", beta=0.5, reduction="sum"),
    *(
        _loss("cross-entropy", "CrossEntropyLoss", (6, 4), "labels", **row)
        for row in _options(weight=_WEIGHT, ignore_index=(None, 1, -1), label_smoothing=(None, 0.1), reduction=_REDUCTIONS)
    ),
    *(
        _loss("cross-entropy of pixels", "CrossEntropyLoss", (2, 4, 3, 2), "labels", **row)
        for row in _options(weight=_WEIGHT, ignore_index=(None, 2), label_smoothing=(None, 0.2), reduction=(None, "none"))
    ),
    *(
        _loss("cross-entropy of masked classes", "CrossEntropyLoss", (6, 4), "labels", "masked", **row)
        for row in _options(weight=_WEIGHT, ignore_index=(None, -1), reduction=(None, "none"))
    ),
    *(
        _loss("cross-entropy of nothing", "CrossEntropyLoss", (3, 4), "ignored", ignore_index=-100, **row)
        for row in _options(weight=_WEIGHT, label_smoothing=(None, 0.1), reduction=_REDUCTIONS)
    ),
    *(
        _loss("cross-entropy of probabilities", "CrossEntropyLoss", (5, 4), "probabilities", **row)
        for row in _options(weight=_WEIGHT, label_smoothing=(None, 0.1), reduction=_REDUCTIONS)
    ),
    *(
        _loss("cross-entropy of pixels' probabilities", "CrossEntropyLoss", (2, 4, 2, 3), "probabilities", **row)
        for row in _options(weight=_WEIGHT, reduction=(None, "none"))
    ),
    *(
        _loss("likelihood", "NLLLoss", (6, 4), "labels", **row)
        for row in _options(weight=_WEIGHT, ignore_index=(None, 3), reduction=_REDUCTIONS)
    ),
    _loss("likelihood of pixels", "NLLLoss", (2, 4, 3, 2), "labels", weight=_WEIGHT[1], ignore_index=-1),
    _loss("likelihood of impossible classes", "NLLLoss", (6, 4), "labels", "masked"),
    *(
        _loss("binary cross-entropy", "BCEWithLogitsLoss", (5, 4), "binary", **row)
        for row in _options(weight=_WEIGHT, pos_weight=(None, [3.0, 1.0, 0.5, 2.0]), reduction=_REDUCTIONS)
    ),
    *(
        _loss("binary cross-entropy of probabilities", "BCELoss", (5, 4), "probabilities", "probabilities", **row)
        for row in _options(weight=_WEIGHT, reduction=_REDUCTIONS)
    ),
    *(_loss("Huber's", "HuberLoss", (4, 4), "near", **row) for row in _options(delta=(None, 0.3), reduction=_REDUCTIONS)),
    _loss("Huber's at kinks", "HuberLoss", (3, 4), "near", "kinks", delta=0.5, reduction="sum"),
    *(
        _loss("divergence", "KLDivLoss", (5, 4), "sparse probabilities", "log probabilities", **row)
        for row in _options(reduction=(*_REDUCTIONS, "batchmean"))
    ),
    *(
        _loss("divergence of logarithms", "KLDivLoss", (5, 4), "log probabilities", "log probabilities", log_target=True, **row)
        for row in _options(reduction=(*_REDUCTIONS, "batchmean"))
    ),
    _loss(
        "binary cross-entropy at kinks", "BCEWithLogitsLoss", (5, 4), "probabilities", "kinks", pos_weight=[3.0, 1.0, 0.5, 2.0]
    ),
)

# ---- models: functions of ``nn``, ours or PyTorch's

LENET_SIZE = (16, 16)


def lenet(nn: Any, size: tuple[int, int] = LENET_SIZE) -> Any:
    """The LeNet of chainrule.models, layer by layer."""
    features = 16 * ((size[0] // 2 - 4) // 2) * ((size[1] // 2 - 4) // 2)
    convolutions = [nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
    classifier = [nn.Linear(features, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)]
    return nn.Sequential(*convolutions, nn.Flatten(), *classifier)


def nested(nn: Any) -> Any:
    """Modules in modules, lists of modules, parameters of its own next to children."""

    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
            self.norm = nn.BatchNorm2d(channels)
            self.inner = nn.Sequential(
                nn.Conv2d(channels, 2 * channels, 1), nn.ReLU(), nn.ConvTranspose2d(2 * channels, channels, 1)
            )

        def forward(self, x: Any) -> Any:
            return x + self.inner(self.norm(self.conv(x)))

    class Model(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.GroupNorm(2, 4))
            self.blocks = nn.ModuleList([Block(4), Block(4)])
            self.dropout = nn.Dropout(0.2)
            self.norm = nn.LayerNorm(4, bias=False)
            self.head = nn.Linear(4, 3)

        def forward(self, x: Any) -> Any:
            x = self.stem(x)
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x.mean((2, 3))))

    return Model()


# ---- optimizers, on a problem that both libraries read alike


@dataclass(frozen=True)
class Optimizer:
    """One optimizer with its options; ``groups`` are names of parameters with the options of their own."""

    name: str
    optimizer: str
    arguments: dict[str, Any]
    groups: tuple[dict[str, Any], ...] = ({"params": ["w1", "b1", "w2", "b2"]},)


STEPS = 10
PROBLEM = {"w1": (4, 3), "b1": (4,), "w2": (2, 4), "b2": (2,), "x": (6, 3), "y": (6, 2)}
PARAMETERS = ("w1", "b1", "w2", "b2")


def error(values: dict[str, Any]) -> Any:
    """Mean squared error of a small network, tanh(x W1^T + b1) W2^T + b2, for tensors of either library."""
    hidden = (values["x"] @ values["w1"].T + values["b1"]).tanh()
    return ((hidden @ values["w2"].T + values["b2"] - values["y"]) ** 2).mean()


_GROUPS = ({"params": ["w1", "b1"], "lr": 0.02}, {"params": ["w2", "b2"], "weight_decay": 0.1})

OPTIMIZERS = (
    Optimizer("plain", "SGD", {"lr": 0.1}),
    Optimizer("momentum", "SGD", {"lr": 0.1, "momentum": 0.9}),
    Optimizer("nesterov", "SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    Optimizer("decaying", "SGD", {"lr": 0.1, "weight_decay": 0.05}),
    Optimizer("nesterov, decaying", "SGD", {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.05, "nesterov": True}),
    Optimizer("groups", "SGD", {"lr": 0.1, "momentum": 0.9}, _GROUPS),
    Optimizer("groups of momentum", "SGD", {"lr": 0.1}, ({"params": ["w1"], "momentum": 0.5}, {"params": ["b1", "w2", "b2"]})),
    Optimizer("rising", "SGD", {"lr": 0.01, "momentum": 0.9, "maximize": True, "weight_decay": 0.05}),
    Optimizer("dampened", "SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.4}),
    Optimizer("dampened, decaying", "SGD", {"lr": 0.1, "momentum": 0.5, "dampening": 0.9, "weight_decay": 0.05}),
    Optimizer("default", "Adam", {}),
    Optimizer("amsgrad", "Adam", {"lr": 0.05, "betas": (0.5, 0.6), "amsgrad": True}),
    Optimizer("rising", "Adam", {"lr": 0.01, "maximize": True, "weight_decay": 0.1}),
    Optimizer("decoupled", "Adam", {"lr": 0.05, "decoupled_weight_decay": True, "weight_decay": 0.1}),
    Optimizer("fast", "Adam", {"lr": 0.05}),
    Optimizer("options", "Adam", {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    Optimizer("memoryless", "Adam", {"lr": 0.05, "betas": (0.0, 0.0)}),
    Optimizer(
        "groups", "Adam", {"lr": 0.05}, ({"params": ["w1", "b1"], "betas": (0.5, 0.9)}, {"params": ["w2", "b2"], "eps": 0.1})
    ),
    Optimizer("default", "AdamW", {}),
    Optimizer("options", "AdamW", {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.3}),
    Optimizer("amsgrad, rising", "AdamW", {"lr": 0.05, "betas": (0.5, 0.6), "amsgrad": True, "maximize": True}),
    Optimizer("groups", "AdamW", {"lr": 0.05}, _GROUPS),
    Optimizer("default", "NAdam", {}),
    Optimizer("options", "NAdam", {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1, "momentum_decay": 0.5}),
    Optimizer("decoupled, rising", "NAdam", {"weight_decay": 0.3, "decoupled_weight_decay": True, "maximize": True}),
    Optimizer("memoryless", "NAdam", {"lr": 0.05, "betas": (0.0, 0.0)}),
    Optimizer("groups", "NAdam", {"lr": 0.05}, _GROUPS),
    Optimizer("default", "RAdam", {}),
    Optimizer("options", "RAdam", {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    Optimizer("decoupled, rising", "RAdam", {"weight_decay": 0.3, "decoupled_weight_decay": True, "maximize": True}),
    Optimizer("forgetful", "RAdam", {"lr": 0.05, "betas": (0.0, 0.6)}),
    Optimizer("memoryless", "RAdam", {"lr": 0.05, "betas": (0.5, 0.0)}),
    Optimizer("groups", "RAdam", {"lr": 0.05}, _GROUPS),
    Optimizer("default", "Adagrad", {}),
    Optimizer(
        "options", "Adagrad", {"lr": 0.1, "lr_decay": 0.2, "weight_decay": 0.1, "initial_accumulator_value": 0.3, "eps": 1e-3}
    ),
    Optimizer("rising", "Adagrad", {"lr": 0.05, "maximize": True}),
    Optimizer("groups", "Adagrad", {"lr": 0.05}, _GROUPS),
    Optimizer("default", "RMSprop", {}),
    Optimizer("options", "RMSprop", {"lr": 0.02, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1}),
    Optimizer("rising", "RMSprop", {"lr": 0.01, "maximize": True}),
    Optimizer("momentum", "RMSprop", {"lr": 0.01, "momentum": 0.8}),
    Optimizer("centered", "RMSprop", {"lr": 0.01, "alpha": 0.9, "centered": True}),
    Optimizer(
        "centered, momentum", "RMSprop", {"lr": 0.01, "alpha": 0.9, "centered": True, "momentum": 0.5, "weight_decay": 0.1}
    ),
    Optimizer("groups", "RMSprop", {"lr": 0.02, "momentum": 0.5}, _GROUPS),
)

CLIPPED_LENGTHS = (0.5, 1.0, 100.0)
"""Lengths that the gradients of the problem are clipped to: the last is longer than they are."""
NORMS = ((1.0, 2.0), (3.0, 0.7), (1.5, 0.4), (0.5, 20.0), (float("inf"), 0.1), (float("inf"), 100.0))
"""Orders of other norms, and what the gradients are clipped to by them."""
CLIPPED_VALUES = (0.05, 100.0)
"""What the elements of the gradients are clipped to: the last is larger than they are."""

# ---- averages of the weights, while a small network with a batch norm is trained

AVERAGES = ((0.9, False), (0.5, False), (0.8, True))
"""Decays, and whether buffers are averaged, too."""
AVERAGED_STEPS = 6
AVERAGED_BATCH = {"x": (8, 3), "y": (8, 2)}


def averaged(nn: Any) -> Any:
    """The network whose weights are averaged."""
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))


# ---- schedules


@dataclass(frozen=True)
class Schedule:
    """One schedule, by constructor and arguments, of one optimizer; ``parts`` are the schedules of a SequentialLR.

    ``groups`` are the options of each group of the optimizer; ``metrics`` is what the steps of a schedule are told that follows
    a metric, and in the end the number of its steps.
    """

    name: str
    schedule: str
    arguments: dict[str, Any]
    optimizer: str = "SGD"
    options: dict[str, Any] = field(default_factory=lambda: {"lr": 0.4, "momentum": 0.9})
    parts: tuple[tuple[str, dict[str, Any]], ...] = ()
    steps: int = 30
    groups: tuple[dict[str, Any], ...] = ({},)
    metrics: tuple[float, ...] = ()


_ADAM: dict[str, Any] = {"optimizer": "Adam", "options": {"lr": 0.1, "betas": (0.9, 0.99)}}
_TWO_RATES: tuple[dict[str, Any], ...] = ({}, {"lr": 0.05, "momentum": 0.5})
_METRICS = (
    *(1.0, 0.8, 0.79995, 0.9, 0.7, 0.71, 0.72, 0.69, 0.695, 0.7, 0.7, 0.7, 0.5, 0.6, float("nan"), 0.6, 0.55, 0.51, 0.5),
    *(0.45, 0.449, 0.448, 0.447, 0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.2),
)
_WARM_UP = ("LinearLR", {"start_factor": 0.1, "total_iters": 6})

SCHEDULES = (
    Schedule("steps", "StepLR", {"step_size": 7}),
    Schedule("steps, gentle", "StepLR", {"step_size": 1, "gamma": 0.9}),
    Schedule("milestones", "MultiStepLR", {"milestones": [5, 12, 12, 20]}),
    Schedule("milestones, gentle, of groups", "MultiStepLR", {"milestones": [1, 9], "gamma": 0.7}, groups=_TWO_RATES),
    Schedule("exponential", "ExponentialLR", {"gamma": 0.9}),
    Schedule("constant, then full", "ConstantLR", {}),
    Schedule("constant, small for long", "ConstantLR", {"factor": 0.01, "total_iters": 20}, **_ADAM),
    Schedule("polynomial", "PolynomialLR", {}),
    Schedule("polynomial, square", "PolynomialLR", {"total_iters": 20, "power": 2.0}, **_ADAM),
    Schedule("polynomial, root", "PolynomialLR", {"total_iters": 25, "power": 0.5}, groups=_TWO_RATES),
    Schedule("warm restarts", "CosineAnnealingWarmRestarts", {"T_0": 8}),
    Schedule("warm restarts, longer and longer", "CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2, "eta_min": 0.01}),
    Schedule("warm restarts at each step", "CosineAnnealingWarmRestarts", {"T_0": 1, "eta_min": 0.1}),
    Schedule("function", "LambdaLR", {"lr_lambda": lambda step: 0.95**step}),
    Schedule(
        "functions of groups",
        "LambdaLR",
        {"lr_lambda": [lambda step: 1 / (1 + step), lambda step: min(1.0, step / 10)]},
        groups=_TWO_RATES,
    ),
    Schedule("cosine", "CosineAnnealingLR", {"T_max": 30}),
    Schedule("cosine to a floor and up again", "CosineAnnealingLR", {"T_max": 12, "eta_min": 0.05}),
    Schedule("warm-up", "LinearLR", {}),
    Schedule("warm-up, slow", "LinearLR", {"start_factor": 0.01, "end_factor": 0.5, "total_iters": 20}, **_ADAM),
    Schedule("cycle", "OneCycleLR", {"max_lr": 1.0, "total_steps": 30}),
    Schedule("cycle of Adam", "OneCycleLR", {"max_lr": 1.0, "total_steps": 30}, **_ADAM),
    Schedule("cycle, linear", "OneCycleLR", {"max_lr": 1.0, "total_steps": 30, "anneal_strategy": "linear", "pct_start": 0.25}),
    Schedule("cycle, linear, of Adam", "OneCycleLR", {"max_lr": 1.0, "total_steps": 30, "anneal_strategy": "linear"}, **_ADAM),
    Schedule("cycle, momentum kept", "OneCycleLR", {"max_lr": 1.0, "total_steps": 30, "cycle_momentum": False}),
    Schedule(
        "cycle, options",
        "OneCycleLR",
        {
            "max_lr": 0.3,
            "total_steps": 30,
            "pct_start": 0.55,
            "base_momentum": 0.7,
            "max_momentum": 0.99,
            "div_factor": 10.0,
            "final_div_factor": 100.0,
        },
    ),
    Schedule("cycle from the top", "OneCycleLR", {"max_lr": 1.0, "total_steps": 30, "pct_start": 0.0}),
    Schedule("cycle of epochs", "OneCycleLR", {"max_lr": 1.0, "epochs": 5, "steps_per_epoch": 6}),
    Schedule("cycle in three phases", "OneCycleLR", {"max_lr": 1.0, "total_steps": 30, "three_phase": True}),
    Schedule(
        "cycle in three phases, linear, of groups",
        "OneCycleLR",
        {
            "max_lr": [1.0, 0.1],
            "total_steps": 30,
            "pct_start": 0.4,
            "anneal_strategy": "linear",
            "base_momentum": [0.8, 0.5],
            "max_momentum": [0.9, 0.99],
            "three_phase": True,
        },
        groups=_TWO_RATES,
    ),
    Schedule("cycles", "CyclicLR", {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 4}),
    Schedule("cycles of Adam", "CyclicLR", {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 4, "step_size_down": 7}, **_ADAM),
    Schedule(
        "cycles, smaller and smaller",
        "CyclicLR",
        {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 3, "step_size_down": 2, "mode": "triangular2"},
    ),
    Schedule(
        "cycles, fading",
        "CyclicLR",
        {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 6, "mode": "exp_range", "gamma": 0.95, "cycle_momentum": False},
    ),
    Schedule(
        "cycles, by a function",
        "CyclicLR",
        {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 4, "scale_fn": lambda cycle: 1 / (1 + cycle)},
    ),
    Schedule(
        "cycles, by a function of the step, of groups",
        "CyclicLR",
        {
            "base_lr": [0.1, 0.01],
            "max_lr": [0.5, 0.02],
            "step_size_up": 4,
            "scale_fn": lambda step: 0.9**step,
            "scale_mode": "iterations",
            "base_momentum": [0.8, 0.5],
            "max_momentum": [0.9, 0.95],
        },
        groups=_TWO_RATES,
    ),
    Schedule("plateau", "ReduceLROnPlateau", {"patience": 3}, metrics=_METRICS),
    Schedule("plateau, impatient", "ReduceLROnPlateau", {"factor": 0.5, "patience": 0}, metrics=_METRICS, **_ADAM),
    Schedule(
        "plateau, cooling down",
        "ReduceLROnPlateau",
        {"factor": 0.5, "patience": 1, "cooldown": 3, "threshold": 0.05, "threshold_mode": "abs"},
        metrics=_METRICS,
    ),
    Schedule("plateau that rises", "ReduceLROnPlateau", {"mode": "max", "factor": 0.3, "patience": 2}, metrics=_METRICS),
    Schedule(
        "plateau that rises by an amount",
        "ReduceLROnPlateau",
        {"mode": "max", "factor": 0.3, "patience": 2, "threshold": 0.1, "threshold_mode": "abs", "cooldown": 1},
        metrics=_METRICS,
    ),
    Schedule(
        "plateau with a floor, of groups",
        "ReduceLROnPlateau",
        {"factor": 0.1, "patience": 0, "min_lr": [0.01, 0.001], "eps": 1e-3},
        groups=_TWO_RATES,
        metrics=_METRICS,
    ),
    Schedule(
        "warm-up, then cosine", "SequentialLR", {"milestones": [6]}, parts=(_WARM_UP, ("CosineAnnealingLR", {"T_max": 24}))
    ),
    Schedule(
        "warm-up, then polynomial", "SequentialLR", {"milestones": [6]}, parts=(_WARM_UP, ("PolynomialLR", {"total_iters": 20}))
    ),
    Schedule(
        "constant, then warm restarts",
        "SequentialLR",
        {"milestones": [4]},
        parts=(("ConstantLR", {"factor": 0.1, "total_iters": 10}), ("CosineAnnealingWarmRestarts", {"T_0": 5, "T_mult": 2})),
    ),
    Schedule(
        "warm-up, then exponential, then milestones",
        "SequentialLR",
        {"milestones": [6, 12]},
        parts=(_WARM_UP, ("ExponentialLR", {"gamma": 0.9}), ("MultiStepLR", {"milestones": [3, 7]})),
    ),
    Schedule(
        "three in a row",
        "SequentialLR",
        {"milestones": [6, 18]},
        parts=(_WARM_UP, ("StepLR", {"step_size": 5, "gamma": 0.5}), ("CosineAnnealingLR", {"T_max": 12, "eta_min": 0.01})),
    ),
)
