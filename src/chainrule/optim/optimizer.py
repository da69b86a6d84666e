"""Base of the optimizers, and groups of parameters with options of their own.

The optimizers are in one file for each family: ``sgd``, ``adam``, ``rmsprop``, ``adagrad``. They have PyTorch's arguments,
defaults and arithmetic.

The update consists of nodes in the same graph as the gradient. State (momentum, counts) and the numbers that schedules change
(learning rate, momentum) are cells, so that a compiled step can contain them and a checkpoint can save them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.arguments import explained, explained_methods, members_of, real_number
from chainrule.errors import UserError, unknown_value
from chainrule.graph import INPUT
from chainrule.graph.dtypes import DType, float32, float64, promote
from chainrule.habits import OPTIMIZER, absent
from chainrule.ops import is_tracing
from chainrule.tensor import Buffer, Cell, Parameter, Tensor, Updates, no_grad, tensor
from chainrule.tensor.engines import has_native_code, runs_natively
from chainrule.tensor.watched import Watched, WatchedDict, WatchedList

_WORTH_A_PROGRAM = 1 << 14
"""The number of elements to update from which on a program is faster than single operations."""


_AT_LEAST_0 = frozenset({"lr", "eps", "weight_decay", "lr_decay", "momentum_decay", "initial_accumulator_value"})
"""Options that are any finite number from 0 on."""


class Group(Watched):
    """Parameters that share their options, such as ``group["lr"]``.

    Options that schedules may change (``lr``, momentum) are cells, whose first values are in ``initial``; others are numbers.
    """

    def __init__(self, parameters: list[Tensor], options: Mapping[str, Any], cells: Iterable[str]) -> None:
        self.parameters = WatchedList(parameters)
        self.options = WatchedDict({name: _plain(value) for name, value in options.items() if name not in cells})
        self.cells = WatchedDict({name: Buffer(np.array(options[name], np.float64)) for name in cells})
        self.initial = WatchedDict({name: float(options[name]) for name in cells})
        self.order = tuple(options)

    def __getitem__(self, name: str) -> Any:
        self._known(name)
        return self.cells[name] if name in self.cells else self.options[name]

    def _known(self, name: str) -> None:
        if name not in self.cells and name not in self.options:
            raise unknown_value("option", name, self.order)

    def value(self, name: str) -> float:
        """The option ``name`` as a Python number."""
        return float(self[name])

    def __repr__(self) -> str:
        return f"Group({self.written()}, {len(self.parameters)} parameters)"

    def written(self) -> str:
        """The options and their present values as text, ``lr=0.1, momentum=0.9``; works also while a function is traced."""
        now = {**{name: float(cell.numbers()) for name, cell in self.cells.items()}, **self.options}
        return ", ".join(f"{name}={now[name]}" for name in self.order)

    def set(self, name: str, value: float) -> None:
        """Change the option ``name``; a UserError if there is no such option, or ``value`` is no number."""
        self._known(name)
        if not isinstance(value, bool | Tensor):
            real_number(f"option {name}", value)
        if name in self.cells:
            self.cells[name].assign(np.array(value, np.float64))
        else:
            self.options[name] = _plain(value)


def _plain(value: Any) -> Any:
    """``value`` as a Python number if it is a NumPy scalar or an array of a single number; else as it is."""
    return value.item() if isinstance(value, np.ndarray | np.generic) and value.size == 1 else value


PASS_PARAMETERS = "pass model.parameters()"
"""The remedy where parameters are not what was passed."""


@explained_methods
class Optimizer(Watched, ABC):
    """Base of the optimizers: updates parameters from their ``grad``, by ``zero_grad()``, ``backward()``, ``step()``.

    ``params`` is an iterable of parameters, or of dicts ``{"params": [...], option: value}`` for groups with options of their
    own. Tensors made with ``requires_grad=True`` can be updated too, outside compiled functions. A parameter without a gradient
    is left as it is, and so is a frozen one (``requires_grad = False``), even if ``grad`` still holds an earlier gradient.
    """

    _made_while_tracing = frozenset({"state"})
    _unwatched = frozenset({"_updates"})
    changing: tuple[str, ...] = ("lr",)
    slots: tuple[str, ...] = ()
    """Names of the state kept per parameter; those in ``always`` every parameter has once it was updated."""
    always: tuple[str, ...] = ()
    scalars: tuple[str, ...] = ("count",)
    """Those of the ``slots`` that are a single float64; the others have the parameter's shape."""

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        if isinstance(params, Tensor):
            raise UserError(f"{type(self).__name__}: got one tensor, {params.node.type}: put it into a list")
        given = members_of(f"{type(self).__name__}: params", params, PASS_PARAMETERS)
        if not given:
            raise UserError(f"{type(self).__name__}: got no parameters: pass model.parameters()")
        groups = given if isinstance(given[0], dict) else [{"params": given}]
        self.groups: WatchedList[Group] = WatchedList()
        seen: set[Tensor] = set()
        for group in groups:
            if not isinstance(group, dict) or "params" not in group:
                raise UserError(f"{type(self).__name__}: a group must be a dict with 'params' and options, got {group!r}")
            options = {**defaults, **self._unfolded({name: value for name, value in group.items() if name != "params"})}
            unknown = set(options) - set(defaults)
            if unknown:
                raise UserError(
                    f"{type(self).__name__}: unknown option {sorted(unknown)[0]!r} of a group. Known: {', '.join(defaults)}"
                )
            self._check(options)
            members = (
                [group["params"]]
                if isinstance(group["params"], Tensor)
                else members_of(f"{type(self).__name__}: params of a group", group["params"], PASS_PARAMETERS)
            )
            for member in members:
                self._check_member(member)
                if member in seen:
                    name = member.name if isinstance(member, Parameter) else member.node.label
                    raise UserError(f"{type(self).__name__}: parameter {name or member.shape} is given twice")
                seen.add(member)
            self.groups.append(Group(members, options, self.changing))
        self.state: WatchedDict[Tensor, WatchedDict[str, Buffer]] = WatchedDict()
        self._updates = Updates()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if _is_ours(cls):
            cls.__init__ = explained(cls.__init__)  # type: ignore[method-assign]

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise absent(type(self).__name__, name, OPTIMIZER)

    def _check_member(self, member: Any) -> None:
        kind = type(self).__name__
        if isinstance(member, Parameter):
            return
        if not isinstance(member, Tensor) or isinstance(member, Cell):
            raise UserError(f"{kind}: can only update parameters, got {type(member).__name__}")
        if not member.requires_grad:
            raise UserError(f"{kind}: {member.node.type} asks for no gradient: make it with requires_grad=True, or a Parameter")
        if member.node.operation is not INPUT:
            raise UserError(
                f"{kind}: {member.node.type}, from {member.node.operation.name} at {member.node.origin}, is computed from "
                "others: pass those, or detach().requires_grad_() for a tensor of its own"
            )

    def _unfolded(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options of a group under the names that they are stored by: ``betas`` become ``beta1`` and ``beta2``."""
        return options

    def _check(self, options: Mapping[str, Any]) -> None:
        for name, value in options.items():
            if not isinstance(self.defaults[name], bool):
                value = real_number(f"{type(self).__name__}: {name}", value)
            if name in _AT_LEAST_0 and not (value >= 0 and math.isfinite(value)):
                raise UserError(f"{type(self).__name__}: {name} must be at least 0, got {value}")
            if name in ("momentum", "dampening", "alpha", "beta1", "beta2") and not 0 <= value < 1:
                raise UserError(f"{type(self).__name__}: {name} must be at least 0 and under 1, got {value}")

    @property
    def parameters(self) -> list[Tensor]:
        """The parameters of all groups, in the order given."""
        return [parameter for group in self.groups for parameter in group.parameters]

    @property
    def lr(self) -> float:
        """Learning rate of the first group; setting it sets that of every group."""
        return self.groups[0].value("lr")

    @lr.setter
    def lr(self, value: float) -> None:
        if not isinstance(value, Tensor):
            Optimizer._check(self, {"lr": value})  # not the subclass's check, which needs all options
        for group in self.groups:
            group.set("lr", value)

    def zero_grad(self) -> None:
        """Clear the gradient of every parameter: ``grad`` becomes None."""
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> None:
        """Update every parameter that has a gradient, once.

        Where there is much to update, the library's own optimizers, which have no side effects, run as a single program: one
        pass over the parameters instead of a pass for each operation.
        """
        learning = [parameter for parameter in self.parameters if parameter.requires_grad]
        parameters = [parameter for parameter in learning if isinstance(parameter, Parameter)]
        if len(parameters) < len(learning) and is_tracing():
            plain = next(parameter for parameter in learning if not isinstance(parameter, Parameter))
            raise UserError(
                f"{type(self).__name__}: a compiled function cannot update {plain.node.type}, a tensor with "
                "requires_grad=True: make it a Parameter"
            )
        worth = _is_ours(type(self)) and runs_natively() and len(parameters) == len(learning)
        worth = worth and sum([parameter.size for parameter in parameters]) >= _WORTH_A_PROGRAM
        if worth and has_native_code():
            frozen = tuple([tuple(group.options.items()) for group in self.groups])
            self._updates.run(self._step, parameters, self._cells(), frozen)
        else:
            self._step()

    def _cells(self) -> Iterator[Buffer]:
        """All cells that the update reads and assigns besides the parameters."""
        for group in self.groups:
            yield from group.cells.values()
        for slots in self.state.values():
            yield from slots.values()

    def _step(self) -> None:
        with no_grad():
            for group in self.groups:
                for parameter in group.parameters:
                    if parameter.requires_grad and parameter.grad is not None:
                        wide = promote(parameter.dtype, float32)  # in bfloat16, 0.999 x rounds to x itself
                        gradient = parameter.grad.astype(wide)
                        self._update(group, parameter, -gradient if group.options.get("maximize") else gradient)

    @abstractmethod
    def _update(self, group: Group, parameter: Tensor, gradient: Tensor) -> None:
        """Update a parameter and its state by assigning to their cells; ``gradient`` is float32 or wider."""

    def _slot(self, parameter: Tensor, name: str) -> Buffer:
        """The state ``name`` of a parameter; when first requested, a new cell of zeros."""
        slots = self.state.get(parameter)
        if slots is None:
            slots = self.state[parameter] = WatchedDict()
        if name not in slots:
            slots[name] = Buffer.zeros(*self._slot_type(parameter, name))
        return slots[name]

    def _always(self, group: Group) -> tuple[str, ...]:
        """Names of the state that every parameter of ``group`` has once it was updated."""
        return self.always

    def _used(self, group: Group) -> tuple[str, ...]:
        """Names of the state that a parameter of ``group`` may have, with the options of the group."""
        return self.slots

    def _slot_type(self, parameter: Tensor, name: str) -> tuple[tuple[int, ...], DType]:
        """Shape and dtype of a state: a single float64 for a count, else the parameter's shape in float32 or wider."""
        return ((), float64) if name in self.scalars else (parameter.shape, promote(parameter.dtype, float32))

    # ---- saving

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """All state as arrays, named ``<index of the parameter>.<state>`` and ``group.<index of the group>.<option>``."""
        arrays = {
            f"{place}.{name}": cell.numpy()
            for place, parameter in enumerate(self.parameters)
            for name, cell in self.state.get(parameter, {}).items()
        }
        for place, group in enumerate(self.groups):
            arrays |= {f"group.{place}.{name}": cell.numpy() for name, cell in group.cells.items()}
        return arrays

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that ``state_dict`` returned. State of parameters that it does not mention is set to zero.

        Raises:
            UserError: the message names what does not fit; nothing was changed.
        """
        kind = type(self).__name__
        if not isinstance(state, Mapping):
            raise UserError(f"{kind}: the state must be a dict, as state_dict() gives it, got a {type(state).__name__}")
        options = {
            f"group.{place}.{name}": cell for place, group in enumerate(self.groups) for name, cell in group.cells.items()
        }
        places = {
            f"{place}.{name}": (parameter, name) for place, parameter in enumerate(self.parameters) for name in self.slots
        }
        for key, value in state.items():
            if key not in options and key not in places:
                raise UserError(f"optimizer state {key!r} does not belong to this {kind}")
            have, wanted = np.shape(value), () if key in options else self._slot_type(*places[key])[0]
            if have != wanted:
                raise UserError(f"optimizer state {key!r} has shape {have}, this {kind} needs {wanted}")
        updated = {key.partition(".")[0] for key in state if key in places}
        groups = [group for group in self.groups for _ in group.parameters]
        always = [(place, name) for place in sorted(map(int, updated)) for name in self._always(groups[place])]
        needed = [*options, *(f"{place}.{name}" for place, name in always)]
        missing = [key for key in needed if key not in state]
        if missing:
            raise UserError(
                f"optimizer state lacks {', '.join(missing)}: was it saved by another {kind}, or another optimizer?"
            )
        for key in (key for key in state if key in places):
            group = groups[int(key.partition(".")[0])]
            if places[key][1] not in self._used(group):
                raise UserError(
                    f"optimizer state {key!r} does not belong to this {kind}({group.written()}): was it saved by one with "
                    "other options?"
                )
        values = {key: tensor(value) for key, value in state.items()}  # all values are converted before any is assigned
        for key, cell in options.items():
            cell.assign(values[key])
        for key, (parameter, name) in places.items():
            if key in state or name in self.state.get(parameter, {}):
                slot = self._slot(parameter, name)
                slot.assign(values[key] if key in state else np.zeros(slot.shape))

    def __repr__(self) -> str:
        if len(self.groups) == 1:
            return f"{type(self).__name__}({self.groups[0].written()})"
        return "\n  ".join([f"{type(self).__name__}(", *map(repr, self.groups)]) + "\n)"


def _is_ours(kind: type) -> bool:
    """Whether an optimizer belongs to this library, so that its update consists of operations alone.

    The update of a user's optimizer may have side effects, which a program would not repeat.
    """
    return kind.__module__.startswith("chainrule.optim.")
