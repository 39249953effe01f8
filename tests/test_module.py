"""The dense network as a module: its forward pass, rates, and the usual nn.Module behaviours."""

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.architecture import ResNet
from leadline.parametrization.schemes import NAMES
from leadline.recipes.sgd import SGD

f64 = torch.float64

# scheme: branch multiplier, rate of internal layers, rate of the last layer, readout, rate of U, v
# at width 9 and depth 4.
BY_HAND = {
    "ntk": (1 / 2, 1, 1, 1 / 3, 1),
    "mup": (1, 1, 1, 1 / 9, 9),
    "depth-mup": (1 / 2, 1, 1, 1 / 9, 9),
    "depth-mup-corrected": (1 / 2, 2, 1, 1 / 9, 9),
    "completep": (1 / 4, 4, 4, 1 / 9, 9),
}


def module(network=None, n=9, depth=4, **kw):
    kw = {"inputs": 5, "dtype": f64, **kw}
    return (network or ResNet()).module(n, depth, **kw)


@pytest.mark.parametrize("scheme", BY_HAND)
@pytest.mark.parametrize("k", [1, 2, 3])
def test_forward_and_rates_by_hand(scheme, k):
    alpha, internal, last, readout, rate = BY_HAND[scheme]
    network = ResNet("tanh", block_layers=k, scheme=scheme, gain=1.5, horizon=4.0)
    net = module(network, outputs=2)
    x = torch.randn(7, 5, dtype=f64)

    h = x @ net.input.T / math.sqrt(5)
    w = iter(net.hidden)
    for _ in range(4):
        u = torch.tanh(h) if k == 1 else h
        for j in range(k):
            u = (u if j == 0 else torch.tanh(u)) @ next(w).T * 1.5 / 3
        h = h + 2 * alpha * u
    torch.testing.assert_close(net(x), h @ net.readout * readout, rtol=1e-12, atol=1e-13)

    groups = net.param_groups(SGD(lr=0.5, weight_decay=0.1, momentum=0.9))
    rates = [0.5 * rate * c for c in (1, *[internal] * (k - 1), last, 1)]
    assert [g["lr"] for g in groups] == pytest.approx(rates)
    assert [g["lr"] * g["weight_decay"] for g in groups] == pytest.approx([0.05] * len(groups))
    assert {g["momentum"] for g in groups} == {0.9}
    assert sum(len(g["params"]) for g in groups) == len(list(net.parameters()))


def test_without_skip_connections():
    net = module(ResNet("relu", skip=False, gain=math.sqrt(2), scheme="depth-mup-corrected"))
    x = torch.randn(3, 5, dtype=f64)
    h = x @ net.input.T / math.sqrt(5)
    for w in net.hidden:
        h = torch.relu(h) @ w.T * math.sqrt(2) / 3
    torch.testing.assert_close(net(x), h @ net.readout / 9, rtol=1e-12, atol=1e-13)
    assert {g["lr"] for g in net.param_groups(SGD(lr=1.0))} == {9.0}


@given(
    st.sampled_from(NAMES),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from(["identity", "relu", "erf", "gelu", "silu", torch.sin]),
    st.lists(st.integers(1, 3), max_size=3),
)
@settings(max_examples=25, deadline=None)
def test_leading_axes(scheme, k, skip, phi, lead):
    net = module(ResNet(phi, block_layers=k, skip=skip, scheme=scheme), depth=2, outputs=3)
    x = torch.randn(*lead, 5, dtype=f64)
    f = net(x)
    assert f.shape == (*lead, 3)
    rows = net(x.reshape(-1, 5)).reshape(f.shape)
    torch.testing.assert_close(f, rows, rtol=1e-10, atol=1e-12)


def test_draws_depend_on_the_seed_alone():
    a, b, c = module(seed=1), module(seed=1, n=9, depth=2), module(seed=2)
    assert torch.equal(a.hidden[1], b.hidden[1])
    assert torch.equal(a.input, b.input)
    assert not torch.equal(a.input, c.input)
    single = module(seed=1, dtype=None)
    assert single.input.dtype == torch.float32
    assert torch.equal(single.hidden[0].double(), a.hidden[0])
    big = module(n=300)
    entries = torch.cat([w.detach().flatten() for w in big.hidden])
    assert abs(entries.mean()) < 0.01
    assert abs(entries.var() - 1) < 0.01


def test_lazy_input_dimension():
    lazy, eager = module(inputs=None), module()
    copies = [lazy, copy.deepcopy(lazy), pickle.loads(pickle.dumps(lazy)), lazy.float().double()]
    assert "input" in lazy.state_dict()
    with pytest.raises(ValueError, match="inputs=None"):
        lazy.param_groups(SGD())
    x = torch.randn(4, 5, dtype=f64)
    for net in copies:
        assert torch.equal(net(x), eager(x))
    loaded = module(inputs=None, seed=3)
    loaded.load_state_dict(eager.state_dict())
    assert torch.equal(loaded(x), eager(x))
    still = module(inputs=None, seed=3)
    still.load_state_dict(module(inputs=None).state_dict())
    assert torch.equal(still.readout, eager.readout)
    with pytest.raises(ValueError, match=r"x has 4 features .* give \(\*, 5\)"):
        lazy(x[:, :4])


def test_ordinary_module_behaviour():
    net, other = module(), module(seed=1)
    x = torch.randn(4, 5, dtype=f64)
    twin = copy.deepcopy(net)
    assert torch.equal(twin(x), net(x))
    with torch.no_grad():
        twin.input.zero_()
    assert net.input.abs().sum() > 0
    assert torch.equal(pickle.loads(pickle.dumps(net))(x), net(x))
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(x), net(x))
    with pytest.raises(RuntimeError, match="size mismatch"):
        module(inputs=6).load_state_dict(net.state_dict())
    assert net.float()(x.float()).dtype == torch.float32
    assert net.to(f64)(x).dtype == f64
    assert net.to("meta")(x.to("meta")).shape == (4, 1)
    assert "width=9, depth=4" in repr(net)


def test_export():
    net = module(ResNet(block_layers=2))
    x = torch.randn(4, 5, dtype=f64)
    program = torch.export.export(net, (x,))
    torch.testing.assert_close(program.module()(x), net(x), rtol=1e-14, atol=0)


def test_groups_name_trained_roles_only():
    net = module(ResNet(block_layers=2))
    groups = net.param_groups(SGD(train=("hidden",)))
    assert [g["role"] for g in groups] == ["hidden", "hidden"]
    assert [id(p) for p in groups[1]["params"]] == [id(p) for p in list(net.hidden)[1::2]]


@pytest.mark.parametrize(
    ("kw", "error", "message"),
    [
        ({"n": 0}, ValueError, "width=0"),
        ({"depth": 0}, ValueError, "depth=0"),
        ({"depth": 1.5}, TypeError, "depth=1.5"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"inputs": 0}, ValueError, "inputs=0"),
        ({"outputs": 0}, ValueError, "outputs=0"),
    ],
)
def test_bad_arguments(kw, error, message):
    with pytest.raises(error, match=message):
        module(**kw)


def test_weights_that_do_not_fit_are_refused_before_they_are_made():
    for size in (dict(width=8, depth=1, outputs=10**12), dict(width=10**7, depth=2)):
        with pytest.raises(MemoryError, match=r"outputs=\d+ needs .* \(weights .*give less width"):
            ResNet().module(**size)
