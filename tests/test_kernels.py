"""Kernels at initialization: known values, limits, architectures."""

import dataclasses
import math
import time

import numpy as np
import pytest
import torch

from leadline import problems
from leadline.architecture import ResNet
from leadline.kernels.kernels import first_step, initial_kernels, input_kernels

KNOWN = [
    ("identity", 1.0, 2.7183, 1.7183),
    ("tanh", 1.0, 0.5296, 0.4279),
    ("relu", math.sqrt(2), 2.7183, 1.7183),
    ("relu", 1.0, 0.8244, 0.6487),
    ("gelu", 1.0, 0.6883, 0.5491),
    ("erf", 1.0, 0.6533, 0.5044),
]
PARTS = ("features", "gradients", "tangent_input", "tangent_hidden", "tangent_readout")


def one():
    return problems.arrays(np.ones((1, 6)), [1.0], standardize=False)


def some(samples=4, dimension=6, *, equal=True, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((samples, dimension))
    if equal:
        x *= np.sqrt(dimension / (x**2).sum(1, keepdims=True))
    return problems.arrays(x, rng.standard_normal(samples), standardize=False)


@pytest.mark.parametrize(("phi", "gain", "reused", "independent"), KNOWN)
def test_first_step_of_one_sample(phi, gain, reused, independent):
    network = ResNet(phi, gain=gain)
    assert first_step(one(), network, "reused").item() == pytest.approx(reused, abs=6e-5)
    assert first_step(one(), network, "independent").item() == pytest.approx(independent, abs=6e-5)
    kernels = initial_kernels(one(), network)
    assert kernels.tangent_hidden.item() == pytest.approx(reused, abs=6e-5)


@pytest.mark.parametrize("horizon", [0.5, 2.0])
def test_identity_is_exponential(horizon):
    problem = some(equal=False)
    k0 = problem.x @ problem.x.T / problem.dimension
    times = [0.0, 0.3, 1.0, 0.7]
    network = ResNet("identity", horizon=horizon)
    kernels = initial_kernels(problem, network, times=times)
    grown = math.exp(horizon)
    np.testing.assert_allclose(kernels.features, grown * k0, rtol=1e-8)
    np.testing.assert_allclose(kernels.gradients, grown, rtol=1e-8)
    np.testing.assert_allclose(kernels.tangent_hidden, horizon * grown * k0, rtol=1e-8)
    np.testing.assert_allclose(kernels.tangent, (2 + horizon) * grown * k0, rtol=1e-8)
    for t, k, g in zip(times, kernels.feature_path, kernels.gradient_path, strict=True):
        np.testing.assert_allclose(k, np.exp(horizon * t) * k0, rtol=1e-7)
        np.testing.assert_allclose(g, np.exp(horizon * (1 - t)), rtol=1e-7)


@pytest.mark.parametrize("depth", [1, 3, 20])
def test_identity_at_finite_depth(depth):
    network = ResNet("identity", horizon=1.5)
    a = 1.5 / depth
    reused = first_step(one(), network, "reused", depth).item()
    assert reused == pytest.approx(1.5 * (1 + a) ** (depth - 1), rel=1e-13)
    independent = first_step(one(), network, "independent", depth).item()
    assert independent == pytest.approx((1 + a) ** depth - 1, rel=1e-13)
    kernels = initial_kernels(one(), network, depth, times=[0.0, 1 / depth, 1.0])
    layers = np.array([0, 1, depth])
    np.testing.assert_allclose(kernels.feature_path[:, 0, 0], (1 + a) ** layers)
    np.testing.assert_allclose(kernels.gradient_path[:, 0, 0], (1 + a) ** (depth - layers))


@pytest.mark.parametrize(
    "network",
    [
        ResNet("tanh"),
        ResNet("relu", horizon=2.0),
        ResNet("gelu", scheme="ntk"),
        ResNet("tanh", block_layers=2, gain=1.3),
        ResNet("relu", block_layers=3, gain=1.2, scheme="depth-mup"),
    ],
)
def test_finite_depth_approaches_the_limit_as_one_over_depth(network):
    problem = some(equal=False)
    limit = initial_kernels(problem, network)
    depths = [8, 32, 128]
    finite = [initial_kernels(problem, network, depth) for depth in depths]
    for name in ("tangent", *PARTS):
        exact = getattr(limit, name)
        errors = [np.abs(getattr(kernels, name) - exact).max() for kernels in finite]
        if max(errors) > 1e-8:  # completep has exact parts
            slope = np.polyfit(np.log(depths), np.log(errors), 1)[0]
            assert slope == pytest.approx(-1, abs=0.1), name


def test_completep_keeps_the_stream_and_learns_in_every_layer():
    problem = some()
    k0 = problem.x @ problem.x.T / problem.dimension
    kernels = initial_kernels(problem, ResNet("identity", block_layers=2, gain=1.1, horizon=0.7))
    np.testing.assert_allclose(kernels.features, k0, rtol=1e-12)
    np.testing.assert_allclose(kernels.gradients, 1, rtol=1e-12)
    np.testing.assert_allclose(kernels.tangent_hidden, 2 * 0.7 * 1.1**4 * k0, rtol=1e-9)


def test_gain_root_two_is_the_activation_times_root_two():
    problem = some(3, equal=False)
    for depth in (None, 4):
        a = initial_kernels(problem, ResNet("relu", gain=math.sqrt(2)), depth)
        b = initial_kernels(problem, ResNet(lambda h: math.sqrt(2) * torch.relu(h)), depth)
        for name in PARTS:
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-7)


def test_schemes_of_the_same_limit_agree():
    problem = some()
    reference = initial_kernels(problem, ResNet("tanh", scheme="depth-mup"))
    for scheme in ("auto", "ntk", "depth-mup-corrected"):
        kernels = initial_kernels(problem, ResNet("tanh", scheme=scheme))
        np.testing.assert_array_equal(kernels.tangent, reference.tangent)


def dense_tangent(network, width, depth, x, seed):
    """The three parts of Θ of one dense network, by autograd."""
    module = network.module(width, depth, seed, inputs=x.shape[1], dtype=torch.float64)
    rate = network.rate(width)
    layers = network.block_layers
    rows = []
    for sample in torch.from_numpy(np.array(x)):
        module.zero_grad()
        module(sample[None]).sum().backward()
        grads = {name: p.grad.clone() for name, p in module.named_parameters()}
        hidden = [grads[f"hidden.{i}"] for i in range(depth * layers)]
        scaled = [
            g.flatten() * network.rate_factor(i % layers, depth) ** 0.5
            for i, g in enumerate(hidden)
        ]
        rows.append([grads["input"].flatten(), torch.cat(scaled), grads["readout"].flatten()])
    return [
        (rate * torch.stack([r[i] for r in rows]) @ torch.stack([r[i] for r in rows]).T).numpy()
        for i in range(3)
    ]


@pytest.mark.parametrize(
    "network",
    [
        ResNet("tanh", gain=1.2),
        ResNet("relu", gain=1.4, skip=False),
        ResNet("gelu", block_layers=2, gain=1.5),
        ResNet("tanh", block_layers=3, gain=1.5, scheme="depth-mup-corrected"),
        ResNet("relu", block_layers=2, gain=1.5, skip=False, scheme="ntk"),
    ],
)
def test_tangent_kernel_of_dense_networks(network):
    problem = some(2, 5)
    kernels = initial_kernels(problem, network, 4)
    draws = [dense_tangent(network, 300, 4, problem.x, seed) for seed in range(6)]
    for i, name in enumerate(("tangent_input", "tangent_hidden", "tangent_readout")):
        values = np.array([d[i] for d in draws])
        error = 4 * values.std(0, ddof=1) / math.sqrt(6) + 0.02 * np.abs(values).max()
        assert (np.abs(values.mean(0) - getattr(kernels, name)) < error).all(), name


def test_a_zero_input_is_legal():
    x = np.vstack([some(2).x, np.zeros(6)])
    for phi in ("tanh", "relu", "gelu", torch.nn.functional.leaky_relu):
        kernels = input_kernels(x, ResNet(phi))
        assert np.isfinite(kernels.tangent).all()
        np.testing.assert_allclose(kernels.tangent[2], 0, atol=1e-12)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (ResNet(scheme="mup"), ["scheme='mup'", "depth-mup"]),
        (ResNet(scheme="mup", block_layers=2), ["scheme='mup'", "completep"]),
        (ResNet(scheme="depth-mup-corrected", block_layers=2), ["corrected", "tangent kernel"]),
        (ResNet(skip=False), ["skip=False"]),
    ],
)
def test_networks_without_a_limit_demand_a_depth(network, words):
    with pytest.raises(ValueError, match="depth=None") as caught:
        initial_kernels(one(), network)
    assert all(word in str(caught.value) for word in words)
    assert initial_kernels(one(), network, 3).depth == 3


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="depth=0"):
        initial_kernels(one(), ResNet(), 0)
    with pytest.raises(TypeError, match=r"depth=2\.5"):
        initial_kernels(one(), ResNet(), 2.5)
    with pytest.raises(ValueError, match=r"times=.*1\.5"):
        initial_kernels(one(), ResNet(), times=[0.0, 1.5])
    with pytest.raises(TypeError, match=r"problem=.* is not a Problem"):
        initial_kernels(np.ones((2, 2)), ResNet())
    with pytest.raises(TypeError, match="network=1e-300 is not a ResNet"):
        initial_kernels(one(), 1e-300)
    with pytest.raises(TypeError, match=r"times=.* is not a sequence"):
        initial_kernels(one(), ResNet(), times=len)
    with pytest.raises(TypeError, match="times='a'"):
        initial_kernels(one(), ResNet(), times=["a"])
    with pytest.raises(ValueError, match="problem's x has entries up to 2e\\+120"):
        input_kernels(np.full((2, 2), 2e120), ResNet())
    with pytest.raises(ValueError, match="x has shape"):
        input_kernels(np.ones(3), ResNet())
    with pytest.raises(ValueError, match="not finite"):
        input_kernels(np.full((2, 2), np.nan), ResNet())
    with pytest.raises(ValueError, match="overflow"):
        initial_kernels(one(), ResNet("identity", scheme="mup"), 2000)
    with pytest.raises(ValueError, match=r"coupling='reuse'.*reused"):
        first_step(one(), ResNet(), "reuse")
    for network in (ResNet(skip=False), ResNet(block_layers=2), ResNet(scheme="ntk")):
        with pytest.raises(ValueError, match="depth-mup"):
            first_step(one(), network, "independent", 4)


def test_parts_add_up_and_the_result_is_frozen():
    kernels = initial_kernels(some(), ResNet("tanh"))
    roles = ("input", "hidden", "readout")
    np.testing.assert_allclose(kernels.part(roles), kernels.tangent, rtol=1e-15)
    np.testing.assert_array_equal(kernels.part(("hidden",)), kernels.tangent_hidden)
    assert repr(kernels).startswith("InitialKernels(4 inputs, depth=∞, accuracy=")
    with pytest.raises(dataclasses.FrozenInstanceError):
        kernels.depth = 3


def test_two_hundred_inputs_take_a_second():
    problem = some(200, 20)
    started = time.process_time()
    kernels = initial_kernels(problem, ResNet("tanh"))
    assert time.process_time() - started < 1.0
    fine = initial_kernels(problem, ResNet(torch.tanh), times=[0.25, 0.5, 0.75])
    np.testing.assert_allclose(kernels.tangent, fine.tangent, rtol=0, atol=1e-9)


def collinear(norm=1.0):
    """Two inputs at an angle, and one along the first with twice the norm, |x|²/d = norm²."""
    return norm * np.array([[2.0, 0, 0, 0], [1.2, 1.6, 0, 0], [4.0, 0, 0, 0]])


@pytest.mark.parametrize(
    ("phi", "words"),
    [
        (lambda h: h**3, ["grow without bound", "depth time", "horizon of"]),
        (lambda h: torch.exp(h), ["grow without bound"]),
        (lambda h: h.abs().sqrt(), ["E[φ'(h)φ'(h')]", "standard deviation", "rtol=1e-06"]),
    ],
)
def test_equations_without_a_solution_are_refused(phi, words):
    with pytest.raises(ValueError, match="give") as caught:
        input_kernels(collinear(), ResNet(phi))
    assert all(word in str(caught.value) for word in words)


def test_a_pole_is_where_it_is_due_and_its_remedy_works():
    """q' = 15 T q³ of the cube ends at T·t = 1/(30 q_0²)."""
    x = collinear()[:1]
    end = 1 / 30
    with pytest.raises(ValueError, match="grow without bound") as caught:
        input_kernels(x, ResNet(lambda h: h**3, horizon=0.1))
    found = float(str(caught.value).split("at a horizon of ")[1].split(";")[0])
    assert found == pytest.approx(end, rel=1e-3)
    remedy = float(str(caught.value).split("give a horizon of ")[1].split(",")[0])
    kernels = input_kernels(x, ResNet(lambda h: h**3, horizon=remedy))
    expected = 1 / math.sqrt(1 - 30 * remedy)
    assert kernels.features.item() == pytest.approx(expected, rel=1e-8)
    assert kernels.accuracy < 1e-7


def test_what_overflows_is_said_to():
    for network in (ResNet("identity", horizon=1e5), ResNet("relu", gain=1e10)):
        with pytest.raises(ValueError, match=r"overflow .*smaller .*gain or horizon"):
            input_kernels(collinear(), network, seconds=300)
    with pytest.raises(ValueError, match=r"depth=40.*overflow in layer"):
        input_kernels(collinear(), ResNet("relu", gain=1e10, skip=False), 40)
    with pytest.raises(ValueError, match=r"entries up to 1e\+120"):
        input_kernels(np.full((1, 2), 1e120), ResNet())


def test_what_takes_long_is_refused_with_its_time():
    started = time.perf_counter()
    with pytest.raises(ValueError, match=r"depth=9999999999 and 3 inputs.*about .*depth=None"):
        input_kernels(collinear(), ResNet("relu"), 9999999999, seconds=1.0)
    with pytest.raises(ValueError, match=r"give seconds="):
        input_kernels(collinear(), ResNet(skip=False), 10**6, seconds=1.0)
    assert time.perf_counter() - started < 20
    for wrong in (0.0, math.inf, "long"):
        with pytest.raises((ValueError, TypeError), match="seconds="):
            input_kernels(collinear(), ResNet(), seconds=wrong)
    assert input_kernels(collinear(), ResNet("relu"), 3, seconds=None).depth == 3


@pytest.mark.parametrize("norm", [1e-80, 1e-8, 1.0, 1e3])
def test_relu_scales_with_its_inputs_by_either_way(norm):
    unit = input_kernels(collinear(), ResNet("relu"))
    kernels = input_kernels(collinear(norm), ResNet(lambda h: torch.relu(h)))
    for name in PARTS:
        scale = 1.0 if name == "gradients" else norm**2
        expected = scale * getattr(unit, name)
        off = np.abs(getattr(kernels, name) - expected).max()
        # Collinear inputs: gradients go as √(1 − ρ).
        assert off <= 3e-8 * np.abs(expected).max(), name
    assert kernels.accuracy < 1e-7


def test_small_inputs_see_a_linear_activation():
    """tanh h = h up to a relative h²/3: the tolerances are relative to the kernels."""
    kernels = input_kernels(collinear(1e-8), ResNet("tanh"))
    exact = input_kernels(collinear(1e-8), ResNet("identity"))
    for name in PARTS:
        np.testing.assert_allclose(getattr(kernels, name), getattr(exact, name), rtol=1e-8)


@pytest.mark.parametrize("depth", [None, 5])
def test_raw_pixels(depth):
    """Norms of 150 against φ by a sign and what tanh and erf differ from it: dK = T·E[φφ'] < T."""
    x = np.random.default_rng(1).uniform(0, 255, (4, 40))
    kernels = input_kernels(x, ResNet(lambda h: torch.erf(h)), depth)
    exact = input_kernels(x, ResNet("erf"), depth)
    for name in PARTS:
        np.testing.assert_allclose(getattr(kernels, name), getattr(exact, name), rtol=1e-9)
    assert kernels.accuracy < 1e-8


def test_accuracy_is_what_is_off():
    """A φ known to 1e-4 only, by a shift of its values: the kernels are off by about that."""
    import leadline.kernels.kernels as module

    exact = input_kernels(collinear(), ResNet("erf"))
    original = module.dual_on_pairs

    def rough(*how):
        inner = original(*how)

        def shifted(k, pairs):
            found = inner(k, pairs)
            return found._replace(error=1e-4 * np.abs(np.stack([found.phi, found.slope])))

        return shifted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "dual_on_pairs", rough)
        with pytest.raises(ValueError, match=r"activation=erf.*relative 0.0001 only.*rtol=1e-06"):
            input_kernels(collinear(), ResNet("erf"))
        kernels = input_kernels(collinear(), ResNet("erf"), rtol=1e-2)
    assert 3e-5 < kernels.accuracy < 3e-4
    assert exact.accuracy < 1e-9
    np.testing.assert_array_equal(kernels.tangent, exact.tangent)
