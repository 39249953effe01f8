"""What leadline's verbs say on a GPU beside what they say on the CPU; parts of ``gpu``.

Sweeps: the losses of the same runs. Solves of builders: the same draws in float64. Whole calls: that they
end, and how long they take.
"""

from __future__ import annotations

import functools
import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from wide_models import VOCABULARY, ConvolutionalResNet, Experts, gpt2

import leadline as ll
from leadline.matrixfree import model

LENGTH = 9


def tokens(step: int, generator: torch.Generator) -> torch.Tensor:
    """Two sequences."""
    return torch.randint(0, VOCABULARY, (2, LENGTH), generator=generator)


def language(network: Any, batch: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the next token."""
    return network(input_ids=batch, labels=batch).loss


def images(step: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise of ten classes."""
    x = torch.randn(4, 1, 8, 8, generator=generator)
    return x, torch.randint(0, 10, (4,), generator=generator)


def points(step: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Four inputs, one output."""
    x = torch.randn(8, 4, generator=generator)
    return x, x[:, :1] * x[:, 1:2]


def classes(network: Any, batch: Any) -> torch.Tensor:
    """Cross-entropy."""
    return F.cross_entropy(network(batch[0]), batch[1])


def squares(network: Any, batch: Any) -> torch.Tensor:
    """Mean squared error."""
    return ((network(batch[0]) - batch[1]) ** 2).mean()


def runs(b: Any) -> None:
    """The runs of a sweep here and on the CPU: all kinds of models, three optimizers."""
    steps, seeds = (2, 2) if b.toy else (20, 4)
    text = ll.Task(language, batches=tokens)
    cases = {
        "residual MLP, AdamW": (
            ll.teacher(samples=64, dimension=16, seed=1),
            ll.residual_mlp(16, 1),
            "adamw",
            (32, 4),
        ),
        "GPT, Muon": (ll.text(context=16), ll.gpt(context=16), "muon", (32, 2)),
        "Hugging Face's GPT-2, AdamW": (text, gpt2, "adamw", (32, 2)),
        "conv ResNet, SGD": (ll.Task(classes, batches=images), ConvolutionalResNet, "sgd", (16, 2)),
        "experts, AdamW": (ll.Task(squares, batches=points), Experts, "adamw", (16, 2)),
    }
    for name, (task, build, optimizer, (width, depth)) in cases.items():
        how: dict[str, Any] = dict(widths=[2 * width], depths=[depth], lrs=[0.001, 0.004])
        how |= dict(seeds=seeds, steps=steps, optimizer=optimizer, executor="inline")
        how |= dict(base=dict(width=width, depth=depth), clip=1.0, schedule="linear")
        if isinstance(task, ll.Text):
            how |= dict(batch_size=4)
        took, losses = {}, []
        for device in (str(b.device), "cpu"):
            done = ll.sweep(task, build, device=device, **how)
            took[device] = done.seconds
            if done.failed:
                raise RuntimeError(done.failed[0])
            losses.append(np.array([r["loss"] for r in done.rows], float))
        worst = float(np.abs(losses[0] / losses[1] - 1).max())
        here, there = took.values() if len(took) == 2 else (done.seconds, done.seconds)
        text_ = f"largest relative difference {worst:.1g}; {here:.3g} s, on the CPU {there:.3g} s"
        b.say(f"sweep of {name}", text_, worst=worst, seconds=here, cpu=there)


def builders(b: Any) -> None:
    """Solves of builders in float64, the same draws on both devices."""
    steps, width = (2, 32) if b.toy else (5, 256)
    cases: dict[str, tuple[Any, Any, Any]] = {
        "GPT-2": (ll.Task(language, batches=tokens), gpt2, dict(width=32, depth=2)),
        "conv ResNet": (
            ll.Task(classes, batches=images), ConvolutionalResNet, dict(width=16, depth=2)
        ),
    }  # fmt: skip
    recipes = {
        "SGD": ll.SGD(lr=0.02, steps=steps, momentum=0.9),
        "AdamW": ll.AdamW(lr=0.002, steps=steps, weight_decay=0.1),
        "Muon": ll.Muon(lr=0.01, steps=steps),
    }
    # As on a GPU: draws that do not depend on the device.
    usual = model.Settings
    model.Settings = functools.partial(usual, lean=True, counter=True)
    try:
        _builders(b, cases, recipes, width)
    finally:
        model.Settings = usual


def _builders(b: Any, cases: Any, recipes: Any, width: int) -> None:
    for name, (task, build, base) in cases.items():
        for recipe in recipes:
            for ensemble in ("gaussian", "fast"):
                how: dict[str, Any] = dict(width=width, depth=2, base=base, ensemble=ensemble)
                how |= dict(dtype="float64", seed=3, tol=0.0)
                try:
                    one, other = (
                        ll.solve(task, build, recipes[recipe], device=d, **how).train_loss
                        for d in (str(b.device), "cpu")
                    )
                except Exception as e:
                    b.fail(f"solve of {name}, {recipe}, {ensemble}", e)
                    continue
                worst = float(np.abs(np.asarray(one) / np.asarray(other) - 1).max())
                b.say(
                    f"solve of {name}, {recipe}, {ensemble}",
                    f"largest relative difference {worst:.1g}",
                    worst=worst,
                )


def wide(b: Any) -> None:
    """The dynamics of an unedited GPT-2 of width 16,384, fast ensemble."""
    width = 64 if b.toy else 16384
    how: dict[str, Any] = dict(width=width, depth=2, base=dict(width=64, depth=2))
    task, recipe = ll.Task(language, batches=tokens), ll.AdamW(lr=0.002, steps=2 if b.toy else 10)
    for ensemble in ("fast", "gaussian"):
        started = time.perf_counter()
        done = ll.solve(task, gpt2, recipe, ensemble=ensemble, device=str(b.device), **how)
        t = time.perf_counter() - started
        loss = np.ravel(done.train_loss)
        text = f"{t:.3g} s, loss {loss[0]:.3g} to {loss[-1]:.3g}"
        b.say(f"GPT-2, width {width}, {ensemble}", text, seconds=t)


def seeds(b: Any) -> None:
    """Eight seeds in one program beside one, and beside dense training."""
    problem = ll.teacher(samples=32, dimension=16, seed=1)
    for n in (64,) if b.toy else (256, 1024, 8192):
        sgd = ll.SGD(lr=0.3, steps=2 if b.toy else 20)
        t = {}
        for name, verb, count in (
            ("one", ll.solve, 1), ("eight", ll.solve, 8), ("dense", ll.train, 8)
        ):  # fmt: skip
            if name == "dense" and n > 1024:
                continue
            for _ in range(2):  # the second is timed
                started = time.perf_counter()
                verb(problem, ll.ResNet(), sgd, width=n, depth=8, seeds=count, device=str(b.device))
                b.wait()
                t[name] = time.perf_counter() - started
        dense = f", dense train {t['dense']:.3g} s" if "dense" in t else ""
        b.say(
            f"8 seeds, {n}x8, P=32, 20 steps",
            f"{t['eight']:.3g} s, one seed {t['one']:.3g} s{dense}",
            **t,
        )


def verbs(b: Any) -> None:
    """Whole calls on the device: limits, comparisons, transfers, checks."""
    device, toy = str(b.device), b.toy
    problem, task = ll.teacher(samples=8, dimension=8, seed=1), ll.Task(language, batches=tokens)
    sgd = ll.SGD(lr=0.3, steps=2 if toy else 10)
    base = dict(width=32, depth=2)
    widths = [16, 32] if toy else [32, 64, 128]
    adamw = ll.AdamW(lr=0.002, steps=2 if toy else 4)
    calls: dict[str, Any] = {
        "limit": lambda d: ll.limit(problem, ll.ResNet(), sgd, rtol=0.3 if toy else 0.05, device=d),
        "compare": lambda d: ll.compare(
            problem, ll.ResNet(), sgd, sizes=[(32, 2), (64, 4)], seeds=4, rtol=0.1, device=d
        ),
        "limit of a builder over width": lambda d: ll.limit(
            task, gpt2, adamw, over="width", depth=2, base=base, rtol=0.3 if toy else 0.05, device=d
        ),
        "train a builder": lambda d: ll.train(
            task, gpt2, adamw, width=64, depth=2, base=base, seeds=2, device=d
        ),
        "transfer": lambda d: ll.transfer(
            *(task, gpt2), widths=widths, depths=[2], lrs=[0.001, 0.002, 0.004], seeds=2,
            steps=2 if toy else 10, device=d,
        ),
        "check of GPT-2": lambda d: ll.check(
            task, gpt2, widths=widths, depths=[2], seeds=2, steps=2 if toy else 4, device=d
        ),
    }  # fmt: skip
    for name, call in calls.items():
        started = time.perf_counter()
        try:
            call(device)
        except Exception as e:
            b.fail(name, e)
            continue
        t = time.perf_counter() - started
        b.say(name, f"{t:.3g} s", seconds=t)
