"""Claim 4: the covariance of the features stays non-degenerate through depth and training.

The smallest eigenvalue of the activation kernel Φ_t (P×P), over the mean eigenvalue, extrapolated to
infinite width: any finite network of n ≥ P neurons has a positive one, the limit need not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from leadline.architecture import ResNet
from leadline.claims.cells import Arrays, Cell
from leadline.claims.claim import DEPTH, ROLES, TIMES, WIDTH, Claim, Data, Key, Setting, stable_rate
from leadline.claims.verdict import Judgement, above, verdict
from leadline.intervals import Interval, jackknife
from leadline.measure.observation import Measure
from leadline.recipes.sgd import SGD
from leadline.reporting.page import Drawing
from leadline.reporting.panels import BLUE, GREEN, GREY, ORANGE, PURPLE, SYMBOLS, Panels

FLOOR = 1e-3


class NonDegeneracy(Claim):
    """The covariance of the features stays non-degenerate through depth and training."""

    number = 4
    title = "Non-degeneracy"
    sentence = (
        "The covariance of the features over samples stays non-degenerate through depth and "
        "training, which the limit's Gaussian noises need."
    )
    where = "not in the abstract; a condition under which such limits are proved"
    design = (
        "tanh ResNets with one-layer blocks under depth-μP, two classes, all weights trained by "
        "full-batch SGD at a quarter of 1/λ, true backpropagation, five seeds of each width, in "
        "the exact law of dense networks. The kernel Φ_t = φ(h_t)·φ(h_t)ᵀ/n over the training "
        "samples at five depth times, at the beginning, a quarter, half-way and at the end of "
        "training.",
    )
    rule = (
        "Φ is the features' covariance over samples. At every depth time and step measured, its "
        "smallest eigenvalue, divided by the mean one, is extrapolated to infinite width by λ + "
        "A/n. The smallest result is the number. The claim holds if its whole 95 % interval is "
        f"above {FLOOR} and fails if the whole interval is below. Otherwise it is undecided."
    )
    sizes: ClassVar = {
        "toy": dict(widths=(32, 64), depth=4, seeds=3, samples=4, steps=2, depths=(2, 4), width=32),
        "quick": dict(
            widths=(512, 1024, 2048, 4096), depth=16, seeds=5, samples=16, steps=8,
            depths=(4, 8, 16, 32), width=1024,
        ),
        "standard": dict(
            widths=(512, 1024, 2048, 4096), depth=32, seeds=5, samples=24, steps=12,
            depths=(4, 8, 16, 32, 64), width=1024,
        ),
        "full": dict(
            widths=(512, 1024, 2048, 4096, 16384), depth=64, seeds=5, samples=128, steps=50,
            depths=(4, 8, 16, 32, 64, 128, 256), width=4096,
        ),
    }  # fmt: skip

    def cells(self, setting: Setting) -> dict[Key, Cell]:
        """Training at several widths, and at several depths."""
        z = self.sizes[setting.preset]
        problem = setting.two(samples=z["samples"])
        network = ResNet("tanh", scheme="depth-mup")
        sgd = SGD(stable_rate(problem, network, None, ROLES), z["steps"])
        measure = Measure(("activation_kernel",), times=TIMES, steps=steps_of(z["steps"]))
        sizes = {(n, z["depth"]) for n in z["widths"]} | {(z["width"], d) for d in z["depths"]}
        out: dict[Key, Cell] = {}
        for n, depth in sorted(sizes):
            how = dict(network=network, sgd=sgd, width=n, depth=depth, seeds=z["seeds"])
            how |= dict(seed=setting.seed, measure=measure, record_every=max(1, z["steps"]))
            out[n, depth] = Cell("solve", problem, how, ("activation_kernel",), setting.device)
        return out

    def data(self, setting: Setting, arrays: Mapping[Key, Arrays]) -> dict[str, Any]:
        """Smallest over mean eigenvalue: (seeds, sizes, steps, times)."""
        z = self.sizes[setting.preset]

        def ratios(sizes: Sequence[tuple[int, int]]) -> np.ndarray:
            return np.stack([_ratio(arrays[n, d]["activation_kernel"]) for n, d in sizes], axis=1)

        return {k: z[k] for k in ("widths", "depth", "samples", "depths", "width")} | {
            "times": TIMES,
            "steps": steps_of(z["steps"]),
            "over_width": ratios([(n, z["depth"]) for n in z["widths"]]),
            "over_depth": ratios([(z["width"], d) for d in z["depths"]]),
        }

    def judge(self, data: Data) -> Judgement:
        """The rule."""
        e = smallest(data)
        number = "smallest eigenvalue over the mean one, at infinite width"
        return Judgement(verdict(above(e, FLOOR), number, e, self.rule))

    def figures(self, data: Data) -> Sequence[Drawing]:
        """Over depth time and step, over width, over depth."""
        v, w = (np.asarray(data[k], float) for k in ("over_width", "over_depth"))
        p = Panels(
            [
                f"Over depth time, L = {data['depth']}",
                f"Over width, L = {data['depth']}",
                f"Over depth, n = {data['width']}",
            ],
            columns=3,
        )
        label = "smallest/mean eigenvalue"
        colors = (GREY, GREEN, ORANGE, BLUE, PURPLE)
        p.panel(0, "depth time t = l/L", label, log_y=True)
        for i, step in enumerate(data["steps"]):
            p.line(data["times"], v[:, -1, i], f"step {step}", colors[i], symbol=SYMBOLS[i])
        p.theory(data["times"], [FLOOR] * len(data["times"]), "the rule's floor")
        for panel, sizes, values, name in (
            (1, data["widths"], v, WIDTH), (2, data["depths"], w, DEPTH)
        ):  # fmt: skip
            p.panel(panel, name, label, sizes=sizes, log_y=True)
            for i, step in enumerate(data["steps"]):
                p.line(
                    sizes, values[..., i, :].min(-1), f"step {step}", colors[i], symbol=SYMBOLS[i]
                )
            p.theory(sizes, [FLOOR] * len(sizes), "the rule's floor")
        alt = (
            "Three panels: the smallest eigenvalue of the activation kernel over the mean one, over "
            "depth time for several training steps, over width and over depth, with the threshold "
            f"{FLOOR}; at infinite width the smallest is {smallest(data):w}."
        )
        return (Drawing(p.figure, "Non-degeneracy through depth and training", alt),)

    def findings(self, data: Data) -> Sequence[str]:
        """The numbers in words."""
        v = np.asarray(data["over_width"], float)
        ends = [
            jackknife(lambda x, i=i: float(extrapolated(data["widths"], x)[i].min()), v)
            for i in (0, -1)
        ]
        return (
            f"With {data['samples']} samples and L = {data['depth']}, the smallest eigenvalue divided "
            f"by the mean one, at infinite width, is {ends[0]:w} at initialization and {ends[1]:w} after "
            f"{data['steps'][-1]} steps.",
            "Non-degenerate means positive, not well conditioned: similar samples give a small "
            "eigenvalue from the start.",
        )


def steps_of(steps: int) -> tuple[int, ...]:
    """Beginning, quarter, half, end."""
    return tuple(sorted({0, steps // 4, steps // 2, steps}))


def _ratio(kernel: np.ndarray) -> np.ndarray:
    values = np.linalg.eigvalsh(kernel)
    return values[..., 0] / values.mean(-1)


def extrapolated(widths: Sequence[float], v: np.ndarray) -> np.ndarray:
    """(seeds, widths, ...) -> the intercept of λ + A/n of the seeds' means, (...)."""
    x = 1 / np.asarray(widths, dtype=float)
    mean = v.mean(0).reshape(len(x), -1)
    return np.polyfit(x, mean, 1)[1].reshape(v.shape[2:])


def smallest(data: Data) -> Interval:
    """The number of the rule."""
    return jackknife(
        lambda v: float(extrapolated(data["widths"], v).min()),
        np.asarray(data["over_width"], float),
    )
