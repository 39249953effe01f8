"""Bases with fewer digits, and in files: what each costs in time and changes in the loss.

./dev bench storage                     digits 0/1, n = 4096, L = 4, P = 32, 12 steps, tol = 0.004
"""

import tempfile

import numpy as np
from history import keep, size, spread

import leadline as ll

WIDTH, DEPTH, STEPS = size((4096, 4, 12), (512, 2, 3))
REPEATS = size(3, 1)
SEEDS = size(3, 2)


def main() -> None:
    problem = ll.digits(classes=(0, 1), samples=32, test_samples=0)
    sgd = ll.SGD(lr=0.3, steps=STEPS)
    with tempfile.TemporaryDirectory() as folder:
        kinds = {"memory": {}, "bfloat16": {"storage": "bfloat16"}, "files": {"spill": folder}}
        seconds = {name: [] for name in kinds}
        runs = {}
        for _ in range(REPEATS):
            for name, how in kinds.items():
                runs[name] = ll.solve(
                    problem,
                    ll.ResNet(activation="tanh"),
                    sgd,
                    width=WIDTH,
                    depth=DEPTH,
                    tol=0.004,
                    seeds=SEEDS,
                    **how,
                )
                seconds[name].append(runs[name].info["seconds"])
    loss = runs["memory"].train_loss
    numbers = {}
    print(f"spread of the loss over {SEEDS} seeds, last step: {loss.std(0, ddof=1)[-1]:.1e}")
    for name, run in runs.items():
        change = float(np.abs(run.train_loss / loss - 1).max())
        ratio = [a / b for a, b in zip(seconds[name], seconds["memory"], strict=True)]
        rank = run.info["largest_rank"]
        print(
            f"{name:9} {spread(seconds[name])} s, {spread(ratio)} of memory's; rank {rank}; "
            f"largest relative change of a seed's loss {change:.1e}"
        )
        numbers[name] = {"seconds": seconds[name], "change": change, "rank": rank}
    keep("storage", numbers)


if __name__ == "__main__":
    main()
