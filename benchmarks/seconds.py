"""What a user waits for, as ratios in one run: ./dev bench seconds [part ...]

Each ratio is of medians of alternating runs in one process (start and demo: of processes), with the
lowest and the highest ratio of a round, and the ratio of processor times, which a busy machine changes
less. Parts:

start      a tiny ``leadline solve`` from the shell, a plan and --help, over ``import torch``
small      ``solve`` over ``train``: 8 seeds, L = 8, P = 32, 20 full-batch steps, n = 64, 256, 1024
tests      the same at n = 256 with the default test set (325 inputs), which ``train`` evaluates at every
           step and ``solve`` by default at fewer; and at every step in both
evaluation the share of a solve's time that 325 test inputs take, two seeds, n = 256, 1024, 4096
limit      ``limit`` of the demo's problem to rtol .02, reused and independent, over ``train`` of four
           networks of width 1024, depth 8, 20 steps
wide       ``train`` over ``solve``: n = 4096, L = 16, P = 8, 5 steps
demo       the seconds of ``leadline compare`` with its defaults, which is what ./dev demo runs
floor      n = 16384, L = 64, P = 32, 40 steps over the floor of its products (about 6 GiB and ten
           minutes, see ./dev bench floor): only where it is named
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from history import keep, size, spread

import leadline as ll

NET = ll.ResNet("tanh", scheme="depth-mup")
STEPS = size(20, 2)
SGD = ll.SGD(lr=0.3, steps=STEPS)
MODEL = "from leadline import residual_mlp\n\nbuild = residual_mlp(inputs=8, outputs=2)\n"
"""A file that ``leadline plan`` reads."""

Times = dict[str, list[tuple[float, float]]]
"""Wall and processor seconds of every round, by name."""


def alternating(rounds: int, calls: dict[str, Callable[[], Any]]) -> Times:
    """Each call in turn, so many times over, after a first round that does not count."""
    out: Times = {name: [] for name in calls}
    for k in range(size(rounds, 1) + 1):
        for name, call in calls.items():
            wall, processor = time.perf_counter(), _processor()
            call()
            took = time.perf_counter() - wall, _processor() - processor
            if k:
                out[name].append(took)
    return out


def _processor() -> float:
    """Of this process, its threads, and the processes it has waited for."""
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


def ratio(times: Times, over: str, under: str, bound: str) -> dict[str, Any]:
    """The ratio of medians, and how far single rounds lie apart."""
    walls = {name: [wall for wall, _ in times[name]] for name in (over, under)}
    used = {name: [processor for _, processor in times[name]] for name in (over, under)}
    each = [a / b for a, b in zip(walls[over], walls[under], strict=True)]
    median = statistics.median
    return {
        f"{over} / {under} ({bound})": median(walls[over]) / median(walls[under]),
        "rounds": spread(each),
        "processor": median(used[over]) / max(median(used[under]), 1e-9),
        **{f"{name}, s": spread(walls[name]) for name in (over, under)},
    }


def _digits(samples: int, tests: int | None, classes: tuple[int, ...] = (0, 1)) -> ll.Problem:
    return ll.digits(classes=classes, samples=samples, test_samples=tests)


def _networks(
    problem: ll.Problem, width: int, rounds: int, bound: str, seeds: int = 8, **options: Any
) -> dict[str, Any]:
    """``solve`` over ``train`` of the same networks."""
    n, l = size((width, 8), (16, 2))
    how = dict(width=n, depth=l, seeds=size(seeds, 2))
    times = alternating(
        rounds,
        {
            "solve": lambda: ll.solve(problem, NET, SGD, **how, **options),
            "train": lambda: ll.train(problem, NET, SGD, **how),
        },
    )
    return ratio(times, "solve", "train", bound)


def start() -> dict[str, Any]:
    """Processes that begin and end."""
    tiny = (
        "solve --problem digits:0,1?samples=4,test_samples=0 --width 32 --depth 2 --steps 1 --quiet"
    )
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.py"
        model.write_text(MODEL)
        programs = {
            "import torch": ["-c", "import torch"],
            "leadline solve": ["-m", "leadline", *tiny.split()],
            "leadline plan": ["-m", "leadline", "plan", str(model)],
            "leadline --help": ["-m", "leadline", "--help"],
        }
        times = alternating(5, {name: lambda a=a: _python(*a) for name, a in programs.items()})
    return {
        name: ratio(times, name, "import torch", bound)
        for name, bound in (
            ("leadline solve", "<= 1.2"),
            ("leadline plan", "<= 1.3"),
            ("leadline --help", "<= 0.2"),
        )
    }


def _python(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)


def small() -> dict[str, Any]:
    """Networks of small and moderate width."""
    problem = _digits(size(32, 4), 0)
    bounds = ((64, 7, "<= 2"), (256, 5, "<= 1.5"), (1024, 3, "<= .2"))
    return {f"n={n}": _networks(problem, n, rounds, bound) for n, rounds, bound in bounds}


def tests() -> dict[str, Any]:
    """The default test set."""
    problem = _digits(32, size(None, 4), (3, 8))
    return {
        "n=256": _networks(problem, 256, 3, "<= 2.5"),
        "n=256, at every step": _networks(problem, 256, 3, "<= 2.5", test_every=1),
    }


def evaluation() -> dict[str, Any]:
    """One minus the time without test inputs over the time with them."""
    without, among = (_digits(size(32, 4), tests, (3, 8)) for tests in (0, size(None, 4)))
    out = {}
    for width in size((256, 1024, 4096), (16,)):
        how = dict(width=width, depth=size(8, 2), seeds=2)
        times = alternating(
            3,
            {
                "with": lambda how=how: ll.solve(among, NET, SGD, **how),
                "without": lambda how=how: ll.solve(without, NET, SGD, **how),
                "at the ends": lambda how=how: ll.solve(among, NET, SGD, **how, record_every=STEPS),
            },
        )
        row = ratio(times, "without", "with", "share <= 1/3")
        share = 1 - next(iter(row.values()))
        ends = statistics.median(wall for wall, _ in times["at the ends"])
        out[f"n={width}"] = {"share (<= 1/3)": share, **row, "recorded at the ends, s": ends}
    return out


def limit() -> dict[str, Any]:
    """The demo's two limits."""
    problem = size(ll.parse("digits:3,8?samples=32,test_samples=50"), _digits(4, 4, (3, 8)))
    net = ll.ResNet("tanh")
    first = size({}, dict(width=16, depth=1, seconds=0.1))
    n, l = size((1024, 8), (16, 2))
    out: dict[str, Any] = {}
    for coupling in ("reused", "independent"):
        how = dict(rtol=size(0.02, 0.9), coupling=coupling, **first)
        kept: list[ll.Limit] = []
        times = alternating(
            3,
            {
                "limit": lambda how=how, kept=kept: kept.append(ll.limit(problem, net, SGD, **how)),
                "train": lambda: ll.train(problem, net, SGD, width=n, depth=l, seeds=4),
            },
        )
        out[coupling] = ratio(times, "limit", "train", "<= 1.5") | {
            "converged": kept[-1].converged,
            "sizes": " ".join(f"{r['width']}x{r['depth']}x{r['seeds']}" for r in kept[-1].sizes),
        }
    return out


def wide() -> dict[str, Any]:
    """Dense matrices where they cost most."""
    problem = _digits(8, 0)
    sgd = ll.SGD(lr=0.3, steps=size(5, 1))
    n, l = size((4096, 16), (32, 2))
    times = alternating(
        5,
        {
            "train": lambda: ll.train(problem, NET, sgd, width=n, depth=l),
            "solve": lambda: ll.solve(problem, NET, sgd, width=n, depth=l),
        },
    )
    return {f"n={n}": ratio(times, "train", "solve", ">= 30")}


def demo() -> dict[str, Any]:
    """The whole command, in a folder that is thrown away."""
    if size(False, True):
        return {"default": {"seconds (<= 20)": "not run at toy size"}}
    with tempfile.TemporaryDirectory() as folder:
        command = ["-m", "leadline", "compare", "--quiet", "--out", folder]
        times = alternating(2, {"demo": lambda: _python(*command)})["demo"]
    walls, used = ([row[k] for row in times] for k in (0, 1))
    return {"default": {"seconds (<= 20)": spread(walls), "processor": spread(used)}}


def floor() -> dict[str, Any]:
    """One solve, its products' floor measured before and after it."""
    import floor as floors

    return {"n=16384": floors.floor()}


PARTS = {f.__name__: f for f in (start, small, tests, evaluation, limit, wide, demo, floor)}


if __name__ == "__main__":
    print(f"{torch.get_num_threads()} threads")
    usual = [name for name in PARTS if name != "floor"]
    for name in sys.argv[1:] or usual:
        rows = PARTS[name]()
        for key, row in rows.items():
            shown = (f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
            print(f"{name:10s} {key:16s} {'; '.join(shown)}", flush=True)
        keep("seconds", {name: rows})
