"""The ``Tensor`` of users: a node of the graph with operators, NumPy's methods and ``backward()``."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import ops
from chainrule.arguments import (
    as_whole,
    as_whole_numbers,
    explained,
    explained_methods,
    flag,
    real_number,
    shape_of,
    whole_number,
)
from chainrule.errors import UserError, UserTypeError, warn
from chainrule.grad import refuse_freed
from chainrule.graph import INPUT, Array, Graph, Node, Remembered, Role, TensorType, leaf
from chainrule.graph.dtypes import (
    DType,
    as_dtype,
    bfloat16,
    bool_,
    float32,
    int64,
    is_float,
)
from chainrule.habits import TENSOR, absent
from chainrule.ops import compose
from chainrule.tensor import rearranging, sorting, totals
from chainrule.tensor.axes import Axes, as_axes, as_axis
from chainrule.tensor.backward import gradients
from chainrule.tensor.engines import runs_natively
from chainrule.tensor.indexing import index
from chainrule.tensor.operands import array_of, binary, operands
from chainrule.tensor.tracing import active_trace, beginning

if TYPE_CHECKING:
    from typing import Self


class _Count(int):
    """The value of ``Tensor.size``, an int. Calling it, as ``x.size(0)`` in PyTorch, raises an error with what to write."""

    __slots__ = ()

    def __call__(self, axis: Any = None) -> Any:
        place = "" if axis is None else f"[{axis}]"
        raise UserError(f"size: x.size is the number of elements, {int(self)}, as in NumPy: write x.shape{place}")


def _undefined(operator: str, remedy: str) -> Callable[..., Any]:
    """A method for an operator that tensors do not have, as no gradient would pass it: it raises a UserTypeError."""

    def refuse(self: Tensor, *_: Any) -> Any:
        raise UserTypeError(
            f"{operator} is not defined for tensors, such as {self.node.type}, as no gradient passes it: {remedy}"
        )

    return refuse


@explained_methods
class Tensor:
    """An immutable array of one of seven dtypes, together with the graph of how it was computed.

    Operators and methods have NumPy's names, broadcasting and axis arguments. A tensor made with ``requires_grad=True`` asks
    for its gradient: after ``error.backward()`` that is in ``grad``, with the same shape and dtype.
    """

    __slots__ = ("__weakref__", "_grad", "_node")

    _node: Node
    _grad: Tensor | None

    def __init__(self, node: Node) -> None:
        if not isinstance(node, Node):
            raise UserError(f"Tensor: takes a node of a graph, got a {type(node).__name__}: of data, cr.tensor(data) makes one")
        self._node = node
        self._grad = None

    if not TYPE_CHECKING:  # or type checkers would accept every misspelt name

        def __getattr__(self, name: str) -> Any:
            raise absent("Tensor", name, TENSOR)

    # ---- what it is

    @property
    def node(self) -> Node:
        """The node of the graph that this tensor is the value of."""
        return self._node

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        return self.node.shape

    @property
    def dtype(self) -> DType:
        """The dtype of the elements."""
        return self.node.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements, as in NumPy."""
        return _Count(math.prod(self.shape))

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient arrives at this tensor or passes through it. It can be set, as by ``requires_grad_()``."""
        return self.node.requires_grad

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        self.requires_grad_(flag("requires_grad", wanted))

    @property
    def graph(self) -> Graph:
        """The graph of the whole computation of this tensor.

        Raises:
            UserError: ``backward()`` has freed it.
        """
        if self.node.is_freed:
            refuse_freed(self.node, "graph", "look at the graph before")
        return Graph(self.node)

    @property
    def T(self) -> Tensor:  # noqa: N802 - NumPy's name
        """All axes in reverse order, as in NumPy."""
        return self.transpose()

    # ---- its numbers

    def _value(self) -> Array:
        value = self.node.value
        if value is None:
            if isinstance(self.node, Remembered):
                raise UserError(f"the value of {self.node!r} {ops.why_no_value(self.node)}")
            scalar = self.node.operation is INPUT and not self.node.shape
            raise UserError(
                f"the value of {self.node!r} was asked for while tracing, at {self.node.origin}: inside a traced function "
                "a tensor has a shape and a dtype but no numbers yet; return it, or choose with where() instead of if"
                + (": or pass int(...) or bool(...) of it, which is no input but part of the program" if scalar else "")
            )
        return value

    def numpy(self) -> Array:
        """The numbers as a read-only NumPy array, without a copy.

        Raises:
            UserError: there are none, as in a traced function.
        """
        view = self._value().view()
        view.flags.writeable = False
        return view

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """NumPy's elementwise functions, and operators with an array on the left: see ``tensor/numpy_protocols.py``."""
        from chainrule.tensor.numpy_protocols import call_ufunc

        return call_ufunc(ufunc, method, inputs, options)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        """NumPy's other functions: see ``tensor/numpy_protocols.py``."""
        from chainrule.tensor.numpy_protocols import call_function

        return call_function(function, types, args, options)

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: Any = None,
        copy: bool | None = None,
    ) -> Any:
        if self.dtype == bfloat16:
            raise UserError("DLPack: NumPy cannot hand over bfloat16: use astype('float32') first")
        if dl_device not in (None, self.__dlpack_device__()):
            raise BufferError(f"DLPack: this tensor is in the memory of the CPU, not on device {dl_device}")
        says_read_only = max_version is not None and max_version >= (1, 0)
        if copy is False and not says_read_only:
            raise BufferError("DLPack: only a consumer that knows read-only data (version 1.0) can do without a copy")
        array = self.numpy() if says_read_only and not copy else np.array(self._value())
        return array.__dlpack__(max_version=max_version) if says_read_only else array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)  # kDLCPU

    def item(self) -> Any:
        """The number in a tensor of size 1, as a Python number; a UserError for any other size."""
        if self.size != 1:
            raise UserError(f"item: this is {self.node.type}, with {self.size} elements: index one, or use tolist()")
        value = self._value()
        return (value.astype(np.float64) if value.dtype == bfloat16 else value).item()

    def tolist(self) -> Any:
        """The elements as nested lists of Python numbers, one level per axis; a number if there are no axes."""
        value = self._value()
        return (value.astype(np.float64) if self.dtype == bfloat16 else value).tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __index__(self) -> int:
        if is_float(self.dtype):
            raise UserTypeError(f"{self.node.type} cannot be an index: only integers can")
        return int(self.item())

    def __bool__(self) -> bool:
        if self.size != 1:
            raise UserError(f"the truth of {self.node.type} is ambiguous: use .any(), .all() or a comparison of one element")
        return bool(self.item())

    def __len__(self) -> int:
        if not self.shape:
            raise UserTypeError(f"{self.node.type} is a single number: without axes it has no length and no elements")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        node = self.node
        if node.value is None:
            numbers = "traced, no value yet"
        else:
            shown = node.value.astype(np.float32) if node.dtype == bfloat16 else node.value
            edge = {1: 3, 2: 3, 3: 2}.get(node.ndim, 1)  # so that 4 axes do not show 6^4 numbers
            numbers = np.array2string(shown, separator=", ", threshold=60, edgeitems=edge, prefix="Tensor(", precision=5)
        facts = [str(node.type)]
        if node.operation.role is not Role.LEAF:
            facts.append(f"from {node.operation.name} at {node.origin}")
        elif node.requires_grad:
            facts.append("requires_grad")
        return f"Tensor({numbers}, {', '.join(facts)})"

    # ---- gradients

    def backward(
        self, upstream: Tensor | Array | None = None, *, retain_graph: bool | None = None, create_graph: bool = False
    ) -> None:
        """Add d self / d p to ``p.grad`` for each parameter and ``requires_grad`` tensor p that this tensor depends on.

        ``upstream`` is the gradient of the error with respect to this tensor, of its shape; it is required unless this is a
        single number. Afterwards the graph is freed with its intermediate values, so that keeping errors of many steps takes
        little memory; ``retain_graph=True`` keeps it for a second ``backward()``. ``create_graph=True`` makes the gradients
        differentiable themselves, and retains the graph unless ``retain_graph=False``.

        Raises:
            UserError: this tensor depends on nothing that asks for a gradient, or the graph was freed.
        """
        if not self.requires_grad:
            raise UserError(
                f"backward: {self.node.type} depends on nothing that asks for a gradient: was it computed under no_grad(), "
                "or from tensors made without requires_grad=True?"
            )
        seed = None if upstream is None else as_tensor(upstream, self.dtype).node
        as_program = not create_graph and runs_natively()
        retain = (create_graph or ops.history_kept() == "everything") if retain_graph is None else retain_graph
        with ops.history("gradients" if create_graph else "nothing"):
            for node, gradient in gradients(self.node, seed, as_program, retain):
                owner = node.owner() if node.owner is not None else None
                if owner is not None and gradient is not None:
                    _refuse_to_leave_the_trace(owner)
                    arriving = Tensor(gradient)
                    owner.grad = arriving if owner.grad is None else owner.grad + arriving

    @property
    def grad(self) -> Tensor | None:
        """The sum of the gradients that have arrived, of the tensor's shape and dtype; None before the first.

        A hidden value keeps no gradient unless ``retain_grad()`` was called before ``backward()``; reading it then warns.
        """
        if self._grad is None:
            node = self._node
            if node.requires_grad and node.owner is None and node.operation.role is not Role.LEAF:
                warn(
                    f"grad: this {node.type}, from {node.operation.name} at {node.origin}, is a hidden value, whose gradient "
                    "is not kept: call retain_grad() on it before backward()"
                )
        return self._grad

    @grad.setter
    def grad(self, gradient: Tensor | None) -> None:
        self._grad = gradient

    def retain_grad(self) -> None:
        """Let ``backward()`` keep the gradient of this hidden value in ``grad``, as for a leaf. To be called before it.

        Raises:
            UserError: no gradient passes here.
        """
        node = self.node
        if not node.requires_grad:
            raise UserError(f"retain_grad: no gradient passes {node.type}: it depends on nothing that asks for one")
        if node.owner is not None:
            return
        node.owner = weakref.ref(self)
        if node.remembered is not None:  # otherwise it gets the owner when it is made
            node.remembered.owner = node.owner

    def requires_grad_(self, wanted: bool = True) -> Self:
        """Ask for the gradient of this tensor, or with False no longer ask for it; returns the tensor itself.

        It holds for what is computed from the tensor afterwards. A tensor without a gradient becomes a leaf, also if it was
        computed. A hidden value that a gradient passes through already is left as it is (``retain_grad()`` keeps its gradient).

        Raises:
            UserError: the dtype is no float, or False is asked of a hidden value that a gradient passes through; ``detach()``
                gives a tensor with its numbers through which none passes.
        """
        node = self.node
        if bool(wanted) is node.requires_grad:
            return self
        if not wanted:
            if node.operation.role is not Role.LEAF and node.operation is not ops.stop_gradient:
                raise UserError(
                    f"requires_grad_: {node.type}, from {node.operation.name} at {node.origin}, depends on what asks for a "
                    "gradient: use detach() for a value through which none passes, or no_grad() around what computes it"
                )
            self._node = leaf(node.value, label=node.label) if node.value is not None else beginning(node, None, node.label)
            return self
        if not is_float(node.dtype):
            raise UserError(f"requires_grad_: only floats can require a gradient, this is {node.type}: use astype('float32')")
        trace = active_trace()
        if node.value is not None:
            self._node = leaf(node.value, INPUT, requires_grad=True, label=node.label, owner=weakref.ref(self))
        else:
            self._node = beginning(node, self, node.label)
            if trace is not None:
                trace.owners.add(id(self))
        return self

    def assign(self, value: Any) -> None:
        """Give a leaf that asks for a gradient the numbers of ``value``, of the same shape, as optimizers do.

        What was computed before keeps the old numbers.

        Raises:
            UserError: this is any other tensor, which is immutable, or the shape differs, or a function is being compiled.
        """
        node = self.node
        if node.operation is not INPUT or not node.requires_grad:
            raise UserError(
                f"assign: {node.type} is no leaf that asks for a gradient, and all other tensors are immutable: build a new "
                "one, or make it a Parameter"
            )
        if active_trace() is not None:
            raise UserError(
                f"assign: a compiled function cannot assign {node.type}, a tensor with requires_grad=True: make it a Parameter"
            )
        new = as_tensor(value, node.dtype)
        if new.shape != node.shape:
            raise UserError(f"assign: this tensor is {node.type}, the value has shape {new.shape}")
        self._node = leaf(new.numpy(), INPUT, requires_grad=True, label=node.label, owner=node.owner)

    def detach(self) -> Tensor:
        """A tensor with the same numbers, through which no gradient passes."""
        return Tensor(ops.stop_gradient(self.node))

    # ---- arithmetic

    def __add__(self, other: Any) -> Tensor:
        return Tensor(binary("add", ops.add, self, other))

    def __sub__(self, other: Any) -> Tensor:
        return Tensor(binary("subtract", ops.subtract, self, other))

    def __mul__(self, other: Any) -> Tensor:
        return Tensor(binary("multiply", ops.multiply, self, other))

    def __truediv__(self, other: Any) -> Tensor:
        return Tensor(binary("divide", ops.divide, self, other, floats=True))

    def __floordiv__(self, other: Any) -> Tensor:
        """The exact quotient rounded down, as in NumPy; an integer divided by 0 gives 0. No gradient passes."""
        return Tensor(binary("floor_divide", ops.floor_divide, self, other))

    def __mod__(self, other: Any) -> Tensor:
        """``x - (x // y) * y``, with the sign of y. Its gradient is 1 for x and -(x // y) for y."""
        return Tensor(binary("remainder", ops.remainder, self, other))

    def __divmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return self // other, self % other

    def __radd__(self, other: Any) -> Tensor:
        return Tensor(binary("add", ops.add, other, self))

    def __rsub__(self, other: Any) -> Tensor:
        return Tensor(binary("subtract", ops.subtract, other, self))

    def __rmul__(self, other: Any) -> Tensor:
        return Tensor(binary("multiply", ops.multiply, other, self))

    def __rtruediv__(self, other: Any) -> Tensor:
        return Tensor(binary("divide", ops.divide, other, self, floats=True))

    def __rfloordiv__(self, other: Any) -> Tensor:
        return Tensor(binary("floor_divide", ops.floor_divide, other, self))

    def __rmod__(self, other: Any) -> Tensor:
        return Tensor(binary("remainder", ops.remainder, other, self))

    def __rdivmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return other // self, other % self

    def __pow__(self, exponent: Any) -> Tensor:
        """``x ** 2``, or ``x ** y`` element by element, as in NumPy: nan where x is negative and y is not whole.

        The gradient with respect to y is nan where x is negative. Integers raised to a Python integer from 0 to 63 stay
        integers; raised to a negative integer or a float they give float32.
        """
        if isinstance(exponent, np.integer | np.floating):
            exponent = exponent.item()
        if isinstance(exponent, int | float):
            node = self.node if is_float(self.dtype) or (isinstance(exponent, int) and exponent >= 0) else self._floats()
            return Tensor(ops.power(node, exponent=float(exponent)))
        return _raised(self, exponent)

    def __rpow__(self, base: Any) -> Tensor:
        return _raised(base, self)

    def __neg__(self) -> Tensor:
        return Tensor(ops.negative(self.node))

    def __pos__(self) -> Tensor:
        return self.copy()

    def __abs__(self) -> Tensor:
        return Tensor(ops.abs_(self.node))

    def __matmul__(self, other: Any) -> Tensor:
        """Matrix product over broadcast batch axes: (..., m, k) @ (..., k, n) -> (..., m, n); vectors as in NumPy."""
        return Tensor(compose.product(self.node, as_tensor(other).node))

    def __rmatmul__(self, other: Any) -> Tensor:
        return Tensor(compose.product(as_tensor(other).node, self.node))

    # ---- comparison and logic

    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
        return Tensor(binary("equal", ops.equal, self, other))

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]
        return Tensor(ops.logical_not(binary("not_equal", ops.equal, self, other)))

    def __lt__(self, other: Any) -> Tensor:
        return Tensor(binary("less", ops.less, self, other))

    def __le__(self, other: Any) -> Tensor:
        return Tensor(binary("less_equal", ops.less_equal, self, other))

    def __gt__(self, other: Any) -> Tensor:
        return Tensor(binary("greater", ops.less, other, self))

    def __ge__(self, other: Any) -> Tensor:
        return Tensor(binary("greater_equal", ops.less_equal, other, self))

    __hash__ = object.__hash__

    __lshift__ = __rlshift__ = _undefined("<<", "multiply by a power of 2")
    __rshift__ = __rrshift__ = _undefined(">>", "use .numpy()")
    __xor__ = __rxor__ = _undefined("^", "compare with !=, or use ** for a power")

    def __round__(self, decimals: int | None = None) -> Tensor:
        return self.round(0 if decimals is None else decimals)

    def __and__(self, other: Any) -> Tensor:
        return Tensor(binary("logical_and", ops.logical_and, self, other))

    def __or__(self, other: Any) -> Tensor:
        return Tensor(binary("logical_or", ops.logical_or, self, other))

    def __rand__(self, other: Any) -> Tensor:
        return Tensor(binary("logical_and", ops.logical_and, other, self))

    def __ror__(self, other: Any) -> Tensor:
        return Tensor(binary("logical_or", ops.logical_or, other, self))

    def __invert__(self) -> Tensor:
        return Tensor(ops.logical_not(self.node))

    # ---- what kind of number

    def isnan(self) -> Tensor:
        """Whether each element is nan. Integers never are."""
        return ~Tensor(binary("isnan", ops.equal, self, self))

    def isinf(self) -> Tensor:
        """Whether each element is inf or -inf. Integers never are."""
        return abs(self) == math.inf if is_float(self.dtype) else self.isnan()

    def isfinite(self) -> Tensor:
        """Whether each element is a number other than inf, -inf and nan. Integers always are."""
        return abs(self) < math.inf if is_float(self.dtype) else ~self.isnan()

    # ---- elementwise functions

    def _floats(self) -> Node:
        return self.node if is_float(self.dtype) else compose.to_dtype(self.node, float32)

    def exp(self) -> Tensor:
        """e^x for each element; integers give float32."""
        return Tensor(ops.exp(self._floats()))

    def log(self) -> Tensor:
        """The natural logarithm of each element: -inf at 0, nan below; integers give float32."""
        return Tensor(ops.log(self._floats()))

    def log2(self) -> Tensor:
        """The logarithm of each element to the base 2, exact for powers of 2; integers give float32."""
        return Tensor(ops.log2(self._floats()))

    def expm1(self) -> Tensor:
        """e^x - 1 for each element, accurate also near x = 0."""
        return Tensor(ops.expm1(self._floats()))

    def log1p(self) -> Tensor:
        """ln(1 + x) for each element, accurate also near x = 0."""
        return Tensor(ops.log1p(self._floats()))

    def sqrt(self) -> Tensor:
        """The square root of each element: nan below 0; integers give float32."""
        return Tensor(ops.sqrt(self._floats()))

    def rsqrt(self) -> Tensor:
        """1 / sqrt(x) for each element; integers give float32."""
        return Tensor(ops.rsqrt(self._floats()))

    def sin(self) -> Tensor:
        """The sine of each element, in radians."""
        return Tensor(ops.sin(self._floats()))

    def cos(self) -> Tensor:
        """The cosine of each element, in radians."""
        return Tensor(ops.cos(self._floats()))

    def tan(self) -> Tensor:
        """The tangent of each element, in radians."""
        return Tensor(ops.tan(self._floats()))

    def atan(self) -> Tensor:
        """The arc tangent of each element, in radians, from -pi/2 to pi/2."""
        return Tensor(ops.atan(self._floats()))

    def tanh(self) -> Tensor:
        """The hyperbolic tangent of each element."""
        return Tensor(ops.tanh(self._floats()))

    def sigmoid(self) -> Tensor:
        """1 / (1 + e^-x) for each element."""
        return Tensor(ops.sigmoid(self._floats()))

    def erf(self) -> Tensor:
        """The error function of each element."""
        return Tensor(ops.erf(self._floats()))

    def erfc(self) -> Tensor:
        """1 - erf(x) for each element, accurate also where the result is near 0."""
        return Tensor(ops.erfc(self._floats()))

    def floor(self) -> Tensor:
        """Each element rounded down to a whole number, in its dtype. No gradient passes."""
        return Tensor(ops.floor(self.node)) if is_float(self.dtype) else self

    def ceil(self) -> Tensor:
        """Each element rounded up to a whole number, in its dtype. No gradient passes."""
        return Tensor(ops.ceil(self.node)) if is_float(self.dtype) else self

    def round(self, decimals: int = 0) -> Tensor:
        """Each element rounded to ``decimals`` decimals, halves to even; -1 rounds to tens. No gradient passes."""
        return Tensor(compose.rounded(self.node, whole_number("round: decimals", decimals)))

    def sign(self) -> Tensor:
        """-1, 0 or 1 for each element; nan stays nan. No gradient passes."""
        return Tensor(ops.sign(self.node))

    def abs(self) -> Tensor:
        """The magnitude of each element; the gradient at 0 is 0."""
        return abs(self)

    def clip(self, low: Any = None, high: Any = None) -> Tensor:
        """Each element limited to [low, high]; no gradient passes where it is at a limit or outside."""
        clipped = self
        if low is not None:
            clipped = Tensor(binary("clip", ops.maximum, low, clipped))
        if high is not None:
            clipped = Tensor(binary("clip", ops.minimum, high, clipped))
        return clipped

    def astype(self, dtype: Any) -> Tensor:
        """The same numbers converted to ``dtype``; the gradient is converted back to this dtype."""
        return Tensor(compose.to_dtype(self.node, as_dtype(dtype)))

    # ---- reductions

    def sum(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """The sum over ``axis``, all axes by default. Integers and bools are added up as int64."""
        node = self.node if is_float(self.dtype) else compose.to_dtype(self.node, int64)
        axes = as_axes("sum", axis, self.ndim)
        return _kept(ops.sum_(node, axes=axes), self.shape, axes, keepdims)

    def mean(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """The mean over ``axis``, all axes by default; integers give float32.

        Raises:
            UserError: there are no elements along ``axis``.
        """
        axes = as_axes("mean", axis, self.ndim)
        count = int(np.prod([self.shape[i] for i in axes], dtype=np.int64))
        if count == 0:
            raise UserError(f"mean: {self.node.type} has no elements along {axes}")
        total = ops.sum_(self._floats(), axes=axes)
        return _kept(ops.scaled(total, 1.0 / count), self.shape, axes, keepdims)

    def var(self, axis: Axes = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
        """The variance over ``axis``, all axes by default: the sum of squared distances from the mean, divided by n - ``ddof``.

        Raises:
            UserError: the number of elements n is not larger than ``ddof``.
        """
        axes, ddof = as_axes("var", axis, self.ndim), whole_number("var: ddof", ddof, 0)
        count = int(np.prod([self.shape[i] for i in axes], dtype=np.int64))
        if count <= ddof:
            raise UserError(f"var: {self.node.type} has {count} elements along {axes}, with ddof={ddof} it needs more")
        deviation = self - self.mean(axis, keepdims=True)
        return (deviation * deviation).sum(axis, keepdims) * (1.0 / (count - ddof))

    def std(self, axis: Axes = None, ddof: int = 0, keepdims: bool = False) -> Tensor:
        """The standard deviation over ``axis``, all axes by default: the root of ``var``. Its gradient is 0 where it is 0.

        Raises:
            UserError: the number of elements n is not larger than ``ddof``.
        """
        return Tensor(totals.root(self.var(axis, ddof, keepdims).node))

    def prod(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """The product over ``axis``, all axes by default, 1 of no elements; integers and bools are multiplied as int64.

        The gradient of an element is the product of the others, also where elements are 0.
        """
        axes = as_axes("prod", axis, self.ndim)
        return _kept(totals.product(self.node, axes), self.shape, axes, keepdims)

    def cumsum(self, axis: int | None = None) -> Tensor:
        """The sums up to each place along ``axis``, that place included; without ``axis``, of the flattened tensor.

        Integers and bools are added up as int64.
        """
        node = self.node if is_float(self.dtype) else compose.to_dtype(self.node, int64)
        if axis is None:
            return Tensor(ops.cumsum(compose.to_shape(node, (self.size,)), axis=0, reverse=False))
        return Tensor(ops.cumsum(node, axis=as_axis("cumsum", axis, self.ndim), reverse=False))

    def norm(self, ord: Any = 2, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """The vector norm over ``axis``, all axes by default, with ``ord`` 1, 2 or inf; integers give float32.

        They are the sum of magnitudes, the root of the sum of squares, and the largest magnitude. Where the norm is 0, its
        gradient is 0.

        Raises:
            UserError: ``ord`` is none of these; or it is inf, and there are no elements.
        """
        axes = as_axes("norm", axis, self.ndim)
        return _kept(totals.norm(self._floats(), ord, axes), self.shape, axes, keepdims)

    def logsumexp(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """ln of the sum of e^x over ``axis``, all axes by default, computed so that nothing overflows; integers give float32.

        Raises:
            UserError: there are no elements along ``axis``.
        """
        axes = as_axes("logsumexp", axis, self.ndim)
        return _kept(totals.log_of_sum_of_exponentials(self._floats(), axes), self.shape, axes, keepdims)

    def max(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """The largest element along ``axis``, all axes by default; on a tie, the whole gradient goes to the first one."""
        return self._extreme("max", ops.max_, axis, keepdims)

    def min(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """The smallest element along ``axis``, all axes by default; on a tie, the whole gradient goes to the first one."""
        return self._extreme("min", ops.min_, axis, keepdims)

    def argmax(self, axis: int | None = None) -> Tensor:
        """The index of the largest element along ``axis``, the first on a tie; without ``axis``, in the flattened tensor."""
        return self._place("argmax", ops.argmax, axis)

    def argmin(self, axis: int | None = None) -> Tensor:
        """The index of the smallest element along ``axis``, the first on a tie; without ``axis``, in the flattened tensor."""
        return self._place("argmin", ops.argmin, axis)

    def argsort(self, axis: int | None = -1, *, descending: bool = False) -> Tensor:
        """The indices, int64, that put the elements in order along ``axis``; None flattens first.

        Equal elements stay in the order in which they are, and nan counts as the largest number.
        """
        return Tensor(sorting.argsort(self.node, axis, descending))

    def sort(self, axis: int | None = -1, *, descending: bool = False) -> Tensor:
        """The elements in order along ``axis``; None flattens first. nan counts as the largest number.

        It is a new tensor, and the elements alone: ``argsort`` gives their indices. The gradient of each element goes back to
        where the element was.
        """
        return Tensor(sorting.sort(self.node, axis, descending))

    def topk(self, k: int, axis: int = -1, *, largest: bool = True) -> tuple[Tensor, Tensor]:
        """The ``k`` largest elements along ``axis``, or the smallest, in order, and their indices: (..., k), (..., k) int64.

        Raises:
            UserError: there are fewer than ``k`` elements along ``axis``.
        """
        values, places = sorting.topk(self.node, k, axis, largest)
        return Tensor(values), Tensor(places)

    def any(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """Whether any element along ``axis``, all axes by default, is not 0."""
        return self.astype(bool_).sum(axis, keepdims) > 0

    def all(self, axis: Axes = None, keepdims: bool = False) -> Tensor:
        """Whether no element along ``axis``, all axes by default, is 0."""
        return ~((~self.astype(bool_)).any(axis, keepdims))

    def _extreme(self, name: str, primitive: ops.Primitive, axis: Axes, keepdims: bool) -> Tensor:
        axes = as_axes(name, axis, self.ndim)
        if len(axes) == 1:
            return _kept(primitive(self.node, axis=axes[0]), self.shape, axes, keepdims)
        if not axes:
            return self
        flat = totals.flattened_last(self.node, axes)
        return _kept(primitive(flat, axis=flat.ndim - 1), self.shape, axes, keepdims)

    def _place(self, name: str, primitive: ops.Primitive, axis: int | None) -> Tensor:
        if axis is None:
            return Tensor(primitive(compose.to_shape(self.node, (self.size,)), axis=0))
        return Tensor(primitive(self.node, axis=as_axis(name, axis, self.ndim)))

    # ---- movements

    def reshape(self, *shape: int | Sequence[int]) -> Tensor:
        """The same elements, in row-major order, in another shape. One size may be -1: it is computed from the others.

        Raises:
            UserError: the number of elements does not fit the shape.
        """
        sizes = list(_several("reshape: the shape", shape))
        if sizes.count(-1) > 1:
            raise UserError(f"reshape: shape {tuple(sizes)} leaves more than one size open: -1 may stand once")
        if -1 in sizes:
            rest = int(np.prod([size for size in sizes if size != -1], dtype=np.int64))
            if rest == 0 or self.size % rest:
                raise UserError(f"reshape: the {self.size} elements of {self.node.type} do not fill shape {tuple(sizes)}")
            sizes[sizes.index(-1)] = self.size // rest
        return Tensor(ops.reshape(self.node, shape=tuple(sizes)))

    def flatten(self, start_axis: int = 0) -> Tensor:
        """The axes from ``start_axis`` on merged into one: (a, b, c) with start_axis=1 -> (a, b * c)."""
        start_axis = whole_number("flatten: start_axis", start_axis)
        if not 0 <= start_axis < max(self.ndim, 1):
            raise UserError(f"flatten: start_axis {start_axis} is outside {self.node.type}: give 0 to {max(self.ndim, 1) - 1}")
        rest = int(np.prod(self.shape[start_axis:], dtype=np.int64))
        return Tensor(compose.to_shape(self.node, (*self.shape[:start_axis], rest)))

    def transpose(self, *axes: int | Sequence[int]) -> Tensor:
        """The axes in another order; reversed by default.

        As in NumPy, ``axes`` is the order of all axes, and not a pair to swap, as in PyTorch. A UserError asks which is meant
        where both could be.
        """
        order = _several("transpose: axes", axes)
        if len(axes) == 2 and (self.ndim != 2 or [i % 2 for i in order] == [0, 1]):
            raise UserError(
                f"transpose: {axes} could be the order of the axes of {self.node.type}, as in NumPy, or two axes to swap, as "
                f"in PyTorch: write swapaxes{axes} to swap them, or pass the order of all axes as a tuple"
            )
        chosen = tuple(i + self.ndim if i < 0 else i for i in order) or tuple(reversed(range(self.ndim)))
        return Tensor(ops.transpose(self.node, axes=chosen))

    def swapaxes(self, first: int, second: int) -> Tensor:
        """Two axes exchanged, as in NumPy; PyTorch calls this ``transpose(first, second)``."""
        first, second = as_axis("swapaxes", first, self.ndim), as_axis("swapaxes", second, self.ndim)
        order = list(range(self.ndim))
        order[first], order[second] = order[second], order[first]
        return self.transpose(order)

    def squeeze(self, axis: Axes = None) -> Tensor:
        """The tensor without its axes of size 1, or without those that ``axis`` names, which must be of size 1."""
        axes = as_axes("squeeze", axis, self.ndim) if axis is not None else [i for i, n in enumerate(self.shape) if n == 1]
        if any(self.shape[i] != 1 for i in axes):
            raise UserError(f"squeeze: axes {tuple(axes)} of {self.node.type} are not all of size 1")
        return self.reshape([size for i, size in enumerate(self.shape) if i not in axes])

    def expand_dims(self, axis: int) -> Tensor:
        """The tensor with a new axis of size 1, at place ``axis`` of the result."""
        place = as_axis("expand_dims", axis, self.ndim + 1)
        return self.reshape([*self.shape[:place], 1, *self.shape[place:]])

    def broadcast_to(self, shape: int | Sequence[int]) -> Tensor:
        """The tensor repeated along new axes in front and along axes of size 1, so that it has ``shape``."""
        return Tensor(compose.broadcast_to(self.node, shape_of("broadcast_to: the shape", shape)))

    def flip(self, axis: Axes = None) -> Tensor:
        """The elements in reverse order along ``axis``, all axes by default."""
        return Tensor(ops.flip(self.node, axes=as_axes("flip", axis, self.ndim)))

    def pad(self, width: Sequence[tuple[int, int]], value: float = 0.0, *, mode: str = "constant") -> Tensor:
        """The tensor with a border. ``width`` has the numbers of elements (before, after) to add to each axis.

        The border consists of ``value`` (``mode="constant"``), of the outermost elements ("edge"), of a mirror image without
        these ("reflect"), or of the elements at the other end ("wrap"), as in NumPy.
        """
        pairs = [as_whole_numbers(pair) for pair in width] if isinstance(width, Sequence | np.ndarray) else [None]
        widths = [pair for pair in pairs if pair is not None and len(pair) == 2]
        if not len(widths) == len(pairs) == self.ndim:
            raise UserError(
                f"pad: width must give two whole numbers, (before, after), for each of the {self.ndim} axes of "
                f"{self.node.type}, got {width!r}"
            )
        whole = as_whole(value)  # as a float, an int64 could be rounded
        number = real_number("pad: value", value) if whole is None else whole
        return Tensor(rearranging.bordered(self.node, widths, mode, number))

    def repeat(self, repeats: int | Sequence[int], *, axis: int | None) -> Tensor:
        """Each element ``repeats`` times along ``axis``, or each as often as a list says; None flattens first. As in NumPy.

        What PyTorch calls ``repeat`` is ``tile``; so that neither is taken for the other, ``axis`` is passed by name.
        """
        node = compose.to_shape(self.node, (self.size,)) if axis is None else self.node
        return Tensor(rearranging.repeated(node, repeats, as_axis("repeat", 0 if axis is None else axis, node.ndim)))

    def tile(self, times: int | Sequence[int]) -> Tensor:
        """The whole tensor side by side, ``times`` along each axis: ``x.tile((2, 1))``; a number is for the last axis."""
        numbers = _one_or_several(times)
        if numbers is None or any(number < 0 for number in numbers):
            raise UserError(f"tile: times must be whole numbers of at least 0, such as (2, 1), got {times!r}")
        return Tensor(rearranging.tiled(self.node, numbers))

    def roll(self, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Tensor:
        """The elements ``shift`` places further along ``axis``, the last ones first; None rolls the flattened tensor."""
        node, places = (compose.to_shape(self.node, (self.size,)), 0) if axis is None else (self.node, axis)
        shifts, axes = _one_or_several(shift), _one_or_several(places)
        if shifts is None or axes is None or len(shifts) != len(axes):
            raise UserError(f"roll: shift must be a whole number for each axis, got shift {shift!r} and axis {axis!r}")
        for number, place in zip(shifts, axes, strict=True):
            node = rearranging.rolled(node, number, as_axis("roll", place, node.ndim))
        return Tensor(compose.to_shape(node, self.shape))

    def tril(self, k: int = 0) -> Tensor:
        """Matrices (..., m, n) with zeros above diagonal ``k``, which counts from the main one to the right."""
        return Tensor(rearranging.triangle(self.node, whole_number("tril: k", k), lower=True))

    def triu(self, k: int = 0) -> Tensor:
        """Matrices (..., m, n) with zeros below diagonal ``k``, which counts from the main one to the right."""
        return Tensor(rearranging.triangle(self.node, whole_number("triu: k", k), lower=False))

    def split(
        self, *, sizes: int | Sequence[int] | None = None, places: Sequence[int] | None = None, axis: int = 0
    ) -> list[Tensor]:
        """The parts of the tensor along ``axis``: of ``sizes`` each, the last one smaller if need be, or cut at ``places``.

        ``x.split(sizes=2)`` and ``x.split(sizes=[1, 3])`` are PyTorch's ``split``, ``x.split(places=[1, 3])`` is NumPy's.
        """
        axis = as_axis("split", axis, self.ndim)
        if (sizes is None) is (places is None):
            raise UserError("split: pass either sizes, such as sizes=2 or sizes=[1, 3], or places, such as places=[1, 3]")
        total = self.shape[axis]
        bounds = rearranging.bounds_of_places(places, total) if sizes is None else rearranging.bounds_of_sizes(sizes, total)
        return [Tensor(rearranging.part(self.node, axis, *pair)) for pair in pairwise(bounds)]

    def chunk(self, parts: int, axis: int = 0) -> list[Tensor]:
        """At most ``parts`` parts along ``axis``, all of one size but the last, which may be smaller, as in PyTorch."""
        parts, axis = whole_number("chunk: parts", parts, 1), as_axis("chunk", axis, self.ndim)
        return self.split(sizes=max(1, -(-self.shape[axis] // parts)), axis=axis)

    def __getitem__(self, key: Any) -> Tensor:
        return Tensor(index(self.node, key))

    def __setitem__(self, key: Any, value: Any) -> None:
        raise UserError("tensors are immutable: build a new one with where(), or assign a whole parameter with .assign()")

    def copy(self) -> Tensor:
        """A tensor with the same value and graph; for a parameter or buffer, with its present value."""
        return Tensor(self.node)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        """A leaf that asks for a gradient is copied, as it has a ``grad`` of its own; any other is immutable and shared."""
        if self.requires_grad and self.node.operation.role is Role.LEAF:
            return tensor(self, requires_grad=True)
        return Tensor(self.node)


def _refuse_to_leave_the_trace(owner: Tensor) -> None:
    """Refuse a gradient for a tensor from outside of the trace: it would have no numbers. Cells and inputs are fine."""
    trace = active_trace()
    if trace is not None and type(owner) is Tensor and id(owner) not in trace.owners and owner.node.value is not None:
        raise UserError(
            f"backward: the traced function uses {owner.node.type}, made outside with requires_grad=True: pass it as an "
            "argument, or make it a Parameter"
        )


# ---- making tensors


@explained
def tensor(data: Any, dtype: Any = None, requires_grad: bool = False, label: str = "") -> Tensor:
    """A tensor with a copy of ``data``: a number, nested lists, a NumPy array, or any object with ``__array__``.

    Without ``dtype``, Python floats become float32 and Python integers int64, and arrays keep their dtype. With
    ``requires_grad=True`` the tensor asks for its gradient. ``label`` is its name where the graph is shown.

    Raises:
        UserError: the data is no regular array of numbers, does not fit the dtype, or asks for a gradient without being float.
    """
    value = array_of(data, dtype)
    if not requires_grad:
        return Tensor(leaf(value, label=label))
    if not is_float(value.dtype):
        raise UserError(f"tensor: only floats can require a gradient, this is {value.dtype}: pass dtype='float32'")
    made = Tensor.__new__(Tensor)
    made._grad = None
    made._node = leaf(value, INPUT, requires_grad=True, label=label, owner=weakref.ref(made))
    return made


def as_tensor(data: Any, dtype: DType | None = None) -> Tensor:
    """``data`` as a tensor, of ``dtype`` if that is given; a tensor that fits is returned as it is."""
    if isinstance(data, Tensor):
        return data if dtype is None else data.astype(dtype)
    return tensor(data, dtype)


def placeholder(shape: Sequence[int], dtype: Any = float32, requires_grad: bool = False, label: str = "") -> Tensor:
    """A tensor without numbers, as input for tracing. ``label`` is its name where the graph or the program is shown."""
    made = Tensor.__new__(Tensor)
    made._grad = None
    owner = weakref.ref(made) if requires_grad else None
    type_ = TensorType(shape_of("placeholder: the shape", shape), as_dtype(dtype))
    made._node = leaf(type_, INPUT, requires_grad=requires_grad, label=label, owner=owner)
    trace = active_trace()
    if requires_grad and trace is not None:
        trace.owners.add(id(made))
    return made


# ---- results of methods


def _several(what: str, given: tuple[Any, ...]) -> tuple[int, ...]:
    """Whole numbers that were passed as separate arguments, or together in a tuple. ``what`` begins the message of errors."""
    numbers = as_whole_numbers(given[0] if len(given) == 1 and as_whole(given[0]) is None else given)
    if numbers is None:
        shown = given[0] if len(given) == 1 else given
        raise UserError(f"{what} must be whole numbers, such as (2, 3), got {shown!r}")
    return numbers


def _one_or_several(value: Any) -> tuple[int, ...] | None:
    """A whole number, or several, as a tuple; None for anything else."""
    number = as_whole(value)
    return as_whole_numbers(value) if number is None else (number,)


def _raised(base: Any, exponent: Any) -> Tensor:
    x, y = compose.together("power", *operands("power", base, exponent))
    if not is_float(x.dtype):
        raise UserError(
            f"power: {x.dtype} ** {y.dtype} with a tensor of exponents is not defined here, as a negative one gives no "
            "integer: make one side a float, such as x.astype('float32') ** y or 2.0 ** y"
        )
    return Tensor(ops.tensor_power(x, y))


def _kept(node: Node, shape: tuple[int, ...], axes: tuple[int, ...], keepdims: bool) -> Tensor:
    """The result of a reduction of ``shape`` over ``axes``; with ``keepdims``, these stay as axes of size 1."""
    if not keepdims:
        return Tensor(node)
    return Tensor(compose.to_shape(node, tuple(1 if i in axes else size for i, size in enumerate(shape))))
