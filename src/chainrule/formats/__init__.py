"""Standard file formats, read and written so that neither a crash nor a full disk loses an older file."""

from chainrule.formats.atomic import cannot_write, leftovers, temporary_name, write_atomically
from chainrule.formats.safetensors_files import load_safetensors, save_safetensors
from chainrule.formats.weight_files import WeightFile

__all__ = [
    "WeightFile",
    "cannot_write",
    "leftovers",
    "load_safetensors",
    "save_safetensors",
    "temporary_name",
    "write_atomically",
]
