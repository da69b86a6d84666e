"""Settings that every test shares."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from browser import OpenPage
    from lens_server import GrowingRun, Lens

# One BLAS thread per test process: two processes with two spinning threads each on two cores slow each other down.
# It must be set before NumPy is imported for the first time.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

# Machine code that these tests compile is shared by their processes, and by nobody else.
if "CHAINRULE_CACHE" not in os.environ:
    os.environ["CHAINRULE_CACHE"] = tempfile.mkdtemp(prefix="chainrule-tests-")
    atexit.register(shutil.rmtree, os.environ["CHAINRULE_CACHE"], ignore_errors=True)

# A shell script has its background jobs ignore Ctrl-C, and what a process ignores its children ignore: tests that send
# signals to the processes that they start would wait for ever.
for _name in ("SIGINT", "SIGTERM", "SIGHUP"):
    _number = getattr(signal, _name, None)
    if _number is not None and signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _name == "SIGINT" else signal.SIG_DFL)

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

settings.register_profile("chainrule", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("chainrule")


# ---- servers of the lens, shared by the tests of a process


@pytest.fixture(scope="session")
def shipped_lens() -> Iterator[Lens]:
    """A server of the LeNet that ships; ``shipped_lens.address`` is what a browser opens."""
    from chainrule.lens.server.subject import Subject
    from lens_server import served

    with served(Subject.shipped()) as lens:
        yield lens


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of LeNet that is over, on patterns of 12 x 12 pixels, which lie beside it."""
    from running import done, idx_folder

    folder = tmp_path_factory.mktemp("lens")
    idx_folder(folder / "patterns")
    line = ("--data", folder / "patterns", "--model", "lenet", "--epochs", 3, "--batch-size", 8, "--out", folder / "run")
    done("train", *line)
    return folder / "run"


@pytest.fixture(scope="session")
def trained_lens(trained_run: Path) -> Iterator[Lens]:
    """A server of that run."""
    from chainrule.lens.server.subject import Subject
    from chainrule.train import RunFolder
    from lens_server import served

    with served(Subject.of_run(RunFolder.open(trained_run))) as lens:
        yield lens


@pytest.fixture
def growing_lens(trained_run: Path, tmp_path: Path) -> Iterator[tuple[Lens, GrowingRun]]:
    """A server of a run that is still training, and the run, which grows when it is told to."""
    from chainrule.lens.server.subject import Subject
    from chainrule.train import RunFolder
    from lens_server import GrowingRun, served

    run = GrowingRun(trained_run, tmp_path / "run")
    with served(Subject.of_run(RunFolder.open(run.path))) as lens:
        yield lens, run
    run.lock.release()


# ---- a browser


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A browser, shared by the tests of a process."""
    from browser import launched

    with launched() as found:
        yield found


@pytest.fixture
def open_page(browser: Any) -> Iterator[OpenPage]:
    """Opens pages of which each error is one of the test."""
    from browser import watched_pages

    with watched_pages(browser) as found:
        yield found
