"""The small GPT over width and depth, schemes side by side: ./dev bench gpt_map [--large] [adamw|muon]

A byte-level transformer (``ll.gpt``, pre-norm, two branches a block, context 32) on the source of Python's
standard library, one pass, 60 steps of 8 sequences, warm-up 6, the rate falls linearly to 0, three seeds,
AdamW and Muon, factor-2 grids. Widths at depth 2, depths at width 32; rates are those of 32 × 2. Usually
widths to 128 and depths to 16: about 7 minutes of one core an optimizer. ``--large``: widths to 512, depths
to 32, about an hour. Runs are kept in leadline-out/gpt_map, so that the same command goes on. Every number
and verdict is that of ``leadline transfer``. Writes benchmarks/results/gpt_map.json.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from history import TOY, keep, size

import leadline as ll

SCHEMES = size(("depth-mup", "depth-mup-corrected", "completep"), ("depth-mup",))
WIDTHS, DEPTHS = size((32, 64, 128), (16,)), size((2, 4, 8, 16), (1, 2))
LARGE_WIDTHS, LARGE_DEPTHS = (*WIDTHS, 256, 512), (*DEPTHS, 32)
RATES = {"adamw": (-8, -4), "muon": (-6, -2)}
HOW: dict[str, Any] = size(
    dict(steps=60, batch_size=8, seeds=3, warmup=6), dict(steps=2, batch_size=2, seeds=1, warmup=1)
)
STATE = (
    Path(tempfile.gettempdir()) / f"gpt_map-{os.getpid()}" if TOY else Path("leadline-out/gpt_map")
)


def measured(optimizer: str, large: bool) -> dict[str, Any]:
    """Train what is missing; every scheme over both axes."""
    low, high = RATES[optimizer]
    result = ll.transfer(
        ll.text(context=size(32, 8)),
        ll.gpt(context=size(32, 8)),
        widths=LARGE_WIDTHS if large else WIDTHS,
        depths=LARGE_DEPTHS if large else DEPTHS,
        lrs=[2.0**k for k in range(low, high + 1)][: size(None, 3)],
        schemes=SCHEMES,
        optimizer=optimizer,
        schedule="linear",
        store=STATE,
        executor="inline",
        **HOW,
    )
    assert isinstance(result, ll.Transfer)
    print(result, flush=True)
    return {
        f"{optimizer} {a.scheme} {a.axis}": {
            "verdict": a.verdict,
            "range": a.range,
            "reason": a.reason,
            "drift": str(a.drift),
            **{
                name: {str(s.size): str(getattr(s, field)) for s in a.sizes}
                for name, field in (
                    ("best", "lr"), ("loss", "loss"), ("at the base's", "at_base"), ("regret", "regret"),
                )
            },
        }
        for a in result.axes
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--large", action="store_true")
    parser.add_argument("optimizers", nargs="*", metavar="OPTIMIZER")
    told = parser.parse_args()
    for optimizer in told.optimizers or size(list(RATES), ["adamw"]):
        if optimizer not in RATES:
            parser.error(f"{optimizer!r} is not measured here: give {' or '.join(RATES)}")
        started = time.process_time()
        keep("gpt_map", measured(optimizer, told.large))
        print(f"{optimizer}: {time.process_time() - started:.0f} s of one core", flush=True)


if __name__ == "__main__":
    main()
