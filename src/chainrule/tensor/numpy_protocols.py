"""NumPy's own functions applied to tensors, such as ``np.exp(w)``, ``np.sum(x)`` and ``array + w``.

1. Functions that chainrule has too are computed by chainrule: ``np.exp(w)`` is ``cr.exp(w)``, a tensor in the graph.
2. Functions that only inspect values get the numbers as an array and answer as for an array: ``np.signbit(w)``,
   ``np.array_equal(w, v)``, ``np.nonzero(w)``. Their results (indices, bools, shapes, dtypes, text, files) have no gradient.
3. All other functions are refused for a tensor that asks for a gradient, as the result would silently leave the graph; the
   error names a replacement. For any other tensor, and for every tensor inside ``no_grad()``, they get the numbers as an array.
4. Tensors are immutable, so a tensor cannot be passed as ``out=``. An array can (``array += x``), unless a tensor among the
   inputs asks for a gradient. Options that chainrule does not have (``where=``, ``dtype=``) are refused.

``np.asarray(w)`` gives the numbers, since that is what it asks for. So do the conversions of which NumPy tells nobody:
``np.mean([w, w])`` (a list), ``np.r_[w]``, ``array.dot(w)``, ``array[...] = w``.
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from chainrule import ops
from chainrule.arguments import as_whole
from chainrule.errors import UserError
from chainrule.graph.dtypes import bool_
from chainrule.tensor import functions, making
from chainrule.tensor.axes import Axes, as_axis
from chainrule.tensor.tensor import Tensor, as_tensor


def call_ufunc(ufunc: np.ufunc, method: str, inputs: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """The result of ``ufunc.method(*inputs, **options)`` with a tensor among the inputs or in ``out``.

    ``NotImplemented`` if an argument belongs to another library that overrides ufuncs.

    Raises:
        UserError: a gradient would be lost, a tensor would be written to, or an option is not supported.
    """
    targets = options.get("out", ())
    if any(_belongs_to_others(value) for value in (*inputs, *targets)):
        return NotImplemented
    name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
    called = f"np.{name}" if getattr(np, ufunc.__name__, None) is ufunc else name
    if method == "at":
        targets = (inputs[0],)
    if any(isinstance(value, Tensor) for value in targets):
        raise UserError(f"{called}: would write into {_described(targets)}, but a tensor never changes: use what it returns")
    asking = _asking(inputs)
    if any(value is not None for value in targets):
        if asking is not None:
            raise UserError(
                f"{called}: would write {asking.node.type}, which asks for a gradient, into an array, where no gradient can "
                "follow: write array = array + x instead of array += x, or take x.numpy() for the numbers alone"
            )
        return getattr(ufunc, method)(*_as_arrays(inputs), **_as_arrays(options))
    if method == "__call__" and ufunc in UFUNCS:
        return UFUNCS[ufunc](*map(_operand, inputs), **_taken(called, options, ()))
    return _by_numpy(called, name, ufunc in LOOKING_UFUNCS, getattr(ufunc, method), inputs, options, asking)


def call_function(function: Callable[..., Any], types: Sequence[type], args: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """The result of NumPy's ``function(*args, **options)`` with a tensor among the arguments; ``types`` are their types.

    ``NotImplemented`` if an argument belongs to another library.

    Raises:
        UserError: a gradient would be lost, or an argument is not supported.
    """
    if not all(issubclass(kind, Tensor | np.ndarray | np.generic) for kind in types):
        return NotImplemented
    name = function.__name__
    module = function.__module__.removeprefix("numpy")
    called = f"np{module}.{name}"
    if not any(True for _ in _tensors((args, dict(options)))):  # the tensor was passed as like=
        raise UserError(f"{called}: makes no tensors, like= or not: use {_MAKING.get(name, 'cr.tensor(...)')}")
    asking = _asking((args, dict(options)))
    own = FUNCTIONS.get(function)
    if own is not None and options.get("out") is None and not (function is np.where and len(args) == 1):
        parameters = _parameters(own)
        taken = _taken(called, options, parameters)
        kinds = [parameter.kind for parameter in parameters.values()]
        most = sum(kind is not inspect.Parameter.KEYWORD_ONLY for kind in kinds)
        if len(args) > most and inspect.Parameter.VAR_POSITIONAL not in kinds:
            raise UserError(
                f"{called}: takes {', '.join(parameters)} where a tensor is among the arguments, got {len(args)} positional "
                "ones: give options by name"
            )
        return own(*args, **taken)
    if options.get("out") is not None and asking is not None:
        raise UserError(
            f"{called}: would write {asking.node.type}, which asks for a gradient, into out=, where no gradient can follow: "
            "use what it returns, or take x.numpy() for the numbers alone"
        )
    return _by_numpy(called, name, function in LOOKING_FUNCTIONS or function is np.where, function, args, options, asking)


def _by_numpy(
    called: str,
    name: str,
    looks: bool,
    function: Callable[..., Any],
    args: Sequence[Any],
    options: Mapping[str, Any],
    asking: Tensor | None,
) -> Any:
    """NumPy's result for the numbers of the tensors; a UserError if a gradient would be lost.

    ``called`` is the function's name for messages, ``name`` its key in ``INSTEAD``. ``looks`` says that it only inspects
    values. ``asking`` is a tensor among the arguments that asks for a gradient, or None.
    """
    if asking is not None and not looks:
        instead = INSTEAD.get(name)
        use = f"use {instead}, or " if instead else "compute it with functions of chainrule, or use "
        raise UserError(
            f"{called}: is no function of chainrule, and {asking.node.type}, which asks for a gradient, would leave the graph: "
            f"{use}{called}(x.numpy()) for the numbers alone"
        )
    return function(*_as_arrays(args), **_as_arrays(options))


# ---- arguments


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in ``value``, also within nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for member in value:
            yield from _tensors(member)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _asking(value: Any) -> Tensor | None:
    """A tensor in ``value`` that asks for a gradient; None if there is none, or if no graph is kept."""
    if ops.history_kept() == "nothing":
        return None
    return next((tensor for tensor in _tensors(value) if tensor.requires_grad), None)


def _as_arrays(value: Any) -> Any:
    """``value`` with every tensor in it replaced by a read-only array of its numbers."""
    if isinstance(value, Tensor):
        return value.numpy()
    if type(value) in (tuple, list):
        return type(value)(_as_arrays(member) for member in value)
    if isinstance(value, Mapping):
        return {key: _as_arrays(member) for key, member in value.items()}
    return value


def _described(values: Sequence[Any]) -> str:
    """The types of the tensors among ``values``, for messages."""
    return ", ".join(str(value.node.type) for value in values if isinstance(value, Tensor))


def _operand(value: Any) -> Any:
    """An operand for chainrule's operators. Python numbers stay numbers, which take the dtype of the other operand.

    ``np.float64`` is a Python float with NumPy's operators, which would call this module again: it becomes a plain float.
    """
    if isinstance(value, float):
        return float(value)
    return value if isinstance(value, int | Tensor) else as_tensor(value)


def _belongs_to_others(value: Any) -> bool:
    """Whether ``value`` belongs to another library that overrides NumPy's ufuncs."""
    override = getattr(type(value), "__array_ufunc__", None)
    return override is not None and override is not np.ndarray.__array_ufunc__ and not isinstance(value, Tensor)


# Options and their values that change nothing, and so are accepted.
_DEFAULTS = {"where": (True,), "order": ("K", "C"), "casting": ("same_kind",), "subok": (True,)}
# What to do instead of an option, for messages.
_OPTIONS = {
    "dtype": "convert with .astype(dtype)",
    "where": "choose with cr.where(condition, x, y)",
}


def _taken(called: str, options: Mapping[str, Any], names: Mapping[str, Any] | tuple[()]) -> dict[str, Any]:
    """Those of ``options`` that are among ``names``. Options that only state a default are dropped.

    Raises:
        UserError: there is any other option.
    """
    taken = {}
    for name, value in options.items():
        if name in names:
            if value is not np._NoValue:
                taken[name] = value
        elif (
            value is not None
            and value is not np._NoValue
            and not any(value is same or (isinstance(value, str) and value == same) for same in _DEFAULTS.get(name, ()))
        ):
            remedy = _OPTIONS.get(name, "leave it away, or take x.numpy() for the numbers alone")
            raise UserError(f"{called}: {name}= is not taken where a tensor is among the arguments: {remedy}")
    return taken


@functools.cache
def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function).parameters


# ---- 1. functions that chainrule has too


def _truth(x: Any) -> Tensor:
    return as_tensor(x).astype(bool_)


UFUNCS: dict[np.ufunc, Callable[..., Tensor]] = {
    np.absolute: functions.abs,
    np.add: operator.add,
    np.arctan: functions.atan,
    np.bitwise_and: operator.and_,
    np.bitwise_or: operator.or_,
    np.ceil: functions.ceil,
    np.cos: functions.cos,
    np.divide: operator.truediv,
    np.equal: operator.eq,
    np.exp: functions.exp,
    np.expm1: functions.expm1,
    np.fabs: functions.abs,
    np.floor: functions.floor,
    np.floor_divide: operator.floordiv,
    np.greater: operator.gt,
    np.greater_equal: operator.ge,
    np.invert: operator.invert,
    np.isfinite: functions.isfinite,
    np.isinf: functions.isinf,
    np.isnan: functions.isnan,
    np.less: operator.lt,
    np.less_equal: operator.le,
    np.log: functions.log,
    np.log1p: functions.log1p,
    np.log2: functions.log2,
    np.logical_and: lambda x, y: _truth(x) & _truth(y),
    np.logical_not: lambda x: ~_truth(x),
    np.logical_or: lambda x, y: _truth(x) | _truth(y),
    np.logical_xor: lambda x, y: _truth(x) != _truth(y),
    np.matmul: functions.matmul,
    np.maximum: functions.maximum,
    np.minimum: functions.minimum,
    np.multiply: operator.mul,
    np.negative: operator.neg,
    np.not_equal: operator.ne,
    np.positive: operator.pos,
    np.power: operator.pow,
    np.reciprocal: lambda x: 1 / x,
    np.remainder: operator.mod,
    np.rint: functions.round,
    np.sign: functions.sign,
    np.sin: functions.sin,
    np.sqrt: functions.sqrt,
    np.square: lambda x: x * x,
    np.subtract: operator.sub,
    np.tan: functions.tan,
    np.tanh: functions.tanh,
}
"""NumPy's elementwise functions, and the operators or functions of chainrule that compute them."""


def _clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Tensor:
    return functions.clip(a, a_min if min is None else min, a_max if max is None else max)


def _concatenate(arrays: Sequence[Any], axis: int | None = 0) -> Tensor:
    """As ``cr.concatenate``; with ``axis=None`` the arrays are flattened first."""
    if axis is None:
        return functions.concatenate([as_tensor(array).flatten() for array in arrays])
    return functions.concatenate(arrays, axis)


def _dot(a: Any, b: Any) -> Tensor:
    left, right = as_tensor(a), as_tensor(b)
    if left.ndim == 0 or right.ndim == 0:
        return left * right
    if right.ndim > 2:
        raise UserError(
            f"np.dot: the second operand is {right.node.type}: of more than two axes use x @ y, which knows batches"
        )
    return left @ right


def _einsum(subscripts: Any, *operands: Any, optimize: Any = False) -> Tensor:
    """The order of the products is chosen here, whatever ``optimize`` says."""
    return functions.einsum(subscripts, *operands)


def _full_like(a: Any, fill_value: Any, *, dtype: Any = None) -> Tensor:
    like = as_tensor(a)
    return as_tensor(fill_value).astype(dtype or like.dtype).broadcast_to(like.shape)


def _pad(array: Any, pad_width: Any, mode: str = "constant", *, constant_values: Any = 0) -> Tensor:
    x = as_tensor(array)
    return x.pad(np.broadcast_to(np.asarray(pad_width), (x.ndim, 2)).tolist(), constant_values, mode=mode)


def _split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """NumPy's number is one of equal parts."""
    x, parts = as_tensor(ary), as_whole(indices_or_sections)
    if parts is None:
        return x.split(places=indices_or_sections, axis=axis)
    size = x.shape[as_axis("split", axis, x.ndim)]
    if parts < 1 or size % parts:
        raise UserError(f"np.split: the {size} elements along axis {axis} cannot be split into {parts} equal parts")
    return x.split(sizes=[size // parts] * parts, axis=axis)


def _norm(x: Any, ord: Any = None, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """NumPy's norm of a matrix, which an order makes of two axes, is not that of a vector."""
    given = as_tensor(x)
    of_matrices = given.ndim > 1 if axis is None else np.ndim(axis) == 1 and len(axis) > 1  # type: ignore[arg-type]
    if of_matrices and ord is not None and ord != "fro":
        raise UserError(
            f"np.linalg.norm: ord={ord!r} is a norm of matrices for {given.node.type}: that of all elements is x.norm({ord!r})"
        )
    return given.norm(2 if ord in (None, "fro") else ord, axis, keepdims)


def _reduction(name: str) -> Callable[..., Tensor]:
    def of_tensor(a: Any, axis: Axes = None, *, keepdims: bool = False) -> Tensor:
        return getattr(as_tensor(a), name)(axis, keepdims)  # type: ignore[no-any-return]

    return of_tensor


def _size(a: Tensor, axis: int | None = None) -> int:
    return int(a.size) if axis is None else a.shape[axis]


FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.all: _reduction("all"),
    np.amax: _reduction("max"),
    np.amin: _reduction("min"),
    np.any: _reduction("any"),
    np.argmax: lambda a, axis=None: as_tensor(a).argmax(axis),
    np.argmin: lambda a, axis=None: as_tensor(a).argmin(axis),
    np.argsort: lambda a, axis=-1, kind=None: as_tensor(a).argsort(axis),
    np.astype: lambda x, dtype: as_tensor(x).astype(dtype),
    np.broadcast_to: lambda array, shape: as_tensor(array).broadcast_to((shape,) if hasattr(shape, "__index__") else shape),
    np.clip: _clip,
    np.concatenate: _concatenate,
    np.copy: lambda a: as_tensor(a).copy(),
    np.cumsum: lambda a, axis=None: as_tensor(a).cumsum(axis),
    np.dot: _dot,
    np.einsum: _einsum,
    np.expand_dims: lambda a, axis: as_tensor(a).expand_dims(axis),
    np.flip: lambda m, axis=None: as_tensor(m).flip(axis),
    np.full_like: _full_like,
    np.linalg.norm: _norm,
    np.max: _reduction("max"),
    np.mean: _reduction("mean"),
    np.min: _reduction("min"),
    np.ndim: lambda a: a.ndim,
    np.ones_like: lambda a, *, dtype=None: making.ones(a.shape, dtype or a.dtype),
    np.pad: _pad,
    np.prod: _reduction("prod"),
    np.ravel: lambda a: as_tensor(a).flatten(),
    np.repeat: lambda a, repeats, axis=None: as_tensor(a).repeat(repeats, axis=axis),
    np.reshape: lambda a, shape: as_tensor(a).reshape(shape),
    np.roll: lambda a, shift, axis=None: as_tensor(a).roll(shift, axis),
    np.round: lambda a, decimals=0: as_tensor(a).round(decimals),
    np.shape: lambda a: a.shape,
    np.size: _size,
    np.sort: lambda a, axis=-1, kind=None: as_tensor(a).sort(axis),
    np.split: _split,
    np.squeeze: lambda a, axis=None: as_tensor(a).squeeze(axis),
    np.stack: lambda arrays, axis=0: functions.stack(arrays, axis),
    np.std: lambda a, axis=None, *, ddof=0, keepdims=False: as_tensor(a).std(axis, ddof, keepdims),
    np.sum: _reduction("sum"),
    np.swapaxes: lambda a, axis1, axis2: as_tensor(a).swapaxes(axis1, axis2),
    np.take_along_axis: lambda arr, indices, axis=-1: functions.take_along_axis(arr, indices, axis),
    np.tile: lambda A, reps: as_tensor(A).tile(reps),  # noqa: N803 - NumPy's name
    np.transpose: lambda a, axes=None: as_tensor(a).transpose(*(() if axes is None else axes)),
    np.tril: lambda m, k=0: as_tensor(m).tril(k),
    np.triu: lambda m, k=0: as_tensor(m).triu(k),
    np.var: lambda a, axis=None, *, ddof=0, keepdims=False: as_tensor(a).var(axis, ddof, keepdims),
    np.where: functions.where,
    np.zeros_like: lambda a, *, dtype=None: making.zeros(a.shape, dtype or a.dtype),
}
"""NumPy's other functions, and what computes them here. The parameters are the supported ones, under NumPy's names."""


# ---- 2. functions that only inspect values

LOOKING_UFUNCS = frozenset({np.isnat, np.signbit})
_LOOKING: set[Any] = (
    {np.allclose, np.array_equal, np.array_equiv, np.isclose, np.isin}
    | {np.iscomplex, np.iscomplexobj, np.isneginf, np.isposinf, np.isreal, np.isrealobj}
    | {np.argpartition, np.argwhere, np.count_nonzero, np.digitize, np.flatnonzero, np.lexsort, np.nonzero}
    | {np.nanargmax, np.nanargmin, np.searchsorted, np.diag_indices_from, np.tril_indices_from, np.triu_indices_from}
    | {np.can_cast, np.common_type, np.min_scalar_type, np.result_type, np.may_share_memory, np.shares_memory}
    | {np.linalg.matrix_rank, np.einsum_path, np.array2string, np.array_repr, np.array_str}
    | {np.save, np.savetxt, np.savez, np.savez_compressed}
)
LOOKING_FUNCTIONS: frozenset[Callable[..., Any]] = frozenset(_LOOKING)


# ---- 3. replacements for other functions

INSTEAD = {
    "add.reduce": "x.sum(axis=0)",
    "append": "cr.concatenate([x.flatten(), y.flatten()])",
    "average": "cr.mean(x)",
    "cbrt": "cr.sign(x) * cr.abs(x) ** (1 / 3)",
    "cosh": "(cr.exp(x) + cr.exp(-x)) / 2",
    "diff": "x[..., 1:] - x[..., :-1]",
    "erf": "cr.erf(x)",
    "exp2": "2 ** x",
    "expit": "cr.sigmoid(x)",
    "float_power": "x ** y",
    "fmax": "cr.where((x >= y) | cr.isnan(y), x, y)",
    "fmin": "cr.where((x <= y) | cr.isnan(y), x, y)",
    "heaviside": "cr.where(x < 0, 0.0, cr.where(x > 0, 1.0, y))",
    "hstack": "cr.concatenate([x, y], axis=min(1, x.ndim - 1))",
    "hypot": "cr.sqrt(x * x + y * y)",
    "inner": "x @ y.T",
    "log10": "cr.log(x) / math.log(10)",
    "maximum.reduce": "x.max(axis=0)",
    "minimum.reduce": "x.min(axis=0)",
    "nan_to_num": "cr.where(x == x, x, 0.0).clip(np.finfo(x.dtype).min, np.finfo(x.dtype).max)",
    "outer": "x.flatten()[:, None] * y.flatten()",
    "ptp": "x.max() - x.min()",
    "sinh": "(cr.exp(x) - cr.exp(-x)) / 2",
    "take": "x.flatten()[indices]",
    "vdot": "(x * y).sum()",
    "vecdot": "(x * y).sum(-1)",
    "vstack": "cr.concatenate([x, y]) if x.ndim > 1 else cr.stack([x, y])",
}
"""For functions that chainrule does not have: an equivalent expression in x and y through which gradients pass."""

# Replacements for NumPy's functions that make arrays, called with like=.
_MAKING = {name: f"cr.{name}(...)" for name in ("arange", "full", "ones", "zeros")}
