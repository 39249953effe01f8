"""Damaged and interrupted files: what one flipped bit, another length or a kill does to an answer.

./dev bench damage flips      300 single bits in checkpoints, saved runs, plans, pages, claims' data, stores
./dev bench damage lengths    the same files cut off, and with bytes added
./dev bench damage store      2,000 single bits of a store of runs, and 300 lengths
./dev bench damage kills      20 kills (SIGKILL) of a solve that writes checkpoints, each resumed
./dev bench damage interrupts 32 commands that are interrupted twice
"""

import contextlib
import multiprocessing
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.multiprocessing
from history import TOY, keep_printed, size
from torch import distributed

import leadline as ll
from leadline.claims import studies
from leadline.disk.write import SUFFIX
from leadline.reporting import page_store
from leadline.reporting.page import render
from leadline.reporting.results import result_page
from leadline.store.file import NAME

FLIPS = size(300, 20)
KILLS = size(20, 1)
INTERRUPTS = size(32, 1)
START = 0.3
PROBLEM = ll.teacher(samples=6, dimension=4, test_samples=3)
HOW: dict[str, Any] = dict(width=600, depth=2, seeds=2, tol=1e-3)
SGD = ll.SGD(lr=0.3, steps=4, momentum=0.5)
NAMES = ("train_loss", "train_outputs", "test_outputs", "diverged")


class Stop(Exception):
    """Ends a solve in the middle."""


def solve(path: Path | None, stop: int = 0, **more: Any) -> ll.Trajectory:
    """The computation that all checkpoints here belong to."""
    calls = 0

    def watch(**_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == stop:
            raise Stop

    how = HOW | dict(checkpoint=path, checkpoint_every=0.0, progress=watch) | more
    return ll.solve(PROBLEM, ll.ResNet(), SGD, **how)


def numbers(run: ll.Trajectory) -> bytes:
    """All that a run says, but how long it took."""
    return b"".join(np.ascontiguousarray(getattr(run, n)).tobytes() for n in NAMES)


@dataclass
class Kind:
    """A kind of file: where it lies, and what is read from it."""

    folder: Path
    name: str
    read: Callable[[Path], Any]


def shared(rank: int, folder: str) -> None:
    """One of two processes that share a solve's neurons, and stop in the middle."""
    torch.set_num_threads(1)
    where = f"file://{folder}/meet"
    distributed.init_process_group("gloo", init_method=where, rank=rank, world_size=2)
    with contextlib.suppress(Stop):
        solve(Path(folder) / "shared", stop=3, group=distributed.group.WORLD)
    distributed.destroy_process_group()


@contextlib.contextmanager
def kinds() -> Iterator[dict[str, Kind]]:
    """One file of every kind that is read back."""
    with tempfile.TemporaryDirectory() as root:
        found = {}

        def add(kind: str, name: str, read: Callable[[Path], Any]) -> Path:
            folder = Path(root) / kind
            folder.mkdir(exist_ok=True)
            found[kind] = Kind(folder, name, read)
            return folder / name

        def checkpoint(path: Path) -> bytes:
            return numbers(solve(path.with_name("shared" if "shared" in path.name else path.name)))

        with contextlib.suppress(Stop):
            solve(add("unfinished checkpoint", "c", checkpoint), stop=3)
        run = solve(add("finished checkpoint", "c", checkpoint))
        run.save(add("saved run", "run", lambda p: numbers(ll.Trajectory.load(p))))
        if not TOY:
            folder = add("shared checkpoint", "shared", checkpoint).parent
            torch.multiprocessing.spawn(shared, (str(folder),), nprocs=2)
            (folder / "meet").unlink(missing_ok=True)
            piece = next(folder.glob("shared.*of2")).name
            copy = add("a shared checkpoint's piece", piece, checkpoint).parent
            shutil.copytree(folder, copy, dirs_exist_ok=True)
        torch.manual_seed(0)
        plan = ll.plan(ll.residual_mlp(4, 2), dict(width=64, depth=2), dict(width=128, depth=4))
        plan.save(add("plan", "plan.json", lambda p: ll.Plan.load(p)))
        path = add("page", page_store.NAME, lambda p: render(page_store.load(p.parent)))
        page_store.save(result_page(run), path.parent)
        path = add(
            "data of a claim", "claim-3.json", lambda p: studies.read_claim(p.parent.parent, 3)
        )
        found["data of a claim"].folder = path.parent / "data"
        made = {"preset": "quick", "problem": "digits", "seed": 0}
        studies.write_claim(path.parent, 3, studies.content(made, 3, {"loss": run.train_loss}))
        yield found | {"store": runs_of(Path(root) / "store")}


def runs_of(folder: Path) -> Kind:
    """A store: its table, a filtered one, and all curves by the bit."""
    with ll.Store(folder) as store:
        for k in range(40):
            loss = np.linspace(1, 1 / (k + 1), 50)
            store.put({"width": 8 << k % 4, "seed": k}, {"loss": loss[-1]}, {"loss": loss})

    def read(path: Path) -> list[Any]:
        with ll.Store(path.parent, create=False) as store:
            records = [(r.id, r.time, r.curves["loss"].tobytes()) for r in store.records()]
            return [store.table(), store.table({"width": 16}), records]

    return Kind(folder, NAME, read)


def outcome(kind: Kind, data: bytes, whole: Any) -> str:
    """What reading a damaged file comes to: refused, same, silent or foreign."""
    path = kind.folder / kind.name
    before = {p: p.read_bytes() for p in kind.folder.iterdir() if p.is_file()}
    path.write_bytes(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return "same" if kind.read(path) == whole else "silent"
    except (ValueError, OSError) as error:
        return "refused" if str(kind.folder) in str(error) else f"foreign ({error!r})"
    except Exception as error:
        return f"foreign ({error!r})"
    finally:
        for p in kind.folder.iterdir():
            if p not in before:
                p.unlink()
        for p, content in before.items():
            p.write_bytes(content)


def tell(counts: dict[str, dict[str, int]]) -> None:
    """The counts of every kind, and in total."""
    total: dict[str, int] = {}
    for kind, found in counts.items():
        print(f"{kind}: " + ", ".join(f"{n} {what}" for what, n in sorted(found.items())))
        for what, n in found.items():
            total[what] = total.get(what, 0) + n
    wrong = sum(n for what, n in total.items() if what not in ("refused", "same"))
    print(
        f"{sum(total.values())} damages, {total.get('refused', 0)} refused, {wrong} silent or foreign"
    )


def flips() -> None:
    """One bit of a file; a third of them in its header"""
    chance, counts = random.Random(0), {}
    with kinds() as found:
        whole = {
            name: k.read(k.folder / k.name) for name, k in found.items() if "check" not in name
        }
        answer = numbers(solve(None))
        for i in range(FLIPS):
            name = list(found)[i % len(found)]
            kind = found[name]
            data = bytearray((kind.folder / kind.name).read_bytes())
            bit = chance.randrange(8 * (header(data) if i % 3 == 0 else len(data)))
            data[bit // 8] ^= 1 << bit % 8
            what = outcome(kind, bytes(data), whole.get(name, answer))
            counts.setdefault(name, {}).setdefault(what, 0)
            counts[name][what] += 1
    tell(counts)


def header(data: bytes | bytearray) -> int:
    """How many bytes at the beginning say what the others are."""
    if data[:1] == b"{":
        return len(data)
    return 100 if data[:6] == b"SQLite" else 8 + int.from_bytes(data[:8], "little")


def store() -> None:
    """A store of 40 runs: one bit (a third of them in the file's first page), and other lengths"""
    chance, counts = random.Random(4), {}
    with tempfile.TemporaryDirectory() as root:
        kind = runs_of(Path(root) / "store")
        data = (kind.folder / kind.name).read_bytes()
        whole = kind.read(kind.folder / kind.name)
        for i in range(size(2000, 20)):
            bad = bytearray(data)
            bit = chance.randrange(8 * (4096 if i % 3 == 0 else len(data)))
            bad[bit // 8] ^= 1 << bit % 8
            what = outcome(kind, bytes(bad), whole)
            counts.setdefault("bits", {}).setdefault(what, 0)
            counts["bits"][what] += 1
        for _ in range(size(300, 5)):
            what = outcome(kind, data[: chance.randrange(len(data))], whole)
            counts.setdefault("lengths", {}).setdefault(what, 0)
            counts["lengths"][what] += 1
    tell(counts)


def lengths() -> None:
    """Files that are cut off, at the ends of their parts and elsewhere, and files with more at the end"""
    chance, counts = random.Random(1), {}
    with kinds() as found:
        whole = {
            name: k.read(k.folder / k.name) for name, k in found.items() if "check" not in name
        }
        answer = numbers(solve(None))
        for name, kind in found.items():
            data = (kind.folder / kind.name).read_bytes()
            head = min(header(data), len(data) - 1)
            cuts = [0, 1, 7, 8, 9, head - 1, head, len(data) - 1]
            cuts += [chance.randrange(len(data)) for _ in range(size(12, 2))]
            damaged = [data[:c] for c in cuts] + [data + b"\0", data + data, data + bytes(4096)]
            for bad in damaged:
                what = outcome(kind, bad, whole.get(name, answer))
                counts.setdefault(name, {}).setdefault(what, 0)
                counts[name][what] += 1
    tell(counts)


LONG: dict[str, Any] = dict(width=512, depth=4, seeds=2)


def long(path: Path | None) -> ll.Trajectory:
    """A solve of some seconds that writes a checkpoint after every step."""
    problem = ll.teacher(samples=12, dimension=6, test_samples=4)
    sgd = ll.SGD(lr=0.3, steps=size(24, 3), batch_size=4)
    how = LONG | dict(checkpoint=path, checkpoint_every=0.0)
    return ll.solve(problem, ll.ResNet(), sgd, **how)


def work(path: str) -> None:
    """In a process of its own, to be killed."""
    torch.set_num_threads(1)
    long(Path(path))


def kills() -> None:
    """A solve killed at random moments of its work, and resumed to the end"""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["leadline.solving.solver", "torch._dynamo"])
    chance, differ, left, cut, steps = random.Random(2), 0, 0, 0, []
    with tempfile.TemporaryDirectory() as root:
        for name in ("cold", "warm"):  # what is killed forks from a server that has loaded torch
            started = time.monotonic()
            whole = context.Process(target=work, args=(f"{root}/{name}",))
            whole.start()
            whole.join()
            length = time.monotonic() - started
        answer = numbers(long(None))
        while cut < KILLS:
            path = Path(root) / str(cut) / "c"
            path.parent.mkdir(exist_ok=True)
            process = context.Process(target=work, args=(str(path),))
            process.start()
            process.join(chance.uniform(0.1, 0.9) * length)
            cut += process.is_alive()
            process.kill()
            process.join()
            if path.exists():
                steps.append(ll_step(path))
            differ += numbers(long(path)) != answer
            left += len(list(path.parent.glob(f"*{SUFFIX}")))
            shutil.rmtree(path.parent)
    print(f"{cut} kills, {len(steps)} with a checkpoint, of steps {sorted(steps)}")
    print(f"{differ} of the resumed solves differ; {left} unfinished files are left")


def ll_step(path: Path) -> int:
    """Steps and seeds that a checkpoint has behind it."""
    from leadline.disk.sealed import Sealed

    header = Sealed(path).header
    return header["finished"] * size(24, 3) + header["step"]


def interrupts() -> None:
    """Two SIGINTs at random moments of a command, the second at most half a second after the first"""
    chance, counts = random.Random(3), {}
    with tempfile.TemporaryDirectory() as root:
        command = [
            sys.executable,
            "-m",
            "leadline",
            "solve",
            "--problem",
            "teacher?samples=6,dimension=4",
        ]
        command += ["--steps", "40", "--width", "256", "--depth", "4", "--quiet"]
        started = time.monotonic()
        subprocess.run(command, capture_output=True, check=True)
        length = time.monotonic() - started
        for i in range(INTERRUPTS):
            out = Path(root) / str(i)
            kept = ["--out", str(out), "--checkpoint-every", "0"]
            with subprocess.Popen(command + kept, stdout=-1, stderr=-1, text=True) as running:
                # What Python does before any of the program runs is not the program's.
                time.sleep(START + chance.uniform(0, 1.2) * length)
                for pause in (chance.choice([0.0, chance.uniform(0, 0.5)]), 0.0):
                    running.send_signal(signal.SIGINT)
                    time.sleep(pause)
                said = running.communicate()[1]
            what = "ended before" if running.returncode == 0 else f"exit {running.returncode}"
            if "Traceback" in said or len(said.splitlines()) > 1:
                what = "traceback" if "Traceback" in said else "more than a line"
                print(said)
            if "resumes" in said and not (out / "checkpoint.safetensors").exists():
                what = "a checkpoint named that is not there"
            counts[what] = counts.get(what, 0) + 1
    print(", ".join(f"{n} {what}" for what, n in sorted(counts.items())))


if __name__ == "__main__":
    keep_printed(
        "damage",
        {
            "flips": flips,
            "lengths": lengths,
            "store": store,
            "kills": kills,
            "interrupts": interrupts,
        },
    )
