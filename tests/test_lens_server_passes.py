"""What the lens's server answers about passes: each number against the arrays that Python has."""

from __future__ import annotations

import base64
import io
import tracemalloc
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from PIL import Image

from chainrule.data import mnist
from chainrule.lens.server import passes
from chainrule.lens.server.payloads import Summaries, summary
from chainrule.lens.tracing import Pass, Tracer, windows
from chainrule.lens.tracing.filters import filters
from chainrule.lens.tracing.paths import paths
from chainrule.lens.tracing.receptive_field import receptive_field
from chainrule.lens.tracing.what_if import WeightEdit, what_if
from chainrule.train import shipped_model
from lens_server import Lens

CONV = 20  # the node of the second convolution of the LeNet that ships


@pytest.fixture(scope="module")
def tracer() -> Tracer:
    return Tracer(shipped_model())


@pytest.fixture(scope="module")
def found(tracer: Tracer) -> Pass:
    return tracer.trace(*mnist("test")[3])


@pytest.fixture
def path(shipped_lens: Lens) -> str:
    """The path of a pass of test image 3."""
    answer = shipped_lens.post("/api/trace", {"index": 3})
    assert answer.status == 200, answer.body
    return f"/api/trace/{answer.json['trace']}"


def close(ours: Any, theirs: Any) -> None:
    """Equal as JSON has numbers: of float32 the same, of sums nearly."""
    np.testing.assert_allclose(np.array(ours, dtype=float), np.array(theirs, dtype=float), rtol=1e-6, atol=1e-12)


def test_a_pass_of_a_test_image(shipped_lens: Lens, found: Pass) -> None:
    answer = shipped_lens.post("/api/trace", {"index": 3}).json
    assert (answer["label"], answer["labelled"], answer["loss"], answer["notes"]) == (0, True, found.loss, [])
    close(answer["probabilities"], found.probabilities)
    other = shipped_lens.post("/api/trace", {"index": 3, "label": 5}).json
    assert (other["label"], other["labelled"]) == (5, True)
    assert other["loss"] > answer["loss"]
    image = shipped_lens.ask(f"/api/trace/{answer['trace']}/image")
    np.testing.assert_array_equal(image.tensor, mnist("test")[3][0].astype(np.float32) / 255)


def test_a_pass_of_a_file_of_somebodys_own(shipped_lens: Lens, tracer: Tracer) -> None:
    pixels = np.zeros((56, 84, 3), np.uint8)
    pixels[10:40, 30:50] = 200, 255, 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    content = base64.b64encode(file.getvalue()).decode()
    answer = shipped_lens.post("/api/trace", {"file": content, "name": "a stroke.png"}).json
    assert answer["notes"] == ["resized from 84 x 56 to 28 x 28 pixels", "made grey, as the network takes a single channel"]
    assert answer["labelled"] is False
    assert answer["label"] == int(np.argmax(answer["probabilities"]))
    inverted = shipped_lens.post("/api/trace", {"file": content, "name": "a stroke.png", "invert": True}).json
    assert inverted["notes"][-1] == "inverted: light is dark and dark is light"
    ours, theirs = (shipped_lens.tensor(f"/api/trace/{one['trace']}/image") for one in (answer, inverted))
    np.testing.assert_allclose(ours + theirs, np.ones((1, 28, 28)), atol=1e-6)


def test_a_pass_of_pixels(shipped_lens: Lens, tracer: Tracer) -> None:
    pixels = np.random.default_rng(0).random((1, 28, 28)).astype(np.float32)
    answer = shipped_lens.post("/api/trace", {"pixels": pixels.tolist(), "label": 4}).json
    assert answer["loss"] == tracer.trace(pixels, 4).loss


def test_steps_have_the_numbers_of_every_node(shipped_lens: Lens, found: Pass, path: str) -> None:
    steps = shipped_lens.get(f"{path}/steps")["steps"]
    assert [step["node"] for step in steps] == [row.index for row in found.steps()]
    for step, row in zip(steps, found.steps(), strict=True):
        assert row.upstream is not None
        for said, array in ((step["value"], row.value), (step["upstream"], row.upstream)):
            assert (said["shape"], said["size"], said["nonfinite"]) == (list(array.shape), array.size, 0)
            wide = array.astype(np.float64)
            close([said[key] for key in ("min", "max", "mean", "norm", "zeros")],
                  [wide.min(), wide.max(), wide.mean(), np.linalg.norm(wide), (wide == 0).mean()])  # fmt: skip
            if array.size <= 16:
                close(said["numbers"], wide.ravel())
        assert [edge["position"] for edge in step["edges"]] == [edge.position for edge in row.edges]
        for said, edge in zip(step["edges"], row.edges, strict=True):
            assert (said["kind"], said["formula"]) == (edge.kind.value, edge.formula)
            assert said["input"] == found.graph.index[edge.input]
            close(said["downstream"]["norm"], np.linalg.norm(edge.downstream.astype(np.float64)))
        if step["node"] != len(found.graph) - 1:
            close(sum(one["upstream"]["mean"] for one in step["summands"]), row.upstream.astype(np.float64).mean())
    shown = {step["node"]: [edge["local"] is not None for edge in step["edges"]] for step in steps}
    assert shown[17] == [True], "the mask of a ReLU"
    assert shown[18] == [True], "the winners of a pooling"
    assert shown[CONV] == [False, False], "a large matrix"


@pytest.mark.parametrize(
    "array",
    [
        np.random.default_rng(0).standard_normal((3, 70, 90)).astype(np.float32),
        np.random.default_rng(0).standard_normal((3, 70, 90))[:, ::-2, ::3],
        np.broadcast_to(np.array([1.0, np.nan, -3.0], np.float32)[:, None, None], (2, 3, 4, 5)),
        np.array([np.inf, 2.0, -np.inf, 0.0]),
        np.array([np.nan]),
        np.zeros((0, 3), np.float32),
        np.array(3),
        np.array([True, False, True]),
        np.array([1.5, -2.25, 0.0, np.nan], ml_dtypes.bfloat16),
        np.full(20_000, 1e30, np.float32),
    ],
    ids=lambda array: f"{array.dtype}{list(array.shape)}",
)
def test_summaries(array: np.ndarray[Any, Any]) -> None:
    said, wide = summary(array), array.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    assert (said["shape"], said["size"], said["nonfinite"]) == (list(array.shape), array.size, array.size - finite.size)
    for name, value in (("min", np.min), ("max", np.max), ("mean", np.mean), ("norm", np.linalg.norm)):
        assert said[name] == (pytest.approx(float(value(finite)), rel=1e-12) if finite.size else None)
    assert said["zeros"] == pytest.approx(np.mean(wide == 0) if array.size else 0)
    np.testing.assert_array_equal([] if said["numbers"] is None else said["numbers"], wide.ravel() if array.size <= 16 else [])


def test_the_same_array_is_summed_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    count = []
    monkeypatch.setattr("chainrule.lens.server.payloads.summary", lambda array: count.append(1) or summary(array))
    summaries, array = Summaries(), np.arange(6.0).reshape(2, 3)
    for one in (array, array.view(), array.T, array[:1], array[:1]):
        assert summaries.of(one) == summary(one)
    assert len(count) == 3


def test_arrays_of_nodes(shipped_lens: Lens, found: Pass, path: str) -> None:
    for query, which in (("", "value"), ("&which=upstream", "upstream")):
        np.testing.assert_array_equal(shipped_lens.tensor(f"{path}/tensor?node={CONV}{query}"), found.tensor(CONV, which))
    for position in (0, 1):
        ours = shipped_lens.tensor(f"{path}/tensor?node={CONV}&which=downstream&position={position}")
        np.testing.assert_array_equal(ours, found.tensor(CONV, "downstream", position))
    channel = shipped_lens.ask(f"{path}/tensor?node={CONV}&channel=5")
    np.testing.assert_array_equal(channel.tensor, found.tensor(CONV)[5])
    mask = shipped_lens.tensor(f"{path}/tensor?node=17&which=local&position=1")
    np.testing.assert_array_equal(mask, found.tensor(17) > 0)
    winners = shipped_lens.tensor(f"{path}/tensor?node=18&which=local")
    assert set(np.unique(winners)) == {0, 1}
    assert winners.sum() == 6 * 14 * 14
    np.testing.assert_array_equal(
        winners * np.kron(found.tensor(18, "upstream"), np.ones((2, 2))), found.tensor(18, "downstream")
    )


def test_a_row_of_the_jacobian(shipped_lens: Lens, found: Pass, path: str) -> None:
    answer = shipped_lens.ask(f"{path}/local?node={CONV}&position=1&unit=0,3,5,5")
    local = found.local(CONV, 1, (0, 3, 5, 5))
    np.testing.assert_array_equal(answer.tensor, local.row)
    assert (answer.described["kind"], answer.described["formula"]) == ("dense", local.formula)
    close(answer.described["upstream"], local.upstream)


def test_finite_differences(shipped_lens: Lens, found: Pass, path: str) -> None:
    edges = shipped_lens.get(f"{path}/check?node={CONV}")["edges"]
    assert [(edge["input"], edge["position"]) for edge in edges] == [(18, 0), (19, 1)]
    assert all(edge["error"] <= edge["tolerance"] == 1e-5 for edge in edges)


def test_windows_of_a_convolution(shipped_lens: Lens, found: Pass, path: str) -> None:
    said = shipped_lens.get(f"{path}/window?node=12&channel=2&y=0&x=27")
    seen = windows.window(found, 12, 2, (0, 27))
    for key in ("patch", "kernel", "inside", "products", "bias", "sum", "value", "channels"):
        close(said[key], getattr(seen, key))
    assert said["place"] == {"top": -2, "left": 25, "height": 5, "width": 5}
    assert said["node"] == 16
    said = shipped_lens.get(f"{path}/weight_gradient?node={CONV}&output=7&input=3")
    close(said["gradient"], found.tensor(CONV, "downstream", 1)[7, 3])
    close(said["input"], found.tensor(18)[3])
    close(said["upstream"], found.tensor(CONV, "upstream")[7])
    assert (said["stride"], said["padding"], said["padding_after"], said["dilation"]) == ([1, 1], [0, 0], [0, 0], [1, 1])
    said = shipped_lens.get(f"{path}/input_gradient?node={CONV}&input=3&output=7")
    inward = windows.input_gradient(found, CONV, 3, 7)
    for key in ("outputs", "output", "stuffed", "flipped", "part", "downstream", "shares", "dilation"):
        close(said[key], getattr(inward, key))
    strongest = shipped_lens.get(f"{path}/input_gradient?node={CONV}&input=3")
    assert strongest["output"] == int(np.argmax(strongest["shares"]))


def test_a_receptive_field(shipped_lens: Lens, found: Pass, path: str) -> None:
    said = shipped_lens.get(f"{path}/receptive_field?node={CONV}&channel=1&y=9&x=0")
    seen = receptive_field(found, CONV, (1, 9, 0))
    assert said["whole"] == {"top": 16, "left": -2, "height": 14, "width": 14}
    assert said["box"] == {"top": 16, "left": 0, "height": 12, "width": 12}
    close(said["measured"], seen.measured)
    scores = found.graph.index[found.scores]
    assert shipped_lens.get(f"{path}/receptive_field?node={scores}&channel=3")["box"]["height"] == 28


def test_the_paths_of_a_weight(shipped_lens: Lens, found: Pass, path: str) -> None:
    said, seen = shipped_lens.get(f"{path}/paths?name=3.weight&index=2,1,0,4"), paths(found, "3.weight", (2, 1, 0, 4))
    close([said["gradient"], said["product"], said["sum"]], [seen.gradient, seen.product, seen.sum])
    assert [one["node"] for one in said["nodes"]] == [found.graph.index[lit.node] for lit in seen.nodes]
    close([one["share"] for one in said["nodes"]], [lit.share for lit in seen.nodes])
    assert [tuple(one["unit"]) for one in said["strongest"]] == [step.unit for step in seen.strongest]
    assert said["strongest"][0]["local"] is None
    assert shipped_lens.get(f"{path}/paths?name=image&index=0,14,14")["strongest"][0]["node"] == 10


def test_filters_as_pictures(shipped_lens: Lens, found: Pass) -> None:
    for name in ("0.weight", "7.weight", "11.weight"):
        np.testing.assert_array_equal(shipped_lens.tensor(f"/api/filters?name={name}"), filters(found, name))


def test_units_over_a_probe(shipped_lens: Lens, tracer: Tracer) -> None:
    said = shipped_lens.get("/api/relu")
    assert said["probe"] == 64
    assert [(layer["node"], layer["path"], layer["channels"]) for layer in said["layers"]] == [
        (17, "1", 6),
        (25, "4", 16),
        (34, "8", 120),
        (41, "10", 84),
    ]
    first = [tracer.trace(image, 0).tensor(17) == 0 for image in mnist("test").images(range(64))]
    close(said["layers"][0]["zeros"], np.mean(first, axis=(0, 2, 3)))
    for layer in said["layers"]:
        assert layer["dead"] == [share == 1 for share in layer["zeros"]]


def test_what_if(shipped_lens: Lens, tracer: Tracer, found: Pass, path: str) -> None:
    trace = path.rsplit("/", 1)[1]
    edit = {"name": "3.weight", "index": [2, 1, 0, 4], "value": 0.5}
    said = shipped_lens.post("/api/what_if", {"trace": trace, "edits": [edit]}).json
    seen = what_if(tracer, found, [WeightEdit("3.weight", (2, 1, 0, 4), 0.5)])
    close([said["before"], said["after"], said["predicted"]], [seen.before, seen.after, seen.predicted])
    assert [one["node"] for one in said["changed"]] == [found.graph.index[one.node] for one in seen.changed]
    pixel = shipped_lens.post("/api/what_if", {"trace": trace, "edits": [{"pixel": [0, 3, 4], "value": 1}]}).json
    assert pixel["changed"][0]["node"] == 10
    assert shipped_lens.post("/api/trace", {"index": 3}).json["loss"] == found.loss


def test_a_drawing(shipped_lens: Lens, tracer: Tracer) -> None:
    pixels = np.zeros((28, 28))
    pixels[4:24, 13:16] = 1
    said = shipped_lens.post("/api/draw", {"pixels": pixels.tolist(), "label": 8}).json
    probabilities, loss, gradient = tracer.judge(pixels[np.newaxis], 8)
    close(said["probabilities"], probabilities)
    close(said["loss"], loss)
    close(said["gradient"], gradient[0])
    assert shipped_lens.post("/api/draw", {"pixels": pixels.tolist(), "label": None}).json["loss"] < loss


def test_an_expression(shipped_lens: Lens) -> None:
    said = shipped_lens.post(
        "/api/expression", {"text": "max(0, w*x + b) * v", "values": {"w": 2, "x": 3, "b": -1, "v": 0.5}, "learning_rate": 0.1}
    ).json
    assert said["names"] == ["w", "x", "b", "v"]
    assert said["error"] == 2.5
    assert said["gradients"] == {"w": 1.5, "x": 1.0, "b": 0.5, "v": 5.0}
    close([said["stepped"][name] for name in "wxbv"], [1.85, 2.9, -1.05, 0.0])
    assert said["error_after"] == 0
    last = said["nodes"][-1]
    assert (last["name"], last["value"], last["upstream"], last["role"]) == ("e", 2.5, 1.0, "switcher")
    assert [(edge["local"], edge["downstream"]) for edge in last["edges"]] == [(0.5, 0.5), (5.0, 5.0)]
    listed = shipped_lens.post("/api/expression", {"text": "w @ x", "values": {"w": [1, 2], "x": [3, 4]}}).json
    assert listed["gradients"] == {"w": [3, 4], "x": [1, 2]}


def test_an_expression_that_is_wrong_says_where(shipped_lens: Lens) -> None:
    answer = shipped_lens.post("/api/expression", {"text": "w * tahn(x)"})
    assert answer.status == 400
    assert answer.json["place"] == 4
    assert answer.json["error"].endswith("unknown function 'tahn'.")
    assert answer.json["hint"].startswith("Did you mean 'tanh'? Known: exp, log, ")
    assert shipped_lens.post("/api/expression", {"text": "2 + 3"}).json["place"] is None


def test_the_last_eight_passes_are_kept(shipped_lens: Lens) -> None:
    first = shipped_lens.post("/api/trace", {"index": 0}).json["trace"]
    for index in range(1, passes.MOST_PASSES):
        shipped_lens.post("/api/trace", {"index": index})
    assert shipped_lens.ask(f"/api/trace/{first}/steps").status == 200
    shipped_lens.post("/api/trace", {"index": 8})
    said = shipped_lens.refused(f"/api/trace/{first}/steps", 404)
    assert said == f"The pass {first} is not kept any more. Trace the image again."


def test_of_large_passes_fewer_are_kept(monkeypatch: pytest.MonkeyPatch, tracer: Tracer, found: Pass) -> None:
    monkeypatch.setattr(passes, "MOST_BYTES", 2.5 * tracer.needed)
    store = passes.PassStore()
    assert [store.keep(tracer, found) for _ in range(3)] == ["t1", "t2", "t3"]
    assert store.named("t2").found is found
    with pytest.raises(Exception, match="The pass t1 is not kept"):
        store.named("t1")
    monkeypatch.setattr(passes, "MOST_BYTES", 1)
    assert store.named(store.keep(tracer, found)).found is found


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("tensor", "node must be a whole number from 0 on, not missing"),
        ("tensor?node=57", "The number of a node must be at most 56, got 57"),
        ("tensor?node=20&which=norm", "Unknown array 'norm'"),
        ("tensor?node=20&which=local&position=0", "the local gradient of h8 for h7 is a dense matrix"),
        ("local?node=20", "unit is missing. Ask with unit=0,3,5"),
        ("local?node=20&unit=0,a", "unit must be whole numbers with commas between them, not 0,a"),
        ("local?node=20&unit=0,3,5,50", "h8 is [1, 16, 10, 10], and has no element [0, 3, 5, 50]"),
        ("window?node=17&channel=0&y=0&x=0", "is no convolution"),
        ("window?node=20&channel=0&y=0", "x must be a whole number from 0 on, not missing"),
        ("paths?index=0", "name is missing"),
        ("paths?name=3.weight&index=0", "3.weight is [16, 6, 5, 5], and has no element [0]"),
    ],
)
def test_questions_that_are_not_answered(shipped_lens: Lens, path: str, end: str, message: str) -> None:
    assert message.lower() in shipped_lens.refused(f"{path}/{end}").lower()


@pytest.mark.parametrize(
    ("to", "posted", "message"),
    [
        ("trace", {}, "A pass is of one image: an index, a file, or pixels"),
        ("trace", {"index": 0, "pixels": []}, "A pass is of one image"),
        ("trace", {"index": 10_000}, "there is no image 10000"),
        ("trace", {"index": "first"}, "index must be a whole number of at least 0, got 'first'"),
        ("trace", {"index": 0, "label": 10}, "class of the loss must be at most 9, got 10"),
        ("trace", {"file": "?", "name": "x.png"}, "The file must be posted as base64"),
        ("trace", {"file": "", "name": "x.png"}, "x.png is empty"),
        ("trace", {"file": base64.b64encode(b"no image").decode(), "name": "../<b>.png"}, "../<b>.png"),
        ("trace", {"pixels": [[[0.5]]]}, "the image has the shape [1, 1, 1]"),
        ("what_if", {"edits": []}, "is not kept any more"),
        ("draw", {}, "a drawing is an array of numbers"),
        ("draw", {"pixels": [[0.5]], "label": 12}, "class of the loss must be at most 9, got 12"),
        ("expression", {"text": 3}, "An expression is a text"),
    ],
)
def test_what_is_posted_and_not_answered(shipped_lens: Lens, to: str, posted: Any, message: str) -> None:
    answer = shipped_lens.post(f"/api/{to}", posted)
    assert answer.status == (404 if "kept" in message else 400)
    assert message.lower() in f"{answer.json['error']} {answer.json['hint']}".lower()


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        (None, "edits must be a list"),
        ([{"value": 1}], "An edit is"),
        ([{"name": "0.bias", "index": "0", "value": 1}], "index must be a list of whole numbers"),
        ([{"name": "0.bias", "index": [0], "value": None}], "the value of 0.bias must be a number, got None"),
        ([{"pixel": [0, 1, 2], "value": 2}], "the value of a pixel must be a finite number from 0 to 1, got 2"),
    ],
)
def test_edits_that_are_refused(shipped_lens: Lens, path: str, edits: Any, message: str) -> None:
    answer = shipped_lens.post("/api/what_if", {"trace": path.rsplit("/", 1)[1], "edits": edits})
    assert answer.status == 400
    assert message.lower() in f"{answer.json['error']} {answer.json['hint']}".lower()


def test_a_transpose_is_not_copied_to_be_summed_up() -> None:
    array = np.random.default_rng(0).standard_normal((1000, 1000)).astype(np.float32)
    tracemalloc.start()
    try:
        said = summary(array.T)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < array.nbytes / 2
    assert said == {**summary(array), "shape": [1000, 1000]}
