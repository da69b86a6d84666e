"""What people write who come from PyTorch: every name in the tables is missing here and told how it is written, which runs.
What would mean another thing in silence is taken as PyTorch means it, or refused."""

from __future__ import annotations

import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import UserError, data, habits, nn, optim
from chainrule.nn import conversion
from chainrule.nn import functional as F

MODEL = nn.Sequential(nn.Linear(3, 2))


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    return str(caught.value)


# ---- names that are not there

OWNERS: list[tuple[dict[str, str], Callable[[], Any], str]] = [
    (habits.TENSOR, lambda: cr.ones((2, 2)), "Tensor"),
    (habits.TENSOR, lambda: cr.Parameter([1.0]), "Tensor"),
    (habits.MODULE, lambda: MODEL, "Sequential"),
    (habits.OPTIMIZER, lambda: optim.SGD(MODEL.parameters()), "SGD"),
    (habits.SCHEDULE, lambda: optim.StepLR(optim.SGD(MODEL.parameters()), 3), "StepLR"),
    (habits.OPTIM, lambda: optim, "module 'chainrule.optim'"),
    (habits.LIBRARY, lambda: cr, "module 'chainrule'"),
    (habits.LAYERS, lambda: nn, "module 'chainrule.nn'"),
    (habits.FUNCTIONAL, lambda: F, "module 'chainrule.nn.functional'"),
    (habits.INIT, lambda: nn.init, "module 'chainrule.nn.init'"),
    (habits.DATA, lambda: data, "module 'chainrule.data'"),
]


@pytest.mark.parametrize(("table", "owner", "called"), OWNERS, ids=[called for _, _, called in OWNERS])
def test_a_name_of_pytorch_is_told_how_it_is_written_here(table: dict[str, str], owner: Callable[[], Any], called: str) -> None:
    assert list(table) == list(dict.fromkeys(table))
    for name, remedy in table.items():
        if isinstance(owner(), cr.Parameter) and name == "type":  # shape and dtype of a cell
            continue
        with pytest.raises(AttributeError) as caught:
            getattr(owner(), name)
        assert str(caught.value) == f"{called} has no attribute {name!r}: {remedy}"
        assert not hasattr(owner(), name)
    with pytest.raises(AttributeError, match=f"{re.escape(called)} has no attribute 'nothing'$"):
        owner().nothing  # noqa: B018


WRITTEN = [
    (name, remedy[len("write ") :].split(", or ")[0].split("; ")[0].split(", the new")[0].split(", which")[0].split(": (")[0])
    for table in (habits.TENSOR, habits.LIBRARY, habits.FUNCTIONAL, habits.MODULE, habits.SCHEDULE, habits.INIT)
    for name, remedy in table.items()
    if remedy.startswith("write ") and not re.search("largest|around|ddof|[.]pad", remedy)
]


@pytest.mark.parametrize(("name", "code"), WRITTEN, ids=[name for name, _ in WRITTEN])
def test_what_is_to_be_written_instead_runs(name: str, code: str) -> None:
    cube = np.random.default_rng(0).random((1, 2, 2)) + 0.5
    names = {
        **{"cr": cr, "np": np, "nn": nn, "optimizer": optim.SGD(MODEL.parameters(), momentum=0.5)},
        "schedule": optim.StepLR(optim.SGD(MODEL.parameters()), 3),
        **{
            "x": cr.tensor(cube),
            "y": cr.tensor(cube),
            "array": cube,
            "data": [0, 1],
            "labels": [0, 1],
            "tensors": [cube, cube],
            "places": np.zeros((1, 2, 2), int),
        },
        **{"axis": 0, "low": 1, "high": 2, "shape": (3, 2, 2, 2), "mask": cube > 1, "value": 0.0, "indices": [0, 0], "i": 1},
        **{"a": 0.0, "b": 1.0, "n": 1, "seed": 0, "classes": 2, "model": nn.Linear(2, 2), "name": "weight"},
        "w": cr.Parameter(np.ones((2, 3))),
        **{"loss": cr.tensor([1.0], requires_grad=True), "inputs": []},
    }
    if name not in ("load", "save", "autograd", "set_num_threads", "get_submodule", "type"):
        assert eval(code, names) is not None or name == "inference_mode" or name in habits.INIT


def says(name: str, table: dict[str, str], **names: Any) -> Any:
    """What the code that is named in place of ``name`` gives."""
    code = table[name].removeprefix("write ").split(", or ")[0]
    return eval(code, {"cr": cr, "np": np, "nn": nn, **names})


def test_what_is_to_be_written_instead_gives_what_pytorch_gives() -> None:
    """Where the axis, the dtype or the odd values could differ: what PyTorch 2.13 gives for the same."""
    square = cr.tensor([[1.0, 4.0], [9.0, 7.0]])
    assert says("diff", habits.TENSOR, x=square).tolist() == [[3.0], [-2.0]]
    odd = says("nan_to_num", habits.TENSOR, x=cr.tensor([np.nan, np.inf, -np.inf, 2.0]))
    assert odd.tolist() == [0.0, float(np.finfo(np.float32).max), float(np.finfo(np.float32).min), 2.0]
    made = [says("linspace", habits.LIBRARY, a=0, b=1, n=3), says("eye", habits.LIBRARY, n=2)]
    made += [says("bernoulli", habits.TENSOR, x=cr.ones((3,))), says("log10", habits.TENSOR, x=square)]
    assert [one.dtype.name for one in made] == ["float32"] * 4
    assert (made[0].tolist(), made[2].tolist()) == ([0.0, 0.5, 1.0], [1.0, 1.0, 1.0])
    flat = [cr.tensor([1.0, 2.0]), cr.tensor([3.0, 4.0])]
    for name, shapes in (("hstack", [(2, 4), (4,)]), ("vstack", [(4, 2), (2, 2)])):
        codes = re.findall(r"cr\.\w+\(tensors[^)]*\)", habits.LIBRARY[name])
        assert [
            eval(code, {"cr": cr, "tensors": of}).shape for code, of in zip(codes, ([square] * 2, flat), strict=True)
        ] == shapes
    weight = cr.Parameter(np.zeros((200, 50, 2)))
    says("xavier_normal_", habits.INIT, w=weight)
    assert abs(weight.numpy().std() / np.sqrt(2 / (50 * 2 + 200 * 2)) - 1) < 0.03
    says("ones_", habits.INIT, w=weight)
    assert (weight.numpy() == 1).all()
    says("zeros_", habits.INIT, w=weight)
    assert (weight.numpy() == 0).all()


def test_a_tensor_says_that_it_never_changes_whatever_would_change_it() -> None:
    for name in ("add_", "zero_", "copy_", "clamp_", "detach_", "uniform_"):
        with pytest.raises(AttributeError, match=f"no attribute '{name}': tensors are immutable: .* w.assign"):
            getattr(cr.ones((2,)), name)


# ---- arguments that are not there


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: x.sum(dim=1), "sum: there is no argument 'dim': it is called 'axis' here"),
        (lambda x: x.mean(1, keepdim=True), "mean: there is no argument 'keepdim': it is called 'keepdims' here"),
        (lambda x: cr.max(x, dim=1), "max: there is no argument 'dim': it is called 'axis' here"),
        (lambda x: cr.concatenate([x, x], dim=1), "concatenate: there is no argument 'dim': it is called 'axis' here"),
        (lambda x: x.squeeze(dim=0), "squeeze: there is no argument 'dim': it is called 'axis' here"),
        (lambda x: x.flatten(start_dim=1), "flatten: there is no argument 'start_dim': it is called 'start_axis' here"),
        (lambda x: x.clip(min=0), "clip: there is no argument 'min': it is called 'low' here"),
        (lambda x: cr.one_hot([1], num_classes=3), "one_hot: there is no argument 'num_classes': it is called 'classes' here"),
        (lambda x: cr.zeros(size=(2, 3)), "zeros: there is no argument 'size': it is called 'shape' here"),
        (
            lambda x: x.var(unbiased=False),
            "var: there is no argument 'unbiased': write ddof=1, or leave it out for unbiased=False",
        ),
        (
            lambda x: cr.zeros((2,), device="cpu"),
            "zeros: there is no argument 'device': everything is in the memory of the CPU: leave it out",
        ),
        (lambda x: F.softmax(x, axis=1), "softmax: there is no argument 'axis': it is called 'dim' here"),
        (lambda x: F.relu(input=x), "relu: there is no argument 'input': it is called 'x' here"),
        (
            lambda x: F.cross_entropy(x, [0, 1], size_average=True),
            "cross_entropy: there is no argument 'size_average': write reduction='mean', or reduction='sum'",
        ),
        (lambda x: F.relu(x, inplce=True), "relu: unknown argument 'inplce': did you mean 'inplace'? Known: inplace, x"),
        (lambda x: F.relu(), "relu: missing a required argument: 'x': it is called as relu(x, inplace=False)"),
        (lambda x: F.relu(x, x=x), "relu: multiple values for argument 'x': it is called as relu(x, inplace=False)"),
        (lambda x: F.conv2d(x), "conv2d: missing a required argument: 'weight': it is called as conv2d(x, weight, bias=None, "),
        (
            lambda x: nn.ConvTranspose2d(3, 4, 3, padding_mode="zeros"),
            "ConvTranspose2d: there is no argument 'padding_mode': a transposed convolution is padded with zeros: leave it out",
        ),
        (lambda x: nn.Linear(3, 2)(x, x), "Linear: too many positional arguments: it is called as Linear(x)"),
        (lambda x: nn.Sequential(nn.Linear(3, 2))(), "Sequential: missing a required argument: 'x'"),
        (
            lambda x: optim.SGD(MODEL.parameters(), learning_rate=0.1),
            "SGD: there is no argument 'learning_rate': it is called 'lr' here",
        ),
        (
            lambda x: optim.SGD(MODEL.parameters()).zero_grad(set_to_none=True),
            "zero_grad: there is no argument 'set_to_none': leave it out: a gradient that was cleared is None",
        ),
        (lambda x: MODEL.zero_grad(set_to_none=False), "zero_grad: there is no argument 'set_to_none': leave it out"),
        (
            lambda x: optim.SGD(MODEL.parameters()).step(lambda: x),
            "step: too many positional arguments: it is called as step()",
        ),
        (
            lambda x: cr.zeros(2, 3, 4),
            "zeros: too many positional arguments: it is called as zeros(shape, dtype=float32); the ",
        ),
        (
            lambda x: cr.grad(x.sum(), x, retain_graph=True),
            "grad: there is no argument 'retain_graph': leave it out: the graph stays",
        ),
        (lambda x: cr.triu(x, diagonal=1), "triu: there is no argument 'diagonal': it is called 'k' here"),
        (lambda x: data.Loader(x, 4, num_workers=2), "Loader: there is no argument 'num_workers': it is called 'workers' here"),
        (
            lambda x: cr.models.resnet18(pretrained=True),
            "resnet18: there is no argument 'pretrained': leave it out, and then: cr.models.load_weights(model, path)",
        ),
        (
            lambda x: nn.init.kaiming_normal_(MODEL[0].weight, nonlinearity="relu"),
            "kaiming_normal_: there is no argument 'nonlinearity': leave it out: the factor is that of ReLU",
        ),
        (
            lambda x: x.astype("long"),
            "unknown dtype 'long': it is called 'int64' here. Known: bool, uint8, int32, int64, bfloat16, float32, float64",
        ),
        (lambda x: x.astype("torch.float32"), "unknown dtype 'torch.float32': it is called 'float32' here. Known: bool, "),
    ],
)
def test_an_argument_of_pytorch_is_told_its_name_here(call: Callable[[cr.Tensor], object], text: str) -> None:
    x = cr.tensor(np.ones((2, 3), np.float32), requires_grad=True)
    assert refused(lambda: call(x)).startswith(text)


def test_an_error_inside_a_function_that_was_called_rightly_stays_what_it_is() -> None:
    class Own(nn.Module):
        def forward(self, x: cr.Tensor) -> cr.Tensor:
            return x + len(5)  # type: ignore[arg-type]

    with pytest.raises(TypeError, match="has no len"):
        Own()(cr.ones((2,)))


# ---- what would mean another thing in silence


def test_the_order_of_axes_and_a_swap_are_told_apart() -> None:
    matrix, images = cr.tensor(np.arange(6.0).reshape(2, 3)), cr.ones((2, 3, 4, 5))
    for axes in ((0, 1), (-2, -1), (0, -1)):
        text = refused(lambda axes=axes: matrix.transpose(*axes))  # type: ignore[misc]
        assert f"write swapaxes{axes} to swap them, or pass the order of all axes as a tuple" in text
    assert "write swapaxes(1, 2) to swap them" in refused(lambda: images.transpose(1, 2))
    for turned in (matrix.transpose(1, 0), matrix.transpose(), matrix.T, matrix.swapaxes(0, 1)):
        np.testing.assert_array_equal(turned.numpy(), np.arange(6.0).reshape(2, 3).T)
    assert matrix.transpose((0, 1)).shape == (2, 3)
    assert images.transpose(0, 2, 3, 1).shape == (2, 4, 5, 3)


def test_size_is_a_number_that_explains_itself_when_it_is_called() -> None:
    x = cr.ones((2, 3))
    assert (x.size, x.size + 1, isinstance(x.size, int)) == (6, 7, True)
    assert refused(lambda: x.size(1)) == "size: x.size is the number of elements, 6, as in NumPy: write x.shape[1]"  # type: ignore[operator]
    assert refused(lambda: cr.Parameter(np.ones((2, 3))).size()).endswith("write x.shape")  # type: ignore[operator]


def test_several_axes_one_by_one_are_no_flag() -> None:
    text = ": keepdims must be True or False, got 3: several axes are passed as a tuple, axis=(0, 1)"
    assert refused(lambda: cr.ones((2, 3, 4, 4)).mean(2, 3)) == "mean" + text
    assert refused(lambda: cr.ones((2, 3)).max(0, 3)) == "max" + text
    assert cr.ones((2, 3)).sum(0, np.True_).shape == (1, 3)


def test_the_gradient_of_a_single_tensor_is_asked_for_without_a_list() -> None:
    x = cr.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    (gradient,) = cr.grad((x * x).sum(), x)
    assert gradient is not None
    np.testing.assert_array_equal(gradient.numpy(), [[2, 4], [6, 8]])
    w = cr.Parameter([2.0])
    assert [one is not None and one.item() for one in cr.grad((w**3).sum(), w)] == [12.0]
    model = nn.Linear(2, 1)
    assert len(cr.grad(model(x).sum(), model.parameters())) == 2  # a generator can be looked through once
    assert refused(lambda: cr.grad((x * x).sum(), [x, 1.0])) == "grad: input 1 must be a tensor, got a float"
    assert refused(lambda: cr.grad((x * x).sum(), None)) == "grad: input 0 must be a tensor, got a NoneType"
    assert refused(lambda: cr.grad(1.0, x)) == "grad: output must be a tensor, got a float"


def test_batch_norm_as_a_function_takes_pytorchs_arguments() -> None:
    """Right values: the formula in float64."""
    x = np.random.default_rng(0).standard_normal((4, 3, 2, 2))
    weight, bias, old = np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.0, -0.5]), np.array([0.1, 0.2, 0.3])
    mean, variance = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
    affine = [one.reshape(1, 3, 1, 1) for one in (weight, bias)]
    running_mean, running_var = cr.Buffer(old), cr.Buffer(old + 1)
    found = F.batch_norm(x, running_mean, running_var, weight, bias, True, 0.25, 1e-3)
    np.testing.assert_allclose(found.numpy(), (x - mean) / np.sqrt(variance + 1e-3) * affine[0] + affine[1], rtol=1e-10)
    np.testing.assert_allclose(running_mean.numpy(), old * 0.75 + mean.reshape(-1) * 0.25, rtol=1e-12)
    np.testing.assert_allclose(running_var.numpy(), (old + 1) * 0.75 + variance.reshape(-1) * 16 / 15 * 0.25, rtol=1e-12)
    expected = (x - old.reshape(1, 3, 1, 1)) / np.sqrt(old.reshape(1, 3, 1, 1) + 1 + 1e-5) * affine[0] + affine[1]
    np.testing.assert_allclose(F.batch_norm(x, old, old + 1, weight, bias).numpy(), expected, rtol=1e-10)
    np.testing.assert_allclose(F.batch_norm(x, old, old + 1, weight, bias, False, 0.1, 1e-5).numpy(), expected, rtol=1e-10)
    assert "pass cr.Buffer(mean) and cr.Buffer(variance)" in refused(lambda: F.batch_norm(x, old, old, weight, bias, True))
    assert "training must be True or False" in refused(lambda: F.batch_norm(x, old, old, weight, bias, 1e-5))
    assert "running_var must have one number for each of the 3" in refused(lambda: F.batch_norm(x, old, [1.0, 1.0]))


def test_options_of_losses_are_passed_by_name_as_their_places_differ_from_pytorchs() -> None:
    scores = cr.zeros((2, 3))
    for call in (
        lambda: F.cross_entropy(scores, [0, 1], None, 1),
        lambda: F.nll_loss(scores, [0, 1], None, 1),
        lambda: F.mse_loss(scores, scores, "sum"),
        lambda: F.smooth_l1_loss(scores, scores, "sum"),
        lambda: F.huber_loss(scores, scores, "sum"),
        lambda: F.kl_div(scores, scores, "sum"),
        lambda: F.binary_cross_entropy(scores, scores, None, "sum"),
        lambda: F.binary_cross_entropy_with_logits(scores, scores, None, "sum"),
        lambda: nn.CrossEntropyLoss(None, 1),
        lambda: nn.MSELoss("sum"),
    ):
        assert "too many positional arguments" in refused(call)


def test_a_shape_is_one_argument() -> None:
    for make in (cr.zeros, cr.ones):
        assert refused(lambda make=make: make(2, 3)) == (  # type: ignore[misc]
            "the dtype of a tensor cannot be 3: the shape is one argument, such as zeros((2, 3))"
        )


# ---- what is taken


def test_activations_take_inplace_which_means_nothing() -> None:
    x = cr.tensor([-1.0, 7.0])
    for f in (F.relu, F.relu6, F.leaky_relu, F.silu, F.hardswish, F.hardsigmoid, F.hardtanh, F.elu, F.celu, F.selu, F.mish):
        np.testing.assert_array_equal(f(x, inplace=True).numpy(), f(x).numpy())
    assert F.dropout(x, 0.5, False, True) is x
    np.testing.assert_array_equal(x.numpy(), [-1, 7])


def test_layers_in_a_row_may_have_names() -> None:
    model = nn.Sequential(OrderedDict([("hidden", nn.Linear(3, 4)), ("act", nn.ReLU()), ("head", nn.Linear(4, 2))]))
    assert [name for name, _ in model.named_parameters()] == ["hidden.weight", "hidden.bias", "head.weight", "head.bias"]
    assert isinstance(model.act, nn.ReLU)
    assert model[0] is model.hidden
    assert list(dict(model[1:].named_children())) == ["act", "head"]
    assert model(cr.ones((1, 3))).shape == (1, 2)
    assert refused(lambda: nn.Sequential({"a.b": nn.ReLU()})).startswith("Sequential: 'a.b' cannot be the name of a layer")
    assert refused(lambda: nn.Sequential({"forward": nn.ReLU()})).startswith("Sequential: 'forward' cannot be the name")
    assert refused(lambda: nn.Sequential([nn.ReLU()])) == (
        "Sequential: element 0 must be a layer, got list: pass its members one by one, Sequential(*layers)"
    )


def test_what_is_added_to_a_row_gives_back_the_row() -> None:
    row = nn.Sequential()
    assert row.append(nn.ReLU()).append(nn.Tanh()).extend([nn.ReLU(), nn.Identity()]) is row
    assert [type(one).__name__ for one in row] == ["ReLU", "Tanh", "ReLU", "Identity"]
    assert len(nn.ModuleList().append(nn.ReLU())) == 1


# ---- arrays and lists where tensors go

PICTURES = np.random.default_rng(0).random((2, 2, 6, 6)).astype(np.float32)
ROWS = PICTURES[:, :, 0, 0]
ON_ARRAYS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "adaptive_avg_pool1d": ((PICTURES[0], 2), {}),
    "adaptive_avg_pool2d": ((PICTURES, 2), {}),
    "adaptive_max_pool1d": ((PICTURES[0], 2), {}),
    "adaptive_max_pool2d": ((PICTURES, 2), {}),
    "avg_pool1d": ((PICTURES[0], 2), {}),
    "avg_pool2d": ((PICTURES, 2), {}),
    "batch_norm": ((PICTURES, ROWS[0], ROWS[1]), {"weight": ROWS[0], "bias": ROWS[1]}),
    "binary_cross_entropy": ((ROWS, ROWS), {"weight": ROWS[0]}),
    "binary_cross_entropy_with_logits": ((ROWS, ROWS), {"pos_weight": ROWS[0]}),
    "celu": ((ROWS,), {}),
    "channel_shuffle": ((PICTURES, 2), {}),
    "conv1d": ((PICTURES[:, :, 0], PICTURES[:, :, 0, :3]), {"bias": ROWS[0]}),
    "conv2d": ((PICTURES, PICTURES[:, :, :3, :3]), {"bias": ROWS[0]}),
    "conv3d": ((PICTURES[:, :, None], PICTURES[:, :, None, :3, :3]), {"bias": ROWS[0]}),
    "conv_transpose1d": ((PICTURES[:, :, 0], PICTURES[:, :, 0, :3]), {"bias": ROWS[0]}),
    "conv_transpose2d": ((PICTURES, PICTURES[:, :, :3, :3]), {"bias": ROWS[0]}),
    "cosine_similarity": ((ROWS, ROWS), {}),
    "cross_entropy": ((ROWS, np.array([0, 1])), {"weight": ROWS[0]}),
    "dropout": ((ROWS, 0.5, False), {}),
    "dropout2d": ((PICTURES, 0.5, False), {}),
    "elu": ((ROWS,), {}),
    "embedding": ((np.array([0, 1]), ROWS), {}),
    "flatten": ((PICTURES,), {}),
    "gelu": ((ROWS,), {}),
    "glu": ((ROWS,), {}),
    "group_norm": ((PICTURES, 2), {"weight": ROWS[0], "bias": ROWS[1]}),
    "hardsigmoid": ((ROWS,), {}),
    "hardswish": ((ROWS,), {}),
    "hardtanh": ((ROWS,), {}),
    "huber_loss": ((ROWS, ROWS), {}),
    "kl_div": ((ROWS, ROWS), {}),
    "instance_norm": ((PICTURES,), {"weight": ROWS[0], "bias": ROWS[1]}),
    "interpolate": ((PICTURES, 9, None, "bilinear"), {}),
    "l1_loss": ((ROWS, ROWS), {}),
    "layer_norm": ((ROWS, 2), {"weight": ROWS[0], "bias": ROWS[1]}),
    "leaky_relu": ((ROWS,), {}),
    "linear": ((ROWS, ROWS, ROWS[0]), {}),
    "local_response_norm": ((PICTURES, 3), {}),
    "log_softmax": ((ROWS,), {}),
    "logsigmoid": ((ROWS,), {}),
    "max_pool1d": ((PICTURES[0], 2), {}),
    "max_pool2d": ((PICTURES, 2), {}),
    "mish": ((ROWS,), {}),
    "mse_loss": ((ROWS, ROWS), {}),
    "nll_loss": ((ROWS, np.array([0, 1])), {}),
    "normalize": ((ROWS,), {}),
    "pad": ((PICTURES, (1, 2), "reflect"), {}),
    "pixel_shuffle": ((np.concatenate([PICTURES, PICTURES], 1), 2), {}),
    "pixel_unshuffle": ((PICTURES, 2), {}),
    "prelu": ((ROWS, ROWS[0]), {}),
    "relu": ((ROWS,), {}),
    "relu6": ((ROWS,), {}),
    "rms_norm": ((ROWS, 2), {"weight": ROWS[0]}),
    "scaled_dot_product_attention": ((ROWS, ROWS, ROWS), {"attn_mask": ROWS}),
    "selu": ((ROWS,), {}),
    "sigmoid": ((ROWS,), {}),
    "silu": ((ROWS,), {}),
    "smooth_l1_loss": ((ROWS, ROWS), {}),
    "softmax": ((ROWS,), {}),
    "softplus": ((ROWS,), {}),
    "softsign": ((ROWS,), {}),
    "stochastic_depth": ((ROWS, 0.5, "row", False), {}),
    "tanh": ((ROWS,), {}),
    "unfold": ((PICTURES, 2), {}),
}


def changed(value: Any, change: Callable[[np.ndarray], Any]) -> Any:
    return change(value) if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("name", sorted(set(F.__all__) - {"affine", "normalised"}))
def test_a_function_takes_arrays_and_lists_for_tensors_and_says_what_it_wants(name: str) -> None:
    inputs, options = ON_ARRAYS[name]
    call = getattr(F, name)

    def of(change: Callable[[np.ndarray], Any]) -> cr.Tensor:
        given = {key: changed(one, change) for key, one in options.items()}
        return call(*(changed(one, change) for one in inputs), **given)

    expected = of(cr.tensor).numpy()
    for change in (np.asarray, np.ndarray.tolist):
        found = of(change)
        assert type(found) is cr.Tensor
        np.testing.assert_array_equal(found.numpy(), expected)
    for place, one in enumerate(inputs):
        for wrong in ("text", None, object(), [[1.0], [2.0, 3.0]], {}):
            if isinstance(one, np.ndarray) and not (wrong is None and name in ("batch_norm", "linear") and place > 0):
                with pytest.raises(UserError, match=f"^{name}: "):
                    call(*inputs[:place], wrong, *inputs[place + 1 :], **options)


def test_layers_take_arrays_lists_and_numbers_wherever_they_stand() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(2, 1)

        def forward(self, pairs: Any) -> cr.Tensor:
            assert isinstance(pairs, list)  # what a module of one's own gets is its own affair
            return self.inner(pairs) + self.inner(np.array(pairs, np.float32))

    linear = nn.Linear(2, 1)
    rows = [[1.0, 2.0], [3.0, 4.0]]
    expected = linear(cr.tensor(rows)).numpy()
    for model in (linear, nn.Sequential(linear), nn.Sequential(nn.Identity(), nn.Sequential(linear))):
        for given in (rows, np.array(rows, np.float32), tuple(map(tuple, rows))):
            np.testing.assert_array_equal(model(given).numpy(), expected)
    np.testing.assert_array_equal(linear(x=np.array(rows, np.float32)).numpy(), expected)
    assert Own()(rows).shape == (2, 1)
    assert nn.ReLU()(-1.0).item() == 0
    assert nn.CrossEntropyLoss()(rows, [0, 1]).item() == pytest.approx((np.log(1 + np.e) + np.log(1 + np.exp(-1.0))) / 2)
    assert nn.MSELoss()([1.0], [3.0]).item() == 4
    for wrong in ("text", None, [[1.0], [2.0, 3.0]]):
        text = refused(lambda wrong=wrong: nn.Sequential(nn.ReLU(), linear)(wrong))  # type: ignore[misc]
        assert text.startswith("layer 0 (ReLU): the input must be a tensor, an array or nested lists of numbers: ")


# ---- dtypes that cost more, or mean something else, than people think


@pytest.fixture
def nothing_said_yet() -> Iterator[None]:
    before = set(conversion._warned)
    conversion._warned.clear()
    yield
    conversion._warned.clear()
    conversion._warned.update(before)


def said(call: Callable[[], object]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert all(one.category is cr.ChainruleWarning and one.filename == __file__ for one in caught)
    return [str(one.message) for one in caught]


@pytest.mark.usefixtures("nothing_said_yet")
def test_float64_in_a_float32_network_is_said_once_with_the_remedy() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    images = np.random.default_rng(0).standard_normal((5, 1, 2, 2))
    text = (
        "layer 1 (Linear) got float64, but the parameters are float32: this and what follows is computed, in two thirds of the "
        "usual speed, in float64: pass x.astype('float32'), or turn the network into float64 with model.astype('float64')"
    )
    assert said(lambda: model(images)) == [text]
    assert said(lambda: model(images)) == []
    assert said(lambda: model(images.astype(np.float32))) == []
    assert said(lambda: model.astype("float64")(images)) == []


@pytest.mark.usefixtures("nothing_said_yet")
@pytest.mark.parametrize(
    ("layer", "shape"), [(nn.Conv2d(2, 2, 3), (1, 2, 5, 5)), (nn.Conv1d(2, 2, 3), (1, 2, 5)), (nn.Linear(5, 2), (2, 5))]
)
def test_what_a_dtype_costs_is_said_in_compiled_functions_too(layer: nn.Module, shape: tuple[int, ...]) -> None:
    compiled = cr.compile(lambda x: layer(x))
    kind = type(layer).__name__
    assert [one.split(":")[0] for one in said(lambda: compiled(np.ones(shape)))] == [
        f"{kind} got float64, but the parameters are float32"
    ]
    assert [one.split(",")[0] for one in said(lambda: compiled(np.full(shape, 255, np.uint8)))] == [
        f"{kind} got numbers of uint8"
    ]
    assert said(lambda: compiled(np.ones(shape, np.float32))) == []


@pytest.mark.usefixtures("nothing_said_yet")
def test_pictures_of_uint8_that_were_not_scaled_are_said_once() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3))
    pictures = np.random.default_rng(0).integers(0, 256, (2, 1, 8, 8)).astype(np.uint8)
    assert said(lambda: model(pictures)) == [
        "layer 0 (Conv2d) got numbers of uint8, taken as they are, 0 to 255: networks learn badly from such large numbers: "
        "scale images, images / 255 or images.astype(np.float32) / 255"
    ]
    assert said(lambda: model(pictures)) == []
    conversion._warned.clear()
    assert said(lambda: model(pictures > 127)) == []
    assert said(lambda: model((pictures > 127).astype(np.uint8))) == []
    assert said(lambda: model(cr.tensor(pictures) / 255)) == []
