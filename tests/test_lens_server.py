"""The lens's server: what it answers, number by number, and whom it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from chainrule.data import mnist
from lens_server import Lens

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
    }


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
