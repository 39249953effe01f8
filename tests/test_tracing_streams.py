"""Only sums of a stream that grows with depth end branches: a skip inside a block is no second branch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import leadline as ll
from coordinates import contribution, net, slopes
from survey_models import read_model
from tracing_models import TwoLayers

X = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    """A norm, those of the linear layers a … d and o and of a gain that ``run`` names, or ``names``;
    ``run`` adds to the stream."""

    def __init__(self, n, run, names=None):
        super().__init__()
        self.run, self.norm = run, nn.LayerNorm(n)
        names = names or run.__code__.co_names
        for name in set("abcdo").intersection(names):
            setattr(self, name, nn.Linear(n, n, bias=False))
        if "gain" in names:
            self.gain = nn.Parameter(torch.ones(n))

    def forward(self, h):
        return self.run(self, h, self.norm(h))


def block(run, names=None):
    return net(lambda n, k: Block(n, run, names))


def folds(build, width=16, depth=2, deep=32, **how):
    """By name of a block's weights: their multiplier at 16 times the depth."""
    plan = ll.plan(
        build, dict(width=width, depth=depth), dict(width=width, depth=deep), inputs=X, **how
    )
    f = {n: factors.fold for n, factors in plan.factors().items()}
    return {n: f.get(f"blocks.0.{n}.weight", 1.0) for n in "abcdo"}, plan


def heads(t):
    return t.unflatten(-1, (-1, 8)).transpose(1, 2)


def attend(q, k, v):
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)


def splits(s, h, y):
    """Each group of channels sees what the one before became (hierarchical residuals)."""
    first, second = s.a(y).chunk(2, -1)
    second = F.pad(second, (0, first.shape[-1])) + s.b(F.pad(first, (0, first.shape[-1])))
    return h + s.o(second)


def local(s, h, y):
    """Attention to values that a depthwise path is added to, and its output to that path again."""
    q, k, v = heads(s.a(y)), heads(s.b(y)), y + s.c(y)
    return h + s.o(attend(q, k, heads(v)) + s.d(v))


def dense(s, h, y):
    """Every layer sees the sum of all before it."""
    one = torch.relu(s.a(y))
    two = torch.relu(s.b(y + one))
    return h + s.o(torch.relu(s.c(y + one + two)))


def gated(s, h, y):
    """A state-space block's skip with a gain per channel, and its gate."""
    u = s.a(y)
    return h + s.o((torch.tanh(s.b(u)) * u + u * s.gain) * F.silu(s.c(y)))


INSIDE = {
    "one skip": lambda s, h, y: h + s.o(y + s.b(torch.relu(s.a(y)))),
    "its activation last": lambda s, h, y: h + s.o((u := s.a(y)) + F.gelu(s.b(u))),
    "a deep inner path": lambda s, h, y: h + s.o(
        y + s.d(torch.relu(s.c(torch.relu(s.b(torch.relu(s.a(y)))))))),
    "two in a row": lambda s, h, y: h + s.o((u := y + s.b(torch.relu(s.a(y)))) + s.d(F.gelu(s.c(u)))),
    "one in the other": lambda s, h, y: h + s.o(y + s.c((u := torch.relu(s.a(y))) + s.b(u))),
    "from the stream itself": lambda s, h, y: h + s.o(torch.relu(h + s.b(torch.relu(s.a(y))))),
    "splits": splits, "local attention": local, "dense": dense, "a gain's skip": gated,
}  # fmt: skip


@pytest.mark.parametrize("name", INSIDE)
def test_a_skip_inside_a_block_is_no_branch(name):
    found, plan = folds(block(INSIDE[name]))
    assert found == {"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0, "o": 1 / 16}
    x = torch.randn(4, 6, 16, dtype=torch.float64)
    for depth in (4, 16):
        planned, plain = contribution(plan, block(INSIDE[name]), depth, x)
        torch.testing.assert_close(planned, plain * 2 / depth, rtol=1e-10, atol=1e-14)


def test_positions_count_the_longest_path():
    _, plan = folds(block(INSIDE["a deep inner path"]))
    places = {
        k.template[9:]: (k.position, k.layers, k.last) for k in plan.kinds if k.position is not None
    }
    assert places["a.weight"] == (0, 5, False)
    assert places["d.weight"] == (3, 5, False)
    assert places["o.weight"] == (4, 5, True)
    # SGD's rate of an inner layer is r in every one of them.
    sgd = folds(block(INSIDE["a deep inner path"]), optimizer="sgd")[1].factors()
    assert [sgd[f"blocks.0.{n}.weight"].lr for n in "abcdo"] == [16.0] * 4 + [1 / 16]


def test_parallel_and_sequential_branches_take_one_each():
    def parallel(s, h, y):
        return h + s.b(torch.relu(s.a(y))) + s.d(torch.relu(s.c(y)))

    def sequential(s, h, y):
        h = h + s.b(torch.relu(s.a(y)))
        return h + s.d(torch.relu(s.c(s.norm(h) * s.gain)))

    def second_with_a_skip(s, h, y):
        h = h + s.b(torch.relu(s.a(y)))
        return h + s.o(h + torch.relu(s.c(torch.tanh(h))))

    def grouped(s, h, y):
        return h + (s.b(torch.relu(s.a(y))) + s.d(torch.relu(s.c(y))))

    assert folds(block(parallel))[0] | {"o": 1} == {
        "a": 1,
        "b": 1 / 16,
        "c": 1,
        "d": 1 / 16,
        "o": 1,
    }
    assert folds(block(grouped))[0] | {"o": 1} == {"a": 1, "b": 1 / 16, "c": 1, "d": 1 / 16, "o": 1}
    assert folds(block(second_with_a_skip))[0] == {"a": 1, "b": 1 / 16, "c": 1, "d": 1, "o": 1 / 16}
    shared = {n: dict(role="vector", branch=False) for n in ("*.norm.*", "*.gain")}
    found = folds(block(sequential), roles=shared)[0]
    assert found | {"o": 1} == {"a": 1, "b": 1 / 16, "c": 1, "d": 1 / 16, "o": 1}


class Stage(nn.Module):
    """A skip around residual blocks, with a layer behind them."""

    def __init__(self, n, count):
        super().__init__()
        run = lambda s, h, y: h + s.o(torch.relu(s.a(y)))  # noqa: E731
        self.inner = nn.ModuleList(Block(n, run) for _ in range(count))
        self.last = nn.Linear(n, n, bias=False)

    def forward(self, h):
        y = h
        for b in self.inner:
            y = b(y)
        return h + self.last(y)


def test_a_skip_around_blocks():
    """What grows with depth is the stream: blocks in a fixed number of stages, or stages of fixed size."""

    def deeper_stages(n, depth):
        model = net(lambda n, k: Stage(n, depth))(n, 2)
        model.stages = model.blocks
        return model

    plan = ll.plan(deeper_stages, dict(width=16, depth=2), dict(width=16, depth=8), inputs=X)
    f = plan.factors()
    assert f["blocks.0.inner.5.o.weight"].fold == f["blocks.1.inner.0.o.weight"].fold == 1 / 4
    assert f["blocks.0.last.weight"].fold == f["blocks.0.inner.5.a.weight"].fold == 1.0

    more_stages = net(lambda n, k: Stage(n, 2))
    plan = ll.plan(more_stages, dict(width=16, depth=2), dict(width=16, depth=8), inputs=X)
    f = plan.factors()
    assert f["blocks.5.last.weight"].fold == 1 / 4
    assert f["blocks.5.inner.1.o.weight"].fold == f["blocks.5.inner.0.a.weight"].fold == 1.0
    x = torch.randn(3, 6, 16, dtype=torch.float64)
    planned, plain = contribution(plan, more_stages, 8, x)
    torch.testing.assert_close(planned, plain / 4, rtol=1e-10, atol=1e-14)


def test_a_block_that_ends_in_its_inner_sum():
    """What the sum is made of takes the multiplier, if the inner branch scales with what goes in."""
    build = block(lambda s, h, y: h + (y + s.b(torch.relu(s.a(y)))))
    by_name, plan = folds(build)
    assert set(by_name.values()) == {1.0}
    assert (
        plan.factors()["blocks.3.norm.weight"].fold
        == plan.factors()["blocks.3.norm.bias"].fold
        == 1 / 16
    )
    x = torch.randn(3, 6, 16, dtype=torch.float64)
    planned, plain = contribution(plan, build, 32, x)
    torch.testing.assert_close(planned, plain / 16, rtol=1e-6, atol=1e-9)
    with pytest.raises(ValueError, match=r"ends in 'add'.*no weight that acts on it alone"):
        folds(block(lambda s, h, y: h + (y + s.b(torch.tanh(s.a(y))))))


STEP = {
    "layer": lambda s, u, name: torch.relu(getattr(s, name)(u)),
    "skip": lambda s, u, name: u + torch.relu(getattr(s, name)(u)),
    "last skip": lambda s, u, name: torch.tanh(u) + getattr(s, name)(u),
    "gate": lambda s, u, name: u * torch.sigmoid(getattr(s, name)(u)),
}


@settings(max_examples=5, deadline=None)
@given(st.lists(st.sampled_from(sorted(STEP)), min_size=1, max_size=4))
def test_whatever_lies_inside_a_block_it_adds_in_proportion_to_its_multiplier(steps):
    def run(s, h, y):
        for name, step in zip("abcd", steps, strict=False):
            y = STEP[step](s, y, name)
        return h + s.o(y)

    build = block(run, ["o", *"abcd"[: len(steps)]])
    plan = ll.plan(build, dict(width=8, depth=2), inputs=X)
    x = torch.randn(4, 6, 8, dtype=torch.float64)
    planned, plain = contribution(plan, build, 8, x)
    torch.testing.assert_close(planned, plain / 4, rtol=1e-10, atol=1e-14)


def test_coordinates_over_depth():
    """Outputs and their first change keep their size over depth; with 1/r twice, b's would fall as 1/L."""
    build = block(INSIDE["one skip"])
    plan = ll.plan(build, dict(width=32, depth=2), inputs=X)
    found = slopes(plan, build, X, depths=(2, 4, 8, 16))
    for name in ("blocks.0.a", "blocks.0.b", "head", ""):
        size, change = found[name]
        # Three draws: the size of an output of 5 coordinates scatters by a fifth.
        assert abs(size) < (0.1 if name.startswith("blocks") else 0.25), (name, size)
        assert abs(change) < 0.2, (name, change)


class Sampled(nn.Module):
    """An autoencoder whose code is drawn: one sum of two layers, at any depth."""

    def __init__(self, n, depth):
        super().__init__()
        self.first, self.mean, self.log = nn.Linear(8, n), nn.Linear(n, 4), nn.Linear(n, 4)
        self.decode, self.last = nn.Linear(4, n), nn.Linear(n, 8)
        self.blocks = nn.ModuleList(Block(n, lambda s, h, y: h + s.o(y)) for _ in range(depth))

    def forward(self, x):
        h = self.first(x)
        mean, log = self.mean(h), self.log(h)
        h = self.decode(mean + torch.randn_like(mean) * log.exp())
        for block in self.blocks:
            h = block(h)
        return self.last(h)


def test_one_sum_of_two_layers_is_no_branch():
    plan = ll.plan(Sampled, dict(width=16, depth=2), dict(width=16, depth=32), inputs=X)
    factors = plan.factors()
    assert {n for n, f in factors.items() if f.fold != 1} == {
        f"blocks.{k}.o.weight" for k in range(32)
    }
    roles = {k.template: k.role for k in plan.kinds}
    assert (roles["mean.weight"], roles["log.weight"]) == ("readout", "readout")


def test_sums_of_two_layers_in_every_layer_have_a_remedy_that_keeps_roles():
    build = block(lambda s, h, y: s.a(torch.relu(h)) + s.b(h))
    with pytest.raises(ValueError, match="which is the residual branch") as e:
        folds(build)
    pattern = str(e.value).split("roles={'")[1].split("'")[0]
    assert "dict(branch=False)}, or give scheme=" in str(e.value)
    taken, plan = folds(build, roles={pattern: dict(branch=False)})
    assert {n for n, fold in taken.items() if fold != 1} == {"a", "b"} - {pattern.split(".")[-2]}
    assert {k.role for k in plan.kinds if k.template == pattern} == {"hidden"}


class Coupled(nn.Module):
    """Two streams, each of which reads the other, as in RevNet and Reformer."""

    def __init__(self, n, depth):
        super().__init__()
        self.i, self.o = nn.Linear(8, n, bias=False), nn.Linear(2 * n, 4, bias=False)
        self.f, self.g = (nn.ModuleList(TwoLayers(n) for _ in range(depth)) for _ in "fg")

    def forward(self, x):
        one = two = self.i(x)
        for f, g in zip(self.f, self.g, strict=True):
            one = one + f.branch(two)
            two = two + g.branch(one)
        return self.o(torch.cat([one, two], -1))


def test_streams_that_read_each_other_have_branches_of_their_own():
    s, kinds = read_model(Coupled, inputs=X)
    assert s.branches == {"f.*": 2, "g.*": 2}
    for name in "fg":
        assert (kinds[f"{name}.*.a.weight"].position, kinds[f"{name}.*.b.weight"].last) == (0, True)
    plan = ll.plan(Coupled, dict(width=16, depth=2), dict(width=64, depth=8), inputs=X,
                   scheme="completep")  # fmt: skip
    factors = plan.factors()
    assert {factors[f"{n}.{k}.b.weight"].fold for n in "fg" for k in range(8)} == {0.25}
    assert {factors[f"{n}.{k}.a.weight"].lr for n in "fg" for k in range(8)} == {0.25}


class Collected(nn.Module):
    """Every layer adds what it makes of the stream to the output, as the trends of Autoformer."""

    def __init__(self, n, depth):
        super().__init__()
        self.i, self.blocks = nn.Linear(8, n, bias=False), nn.ModuleList()
        self.o = nn.Linear(n, 8, bias=False)
        for _ in range(depth):
            block = TwoLayers(n)
            block.norm, block.out = nn.LayerNorm(n), nn.Linear(n, 8, bias=False)
            self.blocks.append(block)

    def forward(self, x):
        h = self.i(x)
        for block in self.blocks:
            y = block(h)
            x, h = x + block.out(y), block.norm(y)
        return x + self.o(h)


def test_what_every_layer_adds_to_the_output_is_a_branch_of_the_output():
    s, kinds = read_model(Collected, inputs=X)
    assert s.branches["blocks.*"] == 2
    assert kinds["blocks.*.a.weight"].position == 0
    assert kinds["blocks.*.norm.weight"].beside
