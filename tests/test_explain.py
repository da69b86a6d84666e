"""``explain``: every factor of the chain rule of one computation; and the expressions that people type."""

from __future__ import annotations

import inspect
import json
import math
import re
import string
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.errors import UserError
from chainrule.grad import LocalKind
from chainrule.lens import Explanation, explain, explain_expression, parse_expression, parse_values
from chainrule.lens.expression import FUNCTIONS

LECTURE = "(w @ x - y)**2"
ASSIGNED = ["w=[1,2]", "x=[3,4]", "y=5"]


def of(text: str, *assignments: str) -> Explanation:
    return explain_expression(text, assignments)[0]


def drawn(svg: str) -> list[str]:
    """The texts of a drawing, which must be well-formed XML."""
    return ["".join(one.itertext()) for one in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def small_network() -> tuple[nn.Module, cr.Tensor]:
    cr.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 3 * 3, 5)
    )
    images = cr.tensor(np.random.default_rng(0).normal(size=(3, 1, 6, 6)).astype("float32"))
    return model, nn.functional.cross_entropy(model(images), cr.tensor([0, 4, 2]))


# ---- the lecture's example


def test_the_lectures_table_to_the_letter() -> None:
    assert str(of(LECTURE, *ASSIGNED)) == (
        "node  formula  role         value   upstream  local gradient        downstream\n"
        "----  -------  -----------  ------  --------  --------------------  ----------\n"
        "w     input    leaf         [1, 2]  [36, 48]\n"
        "x     input    leaf         [3, 4]  [12, 24]\n"
        "h1    w @ x    switcher     11      12        dh1/dw = x = [3, 4]   [36, 48]\n"
        "                                              dh1/dx = w = [1, 2]   [12, 24]\n"
        "y     input    leaf         5       -12\n"
        "h2    h1 - y   distributor  6       12        dh2/dh1 = 1           12\n"
        "                                              dh2/dy = -1           -12\n"
        "e     h2 ** 2  scaler       36      1         de/dh2 = 2 * h2 = 12  12"
    )


def test_the_lectures_step_to_the_letter() -> None:
    explanation, notes = explain_expression(LECTURE, ASSIGNED, step=0.1)
    assert notes == [
        "w <- w - 0.1 * de/dw = [1, 2] - 0.1 * [36, 48] = [-2.6, -2.8]",
        "x <- x - 0.1 * de/dx = [3, 4] - 0.1 * [12, 24] = [1.8, 1.6]",
        "y <- y - 0.1 * de/dy = 5 - 0.1 * (-12) = 6.2",
    ]
    old, gradient, new = explanation.step(0.1)["w"]
    assert old.tolist() == [1, 2]
    assert gradient.tolist() == [36, 48]
    np.testing.assert_allclose(new, [-2.6, -2.8], rtol=1e-15)


@pytest.mark.parametrize(
    ("text", "assignments", "step"),
    [
        ("a**2", ["a=3"], "a <- a - (-0.1) * de/da = 3 - (-0.1) * 6 = 3.6"),
        ("a**2", ["a=-3"], "a <- a - (-0.1) * de/da = -3 - (-0.1) * (-6) = -3.6"),
        ("-sum(a)", ["a=[-1,2]"], "a <- a - (-0.1) * de/da = [-1, 2] - (-0.1) * [-1, -1] = [-1.1, 1.9]"),
        (
            "sum(a * a)",
            ["a=[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]"],
            "a <- a - (-0.1) * de/da: [17], 1 to 17, mean |.| 9 before, [17], 1.2 to 20.4, mean |.| 10.8 after",
        ),
    ],
)
def test_a_step_with_negative_numbers(text: str, assignments: list[str], step: str) -> None:
    assert explain_expression(text, assignments, step=-0.1)[1] == [step]


@pytest.mark.parametrize(
    ("text", "formulas", "local"),
    [
        ("a * -3", ["a * (-3)"], ["-3"]),
        ("-3 * a", ["(-3) * a"], ["-3"]),
        ("a - -3", ["a - (-3)"], ["1"]),
        ("2 - -a", ["-a", "2 - h1"], ["-1", "-1"]),
        ("--a", ["-a", "-h1"], ["-1", "-1"]),
        ("a**-2", ["a ** (-2)"], ["-2 * a^(-3)"]),
        ("-a**2", ["a ** 2", "-h1"], ["2 * a", "-1"]),
        ("-2 / a", ["(-2) / a"], ["-(-2) / a^2"]),
        ("a / -4", ["a / (-4)"], ["1 / (-4)"]),
        ("max(a, -1)", ["maximum(a, -1)"], ["1 where a >= (-1), else 0"]),
    ],
)
def test_negative_numbers_in_formulas_stand_in_parentheses(text: str, formulas: list[str], local: list[str]) -> None:
    rows = of(text, "a=3").rows
    assert [row.formula for row in rows[1:]] == formulas
    assert [edge.formula for row in rows for edge in row.edges] == local


def test_the_lectures_numbers_one_by_one() -> None:
    explanation = of(LECTURE, *ASSIGNED)
    assert [row.name for row in explanation.rows] == ["w", "x", "h1", "y", "h2", "e"]
    assert explanation.error == 36
    h1 = explanation["h1"]
    assert h1.value == 11
    assert h1.upstream == 12
    assert h1.edge("w").local.tolist() == [3, 4]
    assert h1.edge("w").kind is LocalKind.DENSE
    assert h1.edge("w").downstream.tolist() == [36, 48]
    assert explanation.gradients["w"].tolist() == [36, 48]
    assert repr(explanation) == "<Explanation of e = 36: 6 nodes, 3 gradients>"


def test_the_lectures_picture() -> None:
    texts = drawn(of(LECTURE, *ASSIGNED).svg(title="e = " + LECTURE))
    for line in ("e = (w @ x - y)**2", "h1 = 11", "de/dh1 = 12", "h2 = 6", "e = 36", "de/de = 1", "w = [1, 2]"):
        assert line in texts
    assert texts.count("[36, 48]") == 1  # on the edge back to w
    assert texts.count("12") == 2
    assert "downstream gradient" in texts  # the legend


def test_cells_are_the_table_for_another_printer() -> None:
    header, lines = of(LECTURE, *ASSIGNED).cells()
    assert header == ["node", "formula", "role", "value", "upstream", "local gradient", "downstream"]
    assert lines[2] == ["h1", "w @ x", "switcher", "11", "12", "dh1/dw = x = [3, 4]", "[36, 48]"]
    assert lines[3] == ["", "", "", "", "", "dh1/dx = w = [1, 2]", "[12, 24]"]


def test_a_name_that_is_not_used_is_a_note() -> None:
    _, notes = explain_expression("w * w", ["w=3", "unused=1"])
    assert notes == ["note: unused is given, but the expression does not use it"]


# ---- what a table tells


def test_where_a_value_fans_out_the_summands_are_shown() -> None:
    explanation = of("w*w + max(0, w) * 2 + exp(w/4)", "w=4")
    lines = str(explanation).splitlines()
    assert lines[2].split("  ")[-1] == "10.6796 = 4 + 4 + 2 + 0.67957"
    assert [one.name for one in explanation["w"].summands] == ["h1", "h1", "h2", "h5"]
    assert "dh2/dw = 1 where w > 0, else 0: 1" in str(explanation)
    assert "dh5/dw = 1 / 4 = 0.25" in str(explanation)


def test_numbers_stand_in_the_formulas_and_have_no_row() -> None:
    explanation = of("mean((2 * w - 1)**3) / -4", "w=[1,2]")
    assert [row.formula for row in explanation.rows] == [
        "", "2 * w", "h1 - 1", "h2 ** 3", "sum(h3)", "0.5 * h4", "h5 / (-4)"
    ]  # fmt: skip
    assert [edge.formula for row in explanation.rows for edge in row.edges] == [
        "2", "1", "3 * h2^2", "1", "0.5", "1 / (-4)"
    ]  # fmt: skip


def test_values_that_are_not_finite_are_explained() -> None:
    explanation = of("log(relu(w @ x))", "w=[1,-1]", "x=[1,2]")
    assert str(explanation).splitlines()[-3:] == [
        "note: e = log(h2) = -inf is the first value that is not finite; there, h2 = 0",
        "note: going backwards, the gradient for h2 at e = log(h2) is the first that is not finite: "
        "upstream 1, local gradient inf, downstream inf",
        "note: the gradient ends at h2 = maximum(0, h1): its local gradient for h1 is 0",
    ]
    assert explanation["e"].value == -math.inf
    assert "dh2/dh1 = 1 where h1 > 0, else 0: 0" in str(explanation)


def test_a_nan_that_was_passed_in_is_named() -> None:
    explanation = of("sum(w * x)", "w=[1,nan]", "x=[2,inf]")
    assert explanation.notes[0] == "w = [1, nan] is not finite: it was passed in"
    assert "w     input    leaf         [1, nan]  [2, inf]" in str(explanation)


def test_a_sum_of_gradients_that_overflows_is_named() -> None:
    assert of("1e308 * w + 1e308 * w", "w=0").notes == [
        "going backwards, the gradient for w is the first that is not finite: inf = 1e+308 + 1e+308"
    ]


def test_plain_data_is_json_even_with_nan() -> None:
    data = of("log(w) + w**400", "w=0").to_json()
    text = json.dumps(data, allow_nan=False)
    again = json.loads(text)
    assert again["error"]["numbers"] is None
    assert again["error"]["inf"] == 1
    log = next(node for node in again["nodes"] if node["operation"] == "log")
    assert log["formula"] == "log(w)"
    assert log["inputs"] == [0]
    assert log["edges"][0]["kind"] == "diagonal"
    assert log["edges"][0]["formula"] == "1 / w"
    assert log["edges"][0]["local"]["inf"] == 1
    assert [one["from"] for one in again["nodes"][0]["summands"]] == [log["name"], "h2"]


def test_names_do_not_collide_with_those_given() -> None:
    explanation = of("e * h1 + h1 * 2", "e=2", "h1=3")
    names = [row.name for row in explanation.rows]
    assert len(set(names)) == len(names)
    assert explanation.gradients["h1"] == 4
    assert explanation.step_lines(1)[0] == f"e <- e - 1 * d{names[-1]}/de = 2 - 1 * 3 = -1"


# ---- any loss: real networks


def test_every_edge_is_upstream_times_local() -> None:
    _, loss = small_network()
    explanation, checked = explain(loss), 0
    for row in explanation.rows:
        for edge in row.edges:
            local = edge.local
            if local is None:
                continue
            if edge.elementwise:
                found = row.upstream * local
            else:
                axes = row.node.ndim if local.ndim == row.node.ndim + edge.input.ndim else 0
                found = np.tensordot(row.upstream, local, axes) if axes else row.upstream.reshape(()) * local
            np.testing.assert_allclose(found, edge.downstream, rtol=1e-5, atol=1e-7, err_msg=f"{row.formula} for {edge.name}")
            checked += 1
    assert checked > 25


def test_upstream_is_the_sum_of_what_comes_back() -> None:
    _, loss = small_network()
    for row in explain(loss).rows[:-1]:
        if row.summands:
            total = np.sum([one.gradient for one in row.summands], axis=0)
            np.testing.assert_allclose(total, row.upstream, rtol=1e-5, atol=1e-7)


def test_gradients_are_those_of_backward() -> None:
    model, loss = small_network()
    explanation = explain(loss)
    assert set(explanation.gradients) == {name for name, _ in model.named_parameters()}
    loss.backward()
    for name, parameter in model.named_parameters():
        assert explanation.gradients[name].tobytes() == parameter.grad.numpy().tobytes()


def test_looking_changes_nothing() -> None:
    model, loss = small_network()
    state = {name: value.tobytes() for name, value in model.state_dict().items()}
    values = [node.value.tobytes() for node in loss.graph]
    explanation = explain(loss)
    _ = str(explanation), explanation.svg(), explanation.to_json(), explanation.step(0.1), explanation.notes
    assert all(parameter.grad is None for parameter in model.parameters())
    assert {name: value.tobytes() for name, value in model.state_dict().items()} == state
    assert [node.value.tobytes() for node in loss.graph] == values
    with pytest.raises(ValueError, match="read-only"):
        explanation.rows[0].value[...] = 0


def test_the_random_numbers_are_the_same_with_and_without_looking() -> None:
    def draws(look: bool) -> list[float]:
        cr.manual_seed(3)
        w = cr.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
        loss = nn.functional.dropout(w, 0.5).sum()
        if look:
            _ = str(explain(loss))
        return [loss.item(), *nn.functional.dropout(w, 0.5).tolist()]

    assert draws(True) == draws(False)


def test_rows_of_a_network_name_layer_and_line() -> None:
    line = inspect.currentframe().f_lineno + 1
    w = cr.tensor([[1.0, 2.0]], requires_grad=True) * 3
    assert explain(w.sum())["h1"].line == f"test_explain.py:{line}"
    explanation = explain(small_network()[1])
    conv = next(row for row in explanation.rows if row.operation == "conv2d")
    assert conv.module == "0"
    assert re.fullmatch(r"conv2d\(c\d, 0.weight\)", conv.formula)
    assert conv.edges[0].local is None  # 432 outputs times 36 weights: rows only
    assert conv.edges[0].row((0, 1, 2, 2)).shape == (4, 1, 3, 3)
    header, lines = explanation.cells()
    assert header[-1] == "layer"
    assert next(one for one in lines if one[0] == conv.name)[-1] == "0"


def test_large_values_are_described() -> None:
    explanation = explain((cr.tensor(np.linspace(-1, 1, 101), requires_grad=True) + 0.0).sum())
    assert "[101], -1 to 1, mean |.| 0.505, 0.99% zeros" in str(explanation)
    relu = explain(nn.functional.relu(cr.tensor(np.linspace(-1, 1, 101), requires_grad=True)).sum())
    assert "dh1/dx1 = 1 where x1 > 0, else 0 (diagonal)  mean |.| 0.495, 50.5% zeros" in str(relu)
    with_nan = np.ones(20)
    with_nan[:3], with_nan[3] = np.nan, -np.inf
    assert "[20], 1 to 1, mean |.| 1, 3 nan, 1 inf" in str(explain(cr.tensor(with_nan, requires_grad=True).sum()))


def test_a_large_network_is_drawn_by_its_layers() -> None:
    cr.manual_seed(0)
    model = nn.Sequential(*(layer for _ in range(12) for layer in (nn.Linear(2, 2), nn.ReLU())))
    explanation = explain(model(cr.tensor([[1.0, 2.0]])).sum())
    texts = drawn(explanation.svg())
    assert {f"{layer} {('Linear', 'ReLU')[layer % 2]}" for layer in range(24)} <= set(texts)
    assert len(texts) < len(drawn(explanation.svg(detail="node")))
    assert explanation._repr_svg_() == explanation.svg()


def test_a_graph_too_large_to_draw_still_shows_in_a_notebook() -> None:
    x = start = cr.tensor(1.0, requires_grad=True)
    for _ in range(2100):
        x = x * 1.0
    explanation = explain(x)
    assert explanation._repr_svg_() is None
    assert explanation.gradients[explanation.rows[0].name] == 1
    assert start.grad is None


def test_wanted_narrows_what_is_shown() -> None:
    w, x = (cr.tensor(value, requires_grad=True) for value in (2.0, 3.0))
    explanation = explain(w * x, wanted=[x])
    assert list(explanation.gradients.values()) == [2]
    assert [edge.name for edge in explanation["e"].edges] == [explanation.rows[1].name]
    middle = w * w
    inner = explain(middle * x, wanted=[middle])
    assert list(inner.gradients.values()) == [3]
    assert inner.step(0.1) == {}  # it is no leaf


def test_bfloat16_and_shared_labels() -> None:
    w = cr.tensor([1.0, 2.0], dtype="bfloat16", requires_grad=True)
    assert "[1, 2]" in str(explain((w * w).sum()))
    twice = [nn.Linear(1, 1), nn.Linear(1, 1)]
    out = twice[1](twice[0](cr.tensor([[2.0]])))
    assert len(explain(out.sum()).gradients) == 4


def test_what_cannot_be_explained_says_so() -> None:
    w = cr.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(UserError) as error:
        explain(w * 2)
    assert str(error.value) == (
        "explain: starts at the error, one float number, but this is float32[2]: reduce it first with sum(...), "
        "mean(...) or a loss"
    )
    with cr.no_grad():
        loss = w.sum()
    with pytest.raises(UserError, match=r"depends on nothing that asks for a gradient: was it computed under no_grad\(\)"):
        explain(loss)
    with pytest.raises(UserError, match=r"starts at the error, one float number, but this is int64\[\]"):
        explain(w.argmax())
    with pytest.raises(UserError, match="a traced function has none yet"):
        cr.trace(lambda x: (explain(x.sum()), x)[1], w)
    with pytest.raises(UserError, match=r"does not depend on wanted\[0\], float32\[2\]"):
        explain(w.sum(), wanted=[w * 1])
    constant = cr.tensor(2.0)
    with pytest.raises(UserError, match=r"wanted\[0\], float32\[\], asks for no gradient"):
        explain((w * constant).sum(), wanted=[constant])
    with pytest.raises(UserError, match="learning rate must be a finite number, got nan"):
        explain(w.sum()).step(math.nan)
    with pytest.raises(UserError, match="unknown node 'h9': Known: "):
        explain((w * 2).sum())["h9"]


def test_a_parameter_that_was_assigned_since_says_so() -> None:
    model = nn.Linear(2, 1)
    loss = model(cr.tensor([[1.0, 2.0]])).sum()
    model.weight.assign(model.weight.numpy() * 2)
    with pytest.raises(
        UserError, match=r"wanted\[0\] 'weight', float32\[1, 2\]: if a step of an optimizer has assigned it since"
    ):
        explain(loss, wanted=[model.weight])
    assert "weight" in explain(loss).gradients  # as it was when the loss was computed


# ---- what people type


def shown(text: str, *assignments: str) -> str:
    with pytest.raises(UserError) as error:
        explain_expression(text, assignments)
    return str(error.value)


def test_an_unknown_name_is_pointed_at() -> None:
    assert shown("(w @ x - weigth)**2", "w=[1,2]", "x=[3,4]", "weight=5") == (
        "expression, column 10: unknown name 'weigth': did you mean 'weight'? Given: w, x, weight\n"
        "  (w @ x - weigth)**2\n"
        "           ^"
    )
    assert shown("2 * w") == (
        "expression, column 5: unknown name 'w': give it a value, such as w=1. Given: no name\n  2 * w\n      ^"
    )


def test_an_unknown_function_is_pointed_at() -> None:
    assert shown("2 * sigmoit(w)", "w=1") == (
        "expression, column 5: unknown function 'sigmoit': did you mean 'sigmoid'? Known: exp, log, sqrt, tanh, sigmoid, relu, "
        "abs, sin, cos, erf, sum, mean, max, min, softmax, maximum, minimum\n"
        "  2 * sigmoit(w)\n"
        "      ^"
    )


def test_shapes_that_do_not_fit_point_at_the_operator() -> None:
    assert shown("sum((w) @ (x))", "w=[1,2]", "x=[1,2,3]") == (
        "expression, column 9: matmul: the last axis of float64[2] has 2 elements, the matching axis of float64[3] has 3: "
        "transpose or reshape one of them\n"
        "  sum((w) @ (x))\n"
        "          ^"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("w ^ 2", "column 3: ^ is not a power here: write **"),
        ("w // 2", "column 3: this operator is not known here: known are + - * / ** @"),
        ("w.sum()", "column 1: a name after a dot is not known here: write sum(x) for x.sum()"),
        ("w < 2", "column 1: a comparison has no gradient: choose with maximum(a, b)"),
        ("w and w", "column 1: and, or, not have no gradient"),
        ("w if w else w", "column 1: if and else are not known here"),
        ("[1,2] @ w", "column 1: a list has no place here: give it a name, such as 'c=[1,2]', and write c"),
        ("w, w", "column 1: a comma has no place here"),
        ("(lambda: 1)()", "column 2: this is no function: write * for a product"),
        ("w(2)", "column 1: w is a value, not a function: write * for a product"),
        ("'a' * w", "column 1: this is no number"),
        ("True * w", "column 1: this is no number"),
        ("w * 1j", "column 5: this is no number"),
        ("sum(*w)", "column 5: a * before an argument is not known here"),
        ("sum(w, w)", "column 1: sum takes 1 argument (and axis=, a whole number), got 2"),
        ("maximum(w)", "column 1: maximum takes 2 arguments, got 1"),
        ("exp(w, axis=0)", "column 13: exp takes nothing by name"),
        ("sum(w, axes=0)", "column 13: sum takes only axis= by name"),
        ("sum(w, axis=w)", "column 13: an index or axis is a whole number"),
        ("sum(w, axis=1)", "column 1: sum: axis 1 is outside a tensor with 1 axes: give -1 to 0"),
        ("w[2]", "column 1: index 2 is outside axis 0 of float64[2], which has 2 elements"),
        ("w[0.5]", "column 3: an index or axis is a whole number"),
        ("w[::0]", "column 3: a slice cannot have step 0"),
        (
            "(0 - w)**w",
            "column 8: a ** b with a name in b has a gradient for b, which is a ** b ln a, only where a >= 0, "
            "but a is [-1.0, -2.0]",
        ),
        ("(w - 1", "column 1: '(' was never closed: write it as in Python, with * for each product"),
        ("w = 1", "invalid syntax"),
        ("9" * 400, "column 1: the number does not fit float64, whose largest is about 1.8e308"),
        ("", "expression: is empty"),
        (" \n\t", "expression: is empty"),
        ("\ud800", "expression: '\\ud800' contains characters that cannot be read"),
        ("(" * 10_000 + "w" + ")" * 10_000, "too many nested parentheses"),
        ("-" * 50_000 + "w", "nested"),
        ("w**" * 20_000 + "w", "nested"),
        ("w", "starts at the error, one float number, but this is float64[2]: reduce it first with sum(...)"),
        ("1 + 2", "the error depends on nothing that asks for a gradient"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    assert message in shown(text, "w=[1,2]")


def test_the_place_in_a_long_or_foreign_text() -> None:
    column, _, caret = shown("ä_ß * w + " + "w + " * 100 + "q", "w=1", "ä_ß=2").split("\n")
    assert column.startswith("expression, column 411: unknown name 'q'")
    assert caret == " " * 63 + "^"  # the mark of what is left out, and 60 characters before
    assert shown("ä_ß * q", "ä_ß=2").endswith("  ä_ß * q\n        ^")


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["w"], "'w' is not of the form name=value, such as y=5, or in quotes 'w=[1, 2]'"),
        (["2]"], "'2]' is not of the form name=value"),
        (["2=w"], "'2=w' is not of the form name=value"),
        (["w=1", "w=[2]"], "w is given twice, 'w=1' and 'w=[2]': leave one out"),
        (["exp=1"], "'exp=1': exp is a function: choose another name"),
        (["lambda=1"], "'lambda=1': lambda is a word of Python: choose another name"),
        (["w="], "value of w: is empty"),
        (["w=[1,"], "value of w: '[1,' has no closing bracket: write all of it in quotes, such as 'w=[1, 2]'"),
        (["w=[1,[2]]"], "value of w, column 1: the rows of the list must have equal lengths"),
        (["w=[1,x]"], "value of w, column 4: a value is a number or a list of numbers, such as 5, -0.1 or [[1,2],[3,4]]"),
        (["w=True"], "value of w, column 1: a value is a number"),
        (["w='a'"], "value of w, column 1: a value is a number"),
        (["w=" + "[" * 9 + "1" + "]" * 9], "value of w, column 9: lists are nested deeper than 8 levels"),
        (["w=" + "[" * 9000 + "]" * 9000], "value of w, column 201: too many nested parentheses"),
        (["w=" + "9" * 400], "value of w, column 1: the number does not fit float64"),
    ],
)
def test_values_that_are_refused(assignments: list[str], message: str) -> None:
    with pytest.raises(UserError) as error:
        parse_values(assignments)
    assert message in str(error.value)
    assert len(str(error.value)) < 600


def test_values_are_labelled_float64_that_ask_for_gradients() -> None:
    values = parse_values(["w=[[1,2],[3,4]]", " y = -5 ", "z=[inf,-nan]", "t=(1,+2)", "empty=[]"])
    assert [(name, value.node.label, str(value.node.type)) for name, value in values.items()] == [
        ("w", "w", "float64[2, 2]"),
        ("y", "y", "float64[]"),
        ("z", "z", "float64[2]"),
        ("t", "t", "float64[2]"),
        ("empty", "empty", "float64[0]"),
    ]
    assert all(value.requires_grad for value in values.values())
    assert values["z"].numpy()[0] == math.inf
    (values["y"] * 3).backward()
    assert values["y"].grad.item() == 3


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2**-3**2", 2.0**-9),
        ("-y**2", -25.0),
        ("w[0] + w[-1]", 3.0),
        ("sum(A[0, 1:] * A[:, 1][0])", 4.0),
        ("max(0, y) + min(y, 2) + max(w) + min(A)", 10.0),
        ("maximum(y, 1) - minimum(y, 1)", 4.0),
        ("sum(sum(A, axis=0) * mean(A, axis=-1))", 4 * 1.5 + 6 * 3.5),
        ("max(softmax(0 * w))", 0.5),
        ("y**w[1]", 25.0),
        ("relu(-y) + abs(-y) + sqrt(y * y)", 10.0),
        ("exp(1e3 * y)", math.inf),
        ("y**1e300", math.inf),
        ("1e999 * y", math.inf),
        ("y**-1e300", 0.0),
    ],
)
def test_values_of_expressions(text: str, value: float) -> None:
    values = parse_values(["w=[1,2]", "A=[[1,2],[3,4]]", "y=5"])
    assert parse_expression(text, values).item() == pytest.approx(value, rel=1e-12)


# ---- whatever people type


_words = st.sampled_from([*FUNCTIONS, *"wxyq", "axis=", "lambda", "if", "0", "1", "2.5", "1e309", "-1", "'a'"])
_signs = st.sampled_from([*"+-*/@^%~<>=!&|()[]{},.:;_ \n\t#'\"\\`$", "**", "//", ":="])
_typed = st.lists(st.one_of(_words, _signs), max_size=14).map("".join)
_any_text = st.one_of(_typed, st.text(max_size=40), st.text(string.printable, max_size=40))


@settings(max_examples=400, deadline=None)
@given(_any_text)
def test_any_text_gives_a_tensor_or_a_user_error(text: str) -> None:
    values = parse_values(["w=[1,2]", "x=[3,0]", "y=5"])
    try:
        found: object = parse_expression(text, values)
    except UserError as error:
        found = error
    assert isinstance(found, cr.Tensor) or "expression" in str(found)


@settings(max_examples=200, deadline=None)
@given(_any_text)
def test_any_value_gives_a_tensor_or_a_user_error(text: str) -> None:
    try:
        found: object = parse_values(["w=" + text])["w"]
    except UserError as error:
        found = error
    assert isinstance(found, cr.Tensor) or "value of w" in str(found)


_numbers = st.floats(-3, 3).map(lambda number: f"{number:.3f}")
_arithmetic = st.recursive(
    st.one_of(st.sampled_from("abc"), _numbers),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/"]), inner).map(lambda parts: f"({' '.join(parts)})"),
        st.tuples(st.sampled_from("+-"), inner).map(lambda parts: f"{parts[0]}{parts[1]}"),
        inner.map(lambda one: f"({one})**2"),
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(_arithmetic, st.tuples(*[st.floats(-3, 3)] * 3))
def test_arithmetic_is_pythons(text: str, point: tuple[float, float, float]) -> None:
    names = dict(zip("abc", point, strict=True))
    try:
        expected = eval(text, {"__builtins__": {}}, names)
    except (ZeroDivisionError, OverflowError):
        return
    values = parse_values([f"{name}={number!r}" for name, number in names.items()])
    assert parse_expression(text, values).item() == pytest.approx(expected, rel=1e-9, nan_ok=True)


_smooth = st.recursive(
    st.one_of(st.sampled_from("abc"), _numbers),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*"]), inner).map(lambda parts: f"({' '.join(parts)})"),
        st.tuples(st.sampled_from(["sin", "tanh", "sigmoid", "relu", "erf", "abs"]), inner).map(
            lambda parts: f"{parts[0]}({parts[1]})"
        ),
        inner.map(lambda one: f"tanh({one})**3"),
        inner.map(lambda one: f"1 / (1 + exp(-{one}))"),
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_smooth, st.tuples(*[st.floats(-2, 2)] * 3))
def test_gradients_of_any_expression_are_right(text: str, point: tuple[float, float, float]) -> None:
    arrays = [np.array(number) for number in point]
    assert cr.gradcheck(lambda *values: parse_expression(text, dict(zip("abc", values, strict=True))), *arrays)


# ---- by layer


class _Shared(nn.Module):
    """Blocks with a layer that is called twice, enough of them for more than 60 nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(_Block() for _ in range(3)))
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Any) -> Any:
        return self.fc(self.blocks(x).mean((2, 3)))


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()

    def forward(self, x: Any) -> Any:
        return self.relu(self.norm(self.conv(self.relu(x))) + x)


def shared() -> tuple[nn.Module, Explanation]:
    cr.manual_seed(1)
    model = _Shared().train()
    images = np.random.default_rng(0).normal(size=(2, 4, 5, 5)).astype(np.float32)
    return model, explain(nn.functional.cross_entropy(model(images), np.array([0, 2])))


def test_many_nodes_print_by_layer_and_few_node_by_node() -> None:
    model, explanation = shared()
    assert len(explanation.graph) > 60
    text = str(explanation)
    assert text == explanation.by_layer()
    lines = text.splitlines()
    assert lines[0].startswith(f"{len(explanation.rows)} nodes by layer: explanation.layer(NAME) unfolds a layer")
    assert lines[1].split() == ["layer", "kind", "nodes", "shape", "|value|", "|upstream|", "|gradients|", "of", "parameters"]
    (line,) = (line for line in lines if line.startswith("blocks.1.conv "))
    weight, bias = (explanation[f"blocks.1.conv.{name}"].upstream for name in ("weight", "bias"))
    row = explanation.layer("blocks.1.conv").leaving[0]
    assert line.split()[1:4] == ["Conv2d", "5", "2x4x5x5"]
    sizes = [float(np.abs(array).mean()) for array in (row.value, row.upstream, weight, bias) if array is not None]
    assert [float(word.strip(",")) for word in line.split()[4:] if word[0].isdigit()] == pytest.approx(
        sizes, rel=6e-3, abs=1e-12
    )
    assert "blocks.1.relu #1" in text
    assert "blocks.1.relu #2" in text
    assert lines[-2].split() == ["cross_entropy", "function", "6", "a", "number", f"{explanation.error:.3g}", "1"]
    assert [row.node for row in explanation.layer("cross_entropy").rows][-1] is explanation.rows[-1].node
    few = explain((cr.tensor([1.0, 2.0], requires_grad=True) * 3).sum())
    assert str(few) == few.table()
    assert "e " in few.by_layer()
    assert model is not None


def test_each_node_is_in_one_layer_and_a_layer_unfolds() -> None:
    _, explanation = shared()
    rows = [row for layer in explanation.layers for row in layer.rows]
    assert sorted(row.index for row in rows) == [row.index for row in explanation.rows]
    assert all(layer.leaving for layer in explanation.layers)
    part = explanation.layer("blocks.1")
    inside = [layer for layer in explanation.layers if layer.path.split(" ")[0].startswith("blocks.1.")]
    assert len(inside) == 4
    assert {row.name for layer in inside for row in layer.rows} <= {row.name for row in explanation.layer("blocks").rows}
    assert part.rows
    norm = explanation.layer("blocks.2.norm")
    assert str(norm).splitlines()[0].split()[:2] == ["node", "formula"]
    assert "blocks.2.norm.weight" in str(norm)
    assert all(len(line) <= 60 for line in norm.table(60).splitlines())
    assert repr(norm) == f"<LayerRows blocks.2.norm: {len(norm.rows)} nodes>"
    assert all(len(line) <= 70 for line in explanation.by_layer(70).splitlines())


def test_a_layer_that_is_not_there_is_named_with_those_that_are_near() -> None:
    _, explanation = shared()
    with pytest.raises(UserError, match=r"unknown layer 'blocks\.1\.con': did you mean 'blocks\.1\.conv'\? Known: "):
        explanation.layer("blocks.1.con")


def test_what_is_not_finite_is_counted_by_layer() -> None:
    w = cr.tensor([1.0, 0.0, -1.0], requires_grad=True)
    line = next(line for line in explain(cr.log(w).sum()).by_layer().splitlines() if line.startswith("h1"))
    assert "2 not finite" in line
