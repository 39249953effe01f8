"""Products of two tensors of data over the width: one of the two takes 1/n, as in attention."""

import pytest
import torch
from torch import nn

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
