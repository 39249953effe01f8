"""Are the verdicts and intervals of transfer right on planted landscapes? ./dev bench transfer_coverage

Log loss against log2 of the rate, u from the best rate, of four kinds, with random slopes and curvatures:

    smooth      two-sided parabolas, up to fifteen times steeper on one side; logs of sums of powers
    kink        straight falls and rises; a steep straight rise after a gentle curve
    cliff       a fall, then a jump to a plateau
    divergence  a fall until training diverges

Each at widths 64, 128, 256, moved by a planted drift and down by 3 % a doubling, on grids of factor 2 and 4
that start at a random rate, four seeds, log-normal noise of .2 % that a seed shares over sizes and rates,
and .1 % of every run. "changed" lets the shapes differ besides: at each size and on each side log loss is
up to 15 % more or less above the minimum.

Printed: per cent of verdicts that are wrong ("transfers" where the true drift is beyond ±.25 or the base's
rate, as printed, costs the largest width more than 5 % in truth; "does not transfer" where neither the
drift is beyond nor the base's true best rate costs more), per cent decided, and per cent of 95 % intervals
that hold the true drift, best rates, and regret at the largest width. Keeps
benchmarks/results/transfer_coverage.json.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from history import keep, size

from leadline.transferring.analysis import analyse
from leadline.transferring.landscapes import Landscape
from leadline.transferring.verdict import DRIFT, REGRET

WIDTHS = (64, 128, 256)
SEEDS = 4
TRIALS = size(40, 1)
Curve = Callable[[np.ndarray], np.ndarray]


def smooth(rng: np.random.Generator) -> Curve:
    if rng.random() < 0.5:
        left = np.exp(rng.uniform(np.log(0.01), np.log(0.15)))
        right = np.exp(rng.uniform(np.log(0.01), np.log(0.15)))
        return lambda u: np.where(u < 0, left, right) * u**2
    p, q, share = rng.uniform(0.3, 1), rng.uniform(0.3, 3), rng.uniform(0.1, 1)

    def powers(u: np.ndarray) -> np.ndarray:
        s = (q * 2 ** (-p * u) + p * 2 ** (q * u)) / (p + q)
        return np.log1p(share * (s - 1))

    return powers


def kink(rng: np.random.Generator) -> Curve:
    fall, rise, bend = rng.uniform(0.02, 0.3), rng.uniform(0.1, 1), rng.uniform(0, 0.05)
    return lambda u: np.where(u < 0, -fall * u + bend * u**2, rise * u)


def cliff(rng: np.random.Generator) -> Curve:
    fall, bend, top = rng.uniform(0.02, 0.3), rng.uniform(0, 0.05), rng.uniform(1, 2)
    return lambda u: np.where(u <= 0, -fall * u + bend * u**2, top)


def divergence(rng: np.random.Generator) -> Curve:
    fall, bend = rng.uniform(0.02, 0.3), rng.uniform(0, 0.05)
    return lambda u: np.where(u <= 0, -fall * u + bend * u**2, np.inf)


KINDS = {f.__name__: f for f in (smooth, kink, cliff, divergence)}


def trial(kind: str, step: float, drift: float, changed: bool, seed: int) -> dict[str, float]:
    """One planted axis: was the verdict right, and which intervals hold."""
    rng = np.random.default_rng([seed, round(8 * step), round(100 * (drift + 9)), len(kind)])
    curve = KINDS[kind](rng)
    x = -7 + rng.uniform(-step, 0) + step * np.arange(-np.ceil(6 / step), np.ceil(6 / step) + 1)
    shared = 0.002 * rng.standard_normal(SEEDS)
    scapes, sides = {}, {}
    for i, width in enumerate(WIDTHS):
        sides[width] = 1 + (0.15 * rng.uniform(-1, 1, 2) if changed else np.zeros(2))
        u = x - (-7 + drift * i)
        y = np.where(u < 0, *sides[width]) * curve(u) - 0.03 * i
        noise = shared + 0.001 * rng.standard_normal((len(x), SEEDS))
        scapes[width] = Landscape(x, np.exp(y[:, None] + noise))
    top = -7 + drift * (len(WIDTHS) - 1)

    def cost(rate: float) -> float:
        """Of a rate (log2) at the largest width, relative."""
        u = rate - top
        return float(np.expm1(curve(np.array([u]))[0] * sides[WIDTHS[-1]][int(u >= 0)]))

    found = analyse("s", "width", scapes)
    best = 2.0 ** (-7 + drift * np.arange(len(WIDTHS)))
    regret, printed = found.sizes[-1].regret, float(np.log2(found.sizes[0].lr.value))
    moves, tiny = abs(drift) > DRIFT, 1e-9
    wrong = {
        "transfers": moves or cost(printed) > REGRET,
        "does not transfer": not moves and cost(-7.0) <= REGRET,
    }
    return {
        "wrong": wrong.get(found.verdict, False),
        "decided": found.verdict != "undecided",
        "drift": found.drift.low - tiny <= drift <= found.drift.high + tiny,
        "rate": np.mean(
            [
                s.lr.low * (1 - tiny) <= b <= s.lr.high * (1 + tiny)
                for s, b in zip(found.sizes, best, strict=True)
            ]
        ),
        "regret": regret.low - tiny <= cost(printed) <= regret.high + tiny,
    }


def main() -> None:
    rows = []
    print("kind        factor  shapes   drift  wrong  decided  drift in  rate in  regret in")
    for kind in KINDS:
        for step in (1.0, 2.0):
            for changed in (False, True):
                for drift in size((0.0, -0.2, -0.5, -1.0), (0.0,)):
                    found = [trial(kind, step, drift, changed, s) for s in range(TRIALS)]
                    mean = {k: 100 * float(np.mean([f[k] for f in found])) for k in found[0]}
                    rows.append(
                        dict(kind=kind, factor=2**step, changed=changed, drift=drift) | mean
                    )
                    numbers = "  ".join(f"{mean[k]:7.1f}" for k in mean)
                    words = "changed" if changed else "alike"
                    print(
                        f"{kind:10s}  {2**step:6g}  {words:7s}  {drift:5.2f}  {numbers}", flush=True
                    )
    keep("transfer_coverage", {"planted": {"rows": rows, "trials": TRIALS}})


if __name__ == "__main__":
    main()
