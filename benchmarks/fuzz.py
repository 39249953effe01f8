"""Does anything but an answer or a clean error come out? ./dev bench fuzz [--minutes 10] [--seed 0]

Random calls of the public constructors and verbs, and random commands, tiny and with wild values mixed in
(``fuzz_cases``). Each is done by a process of its own, forked from one that has loaded everything, with a
limit of 25 s of processor time (on a machine that does nothing else: 25 s) and 4 GB. What must come out:

    answer   finite numbers, or training that is flagged as diverged; JSON without NaN; no warning
    refusal  ValueError, TypeError, MemoryError or OSError raised by leadline, that names an argument; on
             the command line exit code 1 or 2 and one line of error, no traceback
    long     it was told by progress that it goes on, and how far it is

Everything else is bad, and printed with its number: --case NUMBER does that one again, in this process.
Writes benchmarks/results/fuzz.json.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import json
import os
import random
import re
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import fuzz_cases
import numpy as np
import torch
from history import keep, size

import leadline as ll
import leadline.available
import leadline.cli.program
from leadline.cli.lifecycle import TRACEBACK

LIMIT = 25
# On a busy machine, or for one that sleeps.
WALL = 300.0
# Longer than this, with progress, is known to be long.
PATIENCE = 6.0
MEMORY = 4 << 30
CLEAN = (ValueError, TypeError, MemoryError, OSError, ImportError, KeyError)
LIBRARY = os.path.dirname(ll.__file__)


class Long(BaseException):
    """Enough progress was seen."""


def main() -> None:
    """Fuzz for some minutes, or do one case."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        prepare(folder)
        if given.case is not None:
            print(describe(given.seed, given.case, folder))
            print(outcome(given.seed, given.case, folder))
            return
        run(given, folder)


def run(given: Any, folder: str) -> None:
    """Case after case until time is up."""
    counts: collections.Counter[str] = collections.Counter()
    bad, slowest, started, number = [], 0.0, time.monotonic(), given.first
    while time.monotonic() - started < 60 * given.minutes and number - given.first < size(
        10**9, 12
    ):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        found = watched(given.seed, number, folder)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        slowest = max(slowest, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        counts[found.split(":")[0]] += 1
        if found.startswith("bad"):
            bad.append(number)
            try:
                what = describe(given.seed, number, folder)
            except Exception as e:
                what = f"{type(e).__name__}: {e}"
            print(f"--seed {given.seed} --case {number}: {what}")
            print(f"    {found}", flush=True)
        number += 1
    total = sum(counts.values())
    said = ", ".join(f"{k} {v}" for k, v in counts.most_common())
    print(f"{total} cases in {time.monotonic() - started:.0f} s (slowest {slowest:.1f} s): {said}")
    numbers = {**counts, "cases": total, "bad": len(bad), "slowest_seconds": round(slowest, 1)}
    keep("fuzz", {f"seed {given.seed}": numbers | {"bad_cases": bad}})


def prepare(folder: str) -> None:
    """Files that cases read, and all modules loaded before the first fork."""
    here = Path(folder)
    (here / "model.py").write_text(fuzz_cases.MODEL)
    (here / "text.txt").write_text("to be or not to be, " * 200)
    grid = [(w, d) for w in (8, 16, 32, 64) for d in (1, 2, 4)]
    lines = [f"{w},{d},{1 + 1 / w + 0.1 / d}" for w, d in grid]
    (here / "runs.csv").write_text("\n".join(["width,depth,loss", *lines]))
    if size(False, True):
        return
    p, sgd = ll.teacher(4, 4), ll.SGD(steps=1)
    for verb in (ll.solve, ll.train):
        verb(p, ll.ResNet(), sgd, width=8, depth=1)
    ll.lazy(p, ll.ResNet(), sgd)
    ll.sweep(
        p, ll.residual_mlp(4, 1), widths=[32], depths=[1], lrs=[0.1], steps=1, executor="inline"
    )
    ll.forecast(str(here / "runs.csv"), draws=50)


def source(seed: int, number: int) -> random.Random:
    """The random numbers of one case."""
    return random.Random(f"{seed}:{number}")


def describe(seed: int, number: int, folder: str) -> str:
    """The call, in short."""
    r = source(seed, number)
    if r.random() < 0.4:
        words = fuzz_cases.command(r, folder)
        return "leadline " + " ".join(w if len(w) < 60 else f"{w[:50]}…" for w in map(repr, words))
    name = fuzz_cases.pick(r, [*fuzz_cases.calls(folder)])
    _, how = fuzz_cases.calls(folder)[name](r)
    shown = ", ".join(f"{k}={short(v)}" for k, v in how.items())
    return f"{name}({shown})"


def short(value: Any) -> str:
    """A value in a line."""
    text = " ".join(repr(value).split()) if not callable(value) else getattr(value, "__name__", "?")
    return text if len(text) < 160 else f"{text[:150]}…"


def watched(seed: int, number: int, folder: str) -> str:
    """The case in a child: its outcome, or that it hung or died."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY + virtual(), MEMORY + virtual()))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT + 1))
        # What is promised by default has to fit into the limit.
        leadline.available.memory = lambda: MEMORY // 2  # type: ignore[assignment]
        try:
            found = outcome(seed, number, folder)
        except BaseException as e:
            found = (
                f"bad: the fuzzer itself: {type(e).__name__}: {e} {traceback.format_exc()[-600:]}"
            )
        os.write(writer, found.encode(errors="replace")[:60_000])
        os._exit(0)
    os.close(writer)
    parts, end = [], time.monotonic() + WALL
    while True:
        ready, _, _ = select.select([reader], [], [], max(end - time.monotonic(), 0))
        part = os.read(reader, 1 << 16) if ready else b""
        parts.append(part)
        if not part:
            break
    os.close(reader)
    text = b"".join(parts).decode()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    _, code = os.waitpid(pid, 0)
    if text:
        return text
    if not ready or os.WTERMSIG(code) == signal.SIGXCPU:
        return f"bad: no answer within {LIMIT} s"
    return f"bad: died with status {code}"


def virtual() -> int:
    """Bytes of address space now."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def outcome(seed: int, number: int, folder: str) -> str:
    """Do the case here."""
    # What nobody expected has to be seen.
    os.environ[TRACEBACK] = "1"
    try:
        return outcome_in(seed, number, folder)
    finally:
        del os.environ[TRACEBACK]


def outcome_in(seed: int, number: int, folder: str) -> str:
    """Do the case in a folder of its own."""
    r = source(seed, number)
    with tempfile.TemporaryDirectory(dir=folder) as own:
        for name in ("model.py", "text.txt", "runs.csv"):
            os.link(f"{folder}/{name}", f"{own}/{name}")
        os.chdir(own)
        try:
            if r.random() < 0.4:
                return command(fuzz_cases.command(r, folder), own)
            name = fuzz_cases.pick(r, [*fuzz_cases.calls(folder)])
            function, how = fuzz_cases.calls(folder)[name](r)
            return call(name, function, how)
        finally:
            os.chdir(folder)


def call(name: str, function: Any, how: dict[str, Any]) -> str:
    """One call of the library."""
    started = time.process_time()

    def progress(**_: Any) -> None:
        if time.process_time() - started > PATIENCE:
            raise Long

    if name in ("solve", "train", "limit", "compare", "forecast", "sweep"):
        how = {"progress": progress, **how}
    with (
        warnings.catch_warnings(record=True) as heard,
        contextlib.redirect_stdout(io.StringIO()) as out,
    ):
        warnings.simplefilter("always")
        try:
            result = function(**how)
        except Long:
            return "long"
        except CLEAN as e:
            return refusal(e, [*how], heard)
        except Exception as e:
            return f"bad: {type(e).__name__}: {str(e)[:300]}{where(e)}"
    if heard:
        return (
            f"bad: warning {heard[0].category.__name__}: {heard[0].message} ({heard[0].filename})"
        )
    if out.getvalue():
        return f"bad: printed {out.getvalue()[:100]!r}"
    return answer(result)


def where(e: BaseException) -> str:
    """Where it was raised."""
    frames = traceback.extract_tb(e.__traceback__)
    return " at " + " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames[-4:]))


def refusal(e: Exception, names: list[str], heard: list[Any]) -> str:
    """Is an error clean?"""
    said = str(e.args[0]) if isinstance(e, KeyError) and e.args else str(e)
    frames = traceback.extract_tb(e.__traceback__)
    if not frames[-1].filename.startswith(LIBRARY):
        return f"bad: foreign {type(e).__name__}: {said[:300]}{where(e)}"
    if heard:
        return f"bad: warning {heard[0].message} before {said[:200]}"
    if len(said) > 1500:
        return f"bad: a message of {len(said)} characters: {said[:200]}{where(e)}"
    parts = {"steps", "width", "depth", "samples", "data", "activation", "schedule", "scheme"}
    parts |= {"problem", "path", "network", "horizon", "sgd", "seeds", "columns", "text"}
    named = [n for n in {*names, *parts} if re.search(rf"\b{n}\b", said)]
    if not named:
        return f"bad: names no argument: {said[:300]}{where(e)}"
    return "refusal"


def answer(result: Any) -> str:
    """Is an answer finite where it says so?"""
    if isinstance(result, ll.Trajectory):
        ended = result.diverged
        loss = result.train_loss
        for s in range(result.seeds):
            whole = np.isfinite(result.train_outputs[s]).all() and np.isfinite(loss[s]).all()
            if ended is None or (ended[s] < 0 and not whole):
                return f"bad: not finite, and not flagged: {loss[s]}"
    if isinstance(result, ll.Limit):
        if result.converged and not np.isfinite(result.train_loss_error).all():
            return "bad: converged with an error bar that is not finite"
        if not np.isfinite(result.train_loss).all() and "diverge" not in result.message:
            return f"bad: not finite, and not flagged: {result.message}"
    if isinstance(result, ll.InitialKernels):
        for part in ("features", "gradients", "tangent"):
            if not np.isfinite(getattr(result, part)).all():
                return f"bad: {part} is not finite"
    data = getattr(result, "to_json", None)
    if data is not None:
        found = data()
        if isinstance(found, str):
            json.loads(found, parse_constant=strict)
        else:
            json.dumps(found, allow_nan=False)
    str(result)
    return "answer"


def strict(name: str) -> Any:
    """JSON knows no such number."""
    raise ValueError(f"JSON holds {name}")


def command(words: list[str], folder: str) -> str:
    """One command, in this process, its streams in files."""
    streams = [os.open(f"{folder}/{n}", os.O_RDWR | os.O_CREAT) for n in ("stdout", "stderr")]
    kept = [os.dup(1), os.dup(2)]
    started, code, error = time.process_time(), 0, ""

    def late(_signal: int, _frame: Any) -> None:
        raise Long

    usual = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT - 5)
    try:
        for to, stream in enumerate(streams, start=1):
            os.dup2(stream, to)
        with open(1, "w", closefd=False) as sys.stdout, open(2, "w", closefd=False) as sys.stderr:
            try:
                leadline.cli.program.main(words, prog_name="leadline")
            except SystemExit as e:
                code = e.code if isinstance(e.code, int) else 1
            except Long:
                error = "long"
            except BaseException as e:
                error = f"bad: {type(e).__name__}: {str(e)[:300]}{where(e)}"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, usual)
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        for to, stream in enumerate(kept, start=1):
            os.dup2(stream, to)
    out, err = (os.pread(s, 1 << 24, 0).decode(errors="replace") for s in streams)
    if error == "long" or (code and time.process_time() - started > LIMIT - 5):
        told = re.search(r"\b(left|step|runs|min|s)\b", err)
        return "long" if told else f"bad: {LIMIT - 5:.0f} s without progress: {err[-200:]!r}"
    if error:
        return error
    if "Traceback" in err or re.search(r"\w+Warning: ", err):
        return f"bad: {err[-500:]!r}"
    if code == 0:
        if not out.strip():
            return f"bad: no output, {err[-200:]!r}"
        if "--json" in words:
            json.loads(out, parse_constant=strict)
        return "answer"
    lines = [line for line in err.splitlines() if line.startswith("Error:")]
    if words[0] in ("check", "transfer") and code in (1, 3) and out.strip() and not lines:
        return "answer"  # a layer fails, a rate does not transfer; or that is undecided
    if words[0] == "sweep" and code == 1 and out.strip():
        return "answer"  # some runs failed, and which
    if len(lines) != 1 or len(lines[0]) > 1500 or code not in (1, 2):
        return f"bad: exit code {code}, stderr {err[-500:]!r}, stdout {out[-100:]!r}"
    return "refusal"


if __name__ == "__main__":
    main()
