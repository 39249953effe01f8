"""Claim 10: the correction yields stronger performance in deeper networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leadline.claims.claim import CORRECTED, OPTIMIZERS, SCHEME_COLORS, SCHEMES, Data
from leadline.claims.rate_transfer import RATES_DESIGN, SCHEME_WORDS, RatesClaim, losses
from leadline.claims.verdict import FAILS, Judgement, Part, below, every, verdict
from leadline.intervals import Interval, jackknife
from leadline.reporting.page import Drawing
from leadline.reporting.panels import SYMBOLS, Panels

METRICS = {"loss": "training", "test_loss": "test"}
WAYS = {"transferred": "at the shallowest network's best rate", "best": "each at its own best rate"}


class StrongerNetworks(RatesClaim):
    """The correction yields stronger performance in deeper networks."""

    number = 10
    title = "Stronger deep networks"
    sentence = "The correction yields stronger performance in deeper ResNets."
    design = (RATES_DESIGN, "Rates are chosen by training loss; test samples choose nothing.")
    rule = (
        "Performance is the loss of the deepest network. Its rate is the one that was best, in "
        "training loss, for the shallowest network of the same scheme, because that is how rates "
        "are used. The number is the log of the corrected network's loss over depth-μP's. The "
        "claim holds if it is below 0 with its whole 95 % interval, on training and on test "
        "data, with every optimizer measured. It fails if one whole interval is above 0 or the "
        "corrected network diverges at that rate. Otherwise it is undecided. The other reading, "
        "each depth tuned on its own, is judged in addition and is no part of this verdict."
    )

    def judge(self, data: Data) -> Judgement:
        """The rule."""
        parts, words, numbers = [], [], []
        letters = iter("abcdefghijklmnop")
        for way, said in WAYS.items():
            for optimizer in data["optimizers"]:
                for metric, kind in METRICS.items():
                    e = advantage(data, optimizer, metric, way)
                    # A network that diverges at its rate is no better.
                    word = FAILS if e.value == np.inf else below(e, 0.0)
                    claimed = way == "transferred"
                    if claimed:
                        words.append(word)
                        numbers.append(e)
                    text = (
                        f"{OPTIMIZERS[optimizer]}, {kind} loss, {said}: the corrected deepest network "
                        "is better than depth-μP's"
                    )
                    rule = (
                        "Holds if the log ratio is below 0 with its whole interval, fails if above."
                    )
                    number = "log of corrected over depth-μP loss"
                    if np.isinf(e.value):
                        at = first_lost(data, optimizer, CORRECTED)
                        number = f"corrected network, from L = {at} on"
                    v = verdict(word, number, e, rule)
                    parts.append(Part(f"10{next(letters)}", text, v, claimed=claimed))
        depth = data["depths"][-1]
        number = f"log of corrected over depth-μP loss at L = {depth}, the least favourable"
        least = max(numbers, key=lambda e: np.inf if np.isnan(e.value) else e.value)
        if np.isinf(least.value):
            number = f"the corrected network at L = {depth}, at the shallowest network's best rate"
        return Judgement(verdict(every(words), number, least, self.rule), tuple(parts))

    def figures(self, data: Data) -> Sequence[Drawing]:
        """Losses over depth at the transferred and at the best rate."""
        depths, out = data["depths"], []
        for optimizer in data["optimizers"]:
            p = Panels(
                [
                    f"{kind.capitalize()} loss, {said}"
                    for said in WAYS.values()
                    for kind in METRICS.values()
                ]
            )
            for i, way in enumerate(WAYS):
                for k, (metric, kind) in enumerate(METRICS.items()):
                    p.panel(2 * i + k, "depth L, blocks", f"{kind} loss", sizes=depths, log_y=True)
                    for symbol, scheme in zip(SYMBOLS, SCHEMES, strict=False):
                        v = np.exp(performance(data, optimizer, scheme, metric, way))
                        v = np.where(np.isfinite(v), v, np.nan)
                        p.line(
                            depths, v, SCHEME_WORDS[scheme], SCHEME_COLORS[scheme], symbol=symbol
                        )
            e = advantage(data, optimizer, "test_loss", "transferred")
            alt = (
                f"Four panels, {OPTIMIZERS[optimizer]}: training and test loss over depth, at the "
                "shallowest network's best rate and at each depth's own best rate, for depth-μP, the "
                "correction and the rule 1/L. Log ratio of corrected to depth-μP test loss of the "
                f"deepest network at the transferred rate: {e:w}."
            )
            out.append(Drawing(p.figure, f"Loss over depth, {OPTIMIZERS[optimizer]}", alt))
        return out

    def findings(self, data: Data) -> Sequence[str]:
        """The numbers in words."""
        out = []
        for optimizer in data["optimizers"]:
            for way, said in WAYS.items():
                shown = []
                for scheme in (CORRECTED, "completep"):
                    test = advantage(data, optimizer, "test_loss", way, scheme)
                    train = advantage(data, optimizer, "loss", way, scheme)
                    if np.isinf(train.value):
                        at = first_lost(data, optimizer, scheme)
                        shown.append(f"{SCHEME_WORDS[scheme]} diverges from L = {at} on")
                        continue
                    shown.append(
                        f"{SCHEME_WORDS[scheme]} {train:w} in training, {test:w} on test data"
                    )
                out.append(
                    f"{OPTIMIZERS[optimizer]}, log of the loss over depth-μP's at L = "
                    f"{data['depths'][-1]}, {said}: {'; '.join(shown)}."
                )
        return out


def chosen(train: np.ndarray, way: str) -> int:
    """Index of the rate: best for this depth, or for the shallowest; (depths or 1, lrs, seeds)."""
    with np.errstate(invalid="ignore"):
        mean = np.log(train[0 if way == "transferred" else -1]).mean(-1)
    return int(np.argmin(np.where(np.isfinite(mean), mean, np.inf)))


def performance(data: Data, optimizer: str, scheme: str, metric: str, way: str) -> np.ndarray:
    """Log loss (seeds, depths): rates are always chosen by training loss."""
    train = losses(data, optimizer, scheme, "loss")
    v = losses(data, optimizer, scheme, metric)
    at = [chosen(train[[0]] if way == "transferred" else train[[k]], way) for k in range(len(v))]
    with np.errstate(divide="ignore"):
        return np.log(np.stack([v[k, i] for k, i in enumerate(at)], axis=1))


def first_lost(data: Data, optimizer: str, scheme: str) -> int:
    """The depth from which on a seed diverges at the shallowest network's best rate, as at the last."""
    lost = ~np.isfinite(performance(data, optimizer, scheme, "loss", "transferred")).all(0)
    trained = np.flatnonzero(~lost)
    return data["depths"][int(trained[-1]) + 1 if len(trained) else 0]


def advantage(
    data: Data, optimizer: str, metric: str, way: str, scheme: str = CORRECTED
) -> Interval:
    """Log of a scheme's loss over depth-μP's at the largest depth, paired by seed."""
    mine = performance(data, optimizer, scheme, metric, way)[:, -1]
    other = performance(data, optimizer, "depth-mup", metric, way)[:, -1]
    both = np.stack([mine, other], axis=1)
    if not np.isfinite(both).all():
        # A scheme whose rate diverges at this depth has lost; there is no number for by how much.
        lost = np.nan if not np.isfinite(other).all() else np.inf
        return Interval(lost, lost, lost)
    return jackknife(lambda v: float((v[:, 0] - v[:, 1]).mean()), both)
