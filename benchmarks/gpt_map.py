"""Transformers over width and depth, schemes side by side: ./dev bench gpt_map [adamw|muon|mixtral ...]

Byte-level language models on the source of Python's standard library, one pass, 8 sequences of 32 a step,
gradients clipped at norm 1, warm-up over a tenth of the steps, the rate then falls linearly to 0, factor-2
grids, three seeds:

- adamw, muon: ``ll.gpt`` (pre-norm, two branches a block), 150 steps, under AdamW and under Muon
- mixtral: Hugging Face's Mixtral, unedited, built from a config (four experts of which two are used,
  grouped queries), 60 steps, under AdamW

Widths 64 to 512 at depth 2, depths 2 to 32 at width 64; rates are those of 64 × 2. Schemes differ over
depth alone: over width they are one network with one rate, so that only one is trained there. About 40
minutes of one core each. Runs are kept in leadline-out/gpt_map, so that the same command goes on. Every
number and verdict is that of ``leadline transfer``. Writes benchmarks/results/gpt_map.json.

    ./dev bench gpt_map --tables                      the tables of docs/findings.md

A pilot (60 steps, no clipping, two seeds, widths 64) had left AdamW's losses over the rate flat and uneven
above 2^-7: hence clipping and 150 steps.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from history import DEVICE, RESULTS, TOY, keep, size

import leadline as ll

SCHEMES = size(("completep", "depth-mup", "depth-mup-corrected"), ("completep",))
WIDTHS, DEPTHS = size((64, 128, 256, 512), (16, 32)), size((2, 4, 8, 16, 32), (1, 2))
CONTEXT = size(32, 8)
# Model, optimizer, log2 of the lowest and the highest rate, steps.
CASES = {
    "adamw": ("gpt", "adamw", (-10, -5), 150),
    "muon": ("gpt", "muon", (-7, -3), 150),
    "mixtral": ("mixtral", "adamw", (-10, -5), 60),
}
STATE = (
    Path(tempfile.gettempdir()) / f"gpt_map-{os.getpid()}" if TOY else Path("leadline-out/gpt_map")
)


def mixtral(width: int, depth: int) -> Any:
    """A mixture of experts as Hugging Face builds it: heads of 16, half as many of them for keys."""
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        vocab_size=256,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=depth,
        num_attention_heads=width // 16,
        num_key_value_heads=max(width // 32, 1),
        num_local_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=64,
        tie_word_embeddings=False,
    )
    return MixtralForCausalLM(config)


def measured(case: str, largest: int) -> None:
    """Train what is missing; one scheme over width, all over depth up to the largest; keep each axis."""
    model, optimizer, (low, high), steps = CASES[case]
    build: Callable[[int, int], Any] = mixtral if model == "mixtral" else ll.gpt(context=CONTEXT)
    steps = size(steps, 2)
    for axis, widths, depths, schemes in (
        ("width", WIDTHS, DEPTHS[:1], SCHEMES[:1]),
        ("depth", WIDTHS[:1], tuple(d for d in DEPTHS if d <= largest), SCHEMES),
    ):
        result = ll.transfer(
            ll.text(context=CONTEXT),
            build,
            widths=widths,
            depths=depths,
            lrs=[2.0**k for k in range(low, high + 1)][: size(None, 3)],
            schemes=schemes,
            optimizer=optimizer,
            schedule="linear",
            steps=steps,
            batch_size=size(8, 2),
            warmup=steps // 10,
            clip=1.0,
            seeds=size(3, 1),
            store=STATE,
            executor="inline",
            device=DEVICE,
        )
        assert isinstance(result, ll.Transfer)
        print(result, flush=True)
        numbers = {
            f"{case} {a.scheme} {a.axis}": {
                "verdict": a.verdict,
                "range": a.range,
                "reason": a.reason,
                "drift": str(a.drift),
                "tried": str(a.tried and a.tried.costs[a.sizes[-1].size]),
                **{
                    name: {str(s.size): str(getattr(s, field)) for s in a.sizes}
                    for name, field in (
                        ("best", "lr"), ("loss", "loss"), ("at the base's", "at_base"),
                        ("regret", "regret"),
                    )
                },
            }
            for a in result.axes
            if a.axis == axis
        }  # fmt: skip
        keep("gpt_map", numbers)


def tables() -> str:
    """A line a case, axis and scheme, in Markdown."""
    kept = json.loads((RESULTS / "gpt_map.json").read_text())
    head = (
        "case",
        "over",
        "scheme",
        "verdict",
        "drift",
        "regret at the largest",
        "among the rates tried",
        "loss: base, largest",
    )
    lines = [" | ".join(head), " | ".join(["---"] * len(head))]
    for key, r in kept.items():
        case, scheme, axis = key.split()
        first, last = next(iter(r["loss"])), list(r["loss"])[-1]
        ends = ", ".join(r["loss"][size].split()[0] for size in (first, last))
        name = "all" if axis == "width" else scheme
        over = f"{axis} {first} to {last}"
        costs = [
            " ".join(map(_percent, text.split())) + " %" for text in (r["regret"][last], r["tried"])
        ]
        cells = (case, over, name, r["verdict"], r["drift"].replace("-", "−"), *costs, ends)
        lines.append(" | ".join(cells))
    return "\n".join(f"| {line} |" for line in lines)


def _percent(part: str) -> str:
    """A number of a text such as "0.0127 [0, 0.0595]", times a hundred."""
    bare = part.strip("[],")
    return part if bare == "∞" else part.replace(bare, f"{100 * float(bare):.2g}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tables", action="store_true")
    parser.add_argument("--largest", type=int, default=DEPTHS[-1], help="depth; usually 32")
    parser.add_argument("cases", nargs="*", metavar="CASE")
    told = parser.parse_args()
    if told.tables:
        print(tables())
        return
    for case in told.cases or size(list(CASES), ["adamw"]):
        if case not in CASES:
            parser.error(f"{case!r} is not measured here: give {' or '.join(CASES)}")
        started = time.process_time()
        measured(case, told.largest)
        print(f"{case}: {time.process_time() - started:.0f} s of one core", flush=True)


if __name__ == "__main__":
    main()
