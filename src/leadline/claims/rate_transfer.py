"""Claim 9: the correction restores transfer of learning rates over depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from leadline.claims.cells import RATE_METRICS, Arrays, Cell
from leadline.claims.claim import CORRECTED, OPTIMIZERS, SCHEMES, Claim, Data, Key, Setting
from leadline.claims.verdict import FAILS, HOLDS, UNDECIDED, Judgement, Part, every, verdict
from leadline.intervals import Interval
from leadline.reporting.page import Drawing, Table
from leadline.reporting.panels import SYMBOLS, Panels, shades
from leadline.transferring.analysis import AxisResult
from leadline.transferring.transfers import from_rows

_SGD = tuple(2.0 ** (k / 2) for k in range(-8, 2))
_ADAMW = tuple(2.0 ** (k / 2) for k in range(-20, -7))
WORDS = {"transfers": HOLDS, "does not transfer": FAILS}
SCHEME_WORDS = {
    "depth-mup": "depth-μP",
    "depth-mup-corrected": "the correction",
    "completep": "the rule 1/L (CompleteP)",
}

RATES_DESIGN = (
    "ResNets in PyTorch's convention with blocks h + W₂ relu(W₁h), all ten classes, "
    "cross-entropy, one pass over the data in small batches, so that no sample is seen twice and "
    "training and test loss mean the same. Every scheme trains every depth at every learning "
    "rate of a grid; rates are those of the shallowest network, carried to depth by the scheme, "
    "so that a scheme transfers if its best rate does not drift. Best rates, drift and regret are "
    "those of leadline transfer: their intervals are what the grid of rates leaves open, widened by "
    "a bootstrap over seeds."
)


class RatesClaim(Claim):
    """A claim about the loss over learning rate and depth, for every scheme."""

    sizes: ClassVar = {
        "toy": dict(
            width=16, depths=(2, 4), samples=40, test=20, batch_size=10, seeds=3,
            lrs=dict(sgd=(0.1, 0.2, 0.4)),
        ),
        "quick": dict(
            width=32, depths=(2, 4, 8, 16, 32), samples=1200, test=500, batch_size=40, seeds=6,
            lrs=dict(sgd=_SGD, adamw=_ADAMW[::2]),
        ),
        "standard": dict(
            width=64, depths=(2, 4, 8, 16, 32, 64), samples=1200, test=500, batch_size=40, seeds=8,
            lrs=dict(sgd=_SGD, adamw=_ADAMW),
        ),
        "full": dict(
            width=128, depths=(2, 4, 8, 16, 32, 64), samples=20000, test=5000, batch_size=100, seeds=8,
            lrs=dict(sgd=_SGD, adamw=_ADAMW),
        ),
    }  # fmt: skip

    def cells(self, setting: Setting) -> dict[Key, Cell]:
        """One program of runs for each scheme, optimizer and depth."""
        z = self.sizes[setting.preset]
        problem = setting.all(samples=z["samples"], test_samples=z["test"])
        out: dict[Key, Cell] = {}
        for optimizer, lrs in z["lrs"].items():
            for scheme in SCHEMES:
                for depth in z["depths"]:
                    how = {k: z[k] for k in ("width", "seeds", "batch_size")} | {
                        "seed": setting.seed
                    }
                    how |= dict(scheme=scheme, optimizer=optimizer, lrs=lrs)
                    how |= dict(depth=depth, base_depth=z["depths"][0])
                    how |= dict(steps=z["samples"] // z["batch_size"])
                    cell = Cell("rates", problem, how, device=setting.device)
                    out[optimizer, scheme, depth] = cell
        return out

    def data(self, setting: Setting, arrays: Mapping[Key, Arrays]) -> dict[str, Any]:
        """Losses (depths, lrs, seeds) by optimizer, scheme and metric; infinite where a run diverged."""
        z = self.sizes[setting.preset]

        def stacked(optimizer: str, scheme: str, metric: str) -> np.ndarray:
            return np.stack([arrays[optimizer, scheme, d][metric] for d in z["depths"]])

        return {k: z[k] for k in ("width", "depths", "lrs")} | {
            "optimizers": list(z["lrs"]),
            "curves": {
                o: {s: {m: stacked(o, s, m) for m in RATE_METRICS} for s in SCHEMES}
                for o in z["lrs"]
            },
        }


def losses(data: Data, optimizer: str, scheme: str, metric: str) -> np.ndarray:
    """(depths, lrs, seeds), inf where a run diverged; JSON has None there."""
    v = np.asarray(data["curves"][optimizer][scheme][metric], dtype=float)
    return np.where(np.isfinite(v), v, np.inf)


def axis(data: Data, optimizer: str, scheme: str, metric: str = "loss") -> AxisResult:
    """Drift, regret and verdict over depth, by leadline's own analysis of transfer."""
    v = losses(data, optimizer, scheme, metric)
    return _axis(
        scheme, tuple(data["depths"]), tuple(data["lrs"][optimizer]), v.shape[2], v.tobytes()
    )


@lru_cache(maxsize=64)
def _axis(
    scheme: str, depths: tuple[int, ...], lrs: tuple[float, ...], seeds: int, values: bytes
) -> AxisResult:
    """The analysis of losses (depths, lrs, seeds): kept, for its bootstrap takes time."""
    v = np.frombuffer(values).reshape(len(depths), len(lrs), seeds)
    rows = [
        dict(scheme=scheme, width=1, depth=d, lr=lr, seed=s, loss=float(v[i, j, s]))
        for i, d in enumerate(depths)
        for j, lr in enumerate(lrs)
        for s in range(seeds)
    ]
    return from_rows(rows, [scheme], "loss", ("depth",)).axes[0]


class RateTransfer(RatesClaim):
    """The correction restores transfer of learning rates over depth."""

    number = 9
    title = "Transfer of learning rates over depth"
    sentence = "The correction empirically restores depth-wise hyperparameter transfer."
    design = (RATES_DESIGN,)
    rule = (
        "The verdicts are leadline transfer's, on the training loss. A rate transfers over depth "
        "if its drift (doublings of the best rate per doubling of depth) is within ±0.25 and the "
        "shallowest network's best rate costs the deepest at most 5 % of loss, both with whole "
        "95 % intervals. It does not transfer if the drift is beyond, the cost is above, or the "
        "deepest network diverges. The claim holds if rates transfer under the correction with "
        "every optimizer measured. It fails if they do not transfer with one. Otherwise it is "
        "undecided."
    )

    def judge(self, data: Data) -> Judgement:
        """The rule."""
        parts, words, drifts = [], [], []
        letters = iter("abcdefghij")
        for scheme in (CORRECTED, "depth-mup", "completep"):
            for optimizer in data["optimizers"]:
                a = axis(data, optimizer, scheme)
                word = WORDS.get(a.verdict, UNDECIDED)
                drift = a.drift
                if scheme == CORRECTED:
                    words.append(word)
                    drifts.append(drift)
                text = f"{OPTIMIZERS[optimizer]}: rates transfer over depth under {SCHEME_WORDS[scheme]}"
                rule = f"as the claim's; here: {_why(a)}; {a.range}"
                v = verdict(word, "drift, doublings per doubling of depth", drift, rule)
                parts.append(Part(f"9{next(letters)}", text, v, claimed=scheme == CORRECTED))
        worst = max(drifts, key=lambda e: abs(e.value))
        number = "drift of the best rate, doublings per doubling of depth"
        return Judgement(verdict(every(words), number, worst, self.rule), tuple(parts))

    def figures(self, data: Data) -> Sequence[Drawing]:
        """Loss against rate, one curve a depth, one panel a scheme."""
        depths, out = data["depths"], []
        for optimizer in data["optimizers"]:
            p = Panels([SCHEME_WORDS[s] for s in SCHEMES], columns=3)
            x = data["lrs"][optimizer]
            curves = {s: _means(losses(data, optimizer, s, "loss")) for s in SCHEMES}
            every = np.stack(list(curves.values()))
            low, high = np.nanmin(every), np.nanmin(every) * 8
            last = int(np.flatnonzero(np.isfinite(every).any(axis=(0, 1)))[-1])
            for i, scheme in enumerate(SCHEMES):
                ticks = [float(f"{r:.1g}") for r in x[:: max(len(x) // 3, 1)]]
                p.panel(
                    i, "rate of the shallowest network", "training loss", sizes=ticks, log_y=True
                )
                edges = [np.log10(x[0]) - 0.05, np.log10(x[last]) + 0.05]
                p.figure.update_xaxes(range=edges, row=1, col=i + 1)
                top = min(high, float(np.nanmax(every)))
                span = [np.log10(low) - 0.03, np.log10(top) + 0.03]
                p.figure.update_yaxes(range=span, row=1, col=i + 1)
                for k, (depth, shade) in enumerate(zip(depths, shades(len(depths)), strict=True)):
                    symbol = SYMBOLS[k % len(SYMBOLS)]
                    p.line(x, curves[scheme][k], f"L = {depth}", shade, symbol=symbol)
            drifts = "; ".join(
                f"{SCHEME_WORDS[s]} {_short(axis(data, optimizer, s).drift)}" for s in SCHEMES
            )
            alt = (
                f"Three panels, one a scheme, {OPTIMIZERS[optimizer]}: training loss against the "
                "learning rate of the shallowest network, one curve a depth. Drift of the best rate, "
                f"doublings per doubling of depth: {drifts}."
            )
            out.append(
                Drawing(
                    p.figure, f"Loss against learning rate over depth, {OPTIMIZERS[optimizer]}", alt
                )
            )
        return out

    def tables(self, data: Data) -> Sequence[Table]:
        """Best rates and regrets."""
        rows = []
        for optimizer in data["optimizers"]:
            for scheme in SCHEMES:
                a = axis(data, optimizer, scheme)
                first, last = a.sizes[0], a.sizes[-1]
                rows.append(
                    (
                        f"{OPTIMIZERS[optimizer]}, {SCHEME_WORDS[scheme]}",
                        _short(first.lr),
                        _short(last.lr),
                        _short(a.drift),
                        _short(last.regret),
                        a.verdict,
                    )
                )
        d = data["depths"]
        head = (
            "",
            f"best rate at L = {d[0]}",
            f"at L = {d[-1]}",
            "drift",
            f"regret at L = {d[-1]}",
            "transfer",
        )
        return (
            Table(head, tuple(rows), "Best rates over depth, 95 % over the grid and the seeds"),
        )

    def findings(self, data: Data) -> Sequence[str]:
        """The numbers in words."""
        out = []
        for optimizer in data["optimizers"]:
            said = []
            for scheme in SCHEMES:
                a = axis(data, optimizer, scheme)
                said.append(f"{SCHEME_WORDS[scheme]} {_short(a.drift)} ({_said(a)})")
            out.append(f"{OPTIMIZERS[optimizer]}, drift over depth: " + "; ".join(said) + ".")
        return out


def _why(a: AxisResult) -> str:
    """The verdict's reason, without the option of leadline transfer that would come next."""
    return a.reason.split("; next: ")[0].split(", --lrs ")[0]


def _said(a: AxisResult) -> str:
    """The range of transfer, with the reason where a verdict is open."""
    return f"undecided: {_why(a)}; {a.range}" if a.verdict == "undecided" else a.range


def _means(v: np.ndarray) -> np.ndarray:
    """Geometric means over seeds, nan where one diverged: (depths, lrs)."""
    y = np.exp(np.log(v).mean(-1))
    return np.where(np.isfinite(y), y, np.nan)


def _short(e: Interval) -> str:
    if not np.isfinite(e.value):
        return "diverges"
    return f"{e:w}" if np.isfinite(e.low) else f"{e.value:.3g}"
