"""What every layer does to the stream itself: activations, norms and dropout between sums."""

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import leadline as ll

X = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))


class Layer(nn.Module):
    def __init__(self, n, step, branches):
        super().__init__()
        self.ends = nn.ModuleList(
            nn.Sequential(nn.Linear(n, n), nn.ReLU(), nn.Linear(n, n)) for _ in range(branches)
        )
        self.layer_norm, self.batch_norm = nn.LayerNorm(n), nn.BatchNorm1d(n)
        self.dropout, self.step = nn.Dropout(0.1), step

    def forward(self, h):
        for end in self.ends:
            h = self.step(self, h, end(h))
        return h


class Net(nn.Module):
    def __init__(self, n, depth, step, branches=1):
        super().__init__()
        self.stem, self.head = nn.Linear(8, n), nn.Linear(n, 3)
        self.layers = nn.ModuleList(Layer(n, step, branches) for _ in range(depth))
        for layer in self.layers:
            if step.__name__ != "layer_norm":
                layer.layer_norm = None
            if step.__name__ != "batch_norm":
                layer.batch_norm = None

    def forward(self, x):
        h = self.stem(x)
        for layer in self.layers:
            h = layer(h)
        return self.head(h)


def step(name, f):
    f.__name__ = name
    return f


KEEPS = {
    "none": step("none", lambda s, h, y: h + y),
    "relu": step("relu", lambda s, h, y: F.relu(h + y)),
    "leaky relu": step("leaky", lambda s, h, y: F.leaky_relu(h + y)),
    "hardtanh": step("hardtanh", lambda s, h, y: F.hardtanh(h + y)),
    "layer norm": step("layer_norm", lambda s, h, y: s.layer_norm(h + y)),
    "batch norm": step("batch_norm", lambda s, h, y: s.batch_norm(h + y)),
    "a reading of the stream": step("reading", lambda s, h, y: h + y * F.silu(h)),
    "dropout of the branch": step("dropout", lambda s, h, y: F.relu(h + s.dropout(y))),
}
LOSES = {
    "gelu": step("gelu", lambda s, h, y: F.gelu(h + y)),
    "silu before the sum": step("silu", lambda s, h, y: F.silu(h) + y),
    "tanh": step("tanh", lambda s, h, y: torch.tanh(h + y)),
    "sigmoid, which tends to a number": step("sigmoid", lambda s, h, y: torch.sigmoid(h + y)),
    "a norm and a relu": step("layer_norm", lambda s, h, y: F.relu(s.layer_norm(h + y))),
    "a norm on the skip and a relu": step(
        "batch_norm", lambda s, h, y: F.relu(s.batch_norm(h) + y)
    ),
    "softplus": step("softplus", lambda s, h, y: F.softplus(h + y)),
}


def planned(f, depth=2, branches=1, **how):
    build = functools.partial(Net, step=f, branches=branches)
    return ll.plan(build, dict(width=16, depth=depth), dict(width=16, depth=64), inputs=X, **how)


@pytest.mark.parametrize("name", KEEPS)
@pytest.mark.parametrize(("depth", "branches"), [(1, 1), (2, 2)])
def test_what_does_nothing_a_second_time_is_planned(name, depth, branches):
    plan = planned(KEEPS[name], depth, branches)
    assert len(plan.branches) == branches


@pytest.mark.parametrize("name", LOSES)
@pytest.mark.parametrize(("depth", "branches"), [(1, 1), (2, 2)])
def test_what_changes_the_stream_again_and_again_is_refused_over_depth(name, depth, branches):
    with pytest.raises(ValueError, match=r"changes the stream in every layer again.*scheme='mup'"):
        planned(LOSES[name], depth, branches)
    planned(LOSES[name], depth, branches, scheme="mup")


def test_dropout_and_noise_of_the_stream_are_refused_over_depth():
    for f in (lambda s, h, y: s.dropout(h + y), lambda s, h, y: h + 0.1 * torch.randn_like(h) + y):
        with pytest.raises(
            ValueError, match=r"draws random numbers for the stream itself in every"
        ):
            planned(step("drawn", f))


@pytest.mark.parametrize(("steps", "low", "high"), [(KEEPS, 0.0, 0.06), (LOSES, 0.2, 1e9)])
def test_a_deeper_network_makes_something_else_where_it_is_refused_and_nowhere_else(
    steps, low, high
):
    # Branches divided by the depth; a network of 128 layers beside one of 16.
    def reads(f, depth):
        torch.manual_seed(0)
        model = Net(32, depth, f).eval()
        for layer in model.layers:
            if layer.batch_norm is not None:
                layer.batch_norm.train()
            for end in layer.ends:
                for p in end[-1].parameters():
                    p.data.div_(depth)
        seen = []
        model.head.register_forward_pre_hook(lambda m, x: seen.append(x[0]))
        model(X)
        return seen[0].detach().flatten().sort().values

    for name, f in steps.items():
        few, more = reads(f, 16), reads(f, 128)
        apart = float((few - more).norm() / few.std() / len(few) ** 0.5)
        assert low <= apart < high, (name, apart)


def test_a_very_small_stream_that_norms_bring_to_size_is_planned():
    def small(n, depth):
        model = Net(n, depth, KEEPS["layer norm"])
        for p in model.stem.parameters():
            nn.init.normal_(p, std=1e-6)
        return model

    plan = ll.plan(small, dict(width=16, depth=2), dict(width=16, depth=64), inputs=X)
    assert len(plan.branches) == 1


class Stages(nn.Module):
    """Layers of two widths with a pool between: what is there once, at any depth, is no layer's."""

    def __init__(self, n, depth):
        super().__init__()
        self.stem, self.head = nn.Linear(8, n), nn.Linear(n, 3)
        none = KEEPS["none"]
        self.stages = nn.ModuleList(
            nn.ModuleList(Layer(n, none, 1) for _ in range(depth)) for _ in range(3)
        )
        for stage in self.stages:
            for layer in stage:
                layer.layer_norm = layer.batch_norm = None

    def forward(self, x):
        h = self.stem(x)
        for stage in self.stages:
            for layer in stage:
                h = layer(h)
            h = torch.tanh(h)
        return self.head(h)


def test_what_there_is_once_between_stages_is_planned():
    plan = ll.plan(Stages, dict(width=16, depth=2), dict(width=16, depth=64), inputs=X)
    assert len(plan.branches) == 3
