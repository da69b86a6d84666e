"""What a type checker knows of compiled functions: checked by mypy with the package, never run."""

from typing import assert_type

import chainrule as cr
from chainrule.tensor import CompiledFunction, Tensor
from chainrule.tensor.backend import Program


@cr.compile
def step(images: Tensor, labels: Tensor, *, smooth: float = 0.0) -> tuple[Tensor, int]:
    return images * smooth + labels, 1


@cr.compile(max_memory=1 << 20)
def small(x: Tensor) -> Tensor:
    return x


class Trainer:
    @cr.compile
    def loss(self, x: Tensor, power: int = 1) -> Tensor:
        return x**power


x = cr.tensor([1.0])
assert_type(step(x, x, smooth=0.5), tuple[Tensor, int])
assert_type(step.prepare(x, x), Program)
assert_type(step.program, Program)
assert_type(step.explain_retrace(), str)
assert_type(small(x), Tensor)
assert_type(Trainer().loss(x, power=2), Tensor)
assert_type(Trainer().loss(x), Tensor)
assert_type(Trainer().loss.program, Program)
compiled_lambda: CompiledFunction[[Tensor], Tensor] = cr.compile(lambda x: x)

step(x)  # type: ignore[call-arg]
step(x, x, smoth=0.5)  # type: ignore[call-arg]
step("images", x)  # type: ignore[arg-type]
Trainer().loss(x, power="2")  # type: ignore[arg-type]
Trainer().loss()  # type: ignore[call-arg]
small(x, x)  # type: ignore[call-arg]
