"""The work that kernels are counted for, by hand, and what a profile makes of it: shares from 0 to 1, savings, the table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import chainrule as cr
from chainrule.cpu.codegen.target import host_target
from chainrule.cpu.kernel import Kernel, KernelSteps
from chainrule.cpu.kernels import contraction, depthwise, winograd
from chainrule.cpu.kernels.geometry import Geometry
from chainrule.cpu.runtime.limits import Limits
from chainrule.cpu.runtime.profile import ProgramProfile

TARGET = host_target()
SMALL = Geometry(2, 3, 5, (4, 4), (4, 4), (3, 3), padding=((1, 1), (1, 1)))
"""Along an axis the window sees 2, 3, 3 and 2 pixels of the image: 10, of both 100; with all padding it would be 144."""


def heavy(steps: KernelSteps) -> Kernel:
    (kernel,) = (step.kernel for step in steps.steps if step.kernel.operations)
    return kernel


def test_multiply_adds_by_hand() -> None:
    assert SMALL.multiply_adds == 2 * 144 * 3 * 5
    assert SMALL.multiply_adds_inside == 2 * 100 * 3 * 5
    assert SMALL.unseen == 0
    # Rows 0 and 2 of the window's places 0, 2; of columns with dilation 2 and padding 1: (-1, 1), (1, 3), (3, 5) in 0..3.
    one = Geometry(1, 4, 6, (4, 4), (2, 3), (1, 2), (2, 2), ((0, 0), (1, 1)), (1, 2), groups=2)
    assert one.multiply_adds_inside == 2 * 4 * 6 * 2
    assert one.unseen == 4 * (16 - 2 * 2)  # rows 0 and 2, columns 1 and 3


@pytest.mark.parametrize("way", ["convolution", "input_gradient", "weight_gradient"])
def test_a_direct_convolution_is_counted_for_what_lies_in_the_image(way: str) -> None:
    kernel = heavy(getattr(contraction, way)(TARGET, "float32", SMALL))
    assert kernel.operations == 2 * 2 * 100 * 3 * 5
    assert kernel.bytes == 4 * (2 * 16 * 3 + 2 * 16 * 5 + 9 * 3 * 5)
    assert kernel.direct_operations == 0


@pytest.mark.parametrize("way", ["convolution", "input_gradient", "weight_gradient"])
def test_a_depthwise_convolution_is_counted_for_what_lies_in_the_image(way: str) -> None:
    one = replace(SMALL, channels=6, filters=6, groups=6)
    kernel = heavy(getattr(depthwise, way)(TARGET, "float32", one))
    assert kernel.operations == 2 * 2 * 100 * 6
    assert kernel.bytes == 4 * (2 * 16 * 6 + 2 * 16 * 6)


def test_pixels_that_a_stride_steps_over_are_not_counted_as_read() -> None:
    one = Geometry(2, 8, 16, (4, 4), (2, 2), (1, 1), (2, 2))
    assert heavy(contraction.convolution(TARGET, "float32", one)).bytes == 4 * (2 * 4 * 8 + 2 * 4 * 16 + 8 * 16)
    assert heavy(contraction.input_gradient(TARGET, "float32", one)).bytes == 4 * (2 * 16 * 8 + 2 * 4 * 16 + 8 * 16)
    assert heavy(contraction.weight_gradient(TARGET, "float32", one)).bytes == 4 * (2 * 4 * 8 + 2 * 4 * 16 + 8 * 16)


@pytest.mark.parametrize(
    ("size", "tiles", "frequencies"),
    [(8, 4, 36), (10, 9, 36), (6, 9, 16)],  # of 4 x 4 pixels, of which 10 need 3 x 3; of 2 x 2, as 6 x 6 pixels are 9 of them
)
@pytest.mark.parametrize("way", ["convolution", "input_gradient", "weight_gradient"])
def test_winograds_convolution_is_counted_for_its_own_products(way: str, size: int, tiles: int, frequencies: int) -> None:
    one = Geometry(3, 32, 48, (size, size), (size, size), (3, 3), padding=((1, 1), (1, 1)))
    kernel = heavy(getattr(winograd, way)(TARGET, "float32", one))
    assert kernel.operations == 2 * frequencies * 3 * tiles * 32 * 48
    assert kernel.direct_operations == 2 * 3 * (3 * size - 2) ** 2 * 32 * 48


def test_what_a_loop_computes_once_for_a_row_is_counted_once_for_it() -> None:
    f = cr.compile(lambda x, s: x * s.exp() + 1.0)
    kernels = [
        call.kernel
        for stage in f.prepare(np.zeros((8, 1000), np.float32), np.zeros((8, 1), np.float32)).stages
        for call in stage.calls
    ]
    assert [(one.family, one.operations, one.bytes) for one in kernels] == [
        ("loops", 8 + 2 * 8_000, 4 * (8_000 + 8 + 8_000)),
    ]


# ---- what a profile makes of it

SLOW = Limits({"float32": 1e-3, "float64": 0.5e-3}, ((1_000, 1e9), (2_000, 1e9)), 1)
"""A machine of one million operations a second."""


def profile_of(dtype: str) -> ProgramProfile:
    f = cr.compile(lambda x, w: x @ w)
    f(np.zeros((20, 30), dtype), np.zeros((30, 40), dtype))
    return f.program.profile(1, SLOW)


@pytest.mark.parametrize(("dtype", "seconds"), [("float32", 0.048), ("float64", 0.096)])
def test_a_share_is_the_least_time_over_the_measured_one(dtype: str, seconds: float) -> None:
    profile = profile_of(dtype)
    (row,) = (one for one in profile.kernels if one.operations)
    assert row.operations == 2 * 20 * 30 * 40
    assert row.share * row.seconds == pytest.approx(seconds)  # 48,000 operations
    assert row.saving == 1


def test_the_table_of_a_profile_shows_shares_and_savings() -> None:
    profile = profile_of("float32")
    (row,) = (one for one in profile.kernels if one.operations)
    saving = replace(row, saving=2.25, flushed=True, seconds=0.096, share=0.5)
    lines = str(replace(profile, kernels=(saving,))).splitlines()
    assert "limits 0 Gflop/s float32, 1000000000.0 GB/s of memory, 1000000000 of the nearest cache" in lines[0]
    assert lines[1].split() == ["ms", "%", "Gflop/s", "GB/s", "share", "kernel"]
    assert lines[3].split()[4] == "0.50"
    assert lines[3].endswith(", 2.2 times fewer operations than directly, subnormal results set to zero")
    assert repr(profile) == str(profile)
    shown = replace(profile, kernels=(replace(row, origin="<b>"),))._repr_html_()
    assert "<td" in shown
    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown
