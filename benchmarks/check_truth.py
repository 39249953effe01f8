"""What `check` says beside what the learning rate does: ./dev bench check_truth --store DIR [CELL ...]

A cell is a model, a scheme and an axis: widths 64 to 512 at depth 4, or depths 4 to 64 at width 64.
For each

- `ll.check(..., until_decided=300)` with the first sizes (widths 64, 128, 256; depths 4, 8, 16), and
- `ll.transfer` at all of its sizes, AdamW, rates a factor 2 apart, 40 steps, four seeds: does the rate
  that is best at the base serve the largest?

Truth is what the rates that were run say, seeds compared in pairs: the rate *serves* if it costs the
largest at most 5 % of loss over the best one there, with the whole 95 % interval; it *costs* if the whole
interval is above. The verdict of `transfer`, which is also about what lies between the rates, stands
beside it, and whether the largest ends with a lower loss than the base at this rate.

A miss is a check that passes where the rate costs; a false alarm one that fails where it serves and the
largest ends with a loss as low as the base's. Every training and every check stays in DIR; the same command
goes on. `--seeds 8` adds seeds to a cell, `--steps 160` trains it longer, as a cell of its own. Writes
benchmarks/results/check_truth.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from history import DEVICE, keep, size
from torch import nn

import leadline as ll

WIDTHS = size([64, 128, 256, 512], [16, 32])
DEPTHS = size([4, 8, 16, 32, 64], [2, 4])
CHECKED = size({"width": (64, 128, 256), "depth": (4, 8, 16)}, {"width": (16, 32), "depth": (2, 4)})
STEPS, SEEDS, RATES = size(40, 2), size(4, 1), size(6, 3)
CONTEXT = 32
COST = 0.05
"""Loss that a rate may cost and still serve, relative."""


class ViTBlock(nn.Module):
    """Pre-norm, torch's own attention."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(n), nn.LayerNorm(n)
        self.attention = nn.MultiheadAttention(n, n // 16, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(n, 4 * n), nn.GELU(), nn.Linear(4 * n, n))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm_1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm_2(x))


class ViT(nn.Module):
    """Patches of 4 × 4 of 16 × 16 images, positions with the usual std of .02."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, width, 4, stride=4)
        self.position = nn.Parameter(0.02 * torch.randn(1, 16, width))
        self.blocks = nn.ModuleList(ViTBlock(width) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.patch(images).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


def gpt2(width: int, depth: int) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    dropouts = dict(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    sizes = dict(n_embd=width, n_layer=depth, n_head=width // 16, n_positions=CONTEXT)
    return GPT2LMHeadModel(GPT2Config(vocab_size=256, **sizes, **dropouts))


def llama(width: int, depth: int) -> nn.Module:
    """Two key-value heads at every width."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = dict(hidden_size=width, intermediate_size=2 * width, num_hidden_layers=depth)
    heads = dict(num_attention_heads=width // 16, num_key_value_heads=2, head_dim=16)
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=256, max_position_embeddings=CONTEXT, **sizes, **heads)
    )


def mixtral(width: int, depth: int) -> nn.Module:
    """Four experts, two of them active."""
    from transformers import MixtralConfig, MixtralForCausalLM

    sizes = dict(hidden_size=width, intermediate_size=2 * width, num_hidden_layers=depth)
    heads = dict(num_attention_heads=width // 16, num_key_value_heads=width // 32, head_dim=16)
    experts = dict(num_local_experts=4, num_experts_per_tok=2)
    positions = dict(max_position_embeddings=CONTEXT)
    return MixtralForCausalLM(
        MixtralConfig(vocab_size=256, **sizes, **heads, **experts, **positions)
    )


def image_loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def images() -> tuple[torch.Tensor, torch.Tensor]:
    data = ll.digits(samples=1024, test_samples=0, loss="cross_entropy")
    x = torch.tensor(data.x, dtype=torch.float32).reshape(-1, 1, 8, 8)
    x = nn.functional.interpolate(x / x.std(), size=16)
    return x, torch.tensor(data.y).argmax(1)


def image_batches(step: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.randint(len(IMAGES[0]), (16,), generator=generator)
    return IMAGES[0][rows], IMAGES[1][rows]


IMAGES = images()
TEXT = ll.text(context=CONTEXT)
HIDDEN = {"*k_proj*": "hidden", "*v_proj*": "hidden"}
MODELS: dict[str, tuple[Any, Any, float, Any, int | None]] = {
    "vit": (ViT, ll.Task(image_loss, batches=image_batches), 2**-12, None, None),
    "gpt2": (gpt2, TEXT, 2**-10, None, 8),
    "llama": (llama, TEXT, 2**-10, None, 8),
    "llama-hidden-kv": (llama, TEXT, 2**-10, HIDDEN, 8),
    "mixtral": (mixtral, TEXT, 2**-10, None, 8),
}
"""Builder, data, lowest rate, roles, sequences of a batch."""
CELLS = [
    *(
        "gpt2/auto/depth",
        "gpt2/sp/depth",
        "llama/auto/depth",
        "vit/auto/depth",
        "mixtral/auto/depth",
    ),
    *("gpt2/auto/width", "gpt2/sp/width", "llama/auto/width", "llama-hidden-kv/auto/width"),
    *("vit/auto/width", "vit/sp/width", "mixtral/auto/width"),
]


def truth(cell: str, store: Path, seeds: int, steps: int) -> dict[str, Any]:
    """What the base's best rate does at the largest size, of trained models."""
    name, scheme, axis = cell.split("/")
    build, task, low, roles, batch = MODELS[name]
    lrs = [low * 2.0**k for k in range(RATES)]
    started = time.perf_counter()
    result = ll.transfer(
        *(task, build),
        widths=WIDTHS if axis == "width" else WIDTHS[:1],
        depths=DEPTHS if axis == "depth" else DEPTHS[:1],
        **dict(lrs=lrs, schemes=[scheme], seeds=seeds, steps=steps, batch_size=batch, extend=1),
        **dict(schedule="linear", warmup=steps // 10, clip=1.0),
        **dict(roles=roles, store=store / "runs", executor="inline", device=DEVICE),
    )
    (axis_result,) = result.axes
    tried, last = axis_result.tried, axis_result.sizes[-1]
    return {
        "verdict": verdict(tried, last.size),
        "rate": tried and tried.rate,
        "costs": {} if tried is None else {n: str(c) for n, c in tried.costs.items()},
        "transfer": axis_result.verdict,
        "drift": str(axis_result.drift),
        "regret": str(last.regret),
        "lower loss": axis_result.monotone,
        "at base": {s.size: str(s.at_base) for s in axis_result.sizes},
        "seeds": seeds,
        "steps": steps,
        "best": {s.size: [str(s.lr), str(s.loss)] for s in axis_result.sizes},
        "seconds": round(time.perf_counter() - started),
    }


def verdict(tried: Any, largest: int) -> str:
    """Does the base's best rate serve the largest size, among the rates that were run?"""
    if tried is None:
        return "undecided"
    cost = tried.costs[largest]
    return "serves" if cost.high <= COST else "costs" if cost.low > COST else "undecided"


def checked(cell: str) -> dict[str, Any]:
    """The check's verdict, from the first sizes."""
    name, scheme, axis = cell.split("/")
    build, task, _, roles, _ = MODELS[name]
    here = {"width": CHECKED["width"][:1], "depth": CHECKED["depth"][:1]}
    here[axis] = CHECKED[axis]
    report = ll.check(
        *(task, build),
        **dict(widths=here["width"], depths=here["depth"], scheme=scheme, roles=roles),
        **dict(until_decided=size(300.0, 0.0), progress=False),
    )
    return {
        "verdict": report.verdict,
        "counts": report.counts,
        "failures": list(report.failures[:6]),
        "open": [f"{r.parameter} {r.quantity}" for r in report.rows if r.verdict == "inconclusive"],
        "notes": list(report.notes),
        "seeds": report.seeds,
        "seconds": report.seconds,
    }


def counted(table: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """How checks and trained losses agree, by cell."""
    said = {c: (r["check"]["verdict"], r["truth"]) for c, r in table.items()}
    return {
        "cells": len(said),
        "checks decided": sum(v in ("passed", "failed") for v, _ in said.values()),
        "longest check, seconds": round(max(r["check"]["seconds"] for r in table.values())),
        "rates decided": sum(t["verdict"] != "undecided" for _, t in said.values()),
        "passed, the rate costs": [
            c for c, (v, t) in said.items() if (v, t["verdict"]) == ("passed", "costs")
        ],
        "passed, the loss rises": [
            c for c, (v, t) in said.items() if (v, t["lower loss"]) == ("passed", "no")
        ],
        "failed, the rate serves and the loss does not rise": [
            c
            for c, (v, t) in said.items()
            if (v, t["verdict"]) == ("failed", "serves") and t["lower loss"] != "no"
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, help="default: a new temporary folder")
    parser.add_argument("--part", choices=("check", "truth", "both"), default="both")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("cells", nargs="*", metavar="CELL")
    options = parser.parse_args()
    if options.store is None:
        options.store = Path(tempfile.mkdtemp(prefix="check-truth-"))
        print(f"kept in {options.store}")
    options.store.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    table = {}
    for cell in options.cells or size(CELLS, ["vit/auto/width"]):
        name = cell if options.steps == STEPS else f"{cell}/{options.steps} steps"
        file = options.store / f"{name.replace('/', '_').replace(' ', '-')}.json"
        row = json.loads(file.read_text()) if file.is_file() else {}
        if "truth" in row and row["truth"].get("seeds", SEEDS) < options.seeds:
            del row["truth"]
        for part, made in (
            ("check", checked),
            ("truth", lambda c: truth(c, options.store, options.seeds, options.steps)),
        ):
            if part not in row and options.part in (part, "both"):
                row[part] = made(cell)
                file.write_text(json.dumps(row, indent=1))
        table[name] = row
        said = {k: v["verdict"] for k, v in row.items()}
        print(f"{name:32s} {said}", flush=True)
    whole = {c: r for c, r in table.items() if set(r) == {"check", "truth"}}
    if whole:
        keep("check_truth", whole, history={c: r["check"]["verdict"] for c, r in whole.items()})
        for what, number in counted(whole).items():
            print(f"{what}: {number}")


if __name__ == "__main__":
    main()
