"""What `scripts/from_pytorch_page.py` cannot read from the two libraries: a script in both, what means something else here, and
groups of names that are not here, with what comes nearest."""

from __future__ import annotations

from typing import NamedTuple

IN_PYTORCH = """\
import torch
from torch import nn, optim
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(1, 16, 5, padding=2),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 5, padding=2),
    nn.BatchNorm2d(32),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Dropout(0.2),
    nn.Linear(32 * 7 * 7, 10),
)
optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=3)
loss_of = nn.CrossEntropyLoss(label_smoothing=0.1)

as_tensor = transforms.ToTensor()
training = DataLoader(datasets.MNIST("data", train=True, download=True, transform=as_tensor), batch_size=64, shuffle=True)
test = DataLoader(datasets.MNIST("data", train=False, transform=as_tensor), batch_size=1000)


def step(images, labels):
    optimizer.zero_grad()
    loss = loss_of(model(images), labels)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    return loss


for epoch in range(3):
    model.train()
    for images, labels in training:
        loss = step(images, labels)
    schedule.step()
    model.eval()
    correct = 0
    with torch.no_grad():
        for images, labels in test:
            correct += (model(images).argmax(dim=1) == labels).sum().item()
    print(f"epoch {epoch + 1}: loss {loss.item():.3f}, {correct / len(test.dataset):.2%} of the test images")

torch.save(model.state_dict(), "digits.pt")
model.load_state_dict(torch.load("digits.pt"))
"""

HERE = """\
import chainrule as cr
from chainrule import data, nn, optim

cr.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(1, 16, 5, padding=2),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 5, padding=2),
    nn.BatchNorm2d(32),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Dropout(0.2),
    nn.Linear(32 * 7 * 7, 10),
)
optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
schedule = optim.CosineAnnealingLR(optimizer, T_max=3)
loss_of = nn.CrossEntropyLoss(label_smoothing=0.1)

training = data.Loader(data.mnist("train"), batch_size=64)
test = data.Loader(data.mnist("test"), batch_size=1000, shuffle=False)


@cr.compile
def step(images, labels):
    optimizer.zero_grad()
    loss = loss_of(model(images), labels)
    loss.backward()
    optim.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    return loss


for epoch in range(3):
    model.train()
    for images, labels in training:
        loss = step(images, labels)
    schedule.step()
    model.eval()
    correct = 0
    with cr.no_grad():
        for images, labels in test:
            correct += (model(images).argmax(axis=1) == labels).sum().item()
    print(f"epoch {epoch + 1}: loss {loss.item():.3f}, {correct / len(test.dataset):.2%} of the test images")

cr.save("digits.safetensors", model.state_dict())
model.load_state_dict(cr.load("digits.safetensors"))
"""

CHANGED = [
    (
        "`import torch`",
        "`import chainrule as cr`",
        "One name for the library; the parts have the names that they have in PyTorch.",
    ),
    ("`optim.lr_scheduler.X`", "`optim.X`", "Schedules are beside the optimizers."),
    (
        "`DataLoader(...)`",
        "`data.Loader(...)`",
        "It shuffles unless it is told not to, gives images as float32 in 0..1, and its order depends on its `seed` alone.",
    ),
    ("`transforms` of an image", "`transforms=` of the loader", "They get whole batches, before the scaling to 0..1."),
    (
        "",
        "`@cr.compile`",
        "The step becomes a native program: forward, backward and update. Without the line it means the same, node by node.",
    ),
    ("`nn.utils.clip_grad_norm_`", "`optim.clip_grad_norm_`", "It may stand in the compiled step."),
    (
        "`dim=1` of a tensor's method",
        "`axis=1`",
        "Methods have NumPy's names and arguments, layers and their functions PyTorch's.",
    ),
    ("`.to(device)`, `pin_memory`, `autocast`", "", 'Leave them out. `cr.precision("bfloat16")` is what autocast is for.'),
    ("`torch.save`, `torch.load`", "`cr.save`, `cr.load`", "Files are safetensors, which hold numbers and run no code."),
]
"""Lines of the script that change: in PyTorch, here, and what to know about it."""

PARTS = [
    ("`torch.amp`", '`with cr.precision("bfloat16"):` around the call of the step'),
    (
        "`torch.autograd`",
        "`loss.backward()`, `cr.grad`, `cr.gradcheck`; `cr.custom_gradient` instead of `Function`; `cr.explain(loss)` shows "
        "every factor of the chain rule",
    ),
    ("`torch.nn.utils`", "`optim.clip_grad_norm_`, `optim.clip_grad_value_`"),
    ("`torch.optim.swa_utils`", "`optim.EMA`"),
    (
        "`torch.linalg`, `torch.fft`, `torch.special`, `torch.distributions`",
        "NumPy and SciPy on `x.numpy()`; no gradient passes",
    ),
    ("`torch.onnx`, `torch.jit`, `torch.export`", "weights leave as safetensors: `model.save(path)`"),
    ("`torch.cuda`, `torch.distributed`, `torch.quantization`, `torch.sparse`", ""),
    ("`torchvision.models`", "`cr.models`, under the same names; `cr.models.load_weights(model, path)` takes their weights"),
    (
        "`torchvision.datasets`",
        "`data.mnist`, `data.cifar10`, `data.image_folder`, `data.split_image_folder`; nothing is downloaded",
    ),
    (
        "`torchvision.transforms`",
        "on batches: `data.Normalize`, `data.RandomCrop`, `data.RandomFlip`, `data.AlternatingFlip`, `data.RandomShift`; any "
        "function of (images, rng)",
    ),
]
"""Whole parts of PyTorch, and what serves here."""


class Difference(NamedTuple):
    """What has the same name in both and is not the same. ``check`` is an expression that is true here; a test evaluates it."""

    code: str
    there: str
    here: str
    check: str


DIFFERENCES = [
    Difference("x.size", "a method: `x.size(0)`", "a number, as in NumPy: `x.shape[0]`", "cr.ones((2, 3)).size == 6"),
    Difference(
        "x.transpose(...)",
        "swaps two axes",
        "takes the order of all axes; `x.swapaxes(0, 1)` swaps two. What could be either is refused",
        "cr.ones((2, 3, 4)).transpose(2, 0, 1).shape == (4, 2, 3)",
    ),
    Difference(
        "x.std(), x.var()",
        "divide by n - 1",
        "divide by n, as in NumPy; `ddof=1` is PyTorch's",
        "cr.tensor([1.0, 3.0]).std().item() == 1 and abs(cr.tensor([1.0, 3.0]).var(ddof=1).item() - 2) < 1e-6",
    ),
    Difference(
        "x.max(1), x.min(1)",
        "give values and indices",
        "give the values; `x.argmax(1)` the indices",
        "cr.ones((2, 3)).max(1).shape == (2,)",
    ),
    Difference(
        "x.sort()",
        "gives values and indices",
        "gives the values; `x.argsort()` the indices. `x.topk(k)` gives both, as there",
        "cr.tensor([3, 1]).sort().tolist() == [1, 3] and len(cr.ones(3).topk(2)) == 2",
    ),
    Difference(
        "x.repeat(...)",
        "puts copies of the whole side by side",
        "repeats each element, as in NumPy; `x.tile((2, 1))` is PyTorch's",
        "cr.tensor([1, 2]).repeat(2, axis=0).tolist() == [1, 1, 2, 2] and cr.tensor([1, 2]).tile(2).tolist() == [1, 2, 1, 2]",
    ),
    Difference(
        "x.split(2)",
        "parts of size 2",
        "`x.split(sizes=2)`, or `x.split(places=[2])` as in NumPy; a bare number is refused",
        "[part.shape for part in cr.ones(5).split(sizes=2)] == [(2,), (2,), (1,)]",
    ),
    Difference(
        "x.norm(p=1, dim=0)",
        "any p",
        "`x.norm(1, axis=0)`, with 1, 2 or inf",
        "cr.tensor([3.0, -4.0]).norm(1).item() == 7",
    ),
    Difference(
        "x.squeeze(0)",
        "leaves an axis that is not of size 1",
        "refuses it",
        "refused(lambda: cr.ones((2, 3)).squeeze(0))",
    ),
    Difference(
        "x.gather(1, places)",
        "takes from the first rows alone where there are fewer rows of places",
        "`cr.take_along_axis(x, places, 1)` needs as many rows as `x` has, or one, which then holds for all, as in NumPy",
        "cr.take_along_axis(cr.ones((4, 3)), np.array([[0, 2]]), 1).shape == (4, 2) and "
        "refused(lambda: cr.take_along_axis(cr.ones((4, 3)), np.zeros((2, 2), int), 1))",
    ),
    Difference("x.cumsum()", "needs `dim`", "flattens without `axis`", "cr.ones((2, 2)).cumsum().shape == (4,)"),
    Difference(
        "x[0] = 1, x += 1, x.add_(1)",
        "change the tensor",
        "tensors are immutable: `x = x + 1`, `cr.where(...)`; `x += 1` makes a new one. Parameters: `w.assign(value)`",
        "refused(lambda: cr.ones(2).__setitem__(0, 1.0)) and not hasattr(cr.ones(2), 'add_')",
    ),
    Difference(
        "x.numpy()",
        "shares memory, and is refused with a gradient",
        "a read-only view, always allowed",
        "not cr.Parameter([1.0]).numpy().flags.writeable",
    ),
    Difference(
        "x & y, ~x",
        "bitwise for integers",
        "for bools only",
        "refused(lambda: cr.tensor([1]) & cr.tensor([1])) and (~cr.tensor([True])).tolist() == [False]",
    ),
    Difference("x.mean()", "refuses integers", "gives float32 for integers", "cr.tensor([1, 2]).mean().item() == 1.5"),
    Difference("x // 0", "raises for integers", "gives 0 for integers, as NumPy", "(cr.tensor([7]) // 0).item() == 0"),
    Difference(
        "torch.arange(0.0, 1.0, 0.1)",
        "float32",
        'float64, as in NumPy: pass `dtype="float32"`',
        "cr.arange(0.0, 1.0, 0.1).dtype == 'float64'",
    ),
    Difference(
        "torch.full((2,), 3)", "int64", "float32, as all that makes tensors of a shape", "cr.full((2,), 3).dtype == 'float32'"
    ),
    Difference(
        "x.max(), maximum(x, y), x.amax(0)",
        "share the gradient among equal elements (but not `max(0)`)",
        "give it to the first of equal elements",
        "gradient(lambda x: x.max(), [1.0, 1.0]) == [1, 0]",
    ),
    Difference(
        "x.clamp(0, 1)",
        "passes the gradient at the limits",
        "`x.clip(0, 1)` passes it only between them",
        "gradient(lambda x: x.clip(0, 1).sum(), [0.0, 0.5, 1.0]) == [0, 1, 0]",
    ),
    Difference(
        "softmax(x), log_softmax(x)",
        "guess an axis, with a warning",
        "take the last axis without `dim`",
        "np.allclose(F.softmax(cr.ones((2, 4))).numpy(), 0.25)",
    ),
    Difference("torch.trace(x)", "the sum of the diagonal", "the graph of a function: `cr.trace(f, x)`", "callable(cr.trace)"),
    Difference(
        "model.state_dict()",
        "tensors",
        "NumPy arrays, under the same names and in the same shapes",
        "isinstance(nn.Linear(2, 2).state_dict()['weight'], np.ndarray)",
    ),
    Difference(
        "missing, unexpected = model.load_state_dict(state, strict=False)",
        "gives the names that do not fit",
        "gives nothing; `strict=True` lists them in its error",
        "nn.Linear(2, 2).load_state_dict({}, strict=False) is None",
    ),
    Difference(
        "class Own(data.Dataset)",
        "has `__len__` and `__getitem__(i)`, which gives one example",
        "has `name`, `classes`, `labels`, `image_shape`, and `images(numbers)`, which gives a batch. For arrays: "
        "`data.ArrayDataset(images, labels)`",
        "refused(lambda: type('Own', (data.Dataset,), {'__getitem__': lambda self, i: i})()) and len(data.Loader(own, 2)) == 2",
    ),
    Difference(
        "nn.Parameter(x), nn.Buffer(x)",
        "hold x itself",
        "hold a copy of its numbers; every layer's buffers are saved",
        "nn.Parameter(np.ones(2, np.float32)).shape == (2,)",
    ),
    Difference(
        'optimizer.param_groups[0]["lr"] = 0.1',
        "changes the rate of a group",
        '`optimizer.lr = 0.1`, or `optimizer.groups[0].set("lr", 0.1)` for one of several groups',
        "abs(float(optim.SGD([nn.Parameter([1.0])], lr=0.1).lr) - 0.1) < 1e-6",
    ),
    Difference(
        "schedule.step(epoch + i / batches)",
        "sets the place, in epochs",
        "refused: `schedule.step()` after each batch, with `T_0`, `T_max`, ... in batches; `schedule.steps = n` sets the place",
        "refused(lambda: optim.CosineAnnealingWarmRestarts(optim.SGD([nn.Parameter([1.0])]), 5).step(1.5))",
    ),
    Difference(
        "hooks that collect activations, print(x)",
        "see numbers at each call",
        "in a compiled function they are called once, while it is traced, and see no numbers: return what is to be seen",
        "(lambda seen, layer: layer.register_forward_hook(lambda m, i, o: seen.append(o)) and "
        "[f(cr.ones((1, 2))) for f in [cr.compile(layer)] * 2] and len(seen) == 1 and refused(lambda: seen[0].numpy()))"
        "([], nn.Linear(2, 2))",
    ),
    Difference(
        "torch.compile(model)",
        "compiles parts of what Python runs",
        "`@cr.compile` on the whole step makes one program; what it remembers: [compiled-functions.md](compiled-functions.md)",
        "callable(cr.compile)",
    ),
    Difference(
        "torch.manual_seed(0)",
        "its own stream of numbers",
        "other numbers for the same seed; the same on any number of threads, compiled or not",
        "cr.manual_seed(0) is None",
    ),
]


class Group(NamedTuple):
    """Names of PyTorch that are not here: a heading, a pattern of the names, what comes nearest to them, and, where the page
    only counts them, examples."""

    heading: str
    pattern: str
    nearest: str = ""
    such_as: str = ""


ON_ARRAYS = "compute it on `x.numpy()` with NumPy; no gradient passes"

TENSORS = [
    Group("In place", r".*[^_]_", "tensors are immutable: take the result, or `w.assign(value)`", "`add_`, `copy_`, `zero_`"),
    Group(
        "Internals, backends and copies of views",
        r"(cudnn|miopen|mkldnn|fbgemm|native|sym|batch_norm|parse|merge|unify|import_ir|prepare|profiler|get_file|init_num|"
        r"compiled_with|thread_safe|classproperty|fork|wait|typename|autocast|clear_autocast|is_vulkan|grid_sampler_).*|"
        r".*_copy|batch_norm.*|grid_sampler|affine_grid_generator|hash_tensor|get_device",
        "",
        "`cudnn_batch_norm`, `sym_max`, `view_copy`",
    ),
    Group(
        "Settings of the process",
        r"(set|get|is|are|use)_(autocast|deterministic|anomaly|warn|default|float32|flush|num_interop|num_threads|grad_enabled|"
        r"inference|rng|printoptions|vulkan|storage).*|use_deterministic_algorithms|are_deterministic.*|initial_seed|seed|"
        r"is_inference|is_grad_enabled|.*printoptions",
        "`cr.set_threads`, `cr.precision`, `cr.engine`, `cr.manual_seed`; a run gives the same bits again as it is",
        "`set_default_dtype`, `use_deterministic_algorithms`, `set_printoptions`",
    ),
    Group(
        "Devices, memory and storage",
        r"is_(cpu|cuda|ipu|maia|meta|mps|mtia|xla|xpu|shared|pinned|set_to|vulkan)|ipu|mtia|xpu|pin_memory|.*storage.*|data_ptr|"
        r"const_data_ptr|element_size|itemsize|nbytes|layout|dim_order|as_strided.*|resize|resize_as|record_stream|module_load|"
        r"new|new_.*|output_nr|name|volatile|grad_dtype|retains_grad|as_subclass|reinforce|from_file|frombuffer|empty_.*|"
        r"share_memory|is_distributed|is_contiguous|is_neg|is_inference|is_conj|resolve_.*|.*strided",
        "everything is in the memory of the CPU, in the order of the axes",
        "`data_ptr`, `is_mps`, `new_zeros`",
    ),
    Group(
        "Sparse, quantised and nested tensors, float16 and complex numbers",
        r".*sparse.*|(?!.*quantile).*quant.*|q_.*|qscheme|int_repr|dequantize|.*coalesce.*|indices|crow.*|ccol.*|to_dense|to_mkldnn|values|"
        r"to_padded_tensor|dense_dim|is_nested|is_mkldnn|.*complex.*|cdouble|cfloat|chalf|real|imag|angle|conj.*|polar|is_conj|"
        r"view_as_real|isreal|H|mH|adjoint|hspmm|hsmm|dsmm|spmm|saddmm|sspaddmm|char|short|row_indices|col_indices|.*_qparams.*|"
        r"fused_moving.*|smm",
        "floats are float32, float64 and bfloat16, and all tensors are dense",
        "`to_sparse`, `quantize_per_tensor`, `real`",
    ),
    Group(
        "Linear algebra",
        r"cholesky.*|det|logdet|slogdet|inverse|pinverse|lu.*|qr|geqrf|orgqr|ormqr|svd.*|eig.*|lobpcg|matrix_.*|triangular_solve|"
        r"pca_lowrank|cross|kron|outer|ger|inner|vdot|vecdot|tensordot|chain_matmul|add(bmm|mm|mv|r)|baddbmm|diag.*|trace|mT|block_diag|"
        r"vander|trapezoid|trapz|cumulative_trapezoid|renorm|frobenius_norm|nuclear_norm|norm_except_dim|cdist|pdist|dist|"
        r"pairwise_distance|swapdims|bilinear|einsum",
        '`cr.einsum` and `@` for products (`cr.einsum("i,j->ij", x, y)` is outer); for the rest `np.linalg` on `x.numpy()`',
    ),
    Group(
        "Trigonometric and special functions",
        r"a?(cos|sin|tan)h?|arc.*|a?tan2|atan2|acosh|asinh|atanh|sinc|.*gamma.*|.*erf.*|i0|special_.*|polygamma|logit|.*log10.*|exp2|"
        r"logaddexp2?|xlogy|hypot|deg2rad|rad2deg|frexp|ldexp|nextafter|copysign|heaviside|signbit|positive|sgn|frac|trunc|fix|"
        r"fmod|fmax|fmin|float_power|log_normal|lerp|nan_to_num|gradient|rsub|cumprod|logcumsumexp|cummax|cummin|square",
        "write them with `exp`, `log`, `sin`, `tanh`, ...: cosh is `(cr.exp(x) + cr.exp(-x)) / 2`, the gradient included",
    ),
    Group(
        "Counting, searching and statistics",
        r"bincount|hist.*|bucketize|searchsorted|unique.*|nonzero.*|argwhere|count_nonzero|median|nanmedian|mode|kthvalue|msort|"
        r"quantile|nanquantile|nansum|nanmean|aminmax|.*_mean|std_mean|var_mean|corrcoef|cov|isin|isclose|equal|allclose|"
        r"is_nonzero|is_same_size|is_signed|is_complex|is_floating_point|isposinf|isneginf|all.*|combinations|cartesian_prod|"
        r"segment_reduce|is_signed|dequantize",
        ON_ARRAYS,
    ),
    Group(
        "Bits and logic of integers",
        r"bitwise_.*|logical_.*|.*shift.*|gcd|lcm|not_equal|less.*|greater.*|__.*",
        "`<`, `==`, `&`, `~`, `%` of tensors",
    ),
    Group(
        "Putting elements to places",
        r".*scatter.*|index_.*|index|put|take|take_along_dim|masked_.*|select_.*|slice_.*|diagonal.*|gather|narrow.*|rot90|fliplr|"
        r"flipud|unflatten|unfold|unsafe_.*|hsplit|vsplit|dsplit|tensor_split|split_with_sizes|hstack|dstack|column_stack|row_stack|"
        r"concat|moveaxis|swapaxes|atleast_.*|broadcast_.*|meshgrid|tril_indices|triu_indices|unravel_index|sum_to_size|"
        r"constant_pad_nd|alias|expand.*|squeeze.*|view.*|detach|clone|ravel|unbind.*|range|scalar_tensor|logspace|linspace|eye|"
        r"fill|resolve.*",
        "index (`x[mask]`, `x[:, i]`, `cr.take_along_axis`), `cr.where`, `cr.concatenate`; "
        "`cr.one_hot(i, n).T @ x` adds up by index",
    ),
    Group(
        "Random numbers",
        r"bernoulli|multinomial|poisson|binomial|rand.*|normal|.*_like|cauchy|exponential|geometric|random|rrelu|.*dropout",
        "`cr.random.uniform`, `cr.random.normal`, `nn.functional.dropout`; NumPy's generators for integers and permutations",
    ),
    Group(
        "Recurrent networks, and filters of signals",
        r"lstm.*|gru.*|rnn.*|.*_window|stft|istft|fft.*|conv_tbc|ctc_loss|embedding_bag",
        "",
    ),
    Group(
        "Transformations of functions and types",
        r"vmap|cond|while_loop|result_type|promote_types|can_cast|compile|type.*|finfo|iinfo|is_tensor|as_tensor|register.*|"
        r"to_dlpack|from_dlpack",
        "`cr.compile`, `cr.trace`, `cr.grad`",
    ),
]

LAYERS = [
    Group("Images of three spatial axes", r".*3d", ""),
    Group("Recurrent networks", r"(RNN|LSTM|GRU).*|.*Cell", ""),
    Group(
        "Transformers",
        r"Transformer.*|MultiheadAttention",
        "`nn.functional.scaled_dot_product_attention` with `nn.Linear`",
    ),
    Group("Layers that learn their sizes", r"Lazy.*|Uninitialized.*", "give the sizes; `model.summary(shape)` shows them"),
    Group("Padding", r".*Pad.d", "`nn.functional.pad`, `x.pad`, or `padding_mode` of a convolution"),
    Group("Losses", r".*Loss.*|LinearCrossEntropyOptions", "write the formula: a loss is a function of tensors"),
    Group("Several machines", r"DataParallel|SyncBatchNorm", "all cores of one machine are used as it is"),
    Group("Other pools", r".*Pool.*|.*Unpool.*|Fold|Unfold|Upsampling.*", "`nn.functional.unfold`; `nn.Upsample(mode=...)`"),
    Group(
        "Other activations and dropouts",
        r".*shrink|RReLU|Threshold|Softmin|Softmax2d|.*Dropout.*",
        "`cr.where`, `nn.Softmax(dim=1)`",
    ),
]

FUNCTIONAL = [
    Group("In place", r".*[^_]_", "take the result", "`relu_`"),
    Group(
        "Internals",
        r".*torch_function.*|boolean_dispatch|assert_int.*|native_.*|scaled_.*mm|grouped_mm",
        "",
        "`boolean_dispatch`",
    ),
    Group("Images of three spatial axes", r".*3d(_with_indices)?", ""),
    Group("Losses", r".*loss|linear_cross_entropy|multi_head.*", "write the formula: a loss is a function of tensors"),
    Group("Pools with indices, and other pools", r".*pool.*|fold", "the pools give values only"),
    Group("Resizing and sampling", r"upsample.*|grid_sample|affine_grid", "`interpolate` resizes"),
    Group(
        "Activations and dropouts",
        r".*shrink|rrelu|threshold|softmin|gumbel_softmax|.*dropout.*|bilinear|tanhshrink",
        "`cr.where`, `softmax`",
    ),
    Group("Distances", r".*dist.*|pairwise_distance", "`(x - y).norm(axis=1)`"),
]

INIT = [
    Group("Old names, without the underscore", r".*[^_]", "the names with an underscore at the end", "`xavier_uniform`"),
    Group("Other initial values", r".*", "`w.assign(value)` with any array: `w.assign(np.eye(3))`"),
]

MODULE = [
    Group("Devices", r"ipu|xpu|mtia|to_empty|share_memory", "everything is in the memory of the CPU: leave it out"),
    Group(
        "Hooks of files and gradients",
        r"register_.*",
        "change the dict that `state_dict()` gives; `x.retain_grad()` for gradients",
    ),
    Group("Others", r".*", ""),
]

OPTIMIZERS = [
    Group("Others", r".*", "`SGD`, `Adam`, `AdamW` or `RMSprop`; a class below `optim.Optimizer` makes one of your own")
]
OPTIMIZER = [Group("Hooks", r"register_.*", "write it before or after `optimizer.step()`")]

DATA = [
    Group(
        "Data sets",
        r".*Dataset|random_split",
        "`data.ArrayDataset(images, labels)`; a class below `data.Dataset`; slices of arrays for parts",
    ),
    Group("Samplers", r".*Sampler", "`data.Loader(shuffle=..., seed=...)`"),
    Group("The loader", r"DataLoader|default_.*|get_worker_info", "`data.Loader(dataset, batch_size, workers=...)`"),
    Group("Pipes", r".*", "", "`IterDataPipe`"),
]
