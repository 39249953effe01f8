"""What a model does with a wide weight beside multiplying by it: as dense training, or refused by name."""

import functools
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import leadline as ll
from leadline.tracing.builder import seeded
from wide_blocks import Block, configured, replay

# --- gradients that a model takes itself ---


def _equilibrium(s, x):
    """z = tanh(W z)/2 + x by iteration, and its gradient by another, as deep equilibrium models do."""
    with torch.no_grad():
        z = x
        for _ in range(8):
            z = 0.5 * torch.tanh(s.layer(z)) + x
    z = 0.5 * torch.tanh(s.layer(z)) + x
    start = z.detach().requires_grad_()
    again = 0.5 * torch.tanh(s.layer(start)) + x

    def implicit(gradient):
        g = gradient
        for _ in range(4):
            g = torch.autograd.grad(again, start, g, retain_graph=True)[0] + gradient
        return g

    if z.requires_grad:
        z.register_hook(implicit)
    return z


class _Straight(torch.autograd.Function):
    """A product whose gradient for its input alone is that of another pass."""

    @staticmethod
    def forward(ctx, x, layer):
        ctx.layer = layer
        ctx.save_for_backward(x)
        return layer(x).detach()

    @staticmethod
    def backward(ctx, g):
        with torch.enable_grad():
            x = ctx.saved_tensors[0].detach().requires_grad_()
            y = torch.tanh(ctx.layer(x))
            return torch.autograd.grad(y, x, g)[0], None


@pytest.mark.parametrize("recipe", [None, ll.Adam(lr=0.01, steps=3)])
@pytest.mark.parametrize(
    "forward", [_equilibrium, lambda s, x: _Straight.apply(x, s.layer) + torch.tanh(s.layer(x))]
)
def test_gradients_for_inputs_alone_do_not_train_the_weight(forward, recipe):
    r = replay(configured(lambda n: Block(n, lambda s: None, forward), recipe, scheme="mup"))
    assert len(r.wide) == 2
    assert r.difference < (1e-12 if recipe is None else 1e-6)


def test_a_weight_that_is_reached_twice_and_visited_between():
    """Every backward pass through a product counts once, also after one for its input alone."""

    def forward(s, x):
        y = s.layer(x)
        out = s.layer(torch.tanh(y))

        def visit(g):
            torch.autograd.grad(y, x, torch.ones_like(y), retain_graph=True)
            return g

        if out.requires_grad:
            out.register_hook(visit)
        return out

    r = replay(configured(lambda n: Block(n, lambda s: None, forward), scheme="mup"))
    assert r.difference < 1e-12


def test_a_detached_leaf_is_refused():
    """It would train as the weight does, where a dense one is a leaf of its own and does not."""

    def forward(s, x):
        return F.linear(x, s.layer.weight.detach().requires_grad_())

    with pytest.raises(ValueError, match=r"(?s)detach.*requires_grad_.*stored='blocks"):
        replay(configured(lambda n: Block(n, lambda s: None, forward)))


# --- weights that something else holds ---


class _Pair(NamedTuple):
    weight: Tensor


def _closure(s):
    w = s.layer.weight
    s.product = lambda x: F.linear(x, w)


def _partial(s):
    s.product = functools.partial(F.linear, weight=s.layer.weight)


def _values(s):
    w = s.layer.weight
    s.product = lambda x: F.linear(x, w.data)


def _named(s):
    s.pair = _Pair(s.layer.weight)
    s.product = lambda x: F.linear(x, s.pair.weight)


@pytest.mark.parametrize("prepare", [_closure, _partial, _values, _named])
@pytest.mark.parametrize("again", [False, True])
def test_a_weight_that_no_module_holds_is_refused(prepare, again):
    """Also where the builder runs a second time, and the tensor that is held has entries."""

    def with_mask(s):
        prepare(s)
        if again:
            s.register_buffer("mask", torch.ones(s.layer.weight.shape).tril() / len(s.layer.weight))

    def forward(s, x):
        return s.product(x * s.mask.sum(0) if again else x)

    with pytest.raises(ValueError, match=r"(?s)no module.*closure.*stored='blocks"):
        replay(configured(lambda n: Block(n, with_mask, forward), scheme="mup"))


@pytest.mark.parametrize(
    ("forward", "why"),
    [
        (lambda s, x: torch.func.vmap(lambda z: s.layer.weight @ z)(x), "torch.func"),
        (lambda s, x: _rounded(s, x), "torch.autocast"),
    ],
)
def test_what_products_cannot_follow_is_refused_by_name(forward, why):
    with pytest.raises(ValueError, match=f"(?s){why}.*stored='blocks"):
        replay(configured(lambda n: Block(n, lambda s: None, forward), scheme="mup"))


def _rounded(s, x):
    with torch.autocast("cpu", torch.bfloat16):
        return s.layer(x).to(x.dtype)


# --- draws ---


def _fixed(s):
    with torch.no_grad():
        s.layer.weight.normal_(generator=torch.Generator().manual_seed(3)).div_(6)


def _reseeded(s):
    torch.manual_seed(0)
    s.layer = nn.Linear(*s.layer.weight.shape)


@pytest.mark.parametrize("prepare", [_fixed, _reseeded])
def test_draws_that_are_the_same_for_every_seed_are_refused(prepare):
    with pytest.raises(
        ValueError, match=r"(?s)same for every seed|equal to those of.*stored='blocks"
    ):
        replay(configured(lambda n: Block(n, prepare)))


def test_draws_of_equal_generators_are_refused():
    def prepare(s):
        seed = torch.initial_seed()
        s.other = nn.Linear(*s.layer.weight.shape)
        with torch.no_grad():
            for layer in (s.layer, s.other):
                layer.weight.normal_(generator=torch.Generator().manual_seed(seed)).div_(6)

    with pytest.raises(ValueError, match="equal to those of"):
        replay(
            configured(lambda n: Block(n, prepare, lambda s, x: s.other(torch.tanh(s.layer(x)))))
        )


def test_weights_that_begin_with_zero_are_no_equal_draws():
    def prepare(s):
        nn.init.zeros_(s.layer.weight)

    r = replay(configured(lambda n: Block(n, prepare)))
    assert r.difference < 1e-12


def test_noise_of_the_passes_is_not_made_of_the_weights_numbers():
    """A model's first random numbers in training, and those that its builder drew first."""
    drawn = []

    class Noisy(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(n, n) / n**0.5)

        def forward(self, x):
            drawn.append(torch.randn_like(x))
            return (x + 0.1 * drawn[-1]) @ self.weight.T

    c = configured(Noisy)
    replay(c)
    with seeded(c.run_seed(0)):
        begun = torch.randn(drawn[-1].shape, dtype=drawn[-1].dtype)
    assert all(not torch.equal(begun, x) for x in drawn)
