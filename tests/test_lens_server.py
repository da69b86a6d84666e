"""The lens's server: what it answers, number by number, and whom it refuses."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule.data import mnist
from chainrule.errors import UserError
from chainrule.lens.server.refusals import refusal_of
from chainrule.lens.server.subject import Subject
from chainrule.train import RunFolder, command_line
from chainrule.train.diagnosis.health_record import read_health
from lens_server import GrowingRun, Lens, served
from recordings import Recording

# ---- what it answers


def test_what_is_said_of_the_model_that_ships(shipped_lens: Lens) -> None:
    assert shipped_lens.get("/api/meta") == {
        "schema": 1,
        "title": "the LeNet that ships with chainrule",
        "kind": "shipped",
        "live": False,
        "model": "lenet",
        "classes": [str(digit) for digit in range(10)],
        "image": {"channels": 1, "height": 28, "width": 28},
        "dataset": {"name": "mnist test", "count": 10_000},
        "finding": None,
        "can": {"history": False, "images": True, "draw": True, "what_if": True, "time": False},
        "version": "0.1.0",
    }


def test_a_graph_has_each_node_once_with_its_inputs_and_each_module(shipped_lens: Lens) -> None:
    found = shipped_lens.get("/api/graph")
    example = shipped_lens.subject.example
    nodes = {node["id"]: node for node in found["nodes"]}
    assert len(nodes) == len(found["nodes"])
    for id_, node in nodes.items():
        ours = example.graph.nodes[id_]
        assert (node["op"], node["role"], node["shape"]) == (ours.operation.name, ours.operation.role.value, list(ours.shape))
        assert all(one in nodes and one < id_ for one in node["inputs"])
    assert (nodes[found["loss"]]["name"], nodes[found["loss"]]["shape"]) == ("e", [])
    assert (nodes[found["image"]]["leaf"], nodes[found["image"]]["shape"]) == ("input", [1, 1, 28, 28])
    assert nodes[found["scores"]]["shape"] == [1, 10]
    first = next(node for node in nodes.values() if node["op"] == "conv2d")
    assert first["formula"] == "conv2d(image, 0.weight)"
    assert first["convolution"] == {
        "stride": [1, 1],
        "padding": [2, 2],
        "padding_after": [2, 2],
        "dilation": [1, 1],
        "groups": 1,
    }
    assert first["line"] == "", "no line of the user's made it"
    assert [one["kind"] for one in found["modules"]][:4] == ["Conv2d", "ReLU", "MaxPool2d", "Conv2d"]
    assert {node["module"] for node in nodes.values()} == {"", *(one["path"] for one in found["modules"])}


def test_an_image_of_the_test_set(shipped_lens: Lens) -> None:
    pixels, label = mnist("test")[7]
    answer = shipped_lens.ask("/api/image?index=7")
    np.testing.assert_array_equal(answer.tensor, pixels.astype(np.float32) / 255)
    assert answer.described == {
        "shape": [1, 28, 28],
        "of": [1, 28, 28],
        "step": [1, 1, 1],
        "min": 0.0,
        "max": 1.0,
        "nonfinite": 0,
        "label": label,
        "class": str(label),
        "notes": [],
    }


# ---- a training


def test_a_run_that_is_over(trained_lens: Lens, trained_run: Path) -> None:
    found = trained_lens.get("/api/meta")
    assert {name: found[name] for name in ("title", "kind", "live", "model", "image", "classes")} == {
        "title": str(trained_run),
        "kind": "run",
        "live": False,
        "model": "lenet",
        "image": {"channels": 1, "height": 12, "width": 12},
        "classes": ["0", "1", "2", "3"],
    }
    assert found["dataset"]["count"] == 20
    assert found["can"] == {"history": True, "images": True, "draw": True, "what_if": True, "time": True}


def test_a_history_has_every_row_and_every_number_of_the_files(trained_lens: Lens, trained_run: Path) -> None:
    found = trained_lens.get("/api/history")
    rows = [json.loads(line) for line in (trained_run / "metrics.jsonl").read_text().splitlines()]
    assert (found["live"], found["restarted"], found["note"]) == (False, False, None)
    assert [(row["step"], row["epoch"], row["lr"]) for row in found["rows"]] == [
        (row["step"], row["epoch"], row.get("lr")) for row in rows
    ]
    for shown, row in zip(found["rows"], rows, strict=True):
        numbers, none = [row["loss"], row["accuracy"]], [None, None]
        expected = none + numbers if row["kind"] == "test" else numbers + none
        assert [shown[name] for name in ("loss", "accuracy", "test_loss", "test_accuracy")] == expected
    record, shown = read_health(trained_run / "health.bin"), found["health"]
    assert shown["steps"] == record.flow.steps.tolist()
    for name in ("activation", "zeros", "gradient", "weight", "parameter_gradient", "update"):
        np.testing.assert_allclose(np.array(shown[name], np.float64), getattr(record.flow, name), rtol=1e-7, err_msg=name)
    nodes = {node["id"]: node for node in trained_lens.get("/api/graph")["nodes"]}
    assert [(one["path"], one["op"]) for one in shown["layers"]] == [(one.path, one.operation) for one in record.plan.layers]
    assert all(
        (nodes[one["node"]]["module"], nodes[one["node"]]["kind"]) == (one["path"], one["op"]) for one in shown["layers"]
    )
    assert [nodes[one["node"]]["name"] for one in shown["parameters"]] == [one.name for one in record.plan.parameters]
    assert [nodes[one["node"]]["op"] for one in shown["units"]] == ["maximum"] * 4
    begin = 0
    for unit in shown["units"]:
        alive = record.census.alive[:, begin : (begin := begin + unit["channels"])]
        assert [census["alive"] for census in unit["censuses"]] == alive.tolist()
        assert [census["epoch"] for census in unit["censuses"]] == [0, 1, 2, 3]
    assert begin == record.plan.channels
    ours = cr.train.health(trained_run).findings
    assert [one["name"] for one in shown["findings"]] == list(ours.names)
    assert all(two.what in one["sentence"] for one, two in zip(shown["findings"], ours, strict=True))
    again = trained_lens.get(f"/api/history?since={found['next']}")
    assert (again["rows"], again["health"], again["next"]) == ([], None, found["next"])


def test_a_history_grows_with_the_training(growing_lens: tuple[Lens, GrowingRun]) -> None:
    lens, run = growing_lens
    assert lens.get("/api/meta")["live"]
    first = lens.get("/api/history?since=0")
    assert (first["live"], [row["step"] for row in first["rows"]]) == (True, [1, 2, 3])
    run.grow(2)
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('{"kind": "tra')  # a row that is being written
    second = lens.get(f"/api/history?since={first['next']}")
    assert ([row["step"] for row in second["rows"]], second["health"]) == ([4, 5], None)
    os.truncate(run.path / "metrics.jsonl", (run.path / "metrics.jsonl").read_bytes().rindex(b"{"))
    run.end()
    third = lens.get(f"/api/history?since={second['next']}")
    assert (third["live"], third["rows"][-1]["step"], len(third["rows"])) == (False, 18, 16)
    assert third["health"]["findings"], "with the result it is judged anew"
    assert not lens.get("/api/meta")["live"]


def test_a_run_that_went_back_to_its_checkpoint_is_told_from_the_beginning(growing_lens: tuple[Lens, GrowingRun]) -> None:
    lens, run = growing_lens
    before = lens.get("/api/history")["next"]
    lines = (run.path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run.path / "metrics.jsonl").write_text(lines[0])
    found = lens.get(f"/api/history?since={before}")
    assert (found["restarted"], [row["step"] for row in found["rows"]]) == (True, [1])


def test_a_run_without_a_model_yet_has_its_history_alone(trained_run: Path, tmp_path: Path) -> None:
    run = GrowingRun(trained_run, tmp_path / "run", with_model=False)
    with served(Subject.of_run(RunFolder.open(run.path))) as lens:
        meta = lens.get("/api/meta")
        assert (meta["image"], meta["classes"], meta["dataset"]) == (None, [], None)
        assert meta["can"] == {"history": True, "images": False, "draw": False, "what_if": False, "time": False}
        before = lens.get("/api/history")
        assert [one["node"] for one in before["health"]["layers"]] == [None] * 11
        assert lens.refused("/api/graph", 409) == (
            f"{run.path} holds no trained model yet, as that is written after the first epoch. "
            "Wait until the first epoch is over; its history can be seen meanwhile."
        )
        run.lock.release()  # as if it had been killed
        assert lens.refused("/api/graph", 409).endswith(
            f"The training does not run any more: go on with it by `{command_line('train', '--resume', run.path)}`."
        )
        shutil.copy(trained_run / "model.safetensors", run.path)
        after = lens.get(f"/api/history?since={before['next']}")
        assert None not in [one["node"] for one in after["health"]["layers"]]
        assert lens.get("/api/meta")["image"] == {"channels": 1, "height": 12, "width": 12}


def test_a_dead_network_is_named_in_a_sentence_with_its_node(trained_run: Path, tmp_path: Path) -> None:
    shutil.copytree(trained_run, tmp_path / "run")
    plan = read_health(trained_run / "health.bin").plan
    dead = {unit: (lambda step: min(step, 2)) for unit in range(6)}
    Recording(plan, epochs=3, alive=dead, loss=lambda step: 2.3, zeros={"1": lambda step: float(step > 2)}).write(
        tmp_path / "run" / "health.bin"
    )
    with served(Subject.of_run(RunFolder.open(tmp_path / "run"))) as lens:
        finding = lens.get("/api/meta")["finding"]
        node = next(one for one in lens.get("/api/graph")["nodes"] if one["id"] == finding["node"])
    assert finding["sentence"] == "Layer 1 (ReLU): 6 of 6 units are dead (above 0 for no image of the last epoch)."
    assert finding["remedy"].startswith("Take a smaller learning rate, a longer warm-up or --clip-norm")
    assert (finding["layer"], node["module"], node["kind"]) == ("1", "1", "ReLU")


def test_a_run_without_a_recording_says_why(trained_run: Path, tmp_path: Path) -> None:
    shutil.copytree(trained_run, tmp_path / "run")
    (tmp_path / "run" / "health.bin").unlink()
    with served(Subject.of_run(RunFolder.open(tmp_path / "run"))) as lens:
        found = lens.get("/api/history")
        assert (len(found["rows"]), found["health"]) == (21, None)
        assert "has no recording of its health (health.bin): it was trained with --no-health" in found["note"]
        assert lens.get("/api/meta")["finding"] is None


def test_what_is_no_history(shipped_lens: Lens, trained_lens: Lens) -> None:
    assert shipped_lens.refused("/api/history", 404) == (
        "Nothing is known of how the LeNet that ships with chainrule was trained. Open a run: chainrule lens RUN."
    )
    for since in ("x", "-1", "1.2.3", "9" * 50):
        assert trained_lens.refused(f"/api/history?since={since}") == (
            "since must be what the last answer gave as next. Ask with since=0 for the whole history."
        )


# ---- whom it refuses


def test_without_the_token_nobody_is_told_anything(shipped_lens: Lens) -> None:
    for token in (None, "", "x", shipped_lens.server.token[:-1], "ä"):
        for path in ("/api/meta", "/api/nothing", "/api"):
            message = shipped_lens.refused(path, 403, headers={"X-Chainrule-Token": token})
            assert message.startswith("The token is missing or wrong. Open the whole address that the command printed")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost:80", ""])
def test_another_host_is_refused(shipped_lens: Lens, host: str) -> None:
    for path in ("/", "/api/meta"):
        assert "The lens is not at" in shipped_lens.refused(path, 403, headers={"Host": host})


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "[::1]", "127.0.0.1"])
def test_each_name_of_this_machine_is_taken(shipped_lens: Lens, host: str) -> None:
    there = f"{host}:{shipped_lens.server.port}"
    assert shipped_lens.ask("/api/meta", headers={"Host": there, "Origin": f"http://{there}"}).status == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1:PORT", ""])
def test_another_page_is_refused(shipped_lens: Lens, origin: str) -> None:
    given = origin.replace("PORT", str(shipped_lens.server.port))
    message = shipped_lens.refused("/api/meta", 403, headers={"Origin": given})
    assert message.startswith(f"A page of {given} may not ask the lens.")


def test_only_json_is_posted_and_not_too_much_of_it(shipped_lens: Lens) -> None:
    def posted(kind: str | None, body: bytes = b"{}", **headers: str) -> tuple[int, str]:
        answer = shipped_lens.ask("/api/trace", "POST", body, {"Content-Type": kind, **headers})
        return answer.status, answer.json["error"]

    assert posted("text/plain") == (415, "What is posted must be application/json, not text/plain.")
    assert posted(None) == (415, "What is posted must be application/json, not of no kind.")
    assert posted("application/x-www-form-urlencoded")[0] == 415
    assert posted("application/json", b"", **{"Content-Length": str(9 << 20)}) == (413, "More than 8 MiB were posted.")
    chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
    chunked = {"Content-Length": None, "Transfer-Encoding": "chunked", "Content-Type": "application/json"}
    assert shipped_lens.refused("/api/trace", 413, method="POST", body=chunk * 9 + b"0\r\n\r\n", headers=chunked) == (
        "More than 8 MiB were posted. Make the image smaller, and post it again."
    )


def test_what_is_not_there(shipped_lens: Lens) -> None:
    assert shipped_lens.refused("/api/nothing", 404) == (
        "There is nothing at /api/nothing. Reload the page: it may be older than the server."
    )
    assert shipped_lens.refused("/api/meta", 405, method="DELETE") == (
        "The lens answers GET and POST, not DELETE. Ask with GET or POST."
    )
    for path in (
        "/page/../server/subject.py",
        "/page/%2e%2e/server/subject.py",
        "/page//etc/passwd",
        "/page/a%00.js",
        "/page/",
    ):
        assert shipped_lens.refused(path, 404).startswith("There is nothing at")


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("x", "index must be a whole number from 0 on, not x. Ask with index=0, for example."),
        ("-1", "index must be a whole number from 0 on, not -1. Ask with index=0, for example."),
        ("9" * 5000, f"index must be a whole number from 0 on, not {'9' * 5000}. Ask with index=0, for example."),
        ("10000", "mnist test: there is no image 10000. Numbers go from 0 to 9999, or from -1 to -10000."),
    ],
)
def test_an_image_that_is_not_there(shipped_lens: Lens, index: str, message: str) -> None:
    assert shipped_lens.refused(f"/api/image?index={index}") == message


def test_headers_keep_other_pages_out(shipped_lens: Lens) -> None:
    for path in ("/api/meta", "/api/nothing", "/nothing"):
        headers = shipped_lens.ask(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == ("no-store" if path.startswith("/api") else "no-cache")
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    ("message", "error", "hint"),
    [
        ("unknown function 'foo': Known: exp, log", "Unknown function 'foo'.", "Known: exp, log."),
        ("unknown model 'x': did you mean 'y'? Known: y, z", "Unknown model 'x'.", "Did you mean 'y'? Known: y, z."),
        ("at 3: unknown name 'w': give it a value, such as w=1. Given: a", None, "Give it a value, such as w=1. Given: a."),
        ("the value must be finite: give another", "The value must be finite.", "Give another."),
        ("no remedy here", "No remedy here.", ""),
    ],
)
def test_an_error_is_taken_apart_into_what_is_the_matter_and_what_to_do(message: str, error: str | None, hint: str) -> None:
    refusal = refusal_of(UserError(message))
    assert refusal.hint == hint
    assert error is None or refusal.error == error
