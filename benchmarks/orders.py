"""Measured orders of the solver: ./dev bench orders [depth width balanced truncation reduction]

depth       error in 1/L, at initialization (kernels) and after training (loss)
width       error in 1/n of the mean loss, and its fluctuation, plain and balanced
balanced    bias of balanced noise at n=64, over sets of seeds that share nothing
truncation  error against tol, with every direction's noise the same as far as it goes
reduction   standard deviation and bias of each variance reduction
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from history import keep_printed, size
from scipy.stats import linregress

import leadline as ll

NET = ll.ResNet("tanh", scheme="depth-mup")
SGD = ll.SGD(lr=0.5, steps=4, train="hidden", center=True)


def problem() -> ll.Problem:
    """Four random inputs of norm √6, targets ±1."""
    x = np.random.default_rng(0).standard_normal((4, 6))
    x *= math.sqrt(6) / np.linalg.norm(x, axis=1, keepdims=True)
    return ll.arrays(x, np.array([1.0, -1.0, 1.0, -1.0]), standardize=False)


def slope(sizes, errors) -> str:
    """Slope of log error against log size, with a 95 % interval."""
    fit = linregress(np.log(sizes), np.log(np.abs(errors)))
    return f"slope {fit.slope:.2f} ± {3.18 * fit.stderr:.2f}"


def final(**how) -> np.ndarray:
    """Loss after the last step, by seed."""
    return ll.solve(problem(), NET, SGD, **how).train_loss[:, -1]


def depth() -> None:
    p, depths = problem(), np.array(size([4, 8, 16, 32, 64], [2, 4, 8, 16]))
    k = ll.initial_kernels(p, NET)
    errors = [np.abs(ll.initial_kernels(p, NET, int(l)).tangent - k.tangent).max() for l in depths]
    print(f"  tangent kernel, L = {depths.tolist()}: {slope(depths, errors)} (due -1)")
    # Differences between depths L and 2L have the error's order and need no limit.
    losses = [
        final(
            width=size(16384, 64),
            depth=int(l),
            seeds=size(6, 2),
            variance_reduction="balanced",
            seed=int(l),
        )
        for l in depths[:4]
    ]
    for l, x in zip(depths, losses, strict=False):
        print(f"  loss at L={l}: {x.mean():.5f} ± {x.std(ddof=1) / math.sqrt(len(x)):.5f}")
    changes = [a.mean() - b.mean() for a, b in pairwise(losses)]
    noise = [math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / len(a)) for a, b in pairwise(losses)]
    print(
        "  L to 2L: " + ", ".join(f"{c:.5f}±{e:.5f}" for c, e in zip(changes, noise, strict=True))
    )
    fit = linregress(np.log(depths[:3]), np.log(np.abs(changes)))
    print(f"  loss: slope of the changes {fit.slope:.2f} ± {fit.stderr:.2f} (due -1)")


def width() -> None:
    widths = np.array(size([64, 128, 256, 512], [32, 64, 128]))
    wide, deep, total = size((8192, 16, 40960), (256, 2, 256))
    target = np.concatenate(
        [
            final(width=wide, depth=deep, seeds=size(12, 2), variance_reduction=v, seed=9)
            for v in ("ends", "balanced")
        ]
    )
    print(f"  n={wide}: {target.mean():.5f} ± {target.std(ddof=1) / math.sqrt(len(target)):.5f}")
    for reduction in ("none", "balanced"):
        bias, spread = [], []
        for n in widths:
            seeds = int(total / n)
            x = final(width=int(n), depth=deep, seeds=seeds, variance_reduction=reduction)
            bias.append(x.mean() - target.mean())
            spread.append(x.std(ddof=1))
            print(
                f"  {reduction:9s} n={n:4d}: bias {bias[-1]:+.5f} ± "
                f"{spread[-1] / math.sqrt(seeds):.5f}, "
                f"standard deviation {spread[-1]:.5f}"
            )
        print(
            f"  {reduction:9s} bias {slope(widths, bias)} (due -1); "
            f"fluctuation {slope(widths, spread)} (due -0.5)"
        )


def balanced() -> None:
    n, deep, wide, seeds, sets = size((64, 16, 8192, 640, 7), (32, 2, 64, 2, 2))
    how = dict(depth=deep, variance_reduction="balanced")
    target = final(width=wide, seeds=size(24, 2), seed=9, **how)
    print(f"  n={wide}: {target.mean():.5f} ± {target.std(ddof=1) / math.sqrt(len(target)):.5f}")
    means = np.array([final(width=n, seeds=seeds, seed=s, **how).mean() for s in range(sets)])
    bias, error = means.mean() - target.mean(), means.std(ddof=1) / math.sqrt(sets)
    print(f"  n={n}, {sets} sets of {seeds} seeds: {', '.join(f'{m:.5f}' for m in means)}")
    print(f"  bias {bias:+.5f} ± {error:.5f} (and the error of the first line)")


def truncation() -> None:
    p = ll.digits(classes=(0, 1), samples=size(32, 4), test_samples=0)
    n, depth, steps = size((2048, 8, 40), (64, 2, 5))
    sgd, how = ll.SGD(lr=0.3, steps=steps), dict(width=n, depth=depth, seeds=size(3, 2))
    exact = ll.solve(p, NET, sgd, tol=1e-5, **how)
    for tol in (3e-2, 1e-2, 3e-3, 1e-3, 1e-4):
        t = ll.solve(p, NET, sgd, tol=tol, **how)
        d = t.train_loss - exact.train_loss
        print(
            f"  tol={tol:.0e}: rank {t.info['largest_rank']:4d}, {t.info['seconds']:5.1f} s, loss "
            f"at 5 {t.mean()[5]:.4f}, at 40 {t.mean()[-1]:.5f}; largest change of a seed's loss "
            f"{np.abs(d).max():.1e}, of the mean {np.abs(d.mean(0)).max():.1e}"
        )
    print(
        f"  tol=1e-05: rank {exact.info['largest_rank']}, loss at 40 {exact.mean()[-1]:.5f}, "
        f"seed standard deviation of the loss at most {exact.train_loss.std(0, ddof=1).max():.1e}"
    )


def reduction() -> None:
    depth, seeds = size((16, 40), (2, 2))
    for n in size((512, 2048), (64,)):
        for center in (False, True):
            for v in ("none", "ends", "balanced"):
                sgd = ll.SGD(lr=0.5, steps=4, train="hidden", center=center)
                t = ll.solve(
                    problem(), NET, sgd, width=n, depth=depth, seeds=seeds, variance_reduction=v
                )
                x = t.train_loss[:, -1]
                print(
                    f"  n={n} center={center!s:5} {v:9s} mean {x.mean():.4f} ± "
                    f"{x.std(ddof=1) / math.sqrt(seeds):.4f}, standard deviation {x.std(ddof=1):.4f}"
                )


if __name__ == "__main__":
    keep_printed("orders", {f.__name__: f for f in (depth, width, balanced, truncation, reduction)})
