"""Standard file formats, read and written so that neither a crash nor a full disk loses an older file."""

from chainrule.formats.atomic import cannot_write, leftovers, temporary_name, write_atomically
from chainrule.formats.converting import Converted, convert_torch_file
from chainrule.formats.safetensors_files import load_safetensors, save_safetensors
from chainrule.formats.torch_files import load_torch_file
from chainrule.formats.weight_files import WeightFile

__all__ = [
    "Converted",
    "WeightFile",
    "cannot_write",
    "convert_torch_file",
    "leftovers",
    "load_safetensors",
    "load_torch_file",
    "save_safetensors",
    "temporary_name",
    "write_atomically",
]
