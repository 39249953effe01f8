"""Values that parameters begin with, where they are chosen and not drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from leadline.tracing.kinds import Kind


def even(values: Iterable[Tensor]) -> float | None:
    """The value that all entries have; none where they differ."""
    all_ = torch.cat([x.detach().flatten() for x in values])
    return float(all_[0]) if len(all_) and bool((all_ == all_[0]).all()) else None


def varied_over_depth(
    kinds: Mapping[str, Kind],
    here: Mapping[str, Tensor],
    deep: Mapping[str, Tensor],
    still: Callable[[str], bool],
) -> list[tuple[str, str]]:
    """Obstacles to a multiplier of branches: parameters in a branch that begin with another value in a
    deeper network, and do not take the multiplier themselves, where that value would count as present.

    Args:
        kinds: of the parameters at the base. here, deep: all parameters at the base, at twice its depth.
        still: is one the same in every build? One number may be drawn.
    """
    out = []
    for name, k in kinds.items():
        if k.branch is None or name not in deep or any(what == "branch" for what, _ in k.takes):
            continue
        a, b = even([here[name]]), even([deep[name]])
        if a is not None and b is not None and not math.isclose(a, b, rel_tol=1e-5) and still(name):
            line = (
                f"parameter {name!r} begins with {a:.4g}, and with {b:.4g} at twice the depth, and does "
                "not multiply the branch alone and as it is, so nothing says how much of the branch's "
                "multiplier that is: begin with the same value at every depth, or give scheme='mup', which "
                "scales with width alone"
            )
            out.append(("branch", line))
    return out
