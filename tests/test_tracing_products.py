"""Products of two tensors of data over the width: one of the two takes 1/n, as in attention."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import leadline as ll
from coordinates import slopes
from test_tracing_cosines import BASE, TARGET, Tower, X, two

# By name: the product, and what the last weight of the first side takes from width 32 to 64.
PRODUCTS = {
    "plain": (lambda s, x, y: x @ y.mT, 1 / 2),
    "over a constant": (lambda s, x, y: x @ y.mT / 32, 1 / 2),
    "over the root of their number": (lambda s, x, y: x @ y.mT / s.n**0.5, 2**-0.5),
    "the root before": (lambda s, x, y: (x / s.n**0.25) @ (y / s.n**0.25).mT, 2**-0.5),
    "over their number": (lambda s, x, y: x @ y.mT / s.n, 1),
    "the inverse behind a view": (lambda s, x, y: (x @ y.mT)[:, 1:] * (1 / s.n), 1),
    "row by row": (lambda s, x, y: (x * y).sum(-1), 1 / 2),
    "row by row, a column": (lambda s, x, y: (x * y).sum(1, keepdim=True), 1 / 2),
    "all rows": (lambda s, x, y: (x[:, None] * y).sum(-1), 1 / 2),
    "row by row, over the root": (lambda s, x, y: (x * y).sum(-1) / s.n**0.5, 2**-0.5),
    "row by row, over their number": (lambda s, x, y: (x * y).sum(-1) / s.n, 1),
    "a mean": (lambda s, x, y: (x[:, None] * y).mean(-1), 1),
    "times a parameter": (lambda s, x, y: x @ y.mT * s.scale, 1 / 2),
    "of what a ReLU leaves": (lambda s, x, y: torch.relu(x) @ torch.relu(y).mT, 1 / 2),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_the_first_side_takes_what_is_left(name):
    logits, expected = PRODUCTS[name]
    factors = ll.plan(two(logits), BASE, TARGET, inputs=X).factors()
    for side, fold in (("one", expected), ("other", 1)):
        for kind in ("weight", "bias"):
            assert factors[f"{side}.h.{kind}"].fold == pytest.approx(fold, rel=1e-12)


@pytest.mark.parametrize("name", ["plain", "over the root of their number"])
def test_a_side_that_cannot_leaves_it_to_the_other(name):
    logits, expected = PRODUCTS[name]
    build = two(lambda s, x, y: logits(s, torch.tanh(x), y))
    factors = ll.plan(build, BASE, TARGET, inputs=X).factors()
    assert factors["one.h.weight"].fold == 1
    assert factors["other.h.weight"].fold == pytest.approx(expected, rel=1e-12)


REFUSED = {
    "neither side can": lambda s, x, y: torch.tanh(x) @ torch.tanh(y).mT,
    "of a tensor with itself": lambda s, x, y: x @ x.mT,
    "row by row of what no weight makes": lambda s, x, y: (torch.tanh(x) * torch.tanh(y)).sum(-1),
    "a side that is read otherwise, too": lambda s, x, y: x @ torch.tanh(y).mT + s.out(x).mean(),
    "what is made grows": lambda s, x, y: x @ (x.mT @ y),
    "a number that is no power": lambda s, x, y: x @ y.mT / (s.n + 3),
    "with constants": lambda s, x, y: x @ torch.cos(torch.arange(3.0 * s.n)).view(s.n, 3),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_products_are_refused(name):
    what = "no power law" if "power" in name else "multiplies two tensors that hold no parameter"
    with pytest.raises(ValueError, match=what):
        ll.plan(two(REFUSED[name]), BASE, TARGET, inputs=X)


class Masks(nn.Module):
    """One network makes queries of what every layer leaves, and masks of them and of pixels."""

    def __init__(self, n, depth):
        super().__init__()
        self.one, self.pixels, self.norm = Tower(n, depth), nn.Linear(8, n), nn.LayerNorm(n)
        self.queries = nn.Sequential(nn.Linear(n, n), nn.ReLU(), nn.Linear(n, n))

    def forward(self, x):
        h, out, pixels = self.one.i(x), [], self.pixels(x)
        for block in self.one.blocks:
            h = h + block(h)
            out.append(self.queries(self.norm(h)) @ pixels.mT)
        return torch.stack(out).mean(0)


def test_a_network_that_masks_of_all_layers_go_through_takes_it_once():
    how = dict(inputs=X, roles={f"{m}.*": dict(branch=False) for m in ("queries", "norm")})
    factors = ll.plan(Masks, BASE, TARGET, **how).factors()
    assert factors["queries.2.weight"].fold == factors["queries.2.bias"].fold == 1 / 2
    assert factors["queries.0.weight"].fold == factors["pixels.weight"].fold == 1


def test_the_change_of_products_keeps_its_size():
    build = two(PRODUCTS["plain"][0])
    plan = ll.plan(build, BASE, BASE, inputs=X)
    assert abs(slopes(plan, build, X, widths=[128, 256, 512], lr=3e-3)[""][1]) < 0.2
    # Without 1/n it grows as n, and with 1/√n as its root.
    wrong = ll.plan(two(PRODUCTS["over their number"][0]), BASE, BASE, inputs=X)
    grown = slopes(wrong, build, X, widths=[128, 256, 512], lr=3e-3)[""][1]
    assert grown > 0.5


class Masked(Masks):
    """What every layer's masks leave out of the next one is a choice; the last masks alone are returned."""

    def forward(self, x):
        h, pixels = self.one.i(x), self.pixels(x)
        masks = self.queries(self.norm(h)) @ pixels.mT
        for block in self.one.blocks:
            shares = torch.where(masks > 0, 0.0, -1e4).softmax(-1)
            h = h + block(shares @ h)
            masks = self.queries(self.norm(h)) @ pixels.mT
        return masks


def test_masks_that_choose_what_a_layer_sees_are_no_part_of_its_branch():
    plan = ll.plan(Masked, BASE, TARGET, optimizer="sgd", inputs=X)
    assert list(plan.branches) == ["one.blocks.*"]
    kinds = {k.template: k for k in plan.kinds}
    for name in ("queries.0.weight", "queries.2.weight", "pixels.weight", "norm.weight"):
        assert kinds[name].branch is None
    assert plan.factors()["queries.2.weight"].fold == 1 / 2


ROWS = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))


def net(run, **parts):
    """build(n, L): a tower, and what ``run(self, h)`` makes of the stream with these parts."""

    class Net(nn.Module):
        def __init__(self, n, depth):
            super().__init__()
            self.tower, self.n = Tower(n, depth), n
            for name, part in parts.items():
                setattr(self, name, part(n))

        def forward(self, x):
            return run(self, self.tower(x))

    return Net


def square(n):
    return nn.Linear(n, n, bias=False)


def readout(n):
    return nn.Linear(n, 3, bias=False)


def heads(t):
    return t.unflatten(-1, (-1, 8)).transpose(1, 2)


def own_and_other(s, h):
    """Queries over the root of the width, once, and two products of them."""
    q, v = heads(s.q(h)) * s.n**-0.5, heads(s.v(h))
    logits = torch.cat([q @ heads(s.k(h)).mT, q @ heads(s.c(h)).mT], -1)
    return s.o((logits.softmax(-1) @ torch.cat([v, v], -2)).transpose(1, 2).flatten(2))


def several_times(s, h):
    for _ in range(3):
        a = (heads(s.q(h)) @ heads(s.k(h)).mT * s.n**-0.5).softmax(-1)
        h = h + s.p((a @ heads(s.v(h))).transpose(1, 2).flatten(2))
    return s.o(h)


@pytest.mark.parametrize("run", [own_and_other, several_times])
def test_a_number_counts_once_for_all_products_of_one_weight(run):
    build = net(run, q=square, k=square, c=square, v=square, p=square, o=readout)
    factors = ll.plan(build, BASE, TARGET, scheme="mup", inputs=ROWS).factors()
    assert factors["q.weight"].init == pytest.approx(2**0.5, rel=1e-12)
    assert [factors[f"{p}.weight"].init for p in "kcv"] == pytest.approx([1, 1, 1], rel=1e-12)


def test_products_that_want_different_things_of_one_weight():
    def run(s, h):
        return torch.cat([s.q(h) @ s.k(h).mT, s.q(h) @ s.c(h).mT / s.n], -1)

    build = net(run, q=square, k=square, c=square)
    factors = ll.plan(build, BASE, TARGET, inputs=X).factors()
    assert [factors[f"{p}.weight"].fold for p in "qkc"] == [1, 1 / 2, 1]


def test_one_pair_of_weights_cannot_take_two_things():
    def run(s, h):
        return torch.cat([s.q(h) @ s.k(h).mT, s.q(h) @ s.k(h).mT / s.n])

    with pytest.raises(ValueError, match="neither is made by a weight of its own"):
        ll.plan(net(run, q=square, k=square), BASE, TARGET, inputs=X)


def attend(q, k, v):
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v


def normed(s, h):
    h = F.layer_norm(h, (s.n,), s.g)
    return s.o(attend(h, s.k(h), s.v(h)))


# What queries feed beside their product keeps its size: keys take what is left.
BESIDE = {
    "added to what is attended to": lambda s, h: s.o((q := s.q(h)) + attend(q, s.k(h), s.v(h))),
    "a gate": lambda s, h: s.o(attend(q := s.q(h), s.k(h), s.v(h)) * torch.sigmoid(q)),
    "a norm that is the query": normed,
}


@pytest.mark.parametrize("name", BESIDE)
def test_queries_that_are_read_otherwise_take_nothing(name):
    parts = dict(q=square, k=square, v=square, o=readout, g=lambda n: nn.Parameter(torch.ones(n)))
    factors = ll.plan(net(BESIDE[name], **parts), BASE, TARGET, inputs=ROWS).factors()
    assert factors["k.weight"].fold == pytest.approx(2**-0.5, rel=1e-12)
    assert {factors[n].fold for n in ("q.weight", "v.weight", "g")} == {1.0}


def shared_keys(s, h):
    q, kv = torch.tanh(s.q(h)), s.k(h)
    return s.o(F.scaled_dot_product_attention(q[:, None], kv[:, None], kv[:, None])[:, 0])


NOT_READ = {
    "keys that are values": (shared_keys, "or scale the logits by 1/d"),
    "a side that is returned": (
        lambda s, h: ((a := s.q(h)) @ (b := s.k(h)).mT, a, b), "neither is made by a weight"),
    "a number that a layer reads, too": (
        lambda s, h: ((a := s.q(h) / s.n) @ s.k(h).transpose(-1, -2)).sum() + s.o(a),
        "what a product reads or makes and something else"),
    "a number on keys that make the values": (
        lambda s, h: s.o(attend(s.q(h), k := s.k(h) * s.n**-0.5, s.v(k))),
        "what a product reads or makes and something else"),
    "addbmm": (
        lambda s, h: torch.addbmm(h.new_zeros(()), s.q(h), s.k(h).transpose(-1, -2)),
        "whether 1/n or 1/√n is right"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_READ)
def test_what_would_scale_something_else_is_refused(name):
    run, what = NOT_READ[name]
    with pytest.raises(ValueError, match=what):
        ll.plan(net(run, q=square, k=square, v=square, o=readout), BASE, TARGET, inputs=ROWS)


def convolution(transposed, channels):
    """A picture of the stream, and a kernel that the network makes, over so many channels."""

    def run(s, h):
        c = s.n if channels is None else channels
        kernel = s.k(h[:2])[:, :c, None, None]
        picture = h[:, :c].view(len(h), c, 1, 1).expand(-1, -1, 4, 4)
        if transposed:
            return F.conv_transpose2d(picture, kernel.transpose(0, 1)).mean((2, 3))
        return F.conv2d(picture, kernel).mean((2, 3))

    return net(run, k=square)


@pytest.mark.parametrize("transposed", [False, True])
def test_convolutions_with_kernels_that_the_network_makes(transposed):
    with pytest.raises(ValueError, match="or is a convolution: whether 1/n or 1/√n is right"):
        ll.plan(convolution(transposed, None), BASE, TARGET, inputs=X)
    assert ll.plan(convolution(transposed, 4), BASE, TARGET, inputs=X).branches


def test_addbmm_over_what_stays_is_planned():
    def run(s, h):
        return torch.addbmm(h.new_zeros(()), s.o(h), s.o(h).transpose(-1, -2))

    assert ll.plan(net(run, o=readout), BASE, TARGET, inputs=ROWS).branches
