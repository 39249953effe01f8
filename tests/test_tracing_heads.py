"""Attention whose head size grows with width: what multiplies its logits, and what is left to fold."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import leadline as ll
from coordinates import net

BASE, TARGET = dict(width=16, depth=2), dict(width=64, depth=2)
X = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))


def heads(t, count=2):
    return t.unflatten(-1, (count, -1)).transpose(1, 2)


class Fused(nn.Module):
    """Two heads; queries, keys and values in one matrix."""

    def __init__(self, n, attend):
        super().__init__()
        self.attend, self.qkv, self.o = attend, nn.Linear(n, 3 * n), nn.Linear(n, n)

    def forward(self, h):
        q, k, v = (heads(t) for t in self.qkv(h).chunk(3, -1))
        return h + self.o(self.attend(q, k, v).transpose(1, 2).flatten(2))


class Latent(nn.Module):
    """Queries and keys of size n/2 + 4, the last four of them for positions."""

    def __init__(self, n, attend):
        super().__init__()
        self.attend, self.n = attend, n
        self.q, self.kv, self.o = nn.Linear(n, n + 8), nn.Linear(n, 2 * n + 4), nn.Linear(n, n)

    def forward(self, h):
        k, v, positions = self.kv(h).split([self.n, self.n, 4], -1)
        k = torch.cat([heads(k), positions[:, None].expand(-1, 2, -1, -1)], -1)
        return h + self.o(self.attend(heads(self.q(h)), k, heads(v)).transpose(1, 2).flatten(2))


def written_out(power):
    return lambda q, k, v: (q @ k.mT * q.shape[-1] ** power).softmax(-1) @ v


def fused(power):
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=q.shape[-1] ** power)


def plan(block, attend):
    def build(n, depth):
        blocks = [block(n, attend) for _ in range(depth)]
        return nn.Sequential(nn.Linear(8, n), nn.Sequential(*blocks), nn.Linear(n, 3))

    return ll.plan(build, BASE, TARGET, inputs=X)


@pytest.mark.parametrize("attend", [written_out(-1), fused(-1.0)])
def test_logits_divided_by_the_head_size_leave_nothing_to_fold(attend):
    factors = plan(Fused, attend).factors()
    assert (factors["1.0.qkv.weight"].fold, factors["1.0.qkv.weight"].init) == (1.0, 1.0)


@pytest.mark.parametrize("attend", [F.scaled_dot_product_attention, written_out(-0.5)])
def test_a_fused_projection_cannot_take_it_and_the_remedy_is_to_divide(attend):
    with pytest.raises(ValueError, match="or scale the logits by 1/d in the forward pass"):
        plan(Fused, attend)


@pytest.mark.parametrize(
    ("attend", "fold"),
    [
        (F.scaled_dot_product_attention, 0.5),
        (written_out(-0.5), 0.5),
        (fused(-0.5), 0.5),
        (written_out(-1), 1.0),
        (lambda q, k, v: (q @ k.mT / 4).softmax(-1) @ v, 0.25),
    ],
)
def test_head_sizes_with_a_constant_part_count_as_their_growing_part(attend, fold):
    assert plan(Latent, attend).factors()["1.0.q.weight"].fold == fold


def shared(power, both=True):
    """Queries and keys (and values) times one number, before they are told apart."""

    class Shared(Fused):
        def forward(self, h):
            z = self.qkv(h)
            n = z.shape[-1] // 3
            number = (n // 2) ** power
            if both:
                q, k = (heads(t) for t in (z[..., : 2 * n] * number).chunk(2, -1))
                v = heads(z[..., 2 * n :])
            else:
                q, k, v = (heads(t) for t in (z * number).chunk(3, -1))
            return h + self.o(self.attend(q, k, v).transpose(1, 2).flatten(2))

    return Shared


@pytest.mark.parametrize("attend", [written_out(0), fused(0.0)])
def test_a_number_that_queries_and_keys_share_counts_twice(attend):
    factors = plan(shared(-0.5), attend).factors()
    assert (factors["1.0.qkv.weight"].fold, factors["1.0.qkv.weight"].init) == (1.0, 1.0)
    with pytest.raises(ValueError, match="or scale the logits by 1/d in the forward pass"):
        plan(shared(-1), attend)


@pytest.mark.parametrize("attend", [written_out(0), fused(0.0)])
@pytest.mark.parametrize("power", [-0.5, -1])
def test_a_number_that_values_share_is_refused(attend, power):
    with pytest.raises(
        ValueError,
        match="multiplies by a number that varies with width what a product reads or makes and something",
    ):
        plan(shared(power, both=False), attend)
    assert plan(shared(0, both=False), written_out(-1)).factors()["1.0.qkv.weight"].init == 1.0


def test_logits_that_follow_no_power_of_the_head_size_are_refused():
    with pytest.raises(ValueError, match="multiplier of attention logits changes by a factor"):
        plan(Latent, lambda q, k, v: (q @ k.mT / (q.shape[-1] - 3)).softmax(-1) @ v)


class Relative(nn.Module):
    """Attention to constant positions through a matrix, shifted as in Transformer-XL."""

    def __init__(self, n, masked):
        super().__init__()
        self.q, self.k, self.v, self.p, self.o = (nn.Linear(n, n, bias=False) for _ in range(5))
        self.masked = masked

    def forward(self, h):
        q, k, v = (f(h).unflatten(-1, (-1, 8)).transpose(1, 2) for f in (self.q, self.k, self.v))
        rows, n = h.shape[-2:]
        table = torch.sin(torch.arange(2.0 * rows - 1)[:, None] / torch.arange(1, n + 1))
        p = self.p(table).unflatten(-1, (-1, 8)).transpose(0, 1)
        at = q @ p.mT
        at = torch.cat([at.new_zeros(*at.shape[:-1], 1), at], -1)[..., 1 : rows + 1] * 8**-0.5
        if self.masked:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=at)
        else:
            y = torch.softmax(q @ k.mT * 8**-0.5 + at, -1) @ v
        return h + self.o(y.transpose(1, 2).flatten(-2))


@pytest.mark.parametrize("masked", [False, True])
def test_a_matrix_of_constant_positions_is_hidden(masked):
    build = net(lambda n, k: Relative(n, masked))
    plan = ll.plan(build, dict(width=32, depth=2), dict(width=64, depth=4), inputs=X)
    p = next(k for k in plan.kinds if k.template == "blocks.*.p.weight")
    assert (p.role, p.branch, p.last) == ("hidden", "blocks.*", False)
