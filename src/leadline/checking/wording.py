"""What a check's page says of its verdicts, and its numbers as files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from leadline.reporting.page import Table
from leadline.tabular.tables import table_csv

_MEANS = {
    "ok": "within the band around the expected exponent",
    "minor": "open, but without weight at up to 16 times the largest size",
    "transient": "outside the band only as far as a base that is too shallow explains",
    "inconclusive": "the interval reaches across the band's edge, which leaves the check undecided",
    "collapsed": "fades as the model grows",
    "exploding": "grows with the model",
    "n/a": "nothing is expected of it",
}


def meanings(verdicts: Iterable[str]) -> str:
    """The verdicts that occur, explained.

    >>> meanings(["n/a", "n/a", "collapsed"])
    'collapsed: fades as the model grows; n/a: nothing is expected of it'
    """
    there = set(verdicts)
    return "; ".join(f"{verdict}: {text}" for verdict, text in _MEANS.items() if verdict in there)


def losses_table(losses: Mapping[str, Mapping[int, float]]) -> tuple[Table, ...]:
    """A row for each axis and size; no table without any."""
    rows = [(a, s, f"{v:.4g}") for a, sizes in losses.items() for s, v in sizes.items()]
    return (Table(("axis", "size", "loss"), rows, "Loss after the steps"),) if rows else ()


def exponents_csv(rows: Sequence[Any]) -> str:
    """One row a parameter, quantity, axis and size, of a report's rows."""
    return table_csv(
        [
            dict(parameter=r.parameter, place=r.place, quantity=r.quantity, axis=r.axis,
                 expected=r.expected, verdict=r.verdict, size=s, value=v)
            for r in rows
            for s, v in zip(r.sizes, r.values, strict=True)
        ]
    )  # fmt: skip
