"""What a plan and its check cost: ./dev bench plan_cost [step] [plan] [seeds]

step: a training step with plan.param_groups against plain torch.optim on the same model, median ratio of
interleaved pairs. plan: time of plan + apply for Hugging Face GPT-2 with 48 layers of width 1024 beside the
builder's own, and peak memory, each in a process of its own. seeds: what check
does with 3 and with 8 seeds of every size, all as one program against one after the other, on one thread.
Writes benchmarks/results/plan_cost.json.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from functools import partial

import torch
from history import keep, size, spread
from torch import nn

import leadline as ll
from leadline.checking.training import Setup, run
from leadline.tracing.builder import Size

PAIRS = size(100, 2)
LARGE = size((1024, 48), (256, 4))


def gpt2(width: int, depth: int, head: int = 64, vocabulary: int = 8192) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(
            n_embd=width, n_layer=depth, n_head=width // head, vocab_size=vocabulary, n_positions=256,
            bos_token_id=0, eos_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        )
    )  # fmt: skip


def step() -> dict:
    out = {}
    tokens = torch.randint(0, 8192, (4, 65))

    def lm(model: nn.Module) -> torch.Tensor:
        logits = model(tokens[:, :-1]).logits
        return nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    x, y = torch.randn(64, 64), torch.randn(64, 1)
    cases = {
        "gpt2 128x4": (gpt2, (64, 2), (128, 4), lm),
        "mlp 512x8": (
            ll.residual_mlp(64, 1), (64, 2), (512, 8), lambda m: ((m(x) - y) ** 2).mean()
        ),
    }  # fmt: skip
    for name, (build, base, target, loss) in cases.items():
        sizes = [dict(width=w, depth=d) for w, d in (base, target)]
        plan = ll.plan(build, *sizes)
        torch.manual_seed(0)
        model = plan.apply(build(*target))
        made = {
            "plain": torch.optim.AdamW(model.parameters(), lr=1e-5),
            "plan": torch.optim.AdamW(plan.param_groups(model, lr=1e-5)),
        }
        times: dict[str, list[float]] = {k: [] for k in made}
        for i in range(PAIRS + 5):
            for key in made if i % 2 else reversed(made):
                start = time.perf_counter()
                made[key].zero_grad()
                loss(model).backward()
                made[key].step()
                times[key].append(time.perf_counter() - start)
        ratios = [a / b for a, b in zip(times["plan"][5:], times["plain"][5:], strict=True)]
        out[name] = {
            "median ratio (<= 1.02)": statistics.median(ratios),
            "quartiles": statistics.quantiles(ratios, n=4),
            "groups": len(made["plan"].param_groups),
            "pairs": PAIRS,
        }
    return out


def child(what: str) -> None:
    started = time.perf_counter()
    torch.manual_seed(0)
    if what == "plan":
        build = gpt2
        plan = ll.plan(build, dict(width=256, depth=4), dict(width=LARGE[0], depth=LARGE[1]))
        planned = time.perf_counter() - started
        started = time.perf_counter()
        model = build(*LARGE)
        built = time.perf_counter() - started
        started = time.perf_counter()
        partial(plan.apply, model)()
        applied = time.perf_counter() - started
    else:
        model = gpt2(*LARGE)
        planned, built, applied = 0.0, time.perf_counter() - started, 0.0
    size = sum(p.numel() for p in model.parameters()) * 4
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(dict(plan=planned, build=built, apply=applied, model=size, peak=peak)))


def plan() -> dict:
    runs = {}
    for what in ("build", "plan"):
        done = subprocess.run(
            [sys.executable, __file__, "--child", what], capture_output=True, text=True, check=True
        )
        runs[what] = json.loads(done.stdout.splitlines()[-1])
    own, mine = runs["build"], runs["plan"]
    return {
        "plan_seconds": mine["plan"],
        "apply_seconds": mine["apply"],
        "plan_and_apply (<= 10)": mine["plan"] + mine["apply"],
        "builder_seconds": own["build"],
        "model_bytes": own["model"],
        "memory_over_model": mine["peak"] / own["model"],
        "memory_over_builder (<= 1.3)": mine["peak"] / own["peak"],
    }


def seeds() -> dict:
    """Widths at depth 2 and depths at width 32, four steps each."""
    torch.set_num_threads(1)
    sizes = size(
        ((32, 2), (64, 2), (128, 2), (32, 4), (32, 8), (32, 16)),
        ((32, 2),),
    )
    tokens = torch.randint(0, 64, (4, 17))
    x, y = torch.randn(16, 64), torch.randn(16, 1)
    pixels, labels = torch.randn(4, 3, 8, 8), torch.randn(4, 10)

    def lm(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        logits = model(batch[:, :-1]).logits
        return nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())

    def mse(model: nn.Module, batch: tuple) -> torch.Tensor:
        return ((model(batch[0]) - batch[1]) ** 2).mean()

    cases = {
        "gpt2": (partial(gpt2, head=8, vocabulary=64), tokens, lm, tokens[:, :-1]),
        "residual mlp": (ll.residual_mlp(64, 1), (x, y), mse, x),
        "convolutions": (Convolutional, (pixels, labels), mse, pixels),
    }
    out = {}
    for name, (build, batch, loss, inputs) in cases.items():
        largest = dict(width=sizes[-1][0], depth=sizes[-1][1])
        plan = ll.plan(build, dict(width=32, depth=2), largest, inputs=inputs)
        setup = Setup(plan, build, batch, loss, 1e-3, 4)
        for count in (3, 8):
            times: dict[str, list[float]] = {"together": [], "one by one": []}
            for _ in range(size(3, 1)):
                started = time.perf_counter()
                for w, d in sizes:
                    run(setup, Size(w, d), range(count))
                times["together"].append(time.perf_counter() - started)
                started = time.perf_counter()
                for w, d in sizes:
                    for s in range(count):
                        run(setup, Size(w, d), (s,))
                times["one by one"].append(time.perf_counter() - started)
            out[f"{name}, {count} seeds"] = {k: spread(v) for k, v in times.items()}
    return out


class Convolutional(nn.Module):
    """Residual 3×3 convolutions and a readout."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1, bias=False),
            )
            for _ in range(depth)
        )
        self.head = nn.Conv2d(width, 10, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.stem(x)
        for block in self.blocks:
            h = h + block(h)
        return self.head(h).mean((2, 3))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2])
        sys.exit()
    results = {}
    parts = {f.__name__: f for f in (step, plan, seeds)}
    for name in sys.argv[1:] or parts:
        results[name] = parts[name]()
        print(name, json.dumps(results[name], indent=1), flush=True)
    keep("plan_cost", results)
