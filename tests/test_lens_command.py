"""``chainrule lens``: what is typed, and how it is answered."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from chainrule.lens.server.serving import LensServer, open_browser
from chainrule.train import RunFolder
from lens_server import GrowingRun
from running import command, process, refused
from systems import needs


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that were opened in a browser; a server that is told to run ends at once."""
    found: list[str] = []

    def there_is_one(address: str) -> bool:
        found.append(address)
        return True

    monkeypatch.setattr(LensServer, "run", LensServer.stop)
    monkeypatch.setattr("webbrowser.open", there_is_one)
    monkeypatch.setenv("DISPLAY", ":0")
    return found


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that is in use."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


ADDRESS = r"http://127\.0\.0\.1:(\d+)/\?token=[\w-]{32}"


def test_it_prints_an_address_and_opens_it(opened: list[str]) -> None:
    ended = command("lens", "--port", 0)
    assert (ended.status, ended.err) == (0, "")
    assert re.fullmatch(ADDRESS + "\n", ended.out)
    assert opened == [ended.out.strip()]
    assert command("lens", "--port", 0).out != ended.out, "each start has a token of its own"


def test_without_a_browser_it_says_what_to_do(opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for = command("lens", "--port", 0, "--no-browser")
    monkeypatch.setattr("webbrowser.open", lambda address: False)
    not_there = command("lens", "--port", 0)
    for ended in (asked_for, not_there):
        assert re.fullmatch(ADDRESS + "\nOpen this address in a browser; Ctrl-C closes the lens.\n", ended.out)
    assert opened == []


def test_a_browser_that_cannot_be_started_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    import webbrowser

    def broken(address: str) -> bool:
        raise webbrowser.Error("could not locate runnable browser")

    monkeypatch.setattr("webbrowser.open", broken)
    monkeypatch.setenv("DISPLAY", ":0")
    assert not open_browser("http://127.0.0.1:1/")


def test_a_port_in_use_is_left_for_the_next_one(opened: list[str], taken: int) -> None:
    ended = command("lens", "--port", taken)
    port = int(re.fullmatch(ADDRESS + "\n", ended.out)[1])  # type: ignore[index]
    assert taken < port < taken + 50
    assert ended.err == f"note: port {taken} is in use: the lens is at {port}\n"


def test_where_no_port_is_free(opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def in_use(*_: object) -> None:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr("socket.socket.bind", in_use)
    assert refused("lens", "--port", 9000) == (
        "the ports 9000 to 9049 are all in use: choose another with --port, or 0 for any that is free"
    )


def test_it_begins_with_the_image_that_is_named(opened: list[str], tmp_path: Path, trained_run: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "seven.png")
    assert command("lens", "--port", 0, "--image", 12).out.strip().endswith("#/backward?image=12")
    assert command("lens", "--port", 0, "--image", "-2").out.strip().endswith("#/backward?image=9998")
    assert command("lens", "--port", 0, "--image", tmp_path / "seven.png").out.strip().endswith("#/backward?image=10000")
    assert command("lens", trained_run, "--port", 0, "--image", tmp_path / "seven.png").out.strip().endswith("image=20")
    assert [address[address.index("#") :] for address in opened] == [
        "#/backward?image=12",
        "#/backward?image=9998",
        "#/backward?image=10000",
        "#/backward?image=20",
    ]


def test_what_cannot_be_shown_is_said_before_anything_is_served(trained_run: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("text")
    for words, message in (
        (["none"], "there is no run folder none: give the folder that `chainrule train` printed"),
        (["--image", "10000"], "mnist test: there is no image 10000: numbers go from 0 to 9999, or from -1 to -10000"),
        (
            ["--image", "none"],
            "none cannot be read (No such file or directory): give the name of an image file, or the number of a test image",
        ),
        (["--image", "."], ". is no file: give the name of an image file, or the number of a test image"),
        (["--image", "a\0b"], r"a\x00b is no name of a file: give the name of an image file, or the number of a test image"),
        (["--image", tmp_path / "text.png"], "text.png is no image of a format that is read, whatever its name says"),
        (["--port", "65536"], "port must be at most 65,535, got 65536"),
    ):
        assert refused("lens", *words) == message
    without = GrowingRun(trained_run, tmp_path / "run", with_model=False)
    assert "holds no trained model yet: it is written after the first epoch" in refused("lens", without.path, "--image", 1)
    without.lock.release()
    shutil.copytree(trained_run, tmp_path / "damaged")
    model = tmp_path / "damaged" / "model.safetensors"
    content = bytearray(model.read_bytes())
    content[-5] ^= 1
    model.write_bytes(content)
    assert f"{model}" in refused("lens", tmp_path / "damaged")
    shutil.copytree(trained_run, tmp_path / "gone")
    folder = RunFolder.open(tmp_path / "gone")
    folder.rewrite_config(dataclasses.replace(folder.config, data=str(tmp_path / "elsewhere")))
    assert "which does not exist: put its images back there, or give a file of an image" in refused(
        "lens", tmp_path / "gone", "--image", 1
    )


@needs("signals")
def test_it_serves_until_ctrl_c(tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 30), 200, np.uint8)).save(tmp_path / "grey.png")
    began = time.monotonic()
    running = process("lens", "--no-browser", "--port", 0, "--image", tmp_path / "grey.png")
    assert running.stdout is not None
    address = running.stdout.readline().strip()
    seconds = time.monotonic() - began
    assert running.stdout.readline() == "Open this address in a browser; Ctrl-C closes the lens.\n"
    base, token = re.fullmatch(r"(.*)/\?token=(.*)#/backward\?image=10000", address).groups()  # type: ignore[union-attr]

    def asked(path: str) -> Any:
        request = urllib.request.Request(f"{base}{path}", headers={"X-Chainrule-Token": token})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.headers, answer.read()

    assert json.loads(asked("/api/meta")[1])["dataset"] == {"name": "mnist test", "count": 10_001}
    headers, body = asked("/api/image?index=10000")
    described = json.loads(headers["X-Chainrule-Tensor"])
    assert (described["label"], described["class"], described["notes"]) == (
        None,
        None,
        ["resized from 30 x 40 to 28 x 28 pixels", "nothing is seen on it: all pixels are alike"],
    )
    np.testing.assert_allclose(np.frombuffer(body, "<f4"), np.full(784, 200 / 255), rtol=1e-6)
    assert b"<script" in asked("/")[1]
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    notes = "note: resized from 30 x 40 to 28 x 28 pixels\nnote: nothing is seen on it: all pixels are alike\n"
    assert (running.returncode, out, err) == (-signal.SIGINT, "", f"{notes}The lens is closed.\n")
    assert seconds < 20, "on a machine that is busy; on a quiet one it is less than 2"


@needs("signals")
def test_a_training_can_be_watched(trained_run: Path, tmp_path: Path) -> None:
    options = ("--model", "lenet", "--epochs", 5000, "--batch-size", 8, "--out", tmp_path / "run")
    running = process("train", "--data", trained_run.parent / "patterns", *options, "--lens")
    assert running.stderr is not None
    try:
        line = running.stderr.readline()
        found = re.fullmatch(rf"lens: ({ADDRESS})\n", line)
        assert found is not None, line
        base, token = found[1].split("/?token=")

        def asked(path: str) -> Any:
            request = urllib.request.Request(f"{base}{path}", headers={"X-Chainrule-Token": token})
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)

        def history(enough: Callable[[Any], bool]) -> Any:
            """The history once there is ``enough`` in it."""
            deadline = time.monotonic() + 60
            while not enough(answer := asked("/api/history")):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            return answer

        first = history(lambda answer: len(answer["rows"]) > 0)
        assert first["live"]
        assert asked("/api/meta")["title"] == str(tmp_path / "run")
        later = history(lambda answer: answer["rows"][-1]["step"] > first["rows"][-1]["step"] and answer["health"])
        assert later["rows"][: len(first["rows"])] == first["rows"]
    finally:
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=30)
    assert running.returncode == -signal.SIGINT
    with pytest.raises(urllib.error.URLError):  # it ended with the training, as did its hold on standard error above
        asked("/api/meta")


def test_a_lens_that_does_not_start_stops_no_training(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false" if os.path.exists("/bin/false") else sys.executable)
    data = trained_run.parent / "patterns"
    ended = command("train", "--data", data, "--model", "mlp", "--epochs", 1, "--out", tmp_path / "run", "--lens")
    assert (ended.status, ended.err) == (0, "warning: there is no lens: it did not start\n")
