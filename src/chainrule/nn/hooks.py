"""Hooks: functions that a module calls before or after its ``forward``, to look at what passes or to replace it.

A hook is part of what the module computes. While a function is compiled, hooks are called with tensors that have no numbers,
and what they compute becomes part of the program; they are guarded as all attributes of modules are.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from chainrule.errors import UserError

if TYPE_CHECKING:
    from chainrule.nn.module import Module

BEFORE, AFTER = "register_forward_pre_hook", "register_forward_hook"
_CALLS = {BEFORE: ("module", "inputs"), AFTER: ("module", "inputs", "output")}


class Hook(NamedTuple):
    """A function that was registered, and by which method: ``BEFORE`` or ``AFTER``."""

    kind: str
    function: Callable[..., Any]


class HookHandle:
    """A registered hook. ``remove()`` ends it, and so does the end of ``with handle:``."""

    def __init__(self, module: Module, hook: Hook) -> None:
        self._module, self._hook = weakref.ref(module), hook

    def remove(self) -> None:
        """Call the hook no longer; does nothing if it was removed already."""
        module = self._module()
        if module is not None:
            module._hooks = tuple(hook for hook in module._hooks or () if hook is not self._hook) or None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def __repr__(self) -> str:
        module = self._module()
        there = module is not None and any(hook is self._hook for hook in module._hooks or ())
        return f"HookHandle({_name(self._hook.function)}{'' if there else ', removed'})"


def registered(module: Module, kind: str, function: Callable[..., Any]) -> HookHandle:
    """Add a hook behind those that the module has.

    Raises:
        UserError: ``function`` cannot be called with what a hook of this kind is called with.
    """
    call = f"hook({', '.join(_CALLS[kind])})"
    if not callable(function):
        raise UserError(f"{kind}: needs a function that is called as {call}, got a {type(function).__name__}")
    try:
        inspect.signature(function).bind(*_CALLS[kind])
    except TypeError as error:
        raise UserError(f"{kind}: the hook is called as {call}, which {_name(function)} does not take: {error}") from None
    except ValueError:  # a function written in C may have no signature
        pass
    hook = Hook(kind, function)
    module._hooks = (*(module._hooks or ()), hook)
    return HookHandle(module, hook)


def before(module: Module, hooks: tuple[Hook, ...], inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs of ``forward``: what was passed, or what hooks returned in its place."""
    for hook in hooks:
        if hook.kind == BEFORE:
            returned = hook.function(module, inputs)
            if returned is not None:
                inputs = module._converted(returned if isinstance(returned, tuple) else (returned,))
    return inputs


def after(module: Module, hooks: tuple[Hook, ...], inputs: tuple[Any, ...], output: Any) -> Any:
    """The output of the module: that of ``forward``, or what hooks returned in its place."""
    for hook in hooks:
        if hook.kind == AFTER:
            returned = hook.function(module, inputs, output)
            if returned is not None:
                output = returned
    return output


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__)
