"""Standard file formats, read and written so that neither a crash nor a full disk can lose what was there."""

from chainrule.formats.atomic import write_atomically
from chainrule.formats.safetensors_files import load_safetensors, save_safetensors

__all__ = ["load_safetensors", "save_safetensors", "write_atomically"]
