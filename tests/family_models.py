"""Networks whose layers read more than the stream, or are more than residual blocks."""

import torch
from torch import nn
from torch.nn import functional as F


def mlp(n):
    return nn.Sequential(nn.Linear(n, 2 * n), nn.GELU(), nn.Linear(2 * n, n))


class Heads(nn.Module):
    """Self-attention with heads of 8."""

    def __init__(self, n):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(n, n) for _ in "qkvo")

    def mix(self, q, k, v):
        q, k, v = (t.unflatten(-1, (-1, 8)).transpose(1, 2) for t in (q, k, v))
        return self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def forward(self, h):
        return self.mix(self.q(h), self.k(h), self.v(h))


class Modulated(nn.Module):
    """A block of a diffusion transformer: shift, scale and gate of both branches from one embedding."""

    def __init__(self, n):
        super().__init__()
        self.n1, self.n2 = (nn.LayerNorm(n, elementwise_affine=False) for _ in "12")
        self.attention, self.f = Heads(n), mlp(n)
        self.ada = nn.Sequential(nn.SiLU(), nn.Linear(n, 6 * n))

    def forward(self, h, c):
        a, b, g, d, e, k = self.ada(c)[:, None].chunk(6, -1)
        h = h + g * self.attention(self.n1(h) * (1 + b) + a)
        return h + k * self.f(self.n2(h) * (1 + e) + d)


class Tables(Modulated):
    """One modulation for all layers, and a table in each that is added to it."""

    def __init__(self, n):
        super().__init__(n)
        del self.ada
        self.table = nn.Parameter(torch.randn(6, n) * n**-0.5)

    def forward(self, h, c):
        a, b, g, d, e, k = (self.table + c.unflatten(-1, (6, -1))).chunk(6, 1)
        h = h + g * self.attention(self.n1(h) * (1 + b) + a)
        return h + k * self.f(self.n2(h) * (1 + e) + d)


class Film(nn.Module):
    """Scale and shift inside the branch."""

    def __init__(self, n):
        super().__init__()
        self.norm, self.a, self.b = nn.LayerNorm(n), nn.Linear(n, n), nn.Linear(n, n)
        self.film = nn.Linear(n, 2 * n)

    def forward(self, h, c):
        g, b = self.film(c)[:, None].chunk(2, -1)
        return h + self.b(F.relu(self.a(self.norm(h)) * g + b))


class Conditioned(nn.Module):
    """Blocks that all read an embedding of a second input; a modulated norm before the readout."""

    def __init__(self, block, n, depth):
        super().__init__()
        out = 6 * n if block is Tables else n
        self.stem, self.time = (
            nn.Linear(8, n),
            nn.Sequential(nn.Linear(4, n), nn.SiLU(), nn.Linear(n, out)),
        )
        self.blocks = nn.ModuleList(block(n) for _ in range(depth))
        self.norm, self.last = nn.LayerNorm(n, elementwise_affine=False), nn.Linear(out, 2 * n)
        self.head = nn.Linear(n, 5)

    def forward(self, x, t):
        c, h = self.time(t), self.stem(x)
        for block in self.blocks:
            h = block(h, c)
        a, b = self.last(c)[:, None].chunk(2, -1)
        return self.head(self.norm(h) * (1 + b) + a)


class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.norm, self.f = nn.LayerNorm(n), mlp(n)

    def forward(self, h):
        return h + self.f(self.norm(h))


class Net(nn.Module):
    """A stem, blocks, what ``more`` adds, a norm, a readout; ``run`` goes through the blocks."""

    def __init__(self, n, depth, run, more=lambda self, n, depth: None, block=Block):
        super().__init__()
        self.stem, self.norm, self.head = nn.Linear(8, n), nn.LayerNorm(n), nn.Linear(n, 5)
        self.blocks = nn.ModuleList(block(n) for _ in range(depth))
        self.run = run
        more(self, n, depth)

    def forward(self, x):
        return self.head(self.norm(self.run(self, self.stem(x))))


def net(run, more=lambda self, n, depth: None, block=Block):
    return lambda n, depth: Net(n, depth, run, more, block)


def u(self, h):
    """Skips from the first half to the second, with a weight for each in one parameter."""
    kept = []
    for block in self.blocks:
        h = block(h)
        kept.append(h)
    for k, block in enumerate(self.up):
        h = block(h + self.skips[k] * kept.pop())
    return h


def with_u(self, n, depth):
    self.up = nn.ModuleList(Block(n) for _ in range(depth))
    self.skips = nn.Parameter(torch.zeros(depth))


def again(self, h):
    """The input is added before every layer, with two numbers for each layer."""
    first = h
    for block, pair in zip(self.blocks, self.pairs, strict=True):
        h = block(pair[0] * h + pair[1] * first)
    return h


def with_pairs(self, n, depth):
    self.pairs = nn.ParameterList(nn.Parameter(torch.tensor([1.0, 0.0])) for _ in range(depth))


class Attending(Heads):
    def __init__(self, n):
        super().__init__(n)
        self.norm = nn.LayerNorm(n)


def values(self, h):
    """The first layer's values in every layer."""
    first = None
    for k, a in enumerate(self.blocks):
        y = a.norm(h)
        v = a.v(y)
        first = v if first is None else first
        h = h + a.mix(a.q(y), a.k(y), self.shares[k] * v + (1 - self.shares[k]) * first)
    return h


def with_shares(self, n, depth):
    self.shares = nn.Parameter(torch.full((depth,), 0.5))


def scaled(self, h):
    """A number for each branch, all in one parameter."""
    for k, block in enumerate(self.blocks):
        h = h + self.gains[k] * block.f(block.norm(h))
    return h


def with_gains(self, n, depth):
    self.gains = nn.Parameter(torch.ones(depth))


def positions(self, h):
    """One table of relative positions for the attention of all layers."""
    i = torch.arange(h.shape[1])
    bias = self.table(i[:, None] - i + 6).permute(2, 0, 1)
    for a in self.blocks:
        y = a.norm(h)
        q, k, v = (f(y).unflatten(-1, (-1, 8)).transpose(1, 2) for f in (a.q, a.k, a.v))
        h = h + a.o(((q @ k.mT + bias).softmax(-1) @ v).transpose(1, 2).flatten(2))
    return h


def with_table(self, n, depth):
    self.table = nn.Embedding(13, n // 8)
    nn.init.normal_(self.table.weight, std=0.5)


class Recurrent(nn.Module):
    """A recurrent layer in each branch."""

    def __init__(self, n, kind):
        super().__init__()
        self.norm, self.r, self.o = nn.LayerNorm(n), kind(n, n, batch_first=True), nn.Linear(n, n)

    def forward(self, h):
        return h + self.o(self.r(self.norm(h))[0])


def plain(self, h):
    for block in self.blocks:
        h = block(h)
    return h


class Mixed(nn.Module):
    """Two streams: a matrix between them, what each gives to the layer and takes of it."""

    def __init__(self, n):
        super().__init__()
        self.norm, self.f = nn.LayerNorm(n), mlp(n)
        self.mix = nn.Parameter(torch.eye(2))
        self.take, self.give = nn.Parameter(torch.full((2,), 0.5)), nn.Parameter(torch.ones(2))

    def forward(self, h):
        y = self.f(self.norm(torch.einsum("i,ibtd->btd", self.take, h)))
        return torch.einsum("ij,jbtd->ibtd", self.mix, h) + self.give[:, None, None, None] * y


def streams(self, h):
    h = torch.stack([h, h])
    for block in self.blocks:
        h = block(h)
    return h.sum(0)
