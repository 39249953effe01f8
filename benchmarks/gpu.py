"""All checks of a GPU in one run: needs torch and numpy, and transformers for what is in gpu_verbs.

    PYTHONPATH=src python3 benchmarks/gpu.py [--device cuda] [--toy] [PART ...]

Prints what the device can do (products of large matrices, copies), then what the solver reaches of
that, errors of TF32 products and of bases in bfloat16, and the verbs beside the CPU (gpu_verbs). A part
that fails is named at the end, the others go on. Without CUDA it says so and does nothing; ``--device cpu
--toy`` goes through all lines at a size that means nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
import traceback
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from history import TOY, keep
from roofline import Noted

import leadline as ll
from leadline.checking.training import Setup, run
from leadline.problems.losses import loss_value
from leadline.solving.configuration import Configuration
from leadline.solving.noise import HashedNoise
from leadline.solving.shards import Shards
from leadline.tasks.task import data_of
from leadline.tracing.builder import Size, construct


class Bench:
    """The device, the sizes, and the table.

    Attributes:
        numbers: what is kept. matmul: flops per second by kind. copy: bytes per second.
        failed: what raised.
    """

    def __init__(self, device: str, toy: bool) -> None:
        self.device, self.toy = torch.device(device), toy
        self.numbers: dict[str, dict] = {}
        self.matmul: dict[str, float] = {}
        self.copy = 0.0
        self.failed: list[str] = []

    def say(self, what: str, text: str, **numbers: float) -> None:
        print(f"{what:34} {text}", flush=True)
        self.numbers[what] = numbers

    def fail(self, what: str, error: Exception) -> None:
        self.failed.append(what)
        print(f"{what:34} FAILED: {error!r}", flush=True)
        traceback.print_exception(error, limit=-6)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, function, repeats: int = 10) -> float:
        """The smallest of some repeats, each waited for."""
        best = float("inf")
        for _ in range(repeats + 2):
            self.wait()
            started = time.perf_counter()
            function()
            self.wait()
            best = min(best, time.perf_counter() - started)
        return best

    def random(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=self.device)


def tf32(on: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = on


def ceilings(b: Bench) -> None:
    n = 256 if b.toy else 8192
    x, y = b.random(n, n), b.random(n, n)
    for name, on, dtype in (
        ("fp32", False, torch.float32),
        ("fp64", False, torch.float64),
        ("TF32", True, torch.float32),
    ):
        tf32(on)
        x, y = x.to(dtype), y.to(dtype)
        b.matmul[name] = 2 * n**3 / b.seconds(lambda x=x, y=y: x @ y, 5)
        rate = b.matmul[name]
        b.say(f"matmul {name}", f"{rate / 1e12:.3g} Tflop/s", rate=rate)
    tf32(False)
    big = torch.empty((1 << 16) if b.toy else (1 << 29), device=b.device)
    other = torch.empty_like(big)
    b.copy = 2 * big.numel() * 4 / b.seconds(lambda: other.copy_(big))
    b.say("copy", f"{b.copy / 1e9:.4g} GB/s", rate=b.copy)


def products(b: Bench) -> None:
    """The two products of a question: sums over neurons, and answers."""
    n, p, q = (2048, 4, 16) if b.toy else (262144, 32, 320)
    u, basis, c = b.random(p, n), b.random(q, n), b.random(p, q)
    shards = Shards(n, device=b.device)
    for name, call in (
        ("sum over neurons", lambda: shards.inner((u, basis), squares=u)),
        ("answer", lambda: c @ basis),
    ):
        t = b.seconds(call)
        rate, speed = 2 * p * q * n / t, 4 * (p + q) * n / t
        b.say(
            f"{name}, n={n}, rank {q}",
            f"{t * 1e3:.3g} ms: {rate / b.matmul['fp32']:.0%} of matmul, {speed / b.copy:.0%} of copy",
            matmul=rate / b.matmul["fp32"],
            copy=speed / b.copy,
        )


def draws(b: Bench) -> None:
    n, m = (2048, 2) if b.toy else (262144, 16)
    noise = HashedNoise(0, (0,), n)
    t = b.seconds(lambda: noise.draw(m, torch.float32, b.device))
    b.say(f"draws, {m} rows", f"{t * 1e3:.3g} ms, {m * n / t / 1e9:.3g} G/s", seconds=t)


def solve(b: Bench, width: int, depth: int, samples: int, steps: int, **how) -> ll.Trajectory:
    problem = ll.teacher(samples=samples, dimension=16, seed=1)
    sgd = ll.SGD(lr=0.3, steps=steps)
    how = dict(device=str(b.device)) | how
    return ll.solve(problem, ll.ResNet(), sgd, width=width, depth=depth, **how)


def as_on_a_cpu(b: Bench) -> None:
    """The same draws on both devices: float64 agrees to rounding, whatever the products' order."""
    usual = Configuration.settings

    def settings(configuration):
        return dataclasses.replace(usual.func(configuration), lean=True, counter=True)

    size = (512, 2, 4, 3) if b.toy else (4096, 8, 16, 10)
    Configuration.settings = property(settings)
    try:
        one, other = (
            solve(b, *size, dtype="float64", tol=0.0, device=d).train_loss
            for d in (str(b.device), "cpu")
        )
    finally:
        Configuration.settings = usual
    worst = float(np.abs(one / other - 1).max())
    b.say("float64 against the CPU", f"largest relative difference {worst:.1g}", worst=worst)
    if worst > 1e-5:
        raise SystemExit(f"the device's answer differs from the CPU's by {worst:.1g}")


def large(b: Bench) -> None:
    """n = 262144, L = 32, P = 32, 40 steps in one go, against the floor of its own products."""
    size = (1024, 2, 4, 3) if b.toy else (262144, 32, 32, 40)
    how = dict(record_every=size[-1])
    solve(b, *size[:-1], 1, **how)
    done = solve(b, *size, **how)
    t = done.info["seconds"]
    # The same shapes again, noted: noting slows the host, so the time is that of the run before.
    with Noted() as noted:
        solve(b, *size, **how)
    rates = {torch.float32: b.matmul["fp32"], torch.float64: b.matmul["fp64"]}
    floor = sum(
        count * max(p.flops / rates.get(p.dtype, b.matmul["fp32"]), p.bytes / b.copy)
        for p, count in noted.products.items()
    )
    flops = sum(p.flops * count for p, count in noted.products.items())
    moved = sum(p.bytes * count for p, count in noted.products.items())
    b.say(
        f"solve {size[0]}x{size[1]}, P={size[2]}, {size[3]} steps",
        f"{t:.3g} s, rank {done.info['largest_rank']}: {flops / t / b.matmul['fp32']:.0%} of matmul, "
        f"{moved / t / b.copy:.0%} of copy, {t / floor:.2f} times its products' floor",
        seconds=t,
        matmul=flops / t / b.matmul["fp32"],
        copy=moved / t / b.copy,
        floor=t / floor,
    )
    if b.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(b.device)
        b.say("its memory", f"{peak / 2**30:.3g} GiB", bytes=peak)


def digits(b: Bench) -> None:
    """What fewer digits cost, against float64 at the same draws and tol."""
    size = (1024, 2, 4, 3) if b.toy else (32768, 16, 32, 20)
    exact = solve(b, *size, tol=0.004, dtype="float64").train_loss
    for name, on, how in (
        ("float32", False, {}),
        ("float32, TF32 products", True, {}),
        ("bases in bfloat16", False, dict(storage="bfloat16")),
    ):
        tf32(on)
        done = solve(b, *size, tol=0.004, **how)
        tf32(False)
        loss = done.train_loss
        worst = float(np.nanmax(np.abs(loss / exact - 1)))
        text = "diverged" if np.isnan(loss).any() else f"largest relative error {worst:.1g}"
        rank = done.info["largest_rank"]
        b.say(name, f"{text}, rank {rank}, {done.info['seconds']:.3g} s", worst=worst, rank=rank)


def dense(b: Bench) -> None:
    """The dense networks' training, for comparison."""
    n, depth, steps = (64, 2, 2) if b.toy else (4096, 16, 5)
    problem = ll.teacher(samples=8, dimension=16, seed=1)
    sgd = ll.SGD(lr=0.3, steps=steps)
    t = {}
    for name, verb in (("train", ll.train), ("solve", ll.solve)):
        for _ in range(2):  # the second is timed
            started = time.perf_counter()
            verb(problem, ll.ResNet(), sgd, width=n, depth=depth, seeds=1, device=str(b.device))
            b.wait()
            t[name] = time.perf_counter() - started
    b.say(
        f"train and solve, {n}x{depth}",
        f"{t['train']:.3g} s and {t['solve']:.3g} s: {t['train'] / t['solve']:.3g} times",
        **t,
    )


def sweep(b: Bench) -> None:
    """256 runs at once against a loop of ordinary trainings on the same device (some of them, scaled)."""
    width, steps, seeds, some = (32, 3, 2, 2) if b.toy else (128, 200, 32, 4)
    problem = ll.teacher(samples=64, dimension=16, seed=1)
    build = ll.residual_mlp(16, 1)
    lrs = [2.0**-k for k in range(6, 14)]
    how = dict(optimizer="adamw", base=dict(width=32, depth=8))
    how |= dict(widths=[width], depths=[8], seeds=seeds, steps=steps)
    took = []
    for _ in range(2):  # the second is timed
        done = ll.sweep(problem, build, lrs=lrs, device=str(b.device), executor="inline", **how)
        took.append(done.seconds)
    plan = ll.plan(build, how["base"], dict(width=width, depth=8), optimizer="adamw")
    x, y = (torch.tensor(a, dtype=torch.float32, device=b.device) for a in (problem.x, problem.y))
    off = 0.0
    started = time.perf_counter()
    for row in done.rows[:some]:
        model = plan.apply(construct(build, Size(width, 8), row["seed"])).to(b.device)
        optimizer = torch.optim.AdamW(plan.param_groups(model, row["lr"]))
        for _ in range(steps):
            loss = loss_value(problem.loss, model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss = loss_value(problem.loss, model(x), y).detach()
        off = max(off, abs(float(loss) / row["loss"] - 1))
    loop = (time.perf_counter() - started) * len(done.rows) / some
    b.say(
        f"sweep, {len(done.rows)} runs, {width}x8",
        f"{took[-1]:.3g} s: {loop / took[-1]:.3g} times a loop; losses differ by {off:.1g}",
        seconds=took[-1],
        ratio=loop / took[-1],
        difference=off,
    )


def check(b: Bench) -> None:
    """What a check measures of one size, here and on the CPU."""
    problem = ll.teacher(samples=16, dimension=16, seed=1)
    build = ll.residual_mlp(16, 1)
    size = Size(64, 2) if b.toy else Size(256, 8)
    plan = ll.plan(build, dict(width=64, depth=2), optimizer="adamw")
    batch = tuple(torch.tensor(a, dtype=torch.float32) for a in (problem.x, problem.y))
    found, seconds = [], []
    for device in (b.device, torch.device("cpu")):
        here = data_of(ll.Task(_mse, batch=batch)).on(device)
        started = time.perf_counter()
        found.append(run(Setup(plan, build, here, 0.01, 4, device=device), size, range(3)))
        seconds.append(time.perf_counter() - started)
    # A distance from a linearization is a small difference of large numbers.
    worst = max(
        abs(one.values[key] / other.values[key] - 1)
        for one, other in zip(*found, strict=True)
        for key in one.values
        if key[0] != "nonlinear" and other.values[key]
    )
    b.say(
        "check, here and on the CPU",
        f"largest relative difference {worst:.1g}; {seconds[0]:.3g} s and {seconds[1]:.3g} s",
        worst=worst,
    )


def _mse(model, batch):
    return loss_value("mse", model(batch[0]), batch[1])


PARTS = (ceilings, products, draws, as_on_a_cpu, large, digits, dense, sweep, check)


def parts() -> dict[str, Any]:
    """By name; those of gpu_verbs where transformers is at hand."""
    out = {part.__name__: part for part in PARTS}
    if not find_spec("transformers"):
        return out
    import gpu_verbs as more

    return out | {
        p.__name__: p for p in (more.runs, more.builders, more.seeds, more.wide, more.verbs)
    }


def main() -> None:
    names = parts()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("parts", nargs="*", metavar="PART", default=list(names))
    options = parser.parse_args()
    if unknown := set(options.parts) - set(names):
        parser.error(f"{min(unknown)!r} is no part: give {', '.join(names)}")
    toy = TOY  # from --toy, which history takes
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print(f"skipped: torch {torch.__version__} finds no CUDA device (--device cpu --toy)")
        return
    b = Bench(options.device, toy)
    name = torch.cuda.get_device_name(b.device) if b.device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, Python {sys.version.split()[0]}")
    started = time.perf_counter()
    # Others are told as shares of what the device can do.
    for part in dict.fromkeys(["ceilings", *options.parts]):
        at = time.perf_counter()
        try:
            names[part](b)
        except Exception as e:
            b.fail(part, e)
        print(f"  {part}: {time.perf_counter() - at:.1f} s", flush=True)
        keep("gpu", b.numbers)
        b.numbers = {}
    print(f"{time.perf_counter() - started:.0f} s in all")
    if b.failed:
        raise SystemExit("failed: " + "; ".join(b.failed))


if __name__ == "__main__":
    main()
