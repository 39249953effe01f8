"""What a plan costs: ./dev bench plan_cost [step] [plan]

step: a training step with plan.param_groups against plain torch.optim on the same model, median ratio of
interleaved pairs. plan: time of plan + apply for Hugging Face GPT-2 with 48 layers of width 1024 beside the
builder's own, and peak memory, each in a process of its own. Writes benchmarks/results/plan_cost.json.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time

import torch
from history import keep, size
from torch import nn

import leadline as ll

PAIRS = size(100, 2)
LARGE = size((1024, 48), (256, 4))


def gpt2(width: int, depth: int) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(
            n_embd=width, n_layer=depth, n_head=width // 64, vocab_size=8192, n_positions=256,
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
        from functools import partial

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


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2])
        sys.exit()
    results = {}
    for name in sys.argv[1:] or ("step", "plan"):
        results[name] = {"step": step, "plan": plan}[name]()
        print(name, json.dumps(results[name], indent=1), flush=True)
    keep("plan_cost", results)
