"""What does a solve of any model cost, beside dense training? ./dev bench any_model_cost [NAME ...]

An unedited Hugging Face GPT-2 (vocabulary 256, no dropout, two blocks, 32 tokens a step, ten steps of SGD,
float32), and a residual perceptron of three hidden matrices under Adam (32 inputs, 20 steps). Every setting
runs in a process of its own. Written to benchmarks/results/any_model_cost.json: seconds of the call
(planning apart), seconds of processor time (all threads; on a busy machine the better measure), the share
of the two cores that was had, and the peak memory that the call added to the process. A "dense" entry is
``train`` of the same model; ratios are dense over solve at the same width.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from typing import Any

from history import keep, size
from wide_models import Residual

VOCABULARY, TOKENS, STEPS = 256, 32, size(10, 2)
WIDTHS = size((1024, 2048, 4096, 16384), (64, 64, 64, 128))


def settings() -> dict[str, dict[str, Any]]:
    """By name."""
    out: dict[str, dict[str, Any]] = {}
    for n in WIDTHS[:2]:
        out[f"GPT-2, dense, n={n}"] = dict(model="gpt2", width=n, verb="train")
    for n in WIDTHS[:3]:
        out[f"GPT-2, gaussian, n={n}"] = dict(model="gpt2", width=n, ensemble="gaussian")
    for n in WIDTHS:
        out[f"GPT-2, fast, n={n}"] = dict(model="gpt2", width=n, ensemble="fast")
    for n in size((1024, 8192), (64, 64)):
        out[f"MLP, Adam, fast, n={n}"] = dict(model="mlp", width=n, ensemble="fast")
    out[f"MLP, Adam, dense, n={size(1024, 64)}"] = dict(
        model="mlp", width=size(1024, 64), verb="train"
    )
    return out


def gpt2(width: int, depth: int) -> Any:
    """Hugging Face's, unedited, without dropout."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY, n_positions=TOKENS, n_embd=width, n_layer=depth,
            n_head=max(width // 64, 1), resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False,
            bos_token_id=None, eos_token_id=None,
        )
    )  # fmt: skip


def perceptron(width: int, depth: int) -> Any:
    """A residual perceptron with one layer a block: ``depth`` hidden matrices."""
    return Residual(width, depth, 1)


def language(model: Any, batch: Any) -> Any:
    """Cross-entropy of the next token."""
    return model(input_ids=batch, labels=batch).loss


def squares(model: Any, batch: Any) -> Any:
    """Mean squared error."""
    return ((model(batch[0]) - batch[1]) ** 2).mean()


def one(model: str, width: int, verb: str = "solve", ensemble: str = "gaussian") -> dict[str, Any]:
    """A setting, in this process."""
    import torch

    import leadline as ll
    from leadline.matrixfree.configuration import TaskConfiguration
    from leadline.matrixfree.solver import solve_task
    from leadline.training.trainer import train_task

    def tokens(step: int, generator: torch.Generator) -> torch.Tensor:
        return torch.randint(0, VOCABULARY, (1, TOKENS), generator=generator)

    how: dict[str, Any] = dict(width=width, ensemble=ensemble)
    if model == "gpt2":
        task, build, recipe = ll.Task(language, batches=tokens), gpt2, ll.SGD(lr=0.05, steps=STEPS)
        how |= dict(depth=2, base=dict(width=64, depth=2))
    else:
        generator = torch.Generator().manual_seed(0)
        batch = tuple(torch.randn(32, d, generator=generator) for d in (4, 1))
        task, build = ll.Task(squares, batch=batch), perceptron
        recipe = ll.Adam(lr=1e-3, steps=size(20, 2))
        how |= dict(depth=3, base=dict(width=64, depth=3))
    c = TaskConfiguration(task, build, recipe, **how)
    before = peak()
    started, used = time.perf_counter(), time.process_time()
    r = (train_task if verb == "train" else solve_task)(c)
    seconds, processor = time.perf_counter() - started, time.process_time() - used
    loss = [round(float(v), 4) for v in r.train_loss[0][[0, -1]]]
    return {
        "seconds": round(seconds, 2),
        "processor_seconds": round(processor, 2),
        "cores_had": round(processor / seconds, 2),
        "peak_MB": round((peak() - before) / 1e6),
        "rank": r.info.get("largest_rank"),
        "wide": len(r.info.get("wide", ())),
        "loss": loss,
    }


def peak() -> int:
    """Bytes that the process had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(names: list[str]) -> None:
    everything = settings()
    chosen = [n for n in everything if any(part in n for part in names)] if names else everything
    numbers: dict[str, Any] = {}
    for name in chosen:
        if size(False, True):
            numbers[name] = one(**everything[name])
        else:
            # Threads that spin while they wait would make a busy machine tens of times slower.
            environment = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"} | os.environ
            done = subprocess.run(
                [sys.executable, __file__, "--one", json.dumps(everything[name])],
                capture_output=True, text=True, env=environment,
            )  # fmt: skip
            if done.returncode:
                sys.exit(f"{name}: {done.stderr}")
            numbers[name] = json.loads(done.stdout.splitlines()[-1])
        print(name, numbers[name], flush=True)
        keep("any_model_cost", {name: numbers[name]})
    for name, row in numbers.items():
        if "dense" in name:
            for ensemble in ("gaussian", "fast"):
                other = numbers.get(name.replace("dense", ensemble))
                if other is not None:
                    ratio = row["processor_seconds"] / max(other["processor_seconds"], 1e-9)
                    memory = row["peak_MB"] / max(other["peak_MB"], 1)
                    print(f"{name} over {ensemble}: time {ratio:.2f}, memory {memory:.1f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(**json.loads(sys.argv[2]))))
    else:
        main(sys.argv[1:])
