"""Other processors, other systems: what this machine does not have, or has otherwise, is faked in a process of its own."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import textwrap
from functools import cache
from pathlib import Path

import pytest

import systems
from chainrule.cpu.codegen.availability import architecture
from chainrule.cpu.runtime import memory
from chainrule.cpu.runtime.memory import SAME_PLACE, aligned_memory, apart, recycled, whole_pages
from systems import FACILITIES, missing, needs


def python(faked: str, program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What a process says in which ``faked`` runs before chainrule is there."""
    imports = "import numpy as np, chainrule as cr\nfrom chainrule import nn, optim"
    text = "\n".join((textwrap.dedent(faked), imports, textwrap.dedent(program)))
    return subprocess.run(
        [sys.executable, "-c", text], env={**os.environ, **variables}, capture_output=True, text=True, timeout=300
    )


def said(faked: str, program: str, **variables: str) -> str:
    """Its output; it must end well and say nothing on standard error."""
    done = python(faked, program, **variables)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


# ---- processors without native code

PROCESSOR = """
    import platform
    import llvmlite.binding as llvm
    llvm.get_process_triple = lambda: "{triple}"
    platform.machine = lambda: "{machine}"
"""
NO_LLVM = """
    import platform, sys
    sys.modules["llvmlite"] = sys.modules["llvmlite.binding"] = None
    platform.machine = lambda: "{machine}"
"""
WITHOUT_NATIVE_CODE = {
    "riscv64": (
        PROCESSOR.format(triple="riscv64-unknown-linux-gnu", machine="riscv64"),
        "there is no native code for processor riscv64 (LLVM calls it riscv64-unknown-linux-gnu)",
    ),
    "ppc64le": (
        PROCESSOR.format(triple="powerpc64le-unknown-linux-gnu", machine="ppc64le"),
        "there is no native code for processor ppc64le (LLVM calls it powerpc64le-unknown-linux-gnu)",
    ),
    "s390x": (
        PROCESSOR.format(triple="s390x-ibm-linux", machine="s390x"),
        "there is no native code for processor s390x (LLVM calls it s390x-ibm-linux)",
    ),
    "AArch64 of the other byte order": (
        PROCESSOR.format(triple="aarch64_be-unknown-linux-gnu", machine="aarch64_be"),
        "there is no native code for processor aarch64_be (LLVM calls it aarch64_be-unknown-linux-gnu)",
    ),
    "an x86 process of 32 bits": (
        "import platform, sys\nsys.maxsize = 2**31 - 1\nplatform.machine = lambda: 'x86_64'",
        "there is native code for 64-bit processes only, and this is one of 32 bits, on processor x86_64",
    ),
    "no llvmlite": (
        NO_LLVM.format(machine="x86_64"),
        "llvmlite, which makes native code, cannot be loaded (import of llvmlite.binding halted; None in sys.modules): "
        "`python -m pip install llvmlite` may mend that",
    ),
    "llvmlite of another system": (
        """
        import platform, sys, types
        class Broken(types.ModuleType):
            def __getattr__(self, name):
                raise OSError("libllvmlite.so:\\n  wrong ELF class")
        sys.modules["llvmlite"] = types.ModuleType("llvmlite")
        sys.modules["llvmlite"].binding = sys.modules["llvmlite.binding"] = Broken("llvmlite.binding")
        platform.machine = lambda: "arm64"
        """,
        "llvmlite, which makes native code, cannot be loaded (libllvmlite.so: wrong ELF class): "
        "`python -m pip install llvmlite` may mend that",
    ),
    "neither llvmlite nor kernels": (
        NO_LLVM.format(machine="loongarch64"),
        "there is no native code for processor loongarch64",
    ),
}
TRAINING = """
    def trained():
        cr.manual_seed(0)
        rng = np.random.default_rng(0)
        layers = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 128), nn.Linear(128, 3)
        model = nn.Sequential(*layers)
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        images = rng.standard_normal((64, 1, 8, 8)).astype(np.float32)
        labels = rng.integers(0, 3, 64)
        def step(images, labels):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            return loss
        compiled = cr.compile(step)
        return [round(run(images, labels).item(), 4) for run in (step, step, compiled, compiled)]
"""


def expected_losses() -> str:
    return said("", TRAINING + "\n    print(trained())", CHAINRULE_ENGINE="reference")


@pytest.mark.parametrize("kind", WITHOUT_NATIVE_CODE)
def test_without_native_code_numpy_computes_and_one_warning_says_why(kind: str) -> None:
    faked, why = WITHOUT_NATIVE_CODE[kind]
    small = """
        w = cr.Parameter([1.0, 2.0])
        (w * w).sum().backward()
        print(w.grad.numpy(), cr.thread_count() > 0)
        cr.set_threads(3)
        print(cr.thread_count())
    """
    assert said(faked, small) == "[2. 4.] True\n3\n"
    done = python(faked, TRAINING + "\n    print(trained())")
    assert (done.returncode, done.stdout) == (0, expected_losses()), done.stderr
    assert done.stderr.count("Warning") == 1
    assert (
        f"ChainruleWarning: {why}. NumPy computes everything instead, operation by operation: the results are right, but take "
        "longer. Set CHAINRULE_ENGINE=reference to choose that yourself, without this warning"
    ) in done.stderr
    assert said(faked, TRAINING + "\n    print(trained())", CHAINRULE_ENGINE="reference") == expected_losses()


@pytest.mark.parametrize("kind", WITHOUT_NATIVE_CODE)
def test_who_asks_for_a_program_that_cannot_be_made_is_told(kind: str) -> None:
    faked, why = WITHOUT_NATIVE_CODE[kind]
    program = """
        @cr.compile
        def double(x):
            return x + x
        double(cr.ones((2,)))
        for ask in (lambda: double.program, lambda: double.prepare(cr.ones((2,)))):
            try:
                ask()
            except cr.UserError as error:
                print(error)
    """
    rest = (
        f"{why}, so no program is made: call the function itself, which NumPy then computes, as with CHAINRULE_ENGINE=reference"
    )
    assert said(faked, program, CHAINRULE_ENGINE="reference") == f"double.program: {rest}\ndouble.prepare: {rest}\n"


def test_the_command_trains_without_native_code(tmp_path: Path) -> None:
    faked, why = WITHOUT_NATIVE_CODE["riscv64"]
    run = str(tmp_path / "run")
    program = f"""
        import sys
        from chainrule.cli import main
        sys.argv = ["chainrule", "train", "--model", "mlp", "--limit", "256", "--epochs", "1", "--out", {run!r}]
        main()
    """
    done = python(faked, program, COLUMNS="80")
    assert done.returncode == 0, done.stderr
    assert " ".join(done.stderr.split()).count(f"warning: {why}.") == 1, done.stderr
    assert Path(run, "model.safetensors").is_file()


def test_code_generation_itself_refuses_an_unknown_processor() -> None:
    program = """
        from chainrule.cpu.codegen.target import host_target
        try:
            host_target()
        except cr.UserError as error:
            print(error)
    """
    faked, why = WITHOUT_NATIVE_CODE["riscv64"]
    assert said(faked, program) == f"{why}: set CHAINRULE_ENGINE=reference, and NumPy computes everything\n"


def test_names_of_processors() -> None:
    for name in ("x86_64-unknown-linux-gnu", "AMD64", "x86_64-pc-windows-msvc", "x86_64"):
        assert architecture(name) == "x86_64"
    for name in ("aarch64-unknown-linux-gnu", "arm64-apple-darwin24", "ARM64"):
        assert architecture(name) == "aarch64"
    for name in ("", "i686-pc-linux-gnu", "armv7l", "arm64_32-apple-watchos", "aarch64_be-linux-gnu", "riscv64", "wasm32"):
        assert architecture(name) is None


# ---- pages


def test_memory_where_pages_are_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    places = [apart(number) for number in range(100)]
    assert max(places) < SAME_PLACE
    monkeypatch.setattr(memory, "PAGE", 1 << 16)
    assert [apart(number) for number in range(100)] == places
    assert [whole_pages(nbytes) for nbytes in (0, 1, 1 << 16, (1 << 16) + 1)] == [0, 1 << 16, 1 << 16, 1 << 17]
    for nbytes in (1, 5000, 100_000, 3 << 20):
        assert aligned_memory(nbytes).ctypes.data % SAME_PLACE == 0
    small, address = recycled(5000)
    assert (small.nbytes, address % SAME_PLACE) == (8192, 0), "a small result takes no page of 64 KiB"
    assert recycled((2 << 20) + 1)[0].nbytes == (2 << 20) + (1 << 16)


def test_the_size_of_a_page_is_that_of_the_system() -> None:
    faked = "import mmap\nmmap.PAGESIZE = 16384"
    program = """
    print(trained())
    from chainrule.cpu.runtime import memory, threads
    assert memory.PAGE == 16384 <= threads._pool.scratch_stride, (memory.PAGE, threads._pool.scratch_stride)
    """
    assert said(faked, TRAINING + program) == said("", TRAINING + "\n    print(trained())")


# ---- other systems

MACOS = """
    import mmap, os, pathlib
    vars(os).pop("sched_getaffinity", None)
    mmap.__dict__.pop("MAP_POPULATE", None)
    read_text = pathlib.Path.read_text
    def without_proc(path, *arguments, **options):
        if path.parts[:2] in (("/", "proc"), ("/", "sys")):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return read_text(path, *arguments, **options)
    pathlib.Path.read_text = without_proc
"""
WINDOWS = f"""
    {MACOS}
    import errno, signal, sys, types
    import concurrent.futures, logging, random, subprocess, tempfile, uuid  # they look at the system once, when they are loaded
    import llvmlite.binding, numpy, PIL.Image, rich.console, safetensors.numpy, sysconfig, typer
    sysconfig.get_config_vars()
    for name in ("fork", "register_at_fork", "sysconf", "fchmod", "geteuid", "getuid", "mkfifo", "set_blocking"):
        vars(os).pop(name, None)
    for name in ("O_NOFOLLOW", "O_NONBLOCK"):
        vars(os).pop(name, None)
    for name in ("MAP_PRIVATE", "MAP_ANONYMOUS"):
        vars(mmap).pop(name, None)
    for name in ("SIGHUP", "SIGKILL"):
        vars(signal).pop(name, None)
    for name in ("fcntl", "grp", "pwd", "resource", "termios", "pty"):
        sys.modules[name] = None
    locked = set()
    def locking(handle, mode, count):
        state = os.fstat(handle)
        if state.st_ino in locked:
            raise PermissionError(errno.EACCES, "Permission denied")
        locked.add(state.st_ino)
    sys.modules["msvcrt"] = types.SimpleNamespace(locking=locking, LK_NBLCK=2)
    sys.platform = "win32"
"""


@pytest.mark.parametrize("faked", [MACOS, WINDOWS], ids=["macOS", "Windows"])
def test_what_other_systems_lack_is_not_needed(faked: str, tmp_path: Path) -> None:
    """As far as it can be faked here: without the attributes and modules that Python has on Linux only, and without /proc.
    The type checker, which knows what Python has on each system, looks at all three (see ``.ci/run``)."""
    run = tmp_path / "run"
    training = ["train", "--model", "mlp", "--limit", "256", "--epochs", "1", "--out", str(run)]
    program = f"""
    print(trained())
    from chainrule.cpu.codegen.cores import available_cores
    assert available_cores() == os.cpu_count()
    big = cr.zeros((1 << 20,)) + 1
    assert big.sum().item() == 1 << 20
    import sys
    from chainrule.cli import main
    from chainrule.formats.locks import FileLock
    lock = FileLock(pathlib.Path({str(tmp_path / "lock")!r}), "the place")
    lock.take()
    try:
        FileLock(lock.path, "the place").take()
    except cr.UserError as error:
        print(error)
    lock.release()
    for arguments in ({training!r}, ["evaluate", {str(run)!r}], ["predict", {str(run)!r}]):
        sys.argv = ["chainrule", *arguments]
        main()
    """
    variables = {"HOME": str(tmp_path), "COLUMNS": "80", "CHAINRULE_CACHE": str(tmp_path / "cache")}
    done = python(faked, TRAINING + program, **variables)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    first, second, *shown = done.stdout.splitlines()
    assert first + "\n" == said("", TRAINING + "\n    print(trained())")
    assert second.startswith("the place is in use by ")
    assert any("accuracy" in line for line in shown), shown
    assert (run / "model.safetensors").is_file()
    assert list((tmp_path / "cache").glob("*.o")), "machine code is kept"


# ---- what tests need of the system

TESTS = Path(__file__).parent
FUNCTION = ast.FunctionDef | ast.ClassDef


@cache
def parsed(module: str) -> ast.Module:
    return ast.parse((TESTS / f"{module}.py").read_text(encoding="utf-8"))


@cache
def definitions(module: str) -> dict[str, list[ast.stmt]]:
    """The statements that define each name at the top of a file: functions, classes, constants."""
    found: dict[str, list[ast.stmt]] = {}
    for statement in parsed(module).body:
        if isinstance(statement, FUNCTION):
            found.setdefault(statement.name, []).append(statement)
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            for node in ast.walk(statement):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    found.setdefault(node.id, []).append(statement)
    return found


@cache
def imports(module: str) -> dict[str, tuple[str, str]]:
    """The file in tests/ that a name comes from, and its name there, which is "" for a file that is imported as a whole."""
    found: dict[str, tuple[str, str]] = {}
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.ImportFrom):
            found |= {one.name: (str(node.module), one.name) for one in node.names}
        elif isinstance(node, ast.Import):
            found |= {one.name: (one.name, "") for one in node.names}
    return {name: (file, there) for name, (file, there) in found.items() if (TESTS / f"{file}.py").exists()}


def code_of(statement: ast.stmt) -> str:
    """Without its docstring."""
    if isinstance(statement, FUNCTION) and ast.get_docstring(statement) is not None:
        return "\n".join(ast.unparse(one) for one in [*statement.decorator_list, *statement.body[1:]])
    return ast.unparse(statement)


def uses(module: str, name: str, seen: set[tuple[str, str]]) -> set[str]:
    """The facilities that the code behind a name uses, and the code that it calls, reads or takes as a fixture."""
    if (module, name) in seen or module == "systems":
        return set()
    seen.add((module, name))
    if name in imports(module):
        return uses(*imports(module)[name], seen)
    facilities: set[str] = set()
    for statement in [one for key, each in definitions(module).items() if name in ("", key) for one in each]:
        code = code_of(statement)
        facilities |= {facility for facility, one in FACILITIES.items() if re.search(one.uses, code)}
        for node in ast.walk(statement):
            if isinstance(node, ast.Name | ast.arg):
                facilities |= uses(module, node.id if isinstance(node, ast.Name) else node.arg, seen)
    return facilities


def marks(module: str, name: str) -> set[str]:
    """The facilities that a test says it needs, itself or by a fixture of its file."""
    (test,) = definitions(module)[name]
    assert isinstance(test, ast.FunctionDef)
    fixtures = [one for argument in test.args.args for one in definitions(module).get(argument.arg, [])]
    decorators = [mark for one in (test, *fixtures) if isinstance(one, FUNCTION) for mark in one.decorator_list]
    return named_in("needs", decorators)


def named_in(function: str, nodes: list[ast.AST]) -> set[str]:
    """The arguments, all of them strings, of the calls of this function."""
    calls = [one for node in nodes for one in ast.walk(node) if isinstance(one, ast.Call)]
    return {one.value for call in calls if ast.unparse(call.func) == function for one in call.args}


def test_tests_say_what_they_need_of_the_system() -> None:
    """And CONTRIBUTING.md lists it."""
    unmarked: dict[str, set[str]] = {}
    files: dict[str, list[str]] = {facility: [] for facility in FACILITIES}
    for module in sorted(path.stem for path in TESTS.glob("test_*.py")):
        of_file = named_in("whole_file_needs", parsed(module).body)
        marked = set(of_file)
        for test in [name for name in definitions(module) if name.startswith("test_")]:
            itself = of_file | marks(module, test)
            if lacking := uses(module, test, set()) - itself:
                unmarked[f"{module}.py: {test}"] = lacking
            marked |= itself
        for facility in marked:
            files[facility].append(module.removeprefix("test_"))
    assert unmarked == {}, "mark each of them with systems.needs(...)"
    contributing = " ".join((TESTS.parent / "CONTRIBUTING.md").read_text(encoding="utf-8").split())
    for facility, one in FACILITIES.items():
        assert f"- *{facility}*: {one.sentence} In {', '.join(files[facility])}." in contributing


def test_where_a_facility_is_missing_the_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FACILITIES, "shell", FACILITIES["shell"]._replace(is_here=lambda: True))
    monkeypatch.setitem(FACILITIES, "fork", FACILITIES["fork"]._replace(is_here=lambda: False))
    assert needs("shell").args == (False,)
    mark = needs("fork", "shell")
    why = "This needs fork, which this system lacks. The call os.fork copies the running process."
    assert (mark.args, mark.kwargs) == ((True,), {"reason": why})
    systems.whole_file_needs("shell")
    with pytest.raises(pytest.skip.Exception, match=f"^{re.escape(why)}$"):
        systems.whole_file_needs("fork")


def test_nothing_is_missing_on_linux() -> None:
    """So no test is skipped there, but for those that give files away, where an ordinary user runs the tests, and those that
    need a browser, where there is none: CI has one."""
    if sys.platform == "linux":
        assert missing(*FACILITIES) == ([] if os.geteuid() == 0 else ["superuser"])
    files = [
        path.name for path in TESTS.rglob("*.py") if re.search(r"\b(skip|skipif|importorskip|xfail)\(", path.read_text("utf-8"))
    ]
    assert sorted(files) == ["browser.py", "systems.py"], "these alone have tests skipped"


@pytest.mark.parametrize(
    ("faked", "lacking", "left_out"),
    [
        (MACOS, [], []),
        (WINDOWS, ["fork", "signals", "terminals", "links and pipes", "superuser"], ["test_signals", "test_train_resume"]),
    ],
    ids=["macOS", "Windows"],
)
def test_the_tests_can_be_imported_on_other_systems(faked: str, lacking: list[str], left_out: list[str]) -> None:
    """Where they are faked; what each test needs is asked when its file is imported."""
    loaded_before = (
        f"import asyncio, sys\nsys.path.insert(0, {str(TESTS)!r})\nimport conftest, hypothesis.strategies, pytest, xdist"
    )
    program = f"""
    import importlib
    import systems
    assert set({lacking!r}) <= set(systems.missing(*systems.FACILITIES)), systems.missing(*systems.FACILITIES)
    for path in sorted(pathlib.Path({str(TESTS)!r}).glob("test_*.py")):
        try:
            importlib.import_module(path.stem)
        except pytest.skip.Exception:
            print(path.stem)
    """
    assert said(f"{loaded_before}\n{textwrap.dedent(faked)}", program).split() == left_out
