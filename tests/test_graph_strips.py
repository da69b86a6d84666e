"""A wide drawing in strips: it has the width that is asked for, nothing overlaps, and each edge still leads from box to box."""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.graph.arrangement import Edge, Layout, arrange
from chainrule.graph.strips import _TAIL, in_strips
from chainrule.lens import explain


@st.composite
def drawings(draw: st.DrawFn) -> tuple[list[tuple[float, float]], list[Edge]]:
    """Boxes in a chain of up to 25, with edges that jump over some of them."""
    count = draw(st.integers(1, 25))
    sizes = [(draw(st.integers(20, 250)), draw(st.integers(20, 90))) for _ in range(count)]
    edges = [Edge(at - 1, at, (40.0, 12.0)) for at in range(1, count) if draw(st.booleans()) or at % 3]
    for _ in range(draw(st.integers(0, 8))):
        source, target = sorted((draw(st.integers(0, count - 1)), draw(st.integers(0, count - 1))))
        if source != target:
            edges.append(Edge(source, target))
    return [(float(width), float(height)) for width, height in sizes], edges


@settings(max_examples=150, deadline=None)
@given(drawings(), st.sampled_from([300.0, 700.0, 1600.0]))
def test_every_edge_still_leads_from_its_box_to_its_box(
    drawn: tuple[list[tuple[float, float]], list[Edge]], most: float
) -> None:
    sizes, edges = drawn
    before = arrange(sizes, edges)
    layout, parts = in_strips(before, sizes, most)
    boxes = [(x, y, x + width, y + height) for (x, y), (width, height) in zip(layout.corners, sizes, strict=True)]
    for (left, top, right, bottom), (left2, top2, right2, bottom2) in combinations(boxes, 2):
        assert right <= left2 or right2 <= left or bottom <= top2 or bottom2 <= top, "boxes do not overlap"
    for left, top, right, bottom in boxes:
        assert left >= -1e-6
        assert top >= -1e-6
        assert right <= layout.width + 1e-6
        assert bottom <= layout.height + 1e-6
    for edge, route, several in zip(edges, before.routes, parts, strict=True):
        start, end = several[0][0], several[-1][-1]
        left, top, right, bottom = boxes[edge.source]
        assert start[0] == pytest.approx(right)
        assert top <= start[1] <= bottom
        left, top, right, bottom = boxes[edge.target]
        assert end[0] == pytest.approx(left)
        assert top <= end[1] <= bottom
        assert all(len(part) > 1 for part in several)
        inside = [point for part in several for point in part]
        assert len(inside) == len(route) + 2 * (len(several) - 1), "each cut adds an end and a beginning"
    if layout is before:
        assert before.width <= most or len({x for x, _ in before.corners}) == 1
    elif max(width for width, _ in sizes) < most / 3:
        assert layout.width <= most


def test_what_fits_is_left_alone() -> None:
    before = arrange([(100, 40), (100, 40)], [Edge(0, 1)])
    layout, parts = in_strips(before, [(100, 40), (100, 40)], 1600.0)
    assert layout is before
    assert parts == [[route] for route in before.routes]
    assert in_strips(Layout(0.0, 0.0, [], []), [], 10.0)[1] == []


def test_a_cut_edge_goes_on_at_the_same_height() -> None:
    """Four boxes in a row, two of them to a strip; an edge from the first to the last passes both strips."""
    sizes = [(200.0, 40.0)] * 4
    edges = [Edge(0, 1), Edge(1, 2), Edge(2, 3), Edge(0, 3)]
    before = arrange(sizes, edges)
    layout, parts = in_strips(before, sizes, 600.0)
    assert len({y for _, y in layout.corners}) >= 2
    (first, second) = parts[1]
    assert first[-1][0] == pytest.approx(layout.corners[1][0] + 200 + _TAIL)
    assert second[0][0] == pytest.approx(_TAIL)
    below = layout.corners[2][1] - before.corners[2][1]
    assert second[0][1] - below == pytest.approx(first[-1][1] - (layout.corners[1][1] - before.corners[1][1]))


def test_lenet_is_drawn_in_strips_and_a_small_graph_in_one_line() -> None:
    model = cr.models.build("lenet", 1, 10, (28, 28))
    loss = nn.functional.cross_entropy(model(np.zeros((2, 1, 28, 28), np.float32)), np.array([1, 2]))
    (width,) = re.findall(r'<svg [^>]*width="(\d+)"', explain(loss).svg())
    assert int(width) <= 1640
    small = explain((cr.tensor([1.0, 2.0], requires_grad=True) * 3).sum()).svg()
    assert not re.search(r'<path d="M[^"]*M', small)
