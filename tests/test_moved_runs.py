"""Where a run finds its data and its network again: from another folder, and when one of them, or all, were moved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from chainrule.cli import reading
from chainrule.formats.places import as_seen, settled
from chainrule.train import Config, RunFolder
from running import command, done, idx_folder, image_folder, refused

NET = """
from chainrule import nn


def make_net(channels, classes, size):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], classes))
"""


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said of how far files are read, however long that takes on a busy machine."""
    monkeypatch.setattr(reading, "_QUIET", 600.0)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with photos, and a run in it, trained from a folder beside them; the current folder is another one."""
    image_folder(tmp_path / "project/photos", each=6)
    for name in ("project/work", "other"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "project/work")
    done("train", "--model", "mlp", "--data", "../photos", "--epochs", 1, "--out", "../runs/first")
    monkeypatch.chdir(tmp_path / "other")
    return tmp_path / "project"


def kept(run: Path) -> dict[str, str]:
    return json.loads((run / "config.json").read_text())


def test_data_are_found_from_another_folder(project: Path) -> None:
    """Also where something else lies in the place that was typed, as seen from there."""
    image_folder(project.parent / "photos", ("ant", "bee"), each=6)
    run = Path("../project/runs/first")
    assert kept(run)["data"] == str(project / "photos")
    assert json.loads(done("evaluate", run, "--json"))["classes"] == ["cat", "dog"]
    done("train", "--resume", run)
    assert json.loads(done("blame", run, "--json"))["images"] == 10
    assert command("lr", run, "--steps", 30).status == 0


def test_a_project_that_was_moved_as_a_whole_finds_its_data(project: Path) -> None:
    new = project.rename(project.with_name("renamed"))
    run = new / "runs/first"
    assert kept(run)["data_from_here"] == "../../photos"
    assert RunFolder.open(run).config.data == str(new / "photos")
    assert json.loads(done("evaluate", run, "--json"))["images"] == 2
    done("train", "--resume", run)
    image_folder(project / "photos", ("ant", "bee"), each=6)
    assert RunFolder.open(run).config.data == str(project / "photos"), "what is there has precedence"


def test_a_run_that_was_moved_alone_finds_its_data(project: Path) -> None:
    run = (project / "runs/first").rename(project.parent / "moved")
    assert json.loads(done("evaluate", run, "--json"))["images"] == 2
    done("train", "--resume", run)


def test_data_that_were_moved_alone_are_named(project: Path) -> None:
    run = project / "runs/first"
    (project / "photos").rename(project.parent / "photos")
    gone = f"{run} was trained on {project / 'photos'}, which does not exist: "
    assert refused("train", "--resume", run) == f"{gone}put it there again, or give --data, where it is now"
    assert refused("evaluate", run) == f"{gone}give --data, where its images are now"
    assert refused("train", "--resume", run, "--data", "../phots") == (
        "../phots does not exist: expected a folder of images, IDX files or CIFAR-10's binary files"
    )
    image_folder(project.parent / "more", each=7)
    before = (run / "config.json").read_bytes()
    assert refused("train", "--resume", run, "--data", "../more").startswith(
        f"the data are not those of {run / 'checkpoint.safetensors'}: training images 10 then, 12 now: "
    )
    assert (run / "config.json").read_bytes() == before
    done("train", "--resume", run, "--data", "../photos")
    assert (kept(run)["data"], kept(run)["data_from_here"]) == (str(project.parent / "photos"), "../../../photos")
    done("evaluate", run)
    assert RunFolder.open(run).config.data == str(project.parent / "photos")


def test_data_cannot_be_named_before_there_is_a_checkpoint(tmp_path: Path) -> None:
    (folder := RunFolder.new(tmp_path / "run", Config(data=str(idx_folder(tmp_path / "data"))))).make()
    folder.lock.release()
    idx_folder(tmp_path / "others")
    assert refused("train", "--resume", tmp_path / "run", "--data", tmp_path / "others") == (
        f"{tmp_path / 'run'} holds no checkpoint yet, by which its images could be told from others: leave --data out, or "
        "begin a new run"
    )


def test_a_network_whose_file_was_moved_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    idx_folder(tmp_path / "data")
    (tmp_path / "nets.py").write_text(NET)
    run = tmp_path / "run"
    assert command("train", "--model", "nets.py:make_net", "--data", "data", "--epochs", 1, "--out", run).status == 0
    (tmp_path / "new").mkdir()
    shutil.move("nets.py", "new/nets.py")
    gone = f"the network of {run} was made by {tmp_path}/nets.py:make_net, and there is no such file here: put it there"
    for arguments in (("train", "--resume", run), ("evaluate", run)):
        assert refused(*arguments) == f"{gone}, or give --model FILE.py:FUNCTION, where it is now"
    for arguments in (("blame", run), ("lr", run), ("summary", run)):
        assert refused(*arguments) == gone
    assert refused("evaluate", run, "--model", "new/nets.py:make") == (
        "model new/nets.py:make: the network of this run is made by the function make_net"
    )
    (tmp_path / "other.py").write_text(NET + "\nopen('ran', 'w')\n")
    for arguments in (("train", "--resume", run), ("evaluate", run)):
        message = refused(*arguments, "--model", "other.py:make_net")
        assert message.startswith("other.py is not the file that the run was trained with (SHA-256 ")
        assert message.endswith("...): put it back as it was, or train anew")
    assert not (tmp_path / "ran").exists()
    assert command("evaluate", run, "--model", "new/nets.py:make_net").status == 0
    assert kept(run)["model"] == f"{tmp_path}/nets.py:make_net", "to evaluate changes no run"
    assert command("train", "--resume", run, "--model", "new/nets.py:make_net").status == 0
    assert kept(run)["model"] == f"{tmp_path}/new/nets.py:make_net"
    assert command("evaluate", run).status == 0


def test_paths_that_are_kept_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here/mnist").mkdir(parents=True)
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Config(data="mnist").data == "mnist", "the data set of that name"
    assert Config(data="./mnist").data == str(tmp_path / "here/mnist")
    assert Config(data="~/photos").data == str(tmp_path / "photos")
    assert Config(data="../photos/").data == str(tmp_path / "photos")
    assert settled("../x") == tmp_path / "x"
    assert as_seen(str(tmp_path / "here/mnist")) == "mnist"
    assert as_seen(str(tmp_path / "photos")) == str(tmp_path / "photos")


def test_a_folder_that_is_called_as_a_data_set_is_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    idx_folder(tmp_path / "mnist")
    assert "4 classes, 48 training and 20 test images" in done("train", "--data", "./mnist", "--epochs", 1, "--out", "run")
    assert json.loads(done("evaluate", "run", "--json"))["images"] == 20


@pytest.mark.parametrize("name", ["~nobody-of-this-name/x", "../none", "a/../none"])
def test_paths_that_lead_nowhere(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was typed is named: nobody's home folder is asked for, and nothing is resolved that is not there."""
    monkeypatch.chdir(tmp_path)
    assert refused("train", "--data", name) == (
        f"{name} does not exist: expected a folder of images, IDX files or CIFAR-10's binary files"
    )
    assert refused("train", "--weights", name) == f"{name} does not exist: expected a safetensors file"
    assert refused("train", "--model", f"{name}/nets.py:net") == (
        f"model {name}/nets.py:net: there is no file {name}/nets.py: give FILE.py:FUNCTION"
    )


def test_paths_below_the_root_are_shown_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert as_seen("/home/photos") == "/home/photos"
