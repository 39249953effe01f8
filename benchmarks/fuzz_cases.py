"""Random calls and commands for ``fuzz``: tiny tasks with wild values mixed in, by seed and number."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from history import size

import leadline as ll

MODEL = """
import torch
class Block(torch.nn.Module):
    def __init__(self, n):
        super().__init__()
        self.a = torch.nn.Linear(n, n)
    def forward(self, x):
        return x + torch.relu(self.a(x))
class Net(torch.nn.Module):
    def __init__(self, width, depth):
        super().__init__()
        self.first = torch.nn.Linear(4, width)
        self.blocks = torch.nn.ModuleList([Block(width) for _ in range(depth)])
        self.last = torch.nn.Linear(width, 1)
    def forward(self, x):
        h = self.first(x)
        for block in self.blocks:
            h = block(h)
        return self.last(h)
def build(width, depth):
    return Net(width, depth)
batch = (torch.ones(3, 4), torch.zeros(3, 1))
def loss(model, batch):
    return ((model(batch[0]) - batch[1]) ** 2).mean()
"""


def wild(r: random.Random) -> Any:
    """Anything."""
    return r.choice(
        [
            lambda: r.choice([0, 1, -1, 2, 3, 7, 1000, 2**31, 2**63, 10**12, 10**15, 10**30, 10**400]),
            lambda: r.choice([0.0, -0.0, math.nan, math.inf, -math.inf, 1e-300, 5e-324, 1e300, 1e30, 0.5]),
            lambda: r.choice([-0.1, 1.0, 1.5, 1e5, 1e12, 1e15, 0.999999, 1e-12, -1e-9]),
            lambda: r.choice([True, False, None, ..., NotImplemented, 1j, object, ValueError("x")]),
            lambda: r.choice([np.int64(3), np.uint8(2), np.float32(0.1), np.bool_(True), np.str_("tanh")]),
            lambda: r.choice([np.array(4), np.array(0.5), np.array([2]), np.zeros(0), np.ones((2, 2))]),
            lambda: r.choice([torch.tensor(2), torch.tensor(0.5), torch.ones(2), torch.ones(0)]),
            lambda: r.choice([Fraction(1, 3), Decimal("0.1"), range(3), {1, 2}, {"a": 1}, {}, frozenset()]),
            lambda: r.choice(["", "x" * 10_000, "ü\n\t", "a\0b", "1", "nan", "1e3", "tanh", "-", "all"]),
            lambda: r.choice([b"abc", Path("/nonexistent/a"), "/dev/null", "/proc/x", Path("."), "~"]),
            lambda: r.choice([[], (), [1, 2], (0.5,), [None], [[1], [2, 3]], ["tanh"], [math.nan]]),
            lambda: r.choice([lambda: 0, lambda k: k, lambda h: h, np.sin, torch.sin, len, iter(())]),
        ]
    )()  # fmt: skip


def text_of(value: Any) -> str:
    """A wild value for a command line."""
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    if isinstance(value, int) and abs(value) > 10**40:
        return "1" + "0" * 400
    return str(value).replace("\0", "")[:20_000]


# What takes seconds is drawn less often.
SLOW = (
    "transfer",
    "sweep",
    "check",
    "compare",
    "limit",
    "plan",
    "study --dry-run",
    "solve --dry-run",
)


LIGHT = ("SGD", "ResNet", "Measure", "arrays", "teacher", "parse", "Store", "explain", "runs")


def pick(r: random.Random, names: list[str]) -> str:
    """One of the names, a slow one a fifth as often."""
    names = size(names, [n for n in names if n in LIGHT])
    return r.choices(names, [0.2 if n in SLOW else 1.0 for n in names])[0]


Maker = Callable[[random.Random], Any]


def one_of(*values: Any) -> Maker:
    """A good value."""
    return lambda r: r.choice(values)


def problem(r: random.Random) -> Any:
    """A tiny problem."""
    kind = r.randrange(4)
    if kind == 0:
        return ll.teacher(r.randint(1, 5), r.randint(1, 4), r.randint(0, 3), r.randint(1, 2))
    if kind == 1:
        return ll.digits((0, 1), r.randint(2, 5), r.randint(0, 3), loss=r.choice(ll_losses))
    if kind == 2:
        return ll.power_law(3, 4, exponent=r.choice([0.0, 1.0, 5.0]))
    scale = r.choice([1.0, 1e-30, 1e30, 1e150, 0.0])
    x = np.random.default_rng(r.randrange(99)).standard_normal((3, 2)) * scale
    y = r.choice([[1.0, -1.0, 0.5], [0, 1, 1], [1e30, 0.0, 1.0], [1e200, 0.0, 1.0]])
    return ll.arrays(x, y, standardize=False)


ll_losses = ("mse", "cross_entropy")
ACTIVATIONS = ("identity", "relu", "tanh", "erf", "gelu", "silu", torch.sin, torch.exp)


def mixed(r: random.Random, good: dict[str, Maker], rate: float) -> dict[str, Any]:
    """Some of the arguments, each good or, at this rate, wild."""
    out = {}
    for name, make in good.items():
        if name[0] == "!" or r.random() < 0.6:
            out[name.lstrip("!")] = wild(r) if r.random() < rate else make(r)
    return out


NETWORK: dict[str, Maker] = dict(
    activation=one_of(*ACTIVATIONS), block_layers=one_of(1, 2, 3), skip=one_of(True, False),
    gain=one_of(1.0, 0.1, 3.0, 1e10), horizon=one_of(1.0, 1e-3, 10.0, 1e6),
    scheme=one_of("auto", "mup", "ntk", "depth-mup", "depth-mup-corrected", "completep"),
)  # fmt: skip
RECIPE: dict[str, Maker] = dict(
    lr=one_of(0.1, 1e-3, 10.0, 1e20, 1e-20), steps=one_of(0, 1, 3), batch_size=one_of(None, 1, 2),
    momentum=one_of(0.0, 0.9), weight_decay=one_of(0.0, 0.1, 1e10), center=one_of(True, False),
    train=one_of("readout", ("input",), ("input", "hidden", "readout")),
    schedule=one_of(None, (1.0, 0.5, 0.0), lambda k: 1 / (1 + k)),
)  # fmt: skip
MEASURE: dict[str, Maker] = dict(
    quantities=one_of("movement", ("feature_kernel", "tangent_kernel"), ()),
    times=one_of((0.0, 1.0), (0.5,)), steps=one_of((0, -1), (0,), (-1,)), particles=one_of(0, 3),
)  # fmt: skip
RUN: dict[str, Maker] = {
    "!width": one_of(8, 16, 1), "!depth": one_of(1, 2), "coupling": one_of("reused", "independent"),
    "seeds": one_of(1, 2), "seed": one_of(0, 3, 2**40), "record_every": one_of(1, 2),
    "dtype": one_of("float32", "float64", torch.float64), "memory": one_of(None, 10**9),
    "device": one_of("cpu", torch.device("cpu")),
}  # fmt: skip


def made(r: random.Random, build: Callable[..., Any], good: dict[str, Maker]) -> Any:
    """A valid network, recipe or measure; rarely a wild value in its place."""
    if r.random() < 0.05:
        return wild(r)
    for _ in range(20):
        try:
            return build(**mixed(r, good, 0.05))
        except (ValueError, TypeError):
            continue
    return build()


def task(r: random.Random) -> dict[str, Any]:
    """Problem, network, recipe."""
    return dict(
        problem=wild(r) if r.random() < 0.05 else problem(r),
        network=made(r, ll.ResNet, NETWORK),
        sgd=made(r, ll.SGD, RECIPE),
    )


def rows(r: random.Random) -> Any:
    """Finished runs for ``forecast``."""
    out = []
    for width in (8, 16, 32)[: r.randint(1, 3)]:
        for depth in (1, 2, 4)[: r.randint(1, 3)]:
            row = dict(width=width, depth=depth, loss=1 + 1 / width + 0.1 / depth)
            if r.random() < 0.05:
                row[r.choice([*row])] = wild(r)
            out.append(row)
    return out


def calls(folder: str) -> dict[str, Callable[[random.Random], tuple[Any, dict[str, Any]]]]:
    """By name: a function that draws a call."""
    module: dict[str, Any] = {"__name__": "fuzz_model"}
    exec(MODEL, module)
    build = module["build"]

    def plain(function: Any, good: dict[str, Maker]) -> Any:
        return lambda r: (function, mixed(r, good, 0.3))

    def verb(function: Any, good: dict[str, Maker]) -> Any:
        def draw(r: random.Random) -> Any:
            given = task(r) | mixed(r, good, 0.08)
            if "measure" in good and r.random() < 0.3:
                given["measure"] = made(r, ll.Measure, MEASURE)
            return function, given

        return draw

    solve = RUN | dict(
        tol=one_of(1e-3, 0.0, 0.5), variance_reduction=one_of("none", "ends", "balanced"),
        storage=one_of(None, "bfloat16"), spill=one_of(None, folder), measure=one_of(None),
        checkpoint=one_of(None, f"{folder}/c"), checkpoint_every=one_of(0.0, 300.0),
    )  # fmt: skip
    sweep: dict[str, Maker] = {
        "!widths": one_of([16, 32], (16,), np.array([16, 32])), "!depths": one_of([1, 2], [1]),
        "!lrs": one_of([1e-3, 1e-2, 1e-1], np.array([1e-2, 1e-1, 1.0])), "seeds": one_of(1, 2, [0, 5]),
        "!steps": one_of(1, 2), "batch_size": one_of(None, 2), "scheme": one_of("auto", ["mup", "ntk"]),
        "optimizer": one_of("adamw", "sgd", "adam", "muon"), "weight_decay": one_of(0.0, 0.1),
        "schedule": one_of("constant", "cosine", ["linear", "wsd"]), "warmup": one_of(0, 1, [0, 1]),
        "clip": one_of(None, 1.0), "accumulation": one_of(1, 2), "precision": one_of("float32"),
        "momentum": one_of(0.0), "arguments": one_of(None), "sizes": one_of("product", "axes"),
        "store": one_of(None, f"{folder}/runs"), "hopeless": one_of(None, 3.0),
        "dry_run": one_of(True, False),
    }  # fmt: skip
    transfer = {k: v for k, v in sweep.items() if k not in ("sizes", "scheme")} | {
        "schemes": one_of(("auto",), ["mup"]), "metric": one_of("loss", "test_loss"),
        "extend": one_of(0, 1),
    }  # fmt: skip

    def swept(function: Any, good: dict[str, Maker]) -> Any:
        def draw(r: random.Random) -> Any:
            own = r.random() < 0.3
            data = ll.teacher(4, 4)
            given = dict(
                build=ll.ResNet() if own else ll.residual_mlp(4, 1), task=data, executor="inline"
            )
            given |= mixed(r, good, 0.08)
            if own and r.random() < 0.8:
                given["optimizer"] = "sgd"
            return function, given

        return draw

    return {
        "SGD": plain(ll.SGD, RECIPE),
        "ResNet": plain(ll.ResNet, NETWORK),
        "Measure": plain(ll.Measure, MEASURE),
        "teacher": plain(ll.teacher, dict(
            samples=one_of(3), dimension=one_of(2), test_samples=one_of(0, 2), outputs=one_of(1, 3),
            width=one_of(4), noise=one_of(0.0, 0.1), seed=one_of(0), loss=one_of(*ll_losses))),
        "power_law": plain(ll.power_law, dict(
            samples=one_of(3), dimension=one_of(2), test_samples=one_of(0, 2), exponent=one_of(1.0),
            noise=one_of(0.0), seed=one_of(0), loss=one_of(*ll_losses), standardize=one_of(True, False))),
        "digits": plain(ll.digits, dict(
            classes=one_of((0, 1), (3, 8, 9)), samples=one_of(6), test_samples=one_of(0, 3), seed=one_of(0),
            loss=one_of(*ll_losses))),
        "arrays": plain(ll.arrays, {
            "!x": one_of([[1.0, 2.0], [0.0, 1.0]], np.eye(2)), "!y": one_of([0, 1], [0.5, 1.0], ["a", "b"]),
            "x_test": one_of([[1.0, 1.0]]), "y_test": one_of([0], [0.5], ["a"]), "loss": one_of(*ll_losses),
            "classes": one_of(None, (0, 1)), "standardize": one_of(True, False), "name": one_of("n")}),
        "Problem": plain(ll.Problem, {
            "!x": one_of(np.eye(2)), "!y": one_of(np.ones((2, 1))), "labels": one_of(None, [1, 1]),
            "loss": one_of(*ll_losses), "name": one_of("n"), "classes": one_of(None, (0, 1))}),
        "parse": plain(ll.parse, {"!text": one_of("teacher?samples=3", "digits:0,1?samples=4", "npz:/x"),
                                  "loss": one_of(None, *ll_losses)}),
        "npz": plain(ll.npz, {"!path": one_of("/nonexistent.npz")}),
        "cifar10": plain(ll.cifar10, {"!path": one_of("/nonexistent.tar.gz")}),
        "text": plain(ll.text, {"!path": one_of(f"{folder}/text.txt"), "context": one_of(8),
                                "train_fraction": one_of(0.5), "limit_bytes": one_of(10_000)}),
        "solve": verb(ll.solve, solve),
        "train": verb(ll.train, RUN | dict(measure=one_of(None))),
        "lazy": verb(ll.lazy, dict(depth=one_of(None, 1, 3), seeds=one_of(1, 2), seed=one_of(0),
                                   record_every=one_of(1, 2))),
        "limit": verb(ll.limit, {
            "rtol": one_of(0.5, 0.9), "!seconds": one_of(0.5), "!width": one_of(8, 16), "!depth": one_of(1),
            "!seeds": one_of(2), "coupling": one_of("reused", "independent"), "tol": one_of(1e-3),
            "dtype": one_of("float32", "float64"), "record_every": one_of(1, 2)}),
        "compare": verb(ll.compare, {
            "!sizes": one_of(((8, 1), (16, 2)), [(8, 1)]), "!seeds": one_of(2), "!rtol": one_of(0.5),
            "!seconds": one_of(0.5), "couplings": one_of("reused", ("independent",))}),
        "initial_kernels": lambda r: (ll.initial_kernels, {
            "problem": problem(r), "network": made(r, ll.ResNet, NETWORK),
            **mixed(r, dict(depth=one_of(None, 1, 10), times=one_of(None, (0.0, 0.5))), 0.2)}),
        "module": lambda r: (ll.ResNet(**mixed(r, dict(scheme=NETWORK["scheme"]), 0.0)).module, mixed(r, {
            "!width": one_of(8), "!depth": one_of(1, 2), "seed": one_of(0), "inputs": one_of(None, 3),
            "outputs": one_of(1, 2)}, 0.3)),
        "forecast": lambda r: (ll.forecast, {"data": wild(r) if r.random() < 0.1 else rows(r), **mixed(r, {
            "loss": one_of("loss"), "exponents": one_of("auto", "free", "theory"), "gain": one_of(1.0),
            "limit": one_of(None, (0.9, 0.01)), "confidence": one_of(0.9), "!draws": one_of(50),
            "seed": one_of(0)}, 0.15)}),
        "plan": lambda r: (ll.plan, {"build": wild(r) if r.random() < 0.05 else build, **mixed(r, {
            "!base": one_of(dict(width=32, depth=2)), "target": one_of(None, dict(width=64, depth=4)),
            "scheme": one_of("auto", "mup", "sp", "completep"), "optimizer": one_of("sgd", "adamw", "muon"),
            "batch_ratio": one_of(1.0), "token_ratio": one_of(1.0), "roles": one_of(None, {}),
            "decay": one_of("per-step")}, 0.15)}),
        "check": lambda r: (ll.check, {
            "task": wild(r) if r.random() < 0.05 else ll.Task(module["loss"], batch=module["batch"]),
            "build": ll.plan(build, dict(width=32, depth=2)), **mixed(r, {
                "warmup": one_of(0, 1), "schedule": one_of("constant", "cosine"), "clip": one_of(None, 1.0),
                "accumulation": one_of(1, 2), "precision": one_of("float32", "bfloat16"),
                "weight_decay": one_of(0.0, 0.1), "until_decided": one_of(None, 0.0),
                "!widths": one_of((32, 64)), "!depths": one_of((2, 4)), "!steps": one_of(1),
                "!seeds": one_of(2),
                "lr": one_of(None, 1e-3), "!progress": one_of(False)}, 0.12)}),
        "Task": lambda r: (ll.Task, {"loss": wild(r) if r.random() < 0.3 else module["loss"], **mixed(r, {
            "batch": one_of(module["batch"]), "batches": one_of([module["batch"]], lambda step: 1),
            "eval_batch": one_of(None), "name": one_of(None, "mine")}, 0.2)}),
        "explain": plain(ll.explain, {
            "!scheme": one_of("auto", "mup"), "optimizer": one_of("sgd", "muon")}),
        "sweep": swept(ll.sweep, sweep),
        "transfer": swept(ll.transfer, transfer),
        "Trajectory.load": plain(ll.Trajectory.load, {
            "!path": one_of("/nonexistent", f"{folder}/text.txt")}),
        "Plan.from_json": plain(ll.Plan.from_json, {"!text": one_of("{}", "[1]", '{"base": 3}')}),
        "Store": plain(ll.Store, {"!path": one_of(f"{folder}/runs2")}),
        "gpt": plain(ll.gpt, {"context": one_of(8)}),
        "residual_mlp": plain(ll.residual_mlp, {"!inputs": one_of(3), "!outputs": one_of(1)}),
    }  # fmt: skip


_RUNS = (
    "--problem --loss --steps --lr --batch-size --momentum --weight-decay --train --activation "
    "--block-layers --gain --horizon --scheme --seeds --seed --record-every"
)
_SOLVE = f"{_RUNS} --width --depth --coupling --tol --variance-reduction --dtype --memory --storage"
_SWEEP = (
    "--widths --depths --lrs --seeds --steps --batch-size --scheme --optimizer --weight-decay "
    "--momentum --arg --hopeless --store --metric --extend"
)
_GOOD: dict[str, tuple[str, ...]] = {
    "--problem": ("teacher?samples=3,dimension=2", "digits:0,1?samples=4", "teacher?samples=10²¹", "?",
                  "teacher?samples=3,test_samples=2,outputs=2", "power_law?samples=3,exponent=nan"),
    "--loss": ("mse", "cross_entropy"), "--steps": ("0", "2", "1e12", "1000000000000"),
    "--lr": ("0.1", "1e300", "nan"), "--batch-size": ("1", "2"), "--momentum": ("0.9", "1", "-0.1"),
    "--weight-decay": ("0.1", "1e30"), "--train": ("input", "readout,hidden", ","),
    "--activation": ("relu", "gelu"), "--block-layers": ("1", "2", "1000000"), "--gain": ("1", "1e200"),
    "--horizon": ("1", "1e308", "1e5"), "--scheme": ("auto", "ntk", "mup"), "--seeds": ("2", "1"),
    "--seed": ("1", "99999999999999999999"), "--record-every": ("1", "2"), "--width": ("8", "16"),
    "--depth": ("1", "2", "9999999999"), "--coupling": ("independent",), "--tol": ("0", "nan", "0.5"),
    "--variance-reduction": ("balanced",), "--dtype": ("float64",), "--memory": ("1GB", "1e999", "3"),
    "--storage": ("bfloat16",), "--rtol": ("0.5", "0", "1"), "--seconds": ("0.3", "nan", "-1"),
    "--sizes": ("8x1", "8x1,16x2", "8x", "1000000000x1"), "--widths": ("32,64", "32", "9" * 30),
    "--depths": ("1", "1,2"), "--lrs": ("1e-2,1e-1,1", "1e-300:1e300:1.0000001", "1e-3:1e-1:10", "1:2"),
    "--optimizer": ("sgd", "adamw", "lion"), "--arg": ("x=1", "=", "gain=0.5,1"), "--hopeless": ("3",),
    "--store": ("runs",), "--metric": ("loss", "test_loss"), "--extend": ("0", "1", "1000000000"),
    "--base": ("32x2", "0x0", "x"), "--target": ("64x4", "1e3x2"), "--batch-ratio": ("1", "2", "nan"),
    "--token-ratio": ("1", "-1"), "--budget": ("1e9", "nan"), "--exponents": ("free", "theory"),
    "--limit": ("0.9,0.01", "1", "nan,nan"), "--confidence": ("0.9", "2"), "--draws": ("50", "1e9"),
    "--claims": ("1", "3-1", "1-99999999999"), "--preset": ("quick",), "--workers": ("1", "0"),
    "--where": ("lr=0.1", "x"), "--columns": ("lr", ""),
}  # fmt: skip
_COMMANDS: dict[str, tuple[list[str], str, list[str]]] = {
    # Arguments, flags to draw from, flags that keep it small.
    "solve": ([], _SOLVE, ["--width", "8", "--depth", "1", "--steps", "2"]),
    "solve --dry-run": (["--dry-run"], _SOLVE, ["--width", "8", "--depth", "1", "--steps", "2"]),
    "train": ([], _SOLVE.replace(" --tol --variance-reduction", "").replace(" --storage", ""),
              ["--width", "8", "--depth", "1", "--steps", "2", "--seeds", "1"]),
    "lazy": ([], f"{_RUNS} --depth", ["--steps", "2"]),
    "kernels": ([], "--problem --activation --block-layers --gain --horizon --scheme --depth", []),
    "limit": ([], f"{_RUNS} --rtol --width --depth --tol --seconds --memory",
              ["--seconds", "0.3", "--width", "8", "--depth", "1", "--steps", "1", "--seeds", "2"]),
    "compare": ([], f"{_RUNS} --rtol --sizes --tol --seconds --memory",
                ["--seconds", "0.3", "--sizes", "8x1", "--steps", "1", "--seeds", "2"]),
    "plan": (["{folder}/model.py:build"],
             "--base --target --scheme --optimizer --batch-ratio --token-ratio",
             ["--base", "32x2"]),
    "check": (["{folder}/model.py:build"],
              "--base --scheme --optimizer --widths --depths --steps --seeds --lr",
              ["--widths", "32,64", "--depths", "2,4", "--steps", "1", "--seeds", "2", "--base", "32x2"]),
    "explain": (["auto"], "", []),
    "forecast": (["{folder}/runs.csv"], "--loss --target --budget --gain --exponents --limit --confidence "
                 "--draws --seed", ["--draws", "50"]),
    "report": (["{folder}"], "", []),
    "runs": (["{folder}/runs"], "--where --columns", []),
    "study --dry-run": (["--dry-run", "--out", "{folder}/study"],
                        "--claims --preset --problem --seed --workers", []),
    "sweep": (["mlp", "--executor", "inline"], _SWEEP.replace(" --metric --extend", "") + " --problem",
              ["--widths", "32", "--depths", "1", "--lrs", "0.01", "--steps", "1", "--seeds", "1"]),
    "transfer": (["mlp", "--executor", "inline"], f"{_SWEEP} --problem",
                 ["--widths", "32,64", "--depths", "1", "--lrs", "0.1,1,2", "--steps", "1",
                  "--seeds", "1"]),
}  # fmt: skip


def command(r: random.Random, folder: str) -> list[str]:
    """The arguments of one command."""
    name = pick(r, [*_COMMANDS])
    first, pool, small = _COMMANDS[name]
    words = name.split()[:1] + [w.format(folder=folder) for w in first]
    chosen = dict(zip(small[::2], small[1::2], strict=True))
    for flag in r.sample(pool.split(), min(len(pool.split()), r.randint(0, 3))):
        good = _GOOD.get(flag, ("1",))
        value = text_of(wild(r)) if r.random() < 0.3 else r.choice(good)
        chosen[flag] = f"{folder}/{value}" if flag == "--store" and "/" not in value else value
    if r.random() < 0.05:
        words.append(text_of(wild(r)))
    words += [w for flag, value in chosen.items() for w in (flag, value)]
    takes_json = name not in ("report",)
    return words + (["--json"] if takes_json and r.random() < 0.4 else [])
