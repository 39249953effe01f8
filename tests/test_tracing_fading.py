"""Streams that fade or grow by what no branch adds have no rule for depth."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import family_models as models
import leadline as ll
from test_tracing_beyond import factors


def gated(self, h):
    """Half of the stream, half of what a layer makes of it."""
    for k, block in enumerate(self.blocks):
        g = self.gates[k].sigmoid()
        h = (1 - g) * h + g * block.f(block.norm(h))
    return h


def halved(self, h):
    for block in self.blocks:
        h = block(h) / 2**0.5
    return h


def normed(self, h):
    """As DeepNorm: a norm behind each sum takes the stream's size."""
    for block in self.blocks:
        h = F.layer_norm(1.5 * h + block.f(block.norm(h)), h.shape[-1:])
    return h


def with_gates(self, n, depth):
    self.gates = nn.ParameterList(nn.Parameter(torch.zeros(())) for _ in range(depth))


@pytest.mark.parametrize(
    ("run", "factor"),
    [(gated, "0.5"), (halved, "0.707"), (normed, None)],
    ids=lambda x: str(x)[:12],
)
def test_a_stream_that_fades_has_no_rule_for_depth(run, factor):
    build = models.net(run, with_gates if run is gated else lambda self, n, depth: None)
    if factor is None:
        assert factors(build)[1]["blocks.5.f.2.weight"].fold == 0.25
        return
    with pytest.raises(
        ValueError, match=rf"multiplies the stream by {factor}, in every layer.*scheme='mup'"
    ):
        factors(build)
    assert factors(build, scheme="mup")[1]["blocks.5.f.2.weight"].fold == 1.0


def added(weight):
    """The beginning is added again in every layer, with a weight: of the layer and the depth."""

    def run(self, h):
        first = h
        for k, block in enumerate(self.blocks):
            h = block(h + weight(self, k, len(self.blocks)) * first)
        return h

    return run


def mixed(self, h):
    first = h
    for block in self.blocks:
        h = block(0.8 * h + 0.2 * first)
    return h


def with_weights(value):
    def more(self, n, depth):
        self.weights = nn.ParameterList(nn.Parameter(value(n, depth)) for _ in range(depth))

    return more


ADDED = {
    "a number": (added(lambda self, k, depth: 0.2), None, "has more in it in every layer"),
    "a parameter": (
        added(lambda self, k, depth: self.weights[k]),
        with_weights(lambda n, depth: torch.tensor(0.2)),
        "has more in it in every layer",
    ),
    "a vector": (
        added(lambda self, k, depth: self.weights[k]),
        with_weights(lambda n, depth: torch.full((n,), 0.2)),
        "has more in it in every layer",
    ),
    "a parameter that begins as one over the depth": (
        added(lambda self, k, depth: self.weights[k]),
        with_weights(lambda n, depth: torch.tensor(0.4 / depth)),
        None,
    ),
    "a parameter that begins with zero": (
        added(lambda self, k, depth: self.weights[k]),
        with_weights(lambda n, depth: torch.zeros(())),
        None,
    ),
    "a mean": (mixed, None, r"multiplies the stream by 0\.8"),
}


@pytest.mark.parametrize("name", ADDED)
def test_what_every_layer_adds_beside_its_branches(name):
    """It grows with depth as the branches would without their multiplier: zero, 1/depth, or a refusal."""
    run, more, message = ADDED[name]
    build = models.net(run, more or (lambda self, n, depth: None))
    if message is None:
        f = factors(build)[1]
        assert f["blocks.5.f.2.weight"].fold == 0.25
        assert all(x.lr == 0.25 for n, x in f.items() if n.startswith("weights"))
        return
    with pytest.raises(ValueError, match=rf"{message}.*scheme='mup'"):
        factors(build)
    assert factors(build, scheme="mup")[1]["blocks.5.f.2.weight"].fold == 1.0


class KeptFirst(nn.Module):
    """A table is computed in the first call and kept; the stream is halved in every layer."""

    def __init__(self, n, depth):
        super().__init__()
        self.embed = nn.Linear(8, n)
        self.layers = nn.ModuleList(nn.Linear(n, n) for _ in range(depth))
        self.head = nn.Linear(n, 4)
        self.table = None

    def forward(self, x):
        if self.table is None:
            self.table = x.detach().cos().sin().exp().mean()
        h = self.embed(x) * self.table
        for layer in self.layers:
            h = (h + layer(torch.relu(h))) * 0.5
        return self.head(h)


def test_a_fading_stream_is_seen_behind_what_a_first_call_keeps():
    with pytest.raises(ValueError, match=r"multiplies the stream by 0\.5"):
        ll.plan(KeptFirst, dict(width=16, depth=2))
