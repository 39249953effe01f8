"""Tests run in a copy of the repository, in a process forked from one that has loaded the libraries.

Neither leadline nor a test is loaded before the fork, so each run sees the copy's files; loading torch,
scipy and transformers again would take seconds a mutant.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import math
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import touching

LIBRARIES = (
    "numpy scipy.optimize scipy.stats scipy.special scipy.linalg sklearn.linear_model torch torch.func"
    " torch._dynamo"
    " plotly.graph_objects click rich.table rich.progress safetensors.torch psutil jinja2 pytest pandas"
    " transformers hypothesis hypothesis.extra.numpy hypothesis.strategies _hypothesis_pytestplugin"
)
# A mutant may ask for any size.
MEMORY = 8 << 30
STARTING = 120.0
"""Seconds that collecting tests may take."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: "passed", "failed" or "timeout"; by which test; what each test took."""

    status: str
    test: str = ""
    seconds: dict[str, float] | None = None


def load() -> None:
    """What every run would load again."""
    for name in LIBRARIES.split():
        with suppress(ImportError):
            importlib.import_module(name)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # pytest collects garbage several times a run; none of this is


def copy_tree(root: Path, to: Path) -> None:
    """The files that belong to the repository, with the changes not yet committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (root / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, to / name)


_written = 0


def write(path: Path, text: str) -> None:
    """A source that no cached bytecode is taken for: that goes by whole seconds and length."""
    global _written
    _written += 1
    path.write_text(text)
    when = 1_000_000_000 + 10_000_000 * (os.getpid() % 50) + _written
    os.utime(path, (when, when))


def run(
    tree: Path,
    tests: Mapping[str, float],
    measured: Path | None = None,
    files: Sequence[str] = (),
    whole: float = 1800.0,
) -> Outcome:
    """Run tests in their order, up to the first that fails.

    Args:
        tree: copy of the repository.
        tests: node ids, with the processor seconds that each may take; all of ``files`` if none.
        measured: file for what each test touched; every test is run then.
        whole: most seconds that any test may take by the clock.
    """
    files = files or sorted({t.split("::")[0] for t in tests})
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.close(read)
            code = _child(tree, tests, list(files), write, measured)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    os.close(write)
    followed = Followed(tests, STARTING if measured is None else whole, whole)
    try:
        followed.read(read)
    finally:
        os.close(read)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL if followed.late else 0)
        _, ended = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(ended)
    if code in (3, 4, 70) and not followed.running:
        said = (tree / "trial.log").read_text()[-2000:]
        raise RuntimeError(f"the tests did not start ({code}): {said}")
    return followed.outcome(code)


class Followed:
    """What a run says while it runs: tests that start, end and fail, and how it exits.

    Args:
        tests: node ids and the processor seconds that each may take.
        first: seconds until something is said. whole: most seconds by the clock.
    """

    def __init__(self, tests: Mapping[str, float], first: float, whole: float = 1800.0) -> None:
        self._tests, self._whole, self._buffer = tests, whole, b""
        self._deadline = time.monotonic() + first
        self.running, self.failed, self.late = "", "", False
        self.seconds: dict[str, float] = {}
        self.pid: int | None = None
        self.code: int | None = None

    def read(self, pipe: int) -> None:
        """Until the pipe is closed, the run has ended or is late."""
        while self.code is None:
            left = max(0.0, self._deadline - time.monotonic())
            if not select.select([pipe], [], [], left)[0]:
                self.late = True
                return
            block = os.read(pipe, 65536)
            if not block:
                return
            *lines, self._buffer = (self._buffer + block).split(b"\n")
            for line in lines:
                self._take(*json.loads(line))

    def _take(self, word: str, test: str, value: float) -> None:
        if word == "start":
            self.running = test
            # For a test that waits; one that works is stopped by its processor time.
            limit = 60 + 8 * self._tests.get(test, self._whole)
            self._deadline = time.monotonic() + min(limit, self._whole)
        elif word == "end":
            self.seconds[test] = value
        elif word == "failed":
            self.failed = self.failed or test
        elif word == "pid":
            self.pid = int(value)
        elif word == "exit":
            self.code = int(value)

    def outcome(self, code: int) -> Outcome:
        """Given the exit code: negative is a signal's, 5 that none of the tests exists any more."""
        if self.late or code == -signal.SIGXCPU:
            return Outcome("timeout", self.running, self.seconds)
        if code in (0, 5):
            return Outcome("passed", "", self.seconds)
        return Outcome("failed", self.failed or self.running or "collection", self.seconds)


def bound(seconds: float) -> None:
    """This process dies with its parent, and of more memory or processor time than these."""
    with suppress(OSError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if math.isfinite(seconds):
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), resource.RLIM_INFINITY))


def enter(tree: Path) -> list[str]:
    """Work in a copy of the repository, its output in trial.log: pytest's arguments."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    log = os.open(tree / "trial.log", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(tree)
    os.environ["PYTHONPATH"] = str(tree / "src")
    # Random tests draw the same examples every time.
    os.environ["CI"] = "1"
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    here = str(Path(__file__).parent)
    sys.path[:] = [str(tree / "src")] + [p for p in sys.path if p not in (here, "")]
    for name in ("changes", "mutants", "touching", "trial", "warm", "choosing", "scores"):
        sys.modules.pop(name, None)
    plugins = ["-p", "no:cacheprovider", "-p", "_hypothesis_pytestplugin"]
    quiet = ["-W", "ignore::pytest.PytestAssertRewriteWarning", "--tb", "short"]
    return [*plugins, *quiet, "--basetemp", str(tree / "trial-tmp")]


def _child(
    tree: Path, tests: Mapping[str, float], files: list[str], pipe: int, measured: Path | None
) -> int:
    bound(STARTING if measured is None else math.inf)
    arguments = enter(tree) + ([] if measured else ["-x"])
    watch = touching.Watch(tests, pipe, tree if measured else None)
    code = int(pytest.main([*arguments, *files], plugins=[watch]))
    if measured:
        measured.write_text(json.dumps(watch.result()))
    return code
