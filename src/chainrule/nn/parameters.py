"""Modules that hold parameters: ParameterList in order, ParameterDict by names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, KeysView, Mapping
from typing import Any, Self

from chainrule.arguments import explained_methods, whole_number
from chainrule.errors import UserError, UserIndexError, UserKeyError
from chainrule.nn.module import Module
from chainrule.tensor import Buffer, Parameter


class _Parameters(Module):
    """Base of both. What is put in is made a parameter, if it is none; buffers are refused, as they are not learned."""

    def _put(self, name: str, value: Any) -> None:
        if isinstance(value, Buffer | Module):
            kind = type(self).__name__
            raise UserError(f"{kind}: element {name} must be a parameter or an array, got a {type(value).__name__}")
        setattr(self, name, value if isinstance(value, Parameter) else Parameter(value))

    def __len__(self) -> int:
        return len(self._cells)

    def __repr__(self) -> str:
        lines = [f"({name}): {cell.type}" for name, cell in self._cells.items()]
        return "\n  ".join([f"{type(self).__name__}(", *lines]) + "\n)" if lines else f"{type(self).__name__}()"


@explained_methods
class ParameterList(_Parameters):
    """A list of parameters that belong to the model, named 0, 1, 2, ...; it has no ``forward``.

    Arrays and tensors that are put in become parameters, with a copy of their numbers.
    """

    def __init__(self, values: Iterable[Any] = ()) -> None:
        super().__init__()
        self.extend(values)

    def append(self, value: Any) -> Self:
        """Add a parameter at the end; returns the list, as in PyTorch."""
        self._put(str(len(self)), value)
        return self

    def extend(self, values: Iterable[Any]) -> Self:
        """Add several parameters at the end; returns the list."""
        if not isinstance(values, Iterable) or isinstance(values, str | bytes | Mapping):
            raise UserError(f"ParameterList: needs a list of parameters, got a {type(values).__name__}")
        for value in list(values):
            self.append(value)
        return self

    def _name_at(self, place: int) -> str:
        number = whole_number("ParameterList: the place of a parameter", place)
        if not -len(self) <= number < len(self):
            raise UserIndexError(f"ParameterList has {len(self)} elements, there is no {number}")
        return str(number % len(self))

    def __getitem__(self, place: int | slice) -> Any:
        """The parameter at a place, which may count from the end; for a slice, a ParameterList of the same parameters."""
        if isinstance(place, slice):
            return ParameterList(list(self)[place])
        return self._cells[self._name_at(place)]

    def __setitem__(self, place: int, value: Any) -> None:
        """Replace the parameter at a place."""
        self._put(self._name_at(place), value)

    def __iter__(self) -> Iterator[Parameter]:
        return (cell for cell in list(self._cells.values()) if isinstance(cell, Parameter))


@explained_methods
class ParameterDict(_Parameters):
    """Parameters by names, in the order in which they came; they belong to the model. It has no ``forward``.

    Arrays and tensors that are put in become parameters, with a copy of their numbers. A name is a text without dots that is no
    attribute of the class.
    """

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.update({} if values is None else values)

    def update(self, values: Mapping[str, Any]) -> None:
        """Add or replace parameters, given as a dict."""
        if not isinstance(values, Mapping | ParameterDict):
            raise UserError(f"ParameterDict: needs a dict of parameters, got a {type(values).__name__}")
        for name in list(values):
            self[name] = values[name]

    def __getitem__(self, name: str) -> Any:
        """The parameter of that name; a UserKeyError if there is none."""
        if name not in self:
            raise UserKeyError(f"ParameterDict has no element {name!r}: it has {', '.join(self._cells) or 'none'}")
        return self._cells[name]

    def __setitem__(self, name: str, value: Any) -> None:
        """Add a parameter, or replace the parameter of that name."""
        if not isinstance(name, str) or not name or "." in name or hasattr(ParameterDict, name):
            raise UserError(
                f"ParameterDict: {name!r} cannot be the name of a parameter: it must be a text without dots that is no "
                "attribute of ParameterDict"
            )
        self._put(name, value)

    def __delitem__(self, name: str) -> None:
        self[name]
        delattr(self, name)

    def __contains__(self, name: object) -> bool:
        return name in self._cells

    def __iter__(self) -> Iterator[str]:
        return iter(self._cells)

    def keys(self) -> KeysView[str]:
        """The names."""
        return self._cells.keys()

    def values(self) -> list[Parameter]:
        """The parameters."""
        return [self[name] for name in self]

    def items(self) -> list[tuple[str, Parameter]]:
        """The names with the parameters."""
        return [(name, self[name]) for name in self]
