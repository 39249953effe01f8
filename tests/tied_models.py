"""Models that are more than a function of differently named parameters, or less."""

import random

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from sweep_models import Block


class Residual(nn.Module):
    """Digits (B, 64) to (B, 1)."""

    def __init__(self, width, depth):
        super().__init__()
        self.embed = nn.Linear(64, width, bias=False)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.readout = nn.Linear(width, 1, bias=False)
        self.more(width)

    def more(self, width):
        pass

    def forward(self, x):
        h = self.embed(x)
        for block in self.blocks:
            h = block(h)
        return self.readout(h)


class Tied(nn.Module):
    """Bytes (B, T) to logits; the head is the embedding."""

    def __init__(self, width, depth):
        super().__init__()
        self.embed = nn.Embedding(256, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 256, bias=False)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        h = self.embed(tokens)
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h))


class OneModuleTwice(Residual):
    def more(self, width):
        self.same = [b.up for b in self.blocks]
        self.again = nn.ModuleDict({"norm": nn.LayerNorm(64)})
        self.twice = self.again["norm"]

    def forward(self, x):
        return super().forward(self.twice(self.again["norm"](x)))


class ParameterLists(Residual):
    def more(self, width):
        self.gains = nn.ParameterList([nn.Parameter(torch.ones(64)) for _ in range(2)])
        self.named = nn.ParameterDict({"first": self.gains[0]})

    def forward(self, x):
        return super().forward(x * self.gains[1] * self.named["first"])


class WeightNorm(Residual):
    def more(self, width):
        weight_norm(self.embed)


class Buffers(Residual):
    """Shared, complex, integer, not persistent, drawn, and changed by every training step."""

    def more(self, width):
        self.register_buffer("decay", torch.ones(64))
        self.register_buffer("same", self.decay)
        self.register_buffer("order", torch.randperm(64))
        self.register_buffer("turn", torch.full((64,), 1j), persistent=False)
        self.register_buffer("drawn", torch.randn(64), persistent=False)
        self.batch_norm = nn.BatchNorm1d(64)

    def forward(self, x):
        self.decay.mul_(0.99)
        x = self.batch_norm(x)[:, self.order] * self.same + self.drawn
        return super().forward(x * (self.turn * self.turn.conj()).real)


class Cached(Residual):
    """Positions made at the first call."""

    def more(self, width):
        self.positions = None

    def forward(self, x):
        if self.positions is None:
            self.positions = torch.arange(64.0) / 64
        return super().forward(x + self.positions)


class Replaced(Residual):
    """A running mean that is a new tensor after every step."""

    def more(self, width):
        self.register_buffer("mean", torch.zeros(64))

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        return super().forward(x - self.mean)


class PlainTensor(Residual):
    """Drawn, and no buffer."""

    def more(self, width):
        self.noise = [torch.randn(64)]

    def forward(self, x):
        return super().forward(x + self.noise[0])


class PlainModule(Residual):
    """A layer that no optimizer sees."""

    def more(self, width):
        self.hidden = [nn.Linear(64, 64)]

    def forward(self, x):
        return super().forward(x + self.hidden[0](x))


class View(Residual):
    """The readout is a column of the embedding, as a view that follows it."""

    def more(self, width):
        del self.readout.weight
        self.readout.weight = self.embed.weight[:, :1].t()


class Counter(Residual):
    """The branch grows over the first steps."""

    def more(self, width):
        self.step = 0

    def forward(self, x):
        self.step += self.training
        return super().forward(x) * min(1.0, self.step / 8)


class Drawing(Residual):
    """Random numbers of Python."""

    def forward(self, x):
        return super().forward(x * (1 + 0.1 * random.random()))


class InPlace(Residual):
    """Changes what it is given."""

    def forward(self, x):
        return super().forward(x.mul_(0.9))


class Later(Residual):
    """Control flow that depends on values from some step on."""

    def more(self, width):
        self.register_buffer("steps", torch.zeros((), dtype=torch.long), persistent=False)

    def forward(self, x):
        y = super().forward(x)
        return y if float(y.detach().mean()) < 1e9 else 2 * y


class Unused(Residual):
    """A gradient of zero would let weight decay move it; there is none."""

    def more(self, width):
        self.idle = nn.Linear(width, width)


class TwoOnOneMemory(Residual):
    """Two parameters that share numbers: an optimizer moves them twice."""

    def more(self, width):
        self.readout.weight = nn.Parameter(self.embed.weight.detach()[:, :1].t())


STACKED = (OneModuleTwice, ParameterLists, WeightNorm, Buffers, Cached, Unused)
ALONE = (
    Replaced, PlainTensor, PlainModule, View, Counter, Drawing, InPlace, Later, TwoOnOneMemory,
)  # fmt: skip
