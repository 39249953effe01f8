"""What a check says besides its exponents: about losses, and about the base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from leadline.checking.quantities import Measurement
from leadline.checking.report import Row
from leadline.parametrization.optimizers import Optimizer
from leadline.tracing.builder import Size

# Local slopes of a base that is large enough: narrower than the band, because they add up.
_LOCAL = 0.15
TRANSIENT = (
    "the stream shrinks with depth: at initialization its branches outweigh what it begins with, as at "
    "depths that are small for this scheme. What norms make of its changes grows by as much (transient). "
    "Both end with training, which adds what does not shrink; a deeper base, or branches that begin small "
    "(last gain or weight 0), avoid them"
)
FAINT = (
    "layers whose outputs stay few as width grows (such as a fixed number of key and value heads) begin as "
    "small as a readout does, ∝ width^-½, and so does all that passes through them (transient): training "
    "adds what does not shrink"
)


def final_losses(
    sizes: Mapping[str, Sequence[Size]], measured: Mapping[Size, Sequence[Measurement]]
) -> tuple[dict[str, dict[int, float]], list[str]]:
    """Final losses, and where a larger size ends worse than a smaller one beyond the seeds' noise."""
    out: dict[str, dict[int, float]] = {}
    notes = []
    for axis, members in sizes.items():
        final = {getattr(s, axis): np.array([r.losses[-1] for r in measured[s]]) for s in members}
        out[axis] = {k: float(v.mean()) for k, v in final.items()}
        pairs = list(final.items())
        for (a, x), (b, y) in pairwise(pairs):
            gap = y.mean() - x.mean()
            noise = np.sqrt((x.var(ddof=1) + y.var(ddof=1)) / len(x)) if len(x) > 1 else np.inf
            if not np.isfinite(gap) or gap > 3 * noise:
                notes.append(
                    f"larger trains worse: {axis} {b} ends at {y.mean():.4g}, {a} at {x.mean():.4g} "
                    f"(noise {noise:.1g})"
                )
    return out, notes


def about_the_base(
    rows: Sequence[Row], sizes: Mapping[str, Sequence[Size]], optimizer: Optimizer
) -> list[str]:
    """The smallest size from which local slopes of what was learned stay small."""
    notes = []
    for axis, members in sizes.items():
        outside = [
            [abs(slope - r.expected) > _LOCAL for slope in r.exponent.slopes]
            for r in rows
            if r.axis == axis and r.quantity in ("change", "own update")
            if r.exponent is not None and r.expected is not None
        ]
        good = len(members) - 1
        while good > 0 and sum(o[good - 1] for o in outside) <= 0.1 * len(outside):
            good -= 1
        if good < len(members) - 1:
            notes.append(
                f"a base {axis} of {getattr(members[good], axis)} is large enough: from there local slopes "
                f"of nine in ten changes stay within ± {_LOCAL}"
            )
            continue
        note = f"no {axis} here is large enough as a base: local slopes still drift"
        if axis == "width" and optimizer.update != "gradient":
            # The sign of a sum of P outer products is aligned with each of P inputs only if n >> P.
            note += (
                "; steps of normalised size need widths above the number of samples (or tokens) in a "
                "batch: take larger widths or a smaller batch"
            )
        notes.append(note)
    return notes
