"""All models by name, with the facts that help to choose: a row each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from chainrule.arguments import explained, explained_methods
from chainrule.models.alexnet import alexnet
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
from chainrule.models.vgg import vgg11, vgg11_bn, vgg13, vgg13_bn, vgg16, vgg16_bn, vgg19, vgg19_bn, vgg_small
from chainrule.nn import Module


@explained_methods
@dataclass(frozen=True)
class Entry:
    """A model and what is known of it.

    ``make`` takes ``num_classes`` and ``channels``, where ``sized`` also ``size`` (height, width), and the fixed ``options``.
    ``image`` (C, H, W) is what it is usually trained on, ``least`` the smallest height and width in pixels that it takes.
    ``parameters`` and ``multiply_adds`` (of one image) are those for ``image`` and ``classes``; ``receptive_field`` is the side
    in pixels of what a unit in front of the classifier sees, None if that is the whole image whatever its size.
    ``auxiliary`` are beginnings of names in other people's files of weights that it has no use for.
    """

    make: Callable[..., Module] = field(repr=False)
    image: tuple[int, int, int]
    classes: int
    least: int
    parameters: int
    multiply_adds: int
    receptive_field: int | None
    paper: str
    sized: bool = False
    options: tuple[tuple[str, Any], ...] = ()
    auxiliary: tuple[str, ...] = ()

    def model(self, channels: int, classes: int, size: tuple[int, int]) -> Module:
        """The model for images (N, channels, *size) and ``classes``, with new weights."""
        sized = {"size": size} if self.sized else {}
        return self.make(num_classes=classes, channels=channels, **sized, **dict(self.options))


Entry.__init__ = explained(Entry.__init__)  # type: ignore[method-assign]

_DIGIT, _SMALL, _PHOTO = (1, 28, 28), (3, 32, 32), (3, 224, 224)

MODELS: dict[str, Entry] = {
    "mlp": Entry(mlp, _DIGIT, 10, 1, 535_818, 535_040, None, "Rumelhart et al. 1986", sized=True),
    "lenet": Entry(lenet, _DIGIT, 10, 12, 61_706, 416_520, 16, "LeCun et al. 1998", sized=True),
    "resnet9": Entry(resnet9, _SMALL, 10, 8, 6_573_120, 379_261_952, 64, "Coleman et al. 2017"),
    "fastnet": Entry(fastnet, _SMALL, 10, 9, 1_971_640, 118_147_360, 51, "Jordan 2024"),
    "resnet20": Entry(resnet20, _SMALL, 10, 1, 269_722, 40_551_040, 81, "He et al. 2015"),
    "resnet32": Entry(resnet32, _SMALL, 10, 1, 464_154, 68_862_592, 137, "He et al. 2015"),
    "resnet56": Entry(resnet56, _SMALL, 10, 1, 853_018, 125_485_696, 249, "He et al. 2015"),
    "resnet18_small": Entry(resnet18_small, _SMALL, 10, 1, 11_173_962, 555_422_720, 109, "He et al. 2015"),
    "vgg_small": Entry(vgg_small, _SMALL, 10, 8, 1_149_770, 152_766_976, 36, "Simonyan, Zisserman 2014"),
    "mobilenet_small": Entry(mobilenet_small, _SMALL, 10, 1, 425_290, 51_069_952, 55, "Sandler et al. 2018"),
    "alexnet": Entry(alexnet, _PHOTO, 1_000, 63, 61_100_840, 714_188_480, 195, "Krizhevsky 2014"),
    "squeezenet1_0": Entry(squeezenet1_0, _PHOTO, 1_000, 21, 1_248_424, 818_924_576, 155, "Iandola et al. 2016"),
    "squeezenet1_1": Entry(squeezenet1_1, _PHOTO, 1_000, 17, 1_235_496, 349_151_936, 207, "Iandola et al. 2016"),
    "mobilenet_v2": Entry(mobilenet_v2, _PHOTO, 1_000, 1, 3_504_872, 300_774_272, 491, "Sandler et al. 2018"),
    "mobilenet_v3_small": Entry(mobilenet_v3_small, _PHOTO, 1_000, 1, 2_542_856, 56_510_400, None, "Howard et al. 2019"),
    "mobilenet_v3_large": Entry(mobilenet_v3_large, _PHOTO, 1_000, 1, 5_483_032, 216_589_760, None, "Howard et al. 2019"),
    "shufflenet_v2_x1_0": Entry(shufflenet_v2_x1_0, _PHOTO, 1_000, 1, 2_278_604, 144_907_992, 527, "Ma et al. 2018"),
    "efficientnet_b0": Entry(efficientnet_b0, _PHOTO, 1_000, 1, 5_288_548, 385_814_752, None, "Tan, Le 2019"),
    "efficientnet_b1": Entry(efficientnet_b1, (3, 240, 240), 1_000, 1, 7_794_184, 686_802_832, None, "Tan, Le 2019"),
    "efficientnet_b2": Entry(efficientnet_b2, (3, 288, 288), 1_000, 1, 9_109_994, 1_087_529_456, None, "Tan, Le 2019"),
    "efficientnet_b3": Entry(efficientnet_b3, (3, 300, 300), 1_000, 1, 12_233_232, 1_827_141_392, None, "Tan, Le 2019"),
    "googlenet": Entry(
        googlenet,
        _PHOTO,
        1_000,
        15,
        6_624_904,
        1_498_376_192,
        379,
        "Szegedy et al. 2015",
        options=(("aux_logits", False),),
        auxiliary=("aux1.", "aux2."),
    ),
    "densenet121": Entry(densenet121, _PHOTO, 1_000, 29, 7_978_856, 2_834_161_664, 2071, "Huang et al. 2017"),
    "resnet18": Entry(resnet18, _PHOTO, 1_000, 1, 11_689_512, 1_814_073_344, 435, "He et al. 2015"),
    "resnet34": Entry(resnet34, _PHOTO, 1_000, 1, 21_797_672, 3_663_761_408, 899, "He et al. 2015"),
    "resnet50": Entry(resnet50, _PHOTO, 1_000, 1, 25_557_032, 4_089_184_256, 427, "He et al. 2015"),
    "resnet101": Entry(resnet101, _PHOTO, 1_000, 1, 44_549_160, 7_801_405_440, 971, "He et al. 2015"),
    "resnet152": Entry(resnet152, _PHOTO, 1_000, 1, 60_192_808, 11_513_626_624, 1451, "He et al. 2015"),
    "resnext50_32x4d": Entry(resnext50_32x4d, _PHOTO, 1_000, 1, 25_028_904, 4_230_479_872, 427, "Xie et al. 2017"),
    "wide_resnet50_2": Entry(wide_resnet50_2, _PHOTO, 1_000, 1, 68_883_240, 11_398_021_120, 427, "Zagoruyko, Komodakis 2016"),
    "convnext_tiny": Entry(convnext_tiny, _PHOTO, 1_000, 32, 28_589_128, 4_455_531_264, 1688, "Liu et al. 2022"),
    "vgg11": Entry(vgg11, _PHOTO, 1_000, 32, 132_863_336, 7_609_090_048, 150, "Simonyan, Zisserman 2014"),
    "vgg11_bn": Entry(vgg11_bn, _PHOTO, 1_000, 32, 132_868_840, 7_609_090_048, 150, "Simonyan, Zisserman 2014"),
    "vgg13": Entry(vgg13, _PHOTO, 1_000, 32, 133_047_848, 11_308_466_176, 156, "Simonyan, Zisserman 2014"),
    "vgg13_bn": Entry(vgg13_bn, _PHOTO, 1_000, 32, 133_053_736, 11_308_466_176, 156, "Simonyan, Zisserman 2014"),
    "vgg16": Entry(vgg16, _PHOTO, 1_000, 32, 138_357_544, 15_470_264_320, 212, "Simonyan, Zisserman 2014"),
    "vgg16_bn": Entry(vgg16_bn, _PHOTO, 1_000, 32, 138_365_992, 15_470_264_320, 212, "Simonyan, Zisserman 2014"),
    "vgg19": Entry(vgg19, _PHOTO, 1_000, 32, 143_667_240, 19_632_062_464, 268, "Simonyan, Zisserman 2014"),
    "vgg19_bn": Entry(vgg19_bn, _PHOTO, 1_000, 32, 143_678_248, 19_632_062_464, 268, "Simonyan, Zisserman 2014"),
}
"""Every model that ``build`` and the command know. A test holds the facts of each row against the model."""
