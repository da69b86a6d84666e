"""Networks of one's own: a function in a Python file, named as ``my_nets.py:make_net``.

Such a file is run as code. So it is only ever run when its name was typed or was noted by a training, and in the second case
only if its contents are still those that were trained with.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chainrule.display import displayed
from chainrule.errors import UserError, unknown_value
from chainrule.formats.places import settled
from chainrule.nn import Module
from chainrule.tensor import Tensor

# By path and digest, so that a file that is used twice gives the same class.
_loaded: dict[tuple[str, str], types.ModuleType] = {}


def is_own(name: str) -> bool:
    """Whether a model's name is that of a function in a file: ``my_nets.py:make_net``."""
    if not isinstance(name, str):
        return False
    file, colon, function = name.rpartition(":")
    return bool(colon) and file.endswith(".py") and bool(function)


def located(name: str) -> str:
    """The name with the absolute path of its file, so that it means the same wherever it is used.

    Raises:
        UserError: there is no such file.
    """
    file, _, function = name.rpartition(":")
    path = settled(file)
    if not path.is_file():
        raise UserError(f"model {displayed(name)}: there is no file {displayed(file)}: give FILE.py:FUNCTION")
    return f"{path}:{function}"


def digest(name: str) -> str:
    """The SHA-256 of the file's contents, in hexadecimal digits.

    Raises:
        UserError: the file cannot be read.
    """
    return hashlib.sha256(_contents(name.rpartition(":")[0])).hexdigest()


def build_own(name: str, channels: int, classes: int, size: tuple[int, int], expected: str = "") -> Module:
    """The network that the function makes: it is called with (channels, classes, size), size being (height, width).

    ``expected`` is the digest that the file must have; without it, any will do.

    Raises:
        UserError: the file is missing, is not the expected one or does not run; it lacks the function; the function fails, or
            returns no ``nn.Module``.
    """
    function = _function(name, expected)
    try:
        model = function(channels, classes, size)
    except UserError as error:
        raise UserError(
            f"model {displayed(name)} cannot be built for images of {channels} x {size[0]} x {size[1]}: {error}"
        ) from error
    except SystemExit as error:
        raise UserError(
            f"model {displayed(name)}: {function.__name__} {_ended(error, name)}: it must return an nn.Module"
        ) from error
    except Exception as error:
        raise UserError(
            f"model {displayed(name)}: {function.__name__}(channels={channels}, classes={classes}, size={size}) failed: "
            f"{type(error).__name__}: {error}{_place(error, name)}"
        ) from error
    if not isinstance(model, Module):
        raise UserError(
            f"model {displayed(name)}: {function.__name__} returned a {type(model).__name__}: it must return an nn.Module"
        )
    if not any(True for _ in model.parameters()):
        raise UserError(
            f"model {displayed(name)}: {function.__name__} returned a network without parameters: nothing can learn"
        )
    return model


def scores_of(model: Module, name: str, images: Tensor) -> Tensor:
    """What ``model``, whose name is ``name``, makes of ``images`` (N, C, H, W).

    Raises:
        UserError: a network of one's own fails, or returns anything but a tensor.
    """
    try:
        scores = model(images)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        if not is_own(name):
            raise
        if isinstance(error, SystemExit):
            raise UserError(f"model {displayed(name)} {_ended(error, name)} on images {images.shape}") from error
        raise UserError(
            f"model {displayed(name)} failed on images {images.shape}: {type(error).__name__}: {error}{_place(error, name)}"
        ) from error
    if not isinstance(scores, Tensor):
        raise UserError(
            f"model {displayed(name)} gives a {type(scores).__name__} for its images: it must return its scores, a tensor "
            "(N, classes)"
        )
    return scores


def _function(name: str, expected: str) -> Callable[..., Any]:
    file, _, wanted = name.rpartition(":")
    module = _module(file, expected)
    function = getattr(module, wanted, None)
    if function is None:
        names = [known for known, value in vars(module).items() if isinstance(value, types.FunctionType)]
        raise UserError(f"model {displayed(name)}: {unknown_value('function', wanted, names)}")
    if not callable(function):
        raise UserError(
            f"model {displayed(name)}: {wanted} is a {type(function).__name__}: name a function that makes the network"
        )
    return function


def _module(file: str, expected: str) -> types.ModuleType:
    """The file as a module. It is run again only if its contents have changed."""
    contents = _contents(file)
    found = hashlib.sha256(contents).hexdigest()
    if expected and found != expected:
        raise UserError(
            f"{displayed(file)} is not the file that the run was trained with (SHA-256 {expected[:12]}..., now {found[:12]}...)"
            ": put it back as it was, or train anew"
        )
    key = (str(Path(file).absolute()), found)
    if key in _loaded:
        return _loaded[key]
    name = f"chainrule_model_{Path(file).stem}_{found[:12]}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as dataclasses and others look their module up there
    try:
        exec(compile(contents, file, "exec"), vars(module))
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, SystemExit):
            raise UserError(
                f"{displayed(file)} {_ended(error, file)} while it was read: put what it is to do as a program below "
                'if __name__ == "__main__":'
            ) from error
        if not isinstance(error, Exception):
            raise
        raise UserError(f"{displayed(file)} does not run: {type(error).__name__}: {error}{_place(error, file)}") from error
    _loaded[key] = module
    return module


def _contents(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise UserError(f"{displayed(file)} cannot be read: {error.strerror or error}: give FILE.py:FUNCTION") from None


def _ended(error: SystemExit, name: str) -> str:
    """What a user's file did that ended the program, which is this one."""
    code = "" if error.code is None else displayed(repr(error.code))
    return f"called sys.exit({code}){_place(error, name)}"


def _place(error: BaseException, name: str) -> str:
    """The last line of the user's file that an error passed through."""
    file = name.rpartition(":")[0] if is_own(name) else name
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f" (line {line})" if line else ""
