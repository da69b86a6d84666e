"""Data sets, readers, augmentation, and the loader that makes batches of them."""

from typing import TYPE_CHECKING, Any

from chainrule.data.augment import AlternatingFlip, Normalize, RandomCrop, RandomFlip, RandomShift, Transform, mean_std
from chainrule.data.cifar import cifar10
from chainrule.data.colors import ColorJitter
from chainrule.data.dataset import ArrayDataset, Dataset
from chainrule.data.erasing import Cutout, RandomErasing
from chainrule.data.idx_files import idx, read_idx, write_idx
from chainrule.data.image_folders import ImageFolder, image_folder, split_image_folder
from chainrule.data.loader import Loader
from chainrule.data.mixing import CutMix, Mixup
from chainrule.data.mnist_files import MNIST_SAMPLES, mnist
from chainrule.data.named import load_dataset
from chainrule.data.resizing import RandomResizedCrop
from chainrule.habits import DATA, absent

__all__ = [
    "MNIST_SAMPLES",
    "AlternatingFlip",
    "ArrayDataset",
    "ColorJitter",
    "CutMix",
    "Cutout",
    "Dataset",
    "ImageFolder",
    "Loader",
    "Mixup",
    "Normalize",
    "RandomCrop",
    "RandomErasing",
    "RandomFlip",
    "RandomResizedCrop",
    "RandomShift",
    "Transform",
    "cifar10",
    "idx",
    "image_folder",
    "load_dataset",
    "mean_std",
    "mnist",
    "read_idx",
    "split_image_folder",
    "write_idx",
]

if not TYPE_CHECKING:  # a type checker that saw it would accept every misspelt name

    def __getattr__(name: str) -> Any:
        raise absent("module 'chainrule.data'", name, DATA)
