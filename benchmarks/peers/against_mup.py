"""Width transfer against microsoft/mup: ./dev peers mup

The same residual MLP (nn.Linear layers, ReLU, one layer a block), base width 64, width 512, depth 8. mup
needs its readout written as MuReadout and a base of the same depth; the plan takes the model as it is.

    agreement  both started from the same function: losses of 20 SGD steps, float64, largest relative
               difference (the two parametrizations differ by a symmetry, so 1e-10)
    step       a training step with AdamW: mup / plain and leadline / plain, medians and quartiles of
               interleaved pairs
    set-up     shapes, scaled initialization and optimizer of a built model; the building of the model
               counts for neither (mup's own two more builds do)
    check      mup's coordinate check (a table of activation sizes, to be plotted and judged by eye)
               against leadline.check (exponents and verdicts), widths 64, 128, 256, 4 steps, 3 seeds;
               the slope over width of the readout's size after the last step, μP and sp, from mup's table

Ratios above 1 say that leadline is faster.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import mup
import numpy as np
import torch
from history import keep, size, spread
from mup.coord_check import get_coord_data
from torch import nn

import leadline as ll

BASE, WIDTH, DEPTH = 64, size(512, 128), size(8, 2)
WIDTHS = (64, 128, 256)
PAIRS, REPEATS, STEPS, SEEDS = size(100, 3), size(7, 2), size(20, 3), size(3, 2)
INPUTS, OUTPUTS = 64, 10


class Net(nn.Module):
    """The user's model; ``readout`` is what mup asks to be edited."""

    def __init__(self, width: int, depth: int, readout: type[nn.Linear] = nn.Linear) -> None:
        super().__init__()
        self.embed = nn.Linear(INPUTS, width, bias=False)
        self.blocks = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(depth))
        self.readout = readout(width, OUTPUTS, bias=False)

    def forward(self, x):
        h = self.embed(x)
        for block in self.blocks:
            h = h + block(torch.relu(h))
        return self.readout(h)


def edited(width: int, depth: int = DEPTH) -> Net:
    return Net(width, depth, mup.MuReadout)


def shaped(model: Net) -> Net:
    mup.set_base_shapes(model, edited(BASE), delta=edited(2 * BASE))
    return model


def data(samples: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(samples, INPUTS, generator=g)
    return x, torch.randint(OUTPUTS, (samples,), generator=g)


def made_plan(optimizer: str, width: int = WIDTH) -> ll.Plan:
    base, target = dict(width=BASE, depth=DEPTH), dict(width=width, depth=DEPTH)
    return ll.plan(Net, base, target, scheme="mup", optimizer=optimizer)


def loss(model: nn.Module, batch) -> torch.Tensor:
    x, y = batch
    return nn.functional.cross_entropy(model(x), y)


def curve(model: nn.Module, optimizer: torch.optim.Optimizer, batch) -> np.ndarray:
    out = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        value = loss(model, batch)
        value.backward()
        optimizer.step()
        out.append(float(value.detach()))
    return np.array(out)


def agreement() -> dict:
    x, y = data()
    batch = x.double(), y
    torch.manual_seed(0)
    theirs = shaped(edited(WIDTH)).double()
    with torch.no_grad():  # mup starts readouts of finite size; zero ones are its advice
        theirs.readout.weight.normal_(std=(WIDTH / BASE) ** 0.5 / WIDTH**0.5)
    plan = made_plan("sgd")
    mine = plan.apply(Net(WIDTH, DEPTH)).double()
    with torch.no_grad():
        for ours, other in zip(mine.parameters(), theirs.parameters(), strict=True):
            ours.copy_(other)
        mine.readout.weight.mul_(BASE / WIDTH)  # MuReadout divides its input by the ratio
    a = curve(theirs, mup.MuSGD(theirs.parameters(), lr=0.02), batch)
    b = curve(mine, torch.optim.SGD(plan.param_groups(mine, lr=0.02)), batch)
    assert a[-1] < a[0], "the agreement is about a training that moves"
    return {"largest_relative_difference (<= 1e-10)": float(np.abs(a / b - 1).max())}


def step() -> dict:
    batch = data()
    torch.manual_seed(0)
    plan = made_plan("adamw")
    plain, theirs = Net(WIDTH, DEPTH), shaped(edited(WIDTH))
    mine = plan.apply(Net(WIDTH, DEPTH))
    runs = {
        "plain": (plain, torch.optim.AdamW(plain.parameters(), lr=1e-5)),
        "mup": (theirs, mup.MuAdamW(theirs.parameters(), lr=1e-5)),
        "leadline": (mine, torch.optim.AdamW(plan.param_groups(mine, lr=1e-5))),
    }
    times: dict[str, list[float]] = {k: [] for k in runs}
    for i in range(PAIRS + 5):
        for name in list(runs) if i % 2 else reversed(runs):
            model, optimizer = runs[name]
            started = time.perf_counter()
            optimizer.zero_grad()
            loss(model, batch).backward()
            optimizer.step()
            times[name].append(time.perf_counter() - started)
    out: dict = {"plain_seconds": statistics.median(times["plain"][5:])}
    for name in ("mup", "leadline"):
        ratios = [a / b for a, b in zip(times[name][5:], times["plain"][5:], strict=True)]
        out[f"{name} / plain"] = statistics.median(ratios)
        out[f"{name} / plain, quartiles"] = statistics.quantiles(ratios, n=4)
        out[f"{name} groups"] = len(runs[name][1].param_groups)
    out["mup / leadline"] = out["mup / plain"] / out["leadline / plain"]
    return out


def setup() -> dict:
    times: dict[str, list[float]] = {"mup": [], "leadline": [], "leadline, plan at hand": []}
    for _ in range(REPEATS):
        model = edited(WIDTH)
        started = time.perf_counter()
        mup.MuAdamW(shaped(model).parameters(), lr=1e-3)
        times["mup"].append(time.perf_counter() - started)
        model = Net(WIDTH, DEPTH)
        started = time.perf_counter()
        plan = made_plan("adamw")
        planned = time.perf_counter()
        torch.optim.AdamW(plan.param_groups(plan.apply(model), lr=1e-3))
        times["leadline"].append(time.perf_counter() - started)
        times["leadline, plan at hand"].append(time.perf_counter() - planned)
    middle = {k: statistics.median(v) for k, v in times.items()}
    return times | {
        "mup / leadline": middle["mup"] / middle["leadline"],
        "mup / leadline, plan at hand": middle["mup"] / middle["leadline, plan at hand"],
    }


def coordinates() -> dict:
    x, y = data()
    out: dict = {}
    for scheme in ("mup", "sp"):

        def model(width: int, scheme: str = scheme):
            return shaped(edited(width)) if scheme == "mup" else Net(width, DEPTH)

        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = get_coord_data(
                {w: (lambda w=w: model(w)) for w in WIDTHS},
                [(x, y)],
                optimizer="sgd",
                lr=0.02,
                mup=scheme == "mup",
                lossfn="xent",
                nsteps=4,
                nseeds=SEEDS,
                cuda=False,
                show_progress=False,
            )
        took = time.perf_counter() - started
        last = table[(table.t == table.t.max()) & (table.module == "readout")]
        sizes = last.groupby("width").l1.mean()
        slope = np.polyfit(np.log(sizes.index.to_numpy(float)), np.log(sizes.to_numpy()), 1)[0]
        plan = ll.plan(Net, dict(width=BASE, depth=DEPTH), scheme=scheme, optimizer="sgd")
        started = time.perf_counter()
        report = ll.check(
            ll.Task(loss, batch=(x, y)),
            plan,
            widths=WIDTHS,
            depths=(DEPTH,),
            steps=4,
            seeds=SEEDS,
            progress=False,
        )
        ours = time.perf_counter() - started
        out |= {
            f"{scheme}: mup seconds": took,
            f"{scheme}: leadline seconds": ours,
            f"{scheme}: mup / leadline": took / ours,
            f"{scheme}: slope of the readout in mup's table": float(slope),
            f"{scheme}: leadline says": "ok" if report.ok else "; ".join(report.failures[:3]),
        }
    return out


def shown(value) -> str:
    if isinstance(value, list):
        return spread(value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    print(f"mup, torch {torch.__version__}, {torch.get_num_threads()} threads")
    parts = {"agreement": agreement, "step": step, "setup": setup, "check": coordinates}
    rows = {}
    for name in sys.argv[1:] or parts:
        rows[name] = parts[name]()
        for key, value in rows[name].items():
            print(f"{name:10s} {key}: {shown(value)}", flush=True)
    keep("peers-mup", rows)
