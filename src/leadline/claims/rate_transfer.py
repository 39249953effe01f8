"""Claim 9: the correction restores transfer of learning rates over depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from leadline.claims import rates
from leadline.claims.claim import Claim, Data
from leadline.claims.verdict import FAILS, HOLDS, UNDECIDED, Judgement, Part, every, verdict
from leadline.intervals import Interval

if TYPE_CHECKING:
    from leadline.reporting.page import Drawing, Table
    from leadline.transferring.analysis import AxisResult

WORDS = {"transfers": HOLDS, "does not transfer": FAILS}
NAMES = {
    "depth-mup": "depth-μP",
    "depth-mup-corrected": "the correction",
    "completep": "the rule 1/L (CompleteP)",
}
OPTIMIZERS = {"sgd": "SGD", "adamw": "AdamW"}
RULE = (
    "leadline transfer's verdict on the training loss: a rate transfers over depth if its drift "
    "(doublings of the best rate per doubling of depth) is within ±0.25 and trusting the "
    "shallowest network's best rate costs the deepest at most 5 % of loss, both with whole 95 % "
    "intervals; it does not if the drift is beyond, the cost is above, or the rate diverges. The "
    "claim holds if rates transfer under the correction with every optimizer measured, fails if "
    "they do not with one, otherwise it is undecided."
)


def _why(a: AxisResult) -> str:
    """The verdict's reason, without the option of leadline transfer that would come next."""
    return a.reason.split("; next: ")[0].split(", --lrs ")[0]


def judge(data: Data) -> Judgement:
    """The rule."""
    parts, words, drifts = [], [], []
    letters = iter("abcdefghij")
    for scheme in (rates.CORRECTED, "depth-mup", "completep"):
        for optimizer in data["optimizers"]:
            a = rates.axis(data, optimizer, scheme)
            word = WORDS.get(a.verdict, UNDECIDED)
            drift = a.drift
            if scheme == rates.CORRECTED:
                words.append(word)
                drifts.append(drift)
            text = f"{OPTIMIZERS[optimizer]}: rates transfer over depth under {NAMES[scheme]}"
            rule = f"as the claim's; here: {_why(a)}"
            v = verdict(word, "drift, doublings per doubling of depth", drift, rule)
            parts.append(Part(f"9{next(letters)}", text, v, claimed=scheme == rates.CORRECTED))
    worst = max(drifts, key=lambda e: abs(e.value))
    number = "drift of the best rate, doublings per doubling of depth"
    return Judgement(verdict(every(words), number, worst, RULE), tuple(parts))


def figures(data: Data) -> Sequence[Drawing]:
    """Loss against rate, one curve a depth, one panel a scheme."""
    from plotly.colors import sample_colorscale

    from leadline.claims.draw import SYMBOLS, Panels
    from leadline.reporting.page import Drawing

    depths, out = data["depths"], []
    for optimizer in data["optimizers"]:
        p = Panels([NAMES[s] for s in rates.SCHEMES], columns=3)
        x = data["lrs"][optimizer]
        curves = {s: _means(rates.losses(data, optimizer, s, "loss")) for s in rates.SCHEMES}
        every = np.stack(list(curves.values()))
        low, high = np.nanmin(every), np.nanmin(every) * 8
        last = int(np.flatnonzero(np.isfinite(every).any(axis=(0, 1)))[-1])
        for i, scheme in enumerate(rates.SCHEMES):
            ticks = [float(f"{r:.1g}") for r in x[:: max(len(x) // 3, 1)]]
            p.panel(i, "rate of the shallowest network", "training loss", sizes=ticks, log_y=True)
            edges = [np.log10(x[0]) - 0.05, np.log10(x[last]) + 0.05]
            p.figure.update_xaxes(range=edges, row=1, col=i + 1)
            top = min(high, float(np.nanmax(every)))
            span = [np.log10(low) - 0.03, np.log10(top) + 0.03]
            p.figure.update_yaxes(range=span, row=1, col=i + 1)
            for k, depth in enumerate(depths):
                shade = sample_colorscale("Viridis", [0.85 * k / max(len(depths) - 1, 1)])[0]
                p.line(
                    x, curves[scheme][k], f"L = {depth}", shade, symbol=SYMBOLS[k % len(SYMBOLS)]
                )
        found = "; ".join(
            f"{NAMES[s]} {_short(rates.axis(data, optimizer, s).drift)}" for s in rates.SCHEMES
        )
        alt = (
            f"Three panels, one a scheme, {OPTIMIZERS[optimizer]}: training loss against the "
            "learning rate of the shallowest network, one curve a depth. Drift of the best rate, "
            f"doublings per doubling of depth: {found}."
        )
        out.append(
            Drawing(
                p.figure, f"Loss against learning rate over depth, {OPTIMIZERS[optimizer]}", alt
            )
        )
    return out


def _means(v: np.ndarray) -> np.ndarray:
    """Geometric means over seeds, nan where one diverged: (depths, lrs)."""
    y = np.exp(np.log(v).mean(-1))
    return np.where(np.isfinite(y), y, np.nan)


def tables(data: Data) -> Sequence[Table]:
    """Best rates and regrets."""
    from leadline.reporting.page import Table

    rows = []
    for optimizer in data["optimizers"]:
        for scheme in rates.SCHEMES:
            a = rates.axis(data, optimizer, scheme)
            first, last = a.sizes[0], a.sizes[-1]
            rows.append(
                (
                    f"{OPTIMIZERS[optimizer]}, {NAMES[scheme]}",
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
    return (Table(head, tuple(rows), "Best rates over depth, 95 % over the grid and the seeds"),)


def _short(e: Interval) -> str:
    if not np.isfinite(e.value):
        return "diverges"
    return f"{e:w}" if np.isfinite(e.low) else f"{e.value:.3g}"


def found(data: Data) -> Sequence[str]:
    """The numbers in words."""
    out = []
    for optimizer in data["optimizers"]:
        said = []
        for scheme in rates.SCHEMES:
            a = rates.axis(data, optimizer, scheme)
            said.append(f"{NAMES[scheme]} {_short(a.drift)} ({a.verdict}: {_why(a)})")
        out.append(f"{OPTIMIZERS[optimizer]}, drift over depth: " + "; ".join(said) + ".")
    return out


CLAIM = Claim(
    number=9,
    title="Transfer of learning rates over depth",
    sentence="The correction empirically restores depth-wise hyperparameter transfer.",
    where="abstract",
    design=(rates.DESIGN,),
    rule=RULE,
    cells=rates.cells,
    data=rates.data,
    judge=judge,
    figures=figures,
    found=found,
    tables=tables,
)
