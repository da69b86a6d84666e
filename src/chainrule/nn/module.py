"""Module: a layer, or a model made of layers. Its parameters, buffers and child modules are its attributes."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.arguments import explained, explained_methods, flag, misfit_of, shape_of
from chainrule.errors import UserError
from chainrule.formats import save_safetensors
from chainrule.graph import current_module, inside_module, topological_order
from chainrule.graph.dtypes import DType, as_dtype, is_float
from chainrule.habits import MODULE, absent
from chainrule.nn.conversion import as_input
from chainrule.nn.fitting import Misfit
from chainrule.nn.hooks import AFTER, BEFORE, Hook, HookHandle, after, before, registered
from chainrule.ops import history_kept
from chainrule.tensor import Buffer, Cell, Parameter, Tensor, active_trace, tensor
from chainrule.tensor.watched import MISSING, Watched, changed, note

if TYPE_CHECKING:
    from typing import Self

    from chainrule.nn.summary import Summary


class _Named:
    """The module that last set the paths of those below it, and ``version`` then. Each change of a module adds 1 to it."""

    outermost: Callable[[], Module | None] = staticmethod(lambda: None)
    version = version_then = 0


_named = _Named()


@explained_methods
class Module(Watched):
    """Base of layers and models: assign parameters, buffers and layers as attributes, and write ``forward``.

    Calling a module runs ``forward``; nodes made inside record the module's path, such as ``features.0``. ``training`` is the
    flag that ``train()`` and ``eval()`` set, for layers that behave differently in training (Dropout, BatchNorm). NumPy arrays
    are converted to tensors; layers of this package also take nested lists of numbers.
    """

    _announced = frozenset({"_children", "_cells"})

    _takes_a_tensor = False
    """Whether ``forward`` belongs to this package and first takes a tensor: then any numbers are converted to one."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__module__.startswith("chainrule.nn."):
            if "__init__" in vars(cls):
                cls.__init__ = explained(cls.__init__)  # type: ignore[method-assign]
            if "forward" in vars(cls):
                cls._takes_a_tensor = next(iter(cls.forward.__annotations__.values())) == "Tensor"
        elif "forward" in vars(cls):
            cls._takes_a_tensor = False

    @explained
    def __init__(self) -> None:
        self._children: dict[str, Module]
        self._cells: dict[str, Cell]
        self._hooks: tuple[Hook, ...] | None
        self.__dict__.update(_children={}, _cells={}, _training=True, _path="", _hooks=None)

    def forward(self, *inputs: Any) -> Any:
        """The computation of the module, to be defined by each class; call the module itself, not this method."""
        raise UserError(f"{type(self).__name__} has no forward method: define what it computes")

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Run ``forward``, with arrays converted to tensors; errors name the layer by its path and class."""
        if not current_module():
            self._name_everything()
        kind = type(self).__name__
        with inside_module(self._path or kind, kind, type(self).forward):
            try:
                for value in inputs:
                    if not isinstance(value, Tensor):
                        inputs = self._converted(inputs)
                        break
                if options:
                    options = {
                        name: tensor(value) if isinstance(value, np.ndarray) else value for name, value in options.items()
                    }
                hooks = self._hooks
                if hooks is None:
                    return self.forward(*inputs, **options)
                inputs = before(self, hooks, inputs)
                return after(self, hooks, inputs, self.forward(*inputs, **options))
            except UserError as error:
                if not str(error).startswith(("layer ", kind)):  # an inner layer may already have named itself
                    error.args = (f"{layer_name(self)}: {error}",)
                raise
            except TypeError:
                misfit = misfit_of(self.forward, inputs, options, layer_name(self))
                if misfit is None:
                    raise
        raise misfit

    def _converted(self, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """The inputs with arrays converted to tensors; for a layer of this package, also numbers and nested lists."""
        if self._takes_a_tensor and inputs and not isinstance(inputs[0], Tensor):
            inputs = (as_input("the input", inputs[0]), *inputs[1:])
        return tuple([tensor(value) if isinstance(value, np.ndarray) else value for value in inputs])

    def _name_everything(self) -> None:
        """Set the path of every module and cell below this module, which is the outermost one that is called."""
        version = _named.version
        if _named.outermost() is self and version == _named.version_then:
            return
        if "_cells" not in self.__dict__:
            raise self._forgot_init()
        for path, module in self._walk():
            module.__dict__["_path"] = path
            prefix = f"{path}." if path else ""
            for name, cell in module.__dict__["_cells"].items():
                cell.name = prefix + name
        _named.outermost, _named.version_then = weakref.ref(self), version  # last, as a signal may interrupt this

    def register_forward_hook(self, hook: Callable[[Self, tuple[Any, ...], Any], Any]) -> HookHandle:
        """Call ``hook(module, inputs, output)`` after each ``forward``; what it returns, unless None, replaces the output.

        ``inputs`` is the tuple of the positional arguments. Hooks are called in the order in which they were registered, and
        ``remove()`` of the handle that is returned ends one. In a compiled function a hook runs while the function is traced:
        tensors have no numbers then, what it computes becomes part of the program, and what it stores elsewhere is no result.

        Raises:
            UserError: ``hook`` is no function of three arguments.
        """
        return registered(self, AFTER, hook)

    def register_forward_pre_hook(self, hook: Callable[[Self, tuple[Any, ...]], Any]) -> HookHandle:
        """Call ``hook(module, inputs)`` before each ``forward``; what it returns, unless None, replaces the inputs.

        It returns a single input, or a tuple of all of them. All else is as for ``register_forward_hook``.

        Raises:
            UserError: ``hook`` is no function of two arguments.
        """
        return registered(self, BEFORE, hook)

    # ---- attributes

    def __setattr__(self, name: str, value: Any) -> None:
        if "_cells" not in self.__dict__:
            raise UserError(f"{type(self).__name__}.__init__ must call super().__init__() before it sets {name!r}")
        if isinstance(value, Module | Cell) or name in self._children or name in self._cells:
            _named.version += 1
            changed()
        if isinstance(value, Module):
            self._cells.pop(name, None)
            self.__dict__.pop(name, None)
            self._children[name] = value
        elif isinstance(value, Cell):
            self._children.pop(name, None)
            self.__dict__.pop(name, None)
            self._cells[name] = value
            if not value.name:
                value.name = name
        elif isinstance(getattr(type(self), name, None), property):
            object.__setattr__(self, name, value)
            return
        else:
            self._children.pop(name, None)
            self._cells.pop(name, None)
            self.__dict__[name] = value
        self._was_set(name)

    def _held(self, name: str) -> Any:
        own = self.__dict__
        places = (own, own.get("_cells", {}), own.get("_children", {}))
        return next((attributes[name] for attributes in places if name in attributes), MISSING)

    def __getattr__(self, name: str) -> Any:
        for attributes in (self.__dict__.get("_cells", {}), self.__dict__.get("_children", {})):
            if name in attributes:
                note(self, name, attributes[name])
                return attributes[name]
        if name in ("_cells", "_children"):
            raise self._forgot_init()
        raise absent(type(self).__name__, name, MODULE)

    def _forgot_init(self) -> UserError:
        return UserError(f"{type(self).__name__}.__init__ must call super().__init__()")

    def __delattr__(self, name: str) -> None:
        _named.version += 1
        for attributes in (self._cells, self._children, self.__dict__):
            if name in attributes:
                del attributes[name]
                changed()
                return
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    # ---- walking

    def children(self) -> Iterator[Module]:
        """The modules directly below this one, in order of definition."""
        return iter(self._children.values())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly below this one, with the names of their attributes."""
        return iter(self._children.items())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all modules below it, each once, with their paths; ``prefix`` is the path of this module."""
        for path, module in self._walk(prefix):
            note(module, "_children", module.__dict__["_children"])
            yield path, module

    def _walk(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """As ``named_modules``, but not recorded for compiled functions: for uses that no result depends on."""
        seen: set[int] = set()
        stack: list[tuple[str, Module]] = [(prefix, self)]
        while stack:
            path, module = stack.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            yield path, module
            below = [(f"{path}.{name}" if path else name, child) for name, child in module.__dict__["_children"].items()]
            stack.extend(reversed(below))

    def modules(self) -> Iterator[Module]:
        """This module and all modules below it, each once."""
        return (module for _, module in self.named_modules())

    def _named_cells(self) -> Iterator[tuple[str, Cell]]:
        """Every parameter and buffer with its path, each cell once, in order of definition."""
        seen: set[int] = set()
        for path, module in self.named_modules():
            for name, cell in module._cells.items():
                if id(cell) not in seen:
                    seen.add(id(cell))
                    yield f"{path}.{name}" if path else name, cell

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter, here and below, with its path, such as ``features.0.weight``; a shared parameter only once."""
        return ((name, cell) for name, cell in self._named_cells() if isinstance(cell, Parameter))

    def parameters(self) -> Iterator[Parameter]:
        """Every parameter, here and below, each once, in order of definition."""
        return (cell for _, cell in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """Every buffer, here and below, with its path, such as ``norm.running_mean``; a shared buffer only once."""
        return ((name, cell) for name, cell in self._named_cells() if isinstance(cell, Buffer))

    def buffers(self) -> Iterator[Buffer]:
        """Every buffer, here and below, each once, in order of definition."""
        return (cell for _, cell in self.named_buffers())

    def apply(self, f: Callable[[Module], Any]) -> Self:
        """Call ``f`` with this module and all modules below it, the innermost first; returns this module."""
        if not callable(f):
            raise UserError(f"apply: needs a function of a module, got a {type(f).__name__}")
        for module in reversed(list(self.modules())):
            f(module)
        return self

    # ---- state

    @property
    def training(self) -> bool:
        """Whether the module behaves as in training. Setting it affects this module alone; ``train()`` sets those below too."""
        mode: bool = self.__dict__["_training"]
        trace = active_trace()
        if trace is not None:
            if self in trace.modes:
                mode = trace.modes[self]
            else:
                note(self, "_training", mode)
            if history_kept() != "nothing":
                trace.flags[self] = mode
        return mode

    @training.setter
    def training(self, mode: bool) -> None:
        flag("training", mode)
        trace = active_trace()
        if trace is not None:  # inside a compiled function: each run of the program sets the flag
            trace.modes[self] = bool(mode)
        elif self.__dict__["_training"] is not bool(mode):
            self.__dict__["_training"] = bool(mode)
            self._was_set("_training")

    def train(self, mode: bool = True) -> Self:
        """Set ``training`` here and in all modules below: dropout drops, batch statistics are used. Returns this module."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Clear ``training`` here and in all modules below: no dropout, running statistics. Returns this module."""
        return self.train(False)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """A context in which all modules behave as after ``eval()``; at its end each gets its own flag back."""
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode

    def requires_grad_(self, wanted: bool = True) -> Self:
        """Freeze every parameter here and below (``wanted=False``), or let them learn: see ``Parameter.requires_grad``."""
        for parameter in self.parameters():
            parameter.requires_grad = wanted
        return self

    def zero_grad(self) -> None:
        """Clear the gradient of every parameter, here and below: ``grad`` becomes None."""
        for parameter in self.parameters():
            parameter.grad = None

    def astype(self, dtype: Any) -> Self:
        """Convert every float parameter and buffer, here and below, to ``dtype``; returns this module.

        They are new objects: an optimizer that was made before still holds the old ones.
        """
        wanted: DType = as_dtype(dtype)
        converted: dict[Cell, Cell] = {}  # a cell that several layers share stays shared
        _named.version += 1
        changed()
        for module in self.modules():
            for name, cell in list(module._cells.items()):
                if is_float(cell.dtype):
                    if cell not in converted:
                        converted[cell] = type(cell)(cell.numpy(), wanted)
                        converted[cell].name, converted[cell].requires_grad = cell.name, cell.requires_grad
                    module._cells[name] = converted[cell]
        return self

    def state_cells(self) -> dict[str, Cell]:
        """Every parameter and buffer under all of its paths: the entries of ``state_dict()``.

        It has two in a layer that is used at two places, as in PyTorch.
        """
        named: dict[str, Cell] = {}
        stack: list[tuple[str, Module, tuple[Module, ...]]] = [("", self, ())]
        while stack:
            path, module, above = stack.pop()
            if module in above:  # a module that holds itself
                continue
            prefix = f"{path}." if path else ""
            named |= {prefix + name: cell for name, cell in module._cells.items()}
            below = [(prefix + name, child, (*above, module)) for name, child in module._children.items()]
            stack.extend(reversed(below))
        return named

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """Every parameter and buffer by its path, as NumPy arrays (read-only views).

        What the model holds at two places appears under both paths, as in PyTorch, so that either library can load it.
        """
        return {name: cell.numpy() for name, cell in self.state_cells().items()}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write every parameter and buffer into a safetensors file, atomically, by their names in ``state_dict()``.

        Any program that reads safetensors reads it; ``chainrule.models.load_weights(model, path)`` loads it.

        Raises:
            UserError: the file cannot be written; what was there before is untouched.
        """
        save_safetensors(path, self.state_dict())

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Assign every parameter and buffer from ``state``; nothing is assigned unless everything fits.

        If a parameter has several paths, the state needs only one of them; if it has more, their values must agree.
        ``strict=False`` tolerates missing and unexpected names, but never wrong shapes.

        Raises:
            UserError: the state does not fit; the message lists everything that is wrong, in groups where that is much.
        """
        if not isinstance(state, Mapping):
            raise UserError(
                f"load_state_dict: the state must be a dict of names and arrays, as state_dict() gives it, got a "
                f"{type(state).__name__}: chainrule.models.load_weights(model, path) loads a file"
            )
        cells = self.state_cells()
        both = [name for name in cells if name in state]
        given = {cells[name] for name in both}
        missing = [name for name, cell in cells.items() if cell not in given] if strict else []
        unexpected = [str(name) for name in state if name not in cells] if strict else []
        shapes: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []
        differ: list[str] = []
        values: dict[Cell, tuple[str, Tensor]] = {}
        for name in both:  # all values are converted before any is assigned; each is asked for once, as it may be in a file
            cell, found = cells[name], state[name]
            if np.shape(found) != cell.shape:
                shapes.append((name, cell.shape, np.shape(found)))
            elif not (missing or unexpected or shapes):
                value = tensor(found, cell.dtype)
                first, same = values.setdefault(cell, (name, value))
                if first != name and not np.array_equal(same.numpy(), value.numpy(), equal_nan=True):
                    kind = type(cell).__name__.lower()
                    differ.append(f"{first} and {name} differ in the state, but are one {kind} of the model")
        wrong = [*Misfit(tuple(missing), tuple(unexpected), tuple(shapes)).lines("state"), *differ]
        if wrong:
            raise UserError(f"load_state_dict: the state does not fit this {type(self).__name__}:\n  " + "\n  ".join(wrong))
        for cell, (_, value) in values.items():
            cell.assign(value)

    def unused_parameters(self, loss: Tensor) -> list[str]:
        """Names of the parameters, frozen ones aside, that ``loss`` does not depend on: no gradient will ever reach them."""
        if not isinstance(loss, Tensor):
            raise UserError(f"unused_parameters: needs the loss, a tensor, got a {type(loss).__name__}")
        reached = {
            node.owner()
            for node in topological_order([loss.node], follow=lambda node: node.requires_grad)
            if node.owner is not None
        }
        return [name for name, cell in self.named_parameters() if cell.requires_grad and cell not in reached]

    # ---- showing

    def summary(self, input_shape: tuple[int, ...], dtype: Any = "float32") -> Summary:
        """A table of each layer's output shape, parameters, multiply-adds and receptive field.

        ``input_shape`` is (N, C, H, W), or (N, features). Nothing is computed: the model is only traced.
        """
        from chainrule.nn.summary import summarise

        return summarise(self, shape_of("summary: input_shape", input_shape), as_dtype(dtype))

    def extra_repr(self) -> str:
        """The text between the parentheses of ``repr``: the arguments of the layer."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self._children.items()]
        if not lines:
            return f"{type(self).__name__}({self.extra_repr()})"
        return f"{type(self).__name__}({self.extra_repr()}\n  " + "\n  ".join(lines) + "\n)"


def layer_name(module: Module) -> str:
    """The name of a layer in messages: its path in the model and its class, or only its class outside a model."""
    path = current_module()
    kind = type(module).__name__
    return f"layer {path} ({kind})" if path and path != kind else kind
