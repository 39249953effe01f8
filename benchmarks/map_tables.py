"""The tables of ``claims_map`` in docs/findings.md, from its results."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

SHOWN = {
    "depth-mup": "depth-μP", "depth-mup-corrected": "correction", "completep": "1/L",
    "kappa-1/4": "L^¼", "kappa-1/4-slow": "L^¼, slower",
    "internal-x4": "internal ×4",
}  # fmt: skip
SHORT = {"transfers": "✓", "does not transfer": "✕", "undecided": "?"}


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(e: Sequence[float | None], digits: int = 2) -> str:
    value, low, high = (f"{v:.{digits}f}".replace("-", "−") if v is not None else "∞" for v in e)
    return f"{value} [{low}, {high}]"


def _both(results: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    return [results[f"{name}-{s}"] for s in (0, 1) if f"{name}-{s}" in results]


def _find(result: Mapping[str, Any], **what: Any) -> dict[str, Any] | None:
    for s in result["statements"]:
        if all(s.get(k) == v for k, v in what.items()):
            return s
    return None


def _said(s: Mapping[str, Any]) -> str:
    """A verdict on transfer: sign, drift, and what the base's best rate costs the deepest."""
    cost = _percent(s["cost"][0])
    lost = f" ({100 * s['lost']:.0f} % diverge)" if s["lost"] > 0.01 else ""
    return f"{SHORT[s['word']]} {_drift(s['drift'][0])}, {cost}{lost}"


def _percent(log_ratio: float) -> str:
    """Without a sign on nothing."""
    percent = round(100 * math.expm1(log_ratio))
    return f"{percent} %".replace("-", "−")


def _drift(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}".replace("-", "−")


def _ratio(s: Mapping[str, Any]) -> str:
    if "diverges" in s:
        return f"{s['word']}: diverges at L = {s['diverges']}"
    return f"{s['word']} {_number(s['ratio'])}"


def transfers(results: Mapping[str, Any], cells: Mapping[str, Any]) -> str:
    """Claim 9: base 4, and the bases 8 and 16 by their sign alone."""
    rows = []
    for name in cells:
        both = _both(results, name)
        for scheme, shown in SHOWN.items():
            line = []
            for r in both:
                four = _find(r, what="transfers", scheme=scheme, base=4)
                if four is None:
                    continue
                deeper = [_find(r, what="transfers", scheme=scheme, base=b) for b in (8, 16)]
                signs = " ".join(SHORT[s["word"]] for s in deeper if s)
                line.append(f"{_said(four)} · {signs}" if signs else _said(four))
            if line:
                rows.append([name, shown, *line, *[""] * (2 - len(line))])
    return _table(("cell", "scheme", "first seed set", "second seed set"), rows)


def drifts(results: Mapping[str, Any], cells: Mapping[str, Any]) -> str:
    """Doublings by which the best rate moves for each doubling of depth, from the first base on; of the
    correction with its interval.
    """
    schemes, rows = list(SHOWN)[:3], []
    for name in cells:
        moved = {
            s: [
                m["drift"]
                for r in _both(results, name)
                if (m := _find(r, what="transfers", scheme=s, base=4))
            ]
            for s in schemes
        }
        corrected = "; ".join(map(_number, moved["depth-mup-corrected"]))
        rest = [
            "; ".join(_number(e).split()[0] for e in moved[s]) for s in (schemes[0], schemes[2])
        ]
        if corrected:
            rows.append([name, corrected, *rest])
    return _table(("cell", "the correction", "depth-μP", "CompleteP"), rows)


def stronger(results: Mapping[str, Any], cells: Mapping[str, Any]) -> str:
    """Claim 10: the correction's deepest network against depth-μP's, both readings.

    A cell's second line is the second seed set.
    """
    rows = []
    for name in cells:
        for s, r in zip((0, 1), _both(results, name), strict=False):
            line = [name if s == 0 else ""]
            for reading in ("tuned", "at its best", "at half"):
                for metric in ("loss", "test_loss"):
                    one = _find(
                        r,
                        what="stronger",
                        scheme="depth-mup-corrected",
                        reading=reading,
                        metric=metric,
                    )
                    line.append("" if one is None else _ratio(one))
            if any(line[1:]):
                rows.append(line)
    head = (
        "cell",
        "tuned: training",
        "test",
        "transferred: training",
        "test",
        "at half: training",
        "test",
    )
    return _table(head, rows)


def between(results: Mapping[str, Any], cells: Mapping[str, Any]) -> str:
    """All schemes against depth-μP, each tuned: training loss and test loss."""
    rows = []
    for name in cells:
        for s, r in zip((0, 1), _both(results, name), strict=False):
            for scheme, shown in SHOWN.items():
                both = [
                    _find(r, what="stronger", scheme=scheme, reading="tuned", metric=m)
                    for m in ("loss", "test_loss")
                ]
                moved = _find(r, what="transfers", scheme=scheme, base=4)
                if (
                    None in both
                    or moved is None
                    or scheme not in ("completep", "kappa-1/4", "kappa-1/4-slow")
                ):
                    continue
                rows.append(
                    [f"{name}, set {s}", shown, _said(moved), *(_ratio(b) for b in both if b)]
                )
    return _table(("cell", "scheme", "transfer from 4", "tuned: training", "test"), rows)


def margins(results: Mapping[str, Any], cells: Mapping[str, Any]) -> str:
    """What the base's best rate, a half and a quarter of it cost the deepest, over its own best."""
    rows = []
    for name in cells:
        for s, r in zip((0, 1), _both(results, name), strict=False):
            for scheme in ("depth-mup", "depth-mup-corrected", "completep"):
                line = [f"{name}, set {s}", SHOWN[scheme]]
                for margin in ("at its best", "at half", "at a quarter"):
                    one = _find(r, what="margin", scheme=scheme, margin=margin)
                    line.append("" if one is None else _cost(one))
                if any(line[2:]):
                    rows.append(line)
    return _table(("cell", "scheme", "best rate of 4", "half", "a quarter"), rows)


def _cost(s: Mapping[str, Any]) -> str:
    if s["word"] == "not measured":
        return "below the grid"
    cost, usual = (_percent(s[k]) for k in ("cost", "at_base"))
    return f"{s['word']}: {cost} (L = 4: {usual})"


def tables(results: Mapping[str, Any], cells: Mapping[str, Any]) -> str:
    """All of them, in Markdown."""
    parts = (drifts, transfers, stronger, between, margins)
    return "\n\n".join(f"{inspect.getdoc(p)}\n\n{p(results, cells)}" for p in parts)
