"""The ten claims, in the paper's order."""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from leadline.claims.claim import Claim

_FILES = {
    1: "initialization",
    2: "limits",
    3: "gia",
    4: "degeneracy",
    5: "features",
    6: "scaling",
    7: "collapse",
    8: "correction",
    9: "rate_transfer",
    10: "stronger",
}
NUMBERS = tuple(_FILES)


def claim(number: int) -> Claim:
    """The claim of that number."""
    return importlib.import_module(f"leadline.claims.{_FILES[number]}").CLAIM


def check_claims(claims: Iterable[int] | int | None) -> tuple[int, ...]:
    """Sorted numbers, each once; None is all.

    Raises:
        ValueError, TypeError: one that there is not; names the nearest.
    """
    if claims is None:
        return NUMBERS
    wanted = (claims,) if isinstance(claims, int) else tuple(claims)
    for number in wanted:
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"claims={claims!r} holds {number!r}: give numbers 1 to {NUMBERS[-1]}")
        if number not in _FILES:
            nearest = min(NUMBERS, key=lambda k: abs(k - number))
            raise ValueError(
                f"claims={number!r} is unknown: did you mean {nearest}? choose from 1 to "
                f"{NUMBERS[-1]}"
            )
    if not wanted:
        raise ValueError(f"claims={claims!r} is empty: give numbers 1 to {NUMBERS[-1]}, or None")
    return tuple(sorted(set(wanted)))
