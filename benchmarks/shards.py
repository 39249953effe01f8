"""Two gloo processes of one thread against one process of two: speed, and whether a bit differs.

Each measurement is a process (or two) of its own, in turn; times are those inside ``solve``. Also the
bytes and exchanges of a process, counted, against the formulas in docs/scale.md.

    ./dev bench shards                      n = 16384 and 65536 on two cores, about 3 minutes
    ./dev bench shards -- --toy

Then what a process's resident memory grows by at its peak, against the formula.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from history import keep, size, spread

SIZES = size(
    {"n=16384": (16384, 4, 32, 12), "n=65536": (65536, 2, 32, 6)}, {"toy": (8192, 1, 4, 2)}
)
MEMORY = size((131072, 4, 16, 6), (8192, 1, 4, 2))
REPEATS = size(3, 1)


def work(path: str, width: int, depth: int, samples: int, steps: int) -> None:
    """One process: solve, and write what was measured."""
    import torch

    import leadline as ll
    from leadline.solving import operator, shards, sides, solver

    group, rank = None, 0
    if os.environ.get("WORLD_SIZE"):
        import torch.distributed as dist

        dist.init_process_group("gloo")
        group, rank = dist.group.WORLD, dist.get_rank()
    counted = {"exchanges": 0, "bytes": 0, "formula": 0}
    gather = shards.Shards._gather

    def count(self: shards.Shards, x: torch.Tensor) -> torch.Tensor:
        counted["exchanges"] += 1
        counted["bytes"] += x.numel() * x.element_size()
        return gather(self, x)

    shards.Shards._gather = count
    expect_bytes(operator, sides, counted)
    problem = ll.digits(classes=(0, 1), samples=samples, test_samples=0)
    sgd, network = ll.SGD(lr=0.3, steps=steps), ll.ResNet(activation="tanh")
    runs: list[solver.Training] = []

    class Training(solver.Training):
        def __init__(self, *args, **how):
            super().__init__(*args, **how)
            runs.append(self)

    solver.Training = Training
    # Libraries take memory of their own when they are first used.
    ll.solve(problem, network, sgd, width=1024, depth=1)
    before = resident()
    done = ll.solve(problem, network, sgd, width=width, depth=depth, group=group)
    if rank == 0:
        info = done.info
        out = {"seconds": info["seconds"], "rank": info["largest_rank"], **counted}
        out["resident"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        ranks = int(runs[-1].network.ranks.sum())
        here = width // (1 if group is None else dist.get_world_size())
        rows = samples * depth + 7 * 2 * samples + 2 * problem.dimension + 1
        out["resident_formula"] = 4 * here * (2 * ranks + rows)
        Path(path).write_text(json.dumps(out | {"loss": done.train_loss.tolist()}))
    if group is not None:
        dist.destroy_process_group()


def resident() -> int:
    """Bytes of this process in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def expect_bytes(operator, sides, counted: dict[str, int]) -> None:
    """Add up the formula of docs/scale.md over the queries of a float32 run."""
    ask, extend = operator.Operator._query, sides.extend
    formed = []

    def extended(e, *given, **how):
        formed.append(len(e))
        return extend(e, *given, **how)

    def asked(self, u, near, far, **how):
        q, r = near.queries.count, far.queries.count
        formed.clear()
        out = ask(self, u, near, far, **how)
        m, e = near.queries.count - q, sum(formed)
        sums = 4 * len(u) * (q + r + 1) + 8 * e**2
        counted["formula"] += sums + 4 * m * (q + m + e + 2 * r)
        return out

    operator.Operator._query, sides.extend = asked, extended


def measure(processes: int, task: tuple[int, ...]) -> dict:
    """Run ``work`` on two cores."""
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = os.environ | {
        "OMP_NUM_THREADS": str(2 // processes),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/out.json"
        command = [*start, __file__, "--work", path, *map(str, task)]
        subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)
        return json.loads(Path(path).read_text())


def memory() -> None:
    """Peaks of one process and of two."""
    kept = {}
    for processes in (1, 2):
        one = measure(processes, MEMORY)
        held, formula = one["resident"], one["resident_formula"]
        print(
            f"memory, n={MEMORY[0]}, L={MEMORY[1]}, P={MEMORY[2]}, {MEMORY[3]} steps, rank {one['rank']}, "
            f"{processes} process(es): a process grows by {held / 1e6:.0f} MB, "
            f"{held / formula:.2f} of the formula"
        )
        kept[str(processes)] = {"resident": held, "formula": formula}
    keep("shards", {"memory": kept})


def main() -> None:
    for name, task in SIZES.items():
        one, two = [], []
        for _ in range(REPEATS):
            one.append(measure(1, task))
            two.append(measure(2, task))
        ratios = [a["seconds"] / b["seconds"] for a, b in zip(one, two, strict=True)]
        worst = max(
            abs(x / y - 1)
            for a, b in zip(one, two, strict=True)
            for x, y in zip(a["loss"][0], b["loss"][0], strict=True)
        )
        _, depth, samples, steps = task
        print(f"{name}, L={depth}, P={samples}, {steps} steps, largest rank {one[0]['rank']}:")
        print(f"  one process of two threads   {spread([x['seconds'] for x in one])} s")
        print(f"  two processes of one thread  {spread([x['seconds'] for x in two])} s")
        print(f"  speed of two against one     {spread(ratios)}")
        print(f"  largest relative difference  {worst:.1g}")
        per = two[0]["exchanges"] / (2 * depth * steps)
        sent, formula = two[0]["bytes"], two[0]["formula"]
        print(f"  exchanges a question         {per:.2f}")
        print(
            f"  sent by a process            {sent / 1e6:.2f} MB, {sent / formula:.3f} of the formula"
        )
        keep(
            "shards",
            {
                name: {
                    "ratio": ratios,
                    "difference": worst,
                    "one": [x["seconds"] for x in one],
                    "two": [x["seconds"] for x in two],
                    "exchanges": two[0]["exchanges"],
                    "bytes": sent,
                    "formula": formula,
                }
            },
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2], *map(int, sys.argv[3:]))
    else:
        memory()
        main()
