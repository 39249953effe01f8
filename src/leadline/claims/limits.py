"""Claim 2: Neural Feature Dynamics is the limit of trained networks.

NFD is the limit under the gradient-independence assumption (coupling "independent"). Networks of
growing width and depth are trained both ways and their outputs compared with both limits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from leadline.architecture import ResNet
from leadline.claims.cells import Arrays, Cell
from leadline.claims.claim import COUPLINGS, ROLES, SETS, Claim, Data, Key, Setting, stable_rate
from leadline.claims.verdict import UNDECIDED, Judgement, Part, below, every, inside, verdict
from leadline.intervals import Interval, jackknife, mean, slope
from leadline.recipes.sgd import SGD
from leadline.reporting.page import Drawing
from leadline.reporting.panels import BLUE, ORANGE, PURPLE, RED, Panels, power

MARGIN = 0.25
FIRST_ORDER = -0.75
"""Between −½ and −1, what a mean square at rate 1/√n and at 1/n would give."""
LAST = 4
STEPS = 6


class LimitOfTraining(Claim):
    """Neural Feature Dynamics is the limit of trained networks."""

    number = 2
    title = "NFD as the limit of training"
    sentence = (
        "Neural Feature Dynamics characterizes feature learning via a coupled forward-backward "
        "stochastic system in the joint infinite-width and infinite-depth limit."
    )
    design = (
        "tanh ResNets with one-layer blocks under depth-μP, 8 training samples of two classes, "
        "all weights trained by full-batch SGD from f = 0 at a quarter of 1/λ. Width and depth "
        "grow together, L = n/16. Dense networks, and beyond them solves in the exact law of "
        "dense networks, with true backpropagation and with independent backward weights, "
        "against both limits (solved, extrapolated in 1/n and 1/L), on training and on test "
        "inputs, half-way and at the end of training.",
    )
    rule = (
        "Width and depth grow together. The error is the mean square of outputs minus the "
        "limit's, over seeds, samples and steps, divided by the mean square of the limit's "
        "outputs. 2a is about networks trained under the assumption. It holds if the error's "
        f"exponent in width over the {LAST} largest sizes is below {FIRST_ORDER} with its whole "
        "interval, on training and on test inputs (−1 is first order). 2b is about real "
        "networks. Their error against NFD is extrapolated to infinite size by E + A/n, and E is "
        "divided by the mean-square distance between the two limits. The result, the left-over "
        "error, is 0 if real networks converge to NFD and 1 if they converge to the other limit. "
        f"2b holds if it is within ±{MARGIN} and fails if its whole interval is outside. The "
        "claim holds if 2a and 2b do and fails if one fails. What rests on a limit that has not "
        "converged is undecided."
    )
    sizes: ClassVar = {
        "toy": dict(
            dense=((32, 2), (48, 4)), dense_seeds=4, solved=((64, 4),), seeds=4, test=4, rtol=0.9, steps=2,
            limit=dict(width=32, depth=2, seeds=2),
        ),
        "quick": dict(
            dense=((32, 2), (64, 4), (128, 8), (256, 16)), dense_seeds=48, solved=((512, 32), (1024, 64)),
            seeds=10, test=16, rtol=0.006, steps=STEPS,
        ),
        "standard": dict(
            dense=((32, 2), (64, 4), (128, 8), (256, 16), (512, 32)), dense_seeds=48,
            solved=((1024, 64), (2048, 128)), seeds=64, test=16, rtol=0.004, steps=STEPS,
        ),
        "full": dict(
            dense=((64, 4), (128, 8), (256, 16), (512, 32), (1024, 64)), dense_seeds=64,
            solved=((2048, 128), (4096, 256), (8192, 512)), seeds=16, test=64, rtol=0.003, steps=2 * STEPS,
        ),
    }  # fmt: skip  # fmt: skip

    def cells(self, setting: Setting) -> dict[Key, Cell]:
        """Networks of growing size with both couplings, and both limits."""
        z = self.sizes[setting.preset]
        problem = setting.two(samples=8, test_samples=z["test"])
        network = ResNet("tanh", scheme="depth-mup")
        lr = stable_rate(problem, network, None, ROLES)
        sgd = SGD(lr=lr, steps=z["steps"], center=True)
        keep = ("train_outputs", "test_outputs", "train_loss", "test_loss")
        every_step = max(1, z["steps"] // 2)
        out: dict[Key, Cell] = {}
        for coupling in COUPLINGS:
            common = dict(network=network, sgd=sgd, coupling=coupling, seed=setting.seed)
            for kind, sizes, seeds in (
                ("train", z["dense"], z["dense_seeds"]),
                ("solve", z["solved"], z["seeds"]),
            ):
                for n, depth in sizes:
                    how = common | dict(width=n, depth=depth, seeds=seeds, record_every=every_step)
                    out[n, depth, coupling] = Cell(kind, problem, how, keep, setting.device)
            how = (
                common
                | dict(rtol=z["rtol"], record_every=every_step)
                | z.get("limit", dict(seeds=8))
            )
            out["limit", coupling] = Cell("limit", problem, how, (), setting.device)
        return out

    def data(self, setting: Setting, arrays: Mapping[Key, Arrays]) -> dict[str, Any]:
        """Squared errors of outputs (seeds,) by size: coupling of network and limit, inputs."""
        z = self.sizes[setting.preset]
        sizes = [*z["dense"], *z["solved"]]

        def outputs(part: str, *name: Any) -> np.ndarray:
            """After the first recorded step (at step 0 there is nothing to compare)."""
            return arrays[name][f"{part}_outputs"][..., 1:, :, :]

        errors: dict[str, Any] = {c: {against: {} for against in COUPLINGS} for c in COUPLINGS}
        distance = {}
        for part in SETS:
            limits = {c: outputs(part, "limit", c) for c in COUPLINGS}
            scale = {c: float((v**2).mean()) for c, v in limits.items()}
            gap = (limits["reused"] - limits["independent"]) ** 2
            distance[part] = float(gap.mean()) / scale["independent"]
            for c in COUPLINGS:
                for against, end in limits.items():
                    squares = [(outputs(part, n, d, c) - end) ** 2 for n, d in sizes]
                    errors[c][against][part] = [s.mean((1, 2, 3)) / scale[against] for s in squares]
        return {
            "sizes": [list(s) for s in sizes],
            "dense": len(z["dense"]),
            "errors": errors,
            "distance": distance,
            "converged": {c: bool(arrays["limit", c]["converged"]) for c in COUPLINGS},
            "limit_loss": {c: [arrays["limit", c]["train_loss"], arrays["limit", c]["train_loss_error"]]
                           for c in COUPLINGS},
        }  # fmt: skip

    def judge(self, data: Data) -> Judgement:
        """The rule."""

        def orders(coupling: str) -> tuple[str, Interval]:
            exponents = [order(data, coupling, part) for part in SETS]
            word = every(below(e, FIRST_ORDER) for e in exponents)
            return _known(data, word, coupling), max(exponents, key=lambda e: e.value)

        word_a, far = orders("independent")
        number = "exponent of the error in width, the larger of two"
        text = "Networks trained under the gradient-independence assumption converge to NFD"
        parts = [Part("2a", text, verdict(word_a, number, far, "as 2a of the claim's"))]
        rest = [left_over(data, "independent", part) for part in SETS]
        # Its unit is the distance between the limits.
        word_b = _known(data, every(inside(e, -MARGIN, MARGIN) for e in rest), *COUPLINGS)
        number = "left-over error against NFD (0: converges, 1: to the other limit)"
        headline = verdict(every((word_a, word_b)), number, rest[0], self.rule)
        text = "Real networks (true backpropagation) converge to NFD"
        parts.append(Part("2b", text, verdict(word_b, number, rest[0], "as 2b of the claim's")))
        word, far = orders("reused")
        rule = "As 2a, for real networks and the limit that keeps the coupling through Wᵀ."
        text = "Real networks converge to the limit with the coupling through Wᵀ kept"
        number = "exponent of the error in width, the larger of two"
        parts.append(Part("2c", text, verdict(word, number, far, rule), claimed=False))
        return Judgement(headline, tuple(parts))

    def figures(self, data: Data) -> Sequence[Drawing]:
        """Errors over size, training and test inputs."""
        widths = [n for n, _ in data["sizes"]]
        p = Panels(["Training inputs", "Test inputs"])
        lines = (
            ("independent", "independent", "networks under the assumption, against NFD", ORANGE),
            ("reused", "reused", "real networks, against the reused-weights limit", BLUE),
            ("reused", "independent", "real networks, against NFD", PURPLE),
        )
        symbols = ("diamond", "circle", "square")
        for i, part in enumerate(SETS):
            p.panel(
                i,
                "width n, neurons (depth L = n/16)",
                "mean-square error of outputs, relative",
                sizes=widths,
                log_y=True,
            )
            for (c, against, label, color), symbol in zip(lines, symbols, strict=True):
                errors = [mean(g) for g in _groups(data, c, against, part)]
                p.intervals(widths, errors, label, color, symbol=symbol)
            first = _groups(data, "reused", "reused", part)[0].mean()
            p.theory(*power(widths, float(first), -1), "slope −1")
            distance = [data["distance"][part]] * len(widths)
            p.theory(widths, distance, "distance between the limits", RED)
        e, rest = order(data, "reused", "train"), left_over(data, "independent", "train")
        alt = (
            "Two panels, training and test inputs. The error of networks against the limit of their "
            f"own coupling over size, beside slope −1 (real networks: exponent {e:w}); the error of real "
            f"networks against NFD beside the distance between the two limits ({rest:w} of it is left at "
            "infinite size)."
        )
        return (Drawing(p.figure, "Outputs of trained networks against both limits", alt),)

    def findings(self, data: Data) -> Sequence[str]:
        """The numbers in words."""
        d = data["distance"]
        orders = {c: order(data, c, "test") for c in COUPLINGS}
        return (
            "Networks compared with the limit of their own kind: on test inputs the error has "
            f"exponent {orders['independent']:w} for networks under the assumption and "
            f"{orders['reused']:w} for real networks.",
            f"The two limits are {np.sqrt(d['train']):.0%} apart on training outputs and "
            f"{np.sqrt(d['test']):.0%} on test outputs (root mean square, relative). The left-over "
            "error of real networks against NFD is "
            f"{left_over(data, 'independent', 'train'):w} on training inputs and "
            f"{left_over(data, 'independent', 'test'):w} on test inputs (0: they converge to NFD, 1: "
            "to the other limit).",
        )


def _groups(data: Data, coupling: str, against: str, part: str) -> list[np.ndarray]:
    """Errors of networks against a limit, by size: (seeds,) each."""
    return [np.asarray(v, float) for v in data["errors"][coupling][against][part]]


def order(data: Data, coupling: str, part: str) -> Interval:
    """Exponent in width of a network's error against the limit of its own coupling."""
    widths = [n for n, _ in data["sizes"]][-LAST:]
    groups = _groups(data, coupling, coupling, part)[-LAST:]
    return jackknife(lambda *g: slope(widths, [v.mean() for v in g]), *groups)


def left_over(data: Data, against: str, part: str) -> Interval:
    """Error of real networks against a limit at infinite size, over the distance of the limits."""
    widths = np.array([n for n, _ in data["sizes"]], dtype=float)
    groups = _groups(data, "reused", against, part)

    # The error's spread is proportional to its size, roughly A/n: weights n.
    def extrapolated(*g: np.ndarray) -> float:
        y = np.array([v.mean() for v in g])
        return float(np.polyfit(1 / widths, y, 1, w=widths)[1]) / data["distance"][part]

    return jackknife(extrapolated, *groups)


def _known(data: Data, word: str, *couplings: str) -> str:
    """The word, undecided where it rests on a limit that has not converged."""
    return word if all(data["converged"][c] for c in couplings) else UNDECIDED
