"""A solve of a builder's model that is interrupted or killed goes on with the same bits."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import leadline as ll


class Noisy(nn.Module):
    """Two hidden matrices, dropout (random numbers) and batch statistics (buffers)."""

    def __init__(self, n, depth):
        super().__init__()
        self.first = nn.Linear(4, n)
        self.hidden = nn.ModuleList(nn.Linear(n, n) for _ in range(depth))
        self.norm, self.drop = nn.BatchNorm1d(n), nn.Dropout(0.2)
        self.last = nn.Linear(n, 1)

    def forward(self, x):
        h = self.first(x)
        for layer in self.hidden:
            h = h + layer(self.drop(torch.tanh(h)))
        return self.last(self.norm(h))


def loss(model, batch):
    return ((model(batch) - batch[:, :1]) ** 2).mean()


def batches(step, generator):
    return torch.randn(6, 4, generator=generator)


TASK = ll.Task(loss, batches=batches, eval_batch=torch.ones(3, 4))
RECIPES = {
    "SGD": ll.SGD(lr=0.05, steps=5, momentum=0.9, weight_decay=0.1),
    "AdamW": ll.AdamW(lr=1e-2, steps=5, weight_decay=0.1, clip=1.0, schedule=(1, 0.8, 0.6, 0.4, 0.2)),
    "SignSGD": ll.SignSGD(lr=1e-3, steps=5, momentum=0.5),
    "Muon": ll.Muon(lr=0.02, steps=5, adamw=dict(lr=1e-3)),
}  # fmt: skip


@pytest.fixture(scope="module")
def plans():
    """One reading of the model for each optimizer."""
    return {
        name: ll.plan(
            Noisy, base=dict(width=16, depth=2), optimizer=recipe.optimizer, inputs=torch.ones(6, 4)
        )
        for name, recipe in RECIPES.items()
    }


def solved(plan, recipe, **how):
    return ll.solve(TASK, plan, recipe, width=24, depth=2, seeds=2, **how)


def at(seed, step):
    """Progress that interrupts there."""

    def stop(**report):
        if (report["seed"], report["step"]) == (seed, step):
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize("ensemble", ["gaussian", "fast"])
@pytest.mark.parametrize("name", list(RECIPES))
def test_what_was_interrupted_goes_on_with_the_same_bits(name, ensemble, plans, tmp_path):
    """Interrupted in both seeds, at a step that was saved and at one that was not."""
    plan, recipe, path = plans[name], RECIPES[name], tmp_path / "work"
    whole = solved(plan, recipe, ensemble=ensemble)
    for seed, step in ((0, 3), (1, 1), (1, 4)):
        with pytest.raises(KeyboardInterrupt):
            solved(plan, recipe, ensemble=ensemble, checkpoint=path, checkpoint_every=0,
                   progress=at(seed, step))  # fmt: skip
    begun = []
    resumed = solved(plan, recipe, ensemble=ensemble, checkpoint=path,
                     progress=lambda **r: begun.append((r["seed"], r["step"])))  # fmt: skip
    assert begun == [(1, 4), (1, 5)]
    for part in ("train_loss", "test_loss"):
        np.testing.assert_array_equal(getattr(resumed, part), getattr(whole, part))
    for part in ("largest_rank", "product_error", "wide"):
        assert resumed.info[part] == whole.info[part]
    again = solved(plan, recipe, ensemble=ensemble, checkpoint=path, progress=at(0, 1))
    np.testing.assert_array_equal(again.train_loss, whole.train_loss)


def test_another_computation_is_refused(plans, tmp_path):
    plan, recipe, path = plans["SGD"], RECIPES["SGD"], tmp_path / "work"
    solved(plan, recipe, checkpoint=path)
    for how in (
        dict(seed=1),
        dict(ensemble="fast"),
        dict(tol=0.01),
        dict(stored="hidden.0.weight"),
    ):
        with pytest.raises(ll.CheckpointError, match=r"another computation.*" + next(iter(how))):
            solved(plan, recipe, checkpoint=path, **how)
    with pytest.raises(ll.CheckpointError, match="recipe"):
        solved(plan, ll.SGD(lr=0.05, steps=5, momentum=0.8), checkpoint=path)
    rates = ll.plan(
        Noisy, base=dict(width=16, depth=2), optimizer="sgd", inputs=torch.ones(6, 4),
        roles={"norm.*": {"role": "vector", "init": False}}, scheme="mup",
    )  # fmt: skip
    with pytest.raises(ll.CheckpointError, match="belongs to another computation"):
        solved(rates, recipe, checkpoint=path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ll.CheckpointError, match="is not a whole checkpoint"):
        solved(plan, recipe, checkpoint=path)


def test_what_cannot_be_told_is_refused_with_a_checkpoint_alone(plans, tmp_path):
    lock = __import__("threading").Lock()

    def build(width, depth):
        assert lock is not None
        return Noisy(width, depth)

    how = dict(width=24, depth=2, base=dict(width=16, depth=2))
    with pytest.raises(TypeError, match=r"build=build cannot be told.*leadline\.named"):
        ll.solve(TASK, build, RECIPES["SGD"], checkpoint=tmp_path / "work", **how)
    named = ll.named("noisy", build)
    ll.solve(TASK, named, RECIPES["SGD"], checkpoint=tmp_path / "work", **how)

    def hidden(model, batch):
        assert lock is not None
        return loss(model, batch)

    task = ll.Task(hidden, batch=torch.ones(6, 4))
    how = dict(width=24, depth=2, checkpoint=tmp_path / "other")
    with pytest.raises(TypeError, match=r"task\.loss=hidden cannot be told.*name='my-task'"):
        ll.solve(task, plans["SGD"], RECIPES["SGD"], **how)
    with pytest.raises(ValueError, match="checkpoint_every"):
        solved(plans["SGD"], RECIPES["SGD"], checkpoint_every=-1)


KILLED = """
import os, random, signal, sys, time
import numpy as np, torch, leadline as ll
sys.path.insert(0, sys.argv[1])
torch.set_num_threads(1)
from test_wide_resume import Noisy, TASK

recipe, draw = ll.AdamW(lr=1e-2, steps=40), random.Random(0)
plan = ll.plan(Noisy, base=dict(width=16, depth=2), optimizer="adamw", inputs=torch.ones(6, 4))

def run(path, progress=None):
    return ll.solve(TASK, plan, recipe, width=24, depth=2, ensemble="fast", checkpoint=path,
                    checkpoint_every=0, progress=progress)

first = []
for _ in range(4):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        run("work", lambda step, **_: os.write(write, bytes([step])))
        os._exit(0)
    first.append(os.read(read, 1)[0])
    for _ in range(draw.randint(2, 6)):
        os.read(read, 1)
    time.sleep(draw.uniform(0, 0.02))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
begun = []
resumed = run("work", lambda step, **_: begun.append(step))
print(*first, begun[0], np.array_equal(resumed.train_loss, run(None).train_loss))
"""


def test_kills_cost_no_bits(tmp_path):
    """Killed several times in a run, wherever it is: the file is always whole, and goes on."""
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    *first, same = done.stdout.split()
    assert same == "True"
    steps = [int(k) for k in first]
    assert steps == sorted(set(steps))
    assert steps[-1] > 8
