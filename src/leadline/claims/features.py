"""Claim 5: the limit is one of feature learning, not lazy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from leadline.architecture import ResNet
from leadline.claims.cells import Arrays, Cell
from leadline.claims.claim import DEPTH, ROLES, TIMES, WIDTH, Claim, Data, Key, Setting, stable_rate
from leadline.claims.verdict import Judgement, Part, above, every, inside, outside, verdict
from leadline.intervals import Interval, exponent, jackknife
from leadline.measure.observation import Measure
from leadline.recipes.sgd import SGD
from leadline.reporting.page import Drawing
from leadline.reporting.panels import BLUE, GREEN, GREY, ORANGE, PURPLE, SYMBOLS, Panels, power

SCHEMES = {"depth-mup": "depth-μP", "ntk": "NTK scaling (lazy)"}
MARGIN = 0.1
DIFFERENT = 0.05
LAST = 3


class FeatureLearning(Claim):
    """The limit is one of feature learning, not lazy."""

    number = 5
    title = "Feature learning, not lazy"
    sentence = (
        "The limit is an analytically tractable regime of end-to-end feature learning: features "
        "and kernels move at infinite width and depth."
    )
    design = (
        "tanh ResNets with one-layer blocks, 8 samples of two classes, all weights trained by "
        "full-batch SGD from f = 0 at a quarter of 1/λ, true backpropagation, in the exact law "
        "of dense networks; depth-μP, and NTK scaling with the same tangent kernel. Lazy "
        "training is gradient descent of the network linearised at initialization, at infinite "
        "width.",
    )
    rule = (
        "Feature learning in the limit means that the amount by which features move falls "
        "neither with width nor with depth. The claim holds if all four statements do, each with "
        "its whole 95 % interval; it fails if one of them fails. 5a: the exponent in width of "
        f"RMS(h_L − h_L(0)) is within ±{MARGIN} under depth-μP, and within −½ ± {MARGIN} under "
        f"NTK scaling. 5b: under depth-μP its exponent in depth is within ±{MARGIN}. 5c: the "
        "alignment of the features' kernel with the targets grows in training. 5d: half-way "
        "through training the loss differs from that of lazy training by more than "
        f"{DIFFERENT:.0%}."
    )
    sizes: ClassVar = {
        "toy": dict(widths=(32, 64, 128), depth=2, seeds=3, steps=2, depths=(2, 4, 8), width=32),
        "quick": dict(
            widths=(128, 256, 512, 1024, 2048), depth=8, seeds=12, steps=6, depths=(4, 8, 16, 32, 64),
            width=512,
        ),
        "standard": dict(
            widths=(128, 256, 512, 1024, 2048, 4096), depth=16, seeds=12, steps=9,
            depths=(4, 8, 16, 32, 64, 128), width=1024,
        ),
        "full": dict(
            widths=(256, 512, 1024, 2048, 4096, 8192), depth=32, seeds=16, steps=50,
            depths=(4, 8, 16, 32, 64, 128, 256), width=4096,
        ),
    }  # fmt: skip

    def cells(self, setting: Setting) -> dict[Key, Cell]:
        """Training over width in both schemes, over depth in one, and the lazy baseline."""
        z = self.sizes[setting.preset]
        problem = setting.two(samples=8)
        steps = tuple(sorted({0, z["steps"] // 3, 2 * z["steps"] // 3, z["steps"]}))
        measure = Measure(("feature_kernel", "movement"), times=TIMES, steps=steps)
        out: dict[Key, Cell] = {}
        for scheme in SCHEMES:
            network = ResNet("tanh", scheme=scheme)
            sgd = SGD(
                stable_rate(problem, ResNet("tanh", scheme="depth-mup"), None, ROLES),
                z["steps"],
                center=True,
            )
            sizes = {(n, z["depth"]) for n in z["widths"]}
            if scheme == "depth-mup":
                sizes |= {(z["width"], d) for d in z["depths"]}
                out["lazy",] = Cell(
                    "lazy", problem, dict(network=network, sgd=sgd, depth=z["depth"])
                )
            for n, depth in sorted(sizes):
                how = dict(network=network, sgd=sgd, width=n, depth=depth, seeds=z["seeds"])
                how |= dict(seed=setting.seed, measure=measure)
                keep = ("feature_kernel", "movement", "train_loss", "measured_steps")
                out[scheme, n, depth] = Cell("solve", problem, how, keep, setting.device)
        return out

    def data(self, setting: Setting, arrays: Mapping[Key, Arrays]) -> dict[str, Any]:
        """Movement (seeds, sizes, steps, times), alignment (seeds, steps), losses."""
        z = self.sizes[setting.preset]
        y = setting.two(samples=8).y

        def movement(scheme: str, sizes: Sequence[tuple[int, int]]) -> np.ndarray:
            rows = [arrays[scheme, n, d]["movement"] for n, d in sizes]
            return np.stack([np.sqrt((m**2).mean(-1)) for m in rows], axis=1)

        largest = {s: arrays[s, z["widths"][-1], z["depth"]] for s in SCHEMES}
        return {k: z[k] for k in ("widths", "depth", "depths", "width")} | {
            "times": TIMES,
            "steps": largest["depth-mup"]["measured_steps"],
            "over_width": {s: movement(s, [(n, z["depth"]) for n in z["widths"]]) for s in SCHEMES},
            "over_depth": movement("depth-mup", [(z["width"], d) for d in z["depths"]]),
            "alignment": {
                s: _alignment(a["feature_kernel"][:, :, -1], y) for s, a in largest.items()
            },
            "loss": {s: a["train_loss"] for s, a in largest.items()},
            "lazy": arrays["lazy",]["train_loss"][0],
        }

    def judge(self, data: Data) -> Judgement:
        """The rule."""
        mup, ntk, deep = (
            width_exponent(data, "depth-mup"),
            width_exponent(data, "ntk"),
            depth_exponent(data),
        )
        grown, away = aligned(data), from_lazy(data)
        word_a = every((inside(mup, -MARGIN, MARGIN), inside(ntk, -0.5 - MARGIN, -0.5 + MARGIN)))
        word_b, word_c = inside(deep, -MARGIN, MARGIN), above(grown, 0.0)
        word_d = outside(away, -DIFFERENT, DIFFERENT)
        number = "exponent of the features' movement in width, depth-μP"
        rows = (
            ("Features move at any width; under NTK scaling they stop moving", word_a, number, mup),
            ("Features move at any depth", word_b, "exponent of the movement in depth", deep),
            ("The features' kernel aligns with the targets", word_c, "growth of the alignment", grown),
            ("Training differs from lazy training", word_d, "1 − loss/lazy loss, half-way", away),
        )  # fmt: skip
        parts = tuple(
            Part(key, text, verdict(word, name, e, f"as {key} of the claim's"))
            for key, (text, word, name, e) in zip(("5a", "5b", "5c", "5d"), rows, strict=True)
        )
        words = (word_a, word_b, word_c, word_d)
        return Judgement(verdict(every(words), number, mup, self.rule), parts)

    def figures(self, data: Data) -> Sequence[Drawing]:
        """Movement over width, depth time and depth; alignment and losses over training."""
        colors = {"depth-mup": BLUE, "ntk": ORANGE}
        p = Panels(
            [
                f"Movement over width, L = {data['depth']}",
                f"Movement over depth, n = {data['width']}",
                f"Movement inside the network, n = {data['widths'][-1]}",
                "Loss against lazy training",
            ]
        )
        p.panel(0, WIDTH, "RMS(h_L − h_L(0))", sizes=data["widths"], log_y=True)
        for scheme, name in SCHEMES.items():
            v = np.asarray(data["over_width"][scheme], float)[:, :, -1, -1]
            p.line(data["widths"], v, name, colors[scheme])
            if scheme == "ntk":
                p.theory(*power(data["widths"], v.mean(0)[0], -0.5), "slope −½")
        p.panel(1, DEPTH, "RMS(h_L − h_L(0))", sizes=data["depths"])
        p.line(
            data["depths"],
            np.asarray(data["over_depth"], float)[:, :, -1, -1],
            SCHEMES["depth-mup"],
            BLUE,
        )
        p.figure.update_yaxes(rangemode="tozero", row=1, col=2)
        p.panel(2, "depth time t = l/L", "RMS(h_t − h_t(0))")
        v = np.asarray(data["over_width"]["depth-mup"], float)[:, -1]
        for i, (step, color) in enumerate(
            zip(data["steps"], (GREY, GREEN, ORANGE, PURPLE), strict=False)
        ):
            p.line(data["times"], v[:, i], f"after step {step:g}", color, symbol=SYMBOLS[i])
        p.panel(3, "training step", "training loss", log_y=True)
        for scheme, name in SCHEMES.items():
            loss = np.asarray(data["loss"][scheme], float)
            p.line(range(loss.shape[1]), loss, name, colors[scheme])
        p.theory(range(len(data["lazy"])), data["lazy"], "lazy training, n = ∞")
        alt = (
            "Four panels. The RMS movement of the last features over width under depth-μP (exponent "
            f"{width_exponent(data, 'depth-mup'):w}) and NTK scaling ({width_exponent(data, 'ntk'):w}); "
            "over depth; through depth time and over training; the training losses beside that of "
            "lazy training."
        )
        return (Drawing(p.figure, "Features move at any width and depth", alt),)

    def findings(self, data: Data) -> Sequence[str]:
        """The numbers in words."""
        a = {s: np.asarray(data["alignment"][s], float).mean(0) for s in SCHEMES}
        v = np.asarray(data["over_width"]["depth-mup"], float)[:, -1, -1, -1]
        move = jackknife(lambda x: float(x.mean()), v)
        return (
            f"Under depth-μP the last features move by {move:w} (RMS over coordinates) at n = "
            f"{data['widths'][-1]}. Under NTK scaling the movement has exponent "
            f"{width_exponent(data, 'ntk'):w} in width.",
            "Alignment of the last features' kernel with the targets goes from "
            f"{a['depth-mup'][0]:.3f} to {a['depth-mup'][-1]:.3f} (NTK scaling: {a['ntk'][0]:.3f} to "
            f"{a['ntk'][-1]:.3f}). One minus the ratio of the loss to that of "
            f"lazy training, half-way through training, is {from_lazy(data):w}.",
        )


def _alignment(k: np.ndarray, y: np.ndarray) -> np.ndarray:
    """⟨K, yyᵀ⟩/(‖K‖‖yyᵀ‖) of kernels (..., P, P)."""
    yy = y @ y.T
    return (k * yy).sum((-2, -1)) / np.sqrt((k**2).sum((-2, -1)) * (yy**2).sum())


def width_exponent(data: Data, scheme: str) -> Interval:
    """Exponent in width of the last features' movement at the end of training."""
    v = np.asarray(data["over_width"][scheme], float)[:, :, -1, -1]
    return exponent(data["widths"], v, LAST)


def depth_exponent(data: Data) -> Interval:
    """Exponent in depth of the last features' movement, under depth-μP."""
    return exponent(data["depths"], np.asarray(data["over_depth"], float)[:, :, -1, -1], LAST)


def aligned(data: Data) -> Interval:
    """Alignment at the end minus that at initialization, depth-μP."""
    a = np.asarray(data["alignment"]["depth-mup"], float)
    return jackknife(lambda v: float((v[:, -1] - v[:, 0]).mean()), a)


def from_lazy(data: Data) -> Interval:
    """1 − loss/lazy loss half-way, depth-μP."""
    v = np.asarray(data["loss"]["depth-mup"], float)
    half = v.shape[1] // 2
    return jackknife(lambda x: float(1 - x[:, half].mean() / data["lazy"][half]), v)
