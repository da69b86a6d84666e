"""Write what PyTorch computes for the cases in `tests/expected/cases.py`: `python scripts/expected_from_torch.py`.

Run it from the repository root, where torch and safetensors are installed (`pip install torch safetensors`); the tests
need neither torch nor this script, only the files that it leaves in `tests/expected/`:

    layers.safetensors      inputs, parameters, buffers, upstream gradients; outputs and all gradients
    functions.safetensors   inputs, upstream gradients; outputs and gradients of functions that no layer calls
    losses.safetensors      predictions, targets; losses and gradients
    lenet.safetensors       a batch and weights; the loss, all gradients, the weights after three steps of SGD
    optimizers.safetensors  a problem; its parameters after each step of each optimizer, clipped gradients, averages
    schedules.safetensors   learning rate and momentum of each group at each step
    names.json              names, shapes and dtypes of state dicts; names and defaults of arguments

Numbers are drawn by NumPy from a seed per case and rounded to float32; PyTorch computes in float64, and the results are
rounded to float32. So the files do not depend on the processor or on the number of threads, up to the last bit of a few
numbers, and what the tests see is the error of chainrule alone. Takes a few seconds; a new case leaves the others as they
are.
"""

from __future__ import annotations

import inspect
import json
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save as as_safetensors

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path.insert(0, str(TESTS))

from expected import cases  # noqa: E402 - found through the line above

Array = np.ndarray[Any, Any]
SOME = {
    "kinks": np.array([-7.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0, 6.0, 7.0]),
    "bends": np.array([-30.0, -5.0, -3.0, -1.25, -0.25, 0.0, 0.75, 3.0, 4.0, 20.0, 30.0]),
}


def generator(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


def draw(rng: np.random.Generator, shape: tuple[int, ...], values: str = "normal") -> Array:
    """Numbers that float32 holds exactly."""
    if values in SOME:
        found = rng.choice(SOME[values], shape)
    elif values.endswith("probabilities"):
        found = rng.uniform(0.01, 0.99, shape)
        found = np.log(found) if values.startswith("log") else found
    else:
        found = rng.standard_normal(shape)
    return np.asarray(found, np.float32).astype(np.float64)


def tensor(values: Any, wanted: bool = False) -> torch.Tensor:
    return torch.tensor(values, requires_grad=wanted)


def array(found: torch.Tensor) -> Array:
    values = found.detach().numpy()
    return values.astype(np.float32) if values.dtype == np.float64 else values


def arguments(given: dict[str, Any]) -> dict[str, Any]:
    """Lists of floats are tensors to PyTorch."""
    return {name: tensor(value).double() if name.endswith("weight") else value for name, value in given.items()}


def fill(module: torch.nn.Module, rng: np.random.Generator) -> None:
    """Draw all parameters and running statistics; variances are positive."""
    with torch.no_grad():
        for name, cell in module.state_dict().items():
            if cell.is_floating_point():
                drawn = draw(rng, tuple(cell.shape))
                cell.copy_(tensor(np.abs(drawn) + 0.5 if name.endswith("running_var") else drawn * 0.5))


def of_layer(case: cases.Layer) -> dict[str, Array]:
    rng = generator(case.name)
    module = getattr(torch.nn, case.layer)(**{**case.arguments, **case.torch}).double()
    fill(module, rng)
    found = {f"state/{name}": array(cell).copy() for name, cell in module.state_dict().items()}
    earlier = draw(rng, (case.batches, *case.shape))
    if case.batches:
        found["earlier"] = earlier.astype(np.float32)
        for batch in earlier:
            module(tensor(batch))
    module.train(case.training)
    places = case.values == "places"
    x = tensor(rng.integers(0, 5, case.shape) if places else draw(rng, case.shape, case.values), wanted=not places)
    output = module(torch.nn.functional.pad(x, case.border) if case.border else x)
    upstream = draw(rng, tuple(output.shape))
    output.backward(tensor(upstream))
    found |= {"input": array(x), "upstream": upstream.astype(np.float32), "output": array(output)}
    found |= {"gradient/input": array(x.grad)} if x.grad is not None else {}
    found |= {f"gradient/{name}": array(parameter.grad) for name, parameter in module.named_parameters()}
    return found | {f"after/{name}": array(buffer) for name, buffer in module.named_buffers()}


def of_function(case: cases.Function) -> dict[str, Array]:
    rng = generator(case.name)
    inputs = [tensor(input_of(kind, shape, rng), wanted=kind == "normal") for kind, shape in case.inputs]
    output = getattr(torch.nn.functional, case.function)(*inputs, **case.arguments)
    upstream = draw(rng, tuple(output.shape))
    output.backward(tensor(upstream))
    found = {f"input/{place}": array(one) for place, one in enumerate(inputs)}
    found |= {f"gradient/{place}": array(one.grad) for place, one in enumerate(inputs) if one.grad is not None}
    return found | {"upstream": upstream.astype(np.float32), "output": array(output)}


def input_of(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    if kind == "mask":
        return rng.random(shape) < 0.7
    return draw(rng, shape) if kind == "normal" else rng.integers(0, int(kind), shape)


def target_of(case: cases.Loss, x: Array, rng: np.random.Generator) -> Array:
    if case.target == "labels":
        labels = rng.integers(0, case.shape[1], (case.shape[0], *case.shape[2:]))
        if "ignore_index" in case.arguments:
            labels[..., 0] = case.arguments["ignore_index"]
            labels[1] = case.arguments["ignore_index"]
            labels[-1] = 0
        return labels
    if case.target == "ignored":
        return np.full((case.shape[0], *case.shape[2:]), case.arguments["ignore_index"])
    if case.target == "binary":
        return rng.integers(0, 2, case.shape).astype(np.float64)
    if case.target == "probabilities":
        drawn = rng.random(case.shape).astype(np.float32)
        return np.asarray(drawn / drawn.sum(1, keepdims=True), np.float64)
    if case.target == "sparse probabilities":
        return np.where(rng.random(case.shape) < 0.3, 0, draw(rng, case.shape, "probabilities"))
    if case.target == "near":
        return x + rng.choice([-2.0, -0.5, -0.25, 0.0, 0.125, 0.5, 1.0], case.shape)
    return draw(rng, case.shape, case.target)


def of_loss(case: cases.Loss) -> dict[str, Array]:
    rng = generator(case.name)
    values = draw(rng, case.shape, case.values)
    if case.loss == "NLLLoss":
        values = array(torch.log_softmax(tensor(values), 1)).astype(np.float64)
    if case.target == "near":
        values = np.round(values * 8) / 8  # so that float32 holds the differences, and some are 0 or beta
    target = target_of(case, values, rng)
    if case.values == "masked":
        values[np.arange(len(values)), (target + 1) % case.shape[1]] = -np.inf
    x = tensor(values, wanted=True)
    output = getattr(torch.nn, case.loss)(**arguments(case.arguments))(x, tensor(target))
    upstream = draw(rng, tuple(output.shape))
    output.backward(tensor(upstream))
    kept = target if target.dtype == np.int64 else target.astype(np.float32)
    return {
        "input": array(x),
        "target": kept,
        "upstream": upstream.astype(np.float32),
        "output": array(output),
        "gradient/input": array(x.grad),
    }


def of_lenet() -> dict[str, Array]:
    rng = generator("lenet")
    model = cases.lenet(torch.nn).double()
    with torch.no_grad():  # as they start in training, or the error would say nothing about the depths
        for parameter in model.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 25
            parameter.copy_(tensor(draw(rng, tuple(parameter.shape)) * np.float32(fan_in**-0.5)).float())
    found = {f"before/{name}": array(cell).copy() for name, cell in model.state_dict().items()}
    images, labels = draw(rng, (4, 1, *cases.LENET_SIZE)), rng.integers(0, 10, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for step in range(3):
        optimizer.zero_grad()
        scores = model(tensor(images))
        loss = torch.nn.functional.cross_entropy(scores, tensor(labels))
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            found |= {"scores": array(scores)}
            found |= {f"gradient/{name}": array(parameter.grad).copy() for name, parameter in model.named_parameters()}
        optimizer.step()
    found |= {"images": images.astype(np.float32), "labels": labels, "losses": np.array(losses, np.float32)}
    return found | {f"after/{name}": array(cell).copy() for name, cell in model.state_dict().items()}


def problem() -> dict[str, Array]:
    rng = generator("problem")
    return {name: draw(rng, shape) for name, shape in cases.PROBLEM.items()}


def start() -> dict[str, torch.Tensor]:
    return {name: tensor(values, wanted=name in cases.PARAMETERS) for name, values in problem().items()}


def of_optimizer(case: cases.Optimizer) -> dict[str, Array]:
    """Each parameter before the first step and after each: (steps + 1, ...)."""
    values = start()
    groups = [{**group, "params": [values[name] for name in group["params"]]} for group in case.groups]
    optimizer = getattr(torch.optim, case.optimizer)(groups, **case.arguments)
    path = [{name: array(values[name]).copy() for name in cases.PARAMETERS}]
    for _ in range(cases.STEPS):
        optimizer.zero_grad()
        cases.error(values).backward()
        optimizer.step()
        path.append({name: array(values[name]).copy() for name in cases.PARAMETERS})
    return {name: np.stack([place[name] for place in path]) for name in cases.PARAMETERS}


def of_clipping(length: float, order: float = 2.0) -> dict[str, Array]:
    values = start()
    cases.error(values).backward()
    before = torch.nn.utils.clip_grad_norm_([values[name] for name in cases.PARAMETERS], length, order)
    return {"length": array(before), **{name: array(values[name].grad) for name in cases.PARAMETERS}}


def of_clipped_values(largest: float) -> dict[str, Array]:
    values = start()
    cases.error(values).backward()
    torch.nn.utils.clip_grad_value_([values[name] for name in cases.PARAMETERS], largest)
    return {name: array(values[name].grad) for name in cases.PARAMETERS}


def of_averages(decay: float, use_buffers: bool) -> dict[str, Array]:
    """The network before the first step, the batch, and the state of the averages after the last step."""
    swa = torch.optim.swa_utils
    rng = generator("averages")
    model = cases.averaged(torch.nn).double()
    fill(model, rng)
    found = {f"before/{name}": array(cell).copy() for name, cell in model.state_dict().items()}
    batch = {name: draw(rng, shape) for name, shape in cases.AVERAGED_BATCH.items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    averages = swa.AveragedModel(model, multi_avg_fn=swa.get_ema_multi_avg_fn(decay), use_buffers=use_buffers)
    for _ in range(cases.AVERAGED_STEPS):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(tensor(batch["x"])), tensor(batch["y"])).backward()
        optimizer.step()
        averages.update_parameters(model)
    found |= {name: values.astype(np.float32) for name, values in batch.items()}
    return found | {f"after/{name}": array(cell) for name, cell in averages.state_dict().items()}


def of_schedule(case: cases.Schedule) -> dict[str, Array]:
    """Learning rate and momentum (beta1 of Adam) of each group after 0, 1, 2, ... steps: (steps, groups)."""
    schedulers = torch.optim.lr_scheduler
    groups = [{"params": [tensor(np.zeros(1), wanted=True)], **options} for options in case.groups]
    optimizer = getattr(torch.optim, case.optimizer)(groups, **case.options)
    parts = [getattr(schedulers, name)(optimizer, **options) for name, options in case.parts]
    schedule = getattr(schedulers, case.schedule)(optimizer, *([parts] if parts else []), **case.arguments)
    found: dict[str, list[list[float]]] = {"lr": [], "momentum": []}
    for step in range(case.steps):
        found["lr"].append([group["lr"] for group in optimizer.param_groups])
        found["momentum"].append(
            [group["betas"][0] if "betas" in group else group["momentum"] for group in optimizer.param_groups]
        )
        optimizer.step()
        schedule.step(*case.metrics[step : step + 1])
    return {name: np.array(values) for name, values in found.items()}


def state_of(module: torch.nn.Module) -> list[list[Any]]:
    return [[name, list(cell.shape), str(cell.dtype).removeprefix("torch.")] for name, cell in module.state_dict().items()]


def signature_of(kind: type) -> list[list[Any]]:
    """Arguments in order with their defaults; those without one stand alone, and what JSON cannot say is left to the eye."""
    found: list[list[Any]] = []
    for parameter in list(inspect.signature(kind.__init__).parameters.values())[1:]:  # type: ignore[misc]
        plain = isinstance(parameter.default, bool | int | float | str | tuple | None)
        found.append([parameter.name, parameter.default] if plain else [parameter.name])
    return found


def names() -> dict[str, Any]:
    states = {case.name: state_of(getattr(torch.nn, case.layer)(**{**case.arguments, **case.torch})) for case in cases.LAYERS}
    states |= {"nested": state_of(cases.nested(torch.nn)), "lenet": state_of(cases.lenet(torch.nn, (28, 28)))}
    kinds = {
        "nn": (torch.nn, {case.layer for case in cases.LAYERS} | {case.loss for case in cases.LOSSES}),
        "optim": (torch.optim, {case.optimizer for case in cases.OPTIMIZERS}),
        "schedules": (torch.optim.lr_scheduler, {case.schedule for case in cases.SCHEDULES}),
    }
    signatures = {
        part: {name: signature_of(getattr(module, name)) for name in sorted(known)} for part, (module, known) in kinds.items()
    }
    return {"states": states, "signatures": signatures}


def save(file: str, found: dict[str, dict[str, Array]]) -> None:
    flat = {f"{case}/{name}": np.array(values, order="C") for case, parts in found.items() for name, values in parts.items()}
    written = (TESTS / "expected" / file).write_bytes(as_safetensors(flat))
    print(f"{file}: {len(found)} cases, {written:,} bytes")


def one_line_each(found: dict[str, dict[str, Any]]) -> str:
    """JSON with one line per case."""
    parts = [
        f" {json.dumps(part)}: {{\n"
        + ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
        + "\n }"
        for part, rows in found.items()
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "Using padding='same' with even kernel")
    save("layers.safetensors", {case.name: of_layer(case) for case in cases.LAYERS})
    save("functions.safetensors", {case.name: of_function(case) for case in cases.FUNCTIONS})
    save("losses.safetensors", {case.name: of_loss(case) for case in cases.LOSSES})
    save("lenet.safetensors", {"lenet": of_lenet()})
    optimizers = {f"{case.optimizer}, {case.name}": of_optimizer(case) for case in cases.OPTIMIZERS}
    clipped = {f"clipped to {length}": of_clipping(length) for length in cases.CLIPPED_LENGTHS}
    clipped |= {f"clipped to {length} by norm {order}": of_clipping(length, order) for order, length in cases.NORMS}
    clipped |= {f"clipped to values of {largest}": of_clipped_values(largest) for largest in cases.CLIPPED_VALUES}
    averages = {f"averages, decay {decay}, {buffers}": of_averages(decay, buffers) for decay, buffers in cases.AVERAGES}
    given = {name: values.astype(np.float32) for name, values in problem().items()}
    save("optimizers.safetensors", {"problem": given, **optimizers, **clipped, **averages})
    save("schedules.safetensors", {case.name: of_schedule(case) for case in cases.SCHEDULES})
    found = names()
    flat = {"states": found["states"], **{f"signatures of {part}": rows for part, rows in found["signatures"].items()}}
    (TESTS / "expected" / "names.json").write_text(one_line_each(flat))


if __name__ == "__main__":
    main()
