"""What a rule says of the numbers: holds, fails or undecided."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from leadline.intervals import Interval

HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"
NOT_DECIDED = "not decided at this size"


@dataclass(frozen=True)
class Verdict:
    """A rule's answer.

    Attributes:
        verdict: "holds", "fails" or "undecided".
        number: what the value is.
        value, low, high: the number and its 95 % interval.
        rule: how they make the verdict, in words.
    """

    verdict: str
    number: str
    value: float
    low: float
    high: float
    rule: str

    @property
    def words(self) -> str:
        """The verdict as a reader sees it."""
        return NOT_DECIDED if self.verdict == UNDECIDED else self.verdict


@dataclass(frozen=True)
class Part:
    """One of several statements that a claim consists of, or that were found beside it.

    Attributes:
        key: such as "3a". statement: what is judged.
        claimed: whether the paper says it; otherwise it is a finding beside the claim.
    """

    key: str
    statement: str
    verdict: Verdict
    claimed: bool = True


@dataclass(frozen=True)
class Judgement:
    """The claim's verdict and those of its parts."""

    headline: Verdict
    parts: tuple[Part, ...] = ()


def inside(e: Interval, low: float, high: float) -> str:
    """Holds if the whole interval is within [low, high], fails if none of it is."""
    if not math.isfinite(e.value):
        return UNDECIDED
    if e.low >= low and e.high <= high:
        return HOLDS
    return FAILS if e.low > high or e.high < low else UNDECIDED


def outside(e: Interval, low: float, high: float) -> str:
    """Holds if none of the interval is within [low, high], fails if all of it is."""
    word = inside(e, low, high)
    return {HOLDS: FAILS, FAILS: HOLDS}.get(word, word)


def above(e: Interval, bound: float) -> str:
    """Holds if the whole interval is above, fails if all of it is below."""
    return inside(e, math.nextafter(bound, math.inf), math.inf)


def below(e: Interval, bound: float) -> str:
    """Holds if the whole interval is below, fails if all of it is above."""
    return inside(e, -math.inf, math.nextafter(bound, -math.inf))


def every(verdicts: Iterable[str]) -> str:
    """Holds if all do, fails if one does, else undecided."""
    words = list(verdicts)
    if FAILS in words:
        return FAILS
    return UNDECIDED if UNDECIDED in words else HOLDS


def verdict(word: str, number: str, e: Interval, rule: str) -> Verdict:
    """A verdict about one estimate."""
    return Verdict(word, number, e.value, e.low, e.high, rule)
