"""Tells whether native code can be made and run on this machine at all. Nothing but LLVM is loaded to find out."""

from __future__ import annotations

import functools
import platform
import sys

_ARCHITECTURES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
"""The 64-bit processors that kernels exist for, by the names that operating systems and LLVM give them."""


def architecture(name: str) -> str | None:
    """Return "x86_64" or "aarch64" for the name of a processor or an LLVM triple; None for any other processor."""
    return _ARCHITECTURES.get(name.partition("-")[0].lower())


@functools.cache
def obstacle() -> str | None:
    """Return why there can be no native code on this machine, a sentence without its full stop; None if there can be."""
    processor = platform.machine() or "of an unknown name"
    if sys.maxsize < 1 << 32:
        return f"there is native code for 64-bit processes only, and this is one of 32 bits, on processor {processor}"
    try:
        import llvmlite.binding as llvm

        triple = str(llvm.get_process_triple())
    except Exception as error:  # a shared library that is missing or made for another system can raise any error
        if architecture(processor) is None:
            return f"there is no native code for processor {processor}"
        reason = " ".join(str(error).split()) or type(error).__name__
        return f"llvmlite, which makes native code, cannot be loaded ({reason}): `python -m pip install llvmlite` may mend that"
    if architecture(triple) is None:
        return f"there is no native code for processor {processor} (LLVM calls it {triple})"
    return None
