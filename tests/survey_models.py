"""Models small enough to know by hand what a survey reads in them."""

import torch
from torch import nn

from leadline.tracing.builder import Size
from leadline.tracing.survey import survey
from tracing_models import TwoLayers

BASE = Size(16, 2)
X = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))


def linear(i, o):
    return nn.Linear(i, o, bias=False)


class Model(nn.Module):
    """i, blocks, o; ``change(self, n, depth)`` at the end, ``run(self, h, n)`` in place of the blocks."""

    def __init__(self, n, depth, change=None, run=None):
        super().__init__()
        self.i, self.o = linear(8, n), linear(n, 64)
        self.blocks = nn.ModuleList(TwoLayers(n) for _ in range(depth))
        self.run = run
        if change:
            change(self, n, depth)

    def forward(self, x):
        h = self.i(x)
        if self.run:
            return self.run(self, h)
        for b in self.blocks:
            h = b(h)
        return self.o(h)


def model(change=None, run=None):
    return lambda n, depth: Model(n, depth, change, run)


def read_model(build, roles=None, inputs=X):
    s = survey(build, BASE, inputs, roles)
    return s, {k.template: k for k in s.kinds}


class Tied(nn.Module):
    """e: embedding and readout; n: a norm before it."""

    def __init__(self, n, depth, tie=True, norm=True):
        super().__init__()
        self.e, self.o = nn.Embedding(64, n), linear(n, 64)
        self.n = nn.LayerNorm(n) if norm else nn.Identity()
        self.blocks = nn.ModuleList(TwoLayers(n) for _ in range(depth))
        if tie:
            self.o.weight = self.e.weight

    def forward(self, x):
        h = self.e(x)
        for b in self.blocks:
            h = b(h)
        return self.o(self.n(h))


TOKENS = torch.randint(0, 64, (2, 5), generator=torch.Generator().manual_seed(0))


class Normed(nn.Module):
    """v over |v|, over one dimension or both, times a gain."""

    def __init__(self, n, dim, inputs=None):
        super().__init__()
        self.v = nn.Parameter(torch.randn(n, inputs or n) / n**0.5)
        self.g = nn.Parameter(torch.ones(n, 1) if dim == 1 else torch.ones(1))
        self.dim = dim

    def forward(self, h):
        return h @ (self.g * self.v / self.v.norm(dim=self.dim, keepdim=True)).mT


class NormedBlock(Normed):
    def forward(self, h):
        return h + super().forward(torch.relu(h))
