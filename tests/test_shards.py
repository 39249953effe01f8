"""Neurons shared out over processes: the answer of one process."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from hypothesis import given
from hypothesis import strategies as st

from leadline.solving.noise import BLOCK
from leadline.solving.shards import Shards
from shard_cases import CASES, answers, work

PRODUCTS = ["products 300", "products 8192", "products 8500", "products 20000"]


@pytest.fixture(scope="module")
def alone():
    return answers()


@pytest.fixture(scope="module", params=[2, 3])
def together(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("group")
    mp.spawn(work, (request.param, str(folder)), nprocs=request.param)
    return [torch.load(folder / f"{rank}.pt") for rank in range(request.param)]


@pytest.mark.parametrize("name", [*CASES, "limit", *PRODUCTS])
def test_every_process_has_the_answer_of_one(name, alone, together):
    for one in together:
        assert one[name].keys() == alone[name].keys()
        for key, value in one[name].items():
            # Every process the same to the last bit: they decide by it.
            assert torch.equal(value, together[0][name][key]), key
            # Test inputs are answered by a factor of a Gram matrix: rounding enters by its root, 1e-8.
            wide = value.dtype == torch.float64 and name != "ordered"  # computed in float32
            close = dict(rtol=1e-7, atol=1e-8) if wide else dict(rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(value, alone[name][key], **close)


@pytest.mark.parametrize("name", ["products 8192", "products 8500", "products 20000"])
def test_where_sums_have_an_order_no_bit_differs(name, alone, together):
    for key, value in together[0][name].items():
        assert torch.equal(value, alone[name][key]), key


@given(st.integers(1, 100_000), st.integers(1, 70))
def test_every_neuron_has_one_process_and_blocks_stay_together(n, size):
    shards = Shards(n)
    object.__setattr__(shards, "size", size)
    bounds = [shards.bounds(r) for r in range(size)]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == n
    assert all(b == c for (_, b), (c, _) in itertools.pairwise(bounds))
    assert all(a % BLOCK == 0 or a == n for a, _ in bounds)
    assert shards.widest <= max(2 * n / size, n / size + shards.unit)


def solve(processes, *options):
    start = [sys.executable, "-m", "leadline"]
    if processes > 1:
        start = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        start += [f"--nproc-per-node={processes}", "-m", "leadline"]
    problem = ["--problem", "teacher?samples=8,dimension=6", "--width", "640", "--depth", "3"]
    return [*start, "solve", *problem, "--tol", "1e-3", "--dtype", "float64", "--json", *options]


def run(command, **how):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, **how)


def test_a_killed_process_ends_the_job_and_another_number_resumes(tmp_path):
    options = ["--steps", "60", "--out", str(tmp_path), "--checkpoint-every", "0.05"]
    saved = tmp_path / "checkpoint.safetensors"
    with subprocess.Popen(
        solve(2, *options),
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        deadline = time.monotonic() + 60
        while not saved.exists() and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        workers = subprocess.run(
            ["pgrep", "-P", str(running.pid)], capture_output=True, text=True
        ).stdout.split()
        os.kill(int(workers[-1]), signal.SIGKILL)
        out, err = running.communicate(timeout=60)
    assert running.returncode != 0
    assert not out
    # The others notice, or torchrun ends them first.
    assert "lost the others" in err or "was told to stop" in err
    assert "start the job again, with any number of processes" in err
    beside = {p.name for p in tmp_path.glob("checkpoint.safetensors.*of2")}
    assert len(beside) >= 2
    resumed = run(solve(3, *options))
    assert resumed.returncode == 0, resumed.stderr
    whole = run(solve(1, "--steps", "60"))
    one, other = (json.loads(r.stdout) for r in (resumed, whole))
    # Where parts follow processes, sums differ by rounding, which small remainders amplify.
    np.testing.assert_allclose(one["train_loss"], other["train_loss"], rtol=1e-7)
    assert {p.name for p in tmp_path.iterdir()} == {
        "checkpoint.safetensors",
        "trajectory.safetensors",
        "result.json",
        "figure.html",
        "page.json",
    }


def test_mistakes_and_commands_of_one_process_are_said_once():
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    bad = run([*start, "-m", "leadline", "solve", "--tol", "2"])
    assert bad.returncode != 0
    assert bad.stderr.count("Error: tol=2.0") == 1
    other = run([*start, "-m", "leadline", "train", "--width", "16"])
    assert "Error: train works in one process" in other.stderr
