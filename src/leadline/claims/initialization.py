"""Claim 1: at initialization networks reach the forward-backward limit, uniformly in depth.

Mean-square errors are used: a kernel of one network of width n fluctuates by O(1/√n) around its
limit, so that the error's mean square is O(1/n), bias included. At n = ∞ the error of depth L is
deterministic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from leadline.architecture import ResNet
from leadline.claims.cells import Arrays, Cell
from leadline.claims.claim import COUPLINGS, DEPTH, TIMES, WIDTH, Claim, Data, Key, Setting
from leadline.claims.verdict import Judgement, Part, below, every, inside, verdict
from leadline.intervals import Interval, jackknife, slope
from leadline.measure.observation import Measure
from leadline.recipes.sgd import SGD
from leadline.reporting.page import Drawing
from leadline.reporting.panels import BLUE, GREEN, ORANGE, SYMBOLS, Panels, power

KERNELS = {
    "feature_kernel": "features K",
    "gradient_kernel": "gradients G",
    "tangent_kernel": "tangent kernel Θ",
}
MARGIN = 0.25
COUPLED = 0.02
_PARTS = ("tangent_input", "tangent_hidden", "tangent_readout")


class Initialization(Claim):
    """At initialization networks reach the forward-backward limit, uniformly in depth."""

    number = 1
    title = "Initialization"
    sentence = (
        "At initialization, networks reach the coupled forward-backward limit of infinite width "
        "and depth at rate O(1/n + 1/L), uniformly over depth, and the coupling through Wᵀ is "
        "O(1/n)."
    )
    where = "the limit: abstract; the rates are not in the abstract"
    design = (
        "tanh ResNets with one-layer blocks under depth-μP, 8 samples of two classes, untrained. "
        "Feature kernel K_t, gradient kernel G_t at five depth times, and the tangent kernel, of "
        "networks drawn without n×n matrices in the exact law of dense ones, against the "
        "kernels' recursion at n = ∞ and its ordinary differential equation at n = L = ∞. Errors "
        "are relative, in the Frobenius norm over pairs of samples.",
    )
    rule = (
        "The claim holds if all four statements do, each with its whole 95 % interval; it fails "
        "if one of them fails. 1a: the mean-square errors of the feature, gradient and tangent "
        "kernels, each at the depth time where it is largest, fall with width with exponents −1 "
        f"± {MARGIN}. 1b: at infinite width the kernels' errors fall with depth with exponents −1 "
        f"± {MARGIN}. 1c: at fixed width the mean-square errors do not grow with depth: their "
        f"exponents over the largest depths are below {MARGIN}. 1d: reusing W in the backward "
        f"pass changes the mean tangent kernel at the largest width by less than {COUPLED:.0%}."
    )
    sizes: ClassVar = {
        "toy": dict(widths=(32, 64), depth=4, seeds=4, depths=(2, 4), width=32, limits=(4, 8, 16)),
        "quick": dict(
            widths=(64, 128, 256, 512, 1024), depth=16, seeds=96, depths=(4, 8, 16, 32), width=256,
            limits=(4, 8, 16, 32, 64, 128),
        ),
        "standard": dict(
            widths=(64, 128, 256, 512, 1024, 2048, 4096), depth=32, seeds=256,
            depths=(4, 8, 16, 32, 64, 128), width=512, limits=(4, 8, 16, 32, 64, 128, 256, 512),
        ),
        "full": dict(
            widths=(64, 128, 256, 512, 1024, 2048, 4096, 8192), depth=64, seeds=256,
            depths=(4, 8, 16, 32, 64, 128, 256, 512), width=1024, limits=(4, 8, 16, 32, 64, 128, 256, 512),
        ),
    }  # fmt: skip  # fmt: skip

    def cells(self, setting: Setting) -> dict[Key, Cell]:
        """Networks at initialization (drawn exactly, without n×n matrices), and their limits."""
        z = self.sizes[setting.preset]
        problem = setting.two(samples=8)
        network = ResNet("tanh", scheme="depth-mup")
        measure = Measure(tuple(KERNELS), times=TIMES, steps=(0,))
        keep = ("feature_kernel", "gradient_kernel", *_PARTS)
        out: dict[Key, Cell] = {}
        sizes = {(n, z["depth"]) for n in z["widths"]} | {(z["width"], d) for d in z["depths"]}
        for n, depth in sorted(sizes):
            for coupling in COUPLINGS:
                how = dict(
                    network=network, sgd=SGD(steps=0), width=n, depth=depth, coupling=coupling
                )
                how |= dict(seeds=z["seeds"], seed=setting.seed, measure=measure)
                out[n, depth, coupling] = Cell("solve", problem, how, keep, setting.device)
        for depth in sorted({z["depth"], *z["depths"], *z["limits"]}):
            how = dict(network=network, depth=depth, times=TIMES)
            out["kernels", depth] = Cell("kernels", problem, how)
        out["kernels", None] = Cell("kernels", problem, dict(network=network, times=TIMES))
        return out

    def data(self, setting: Setting, arrays: Mapping[Key, Arrays]) -> dict[str, Any]:
        """Relative squared errors (seeds, sizes, times) by kernel; trace of Θ by coupling."""
        z = self.sizes[setting.preset]

        def kernels(*name: Any) -> dict[str, np.ndarray]:
            a = arrays[name]
            theta = np.sum([a[p] for p in _PARTS], axis=0)
            return {k: theta if k == "tangent_kernel" else a[k][:, 0] for k in KERNELS}

        def errors(sizes: Sequence[tuple[int, int]]) -> dict[str, np.ndarray]:
            out = {}
            for kernel in KERNELS:
                columns = []
                for n, depth in sizes:
                    limit = arrays["kernels", depth][kernel]
                    change = kernels(n, depth, "reused")[kernel] - limit
                    columns.append(_square(change) / _square(limit))
                out[kernel] = np.stack(columns, axis=1)
            return out

        widths = [(n, z["depth"]) for n in z["widths"]]
        traces = {
            c: np.stack(
                [
                    np.trace(kernels(n, d, c)["tangent_kernel"], axis1=-2, axis2=-1)[:, 0]
                    for n, d in widths
                ],
                axis=1,
            )
            for c in COUPLINGS
        }
        end = arrays["kernels", None]
        depth_error = {
            k: [float(np.sqrt(_square(arrays["kernels", d][k] - end[k]).max() / _square(end[k]).max()))
                for d in z["limits"]]
            for k in KERNELS
        }  # fmt: skip
        return {k: z[k] for k in ("widths", "depth", "depths", "width", "limits")} | {
            "over_width": errors(widths),
            "over_depth": errors([(z["width"], d) for d in z["depths"]]),
            "depth_error": depth_error,
            "traces": traces,
        }

    def judge(self, data: Data) -> Judgement:
        """The rule."""
        parts = []
        words = []

        def far(intervals: Mapping[str, Interval], expected: float) -> Interval:
            return max(intervals.values(), key=lambda e: abs(e.value - expected))

        for key, text, exponents in (
            ("1a", "Kernels reach their limit like 1/n in mean square", width_exponents(data)),
            ("1b", "Kernels at infinite width reach their limit like 1/L", depth_exponents(data)),
        ):
            word = every(inside(e, -1 - MARGIN, -1 + MARGIN) for e in exponents.values())
            words.append(word)
            v = verdict(
                word,
                "exponent, the farthest from −1",
                far(exponents, -1),
                f"as {key} of the claim's",
            )
            parts.append(Part(key, text, v))
        grown = growth_exponents(data)
        word = every(below(e, MARGIN) for e in grown.values())
        words.append(word)
        most = max(grown.values(), key=lambda e: e.value)
        text = "Uniformly in depth: the error at fixed width does not grow"
        parts.append(
            Part(
                "1c", text, verdict(word, "largest exponent in depth", most, "as 1c of the claim's")
            )
        )
        e = coupling(data)
        word = inside(e, -COUPLED, COUPLED)
        words.append(word)
        number = f"relative change of mean Θ by reusing W, n = {data['widths'][-1]}"
        text = "The coupling through Wᵀ vanishes with width at initialization"
        parts.append(Part("1d", text, verdict(word, number, e, "as 1d of the claim's")))
        number = "exponent of the mean-square error in width, the farthest from −1"
        return Judgement(
            verdict(every(words), number, far(width_exponents(data), -1), self.rule), tuple(parts)
        )

    def figures(self, data: Data) -> Sequence[Drawing]:
        """Errors over width and depth; the coupling over width."""
        p = Panels(
            [
                f"Error over width, L = {data['depth']}",
                "Error over depth, n = ∞",
                f"Error over depth, n = {data['width']}",
                "Effect of reusing W",
            ]
        )
        colors = dict(zip(KERNELS, (BLUE, ORANGE, GREEN), strict=True))
        for i, (key, sizes, label) in enumerate(
            (
                ("over_width", data["widths"], WIDTH),
                ("depth_error", data["limits"], DEPTH),
                ("over_depth", data["depths"], DEPTH),
            )
        ):
            square = key != "depth_error"
            p.panel(
                i,
                label,
                "mean-square error, relative" if square else "relative error",
                sizes=sizes,
                log_y=True,
            )
            for symbol, (kernel, name) in zip(SYMBOLS, KERNELS.items(), strict=False):
                v = np.asarray(data[key][kernel], float)
                y = v
                if square:
                    at = int(v.mean((0, 1)).argmax())
                    y = v[..., at]
                p.line(sizes, y, name, colors[kernel], symbol=symbol)
                if kernel == "tangent_kernel" and key != "over_depth":
                    p.theory(*power(sizes, float(y.mean(0)[0] if square else y[0]), -1), "slope −1")
        p.panel(3, WIDTH, "relative change of mean Θ", sizes=data["widths"])
        effects = [coupling(data, i) for i in range(len(data["widths"]))]
        p.intervals(data["widths"], effects, "reused against independent W", BLUE)
        p.theory(data["widths"], [0.0] * len(data["widths"]), "no effect")
        e = width_exponents(data)["tangent_kernel"]
        alt = (
            "Four panels. Mean-square errors of feature, gradient and tangent kernels over width "
            f"(tangent kernel: exponent {e:w}); errors at infinite width over depth; errors at fixed "
            "width over depth; the change of the mean tangent kernel by reusing W in the backward "
            "pass, over width."
        )
        return (Drawing(p.figure, "Kernels at initialization against their infinite limit", alt),)

    def findings(self, data: Data) -> Sequence[str]:
        """The numbers in words."""
        w, d = width_exponents(data), depth_exponents(data)
        listed = "; ".join(
            f"{name} {w[k]:w} in width, {d[k]:w} in depth" for k, name in KERNELS.items()
        )
        return (
            f"Exponents of the errors: {listed}.",
            f"Reusing W in the backward pass changes the mean tangent kernel by {coupling(data):w} at n "
            f"= {data['widths'][-1]}; the gradient-independence assumption says 0. Claim 3 measures "
            "the change during training.",
        )


def _square(k: np.ndarray) -> np.ndarray:
    return (k**2).sum((-2, -1))


def worst(errors: np.ndarray) -> np.ndarray:
    """Mean square over seeds, the largest over depth times: (sizes,)."""
    return errors.mean(0).max(-1)


def width_exponents(data: Data) -> dict[str, Interval]:
    """Exponents of the mean-square errors in width, by kernel."""
    return {
        k: jackknife(lambda e: slope(data["widths"], worst(e)), data["over_width"][k])
        for k in KERNELS
    }


def depth_exponents(data: Data) -> dict[str, Interval]:
    """At n = ∞, without randomness; the interval is the range of local slopes."""
    x = np.log(data["limits"])
    out = {}
    for k in KERNELS:
        y = np.log(data["depth_error"][k])
        local = np.diff(y) / np.diff(x)
        out[k] = Interval(float(np.polyfit(x, y, 1)[0]), float(local.min()), float(local.max()))
    return out


def growth_exponents(data: Data) -> dict[str, Interval]:
    """Exponents of the mean-square errors in depth at fixed width, over the largest depths."""
    depths = data["depths"][-3:]
    return {
        k: jackknife(lambda e: slope(depths, worst(e)[-3:]), data["over_depth"][k]) for k in KERNELS
    }


def coupling(data: Data, size: int = -1) -> Interval:
    """Relative change of the mean trace of Θ by reusing W in the backward pass."""
    both = np.stack([np.asarray(data["traces"][c], float)[:, size] for c in COUPLINGS], axis=1)

    def change(v: np.ndarray) -> float:
        reused, independent = v.mean(0)
        return float(reused / independent - 1)

    return jackknife(change, both)
