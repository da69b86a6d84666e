"""Modules made of modules in a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from chainrule.errors import UserError
from chainrule.nn.module import Module


class _Row(Module):
    """Children named 0, 1, 2, ..."""

    def _extend(self, modules: Iterable[Any]) -> None:
        for module in modules:
            if not isinstance(module, Module):
                raise UserError(f"{type(self).__name__}: element {len(self)} must be a layer, got {type(module).__name__}")
            setattr(self, str(len(self)), module)

    def append(self, module: Module) -> None:
        self._extend([module])

    def __len__(self) -> int:
        return len(self._children)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._children.values())

    def __getitem__(self, place: int | slice) -> Any:
        modules = list(self._children.values())
        if isinstance(place, slice):
            part = type(self)()
            part._extend(modules[place])
            return part
        if not -len(modules) <= place < len(modules):
            raise IndexError(f"{type(self).__name__} has {len(modules)} elements, there is no {place}")
        return modules[place]


class Sequential(_Row):
    """One module after the other: each gets what the one before returned."""

    def __init__(self, *modules: Module) -> None:
        super().__init__()
        self._extend(modules)

    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x


class ModuleList(_Row):
    """A list of modules whose parameters count; what to do with them is the owner's ``forward``."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self._extend(modules)
