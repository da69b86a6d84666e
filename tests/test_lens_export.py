"""The lens's page as one file: it holds what a server would have answered, and loads nothing."""

from __future__ import annotations

import base64
import html
import json
import math
import re
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

import chainrule as cr
from chainrule import lens
from chainrule.lens.server import export
from chainrule.lens.server.application import PAGE
from chainrule.lens.server.export import exported, page_of
from chainrule.lens.server.payloads import tensor_response
from chainrule.lens.server.subject import Subject
from chainrule.train import RunFolder, TrainedModel
from lens_server import GrowingRun, Lens
from running import done, refused


def inside(page: str, name: str) -> bytes:
    """The bytes in the only element of that name."""
    (text,) = re.findall(f'<script type="application/octet-stream" id="{name}">(.*?)</script>', page, re.DOTALL)
    return zlib.decompress(base64.b64decode(text, validate=True))


def numbers(page: str) -> Any:
    content = inside(page, "chainrule-answers")
    return np.frombuffer(content, "<f4", offset=4 + int.from_bytes(content[:4], "little"))


def answers(page: str) -> Any:
    """What the page finds in a file: JSON, and of each array its header and its bytes."""
    content = inside(page, "chainrule-answers")
    found, values = json.loads(content[4 : 4 + int.from_bytes(content[:4], "little")]), numbers(page)
    for tensor in found["tensors"].values():
        own = values[tensor["begin"] :][: math.prod(tensor["header"]["shape"])]
        tensor["data"] = (own if tensor["matrix"] is None else own.reshape(tensor["matrix"][::-1]).T).tobytes()
    return found


@pytest.fixture(scope="module")
def page(trained_run: Path) -> str:
    """A run as a file, with its image 3."""
    return exported(Subject.of_run(RunFolder.open(trained_run)), 3)


def test_it_holds_what_the_server_answers(page: str, trained_lens: Lens) -> None:
    found = answers(page)
    ours = trained_lens.post("/api/trace", {"index": 3}).json
    assert {**found["json"]["/api/trace"], "trace": ours["trace"]} == ours
    meta = trained_lens.get("/api/meta")
    assert found["json"]["/api/meta"] == {
        **meta,
        "dataset": {**meta["dataset"], "count": 1},
        "can": {**meta["can"], "draw": False, "what_if": False, "time": False},
    }
    assert len(found["json"]) > 50
    assert len(found["tensors"]) > 100
    for path, answer in found["json"].items():
        if path not in ("/api/trace", "/api/meta"):
            theirs = trained_lens.get(path.replace("/t1/", f"/{ours['trace']}/"))
            if path == "/api/graph":  # the line that called the model is one of this file, and in a server's thread none is
                for one in (answer, theirs):
                    one["nodes"] = [{**node, "line": ""} for node in one["nodes"]]
            assert answer == ({**theirs, "next": answer["next"]} if "history" in path else theirs), path
    for path, tensor in found["tensors"].items():
        there = path.replace("index=0", "index=3").replace("/t1/", f"/{ours['trace']}/")
        answer = trained_lens.ask(there)
        assert (tensor["data"], tensor["header"]) == (answer.body, answer.described), path


def test_each_node_has_its_value_and_its_upstream_gradient(page: str) -> None:
    found = answers(page)
    tensors, steps = found["tensors"], found["json"]["/api/trace/t1/steps"]["steps"]
    for node in found["json"]["/api/graph"]["nodes"]:
        header = tensors[f"/api/trace/t1/tensor?node={node['id']}&which=value"]["header"]
        assert np.prod(header["shape"]) == np.prod(node["shape"])
    for step in steps:
        assert f"/api/trace/t1/tensor?node={step['node']}&which=upstream" in tensors
        for edge in step["edges"]:
            assert f"/api/trace/t1/tensor?node={step['node']}&which=downstream&position={edge['position']}" in tensors, (
                "as the page writes it"
            )


def test_it_loads_nothing(page: str) -> None:
    text = re.sub("<script.*?</script>", "", page, flags=re.DOTALL)
    assert re.findall(r'(?:src|href)="(?!data:|#)', text) == []
    assert "url(" not in text
    policy = re.findall('http-equiv="Content-Security-Policy" content="(.*?)"', page)
    assert policy[0].startswith("default-src 'none'; script-src 'unsafe-inline' data:; ")
    assert "http" not in policy[0]
    assert page.index("Content-Security-Policy") < page.index("<script")


def test_every_module_finds_what_it_imports(page: str) -> None:
    modules = json.loads(inside(page, "chainrule-modules"))
    assert set(modules) == {f"lens/{file.relative_to(PAGE).as_posix()}" for file in PAGE.rglob("*.js")}
    for name, address in modules.items():
        source = unquote(address.removeprefix("data:text/javascript,"), errors="strict")
        imported = re.findall(r"""^(?:import\b|export \{)[^"'`;]*["']([^"'\n]+)["'];$""", source, re.MULTILINE)
        assert all(one in modules for one in imported), name
        assert ("import" in source) >= bool(imported)
    assert 'begin("lens/main.js");' in page


def test_nothing_in_it_can_end_the_element_that_holds_it() -> None:
    hostile = "</script><script>alert(1)</script><!--<script>"
    page = page_of({"json": {hostile: {"name": hostile}}, "tensors": {}}, hostile)
    assert page.count("<script") == page.count("</script>") == 3
    assert "<!--" not in page
    assert answers(page)["json"] == {hostile: {"name": hostile}}
    assert "<title>&lt;/script&gt;&lt;script&gt;alert(1)" in page


def test_an_array_under_several_names_or_as_its_transpose_is_there_once() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    given = {"a": array, "again": array.copy(), "other": array + 1, "back": array.T, "flat": array.T.ravel(), "none": array[:0]}
    page = page_of({"json": {}, "tensors": {name: tensor_response(one) for name, one in given.items()}}, "page")
    assert numbers(page).size == 12
    for name, one in given.items():
        assert answers(page)["tensors"][name]["data"] == one.tobytes(), name


def test_the_file_of_the_lenet_that_ships_is_small() -> None:
    assert len(exported(Subject.shipped())) < 1_000_000


def test_many_numbers_are_left_out(trained_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "MOST_BYTES", 20_000)
    found = answers(exported(Subject.of_run(RunFolder.open(trained_run))))
    assert 10_000 < sum(len(tensor["data"]) for tensor in found["tensors"].values()) < 22_000
    assert found["json"]["/api/graph"]["nodes"]


def test_a_run_without_a_model_is_its_history(trained_run: Path, tmp_path: Path) -> None:
    run = GrowingRun(trained_run, tmp_path / "run", with_model=False)
    found = answers(exported(Subject.of_run(RunFolder.open(run.path))))
    assert (set(found["json"]), found["tensors"]) == ({"/api/meta", "/api/history?since=0"}, {})
    assert not found["json"]["/api/history?since=0"]["live"]
    run.lock.release()


def test_a_page_of_a_model_has_the_pass_of_the_image(tmp_path: Path) -> None:
    model = cr.nn.Sequential(cr.nn.Flatten(), cr.nn.Dropout(0.5), cr.nn.Linear(12, 3))
    pixels = np.random.default_rng(0).random((1, 3, 4)).astype(np.float32)
    made = lens.page(model, pixels, label=1)
    found = answers(made.html)
    expected = -cr.nn.functional.log_softmax(model.eval()(cr.tensor(pixels[np.newaxis])))[0, 1]
    assert found["json"]["/api/trace"]["loss"] == pytest.approx(float(expected))
    assert (found["json"]["/api/trace"]["label"], found["json"]["/api/meta"]["model"]) == (1, "Sequential")
    made.save(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == made.html
    frame = made._repr_html_()
    assert frame.count("<") == frame.count(">") == 2, "all of the page is in an attribute"
    assert html.unescape(re.findall('srcdoc="([^"]*)"', frame)[0]) == made.html
    assert repr(made).startswith("<ExportedPage of the model Sequential: ")


def test_making_a_page_leaves_the_model_as_it_is() -> None:
    model = cr.nn.Sequential(cr.nn.Flatten(), cr.nn.BatchNorm1d(12), cr.nn.Linear(12, 3)).train()
    before = {name: array.copy() for name, array in model.state_dict().items()}
    lens.page(model, np.ones((1, 3, 4), np.uint8))
    assert model.training
    assert all(np.array_equal(array, before[name]) for name, array in model.state_dict().items())


def test_what_a_page_cannot_be_made_of(tmp_path: Path, trained_run: Path) -> None:
    model, pixels = cr.nn.Sequential(cr.nn.Flatten(), cr.nn.Linear(12, 3)), np.zeros((1, 3, 4))
    cases: list[tuple[tuple[Any, ...], str]] = [
        (
            (5,),
            "page: there is nothing to show of a int: give the folder of a run, a TrainedModel, or a model (a Module) together "
            "with an image",
        ),
        (
            (model,),
            "page: a Sequential by itself does not say which images it takes: give image as an array (channels, height, "
            "width), got none",
        ),
        (
            (model, pixels[0]),
            "page: a Sequential by itself does not say which images it takes: give image as an array (channels, "
            "height, width), got the shape [3, 4]",
        ),
        ((model, [[[1], [1, 2]]]), "an image is an array of numbers (channels, height, width), with rows of equal lengths"),
        (
            (cr.nn.Flatten(0), pixels),
            "page: Flatten gives the shape [12] for an image, where scores [1, classes] were expected, one a class",
        ),
        ((model, pixels, 3), "the class of the loss must be at most 2, got 3"),
        ((None, None, 3), "page: a label belongs to an image of your own: give the image too"),
        ((None, 3, 3), "page: a label is given with an array of pixels; test images have theirs, and files have none"),
        (
            (TrainedModel(model, DESCRIBED, "mine"), 3),
            "The images that mine was trained on are not where they were. Open an image of your own, or put the images "
            "back there.",
        ),
    ]
    for given, said in cases:
        with pytest.raises(cr.UserError) as caught:
            lens.page(*given)
        assert str(caught.value) == said
    with pytest.raises(cr.UserError, match=r"page\.txt: the name must end with \.html, as it is a page for a browser"):
        lens.page(model, pixels).save(tmp_path / "page.txt")


DESCRIBED = {"classes": ["a", "b", "c"], "image_shape": (1, 3, 4), "mean": [0.0], "std": [1.0], "dtype": "float32"}


def test_the_command_writes_it(trained_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "seven.html"
    assert done("lens", trained_run, "--image", 2, "--export", file).startswith(f"page: {file} (")
    assert answers(file.read_text(encoding="utf-8"))["tensors"]["/api/image?index=0"]["header"]["label"] == 2
    assert refused("lens", trained_run, "--export", tmp_path / "page.txt") == (
        f"--export {tmp_path / 'page.txt'}: the name must end with .html, as it is a page for a browser"
    )
    assert refused("lens", trained_run, "--export", tmp_path / "none" / "page.html").startswith(str(tmp_path / "none"))
