"""Training dense networks: against hand-written loops, the equations, and explicit Jacobians."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.architecture import ResNet
from leadline.dense.forward import Weights, forward
from leadline.dense.weights import draw
from leadline.measure.observation import QUANTITIES, Measure
from leadline.problems import Problem, arrays
from leadline.problems.losses import chi, loss_value
from leadline.recipes.sgd import SGD
from leadline.training.loop import take
from leadline.training.networks import dense_bytes
from leadline.training.trainer import train
from leadline.trajectory import Trajectory

f64 = torch.float64
n, L, d = 12, 3, 5


def problem(p=6, c=1, loss="mse", tests=3):
    rng = np.random.default_rng(p)
    x = rng.standard_normal((p + tests, d))
    y = np.sin(x @ rng.standard_normal((d, c))) if c > 1 else np.sign(x[:, 0]).astype(int)
    if loss == "cross_entropy":
        y = np.arange(p + tests) % c
    return arrays(x[:p], y[:p], x[p:], y[p:], loss=loss)


def fit(data, network=None, sgd=None, **kw):
    kw = {"width": n, "depth": L, "dtype": "float64", **kw}
    return train(data, network or ResNet(), sgd or SGD(lr=0.3, steps=3), **kw)


def loop(net, data, sgd, seed=0):
    """Training outputs at steps 0..K of an ordinary PyTorch loop."""
    optimizer = torch.optim.SGD(net.param_groups(sgd))
    rates = [g["lr"] for g in optimizer.param_groups]
    x, y = torch.tensor(data.x), torch.tensor(data.y)
    outputs = [net(x).detach()]
    for step, rows in enumerate(sgd.batches(data.samples, seed)):
        for g, rate in zip(optimizer.param_groups, rates, strict=True):
            g["lr"] = rate * sgd.multiplier(step)
        optimizer.zero_grad()
        loss_value(data.loss, net(x[rows]), y[rows]).backward()
        optimizer.step()
        outputs.append(net(x).detach())
    return torch.stack(outputs).numpy()


def stacked(network, count=1, seed=0, independent=False, width=n, c=1):
    return draw(
        network,
        width,
        L,
        d,
        c,
        seed=seed,
        runs=range(count),
        independent=independent,
        dtype=f64,
        device=torch.device("cpu"),
    )


@pytest.mark.parametrize(("c", "loss"), [(1, "mse"), (3, "mse"), (3, "cross_entropy")])
def test_steps_are_low_rank(c, loss):
    """Weights after k steps are written with the history of χ, z, φ(h): none is ever updated."""
    data, eta, T = problem(c=c, loss=loss), 0.7, 1.3
    sgd = SGD(lr=eta, steps=3, batch_size=4)
    result = fit(data, ResNet(horizon=T), sgd, seed=5)
    w = stacked(ResNet(), seed=5, c=c).run(0)
    U, v, W = w.input, w.readout, [m / math.sqrt(n) for m in w.hidden]
    x, y, a = torch.tensor(data.x), torch.tensor(data.y), math.sqrt(T / L)
    past = []  # per step: rows, χ/B, h_l, z_l

    def sums(term):
        return sum((term(i, q, h, z) for i, q, h, z in past), torch.zeros(()))

    batches = list(sgd.batches(data.samples, 5))
    for k in range(4):
        zx = sums(lambda i, q, h, z: x @ x[i].T @ torch.einsum("pc,pcn->pn", q, z[0][i]) / d)
        h = [x @ U.T / math.sqrt(d) - eta * zx]
        for b in range(L):
            phi = torch.tanh(h[b])

            def drift(i, q, old, z, b=b, phi=phi):
                kernel = phi @ torch.tanh(old[b][i]).T / n
                return kernel @ torch.einsum("pc,pcn->pn", q, z[b + 1][i])

            h.append(h[b] + a * phi @ W[b].T - a * a * eta * sums(drift))
        v_k = v - eta * sums(lambda i, q, h, z: h[L][i].T @ q)
        f = h[L] @ v_k / n
        np.testing.assert_allclose(f, result.train_outputs[0, k], rtol=1e-12, atol=1e-12)
        if k == 3:
            break
        z = [v_k.T.expand(len(x), c, n)]
        for b in reversed(range(L)):
            above = z[0]

            def back(i, q, old, zs, b=b, above=above):
                g = torch.einsum("pc,pcn->pn", q, zs[b + 1][i])
                return (above @ g.T / n) @ torch.tanh(old[b][i])

            slope = 1 - torch.tanh(h[b])[:, None] ** 2
            z.insert(0, above + slope * (a * above @ W[b] - a * a * eta * sums(back)))
        rows = batches[k]
        past.append((rows, chi(loss, f, y)[rows] / len(rows), h, z))


@pytest.mark.parametrize(
    ("network", "sgd"),
    [
        (ResNet(), SGD(lr=0.5, steps=4)),
        (ResNet("gelu", block_layers=2, scheme="depth-mup-corrected"), SGD(0.3, 4, batch_size=4)),
        (ResNet("relu", block_layers=3), SGD(0.3, 4, momentum=0.9, weight_decay=0.2)),
        (ResNet(torch.sin, skip=False), SGD(0.3, 4, train=("input", "readout"), batch_size=1)),
        (ResNet(scheme="ntk"), SGD(0.3, 4, schedule=[1, 0.5, 0, 2], weight_decay=0.1)),
        (ResNet(), SGD(0.3, 4, schedule=lambda k: 1 / (k + 1), momentum=0.5, train=("hidden",))),
    ],
)
def test_equals_an_ordinary_loop(network, sgd):
    data = problem()
    result = fit(data, network, sgd, seed=3, seeds=2)
    expected = loop(network.module(n, L, 3, inputs=d, dtype=f64), data, sgd, 3)
    np.testing.assert_allclose(result.train_outputs[0], expected, rtol=1e-12, atol=1e-12)
    assert not np.allclose(result.train_outputs[1], expected)


@given(st.integers(1, 5), st.sampled_from(["reused", "independent"]), st.integers(0, 10**12))
@settings(max_examples=10, deadline=None)
def test_runs_depend_on_neither_count_nor_chunks(seeds, coupling, seed):
    data = problem()
    kw = {"coupling": coupling, "seed": seed}
    all_of_them = fit(data, seeds=5, **kw)
    need = dense_bytes(data, ResNet(), SGD(0.3, 3), n, L, f64, coupling=coupling, seeds=seeds)
    shared, one = sum(need.shared.values()), sum(need.one.values())
    for memory in (None, shared + one, shared + 2.5 * one):
        some = fit(data, seeds=seeds, memory=memory, **kw)
        for a, b in (
            (some.train_outputs, all_of_them.train_outputs),
            (some.test_loss, all_of_them.test_loss),
        ):
            np.testing.assert_allclose(a, b[:seeds], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("k", [1, 2])
def test_independent_coupling_by_hand(k):
    """Two matrices a layer: explicit backward pass, the same learned update added to both."""
    network = ResNet(block_layers=k, gain=1.2)
    data, eta, mu, lam = problem(c=2), 0.4, 0.8, 0.1
    sgd = SGD(eta, 4, momentum=mu, weight_decay=lam)
    result = fit(data, network, sgd, coupling="independent", seeds=2, seed=1)
    x, y = torch.tensor(data.x), torch.tensor(data.y)
    alpha, gain = network.branch(L), 1.2 / math.sqrt(n)
    c = [network.rate_factor(j, L) for j in range(k)]
    for s in range(2):
        w = stacked(network, 2, 1, True, c=2).run(s)
        U, v, forth, back = w.input, w.readout, list(w.hidden), list(w.backward)
        own = [U, v, *forth, *back]
        buffers = [torch.zeros_like(p) for p in own]
        for step in range(5):
            h, kept = x @ U.T / math.sqrt(d), []
            for b in range(L):
                a = torch.tanh(h) if k == 1 else h
                u = a
                for j in range(k):
                    a = a if j == 0 else torch.tanh(u)
                    u_before = h if j == 0 else u
                    u = gain * a @ forth[b * k + j].T
                    kept.append((u_before, a))
                h = h + alpha * u
            f = h @ v / n
            np.testing.assert_allclose(f, result.train_outputs[s, step], rtol=1e-12, atol=1e-12)
            q = (f - y) / len(x)
            g = q @ v.T / n
            gv, gw = h.T @ q / n, [None] * (L * k)
            for b in reversed(range(L)):
                gu = alpha * g
                for j in reversed(range(k)):
                    before, a = kept[b * k + j]
                    gw[b * k + j] = gain * gu.T @ a
                    gu = gain * gu @ back[b * k + j]
                    if j or k == 1:
                        gu = gu * (1 - torch.tanh(before) ** 2)
                g = g + gu
            grads = [g.T @ x / math.sqrt(d), gv, *gw, *gw]
            rates = [1, 1, *c * L, *c * L]
            for i, (grad, r) in enumerate(zip(grads, rates, strict=True)):
                full = grad + lam / (n * r) * own[i]
                buffers[i] = full if step == 0 else mu * buffers[i] + full
                own[i] = own[i] - eta * n * r * buffers[i]
            U, v, forth, back = own[0], own[1], own[2 : 2 + L * k], own[2 + L * k :]


@pytest.mark.parametrize("scheme", ["ntk", "depth-mup", "completep"])
def test_decay_multiplies_every_weight(scheme):
    """Zero targets and a zero readout: no gradient, only W ← (1 − ηλ_k)W."""
    network = ResNet(block_layers=2, scheme=scheme)
    net = network.module(n, L, inputs=d, dtype=f64)
    with torch.no_grad():
        net.readout.zero_()
        net.input.zero_()
    before = [w.clone() for w in net.hidden]
    data = Problem(np.ones((2, d)), np.zeros((2, 1)))
    loop(net, data, SGD(0.5, 3, weight_decay=0.1))
    for w, w0 in zip(net.hidden, before, strict=True):
        torch.testing.assert_close(w.detach(), 0.95**3 * w0.detach(), rtol=1e-13, atol=0)


@pytest.mark.parametrize("dtype", ["float64", torch.float32])
def test_centred_outputs_start_at_zero(dtype):
    data = problem(c=3)
    result = fit(data, sgd=SGD(0.3, 1, center=True), width=40, dtype=dtype, seeds=2)
    assert np.abs(result.train_outputs[:, 0]).max() < (1e-14 if dtype == "float64" else 1e-6)
    assert np.abs(result.test_outputs[:, 0]).max() > 1e-3
    # linear features of more samples than inputs: H has rank d
    line = fit(data, ResNet("identity"), SGD(0.3, 0, center=True), width=40)
    assert np.abs(line.train_outputs).max() < 1e-13
    with pytest.raises(ValueError, match="center=True with 6 samples needs width >= 24, width=23"):
        fit(data, sgd=SGD(center=True), width=23)


@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_diverging_run_leaves_the_others_alone(batch, momentum):
    data = problem()
    request = Measure(QUANTITIES, steps=(0, 5, -1))
    for lr in (3.0, 30.0, 3e4):
        sgd = SGD(lr, 40, batch_size=batch, momentum=momentum)
        together = fit(data, ResNet("relu"), sgd, seeds=4, measure=request, record_every=3)
        for s in range(4):
            k = together.diverged[s]
            rows = together.steps >= k if k >= 0 else np.zeros(len(together.steps), bool)
            for name in ("train_loss", "test_loss", "train_accuracy", "train_outputs"):
                nan = np.isnan(getattr(together, name)[s].reshape(len(rows), -1)).all(1)
                assert (nan == rows).all()
            late = together.measured_steps >= k if k >= 0 else np.zeros(3, bool)
            for value in together.measures.values():
                assert (np.isnan(value[s].reshape(3, -1)).all(1) == late).all()
    assert (together.diverged > 0).all()


def test_divergence_of_one_seed():
    """A rate at which some seeds survive: they are what they are without the others."""
    data = problem(tests=2)
    sgd = SGD(1.2, 30, momentum=0.5)
    result = fit(data, ResNet("relu"), sgd, seeds=12)
    dead = result.diverged >= 0
    assert 0 < dead.sum() < 12
    s = int(np.flatnonzero(~dead)[0])
    least = dense_bytes(data, ResNet("relu"), sgd, n, L, f64, seeds=s + 1).least
    alone = fit(data, ResNet("relu"), sgd, seeds=s + 1, memory=least)
    np.testing.assert_allclose(alone.train_loss[s], result.train_loss[s], rtol=1e-6)
    assert "DIVERGED" in repr(result)


def jacobian_kernel(network, weights, x):
    """Θ by role, (P, P): Σ over groups (lr/η)·J Jᵀ, mean over outputs."""
    names = ["input", "readout", *[f"hidden{i}" for i in range(len(weights.hidden))]]
    params = [weights.input, weights.readout, *weights.hidden]

    def f(*p):
        return forward(network, Weights(p[0], p[2:], p[1]), x)

    out = dict.fromkeys(("input", "hidden", "readout"), 0.0)
    for name, j in zip(names, torch.autograd.functional.jacobian(f, tuple(params)), strict=True):
        j = j.flatten(2)
        role = "hidden" if name.startswith("hidden") else name
        rate = network.rate(weights.readout.shape[0])
        if role == "hidden":
            rate *= network.rate_factor(int(name[6:]) % network.block_layers, L)
        out[role] = out[role] + rate * torch.einsum("pcw,qcw->pq", j, j) / j.shape[1]
    return out


@pytest.mark.parametrize("scheme", ["ntk", "depth-mup", "depth-mup-corrected", "completep"])
@pytest.mark.parametrize(
    ("k", "skip", "c"), [(1, True, 1), (2, True, 3), (3, True, 1), (2, False, 2)]
)
def test_tangent_kernel_is_the_jacobians(scheme, k, skip, c):
    network = ResNet("gelu", block_layers=k, skip=skip, scheme=scheme, gain=1.3, horizon=0.7)
    data = problem(c=c)
    result = fit(data, network, SGD(0.1, 0), seeds=2, measure=Measure("tangent_kernel", steps=(0,)))
    for s in range(2):
        expected = jacobian_kernel(network, stacked(network, 2, c=c).run(s), torch.tensor(data.x))
        for role, part in expected.items():
            got = result.measures[f"tangent_{role}"][s, 0]
            np.testing.assert_allclose(got, part, rtol=1e-11, atol=1e-12)


def test_measures_are_those_of_the_network():
    network, data = ResNet(), problem(c=2)
    request = Measure(QUANTITIES, times=(0.0, 0.4, 1.0), steps=(-1, 1), particles=4)
    sgd = SGD(0.5, 3, batch_size=4)
    result = fit(data, network, sgd, measure=request, seed=2)
    assert result.measured_steps.tolist() == [1, 3]
    assert result.times.tolist() == [0.0, 0.4, 1.0]
    net = network.module(n, L, 2, inputs=d, outputs=2, dtype=f64)
    x = torch.tensor(data.x)

    def features():
        h = [x @ net.input.T / math.sqrt(d)]
        for w in net.hidden:
            h.append(h[-1] + network.branch(L) * torch.tanh(h[-1]) @ w.T / math.sqrt(n))
        return h, h[-1] @ net.readout / n

    first = [v.detach() for v in features()[0]]
    loop(net, data, sgd, 2)
    h, f = features()
    for at, layer in enumerate((0, 1, 3)):
        z = torch.stack(
            [torch.autograd.grad(n * f[:, c].sum(), h[layer], retain_graph=True)[0] for c in (0, 1)]
        )
        now = h[layer].detach()
        expected = {
            "feature_kernel": now @ now.T / n,
            "activation_kernel": torch.tanh(now) @ torch.tanh(now).T / n,
            "gradient_kernel": (z @ z.mT).mean(0) / n,
            "movement": (now - first[layer]).square().mean(1).sqrt(),
            "particles": now[:, :4],
        }
        for name, value in expected.items():
            np.testing.assert_allclose(result.measures[name][0, 1, at], value, rtol=1e-11)


def test_backward_features_of_the_independent_coupling():
    """z_0 = (1 + a·W_bᵀ)…v for the identity, whatever the forward weights are."""
    network = ResNet("identity")
    w = stacked(network, independent=True, c=2).run(0)
    x = torch.randn(4, d, dtype=f64)
    snapshot = take(network, w, x, Measure("gradient_kernel", times=(0.0,)))
    z = w.readout.T
    for m in reversed(w.backward):
        z = z + network.branch(L) * z @ m / math.sqrt(n)
    torch.testing.assert_close(snapshot.z[0], z.expand(4, 2, n), rtol=1e-12, atol=1e-12)


def test_recording():
    data = problem(c=3, loss="cross_entropy")
    calls = []
    result = fit(
        data,
        sgd=SGD(0.1, 5, schedule=lambda k: 1.0),
        record_every=2,
        seeds=3,
        progress=lambda **kw: calls.append(kw),
    )
    whole = fit(data, sgd=SGD(0.1, 5), seeds=3)
    assert result.steps.tolist() == [0, 2, 4, 5]
    np.testing.assert_array_equal(result.train_outputs, whole.train_outputs[:, [0, 2, 4, 5]])
    np.testing.assert_array_equal(result.test_accuracy, whole.test_accuracy[:, [0, 2, 4, 5]])
    assert result.train_outputs.shape == (3, 4, 6, 3)
    assert result.test_outputs.shape == (3, 4, 3, 3)
    assert [(c["step"], c["steps"], c["seeds"]) for c in calls] == [
        (k, 5, range(3)) for k in range(1, 6)
    ]
    assert calls[2]["loss"] == pytest.approx(whole.train_loss[:, 2].mean())
    assert result.info["kind"] == "train"
    assert result.info["parameters_bytes"] == 8 * (n * d + 3 * n + L * n * n)
    json.dumps(result.info)
    none = fit(data, sgd=SGD(steps=0))
    assert none.steps.tolist() == [0]
    single = fit(data, dtype=torch.float32, seeds=3, sgd=SGD(0.1, 5))
    np.testing.assert_allclose(single.train_loss, whole.train_loss, rtol=1e-4)


def test_save_and_load(tmp_path):
    result = fit(problem(), measure=Measure(QUANTITIES))
    again = Trajectory.load(result.save(tmp_path / "run.safetensors"))
    np.testing.assert_array_equal(again.train_loss, result.train_loss)
    np.testing.assert_array_equal(again.tangent_kernel(), result.tangent_kernel())


@pytest.mark.parametrize(
    ("kw", "error", "message"),
    [
        ({"coupling": "reuse"}, ValueError, "did you mean 'reused'"),
        ({"dtype": "float16"}, ValueError, "dtype='float16'"),
        ({"dtype": torch.bfloat16}, ValueError, "dtype='bfloat16'"),
        ({"width": 0}, ValueError, "width=0"),
        ({"depth": 0}, ValueError, "depth=0"),
        ({"seeds": 0}, ValueError, "seeds=0"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"record_every": 0}, ValueError, "record_every=0"),
        ({"measure": "movement"}, TypeError, "measure='movement' is not a Measure"),
        ({"network": "resnet"}, TypeError, "build='resnet' .*a plan or a ResNet"),
        ({"sgd": 0.1}, TypeError, "sgd=0.1 is not a SGD"),
        ({"sgd": SGD(batch_size=7)}, ValueError, "batch_size=7 is larger"),
        ({"measure": Measure(steps=(4,))}, ValueError, "steps=4 is outside"),
        ({"memory": 0}, ValueError, "memory=0"),
        ({"memory": 5000}, MemoryError, r"width=12 and depth=3 needs [\d,]+ bytes .* less width"),
        ({"width": 10**7}, MemoryError, "width=10000000"),
    ],
)
def test_bad_arguments(kw, error, message):
    with pytest.raises(error, match=message):
        fit(problem(), **kw)
