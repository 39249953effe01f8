"""Mixtures of experts in the ways in which they are written: build(width, depth) -> nn.Module."""

import torch
from torch import nn
from torch.nn import functional as F

EXPERTS = 4


class Net(nn.Module):
    """A stem, blocks, a readout."""

    def __init__(self, block, n, depth):
        super().__init__()
        self.stem, self.head = nn.Linear(8, n), nn.Linear(n, 5)
        self.blocks = nn.ModuleList(block(n) for _ in range(depth))

    def forward(self, x):
        h = self.stem(x)
        for block in self.blocks:
            h = h + block(h)
        return self.head(h)


class Mixture(nn.Module):
    """A router and experts of two layers; ``mix`` puts them together."""

    def __init__(self, n):
        super().__init__()
        self.router = nn.Linear(n, EXPERTS, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(n, 2 * n), nn.SiLU(), nn.Linear(2 * n, n))
            for _ in range(EXPERTS)
        )

    def forward(self, h):
        rows = h.flatten(0, 1)
        weight, chosen = self.router(rows).softmax(-1).topk(2)
        return self.mix(rows, weight, chosen).view_as(h)

    def mix(self, x, weight, chosen):
        raise NotImplementedError


class AddedRows(Mixture):
    def mix(self, x, weight, chosen):
        out = torch.zeros_like(x)
        for k, f in enumerate(self.experts):
            row, place = torch.where(chosen == k)
            out.index_add_(0, row, f(x[row]) * weight[row, place, None])
        return out


class ScatteredRows(Mixture):
    def mix(self, x, weight, chosen):
        out = torch.zeros_like(x)
        for k, f in enumerate(self.experts):
            row, place = torch.where(chosen == k)
            y = f(x[row]) * weight[row, place, None]
            out = out.scatter_add(0, row[:, None].expand_as(y), y)
        return out


class WrittenRows(Mixture):
    def mix(self, x, weight, chosen):
        out = torch.zeros_like(x)
        for k, f in enumerate(self.experts):
            here = chosen[:, 0] == k
            out[here] = f(x[here]) * weight[here][:, :1]
        return out


class ChosenByWhere(Mixture):
    def mix(self, x, weight, chosen):
        out = torch.zeros_like(x)
        for k, f in enumerate(self.experts):
            out = torch.where(chosen[:, :1] == k, f(x) * weight[:, :1], out)
        return out


class MaskedSum(Mixture):
    def mix(self, x, weight, chosen):
        shares = [((chosen == k) * weight).sum(-1, keepdim=True) for k in range(EXPERTS)]
        return sum(f(x) * s for f, s in zip(self.experts, shares, strict=True))


class OnlyWhatIsHit(Mixture):
    """Experts that no row is sent to do not run."""

    def mix(self, x, weight, chosen):
        out = torch.zeros_like(x)
        for k in chosen.unique().tolist():
            row, place = torch.where(chosen == k)
            out.index_add_(0, row, self.experts[k](x[row]) * weight[row, place, None])
        return out


class Shared(AddedRows):
    """An expert for all beside, with a gate of its own."""

    def __init__(self, n):
        super().__init__(n)
        self.shared = nn.Sequential(nn.Linear(n, 2 * n), nn.SiLU(), nn.Linear(2 * n, n))
        self.gate = nn.Linear(n, 1)

    def forward(self, h):
        return super().forward(h) + self.shared(h) * self.gate(h).sigmoid()


class Bank(Mixture):
    """Experts in one tensor."""

    def __init__(self, n):
        nn.Module.__init__(self)
        self.router = nn.Linear(n, EXPERTS, bias=False)
        self.up = nn.Parameter(torch.randn(EXPERTS, n, 2 * n) * n**-0.5)
        self.down = nn.Parameter(torch.randn(EXPERTS, 2 * n, n) * n**-0.5)


class Dense(Bank):
    def mix(self, x, weight, chosen):
        y = torch.einsum("tef,efd->ted", F.silu(torch.einsum("td,edf->tef", x, self.up)), self.down)
        share = torch.zeros(len(x), EXPERTS).scatter(1, chosen, weight)
        return torch.einsum("ted,te->td", y, share)


class Batched(Bank):
    def mix(self, x, weight, chosen):
        slots = F.one_hot(chosen[:, 0], EXPERTS).to(x.dtype)
        sent = torch.einsum("te,td->etd", slots, x)
        y = torch.bmm(F.silu(torch.bmm(sent, self.up)), self.down)
        return torch.einsum("etd,te->td", y, slots * weight[:, :1])


class Gathered(Bank):
    def mix(self, x, weight, chosen):
        first = chosen[:, 0]
        y = torch.bmm(F.silu(torch.bmm(x[:, None], self.up[first])), self.down[first])
        return y[:, 0] * weight[:, :1]


LISTS = (AddedRows, ScatteredRows, WrittenRows, ChosenByWhere, MaskedSum, OnlyWhatIsHit, Shared)
BANKS = (Dense, Batched, Gathered)


def build(block):
    """build(n, L) of a network of such blocks."""
    return lambda n, depth: Net(block, n, depth)
