"""Linearised training: closed forms, and SGD on an explicit linear model."""

import json
import math

import numpy as np
import pytest
import torch

from leadline import problems
from leadline.architecture import ResNet
from leadline.kernels.kernels import initial_kernels, input_kernels
from leadline.limits.lazy_training import lazy
from leadline.problems.losses import loss_value
from leadline.recipes.sgd import SGD


def data(samples=6, test=3, *, classes=0, loss="mse", seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((samples + test, 5))
    if classes:
        y = np.arange(samples + test) % classes
    else:
        y = rng.standard_normal(samples + test)
    parts = (x[samples:], y[samples:]) if test else (None, None)
    return problems.arrays(x[:samples], y[:samples], *parts, loss=loss)


def inputs(problem):
    return np.concatenate([problem.x, problem.x_test])


@pytest.mark.parametrize("train", [("hidden",), ("input", "hidden", "readout")])
@pytest.mark.parametrize("depth", [None, 3])
def test_full_batch_mse_is_a_linear_recursion(train, depth):
    problem, network = data(), ResNet("tanh")
    run = lazy(problem, network, SGD(lr=0.4, steps=8, train=train), depth=depth)
    theta = initial_kernels(problem, network, depth).part(train)
    contraction = np.eye(6) - 0.4 * theta / 6
    for k in range(9):
        expected = (np.eye(6) - np.linalg.matrix_power(contraction, k)) @ problem.y
        np.testing.assert_allclose(run.train_outputs[0, k], expected, atol=1e-8)
    joint = input_kernels(inputs(problem), network, depth).part(train)
    residuals = sum(problem.y - run.train_outputs[0, k] for k in range(8))
    np.testing.assert_allclose(
        run.test_outputs[0, 8], 0.4 / 6 * joint[6:, :6] @ residuals, atol=1e-12
    )


def linear_model(problem, network, sgd, theta, start, displaced):
    """Outputs (K+1, N, C) of torch SGD on f = offset + J w with J Jᵀ = Θ, and J w_0 = displaced."""
    root = torch.linalg.cholesky(torch.tensor(theta) + 1e-13 * torch.eye(len(theta)))
    w = torch.linalg.solve_triangular(root, torch.tensor(displaced), upper=False)
    offset = torch.tensor(start - displaced)
    w = w.requires_grad_(True)
    optimizer = torch.optim.SGD(
        [w], lr=sgd.lr, momentum=sgd.momentum, weight_decay=sgd.weight_decay
    )
    y, out = torch.tensor(problem.y), [torch.tensor(start)]
    for step, batch in enumerate(sgd.batches(problem.samples, 3)):
        optimizer.param_groups[0]["lr"] = sgd.lr * sgd.multiplier(step)
        optimizer.zero_grad()
        f = offset + root @ w
        loss_value(problem.loss, f[batch], y[batch]).backward()
        optimizer.step()
        out.append((offset + root @ w).detach())
    return torch.stack(out).numpy()


@pytest.mark.parametrize(
    ("scheme", "train", "decay"),
    [
        ("auto", ("input", "hidden", "readout"), 0.3),
        ("ntk", ("readout",), 0.3),
        ("ntk", ("input", "hidden", "readout"), 0.0),
    ],
)
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_momentum_decay_and_batches_match_sgd_on_the_linear_model(scheme, train, decay, loss):
    problem, network = data(classes=3, loss=loss), ResNet("tanh", scheme=scheme)
    sgd = SGD(
        lr=0.5,
        steps=9,
        batch_size=4,
        momentum=0.7,
        weight_decay=decay,
        train=train,
        schedule=lambda k: 1 / (1 + k),
    )
    run = lazy(problem, network, sgd, seed=3)
    start = np.concatenate([run.train_outputs[0, 0], run.test_outputs[0, 0]])
    assert (np.abs(start).max() > 0) == (scheme == "ntk")
    theta = input_kernels(inputs(problem), network).part(train)
    displaced = start if train == ("readout",) else 0 * start
    expected = linear_model(problem, network, sgd, theta, start, displaced)
    np.testing.assert_allclose(run.train_outputs[0], expected[:, :6], atol=1e-9)
    np.testing.assert_allclose(run.test_outputs[0], expected[:, 6:], atol=1e-9)


def test_cross_entropy_decreases():
    problem = data(12, 6, classes=3, loss="cross_entropy")
    run = lazy(problem, ResNet("gelu", block_layers=2), SGD(lr=1.0, steps=30))
    assert run.train_loss[0, 0] == pytest.approx(math.log(3))
    assert (np.diff(run.train_loss[0]) < 0).all()
    assert run.train_accuracy[0, -1] > run.train_accuracy[0, 0]
    assert run.test_accuracy.shape == run.test_loss.shape == (1, 31)


def test_without_test_inputs_nothing_is_evaluated():
    run = lazy(data(test=0), ResNet(), SGD(steps=2))
    assert run.test_loss is run.test_outputs is None
    with_test = lazy(data(), ResNet(), SGD(steps=2))
    np.testing.assert_allclose(with_test.steps, [0, 1, 2])


def test_mup_runs_are_equal_and_start_at_zero():
    run = lazy(data(), ResNet(), SGD(steps=3, batch_size=2), seeds=3, seed=5)
    assert run.seeds == 3
    assert (run.train_outputs[:, 0] == 0).all()
    np.testing.assert_array_equal(run.train_outputs[0], run.train_outputs[2])


def test_ntk_starts_follow_the_readout_kernel():
    problem, network = data(3, 2), ResNet("tanh", scheme="ntk")
    run = lazy(problem, network, SGD(steps=0), seeds=1500)
    start = np.concatenate([run.train_outputs, run.test_outputs], 2)[:, 0, :, 0]
    expected = input_kernels(inputs(problem), network).features
    error = np.sqrt((expected**2 + np.outer(np.diag(expected), np.diag(expected))) / 1500)
    assert (np.abs(np.cov(start.T) - expected) < 4.5 * error).all()
    few = lazy(problem, network, SGD(steps=0), seeds=2)
    np.testing.assert_array_equal(few.train_outputs, run.train_outputs[:2])


def test_centered_ntk_starts_at_zero_on_the_training_inputs_only():
    problem, network = data(3, 2), ResNet("tanh", scheme="ntk")
    run = lazy(problem, network, SGD(steps=1, center=True), seeds=1500)
    assert (run.train_outputs[:, 0] == 0).all()
    k = input_kernels(inputs(problem), network).features
    expected = np.linalg.inv(np.linalg.inv(k)[3:, 3:])
    found = np.cov(run.test_outputs[:, 0, :, 0].T)
    error = np.sqrt((expected**2 + np.outer(np.diag(expected), np.diag(expected))) / 1500)
    assert (np.abs(found - expected) < 4.5 * error).all()
    repeated = problems.arrays(
        problem.x, problem.y, problem.x[:2], problem.y[:2], standardize=False
    )
    run = lazy(repeated, network, SGD(steps=1, center=True))
    np.testing.assert_allclose(run.test_outputs[0, 0], 0, atol=1e-6)


def test_divergence_is_reported_and_the_rest_is_nan():
    run = lazy(data(), ResNet(), SGD(lr=500.0, steps=40), seeds=2, record_every=2)
    at = int(run.diverged[0])
    assert 0 < at < 40
    assert (run.diverged == at).all()
    late = run.steps >= at
    for array in (run.train_loss, run.test_loss, run.train_outputs, run.test_outputs):
        assert np.isnan(array[:, late]).all()
        assert np.isfinite(array[:, ~late]).all()


def test_what_is_recorded():
    problem = data()
    every = lazy(problem, ResNet(), SGD(steps=7))
    run = lazy(problem, ResNet(), SGD(steps=7), record_every=3)
    np.testing.assert_array_equal(run.steps, [0, 3, 6, 7])
    np.testing.assert_array_equal(run.train_loss, every.train_loss[:, run.steps])
    info = json.loads(json.dumps(run.info))
    assert (info["kind"], info["width"], info["depth"]) == ("lazy", None, None)
    assert info["problem"]["name"] == problem.name
    assert info["network"]["activation"] == "tanh"
    assert info["sgd"]["steps"] == 7


def test_bad_arguments_are_named():
    problem = data()
    with pytest.raises(ValueError, match="depth=None with skip=False"):
        lazy(problem, ResNet(skip=False), SGD())
    assert lazy(problem, ResNet(skip=False), SGD(steps=1), depth=3).info["depth"] == 3
    with pytest.raises(ValueError, match=r"weight_decay=0\.1 with scheme='ntk'"):
        lazy(problem, ResNet(scheme="ntk"), SGD(weight_decay=0.1))
    with pytest.raises(ValueError, match="batch_size=7"):
        lazy(problem, ResNet(), SGD(batch_size=7))
    with pytest.raises(ValueError, match="seeds=0"):
        lazy(problem, ResNet(), SGD(), seeds=0)
    with pytest.raises(ValueError, match="record_every=0"):
        lazy(problem, ResNet(), SGD(), record_every=0)
