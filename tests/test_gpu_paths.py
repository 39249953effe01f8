"""The paths that a GPU takes, run on a CPU: draws by a hash, and one look at the device a query."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import leadline as ll
from leadline.solving import basis, solver
from leadline.solving.configuration import Configuration, Settings
from leadline.solving.noise import HashedNoise, draw_together
from leadline.solving.operator import Operator

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[1]


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    usual = Configuration.settings.func

    def settings(self):
        return dataclasses.replace(usual(self), lean=True, counter=True)

    monkeypatch.setattr(Configuration, "settings", property(settings))
    return usual


def test_hashed_draws_are_normal_and_independent():
    n, m = 4096, 64
    g = HashedNoise(0, (0, 1), n).draw(m, torch.float64, CPU).numpy()
    other = HashedNoise(0, (0, 2), n).draw(m, torch.float64, CPU).numpy()
    assert scipy.stats.kstest(g.ravel(), "norm").pvalue > 1e-3
    # Inner products of rows, of neighbouring neurons, of streams, over many neurons: N(0, 1) each.
    for a, b, same in ((g, g, True), (g[:, :-1], g[:, 1:], False), (g, other, False)):
        products = a @ b.T / np.sqrt(a.shape[1])
        off = products[np.triu_indices(m, 1)] if same else products.ravel()
        assert abs(off.std() - 1) < 5 / np.sqrt(2 * len(off))
        assert abs(off).max() < 6
    # And of neurons, over rows: the mean square of a quarter of a million products.
    square = ((g[:, :512].T @ g[:, 512:1024]) ** 2).mean() / m
    assert abs(square - 1) < 0.02
    assert abs((g**4).mean() - 3) < 5 * np.sqrt(96 / g.size)


def test_hashed_draws_do_not_depend_on_who_draws():
    whole = HashedNoise(3, (1,), 1000).draw(5, torch.float32, CPU)
    parts = []
    for blocks in (range(1), range(1, 3), range(3, 4)):
        one = HashedNoise(3, (1,), 1000, blocks)
        rows = [one.draw(2, torch.float32, CPU)]
        again = HashedNoise(3, (1,), 1000, blocks)
        again.restore(one.state())
        parts.append(torch.cat([*rows, again.draw(3, torch.float32, CPU)]))
    assert torch.equal(torch.cat(parts, dim=1), whole)


def test_one_look_chooses_the_same_directions():
    def operator(lean):
        s = Settings(n=512, tol=1e-3, dtype=torch.float64, lean=lean)
        return Operator(s, HashedNoise(0, (0,), 512), HashedNoise(0, (1,), 512))

    rng = torch.Generator().manual_seed(0)
    one, other = operator(True), operator(False)
    u = torch.randn(12, 512, generator=rng, dtype=torch.float64)
    for step in range(6):
        for a in (u, u[:1].repeat(3, 1)):
            torch.testing.assert_close(one.query(a)[0], other.query(a)[0])
            torch.testing.assert_close(one.query_transposed(a)[0], other.query_transposed(a)[0])
        assert one.ranks == other.ranks
        u = u + 10.0 ** (-step) * torch.randn(12, 512, generator=rng, dtype=torch.float64)


def test_the_law_is_the_same(as_on_a_gpu):
    """The loss after four steps of the theory's problem: .2784(5) at n = 16384, depth 16."""
    problem = ll.teacher(samples=6, dimension=5, test_samples=4)
    how = dict(width=2048, depth=4, variance_reduction="balanced", seeds=6)
    lean = ll.solve(problem, ll.ResNet(), ll.SGD(lr=0.5, steps=4), **how)
    with pytest.MonkeyPatch.context() as undo:
        undo.setattr(Configuration, "settings", property(as_on_a_gpu))
        usual = ll.solve(problem, ll.ResNet(), ll.SGD(lr=0.5, steps=4), **how)
    for name in ("train_loss", "test_loss"):
        error = np.hypot(lean.error(name), usual.error(name))
        assert (np.abs(lean.mean(name) - usual.mean(name)) < 4.5 * error + 1e-12).all()


class Looks(TorchDispatchMode):
    """Counts what would make a GPU's host wait: values read, matrices copied to the host."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        # Operators whose result or shape the host has to know.
        waits = (
            "_local_scalar_dense",
            "is_nonzero",
            "nonzero",
            "masked_select",
            "unique",
            "equal.",
        )
        if any(name in str(func) for name in waits):
            self.count += 1
        return func(*args, **(kwargs or {}))


def test_one_look_at_the_device_a_question(as_on_a_gpu, monkeypatch):
    problem = ll.digits(classes=(0, 1), samples=16, test_samples=0)
    depth, steps = 6, 10
    looks = Looks()
    numpy = torch.Tensor.numpy

    def counted(self, *given, **how):
        looks.count += 1
        return numpy(self, *given, **how)

    def on_the_host(*given):
        before = looks.count
        out = select(*given)
        looks.count = before
        return out

    # Which remainders are directions is decided from numbers that were copied before.
    select = basis.select
    monkeypatch.setattr(basis, "select", on_the_host)
    monkeypatch.setattr(torch.Tensor, "numpy", counted)
    sgd = ll.SGD(lr=0.3, steps=steps)
    with looks:
        ll.solve(problem, ll.ResNet(), sgd, width=1024, depth=depth, record_every=steps)
    queries = 2 * depth * steps
    # Outside the queries: inputs and the recorded steps.
    assert looks.count <= queries + 40


def test_the_script_for_a_gpu_runs_small_and_needs_only_torch_and_numpy():
    blocked = "scipy sklearn psutil safetensors click plotly pandas transformers".split()
    code = (
        "import sys, runpy\n"
        "sys.path.insert(0, 'benchmarks')\n"
        f"sys.modules.update(dict.fromkeys({blocked!r}))\n"
        "sys.argv = ['gpu.py', '--device', 'cpu', '--toy']\n"
        "runpy.run_path('benchmarks/gpu.py', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "matmul" in done.stdout


def test_several_seeds_draw_together_what_each_draws():
    n, counts, m = 700, [3, 0, 5], 5
    together, alone = ([HashedNoise(4, (s,), n) for s in range(3)] for _ in range(2))
    for noises in (together, alone):
        noises[1].draw(2, torch.float32, CPU)
    for _ in range(2):
        g = draw_together(together, counts, m, torch.float64, CPU)
        for row, noise, count in zip(g, alone, counts, strict=True):
            assert torch.equal(row[:count], noise.draw(count, torch.float64, CPU))
            assert not row[count:].any()
    assert [x.state()[0, 0] for x in together] == [6, 2, 10]


def test_seeds_together_as_on_a_gpu_are_those_alone(as_on_a_gpu, monkeypatch):
    problem, sgd = ll.teacher(samples=6, dimension=5, seed=1), ll.SGD(lr=0.3, steps=4)
    how = dict(width=512, depth=2, dtype="float64", tol=0.0, seeds=3)
    together = ll.solve(problem, ll.ResNet(), sgd, **how).train_loss
    monkeypatch.setattr(solver, "_together", lambda *_: 1)
    alone = ll.solve(problem, ll.ResNet(), sgd, **how).train_loss
    assert abs(alone[0] / alone[1] - 1).max() > 1e-3
    np.testing.assert_allclose(together, alone, rtol=1e-9)
