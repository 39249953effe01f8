"""Parameters that all layers share: in their branches, in the stream, and behind each for an output."""

from functools import partial, reduce

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import leadline as ll
from leadline.planning.remedies import offered

X = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
Y = torch.randn(16, 5, generator=torch.Generator().manual_seed(1))
BASE, TARGET = dict(width=16, depth=2), dict(width=32, depth=8)


class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(n), nn.Linear(n, n), nn.Linear(n, n)

    def branch(self, h):
        return self.down(torch.relu(self.up(self.norm(h))))

    def forward(self, h, factor=1.0):
        return h + factor * self.branch(h)


class Net(nn.Module):
    """A stem, layers of their own or one for all, a norm and a readout."""

    def __init__(self, n, depth, one=False):
        super().__init__()
        self.depth = depth
        self.stem, self.norm, self.head = nn.Linear(8, n), nn.LayerNorm(n), nn.Linear(n, 5)
        self.blocks = nn.ModuleList(Block(n) for _ in range(1 if one else depth))

    def layers(self):
        return [self.blocks[k % len(self.blocks)] for k in range(self.depth)]

    def forward(self, x, factor=1.0):
        return self.head(self.norm(reduce(lambda h, b: b(h, factor), self.layers(), self.stem(x))))


One = partial(Net, one=True)
"""One block for all layers."""


class After(Net):
    """One block and its norm behind each sum."""

    def __init__(self, n, depth):
        super().__init__(n, depth, one=True)

    def forward(self, x, factor=1.0):
        h, block = self.stem(x), self.blocks[0]
        for _ in range(self.depth):
            h = block.norm(h + factor * block.down(torch.relu(block.up(h))))
        return self.head(h)


class Part(Net):
    """Layers of their own but for the first matrix of each."""

    def __init__(self, n, depth):
        super().__init__(n, depth)
        for block in self.blocks:
            block.up = self.blocks[0].up


class Positions(Net):
    """Every layer reads what one small network makes of the inputs."""

    def __init__(self, n, depth):
        super().__init__(n, depth)
        self.first, self.second = nn.Linear(3, n), nn.Linear(n, n)

    def forward(self, x, factor=1.0):
        h = self.stem(x)
        for k, b in enumerate(self.blocks):
            place = self.second(torch.relu(self.first(x[:, k % 4 : k % 4 + 3])))
            h = h + factor * b.branch(h + place)
        return self.head(self.norm(h))


@pytest.mark.parametrize("build", [One, After, Part, Positions])
def test_branches_of_shared_layers_take_their_multiplier(build):
    plan = ll.plan(build, dict(width=16, depth=2), dict(width=16, depth=8), inputs=X)
    torch.manual_seed(1)
    model = build(16, 8).double()
    there = model(X.double(), factor=1 / 4)
    model = plan.apply(model)
    torch.testing.assert_close(model(X.double()), there, rtol=1e-12, atol=1e-12)


def effect(plan, build, optimizer, names, depth, lr):
    """Root mean square of what one step of some parameters does to the output, behind ten of all.

    Where each layer has matrices of its own behind what is shared, these are independent in the beginning,
    and so is what a step does to each layer; what they learn has a direction.
    """
    total = 0.0
    for seed in range(4):
        torch.manual_seed(seed)
        model = plan.at(32, depth).apply(build(32, depth)).double()
        o = plan.at(32, depth).optimizer(model, lr=100 * lr)
        for _ in range(10):
            o.zero_grad()
            (model(X.double()) - Y).square().mean().backward()
            o.step()
        before = model(X.double())
        o = plan.at(32, depth).optimizer(model, lr=lr)
        o.zero_grad()
        (before - Y).square().mean().backward()
        for name, p in model.named_parameters():
            if not any(part in name for part in names):
                p.grad = None
        o.step()
        total += (model(X.double()) - before).square().mean().item()
    return total**0.5


NAMES = {One: ("up", "down", "blocks.0.norm"), After: ("blocks.0.norm",), Part: ("blocks.0.up",),
         Positions: ("first", "second")}  # fmt: skip


@pytest.mark.parametrize(
    ("build", "optimizer", "lr"),
    [
        *((b, o, lr) for b in NAMES for o, lr in (("adamw", 1e-4), ("lion", 1e-5))),
        (One, "sgd", 3e-4),
        (After, "sgd", 3e-4),
    ],
)
def test_a_step_of_what_layers_share_does_the_same_at_any_depth(build, optimizer, lr):
    """Left as it is, a step goes as the depth (or its square, for gradients)."""
    plan = ll.plan(build, dict(width=32, depth=4), optimizer=optimizer, inputs=X)
    depths = np.array([8, 16, 32, 64])
    seen = [effect(plan, build, optimizer, NAMES[build], int(L), lr) for L in depths]
    slope = np.polyfit(np.log(depths), np.log(seen), 1)[0]
    assert abs(slope) < 0.25, seen


def test_shared_matrices_need_branches_of_one_over_depth():
    for build in (One, Part):
        with pytest.raises(ValueError, match=r"'blocks.0.up.weight' is used 2 times") as refusal:
            ll.plan(build, BASE, TARGET, "depth-mup", inputs=X)
        assert offered(str(refusal.value)) == {"scheme": "completep"}
        ll.plan(build, BASE, TARGET, inputs=X, **offered(str(refusal.value)))


def test_a_block_for_all_layers_has_the_factors_of_one_for_each():
    """Adam's step does not see how many layers a gradient is the sum of; a gradient step has a rate of 1/r
    of that of layers with parameters of their own."""
    for optimizer, power in (("adamw", 1.0), ("muon", 1.0), ("sgd", 0.25)):
        one, each = (ll.plan(b, BASE, TARGET, optimizer=optimizer, inputs=X).factors()
                     for b in (One, Net))  # fmt: skip
        for name in ("up.weight", "down.weight", "down.bias", "norm.weight"):
            a, b = one[f"blocks.0.{name}"], each[f"blocks.5.{name}"]
            assert (a.init, a.lr) == pytest.approx((b.init, power * b.lr))
    after = ll.plan(After, BASE, TARGET, inputs=X).factors()
    assert (after["blocks.0.norm.weight"].init, after["blocks.0.norm.weight"].lr) == (1.0, 0.25)


class Outputs(Net):
    """Outputs of all layers, through one norm and one readout."""

    def __init__(self, n, depth, join):
        super().__init__(n, depth)
        self.join = join

    def forward(self, x):
        h, out = self.stem(x), []
        for b in self.blocks:
            h = b(h)
            out.append(h)
        return self.join(self, out)


def heads(self, out):
    return [self.head(self.norm(h)) for h in out]


SIDE_BY_SIDE = {
    "a list": heads,
    "a stack": lambda self, out: torch.stack(heads(self, out)),
    "columns": lambda self, out: torch.cat(heads(self, out), 1),
    "a readout of the stack": lambda self, out: self.head(
        torch.stack([self.norm(h) for h in out]).transpose(0, 1)
    ),
    "the norm of the stack": lambda self, out: self.head(
        F.layer_norm(torch.stack([self.norm(h) for h in out], 1), self.norm.normalized_shape)
    ),
    "the last of the stack": lambda self, out: (
        torch.stack([self.norm(h) for h in out]),
        self.head(torch.stack([self.norm(h) for h in out])[-1].sigmoid()),
    ),
    "the first with the last": lambda self, out: (
        lambda all_of: (all_of, self.head(all_of[0] + all_of[-1]))
    )([self.norm(h) for h in out]),
}


@pytest.mark.parametrize("name", SIDE_BY_SIDE)
def test_outputs_of_each_layer_leave_what_makes_them_as_it_is(name):
    build = partial(Outputs, join=SIDE_BY_SIDE[name])
    plain = ll.plan(Net, BASE, TARGET, inputs=X).factors()
    plan = ll.plan(build, BASE, TARGET, inputs=X)
    f = plan.factors()
    assert (f["norm.weight"], f["head.weight"]) == (plain["norm.weight"], plain["head.weight"])
    assert plan.branches == {"blocks.*": 2}


class Exits(Net):
    """A norm and a readout behind every layer, its own."""

    def __init__(self, n, depth, join):
        super().__init__(n, depth)
        self.join = join
        self.norms = nn.ModuleList(nn.LayerNorm(n) for _ in range(depth))
        self.heads = nn.ModuleList(nn.Linear(n, 5) for _ in range(depth))

    def forward(self, x):
        h, out = self.stem(x), []
        for b, norm, head in zip(self.blocks, self.norms, self.heads, strict=True):
            h = b(h)
            out.append(head(norm(h)))
        return self.join(out)


@pytest.mark.parametrize("join", [list, torch.stack, partial(torch.cat, dim=1)])
def test_heads_of_each_layer_have_no_factor_of_depth(join):
    f = ll.plan(partial(Exits, join=join), BASE, TARGET, inputs=X).factors()
    plain = ll.plan(Net, BASE, TARGET, inputs=X).factors()
    assert f["norms.5.weight"] == plain["norm.weight"]
    assert f["heads.5.weight"] == plain["head.weight"]
    assert f["blocks.5.down.weight"] == plain["blocks.5.down.weight"]


def test_heads_whose_outputs_add_up_are_refused():
    with pytest.raises(ValueError, match=r"adds up outputs of several layers"):
        ll.plan(partial(Exits, join=sum), BASE, TARGET, inputs=X)


def refined(self, out):
    """Each layer's output is the one before it and what its head adds."""
    y = 0.0
    return [y := torch.tanh(y + self.head(self.norm(h))) for h in out]


TOGETHER = {
    "sum": lambda self, out: sum(heads(self, out)),
    "sum of a stack": lambda self, out: torch.stack(heads(self, out)).sum(0),
    "product": lambda self, out: reduce(torch.mul, heads(self, out)),
    "sum of norms": lambda self, out: self.head(sum(self.norm(h) for h in out)),
    "refined": refined,
    "over the stack": lambda self, out: torch.tensordot(
        torch.ones(len(out)), torch.stack(heads(self, out)), 1
    ),
    "a list and its sum": lambda self, out: (heads(self, out), sum(heads(self, out))),
    "the largest": lambda self, out: torch.stack(heads(self, out)).logsumexp(0),
    "running sums": lambda self, out: torch.stack(heads(self, out)).cumsum(0),
}


@pytest.mark.parametrize("name", TOGETHER)
def test_what_all_layers_put_into_one_output_is_refused(name):
    build = partial(Outputs, join=TOGETHER[name])
    match = r"'head.bias' is used 2 times at one depth|'norm.bias' is used|sums over all layers"
    with pytest.raises(ValueError, match=match):
        ll.plan(build, BASE, TARGET, inputs=X)


class Feeding(Net):
    """The next layer reads the output of the last: as part of its branch, or in the stream."""

    def __init__(self, n, depth, into):
        super().__init__(n, depth)
        self.into, self.back = into, nn.Linear(5, n)

    def forward(self, x):
        h, out = self.stem(x), []
        for b in self.blocks:
            y = self.head(self.norm(h))
            out.append(y)
            h = h + b.branch(h + self.back(y)) if self.into == "branch" else b(h + self.back(y))
        return [*out, self.head(self.norm(h))]


def test_outputs_that_the_next_layer_reads():
    plan = ll.plan(partial(Feeding, into="branch"), BASE, TARGET, inputs=X)
    assert plan.factors()["head.weight"].lr == 0.5
    with pytest.raises(ValueError, match=r"'head.bias' is used 3 times at one depth and 5 times"):
        ll.plan(partial(Feeding, into="branch"), BASE, TARGET, "depth-mup", inputs=X)
    # What the stream is given back is a branch of its own.
    f = ll.plan(partial(Feeding, into="stream"), BASE, TARGET, inputs=X).factors()
    assert (f["head.weight"].fold, f["back.weight"].fold) == (1.0, 0.25)


class Summary(Net):
    """What a head makes of all layers, together, is read by every layer of a second stack."""

    def __init__(self, n, depth, join):
        super().__init__(n, depth)
        self.join, self.back, self.other = join, nn.Linear(5, n), nn.Linear(3, n)
        self.others = nn.ModuleList(Block(n) for _ in range(depth))

    def forward(self, x):
        h, out = self.stem(x), []
        for b in self.blocks:
            h = b(h)
            out.append(self.head(self.norm(h)))
        made = self.back(self.join(out))
        h = self.other(x[:, :3])
        for b in self.others:
            h = h + b.branch(h * made.sigmoid())
        return h[:, :5].mean(1)


def test_what_all_layers_make_for_the_branches_of_others_together_is_refused():
    for join in (sum, lambda out: torch.stack(out).mean(0)):
        with pytest.raises(ValueError, match=r"is used 2 times at one depth|adds up what"):
            ll.plan(partial(Summary, join=join), BASE, TARGET, inputs=X)
    f = ll.plan(partial(Summary, join=lambda out: out[-1]), BASE, TARGET, inputs=X).factors()
    assert f["head.weight"].fold == 1.0


class InStream(Net):
    """The stream itself goes through what all layers share."""

    def __init__(self, n, depth, what):
        super().__init__(n, depth)
        self.what, self.gain, self.mix = what, nn.Parameter(torch.ones(n)), nn.Linear(n, n)
        self.shift = nn.Parameter(torch.randn(n))

    def forward(self, x):
        h = self.stem(x)
        for b in self.blocks:
            h = b(h)
            h = h + self.shift if self.what == "shift" else getattr(self, self.what)(h)
        return self.head(h * self.gain)


def test_what_all_layers_share_in_the_stream():
    plan = ll.plan(partial(InStream, what="norm"), BASE, TARGET, inputs=X)
    assert plan.factors()["norm.weight"].lr == 0.25  # r = 4.
    assert plan.factors()["gain"].lr == 1.0
    for what, name in (("mix", "mix.weight"), ("shift", "shift")):
        with pytest.raises(ValueError, match=f"'{name}' is used 2 times at one depth and 4 times"):
            ll.plan(partial(InStream, what=what), BASE, TARGET, inputs=X)
