"""Names that people know from PyTorch, and what to write here instead: a table for each kind of name.

Tensors have NumPy's names, layers and their functions PyTorch's. The tables are consulted only after a name was not found or an
argument did not fit, so they cost nothing otherwise. In them, ``x`` is the tensor, ``w`` a parameter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from chainrule.errors import UserError, unknown_value

_IMMUTABLE = "tensors are immutable: make a new one, such as x = x + 1, or assign a whole parameter: w.assign(w - step)"
_NO_BACKWARD_HOOK = "keep the output of the layer, and call retain_grad() on it before backward(): its grad is what arrives"
_ONE_PROGRAM = "leave it out: all parameters are updated by one program anyway"
_ON_THE_CPU = "everything is in the memory of the CPU: leave it out"

TENSOR: dict[str, str] = {
    "add": "write x + y",
    "add_": _IMMUTABLE,
    "amax": "write x.max(axis)",
    "amin": "write x.min(axis)",
    "bernoulli": "write (cr.random.uniform(x.shape) < x).astype(x.dtype)",
    "bfloat16": "write x.astype('bfloat16')",
    "bmm": "write x @ y",
    "bool": "write x.astype('bool')",
    "byte": "write x.astype('uint8')",
    "clamp": "write x.clip(low, high)",
    "clamp_max": "write x.clip(None, high)",
    "clamp_min": "write x.clip(low)",
    "clone": "write x.copy(), or x itself, as tensors are immutable",
    "contiguous": "how a tensor lies in memory is no concern here: leave it out",
    "cosh": "write (x.exp() + (-x).exp()) / 2",
    "count_nonzero": "write (x != 0).sum()",
    "cpu": _ON_THE_CPU,
    "cuda": _ON_THE_CPU,
    "data": "write x.detach(); to change a parameter, w.assign(value)",
    "device": _ON_THE_CPU,
    "diff": "write x[..., 1:] - x[..., :-1]",
    "dim": "write x.ndim",
    "dist": "write (x - y).norm()",
    "div": "write x / y",
    "divide": "write x / y",
    "dot": "write x @ y",
    "double": "write x.astype('float64')",
    "eq": "write x == y",
    "equal": "write np.array_equal(x.numpy(), y.numpy())",
    "exp2": "write 2.0 ** x",
    "expand": "write x.broadcast_to(shape)",
    "expand_as": "write x.broadcast_to(y.shape)",
    "fill_": _IMMUTABLE,
    "float": "write x.astype('float32')",
    "floor_divide": "write x // y",
    "gather": "write cr.take_along_axis(x, places, axis)",
    "ge": "write x >= y",
    "gelu": "write nn.functional.gelu(x)",
    "grad_fn": "write x.node, which knows its operation and its inputs",
    "greater": "write x > y",
    "greater_equal": "write x >= y",
    "gt": "write x > y",
    "half": "float16 is not supported: write x.astype('bfloat16')",
    "index_select": "index with the integers: x[indices]",
    "int": "write x.astype('int32')",
    "is_contiguous": "how a tensor lies in memory is no concern here: leave it out",
    "is_cuda": _ON_THE_CPU,
    "is_leaf": "write x.node.is_leaf",
    "isclose": "write np.isclose(x.numpy(), y.numpy())",
    "le": "write x <= y",
    "less": "write x < y",
    "less_equal": "write x <= y",
    "log10": "write x.log() / np.log(10)",
    "log_softmax": "write nn.functional.log_softmax(x, dim=1)",
    "logical_not": "write ~mask",
    "long": "write x.astype('int64')",
    "lt": "write x < y",
    "masked_fill": "write cr.where(mask, value, x)",
    "masked_select": "write x[mask]",
    "matmul": "write x @ y",
    "median": "write np.median(x.numpy()), which takes the mean of the two in the middle",
    "mm": "write x @ y",
    "moveaxis": "write x.transpose(2, 0, 1), the new order of all axes",
    "movedim": "write x.transpose(2, 0, 1), the new order of all axes",
    "mul": "write x * y",
    "multiply": "write x * y",
    "mv": "write x @ y",
    "nan_to_num": "write cr.where(x.isnan(), 0.0, x).clip(np.finfo(x.dtype).min, np.finfo(x.dtype).max)",
    "narrow": "take a slice: x[:, start:stop]",
    "ndimension": "write x.ndim",
    "ne": "write x != y",
    "neg": "write -x",
    "negative": "write -x",
    "nelement": "write x.size",
    "nonzero": "write np.argwhere(x.numpy())",
    "not_equal": "write x != y",
    "numel": "write x.size",
    "permute": "write x.transpose(2, 0, 1), the new order of all axes",
    "pow": "write x ** 2",
    "ravel": "write x.flatten()",
    "reciprocal": "write 1 / x",
    "register_hook": "call x.retain_grad() before backward(): x.grad is then what arrives at x",
    "relu": "write nn.functional.relu(x), or cr.maximum(x, 0)",
    "remainder": "write x % y",
    "repeat_interleave": "write x.repeat(2, axis=axis)",
    "reshape_as": "write x.reshape(y.shape)",
    "select": "write x[:, i]",
    "silu": "write nn.functional.silu(x)",
    "sinh": "write (x.exp() - (-x).exp()) / 2",
    "softmax": "write nn.functional.softmax(x, dim=1)",
    "square": "write x * x",
    "stride": "how a tensor lies in memory is no concern here: leave it out",
    "sub": "write x - y",
    "subtract": "write x - y",
    "t": "write x.T",
    "take_along_dim": "write cr.take_along_axis(x, places, axis)",
    "to": "everything is in the memory of the CPU; for another dtype write x.astype('float32')",
    "true_divide": "write x / y",
    "type": "write x.dtype, or x.astype('float32')",
    "type_as": "write x.astype(y.dtype)",
    "unbind": "loop over it: for row in x",
    "unflatten": "write x.reshape(2, -1)",
    "unsqueeze": "write x.expand_dims(axis)",
    "view": "write x.reshape(2, -1)",
    "view_as": "write x.reshape(y.shape)",
}

MODULE: dict[str, str] = {
    "add_module": "assign the layer: setattr(model, name, layer)",
    "bfloat16": "write model.astype('bfloat16')",
    "compile": "compile the training step: @cr.compile",
    "cpu": _ON_THE_CPU,
    "cuda": _ON_THE_CPU,
    "double": "write model.astype('float64')",
    "float": "write model.astype('float32')",
    "get_parameter": "write dict(model.named_parameters())[name]",
    "get_submodule": "write dict(model.named_modules())[name]",
    "half": "float16 is not supported: write model.astype('bfloat16')",
    "register_backward_hook": _NO_BACKWARD_HOOK,
    "register_buffer": "assign it: self.name = cr.Buffer(value)",
    "register_full_backward_hook": _NO_BACKWARD_HOOK,
    "register_module": "assign the layer: setattr(model, name, layer)",
    "register_parameter": "assign it: self.name = cr.Parameter(value)",
    "to": "everything is in the memory of the CPU; for another dtype write model.astype('float64')",
    "type": "write model.astype('float32')",
}

OPTIMIZER: dict[str, str] = {
    "add_param_group": "pass all groups when it is made: SGD([{'params': ..., 'lr': ...}, ...])",
    "param_groups": "write optimizer.groups; optimizer.lr = 0.1 sets the rate of all, groups[0].set('lr', 0.1) of one",
}

SCHEDULE: dict[str, str] = {
    "base_lrs": "write [group.initial['lr'] for group in schedule.optimizer.groups]",
    "get_last_lr": "write [group.value('lr') for group in schedule.optimizer.groups], or optimizer.lr for that of the first",
    "get_lr": "write [schedule.values(schedule.steps, group)['lr'] for group in schedule.optimizer.groups]",
    "last_epoch": "write schedule.steps",
}

OPTIM: dict[str, str] = {
    "Adadelta": "use Adam or RMSprop",
    "Adafactor": "use Adam",
    "Adamax": "use Adam",
    "ChainedScheduler": "use LambdaLR, with a function that multiplies the factors; for one after another, SequentialLR",
    "LRScheduler": "the base of all schedules is chainrule.optim.Schedule",
    "MultiplicativeLR": "use LambdaLR, with a function of the step that gives the whole factor",
    "LBFGS": "use SGD with momentum, or Adam: there are no optimizers with a line search",
    "swa_utils": "the averages of the weights are kept by chainrule.optim.EMA(model, decay)",
    "lr_scheduler": "schedules are beside the optimizers: chainrule.optim.StepLR",
}

LIBRARY: dict[str, str] = {
    "BoolTensor": "write cr.tensor(data, dtype='bool')",
    "FloatTensor": "write cr.tensor(data, dtype='float32')",
    "Generator": "write cr.random.Generator(seed)",
    "LongTensor": "write cr.tensor(data, dtype='int64')",
    "absolute": "write cr.abs(x)",
    "add": "write x + y",
    "allclose": "compare with NumPy: np.allclose(x.numpy(), y.numpy())",
    "amax": "write cr.max(x, axis)",
    "arctan": "write cr.atan(x)",
    "array": "write cr.tensor(data)",
    "as_tensor": "write cr.tensor(data)",
    "asarray": "write cr.tensor(data)",
    "autograd": "write loss.backward(), or cr.grad(loss, inputs); cr.custom_gradient for a Function",
    "bfloat": "write cr.bfloat16",
    "bmm": "write x @ y",
    "bool": "write cr.bool_, or 'bool'",
    "cat": "write cr.concatenate(tensors, axis)",
    "clamp": "write cr.clip(x, low, high)",
    "concat": "write cr.concatenate(tensors, axis)",
    "cuda": _ON_THE_CPU,
    "device": _ON_THE_CPU,
    "div": "write x / y",
    "divide": "write x / y",
    "dot": "write x @ y",
    "double": "write cr.float64",
    "empty": "write cr.zeros(shape)",
    "empty_like": "write cr.zeros_like(x)",
    "enable_grad": "gradients are recorded unless cr.no_grad() says otherwise: leave it out",
    "expand_dims": "write x.expand_dims(axis)",
    "eye": "write cr.tensor(np.eye(n), dtype='float32')",
    "flatten": "write x.flatten(1)",
    "float": "write cr.float32",
    "float16": "float16 is not supported: use cr.bfloat16",
    "floor_divide": "write x // y",
    "from_numpy": "write cr.tensor(array)",
    "gather": "write cr.take_along_axis(x, places, axis)",
    "half": "float16 is not supported: use cr.bfloat16",
    "hstack": "write cr.concatenate(tensors, 1), or of 1-D tensors cr.concatenate(tensors)",
    "inference_mode": "write cr.no_grad()",
    "int": "write cr.int32",
    "is_tensor": "write isinstance(x, cr.Tensor)",
    "isclose": "write np.isclose(x.numpy(), y.numpy())",
    "linspace": "write cr.tensor(np.linspace(a, b, n), dtype='float32')",
    "log_softmax": "write cr.nn.functional.log_softmax(x, dim=1)",
    "long": "write cr.int64",
    "masked_fill": "write cr.where(mask, value, x)",
    "masked_select": "write x[mask]",
    "median": "write np.median(x.numpy()), which takes the mean of the two in the middle",
    "mm": "write x @ y",
    "mul": "write x * y",
    "multiply": "write x * y",
    "permute": "write x.transpose(2, 0, 1), the new order of all axes",
    "pow": "write x ** 2",
    "rand": "write cr.random.uniform((2, 3))",
    "randint": "write cr.tensor(np.random.default_rng(seed).integers(low, high, shape))",
    "randn": "write cr.random.normal((2, 3))",
    "randperm": "write np.random.default_rng(seed).permutation(n)",
    "relu": "write cr.nn.functional.relu(x)",
    "remainder": "write x % y",
    "repeat_interleave": "write x.repeat(2, axis=axis)",
    "reshape": "write x.reshape(2, -1)",
    "set_grad_enabled": "write cr.no_grad() around what shall not be recorded",
    "set_num_threads": "write cr.set_threads(n)",
    "softmax": "write cr.nn.functional.softmax(x, dim=1)",
    "square": "write x * x",
    "squeeze": "write x.squeeze(axis)",
    "subtract": "write x - y",
    "transpose": "write x.transpose(2, 0, 1), the new order of all axes",
    "unsqueeze": "write x.expand_dims(axis)",
    "utils": "data sets and loaders are in cr.data",
    "vstack": "write cr.concatenate(tensors, 0), or of 1-D tensors cr.stack(tensors)",
}

_BY_HAND = "there are no recurrent layers: loop over the steps with nn.Linear"
_ATTENTION = "use nn.functional.scaled_dot_product_attention(query, key, value) between nn.Linear layers"
_GIVE_SIZES = "give the sizes; model.summary(shape) shows them"

LAYERS: dict[str, str] = {
    "DataParallel": "all cores of one machine are used as it is: leave it out",
    "GRU": _BY_HAND,
    "LSTM": _BY_HAND,
    "LazyConv2d": _GIVE_SIZES,
    "LazyLinear": _GIVE_SIZES,
    "MultiheadAttention": _ATTENTION,
    "RNN": _BY_HAND,
    "TransformerEncoderLayer": _ATTENTION,
    "Unfold": "use nn.functional.unfold(x, kernel_size)",
    "UpsamplingBilinear2d": "use nn.Upsample(scale_factor=2, mode='bilinear', align_corners=True)",
    "UpsamplingNearest2d": "use nn.Upsample(scale_factor=2, mode='nearest')",
    "utils": "the norm of the gradients is clipped by chainrule.optim.clip_grad_norm_, each element by clip_grad_value_",
}

FUNCTIONAL: dict[str, str] = {
    "one_hot": "write cr.one_hot(labels, classes)",
}

_OLD_NAME = "the name has an underscore at its end here"

INIT: dict[str, str] = {
    "constant": _OLD_NAME,
    "eye_": "write w.assign(np.eye(*w.shape))",
    "kaiming_normal": _OLD_NAME,
    "kaiming_uniform": _OLD_NAME,
    "normal": _OLD_NAME,
    "ones_": "write nn.init.constant_(w, 1.0)",
    "orthogonal_": "assign such a matrix: w.assign(np.linalg.qr(matrix)[0])",
    "uniform": _OLD_NAME,
    "xavier_normal_": "write nn.init.normal_(w, std=np.sqrt(2 / sum(nn.init.fans(w.shape))))",
    "xavier_uniform": _OLD_NAME,
    "zeros_": "write nn.init.constant_(w, 0.0)",
}

_ORDER = "data.Loader(shuffle=True, seed=0) draws the order; another one: a data set of the images in that order"
_PARTS = "index the arrays: data.ArrayDataset(images[places], labels[places])"

DATA: dict[str, str] = {
    "ConcatDataset": "join the arrays: data.ArrayDataset(np.concatenate([a, b]), labels)",
    "DataLoader": "write data.Loader(dataset, batch_size), which shuffles unless it is told not to",
    "RandomSampler": _ORDER,
    "Sampler": _ORDER,
    "Subset": _PARTS,
    "TensorDataset": "write data.ArrayDataset(images, labels)",
    "WeightedRandomSampler": _ORDER,
    "random_split": _PARTS,
}

DTYPES: dict[str, str] = {
    "byte": "uint8",
    "double": "float64",
    "float": "float32",
    "int": "int32",
    "long": "int64",
}
"""PyTorch's names of dtypes, and the names here; a prefix ``torch.`` is removed before."""

PAD_MODES: dict[str, str] = {"circular": "wrap", "replicate": "edge"}
"""PyTorch's names of what a border consists of, and the names here, which are NumPy's."""

_LEFT_OUT: dict[str, str] = {
    "allow_unused": "leave it out: an input that the output does not depend on gets None",
    "capturable": "leave it out: any optimizer may be part of a compiled step",
    "antialias": "mode='area' averages what it makes smaller; otherwise leave it out",
    "closure": "step takes no closure: call backward() before it",
    "device": _ON_THE_CPU,
    "differentiable": "leave it out: no gradient passes through the update",
    "error_if_nonfinite": "leave it out, and look at the norm that is returned",
    "collate_fn": "a data set gives whole batches: its images(numbers) is the place for it",
    "foreach": _ONE_PROGRAM,
    "fused": _ONE_PROGRAM,
    "gain": "leave it out, or scale the values: w.assign(w * gain)",
    "generator": "leave it out: cr.manual_seed(0) says which numbers are drawn",
    "inplace": _IMMUTABLE,
    "last_epoch": "leave it out: to resume, write schedule.load_state_dict(state), or schedule.steps = n",
    "map_location": _ON_THE_CPU,
    "enable_gqa": "repeat the heads of key and value: x.repeat(n, axis=-3)",
    "max_norm": "scale the rows between the steps: w.assign(...)",
    "memory_format": "how a tensor lies in memory is no concern here: leave it out",
    "non_blocking": _ON_THE_CPU,
    "nonlinearity": "leave it out: the factor is that of ReLU, the square root of 2; for another: w.assign(w * factor)",
    "out": "tensors are immutable: take the result",
    "padding_mode": "a transposed convolution is padded with zeros: leave it out",
    "pin_memory": _ON_THE_CPU,
    "pretrained": "leave it out, and then: cr.models.load_weights(model, path)",
    "reduce": "write reduction='mean', or 'sum', or 'none'",
    "retain_graph": "leave it out: the graph stays",
    "return_indices": "only the values: leave it out",
    "set_to_none": "leave it out: a gradient that was cleared is None",
    "scale_grad_by_freq": "leave it out: each use of a row counts in its gradient",
    "size_average": "write reduction='mean', or reduction='sum'",
    "verbose": "leave it out, and print optimizer.lr",
    "sparse": "gradients are dense: leave it out",
    "unbiased": "write ddof=1, or leave it out for unbiased=False",
}
"""Arguments of PyTorch that have no counterpart."""

_RENAMED: dict[str, tuple[str, ...]] = {
    "a": ("x",),
    "axes": ("axis",),
    "axis": ("dim",),
    "correction": ("ddof",),
    "data": ("x",),
    "diagonal": ("k",),
    "dim": ("axis",),
    "dims": ("axis",),
    "end_dim": ("end_axis",),
    "input": ("x", "logits", "log_probabilities", "data", "tensors"),
    "keepdim": ("keepdims",),
    "learning_rate": ("lr",),
    "max": ("high",),
    "min": ("low",),
    "num_classes": ("classes",),
    "num_workers": ("workers",),
    "other": ("y",),
    "p": ("ord",),
    "size": ("shape",),
    "start_dim": ("start_axis",),
}
"""Arguments that have another name here: the first of these names that the function has."""

_CALLS: dict[str, str] = {
    "full": "the shape is one argument: full((2, 3), 7.0)",
    "ones": "the shape is one argument: ones((2, 3))",
    "repeat": "repeat(2, axis=1) repeats each element, as in NumPy; PyTorch's x.repeat(2, 1) is x.tile((2, 1))",
    "split": "a number means parts in NumPy and a size in PyTorch: write split(sizes=2), split(places=[1, 3]) or chunk(2)",
    "step": "an optimizer takes no closure, call backward() before; a schedule counts its calls: T_0 and the like are in calls",
    "zeros": "the shape is one argument: zeros((2, 3))",
    "normal": "the shape is one argument: normal((2, 3))",
    "uniform": "the shape is one argument: uniform((2, 3))",
    "Sequential": "the layers are passed one by one: Sequential(*layers)",
}
"""Remarks for calls with too many arguments, by function."""


_FLAGS: dict[str, str] = {
    "keepdims": "several axes are passed as a tuple, axis=(0, 1)",
}
"""Remarks for arguments that must be True or False, but got something else."""


def absent(owner: str, name: str, table: Mapping[str, str]) -> AttributeError:
    """The error for an attribute that ``owner`` lacks; it says what to write instead, if ``table`` has the name."""
    remedy = table.get(name)
    if remedy is None and table is TENSOR and name.endswith("_") and not name.startswith("_"):
        remedy = _IMMUTABLE
    return AttributeError(f"{owner} has no attribute {name!r}" + (f": {remedy}" if remedy else ""))


def unknown_argument(call: str, name: str, known: Iterable[str]) -> UserError:
    """The error for an argument that the function ``call`` lacks; it says what to write instead, if the tables have it."""
    names = list(known)
    renamed = next((candidate for candidate in _RENAMED.get(name, ()) if candidate in names), None)
    if renamed is not None:
        return UserError(f"{call}: there is no argument {name!r}: it is called {renamed!r} here")
    if name in _LEFT_OUT:
        return UserError(f"{call}: there is no argument {name!r}: {_LEFT_OUT[name]}")
    if not names:
        return UserError(f"{call}: there is no argument {name!r}: it takes none")
    error = unknown_value("argument", name, names)
    return UserError(f"{call}: {error}")


def remark_on_flag(name: str) -> str:
    """The remark for the argument ``name``, which must be True or False, but is not; empty if there is none."""
    return _FLAGS.get(name, "")


def remark_on_call(call: str) -> str:
    """The remark for a call of ``call`` with too many arguments; empty if there is none."""
    return _CALLS.get(call, "")
