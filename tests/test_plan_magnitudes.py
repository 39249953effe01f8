"""What grows at initialization under a plan, and the first terms of sums over layers."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import leadline as ll

X = torch.randn(8, 5, 8, generator=torch.Generator().manual_seed(0))
BASE, TARGET = dict(width=32, depth=2), dict(width=32, depth=32)


def linear(n, m):
    return nn.Linear(n, m, bias=False)


def mlp(n):
    return nn.Sequential(linear(n, n), nn.GELU(), linear(n, n))


def norm(h):
    return F.layer_norm(h, h.shape[-1:])


class Two(nn.Module):
    """A second stream that every layer writes to, before the first reads it or behind that."""

    def __init__(self, n, depth, first):
        super().__init__()
        self.i, self.j, self.o, self.first = linear(8, n), linear(8, n), linear(n, 3), first
        self.c = nn.ModuleList(mlp(n) for _ in range(depth))
        self.w = nn.ModuleList(linear(n, n) for _ in range(depth))
        self.b = nn.ModuleList(linear(n, n) for _ in range(depth))

    def forward(self, x):
        h, y = self.i(x), self.j(x)
        for c, w, b in zip(self.c, self.w, self.b, strict=True):
            if self.first:
                y = y + w(norm(h))
            h = h + c(norm(h) + b(y))
            if not self.first:
                y = y + w(norm(h))
        return self.o(norm(h))


def test_a_stream_that_is_written_before_it_is_read_is_refused():
    match = r"w.\*.weight makes a part of sums of numbers that grow with depth at initialization under t"
    with pytest.raises(ValueError, match=match):
        ll.plan(partial(Two, first=True), BASE, TARGET, inputs=X)
    assert not ll.plan(partial(Two, first=True), BASE, TARGET, "mup", inputs=X).width_alone
    # Written behind, it has branches of its own.
    factors = ll.plan(partial(Two, first=False), BASE, TARGET, "completep", inputs=X).factors()
    assert factors["w.7.weight"].fold == 1 / 16


class Scores(nn.Module):
    """Attention, to whose logits those of the layer before are added (RealFormer)."""

    def __init__(self, n, depth, added):
        super().__init__()
        self.i, self.o, self.added = linear(8, n), linear(n, 3), added
        self.q, self.k, self.v, self.w = (
            nn.ModuleList(linear(n, n) for _ in range(depth)) for _ in range(4)
        )

    def forward(self, x):
        def heads(t):
            return t.unflatten(-1, (-1, 8)).transpose(1, 2)

        h, p = self.i(x), 0
        for q, k, v, w in zip(self.q, self.k, self.v, self.w, strict=True):
            z = norm(h)
            p = heads(q(z)) @ heads(k(z)).mT / 8**0.5 + (p if self.added else 0)
            h = h + w((p.softmax(-1) @ heads(v(z))).transpose(1, 2).flatten(2))
        return self.o(norm(h))


def test_logits_that_all_layers_add_to_are_refused():
    with pytest.raises(ValueError, match=r"q.\*.weight makes a part of sums of numbers that grow"):
        ll.plan(partial(Scores, added=True), BASE, TARGET, "completep", inputs=X)
    assert ll.plan(partial(Scores, added=False), BASE, TARGET, "completep", inputs=X).branches


class Wide(nn.Module):
    def __init__(self, n, depth, made):
        super().__init__()
        self.i, self.h, self.o, self.made = linear(8, n), linear(n, n), linear(n, 3), made

    def forward(self, x):
        return self.o(torch.relu(self.h(self.made(torch.relu(self.i(x))))))


def test_what_grows_with_width_and_is_no_operation_that_is_known_to():
    def places(h):
        return h * torch.arange(h.shape[-1])

    with pytest.raises(
        ValueError, match=r"^h makes numbers that grow with width at init.* 1, 2 and 4 t"
    ):
        ll.plan(partial(Wide, made=places), BASE, TARGET, "mup", inputs=X)
    for made in (lambda h: h * torch.linspace(0, 1, h.shape[-1]), lambda h: h * h.shape[-1] ** 0.5):
        ll.plan(partial(Wide, made=made), BASE, TARGET, "mup", inputs=X)


def attention(scale):
    """Four heads whose size grows, with 1/√d as a number or in another way."""

    class Net(nn.Module):
        def __init__(self, n, depth):
            super().__init__()
            self.i, self.o = linear(8, n), linear(n, 3)
            self.q, self.k, self.v = (linear(n, n) for _ in range(3))
            self.scale = scale((n // 4) ** -0.5)

        def forward(self, x):
            z = norm(self.i(x))
            q, k, v = (
                w(z).unflatten(-1, (4, -1)).transpose(1, 2) for w in (self.q, self.k, self.v)
            )
            shares = (q @ k.mT * self.scale).softmax(-1)
            return self.o((shares @ v).transpose(1, 2).flatten(2))

    return Net


def test_a_number_is_read_wherever_it_is_kept():
    wide = dict(width=128, depth=2)
    ways = (
        float,
        torch.tensor,
        lambda x: nn.Parameter(torch.tensor(x), requires_grad=False),
        lambda x: nn.Parameter(torch.full((1,), x), requires_grad=False),
    )
    plans = [ll.plan(attention(way), BASE, wide, "mup", inputs=X).factors() for way in ways]
    for factors in plans:
        assert factors["q.weight"] == plans[0]["q.weight"]
    assert plans[0]["q.weight"].fold == 0.5


class Skips(nn.Module):
    """WaveNet: what every layer leaves for the end is added up."""

    def __init__(self, n, depth, end, start=None):
        super().__init__()
        self.i, self.o, self.end, self.start = linear(8, n), linear(n, 3), end, start
        self.g, self.r, self.s = (
            nn.ModuleList(linear(n, m * n) for _ in range(depth)) for m in (2, 1, 1)
        )

    def forward(self, x):
        h = self.i(x)
        total = self.start(h) if self.start else None
        for g, r, s in zip(self.g, self.r, self.s, strict=True):
            z = F.glu(g(h))
            h, made = h + r(z), s(z)
            total = made if total is None else total + made
        return self.o(torch.relu(self.end(total, len(self.s))))


@pytest.mark.parametrize("start", [None, lambda h: 0, lambda h: 0.0, torch.zeros_like])
@pytest.mark.parametrize(
    ("end", "power"),
    [(lambda t, n: t, 1.0), (lambda t, n: t / n, 0.0), (lambda t, n: t / n**0.5, 0.5)],
)
def test_the_first_term_of_a_sum_over_layers_is_as_the_others(start, end, power):
    build = partial(Skips, end=end, start=start)
    factors = ll.plan(build, BASE, TARGET, "completep", inputs=X).factors()
    for k in (0, 1, 31):
        f = factors[f"s.{k}.weight"]
        assert (f.init, f.lr) == pytest.approx((16**-power, 16**-power))


class Dropped(nn.Module):
    """A number before dropout, of the stem or of a branch."""

    def __init__(self, n, depth, number, chance=0.1):
        super().__init__()
        self.i, self.o, self.number, self.chance = linear(8, n), linear(n, 3), number(n), chance
        self.blocks = nn.ModuleList(mlp(n) for _ in range(depth))

    def forward(self, x):
        h = F.dropout(self.i(x) * self.number, self.chance)
        for b in self.blocks:
            h = h + b(norm(h))
        return self.o(norm(h))


def test_a_number_before_dropout_is_none_of_it():
    wide = dict(width=128, depth=2)
    for chance in (0.1, 0.5):
        build = partial(Dropped, number=lambda n: n**0.5, chance=chance)
        assert ll.plan(build, BASE, wide, inputs=X).factors()["i.weight"].fold == 0.5
        build = partial(Dropped, number=lambda n: 3.0, chance=chance)
        assert ll.plan(build, BASE, wide, inputs=X).factors()["i.weight"].fold == 1.0
