"""Modules that hold other modules: Sequential and ModuleList in order, ModuleDict by names."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Self

from chainrule.arguments import explained_methods, whole_number
from chainrule.errors import UserError, UserIndexError, UserKeyError
from chainrule.nn.module import Module


def _check_name(container: Module, name: Any) -> None:
    """Raise a UserError unless ``name`` can be that of a layer in the container, and so part of a path."""
    kind = type(container)
    if not isinstance(name, str) or not name or "." in name or hasattr(kind, name):
        raise UserError(
            f"{kind.__name__}: {name!r} cannot be the name of a layer: it must be a text without dots that is no attribute of "
            f"{kind.__name__}"
        )


class _Row(Module):
    """Base of both. Layers are named 0, 1, 2, ..., or by the keys of a dict; they can be indexed, sliced and looped over."""

    def _extend(self, modules: Any) -> None:
        """Add layers from an iterable, named by numbers that continue, or from a dict, named by its keys."""
        if isinstance(modules, Mapping):
            named = list(modules.items())
        elif isinstance(modules, Iterable):
            named = [(str(place), module) for place, module in enumerate(modules, len(self))]
        else:
            raise UserError(f"{type(self).__name__}: needs layers, got a {type(modules).__name__}")
        for name, module in named:
            if not isinstance(module, Module):
                hint = ": pass its members one by one, Sequential(*layers)" if isinstance(module, list | tuple) else ""
                raise UserError(f"{type(self).__name__}: element {name} must be a layer, got {type(module).__name__}{hint}")
            _check_name(self, name)
            setattr(self, name, module)

    def append(self, module: Module) -> Self:
        """Add a layer at the end; returns the container, as in PyTorch."""
        self._extend([module])
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add several layers at the end; returns the container."""
        self._extend(modules)
        return self

    def insert(self, place: int, module: Module) -> Self:
        """Insert a layer before position ``place`` and renumber the layers behind it; returns the container.

        Raises:
            UserError: the layers have names instead of numbers.
        """
        layers = list(self._children.values())
        names = list(self._children)
        if not all(map(str.isdecimal, names)):
            raise UserError(f"{type(self).__name__}: insert needs numbered layers, these have names: {', '.join(names)}")
        layers.insert(whole_number(f"{type(self).__name__}: the place of a layer", place), module)
        if not isinstance(module, Module):
            raise UserError(f"{type(self).__name__}: insert needs a layer, got a {type(module).__name__}")
        for number, layer in enumerate(layers):
            setattr(self, str(number), layer)
        return self

    def __setitem__(self, place: int, module: Module) -> None:
        """Replace the layer at ``place``."""
        if not isinstance(module, Module):
            raise UserError(f"{type(self).__name__}: element {place} must be a layer, got {type(module).__name__}")
        setattr(self, self._name_at(place), module)

    def _name_at(self, place: int) -> str:
        """The name of the layer at ``place``, which may count from the end; a UserIndexError if there is none."""
        names = list(self._children)
        number = whole_number(f"{type(self).__name__}: the place of a layer", place)
        if not -len(names) <= number < len(names):
            raise UserIndexError(f"{type(self).__name__} has {len(names)} elements, there is no {number}")
        return names[number]

    def __len__(self) -> int:
        return len(self._children)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._children.values())

    def __getitem__(self, place: int | slice) -> Any:
        names = list(self._children)
        if isinstance(place, slice):
            part = type(self)()
            chosen = {name: self._children[name] for name in names[place]}
            part._extend(chosen.values() if all(map(str.isdecimal, names)) else chosen)
            return part
        return self._children[self._name_at(place)]


class Sequential(_Row):
    """Runs modules in order, each on the output of the one before. A dict, ``Sequential({"name": layer})``, names them."""

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        self._extend(modules[0] if len(modules) == 1 and isinstance(modules[0], Mapping) else modules)

    def forward(self, x: Any) -> Any:
        """The output of the last module, each having been called on the output of the one before; without modules, ``x``."""
        for module in self:
            x = module(x)
        return x


class ModuleList(_Row):
    """A list of modules whose parameters belong to the model; it has no ``forward``: that of its owner calls them."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self._extend(modules)


@explained_methods
class ModuleDict(Module):
    """Modules by names, in the order in which they came; it has no ``forward``: that of its owner calls them.

    Its parameters belong to the model. A name is a text without dots that is no attribute of the class.
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.update(modules)

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add or replace layers, given as a dict or as pairs (name, layer)."""
        given = modules.items() if isinstance(modules, Mapping | ModuleDict) else modules
        pairs = [tuple(pair) if isinstance(pair, list | tuple) else (pair,) for pair in given]
        if any(len(pair) != 2 for pair in pairs):
            raise UserError("ModuleDict: needs a dict of layers, or pairs (name, layer)")
        for name, module in pairs:
            self[name] = module

    def __setitem__(self, name: str, module: Module) -> None:
        """Add a layer, or replace the one of that name."""
        if not isinstance(module, Module):
            raise UserError(f"ModuleDict: element {name} must be a layer, got {type(module).__name__}")
        _check_name(self, name)
        setattr(self, name, module)

    def __getitem__(self, name: str) -> Any:
        """The layer of that name; a UserKeyError if there is none."""
        self._check_there(name)
        return self._children[name]

    def __delitem__(self, name: str) -> None:
        self._check_there(name)
        delattr(self, name)

    def _check_there(self, name: str) -> None:
        if name not in self._children:
            names = ", ".join(self._children) or "none"
            raise UserKeyError(f"ModuleDict has no element {name!r}: it has {names}")

    def __contains__(self, name: object) -> bool:
        return name in self._children

    def __len__(self) -> int:
        return len(self._children)

    def __iter__(self) -> Iterator[str]:
        return iter(self._children)

    def keys(self) -> KeysView[str]:
        """The names."""
        return self._children.keys()

    def values(self) -> ValuesView[Module]:
        """The layers."""
        return self._children.values()

    def items(self) -> ItemsView[str, Module]:
        """The names with the layers."""
        return self._children.items()

    def pop(self, name: str) -> Module:
        """Remove the layer of that name, and return it."""
        module: Module = self[name]
        del self[name]
        return module

    def clear(self) -> None:
        """Remove all layers."""
        for name in list(self):
            del self[name]
