"""Is --memory kept? Peak memory of solves and trainings over what was promised. ./dev bench memory

Each setting runs in a process of its own. The promise counts all that a command adds to what Python, the
libraries and a first small computation take: the problem, records, weights, bases, what a question holds
at once, checkpoints in the writing, JSON. The peak is the process's (VmHWM of /proc/self/status), less
what it had after imports and a small solve and training.

A setting's budget is what the prediction asks for (the first step's need, or more where the setting says
so), so that little is spare; or a fixed one that is refused. Printed: the peak over the budget, and how it
ended: done, stopped (the budget ended the run and a checkpoint was written), refused before work. The
requirement is a ratio of at most 1.1. Writes benchmarks/results/memory.json.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from typing import Any

from history import keep, size

MB = 10**6
RATIO = 1.1


def setting(verb: str, problem: str, **how: Any) -> dict[str, Any]:
    """One process's work."""
    return {"verb": verb, "problem": problem, **how}


def settings() -> dict[str, dict[str, Any]]:
    """By name."""
    many = size(1000, 20)
    wide = f"teacher?samples={size(64, 4)},dimension={size(3072, 8)},outputs={size(100, 3)}"
    plain = f"teacher?samples={size(32, 4)},dimension=16"
    few = dict(width=size(8192, 32), depth=4, steps=3)
    dense = dict(width=size(1024, 16), depth=4, steps=2)
    return {
        "records, refused": setting(
            "cli", f"teacher?samples={2 * many},dimension=2", width=8, depth=1, steps=20000, lr=1e-3,
            memory=100 * MB if size(1, 0) else 1000),
        "records": setting(
            "cli", f"teacher?samples={many},dimension=2", width=8, depth=1, steps=size(400, 20), lr=1e-3),
        "records as JSON": setting(
            "cli", f"teacher?samples={many},dimension=2", width=8, depth=1, steps=size(400, 20), lr=1e-3,
            json=True),
        "records of seeds": setting(
            "solve", f"teacher?samples={many},dimension=2", width=8, depth=1, steps=size(50, 5), lr=1e-3,
            seeds=4),
        "batches": setting(
            "solve", f"teacher?samples={many},dimension=2", width=8, depth=1, steps=size(1000, 20),
            lr=1e-3, batch_size=2, record_every=1000),
        "test inputs": setting(
            "solve", f"{plain},test_samples={many}", width=size(2048, 32), depth=4, steps=3),
        "samples": setting(
            "solve", f"teacher?samples={size(500, 10)}", width=size(2048, 32), depth=2, steps=3),
        "outputs and inputs": setting("solve", wide, width=size(4096, 32), depth=2, steps=2),
        "outputs, orthogonal ends": setting(
            "solve", wide, width=size(4096, 32), depth=2, steps=2, variance_reduction="balanced"),
        "momentum and decay": setting(
            "solve", wide, width=size(4096, 32), depth=2, steps=2, momentum=0.9, weight_decay=0.1),
        "layers": setting("solve", plain, width=size(2048, 32), depth=32, steps=2),
        "bases that grow": setting("solve", plain, **few | dict(steps=30), lr=0.5, stop=True),
        "bases, two layers a block": setting("solve", plain, **few, block_layers=2),
        "double precision": setting("solve", plain, **few, dtype="float64"),
        "half the digits": setting("solve", plain, **few, storage="bfloat16", tol=0.01),
        "spill": setting("solve", plain, **few | dict(depth=8, steps=10), lr=0.5, spill=True),
        "fast": setting(
            "solve", plain, width=size(16384, 32), depth=8, steps=8, ensemble="fast"),
        "fast, independent, momentum": setting(
            "solve", plain, width=size(16384, 32), depth=8, steps=8, ensemble="fast", momentum=0.9,
            coupling="independent"),
        "fast, test inputs": setting(
            "solve", f"{plain},test_samples={many}", width=size(2048, 32), depth=4, steps=3,
            ensemble="fast"),
        "measures": setting("solve", plain, **few, measure=True),
        "train": setting("train", plain, **dense),
        "train, test inputs": setting(
            "train", f"{plain},test_samples={many}", width=size(512, 16), depth=4, steps=3),
        "train, momentum, independent": setting(
            "train", plain, **dense, momentum=0.9, weight_decay=0.1, coupling="independent", seeds=2),
        "train, many samples": setting(
            "train", f"teacher?samples={size(1000, 10)}", width=size(512, 16), depth=8, steps=2),
        "train, measures": setting(
            "train", plain, **dense, measure=True),
        "train, outputs and inputs": setting("train", wide, width=size(1024, 16), depth=1, steps=3),
    }  # fmt: skip


def child(given: dict[str, Any]) -> dict[str, Any]:
    """Do it, here: peak, budget, how it ended."""
    import torch

    import leadline as ll
    import leadline.cli.program
    from leadline.solving.configuration import Configuration
    from leadline.solving.memory import predict
    from leadline.training.networks import dense_bytes

    torch.set_num_threads(1)
    small = ll.teacher(samples=4, dimension=2, test_samples=4)
    for verb in (ll.solve, ll.train):
        verb(small, ll.ResNet(), ll.SGD(steps=1), width=8, depth=1)
    before = reset()
    work = dict(given)
    verb, text = work.pop("verb"), work.pop("problem")
    names = ("lr", "steps", "batch_size", "momentum", "weight_decay")
    sgd = ll.SGD(**{k: work.pop(k) for k in names if k in work})
    network = ll.ResNet(block_layers=work.pop("block_layers", 1))
    problem = ll.parse(text)
    if work.pop("measure", False):
        times, steps = (0.0, 0.5, 1.0), (0, -1)
        quantities = ("feature_kernel", "movement", "tangent_kernel")
        work["measure"] = ll.Measure(quantities, times, steps)
    folder = tempfile.mkdtemp()
    if work.pop("spill", False):
        work["spill"] = folder
    dtype = getattr(torch, work.get("dtype", "float32"))
    shared = {k: work[k] for k in ("seeds", "record_every", "measure") if k in work}
    at = (problem, network, sgd, work["width"], work["depth"], dtype)
    stop = work.pop("stop", False)
    if "memory" in work:
        budget = work.pop("memory")
    elif verb == "train":
        budget = dense_bytes(*at, coupling=work.get("coupling", "reused"), **shared).least
    else:
        names = ("dtype", "tol", "storage", "spill", "ensemble", "coupling")
        shared |= {k: work[k] for k in names if k in work}
        plan = predict(Configuration(*at[:-1], **shared))
        budget = plan.first_step if stop else int(1.02 * min(plan.at_most, 4 * plan.first_step))
    ended = "done"
    if verb == "cli":
        del problem
        ended = command(text, sgd, work, budget)
    else:
        if verb == "solve":
            work |= dict(checkpoint=os.path.join(folder, "checkpoint"), checkpoint_every=0.0)
        try:
            getattr(ll, verb)(problem, network, sgd, memory=budget, **work)
        except ll.MemoryBudgetError as e:
            ended = "stopped" if e.checkpoint else f"refused: {e}"
        except MemoryError as e:
            ended = f"refused: {e}"
    return {"peak": peak() - before, "budget": budget, "ended": ended}


def command(problem: str, sgd: Any, work: dict[str, Any], budget: int) -> str:
    """The command line, in this process."""
    from leadline.cli.program import main

    arguments = [
        "solve",
        "--problem",
        problem,
        "--lr",
        str(sgd.lr),
        "--steps",
        str(sgd.steps),
        "--quiet",
    ]
    arguments += [
        "--memory",
        str(budget),
        "--width",
        str(work["width"]),
        "--depth",
        str(work["depth"]),
    ]
    arguments += ["--json"] if work.get("json") else []
    errors = io.StringIO()
    with (
        open(os.devnull, "w") as nothing,
        contextlib.redirect_stderr(errors),
        contextlib.redirect_stdout(nothing),
    ):
        try:
            main(arguments, standalone_mode=False)
        except SystemExit:
            return f"refused: {errors.getvalue().strip()}"
    return "done"


def status(name: str) -> int:
    """Bytes."""
    with open("/proc/self/status") as f:
        return 1024 * int(re.search(rf"{name}:\s+(\d+)", f.read())[1])


def reset() -> int:
    """Forget the peak so far; bytes now."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as f:
        f.write("5")
    return status("VmRSS")


def peak() -> int:
    """Bytes at most since ``reset``."""
    return status("VmHWM")


def main() -> None:
    """Every setting, or those that are named."""
    found = {}
    wanted = sys.argv[1:]
    for name, given in settings().items():
        if wanted and not any(w in name for w in wanted):
            continue
        if size(True, False):
            command = [sys.executable, __file__, "--child", json.dumps(given)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
            row = json.loads(done.stdout.splitlines()[-1])
        else:
            row = child(given)
        row["ratio"] = round(row["peak"] / row["budget"], 3)
        found[name] = row
        held = "" if row["ratio"] <= RATIO else "  MORE THAN PROMISED"
        print(
            f"{name:30s} {row['peak'] / MB:8.1f} of {row['budget'] / MB:8.1f} MB  "
            f"{row['ratio']:6.3f}{held}  {row['ended']}",
            flush=True,
        )
    worst = max(row["ratio"] for row in found.values())
    print(f"{len(found)} settings, the largest ratio {worst}")
    keep("memory", found)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(child(json.loads(sys.argv[2]))))
    else:
        main()
