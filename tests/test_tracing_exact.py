"""Plans against what they are derived from: the table of schemes, networks with multipliers, limits."""

import functools

import pytest
import torch
from torch import nn

import leadline as ll
from tracing_models import (
    Attention,
    ConvBlock,
    Own,
    TwoLayers,
    gpt2,
    images,
    llama,
    mixer,
    rms_of_layers,
    sequence,
    two,
)

BASE, TARGET = dict(width=16, depth=2), dict(width=48, depth=6)
SCHEMES = ["ntk", "mup", "depth-mup", "depth-mup-corrected", "completep", "auto"]


def own(layers):
    return functools.partial(Own, layers=layers)


def ratio(f):
    """A quantity of the network at the target over the base."""
    return f(TARGET) / f(BASE)


def factors(network):
    """(init, lr) of U, every position of a block, and v, from the N(0, 1) form's own functions."""
    m, k = TARGET["width"] / BASE["width"], network.block_layers
    rate = ratio(lambda s: network.rate(s["width"]))
    readout = ratio(lambda s: network.readout(s["width"]))
    branch = ratio(lambda s: network.branch(s["depth"]))
    out = {"u": (1.0, rate), "v": (readout * m**0.5, readout**2 * rate)}
    for j in range(k):
        fold = branch if j == k - 1 else 1.0
        c = ratio(lambda s, j=j: network.rate_factor(j, s["depth"]))
        out[j] = fold, fold**2 / m * rate * c
    return out


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_tables_factors(scheme, layers):
    plan = ll.plan(own(layers), BASE, TARGET, scheme, "sgd")
    due = factors(ll.ResNet(scheme=scheme, block_layers=layers))
    found = plan.factors()
    assert len(found) == 2 + TARGET["depth"] * layers
    for name, f in found.items():
        init, lr = due[name[0] if name[0] in "uv" else int(name.split(".")[2])]
        assert f.init == pytest.approx(init, rel=1e-12)
        assert f.lr == pytest.approx(lr, rel=1e-12)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_trains_as_the_network_with_multipliers(scheme, layers):
    """The same weights and data, SGD, in double precision, at a larger width and depth."""
    plan = ll.plan(own(layers), BASE, TARGET, scheme, "sgd")
    n0, n, d, eta = BASE["width"], TARGET["width"], 5, 0.02
    # Multipliers 1 at the base: of branches by the horizon, of the readout by a factor of the output.
    plain = ll.ResNet(scheme=scheme, block_layers=layers)
    network = ll.ResNet(scheme=scheme, block_layers=layers, horizon=plain.branch(2) ** -2)
    scale = n0**-0.5 / network.readout(n0)
    ours = network.module(n, TARGET["depth"], inputs=d, dtype=torch.float64)
    model = Own(n, TARGET["depth"], layers)
    with torch.no_grad():
        model.u.weight.copy_(ours.input / d**0.5)
        model.v.weight.copy_(ours.readout.T / n**0.5)
        hidden = [layer.weight for block in model.blocks for layer in block]
        for w, x in zip(hidden, ours.hidden, strict=True):
            w.copy_(x / n**0.5)
    plan.apply(model)
    here = torch.optim.SGD(plan.param_groups(model, eta), lr=eta)
    q = network.rate(n) / network.rate(n0)
    groups = [{"params": [ours.input], "lr": eta * d * q}]
    groups.append({"params": [ours.readout], "lr": eta * n0 * q})
    for i, x in enumerate(ours.hidden):
        c = network.rate_factor(i % layers, 6) / network.rate_factor(i % layers, 2)
        groups.append({"params": [x], "lr": eta * n0 * q * c})
    there = torch.optim.SGD(groups, lr=eta)
    torch.manual_seed(2)
    x, y = torch.randn(7, d, dtype=torch.float64), torch.randn(7, 1, dtype=torch.float64)
    start = model(x).detach()
    for _ in range(5):
        f, g = model(x), scale * ours(x)
        torch.testing.assert_close(f, g, rtol=1e-10, atol=1e-10)
        for optimizer, out in ((here, f), (there, g)):
            optimizer.zero_grad()
            ((out - y) ** 2).mean().backward()
            optimizer.step()
    assert 0.01 < (model(x) - start).abs().max() < 10


def multiplied(model, modules, factor):
    """Outputs of these modules times a factor."""
    for module in modules:
        module.register_forward_hook(
            lambda m, a, out: (
                (out[0] * factor, *out[1:]) if isinstance(out, tuple) else out * factor
            )
        )
    return model


@pytest.mark.parametrize(("scheme", "s"), [("completep", -1.0), ("depth-mup", -0.5), ("mup", 0.0)])
def test_depth_multiplies_branches_of_a_network(scheme, s):
    torch.manual_seed(1)
    plan = ll.plan(two, dict(width=16, depth=2), dict(width=16, depth=8), scheme)
    model = two(16, 8).double()
    x = torch.randn(4, 10).double()
    h = model.stem(x)
    for block in model.blocks:
        h = h + 4**s * block.branch(h)
    torch.testing.assert_close(plan.apply(model)(x), model.head(h), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("scheme", "s"), [("completep", -1.0), ("depth-mup", -0.5)])
def test_depth_multiplies_branches_of_gpt2(scheme, s):
    torch.manual_seed(1)
    plan = ll.plan(gpt2, dict(width=32, depth=2), dict(width=32, depth=6), scheme)
    x = torch.randint(0, 100, (2, 8))
    model = gpt2(32, 6).double().eval()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    planned = plan.apply(model)(x).logits
    # The builder's own 1/√depth of c_proj gives way to the scheme's multiplier.
    plain = gpt2(32, 6).double().eval()
    plain.load_state_dict(state)
    blocks = [f for b in plain.transformer.h for f in (b.attn, b.mlp)]
    torch.testing.assert_close(
        planned, multiplied(plain, blocks, 3**s * 3**0.5)(x).logits, rtol=1e-12, atol=1e-12
    )


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def tokens(most, *shape):
    return torch.randint(0, most, shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("build", "inputs"),
    [
        (two, normal(64, 10)),
        (gpt2, tokens(100, 4, 16)),
        (llama, tokens(100, 4, 16)),
        (images(ConvBlock), normal(8, 3, 8, 8)),
        (mixer, normal(8, 3, 32, 32)),
        (
            sequence(lambda n: nn.Sequential(Attention(n, n // 16), TwoLayers(n))),
            tokens(50, 4, 8),
        ),
    ],
    ids=["two", "gpt2", "llama", "convolutions", "mixer", "attention"],
)
def test_activations_keep_their_size_over_width(build, inputs):
    """Outputs of every layer but the readout, at the base and at eight times its width.

    One draw at width 32 scatters by up to 12 % (the output of an attention); the mean of
    squares over twelve of them is known to 3.5 %, and differs by O(1/32) besides.
    """
    seen = []
    for width in (32, 256):
        plan = ll.plan(build, dict(width=32, depth=2), dict(width=width, depth=2))
        draws = []
        for seed in range(12):
            torch.manual_seed(seed)
            draws.append(rms_of_layers(plan.apply(build(width, 2)), inputs))
        seen.append({k: (sum(d[k] ** 2 for d in draws) / 12) ** 0.5 for k in draws[0]})
    assert len(seen[0]) > 4
    for name, here in seen[0].items():
        assert seen[1][name] / here == pytest.approx(1, abs=0.15), name
