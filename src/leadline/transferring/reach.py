"""From which size to which a rate transfers, and from where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Reach:
    """The verdict on the sizes up to one.

    Attributes:
        reason: why the rate does not transfer; empty where it does, and where that is open.
    """

    size: int
    verdict: str
    reason: str = ""


def in_range(axis: str, base: int, reach: Sequence[Reach]) -> str:
    """In words.

    >>> reach = [Reach(8, "transfers"), Reach(16, "undecided")]
    >>> reach.append(Reach(32, "does not transfer", "regret above 5%"))
    >>> in_range("depth", 4, reach)
    'transfers from depth 4 to 8, undecided at 16, fails at 32 (regret above 5%)'
    >>> in_range("depth", 4, reach[:1])
    'transfers from depth 4 to 8, the largest measured'
    """
    if not reach:
        return f"no {axis} beyond {base} was measured"
    failed = next((i for i, r in enumerate(reach) if r.verdict == "does not transfer"), len(reach))
    good = [i for i, r in enumerate(reach[:failed]) if r.verdict == "transfers"]
    first = good[-1] + 1 if good else 0
    said = []
    if good:
        said.append(f"transfers from {axis} {base} to {reach[good[-1]].size}")
        if first == len(reach):
            said.append("the largest measured")
    unknown = [r.size for r in reach[first:failed]]
    if unknown:
        sizes = f"{unknown[0]}" if len(unknown) == 1 else f"{unknown[0]} to {unknown[-1]}"
        said.append(f"undecided at {sizes}" if good else f"from {axis} {base} undecided at {sizes}")
    if failed < len(reach):
        bad, after = reach[failed], reach[failed:]
        # Only what was decided is said: a larger size may be open again.
        every = len(after) > 1 and all(r.verdict == "does not transfer" for r in after)
        to = f"at {bad.size} to {after[-1].size}" if every else f"at {bad.size}"
        where = to if said else f"from {axis} {base} {to}"
        said.append(f"fails {where} ({bad.reason})")
    return ", ".join(said)
