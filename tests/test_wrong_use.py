"""Wrong uses of the public Python interface: each one is a UserError that names the place, the value and, mostly, the remedy.

A wrong type, rank, range or order of arguments, None and text where numbers go: never a bare TypeError, AttributeError,
ValueError or IndexError from inside the library. A row is what is written, and how the message begins.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import UserError, data, formats, models, nn, optim, train

ROWS: list[tuple[str, str]] = [
    ("cr.tensor(None)", "tensor: needs numbers, got None: dtype object is not supported"),
    ('cr.tensor("abc")', "tensor: needs numbers, got 'abc': dtype str96 is not supported"),
    ('cr.tensor({"a": 1})', "tensor: needs numbers, got {'a': 1}: dtype object is not supported"),
    (
        "cr.tensor([[1, 2], [3]])",
        "tensor: the data is no regular array (setting an array element with a sequence. The requested array "
        "has an inhomogeneous shape after 1 dimensions.",
    ),
    (
        'cr.tensor([1.0], dtype="float31")',
        "unknown dtype 'float31': did you mean 'float32'? Known: bfloat16, bool, float32, float64, int32, int64, uint8",
    ),
    ("cr.tensor([1.0], dtype=3)", "unknown dtype 3: Known: bfloat16, bool, float32, float64, int32, int64, uint8"),
    (
        "cr.tensor([1+2j])",
        "dtype complex128 is not supported: convert to one of bool, uint8, int32, int64, bfloat16, float32, float64 first",
    ),
    ('cr.tensor([300], dtype="uint8")', "tensor: Python integer 300 out of bounds for uint8: choose a wider dtype"),
    (
        "cr.tensor([1, 2], requires_grad=True)",
        "tensor: only floats can require a gradient, this is int64: pass dtype='float32'",
    ),
    ("cr.zeros(-1)", "the shape of a tensor must be sizes of at least 0, as a whole number or a tuple, got -1"),
    ('cr.zeros("3")', "the shape of a tensor must be sizes of at least 0, as a whole number or a tuple, got '3'"),
    ("cr.zeros((2, -3))", "the shape of a tensor must be sizes of at least 0, as a whole number or a tuple, got (2, -3)"),
    ("cr.zeros(None)", "the shape of a tensor must be sizes of at least 0, as a whole number or a tuple, got None"),
    ("cr.zeros((2, 2.5))", "the shape of a tensor must be sizes of at least 0, as a whole number or a tuple, got (2, 2.5)"),
    ('cr.full((2, 3), "a")', "full: value must be a number, got 'a'"),
    ("cr.full((2, 3), None)", "full: value must be a number, got None"),
    ("cr.full((2, 3), [1, 2])", "full: value must be a number, got [1, 2]"),
    (
        'cr.full(2, 3, "float33")',
        "unknown dtype 'float33': did you mean 'float32'? Known: bfloat16, bool, float32, float64, int32, int64, uint8",
    ),
    ('cr.arange("5")', "arange: start must be a number, got '5'"),
    ("cr.arange(0, 5, 0)", "arange: step must be a number other than 0, got 0"),
    ("cr.arange(None)", "arange: start must be a number, got None"),
    ("cr.one_hot([0.5], 3)", "one_hot: indices must be integers, got float32[1]: cast to int64 first"),
    ("cr.one_hot([0, 1], -3)", "one_hot: classes must be a whole number of at least 1, got -3"),
    ('cr.one_hot([0, 1], "3")', "one_hot: classes must be a whole number of at least 1, got '3'"),
    ("cr.stack([])", "concatenate: needs at least one tensor, got none"),
    ("cr.stack(3)", "stack: tensors must be a list, got a int: pass [x, y]"),
    ("cr.stack([x, cr.zeros((3,))])", "concatenate: float32[1, 3] does not fit float32[1, 2, 3]: only axis 0 may differ"),
    ("cr.concatenate([])", "concatenate: needs at least one tensor, got none"),
    ("cr.concatenate(3)", "concatenate: tensors must be a list, got a int: pass [x, y]"),
    ('cr.concatenate([x, "a"])', "tensor: needs numbers, got 'a': dtype str32 is not supported"),
    (
        "cr.concatenate([x, cr.zeros((2, 2))])",
        "concatenate: float32[2, 2] does not fit float32[2, 3]: only axis 0 may differ",
    ),
    ("cr.concatenate([x, x], 5)", "concatenate: axis 5 is outside a tensor with 2 axes: give -2 to 1"),
    ('cr.concatenate([x, x], "0")', "concatenate: takes one axis, a whole number, got '0'"),
    (
        "cr.concatenate([cr.tensor(1.0), cr.tensor(2.0)])",
        "concatenate: there is no axis 0, as this is a single number without axes: leave axis out",
    ),
    ("cr.where(x > 0, x)", "where: missing a required argument: 'y': it is called as where(condition, x, y)"),
    ('cr.where(x, "a", x)', "where: needs numbers, got 'a': dtype str32 is not supported"),
    ('cr.where("a", x, x)', "tensor: needs numbers, got 'a': dtype str32 is not supported"),
    ("cr.where(x > 0, x, cr.zeros((5,)))", "where: shapes (2, 3) and (2, 3) and (5,) do not broadcast"),
    ('cr.exp("a")', "tensor: needs numbers, got 'a': dtype str32 is not supported"),
    ("cr.exp(None)", "tensor: needs numbers, got None: dtype object is not supported"),
    ("cr.maximum(x, None)", "maximum: needs numbers, got None: dtype object is not supported"),
    ('cr.maximum(x, "a")', "maximum: needs numbers, got 'a': dtype str32 is not supported"),
    (
        "cr.matmul(x, x)",
        "matmul: the last axis of float32[2, 3] has 3 elements, the matching axis of float32[2, 3] has 2: "
        "transpose or reshape one of them",
    ),
    (
        "cr.matmul(x, 3)",
        "matmul: needs at least one axis on both sides, got float32[2, 3] and float32[]: multiply by a number with *",
    ),
    ('cr.matmul(x, "a")', "tensor: needs numbers, got 'a': dtype str32 is not supported"),
    ('cr.clip(x, "a", "b")', "clip: needs numbers, got 'a': dtype str32 is not supported"),
    ('cr.sum("a")', "tensor: needs numbers, got 'a': dtype str32 is not supported"),
    ("cr.sum(x, 5)", "sum: axis 5 is outside a tensor with 2 axes: give -2 to 1"),
    ('cr.sum(x, "0")', "sum: axis must be a whole number, or several of them in a tuple, got '0'"),
    ("cr.sum(x, (0, 0))", "sum: axis (0, 0) names an axis twice"),
    ("cr.max(cr.zeros((0, 3)), 0)", "max: axis 0 of float32[0, 3] is empty: there is nothing to choose from"),
    ("cr.max(x > 0)", "max: is not defined for bool, got bool[6]: cast to int32 first"),
    ('cr.grad(w.sum(), "w")', "grad: input 0 must be a tensor, got a str"),
    (
        "cr.grad(w, [w])",
        "backward: starts at the error, one float number, but this is float32[2, 3]: reduce it first (sum, "
        "mean, a loss) or pass the upstream gradient",
    ),
    ('cr.grad((w * 2).sum(), [w], "a")', "tensor: needs numbers, got 'a': dtype str32 is not supported"),
    ("cr.gradcheck(3, [1.0])", "gradcheck: f must be a function of tensors, got a int"),
    ("cr.gradcheck(lambda a: a * a)", "gradcheck: none of the inputs is a float, so there is no gradient to check"),
    ("cr.gradcheck(lambda a: 3, [1.0])", "gradcheck: f must return a tensor, got a int"),
    ("cr.gradcheck(lambda a: None, [1.0])", "gradcheck: f must return a tensor, got a NoneType"),
    ("cr.gradcheck(lambda a: a.numpy(), [1.0])", "gradcheck: f must return a tensor, got a ndarray"),
    ("cr.gradcheck(lambda a: a * a, [1])", "gradcheck: none of the inputs is a float, so there is no gradient to check"),
    ('cr.gradcheck(lambda a: a * a, "a")', "tensor: needs numbers, got 'a': dtype str32 is not supported"),
    ("cr.gradcheck(lambda a: a * a, [1.0], order=3)", "gradcheck: order must be 1 or 2, got 3"),
    ('cr.gradcheck(lambda a: a * a, [1.0], tolerance="a")', "gradcheck: tolerance must be a number, got 'a'"),
    ("cr.trace(3)", "trace: f must be a function of tensors, got a int"),
    ("cr.trace(lambda a: a, 3)", "trace: input 0 must be a tensor, got a int: pass cr.tensor(data)"),
    ("cr.trace(lambda a: 3, x)", "trace: f must return a tensor or several, got a int"),
    ("cr.trace(lambda a: None, x)", "trace: f must return a tensor or several, got a NoneType"),
    ("cr.trace(lambda a: a, [1.0])", "trace: input 0 must be a tensor, got a list: pass cr.tensor(data)"),
    ("cr.compile(3)", "compile: needs a function, got int"),
    ('cr.compile("step")', "compile: needs a function, got str"),
    ('cr.compile(lambda a: a + "x")(x)', "add: needs numbers, got 'x': dtype str32 is not supported"),
    ('cr.engine("cuda")', "unknown engine 'cuda': Known: native, reference"),
    ("cr.engine(None)", "unknown engine None: Known: native, reference"),
    ("cr.engine(3)", "unknown engine 3: Known: native, reference"),
    ('cr.set_threads("4")', "set_threads: the number of threads must be a whole number of at least 1, got '4'"),
    ("cr.set_threads(0)", "set_threads: the number of threads must be a whole number of at least 1, got 0"),
    ("cr.set_threads(1.5)", "set_threads: the number of threads must be a whole number of at least 1, got 1.5"),
    ("cr.manual_seed(-1)", "seed must be from 0 to 2^63 - 1, got -1"),
    ("cr.manual_seed(1.5)", "seed must be a whole number, got 1.5"),
    ('cr.manual_seed("a")', "seed must be a whole number, got 'a'"),
    ("cr.manual_seed(None)", "seed must be a whole number, got None"),
    ("cr.random.uniform(-3)", "random: the shape must be sizes of at least 0, as a whole number or a tuple, got -3"),
    ('cr.random.uniform("a")', "random: the shape must be sizes of at least 0, as a whole number or a tuple, got 'a'"),
    ('cr.random.uniform((2, 3), low="a", high="b")', "uniform: low must be a number, got 'a'"),
    ("cr.random.normal((2, 3), mean=None)", "normal: mean must be a number, got None"),
    (
        'cr.random.uniform((2,), dtype="int32")',
        "random: draws floats, not int32: draw float32 numbers, scale them and use astype",
    ),
    ("cr.Parameter(None)", "tensor: needs numbers, got None: dtype object is not supported"),
    ("cr.Parameter([1, 2])", "Parameter: only floats can be learned, this is int64[2]: pass dtype='float32'"),
    ('cr.Parameter("a")', "tensor: needs numbers, got 'a': dtype str32 is not supported"),
    ('cr.Buffer("a")', "tensor: needs numbers, got 'a': dtype str32 is not supported"),
    (
        "cr.explain(3)",
        "explain: needs a loss, one float number that was computed, got a int: an expression as text is for "
        'the command, chainrule explain "(w @ x - y)**2"',
    ),
    (
        'cr.explain("(w @ x")',
        "explain: needs a loss, one float number that was computed, got a str: an expression as text is for "
        'the command, chainrule explain "(w @ x - y)**2"',
    ),
    (
        "cr.explain(None)",
        "explain: needs a loss, one float number that was computed, got a NoneType: an expression as text is "
        'for the command, chainrule explain "(w @ x -',
    ),
    (
        "cr.explain(x)",
        "explain: starts at the error, one float number, but this is float32[2, 3]: reduce it first with "
        "sum(...), mean(...) or a loss",
    ),
    ('cr.stop_gradient("a")', "tensor: needs numbers, got 'a': dtype str32 is not supported"),
    ('x + "a"', "add: needs numbers, got 'a': dtype str32 is not supported"),
    ("x + None", "add: needs numbers, got None: dtype object is not supported"),
    (
        "x + [1, 2]",
        "add: shapes (2, 3) and (2,) do not broadcast: counted from the last, axes must agree or be 1; reshape one of them",
    ),
    ("x * {}", "multiply: needs numbers, got {}: dtype object is not supported"),
    ('x / "2"', "divide: needs numbers, got '2': dtype str32 is not supported"),
    ('x ** "2"', "power: needs numbers, got '2': dtype str32 is not supported"),
    ("x ** None", "power: needs numbers, got None: dtype object is not supported"),
    ('"2" ** x', "power: needs numbers, got '2': dtype str32 is not supported"),
    ('x @ "a"', "tensor: needs numbers, got 'a': dtype str32 is not supported"),
    ("x @ None", "tensor: needs numbers, got None: dtype object is not supported"),
    (
        "x @ 3",
        "matmul: needs at least one axis on both sides, got float32[2, 3] and float32[]: multiply by a number with *",
    ),
    ('x < "a"', "less: needs numbers, got 'a': dtype str32 is not supported"),
    ("x < None", "less: needs numbers, got None: dtype object is not supported"),
    ('x == "a"', "equal: needs numbers, got 'a': dtype str32 is not supported"),
    ("x == None", "equal: needs numbers, got None: dtype object is not supported"),
    ("x & 1.5", "logical_and: needs bool, got float32[2, 3]: compare first, for example x > 0"),
    ('x & "a"', "logical_and: needs numbers, got 'a': dtype str32 is not supported"),
    ("~x", "logical_not: needs bool, got float32[2, 3]: compare first, for example x > 0"),
    ("-cr.tensor(True)", "negative: is not defined for bool, got bool[]: cast to int32 or float32 first"),
    ("-(x > 0)", "negative: is not defined for bool, got bool[2, 3]: cast to int32 or float32 first"),
    ("abs(x > 0)", "abs: is not defined for bool, got bool[2, 3]: cast to int32 or float32 first"),
    ("x[5]", "index 5 is outside axis 0 of float32[2, 3], which has 2 elements"),
    ('x["a"]', "an index must be an integer, a slice, ..., None or an array of integers or bools, got <U1"),
    ("x[0, 0, 0]", "3 indices for float32[2, 3], which has 2 axes"),
    ("x[1.5]", "an index must be an integer, a slice, ..., None or an array of integers or bools, got float64"),
    ('x[None, "a"]', "an index must be an integer, a slice, ..., None or an array of integers or bools, got <U1"),
    ("x[..., ...]", "an index can have only one ... (ellipsis)"),
    ("x[[0.5]]", "an index must be an integer, a slice, ..., None or an array of integers or bools, got float64"),
    ("x[True]", "a single bool is no index: use an integer, a slice or an array of bools"),
    ("x[x > 0, 0, 0]", "4 indices for float32[2, 3], which has 2 axes"),
    ("x[0:2:0]", "a slice must be of whole numbers, with a step other than 0, got slice(0, 2, 0)"),
    ('x["a":"b"]', "a slice must be of whole numbers, with a step other than 0, got slice('a', 'b', None)"),
    ("x[1.5:2]", "a slice must be of whole numbers, with a step other than 0, got slice(1.5, 2, None)"),
    ("x[{}]", "an index must be an integer, a slice, ..., None or an array of integers or bools, got object"),
    ("x[[0, 5]]", "index 5 at [1] is outside axis 0, which has 2 elements"),
    ("x[[[0], [1, 2]]]", "an index must be a regular array: rows of [[0], [1, 2]] have different lengths"),
    ('x.reshape("a")', "reshape: the shape must be whole numbers, such as (2, 3), got 'a'"),
    ("x.reshape(7)", "reshape: float32[2, 3] has 6 elements, shape (7,) has 7"),
    ("x.reshape(-1, -1)", "reshape: shape (-1, -1) leaves more than one size open: -1 may stand once"),
    ("x.reshape(2.5, 2)", "reshape: the shape must be whole numbers, such as (2, 3), got (2.5, 2)"),
    ("x.reshape(None)", "reshape: the shape must be whole numbers, such as (2, 3), got None"),
    ("x.reshape()", "reshape: float32[2, 3] has 6 elements, shape () has 1"),
    ("x.reshape([2, [3]])", "reshape: the shape must be whole numbers, such as (2, 3), got [2, [3]]"),
    ('x.transpose("a")', "transpose: axes must be whole numbers, such as (2, 3), got 'a'"),
    ("x.transpose(0, 0)", "transpose: axes (0, 0) are no order of the 2 axes of float32[2, 3]"),
    (
        "x.transpose(0, 5)",
        "transpose: (0, 5) could be the order of the axes of float32[2, 3], as in NumPy, or two axes to "
        "swap, as in PyTorch: write swapaxes(0, 5) to swap",
    ),
    ("x.transpose(None)", "transpose: axes must be whole numbers, such as (2, 3), got None"),
    ("x.swapaxes(0, 5)", "swapaxes: axis 5 is outside a tensor with 2 axes: give -2 to 1"),
    ('x.swapaxes("a", 0)', "swapaxes: takes one axis, a whole number, got 'a'"),
    ("x.squeeze(0)", "squeeze: axes (0,) of float32[2, 3] are not all of size 1"),
    ('x.squeeze("a")', "squeeze: axis must be a whole number, or several of them in a tuple, got 'a'"),
    ("x.squeeze(9)", "squeeze: axis 9 is outside a tensor with 2 axes: give -2 to 1"),
    ("x.expand_dims(9)", "expand_dims: axis 9 is outside a tensor with 3 axes: give -3 to 2"),
    ('x.expand_dims("a")', "expand_dims: takes one axis, a whole number, got 'a'"),
    ("x.expand_dims(None)", "expand_dims: takes one axis, a whole number, got None"),
    ("x.broadcast_to((5, 5))", "broadcast: float32[2, 3] does not broadcast to shape (5, 5)"),
    ('x.broadcast_to("a")', "broadcast_to: the shape must be sizes of at least 0, as a whole number or a tuple, got 'a'"),
    ("x.broadcast_to(None)", "broadcast_to: the shape must be sizes of at least 0, as a whole number or a tuple, got None"),
    ('x.flip("a")', "flip: axis must be a whole number, or several of them in a tuple, got 'a'"),
    ("x.flip(5)", "flip: axis 5 is outside a tensor with 2 axes: give -2 to 1"),
    ("x.pad(1)", "pad: width must give two whole numbers, (before, after), for each of the 2 axes of float32[2, 3], got 1"),
    (
        'x.pad("a")',
        "pad: width must give two whole numbers, (before, after), for each of the 2 axes of float32[2, 3], got 'a'",
    ),
    (
        "x.pad([(1, 1)])",
        "pad: width must give two whole numbers, (before, after), for each of the 2 axes of float32[2, 3], got [(1, 1)]",
    ),
    ('x.pad([(1, 1), (1, 1)], "a")', "pad: value must be a number, got 'a'"),
    ("x.pad([(1, 1), (1, 1)], None)", "pad: value must be a number, got None"),
    ("x.flatten(5)", "flatten: start_axis 5 is outside float32[2, 3]: give 0 to 1"),
    ('x.flatten("a")', "flatten: start_axis must be a whole number, got 'a'"),
    ('x.astype("a")', "unknown dtype 'a': Known: bfloat16, bool, float32, float64, int32, int64, uint8"),
    ("x.astype(None)", "unknown dtype None: Known: bfloat16, bool, float32, float64, int32, int64, uint8"),
    ("x.astype(5)", "unknown dtype 5: Known: bfloat16, bool, float32, float64, int32, int64, uint8"),
    (
        'x.astype("float16")',
        "unknown dtype 'float16': did you mean 'bfloat16'? Known: bfloat16, bool, float32, float64, int32, int64, uint8",
    ),
    ('x.sum("a")', "sum: axis must be a whole number, or several of them in a tuple, got 'a'"),
    ("x.sum(1.5)", "sum: axis must be a whole number, or several of them in a tuple, got 1.5"),
    ("x.sum([0, [1]])", "sum: axis must be a whole number, or several of them in a tuple, got [0, [1]]"),
    ('x.sum(0, "yes")', "sum: keepdims must be True or False, got 'yes': several axes are passed as a tuple, axis=(0, 1)"),
    ("x.mean(9)", "mean: axis 9 is outside a tensor with 2 axes: give -2 to 1"),
    ("cr.zeros((0,)).mean()", "mean: float32[0] has no elements along (0,)"),
    ("x.var(ddof=9)", "var: float32[2, 3] has 6 elements along (0, 1), with ddof=9 it needs more"),
    ('x.var(ddof="a")', "var: ddof must be a whole number of at least 0, got 'a'"),
    ("x.argmax((0, 1))", "argmax: takes one axis, a whole number, got (0, 1)"),
    ('x.argmax("a")', "argmax: takes one axis, a whole number, got 'a'"),
    ('x.clip("a")', "clip: needs numbers, got 'a': dtype str32 is not supported"),
    ('x.clip(None, "a")', "clip: needs numbers, got 'a': dtype str32 is not supported"),
    ("x.item()", "item: this is float32[2, 3], with 6 elements: index one, or use tolist()"),
    ("x.tolist(3)", "tolist: too many positional arguments: it is called as tolist()"),
    ("float(x)", "item: this is float32[2, 3], with 6 elements: index one, or use tolist()"),
    ("int(x)", "item: this is float32[2, 3], with 6 elements: index one, or use tolist()"),
    ("bool(x)", "the truth of float32[2, 3] is ambiguous: use .any(), .all() or a comparison of one element"),
    (
        "x.backward()",
        "backward: float32[2, 3] depends on nothing that asks for a gradient: was it computed under "
        "no_grad(), or from tensors made without requires_grad=True?",
    ),
    (
        "w.backward()",
        "backward: starts at the error, one float number, but this is float32[2, 3]: reduce it first (sum, "
        "mean, a loss) or pass the upstream gradient",
    ),
    ('(w * 2).sum().backward("a")', "tensor: needs numbers, got 'a': dtype str32 is not supported"),
    (
        "(w * 2).sum().backward(cr.zeros((5,)))",
        "backward: the upstream gradient is float32[5], the output is float32[]: they must be alike",
    ),
    (
        "(w * 2).backward(np.ones((7,)))",
        "backward: the upstream gradient is float32[7], the output is float32[2, 3]: they must be alike",
    ),
    ('w.assign("a")', "tensor: needs numbers, got 'a': dtype str32 is not supported"),
    ("w.assign(None)", "tensor: needs numbers, got None: dtype object is not supported"),
    ("w.assign(np.zeros((7,)))", "assign: parameter is float32[2, 3], the value has shape (7,)"),
    (
        'setattr(w, "grad", 3)',
        "grad: parameter is float32[2, 3], so its gradient must be a tensor of that shape and dtype, got a int",
    ),
    (
        'setattr(w, "grad", np.zeros((2, 3), np.float32))',
        "grad: parameter is float32[2, 3], so its gradient must be a tensor of that shape and dtype, got a ndarray",
    ),
    ('nn.Linear("a", 3)', "Linear: in_features must be a whole number of at least 1, got 'a'"),
    ("nn.Linear(3, None)", "Linear: out_features must be a whole number of at least 1, got None"),
    ('nn.Linear(3, 2, dtype="int32")', "Parameter: only floats can be learned, this is int32[2, 3]: pass dtype='float32'"),
    ('nn.Linear(3, 2, dtype="a")', "unknown dtype 'a': Known: bfloat16, bool, float32, float64, int32, int64, uint8"),
    ('nn.Conv2d(3, 4, "a")', "Conv2d: kernel_size must be a whole number of at least 1 or a pair (height, width), got 'a'"),
    (
        "nn.Conv2d(3, 4, None)",
        "Conv2d: kernel_size must be a whole number of at least 1 or a pair (height, width), got None",
    ),
    (
        "nn.Conv2d(3, 4, 3, stride=0)",
        "Conv2d: stride must be a whole number of at least 1 or a pair (height, width), got 0",
    ),
    (
        'nn.Conv2d(3, 4, 3, stride="a")',
        "Conv2d: stride must be a whole number of at least 1 or a pair (height, width), got 'a'",
    ),
    ('nn.Conv2d(3, 4, 3, padding="full")', "Conv2d: padding must be 'same', 'valid' or numbers, got 'full'"),
    (
        "nn.Conv2d(3, 4, 3, padding=None)",
        "Conv2d: padding must be a whole number of at least 0 or a pair (height, width), got None",
    ),
    (
        "nn.Conv2d(3, 4, 3, padding=-1)",
        "Conv2d: padding must be a whole number of at least 0 or a pair (height, width), got -1",
    ),
    (
        "nn.Conv2d(3, 4, 3, padding=(1, 2, 3))",
        "Conv2d: padding must be a whole number of at least 0 or a pair (height, width), got (1, 2, 3)",
    ),
    (
        "nn.Conv2d(3, 4, 3, dilation=0)",
        "Conv2d: dilation must be a whole number of at least 1 or a pair (height, width), got 0",
    ),
    ("nn.Conv2d(3, 4, 3, groups=0)", "Conv2d: groups must be a whole number of at least 1, got 0"),
    ("nn.Conv2d(3, 4, 3, groups=2)", "Conv2d: in_channels=3 and out_channels=4 must both divide into groups=2"),
    (
        'nn.Conv2d(3, 4, 3, padding="same", stride=2)(im)',
        "Conv2d: padding='same' keeps the size, which needs stride 1, got stride (2, 2): give padding as numbers",
    ),
    ("nn.Conv1d(3, 4, (3, 3))", "Conv1d: kernel_size must be a whole number of at least 1, got (3, 3)"),
    ('nn.ConvTranspose2d(3, 4, 3, padding="same")', "ConvTranspose2d: padding must be numbers, got 'same'"),
    (
        "nn.ConvTranspose2d(3, 4, 3, output_padding=5)(im)",
        "ConvTranspose2d: conv_transpose2d: output_padding (5, 5) must be smaller than stride (1, 1) or dilation (1, 1)",
    ),
    ("nn.MaxPool2d(0)", "MaxPool2d: kernel_size must be a whole number of at least 1 or a pair (height, width), got 0"),
    ('nn.MaxPool2d("a")', "MaxPool2d: kernel_size must be a whole number of at least 1 or a pair (height, width), got 'a'"),
    ("nn.MaxPool2d(2, padding=2)(im)", "MaxPool2d: pooling: padding (2, 2) must be at most half of kernel_size (2, 2)"),
    (
        "nn.MaxPool2d(20)(im)",
        "MaxPool2d: max_pool2d: a window of 20 (kernel 20, dilation 1) does not fit the height 8 + padding 0 "
        "+ 0 = 8: enlarge the image or padding, or choose",
    ),
    ("nn.MaxPool2d(2)(x)", "MaxPool2d: max_pool2d: needs an image (N, C, H, W) or (C, H, W), got (2, 3)"),
    (
        "nn.AvgPool2d(None)",
        "AvgPool2d: kernel_size must be a whole number of at least 1 or a pair (height, width), got None",
    ),
    ('nn.AdaptiveAvgPool2d("a")', "AdaptiveAvgPool2d: output_size must be a whole number of at least 1, got 'a'"),
    ("nn.AdaptiveAvgPool2d(0)", "AdaptiveAvgPool2d: output_size must be a whole number of at least 1, got 0"),
    (
        "nn.AdaptiveAvgPool2d(2)(x)",
        "AdaptiveAvgPool2d: adaptive_avg_pool2d: needs an image (N, C, H, W) or (C, H, W), got (2, 3)",
    ),
    ('nn.BatchNorm2d("a")', "BatchNorm2d: num_features must be a whole number of at least 1, got 'a'"),
    ('nn.BatchNorm2d(3, eps="a")', "BatchNorm2d: eps must be a number, got 'a'"),
    ('nn.BatchNorm2d(3, eps="a")(im)', "BatchNorm2d: eps must be a number, got 'a'"),
    ("nn.BatchNorm2d(3, eps=None)(im)", "BatchNorm2d: eps must be a number, got None"),
    ('nn.BatchNorm2d(3, momentum="a")', "BatchNorm2d: momentum must be a number, got 'a'"),
    ('nn.BatchNorm2d(3, momentum="a")(im)', "BatchNorm2d: momentum must be a number, got 'a'"),
    ("nn.BatchNorm2d(3, momentum=5)(im)", "BatchNorm2d: momentum must be from 0 to 1, the share of the new batch, got 5"),
    ("nn.BatchNorm2d(3, eps=-1)(im)", "BatchNorm2d: eps must be at least 0, got -1"),
    (
        "nn.BatchNorm2d(4)(im)",
        "BatchNorm2d got shape (2, 3, 8, 8) with 3 channels, but num_features=4: pass num_features=3",
    ),
    ("nn.BatchNorm1d(3)(im)", "BatchNorm1d needs an input (N, C) or (N, C, L), got shape (2, 3, 8, 8)"),
    ('nn.LayerNorm("a")', "LayerNorm: normalized_shape must be sizes of at least 0, as a whole number or a tuple, got 'a'"),
    ('nn.LayerNorm(3, eps="a")(x)', "LayerNorm: eps must be a number, got 'a'"),
    (
        "nn.LayerNorm((4,))(x)",
        "LayerNorm got shape (2, 3), whose last axes are not normalized_shape=(4,): pass normalized_shape=(3,)",
    ),
    ("nn.GroupNorm(2, 3)", "GroupNorm: num_channels=3 must divide into num_groups=2"),
    ('nn.GroupNorm("a", 3)', "GroupNorm: num_groups must be a whole number of at least 1, got 'a'"),
    ("nn.GroupNorm(3, 3)(x[0])", "GroupNorm got shape (3,) with 0 channels, but num_channels=3: pass num_channels=0"),
    ('nn.Dropout("a")', "Dropout: p must be a number, got 'a'"),
    ("nn.Dropout(1.5)", "Dropout: p must be a probability, 0 to 1, got 1.5"),
    ("nn.Dropout(None)", "Dropout: p must be a number, got None"),
    ('nn.Flatten("a")', "Flatten: start_dim must be a whole number, got 'a'"),
    ("nn.Flatten(5)(x)", "Flatten: flatten: 5 to -1 goes beyond the axes of shape (2, 3): give -2 to 1"),
    ('nn.Softmax("a")', "Softmax: dim must be a whole number, got 'a'"),
    ("nn.Softmax(5)(x)", "Softmax: softmax: axis 5 is outside a tensor with 2 axes: give -2 to 1"),
    ("nn.Softmax(None)", "Softmax: dim must be a whole number, got None"),
    ('nn.GELU("quick")(x)', "GELU: gelu: approximate must be 'none' or 'tanh', got 'quick'"),
    ("nn.GELU(3)(x)", "GELU: gelu: approximate must be 'none' or 'tanh', got 3"),
    ('nn.LeakyReLU("a")', "LeakyReLU: negative_slope must be a number, got 'a'"),
    ('nn.LeakyReLU("a")(x)', "LeakyReLU: negative_slope must be a number, got 'a'"),
    ("nn.LeakyReLU(None)(x)", "LeakyReLU: negative_slope must be a number, got None"),
    ("nn.Sequential(3)", "Sequential: element 0 must be a layer, got int"),
    ("nn.Sequential(nn.Linear)", "Sequential: element 0 must be a layer, got type"),
    ("nn.Sequential(nn.Linear(3, 2), lambda x: x)", "Sequential: element 1 must be a layer, got function"),
    ("nn.Sequential(None)", "Sequential: element 0 must be a layer, got NoneType"),
    ('nn.Sequential(nn.ReLU())["a"]', "Sequential: the place of a layer must be a whole number, got 'a'"),
    ("nn.Sequential(nn.ReLU()).append(3)", "Sequential: element 1 must be a layer, got int"),
    ("nn.ModuleList(3)", "ModuleList: needs layers, got a int"),
    ("nn.ModuleList(nn.Linear(2, 2))", "ModuleList: needs layers, got a Linear"),
    ("nn.ModuleList([nn.ReLU()])(x)", "ModuleList has no forward method: define what it computes"),
    ("nn.Module()(x)", "Module has no forward method: define what it computes"),
    (
        'lin("a")',
        "Linear: the input must be a tensor, an array or nested lists of numbers: needs numbers, got 'a': "
        "dtype str32 is not supported",
    ),
    (
        "lin(None)",
        "Linear: the input must be a tensor, an array or nested lists of numbers: needs numbers, got None: "
        "dtype object is not supported",
    ),
    ("lin(x, y=1)", "Linear: unknown argument 'y': Known: x"),
    (
        "lin(cr.zeros((2, 5)))",
        "Linear got shape (2, 5) with 5 features on the last axis, but in_features=3: pass in_features=5",
    ),
    ('lin(cr.tensor(["1"]))', "tensor: needs numbers, got ['1']: dtype str32 is not supported"),
    (
        "lin.load_state_dict(None)",
        "load_state_dict: the state must be a dict of names and arrays, as state_dict() gives it, got a "
        "NoneType: chainrule.models.load_weights(model, path) loads",
    ),
    (
        "lin.load_state_dict([1, 2])",
        "load_state_dict: the state must be a dict of names and arrays, as state_dict() gives it, got a "
        "list: chainrule.models.load_weights(model, path) loads",
    ),
    ("lin.load_state_dict({})", "load_state_dict: the state does not fit this Linear:"),
    ('lin.load_state_dict({"weight": "a", "bias": "b"})', "load_state_dict: the state does not fit this Linear:"),
    ('lin.load_state_dict({"weight": None, "bias": None})', "load_state_dict: the state does not fit this Linear:"),
    ("lin.load_state_dict({1: 2})", "load_state_dict: the state does not fit this Linear:"),
    (
        "lin.load_state_dict(lin)",
        "load_state_dict: the state must be a dict of names and arrays, as state_dict() gives it, got a "
        "Linear: chainrule.models.load_weights(model, path) loads",
    ),
    (
        'lin.load_state_dict("model.pt")',
        "load_state_dict: the state must be a dict of names and arrays, as state_dict() gives it, got a str: "
        "chainrule.models.load_weights(model, path) loads",
    ),
    ("lin.apply(3)", "apply: needs a function of a module, got a int"),
    ('lin.train("yes")', "train: mode must be True or False, got 'yes'"),
    ('lin.astype("a")', "unknown dtype 'a': Known: bfloat16, bool, float32, float64, int32, int64, uint8"),
    ('lin.astype("int32")', "Parameter: only floats can be learned, this is int32[2, 3]: pass dtype='float32'"),
    ("lin.astype(None)", "unknown dtype None: Known: bfloat16, bool, float32, float64, int32, int64, uint8"),
    ('lin.summary("a")', "summary: input_shape must be sizes of at least 0, as a whole number or a tuple, got 'a'"),
    (
        "lin.summary((2, 5))",
        "Linear got shape (2, 5) with 5 features on the last axis, but in_features=3: pass in_features=5",
    ),
    ("lin.summary(None)", "summary: input_shape must be sizes of at least 0, as a whole number or a tuple, got None"),
    ("lin.unused_parameters(3)", "unused_parameters: needs the loss, a tensor, got a int"),
    (
        'nn.CrossEntropyLoss(reduction="a")(x, lab)',
        "CrossEntropyLoss: unknown reduction 'a': Known: mean, none, sum",
    ),
    (
        'nn.CrossEntropyLoss(label_smoothing="a")(x, lab)',
        "CrossEntropyLoss: cross_entropy: label_smoothing must be a number, got 'a'",
    ),
    (
        'nn.CrossEntropyLoss(weight="a")(x, lab)',
        "CrossEntropyLoss: weight must be a tensor, an array or nested lists of numbers: needs numbers, got "
        "'a': dtype str32 is not supported",
    ),
    (
        "nn.CrossEntropyLoss(weight=[1.0])(x, lab)",
        "CrossEntropyLoss: weight must have one number for each of the 3 classes, got shape (1,)",
    ),
    (
        'nn.CrossEntropyLoss(ignore_index="a")(x, lab)',
        "CrossEntropyLoss: cross_entropy: ignore_index must be a whole number, got 'a'",
    ),
    (
        "nn.CrossEntropyLoss()(x)",
        "CrossEntropyLoss: missing a required argument: 'target': it is called as CrossEntropyLoss(logits, target)",
    ),
    (
        'nn.CrossEntropyLoss()(x, "a")',
        "CrossEntropyLoss: cross_entropy: target must be a tensor, an array or nested lists of numbers: "
        "needs numbers, got 'a': dtype str32 is not supported",
    ),
    (
        "nn.CrossEntropyLoss()(x, None)",
        "CrossEntropyLoss: cross_entropy: target must be a tensor, an array or nested lists of numbers: "
        "needs numbers, got None: dtype object is not supported",
    ),
    (
        "nn.CrossEntropyLoss()(lab, x)",
        "CrossEntropyLoss: cross_entropy: logits must be floats (N, classes, ...), got int64[2], and a "
        "target float32[2, 3]: swap them, it is",
    ),
    (
        "nn.CrossEntropyLoss()(x, lab + 5)",
        "CrossEntropyLoss: cross_entropy: the label 5 in row 0 is out of range: the scores have 3 classes, "
        "so labels go from 0 to 2; mend the labels or give",
    ),
    (
        "nn.CrossEntropyLoss()(x, [[0], [1]])",
        "CrossEntropyLoss: cross_entropy: scores (2, 3) need labels of shape (2,), got (2, 1)",
    ),
    (
        "nn.CrossEntropyLoss()(x[0], 1)",
        "CrossEntropyLoss: cross_entropy: logits must be floats (N, classes, ...), got float32[3]",
    ),
    (
        "nn.NLLLoss()(x, [0.0, 1.0])",
        "NLLLoss: nll_loss: labels must be integers (2,), got float32[2]: convert them, labels.astype('int64')",
    ),
    ("nn.NLLLoss()(x[0], 0)", "NLLLoss: nll_loss: scores must be (N, classes, ...), got shape (3,)"),
    ("nn.NLLLoss()(lab, lab)", "NLLLoss: nll_loss: scores must be (N, classes, ...), got shape (2,)"),
    (
        'nn.MSELoss()(x, "a")',
        "MSELoss: mse_loss: target must be a tensor, an array or nested lists of numbers: needs numbers, got "
        "'a': dtype str32 is not supported",
    ),
    (
        "nn.MSELoss()(x, None)",
        "MSELoss: mse_loss: target must be a tensor, an array or nested lists of numbers: needs numbers, got "
        "None: dtype object is not supported",
    ),
    ("nn.MSELoss()(x, 1.0)", "MSELoss: mse_loss: the prediction has shape (2, 3), the target (): reshape one of them"),
    ("nn.MSELoss(reduction=None)(x, x)", "MSELoss: unknown reduction None: did you mean 'none'? Known: mean, none, sum"),
    ('nn.SmoothL1Loss(beta="a")(x, x)', "SmoothL1Loss: smooth_l1_loss: beta must be a number, got 'a'"),
    ("nn.SmoothL1Loss(beta=-1)(x, x)", "SmoothL1Loss: smooth_l1_loss: beta must not be negative, got -1"),
    (
        'nn.BCEWithLogitsLoss(pos_weight="a")(x, x)',
        "BCEWithLogitsLoss: binary_cross_entropy_with_logits: pos_weight must be a tensor, an array or "
        "nested lists of numbers: needs numbers, got 'a': dtype",
    ),
    (
        "nn.BCEWithLogitsLoss()(x, lab)",
        "BCEWithLogitsLoss: binary_cross_entropy_with_logits: the prediction has shape (2, 3), the target "
        "(2,): reshape one of them",
    ),
    (
        "nn.BCEWithLogitsLoss(pos_weight=[1., 2.])(x, x)",
        "BCEWithLogitsLoss: multiply: shapes (2, 3) and (2,) do not broadcast: counted from the last, axes "
        "must agree or be 1; reshape one of them",
    ),
    ("nn.init.kaiming_uniform_(3)", "only parameters can be initialised, got a int"),
    ("nn.init.kaiming_uniform_(x)", "only parameters can be initialised, got a Tensor"),
    ('nn.init.uniform_(w, "a", "b")', "uniform: low must be a number, got 'a'"),
    ('nn.init.normal_(w, "a")', "normal: mean must be a number, got 'a'"),
    ('nn.init.constant_(w, "a")', "constant_: value must be a number, got 'a'"),
    ("nn.init.constant_(w, None)", "constant_: value must be a number, got None"),
    ('nn.init.kaiming_normal_(w, mode="a")', "unknown mode 'a': Known: fan_in, fan_out"),
    (
        "nn.init.xavier_uniform_(cr.Parameter([1.0]))",
        "a weight has at least two axes, (out, in, ...), this has shape (1,): use uniform_ or constant_",
    ),
    ("F.linear(x, x[0])", "linear: weight must be (out, in) and bias (out), got weight (3,)"),
    ("F.linear(x, cr.zeros((4, 5)))", "linear: weight (4, 5) expects 5 features on the last axis, got (2, 3)"),
    (
        "F.linear(x, cr.zeros((4, 3)), cr.zeros((3,)))",
        "linear: weight must be (out, in) and bias (out), got weight (4, 3) and bias (3,)",
    ),
    ("F.conv2d(x, im)", "conv2d: needs an image (N, C, H, W) or (C, H, W), got (2, 3)"),
    ("F.conv2d(im, x)", "conv2d: weight (O, C / groups, KH, KW) must have 4 axes, got float32[2, 3]"),
    (
        "F.conv2d(im, cr.zeros((4, 5, 3, 3)))",
        "conv2d: weight [4, 5, 3, 3] expects 5 input channels, the image [2, 3, 8, 8] has 3",
    ),
    (
        "F.conv2d(im, cr.zeros((4, 3, 3, 3)), cr.zeros((3,)))",
        "bias must have one number for each of the 4 output channels, got shape (3,)",
    ),
    (
        "F.conv2d(im, cr.zeros((4, 3, 9, 9)))",
        "conv2d: a window of 9 (kernel 9, dilation 1) does not fit the height 8 + padding 0 + 0 = 8: enlarge "
        "the image or padding, or choose a smaller",
    ),
    (
        "F.conv2d(im, cr.zeros((4, 3, 3, 3)), stride=None)",
        "stride must be a whole number of at least 1 or a pair (height, width), got None",
    ),
    (
        "F.conv2d(im, cr.zeros((4, 3, 3, 3)), 1)",
        "bias must have one number for each of the 4 output channels, got shape ()",
    ),
    (
        'F.conv2d(im, "a")',
        "conv2d: weight must be a tensor, an array or nested lists of numbers: needs numbers, got 'a': dtype "
        "str32 is not supported",
    ),
    (
        "F.conv1d(im, im)",
        "conv1d: needs a weight (O, C / groups, K), got (2, 3, 8, 8)",
    ),
    ("F.conv1d(x, x)", "conv1d: needs a weight (O, C / groups, K), got (2, 3)"),
    (
        "F.conv_transpose2d(im, x)",
        "conv_transpose2d: needs a weight (C, O / groups, KH, KW), got (2, 3)",
    ),
    (
        "F.max_pool2d(im)",
        "max_pool2d: missing a required argument: 'kernel_size': it is called as max_pool2d(x, kernel_size, "
        "stride=None, padding=0, dilation=1,",
    ),
    ("F.max_pool2d(im, None)", "kernel_size must be a whole number of at least 1 or a pair (height, width), got None"),
    ('F.max_pool2d(im, 2, "a")', "stride must be a whole number of at least 1 or a pair (height, width), got 'a'"),
    ("F.max_pool2d(lab, 2)", "max_pool2d: needs an image (N, C, H, W) or (C, H, W), got (2,)"),
    ("F.avg_pool2d(im, 2, 0)", "stride must be a whole number of at least 1 or a pair (height, width), got 0"),
    ('F.avg_pool2d(im.astype("int32"), 2)', "avg_pool2d: needs a float, got int32[2, 3, 8, 8]: cast to float32 first"),
    (
        "F.adaptive_avg_pool2d(im, (1, 2, 3))",
        "adaptive_avg_pool2d: output_size must be a whole number or a pair (height, width), got (1, 2, 3)",
    ),
    ('F.adaptive_avg_pool2d(im, "a")', "adaptive_avg_pool2d: output_size must be a whole number of at least 1, got 'a'"),
    (
        "F.batch_norm(im, None, None, cr.ones(2))",
        "batch_norm: weight must have one number for each of the 3 channels, got (2,)",
    ),
    (
        "F.batch_norm(im, cr.ones(2), cr.ones(2))",
        "batch_norm: running_mean must have one number for each of the 3 channels, got (2,)",
    ),
    ("F.batch_norm(x[0], None, None)", "batch_norm: needs an input (N, C, ...), got (3,)"),
    ('F.batch_norm(im, None, None, eps="a")', "add: needs numbers, got 'a': dtype str32 is not supported"),
    ("F.batch_norm(im, cr.ones(3), None)", "batch_norm: pass both running_mean and running_var, or None for both"),
    (
        'F.layer_norm(x, "a")',
        "layer_norm: normalized_shape must be sizes of at least 0, as a whole number or a tuple, got 'a'",
    ),
    ("F.layer_norm(x, (2, 3, 4))", "layer_norm: normalized_shape (2, 3, 4) does not match the last axes of (2, 3)"),
    ("F.layer_norm(x, 3, cr.ones(2))", "reshape: float32[2] has 2 elements, shape (3,) has 3"),
    ("F.group_norm(x[0], 1)", "group_norm: needs an input (N, C, ...), got (3,)"),
    ('F.group_norm(im, "a")', "group_norm: num_groups must be a whole number, got 'a'"),
    ("F.group_norm(im, 3, cr.ones(2))", "reshape: float32[2] has 2 elements, shape (1, 3, 1, 1) has 3"),
    ('F.dropout(x, "a")', "dropout: p must be a number, got 'a'"),
    ("F.dropout(x, -1)", "dropout: p must be a probability, 0 to 1, got -1"),
    ("F.dropout(x, None)", "dropout: p must be a number, got None"),
    ('F.flatten(x, "a")', "flatten: start_dim must be a whole number, got 'a'"),
    ("F.flatten(x, 5)", "flatten: 5 to -1 goes beyond the axes of shape (2, 3): give -2 to 1"),
    ("F.gelu(x, approximate=None)", "gelu: approximate must be 'none' or 'tanh', got None"),
    ('F.leaky_relu(x, "a")', "multiply: needs numbers, got 'a': dtype str32 is not supported"),
    ("F.softmax(x, 5)", "softmax: axis 5 is outside a tensor with 2 axes: give -2 to 1"),
    ('F.softmax(x, "a")', "softmax: axis must be a whole number, or several of them in a tuple, got 'a'"),
    ("F.softmax(cr.tensor(1.0))", "softmax: there is no axis -1, as this is a single number without axes: leave axis out"),
    ("F.cross_entropy(x, lab, label_smoothing=2)", "cross_entropy: label_smoothing must be from 0 to 1, got 2"),
    ("F.cross_entropy(x, lab, reduction=None)", "unknown reduction None: did you mean 'none'? Known: mean, none, sum"),
    ("F.cross_entropy(x, lab, weight=3)", "weight must have one number for each of the 3 classes, got shape ()"),
    (
        "F.cross_entropy(x, x[:, :2])",
        "cross_entropy: the prediction has shape (2, 3), the target (2, 2): reshape one of them",
    ),
    ("F.cross_entropy(x, [0, 1, 2])", "cross_entropy: scores (2, 3) need labels of shape (2,), got (3,)"),
    ("F.mse_loss(x, x[:1])", "mse_loss: the prediction has shape (2, 3), the target (1, 3): reshape one of them"),
    (
        "F.mse_loss(x)",
        "mse_loss: missing a required argument: 'target': it is called as mse_loss(x, target, reduction='mean')",
    ),
    ("F.l1_loss(x, lab)", "l1_loss: the prediction has shape (2, 3), the target (2,): reshape one of them"),
    ("F.smooth_l1_loss(x, x, beta=None)", "smooth_l1_loss: beta must be a number, got None"),
    (
        'F.binary_cross_entropy_with_logits(x, x, "a")',
        "binary_cross_entropy_with_logits: weight must be a tensor, an array or nested lists of numbers: "
        "needs numbers, got 'a': dtype str32 is not supported",
    ),
    ("optim.SGD(None)", "SGD: params must be a list, got a NoneType: pass model.parameters()"),
    ("optim.SGD(3)", "SGD: params must be a list, got a int: pass model.parameters()"),
    ("optim.SGD([])", "SGD: got no parameters: pass model.parameters()"),
    ("optim.SGD(lin)", "SGD: params must be a list, got a Linear: pass model.parameters()"),
    ("optim.SGD([x])", "SGD: float32[2, 3] asks for no gradient: make it with requires_grad=True, or a Parameter"),
    ("optim.SGD([1, 2])", "SGD: can only update parameters, got int"),
    ('optim.SGD("a")', "SGD: params must be a list, got a str: pass model.parameters()"),
    ('optim.SGD(lin.parameters(), lr="a")', "SGD: lr must be a number, got 'a'"),
    ("optim.SGD(lin.parameters(), lr=None)", "SGD: lr must be a number, got None"),
    ("optim.SGD(lin.parameters(), lr=-1)", "SGD: lr must be at least 0, got -1.0"),
    ('optim.SGD(lin.parameters(), lr=float("nan"))', "SGD: lr must be at least 0, got nan"),
    ("optim.SGD(lin.parameters(), momentum=2)", "SGD: momentum must be at least 0 and under 1, got 2.0"),
    ('optim.SGD(lin.parameters(), momentum="a")', "SGD: momentum must be a number, got 'a'"),
    ("optim.SGD(lin.parameters(), nesterov=True)", "SGD: nesterov=True needs a momentum above 0, for example momentum=0.9"),
    ('optim.SGD(lin.parameters(), weight_decay="a")', "SGD: weight_decay must be a number, got 'a'"),
    ('optim.SGD([{"lr": 1}])', "SGD: a group must be a dict with 'params' and options, got {'lr': 1}"),
    ('optim.SGD([{"params": 3}])', "SGD: params of a group must be a list, got a int: pass model.parameters()"),
    (
        'optim.SGD([{"params": lin.parameters(), "lrr": 1}])',
        "SGD: unknown option 'lrr' of a group. Known: lr, momentum, dampening, weight_decay, nesterov, maximize",
    ),
    ('optim.SGD({"params": lin.parameters()})', "SGD: can only update parameters, got str"),
    ("optim.SGD(lin.parameters, lr=0.1)", "SGD: params must be a list, got a method: pass model.parameters()"),
    ("optim.SGD(lin.state_dict())", "SGD: can only update parameters, got str"),
    ("optim.SGD(lin.named_parameters())", "SGD: can only update parameters, got tuple"),
    ("optim.SGD([w, w])", "SGD: parameter (2, 3) is given twice"),
    (
        "optim.Adam(lin.parameters(), betas=0.9)",
        "Adam: betas must be a list, got a float: pass two numbers, such as (0.9, 0.999)",
    ),
    ("optim.Adam(lin.parameters(), betas=(0.9,))", "Adam: betas must be two numbers, such as (0.9, 0.999), got (0.9,)"),
    ('optim.Adam(lin.parameters(), betas=("a", "b"))', "Adam: beta1 must be a number, got 'a'"),
    ("optim.Adam(lin.parameters(), betas=(0.9, 2))", "Adam: beta2 must be at least 0 and under 1, got 2.0"),
    ('optim.Adam(lin.parameters(), eps="a")', "Adam: eps must be a number, got 'a'"),
    ('optim.RMSprop(lin.parameters(), alpha="a")', "RMSprop: alpha must be a number, got 'a'"),
    ('setattr(sgd, "lr", "a")', "SGD: lr must be a number, got 'a'"),
    ('setattr(sgd, "lr", None)', "SGD: lr must be a number, got None"),
    ('setattr(sgd, "lr", -1)', "SGD: lr must be at least 0, got -1.0"),
    ('sgd.groups[0]["foo"]', "unknown option 'foo': Known: dampening, lr, maximize, momentum, nesterov, weight_decay"),
    ('sgd.groups[0].set("foo", 1)', "unknown option 'foo': Known: dampening, lr, maximize, momentum, nesterov, weight_decay"),
    ('sgd.groups[0].set("lr", "a")', "option lr must be a number, got 'a'"),
    ("sgd.load_state_dict(None)", "SGD: the state must be a dict, as state_dict() gives it, got a NoneType"),
    ('sgd.load_state_dict({"a": 1})', "optimizer state 'a' does not belong to this SGD"),
    (
        'sgd.load_state_dict({"group.0.lr": "a"})',
        "optimizer state lacks group.0.momentum: was it saved by another SGD, or another optimizer?",
    ),
    ("sgd.load_state_dict([])", "SGD: the state must be a dict, as state_dict() gives it, got a list"),
    ("optim.StepLR(3, 1)", "StepLR: needs an optimizer, got a int"),
    ('optim.StepLR(sgd, "a")', "StepLR: step_size must be a whole number of at least 1, got 'a'"),
    ('optim.StepLR(sgd, 1, "a")', "StepLR: gamma must be a number, got 'a'"),
    (
        "optim.StepLR(sgd)",
        "StepLR: missing a required argument: 'step_size': it is called as StepLR(optimizer, step_size, gamma=0.1)",
    ),
    ("optim.CosineAnnealingLR(sgd, 0)", "CosineAnnealingLR: T_max must be a whole number of at least 1, got 0"),
    ('optim.CosineAnnealingLR(sgd, 5, "a")', "CosineAnnealingLR: eta_min must be a number, got 'a'"),
    ('optim.LinearLR(sgd, "a")', "LinearLR: start_factor must be a number, got 'a'"),
    ("optim.LinearLR(sgd, 5.0)", "LinearLR: factors must lie in (0, 1], got 5.0 and 1.0"),
    (
        "optim.OneCycleLR(sgd)",
        "OneCycleLR: missing a required argument: 'max_lr': it is called as OneCycleLR(optimizer, "
        "max_lr, total_steps=None, epochs=None,",
    ),
    ('optim.OneCycleLR(sgd, "a", 5)', "OneCycleLR: max_lr must be a number, got 'a'"),
    ('optim.OneCycleLR(sgd, 1.0, 5, pct_start="a")', "OneCycleLR: pct_start must be a number, got 'a'"),
    (
        'optim.OneCycleLR(sgd, 1.0, 5, anneal_strategy="a")',
        "OneCycleLR: anneal_strategy must be 'cos' or 'linear', got 'a'",
    ),
    (
        "optim.OneCycleLR(sgd, 1.0, 5)",
        "OneCycleLR: cycle_momentum=True needs an optimizer with momentum: pass one, or cycle_momentum=False",
    ),
    (
        "optim.SequentialLR(sgd, 3, [1])",
        "SequentialLR: schedulers must be a list, got a int: pass one schedule for each part",
    ),
    ("optim.SequentialLR(sgd, [3, 4], [1])", "SequentialLR: schedulers must be schedules, got a int"),
    (
        "optim.SequentialLR(sgd, [optim.StepLR(sgd, 1)], 3)",
        "SequentialLR: milestones must be a list, got a int: pass the step at which each schedule but the first begins",
    ),
    (
        "optim.clip_grad_norm_(lin, 1.0)",
        "clip_grad_norm_: parameters must be a list, got a Linear: pass model.parameters()",
    ),
    ('optim.clip_grad_norm_(lin.parameters(), "a")', "clip_grad_norm_: max_norm must be a number, got 'a'"),
    ("optim.clip_grad_norm_(lin.parameters(), -1)", "clip_grad_norm_: max_norm must be above 0, got -1"),
    ("optim.clip_grad_norm_(3, 1.0)", "clip_grad_norm_: parameters must be a list, got a int: pass model.parameters()"),
    ("data.ArrayDataset(None, [1])", "arrays: images have shape (): expected (N, H, W) or (N, C, H, W)"),
    ("data.ArrayDataset(np.zeros((2, 3)), [0, 1])", "arrays: images have shape (2, 3): expected (N, H, W) or (N, C, H, W)"),
    (
        "data.ArrayDataset(np.zeros((2, 3, 3)), None)",
        "arrays: labels have shape (): expected (N,), one class number per image",
    ),
    (
        "data.ArrayDataset(np.zeros((2, 3, 3)), [0.5, 1])",
        "arrays: labels are float64: expected whole numbers; convert with .astype(np.int64)",
    ),
    ("data.ArrayDataset(np.zeros((2, 3, 3)), [0, 1, 2])", "arrays: 2 images but 3 labels: each image needs one"),
    (
        'data.ArrayDataset(np.zeros((2, 3, 3)), "ab")',
        "arrays: labels have shape (): expected (N,), one class number per image",
    ),
    ('data.ArrayDataset("images", [1])', "arrays: images have shape (): expected (N, H, W) or (N, C, H, W)"),
    ("data.ArrayDataset(np.zeros((2, 3, 3)), [0, 1], classes=3)", "arrays: classes must be a list of names, got 3"),
    ('data.ArrayDataset(np.zeros((2, 3, 3)), [0, 1], classes="ab")', "arrays: classes must be a list of names, got 'ab'"),
    ("data.Loader(3, 4)", "Loader got a int: expected a Dataset, such as ArrayDataset(images, labels)"),
    (
        "data.Loader(np.zeros((4, 1, 8, 8)), 2)",
        "Loader got a ndarray: expected a Dataset, such as ArrayDataset(images, labels)",
    ),
    ('data.Loader(ds, "a")', "batch_size of Loader must be a whole number of at least 1, got 'a'"),
    ("data.Loader(ds, 0)", "batch_size of Loader must be a whole number of at least 1, got 0"),
    ("data.Loader(ds, 2, transforms=3)", "transforms of Loader is 3: expected a list of callables"),
    ('data.Loader(ds, 2, transforms=["a"])', "transforms of Loader is ['a']: expected a list of callables"),
    ('data.Loader(ds, 2, seed="a")', "seed of Loader must be a whole number of at least 0, got 'a'"),
    (
        "data.Loader(ds)",
        "Loader: missing a required argument: 'batch_size': it is called as Loader(dataset, batch_size, "
        "shuffle=True, seed=0, transforms=(), workers=None,",
    ),
    ("data.Loader(ds, 8, drop_last=True)", "Loader: drop_last leaves no batch, as arrays has 4 images and batch_size is 8"),
    ("data.Loader(ds, 2).seek(None)", "cursor must be a dict with seed, epoch and batch, got a NoneType"),
    ("data.Loader(ds, 2).seek({})", "cursor lacks 'seed': expected seed, epoch and batch, got {}"),
    ("data.Loader(ds, 2).seek(3)", "cursor must be a dict with seed, epoch and batch, got a int"),
    (
        "data.Loader(ds, 2, batchsize=3)",
        "Loader: unknown argument 'batchsize': did you mean 'batch_size'? Known: batch_size, dataset, "
        "drop_last, prefetch, seed, shuffle, transforms, workers",
    ),
    ('data.mnist("tests")', "unknown split 'tests': did you mean 'test'? Known: test, train"),
    ("data.mnist(None)", "unknown split None: Known: test, train"),
    ("data.mnist(3)", "unknown split 3: Known: test, train"),
    ('data.RandomCrop("a")', "height in size of RandomCrop must be a whole number of at least 1, got 'a'"),
    ("data.RandomCrop(None)", "height in size of RandomCrop must be a whole number of at least 1, got None"),
    ('data.RandomFlip("a")', "probability of RandomFlip is 'a': expected a number from 0 to 1"),
    ("data.RandomFlip(3)", "probability of RandomFlip is 3: expected a number from 0 to 1"),
    ('data.RandomShift("a")', "pixels of RandomShift must be a whole number of at least 0, got 'a'"),
    ('data.Normalize("a", "b")', "Normalize: mean is 'a': expected one finite number per channel"),
    ("data.Normalize(0.5, 0)", "Normalize: std of channel 0 is 0.0: it must be above 0"),
    ("data.Normalize([0.5], None)", "Normalize: std is None: expected one finite number per channel"),
    ("data.Normalize([0.5, 0.5], [0.1])", "Normalize: 2 means but 1 stds: give one of each per channel"),
    ('ds.images("a")', "arrays: images are chosen by a list of whole numbers, not by <U1 of shape ()"),
    ("ds.images(None)", "arrays: images are chosen by a list of whole numbers, not by object of shape ()"),
    ("ds.images([9])", "arrays: there is no image 9: numbers go from 0 to 3"),
    ("ds[9]", "arrays: there is no image 9: numbers go from 0 to 3, or from -1 to -4"),
    ('ds["a"]', "arrays: [...] takes the number of one image, got a str: for several use images(...) and labels[...]"),
    ('models.build("lennet", 1, 10, (28, 28))', "unknown model 'lennet': did you mean 'lenet'? Known: alexnet, "),
    (
        'models.build("lenet", "a", 10, (28, 28))',
        "model lenet cannot be built for images of a x 28 x 28: Conv2d: in_channels must be a whole number "
        "of at least 1, got 'a'",
    ),
    ('models.build("lenet", 1, 10, 28)', "the size of an image must be (height, width) in pixels, got 28"),
    ('models.build("lenet", 1, 10, "28x28")', "the size of an image must be (height, width) in pixels, got '28x28'"),
    ("models.build(None, 1, 10, (28, 28))", "unknown model None: Known: alexnet, "),
    ('models.lenet(10, "a")', "Conv2d: in_channels must be a whole number of at least 1, got 'a'"),
    (
        "models.lenet(10, 1, (4, 4))",
        "its two 5 x 5 convolutions and poolings need at least 12 x 12 pixels: use larger images, or the model mlp",
    ),
    ("models.lenet(10, 1, 28)", "the size of an image must be (height, width) in pixels, got 28"),
    ("models.mlp(10, 1, 28)", "the size of an image must be (height, width) in pixels, got 28"),
    ("models.mlp(10, None)", "channels must be a whole number of at least 1, got None"),
    ('train.Config(model="a")', "unknown model 'a': Known: alexnet, "),
    ('train.Config(epochs="a")', "epochs must be a whole number of at least 1, got 'a'"),
    ('train.Config(lr="a")', "learning rate must be a number, got 'a'"),
    ("train.Config(lr=-1)", "learning rate must be a finite number above 0, got -1"),
    ('train.Config(momentum="a")', "momentum must be a number, got 'a'"),
    ("train.Config(seed=-1)", "seed must be a whole number of at least 0, got -1"),
    ("train.Config(augment=3)", "augment must be a text, got 3"),
    ("train.Config(image_size=28)", "image size must be a text, got 28"),
    ('train.Config(label_smoothing="a")', "label smoothing must be a number, got 'a'"),
    ("train.Config(weight_decay=None)", "weight decay must be a number, got None"),
    ('formats.load_safetensors("nothing.safetensors")', "nothing.safetensors does not exist: expected a safetensors file"),
    ("formats.load_safetensors(3)", "load_safetensors: path must be the path of a file, got 3"),
    ("formats.load_safetensors(None)", "load_safetensors: path must be the path of a file, got None"),
    (
        'formats.save_safetensors("unused.safetensors", 3)',
        "save_safetensors: tensors must be a dict of names and arrays, got a int: pass model.state_dict()",
    ),
    ('formats.save_safetensors("unused.safetensors", {"a": "b"})', "save_safetensors: 'a' holds no numbers, but str32"),
    ('formats.save_safetensors("unused.safetensors", {"a": None})', "save_safetensors: 'a' holds no numbers, but object"),
    (
        'formats.save_safetensors("unused.safetensors", {1: np.zeros(3)})',
        "save_safetensors: tensors must be a dict of names and arrays, got a dict: pass model.state_dict()",
    ),
    (
        'formats.save_safetensors("unused.safetensors", {"a": np.zeros(3)}, {"a": 1})',
        "save_safetensors: metadata must be texts by texts, got {'a': 1}",
    ),
    (
        'formats.save_safetensors("unused.safetensors", lin)',
        "save_safetensors: tensors must be a dict of names and arrays, got a Linear: pass model.state_dict()",
    ),
    # ---- what has no such place or length
    ("len(cr.tensor(1.0))", "float32[] is a single number: without axes it has no length and no elements"),
    ("list(cr.tensor(1.0))", "float32[] is a single number: without axes it has no length and no elements"),
    ("[1, 2][cr.tensor(1.0)]", "float32[] cannot be an index: only integers can"),
    ("nn.Sequential(nn.ReLU())[5]", "Sequential has 1 elements, there is no 5"),
    # ---- flags: True or False, and nothing that could be taken for one
    ('cr.tensor([1.0], requires_grad="yes")', "tensor: requires_grad must be True or False, got 'yes'"),
    ("cr.tensor([1.0], None, 1)", "tensor: requires_grad must be True or False, got 1"),
    ('setattr(x, "requires_grad", "no")', "requires_grad must be True or False, got 'no'"),
    ('setattr(w, "requires_grad", 0)', "requires_grad must be True or False, got 0"),
    ('w.requires_grad_("no")', "requires_grad must be True or False, got 'no'"),
    ('setattr(lin, "training", "no")', "training must be True or False, got 'no'"),
    ('nn.MaxPool2d(2, ceil_mode="a")', "MaxPool2d: ceil_mode must be True or False, got 'a'"),
    ("nn.Linear(3, 2, 0)", "Linear: bias must be True or False, got 0"),
    ('F.dropout(x, 0.5, "no")', "dropout: training must be True or False, got 'no'"),
    ("F.avg_pool2d(im, 2, ceil_mode=None)", "avg_pool2d: ceil_mode must be True or False, got None"),
    ("x.sum().backward(retain_graph=1)", "backward: retain_graph must be True or False, got 1"),
    ('optim.SGD(lin.parameters(), lr=0.1, nesterov="a")', "SGD: nesterov must be True or False, got 'a'"),
    ('data.Loader(ds, 2, shuffle="a")', "Loader: shuffle must be True or False, got 'a'"),
    # ---- what a stranger found
    ("cr.random.normal(2, 3)", "normal: too many positional arguments: it is called as normal(shape=(), mean=0.0, std=1.0"),
    ("cr.random.uniform(2, 3)", "uniform: too many positional arguments: it is called as uniform(shape=(), low=0.0, high=1.0"),
    ('optim.clip_grad_norm_({"a": w}, 1.0)', "clip_grad_norm_: element 0 must be a parameter, got a str: pass"),
    ("optim.clip_grad_norm_(lin.named_parameters(), 1.0)", "clip_grad_norm_: element 0 must be a parameter, got a tuple: pass"),
    ("nn.Sequential(nn.ReLU()).__setitem__(3, nn.Tanh())", "Sequential has 1 elements, there is no 3"),
    ("nn.Sequential(nn.ReLU()).__setitem__(0, 3)", "Sequential: element 0 must be a layer, got int"),
    ("nn.Sequential(nn.ReLU()).insert(0, 3)", "Sequential: insert needs a layer, got a int"),
    ("(x > 2) // (x > 2)", "floor_divide: is not defined for bool, got bool[2, 3]: cast to int32 or float32 first"),
    ("(x > 2) % (x > 2)", "remainder: is not defined for bool"),
    ("x % 'a'", "remainder: needs numbers, got 'a'"),
    ("x.round(0.5)", "round: decimals must be a whole number, got 0.5"),
    ("cr.round(x, 99)", "round: decimals must be from -38 to 38 for float32[2, 3], got 99"),
    ("x ^ 2", "^ is not defined for tensors, such as float32[2, 3], as no gradient passes it: compare with !=, or use **"),
    (
        "nn.Linear(2**62, 2)",
        "Parameter: float32[2, 4611686018427387904] is too large: it would take 36,893,",
    ),
    ("lin(1.0)", "Linear got a single number: it needs 3 features on the last axis"),
    (
        "F.cross_entropy([[1.0, 2.0], [2.0, 1.0]], [[1, 0], [0, 1]])",
        "cross_entropy: scores (2, 2) need labels of shape (2,), got (2, 2): are they one-hot rows? Pass labels.argmax(1)",
    ),
    ("F.layer_norm(x, 3, None, None, True)", "layer_norm: eps must be a number, got True"),
    ("F.dropout(x, 0.5, 0.1)", "dropout: training must be True or False, got 0.1"),
    ("cr.one_hot([-1, 0], 3)", "one_hot: index -1 is not from 0 to 2, as there are 3 classes"),
    ("cr.one_hot([0, 3], 3)", "one_hot: index 3 is not from 0 to 2, as there are 3 classes"),
    ("cr.compile(lambda n: cr.one_hot(n, 3))(np.array([0, 3]))", "one_hot: index 3 is not from 0 to 2"),
    (
        "cr.compile(lambda y, n: y.sum(axis=n))(x, np.int64(1))",
        "the value of <Node input 'n' int64[]> was asked for while tracing",
    ),
    # ---- what is checked where it is said, not where it is used
    ('cr.precision("float16")', "unknown precision 'float16'"),
    ("train.Config(foo=1)", "Config: unknown argument 'foo'"),
    ('cr.compile(lambda y: y, max_memory="a")', "compile: max_memory must be a whole number of at least 0, got 'a'"),
    ("cr.compile(lambda y: y)(x, z=3)", "<lambda>: unknown argument 'z'"),
    ("cr.compile(lambda y: y)()", "<lambda>: missing a required argument: 'y': it is called as <lambda>(y)"),
    (
        "next(iter(data.Loader(ds, 2, transforms=[names_no_generator])))",
        "transform names_no_generator: too many positional arguments: it is called as transform names_no_generator(images)",
    ),
]


def names_no_generator(images: Any) -> Any:
    """A transform that takes the images alone."""
    return images


def names() -> dict[str, Any]:
    """What the rows speak of."""
    layer = nn.Linear(3, 2)
    return {
        **{"cr": cr, "np": np, "data": data, "formats": formats, "models": models, "nn": nn, "optim": optim, "train": train},
        "F": nn.functional,
        "names_no_generator": names_no_generator,
        "x": cr.ones((2, 3)),
        "im": cr.ones((2, 3, 8, 8)),
        "lab": np.array([0, 1]),
        "w": cr.Parameter(np.ones((2, 3), np.float32)),
        "lin": layer,
        "sgd": optim.SGD(layer.parameters(), lr=0.1),
        "ds": data.ArrayDataset(np.zeros((4, 1, 8, 8), np.uint8), [0, 1, 0, 1]),
    }


@pytest.mark.parametrize(("code", "text"), ROWS, ids=[code for code, _ in ROWS])
def test_a_wrong_use_is_a_user_error_that_says_what_is_wrong(code: str, text: str) -> None:
    with pytest.raises(UserError) as caught:
        eval(code, names())
    assert str(caught.value).startswith(text)


def test_what_cannot_work_leaves_everything_as_it_was() -> None:
    """Text as a rate, a state that does not fit, a mode that is none: nothing has changed when the error comes."""
    layer = nn.Linear(3, 2)
    optimizer = optim.SGD(layer.parameters(), lr=0.1)
    before = {**layer.state_dict(), **optimizer.state_dict()}
    for wrong in (
        lambda: setattr(optimizer, "lr", "a"),
        lambda: setattr(optimizer, "lr", -1),
        lambda: optimizer.groups[0].set("lr", None),
        lambda: optimizer.load_state_dict({"group.0.lr": 0.5, "group.0.momentum": "a"}),
        lambda: layer.load_state_dict({"weight": np.zeros((2, 3)), "bias": ["a", "b"]}),
        lambda: layer.train("no"),  # type: ignore[arg-type]
        lambda: nn.init.constant_(layer.weight, "a"),  # type: ignore[arg-type]
    ):
        with pytest.raises(UserError):
            wrong()
    after = {**layer.state_dict(), **optimizer.state_dict()}
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert layer.training is True
