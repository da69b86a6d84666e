"""The lens's graph in a browser: the boxes of LeNet and of ResNet-50, what opens, and how fast."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import chainrule as cr
from browser import wait_for_view
from chainrule import models
from chainrule.lens.naming import names
from chainrule.lens.server.network import network
from lens_server import Lens

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from browser import OpenPage

BOXES = """() => [...document.querySelectorAll(".graph [data-key]")].map((box) => {
  const face = box.querySelector(".face") ?? box.parentElement.querySelector(".ground");
  const { x, y, width, height } = face.getBoundingClientRect();
  return { key: box.dataset.key, node: box.dataset.node ?? null, x, y, width, height, open: box.classList.contains("title") };
})"""


def boxes(page: Page) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = page.evaluate(BOXES)
    return found


def overlaps(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(
        one[start] < other[start] + other[size] - 0.05 and other[start] < one[start] + one[size] - 0.05
        for start, size in (("x", "width"), ("y", "height"))
    )


def contains(outer: dict[str, Any], inner: dict[str, Any]) -> bool:
    return all(
        outer[start] <= inner[start] + 0.05 and inner[start] + inner[size] <= outer[start] + outer[size] + 0.05
        for start, size in (("x", "width"), ("y", "height"))
    )


def seconds(session: Any) -> float:
    """How long the page's thread has computed until now."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return next(float(one["value"]) for one in metrics if one["name"] == "TaskDuration")


@pytest.fixture(scope="module")
def resnet50() -> dict[str, Any]:
    """The graph of ResNet-50, as the server would give it, of a small image."""
    model = models.resnet50()
    model.eval()
    image = cr.tensor(np.zeros((1, 3, 32, 32), np.float32), requires_grad=True)
    scores = model(image)
    loss = cr.nn.functional.cross_entropy(scores, np.array([0]))

    class Example:
        graph = cr.graph.Graph(loss.node)

    Example.names = names(Example.graph)  # type: ignore[attr-defined]
    Example.image, Example.scores = image.node, scores.node  # type: ignore[attr-defined]
    return network(Example, model)  # type: ignore[arg-type]


def test_lenet_is_a_row_of_its_layers_at_first(shipped_lens: Lens, open_page: OpenPage) -> None:
    page = open_page(shipped_lens.address, "#/graph")
    page.locator(".box").first.wait_for()
    kinds = page.locator(".box .name").all_text_contents()
    layers = ["Conv2d", "ReLU", "MaxPool2d"] * 2 + ["Flatten"] + ["Linear", "ReLU"] * 2 + ["Linear"]
    assert sorted(kinds) == sorted(["image", *layers, "loss"])
    assert [box for box in boxes(page) if box["open"]] == []


def test_a_layer_opens_to_its_nodes_and_closes(shipped_lens: Lens, open_page: OpenPage) -> None:
    page = open_page(shipped_lens.address, "#/graph")
    page.locator('[data-key="0"]').focus()
    page.keyboard.press("e")
    page.get_by_role("button", name="0.weight, parameter").wait_for()
    assert "open=0" in page.url
    page.locator('.title[data-key="0"]').click()
    page.get_by_role("button", name="0.weight, parameter").wait_for(state="detached")


def test_a_click_on_a_node_opens_it_and_a_link_shows_the_same(shipped_lens: Lens, open_page: OpenPage) -> None:
    graph = shipped_lens.get("/api/graph")
    first = next(node["id"] for node in graph["nodes"] if node["op"] == "conv2d")
    page = open_page(shipped_lens.address, "#/graph?open=0")
    page.locator(f'[data-key="node {first}"]').click()
    wait_for_view(page, f"#/node/{first}")


def test_a_search_opens_what_is_around(shipped_lens: Lens, open_page: OpenPage) -> None:
    page = open_page(shipped_lens.address, "#/graph")
    page.locator(".box").first.wait_for()
    page.keyboard.press("/")
    page.keyboard.type("7.weight")
    page.get_by_role("button", name="7.weight", exact=False).first.click()
    page.get_by_role("button", name="7.weight, parameter").wait_for()


def test_arrow_keys_go_along_the_boxes(shipped_lens: Lens, open_page: OpenPage) -> None:
    page = open_page(shipped_lens.address, "#/graph")
    page.locator('[data-key="0"]').focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.key") == "1"
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.dataset.key") == "0"


def test_resnet50_is_a_handful_of_boxes_and_opens_whole_within_a_second_without_overlaps(
    shipped_lens: Lens, open_page: OpenPage, resnet50: dict[str, Any]
) -> None:
    def before(page: Page) -> None:
        page.route("**/api/graph", lambda route: route.fulfill(json=resnet50))

    page = open_page(shipped_lens.address, "#/graph", before=before)
    page.locator(".box").first.wait_for()
    assert len(boxes(page)) <= 14
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})  # not what other processes take meanwhile
    begin = seconds(session)
    page.get_by_role("button", name="Expand all").click()
    page.wait_for_function("() => document.querySelectorAll('.box').length > 100")
    spent = seconds(session) - begin
    print("SPENT", spent, len(resnet50["nodes"]))
    assert spent < 1
    found = boxes(page)
    nodes = [int(box["node"]) for box in found if box["node"] is not None]
    assert sorted(nodes) == sorted(node["id"] for node in resnet50["nodes"])
    closed, opened = [box for box in found if not box["open"]], [box for box in found if box["open"]]
    for i, one in enumerate(closed):
        assert not any(overlaps(one, other) for other in closed[:i]), one["key"]
    for one in opened:  # a module lies in another, or beside it
        for other in found:
            assert other is one or contains(one, other) or contains(other, one) or not overlaps(one, other), (one, other)
        module = next((module for module in resnet50["modules"] if module["path"] == one["key"]), None)
        if module is not None and module["parent"]:
            assert contains(next(box for box in opened if box["key"] == module["parent"]), one)


def test_a_module_that_is_called_twice_makes_no_cycle(shipped_lens: Lens, open_page: OpenPage) -> None:
    def node(id_: int, op: str, module: str, inputs: list[int], leaf: str | None = None) -> dict[str, Any]:
        return {
            "id": id_,
            "op": op,
            "kind": "Linear" if module == "fc" else "ReLU" if module else "",
            "name": f"h{id_}",
            "formula": "" if leaf else f"{op}(...)",
            "role": "leaf" if leaf else "switcher",
            "module": module,
            "inputs": inputs,
            "shape": [1, 4],
            "dtype": "float32",
            "leaf": leaf,
            "gradient": True,
            "line": "",
            "convolution": None,
        }

    nodes = [
        node(0, "input", "", [], "input"),
        node(1, "parameter", "fc", [], "parameter"),
        node(2, "matmul", "fc", [0, 1]),
        node(3, "maximum", "relu", [2]),
        node(4, "matmul", "fc", [3, 1]),
        node(5, "sum", "", [4]),
    ]
    modules = [{"path": path, "parent": "", "kind": kind, "calls": 2} for path, kind in (("fc", "Linear"), ("relu", "ReLU"))]
    graph = {"nodes": nodes, "modules": modules, "loss": 5, "image": 0, "scores": 4}

    def before(page: Page) -> None:
        page.route("**/api/graph", lambda route: route.fulfill(body=json.dumps(graph), content_type="application/json"))

    page = open_page(shipped_lens.address, "#/graph", before=before)
    page.locator(".box").first.wait_for()
    places = {box["key"]: box["x"] for box in boxes(page)}
    assert places["node 0"] < places["fc"] < places["relu"] < places["fc#2"] < places["(loss)"]
