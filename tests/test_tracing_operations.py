"""Operations over a dimension that grows: those that keep a size, and those of which nothing is known."""

import numpy as np
import pytest
import torch
from torch import fft, nn
from torch.nn import functional as F

import leadline as ll

X = torch.randn(4, 5, 8, generator=torch.Generator().manual_seed(0))
BASE, TARGET = dict(width=16, depth=2), dict(width=32, depth=4)


class Block(nn.Module):
    def __init__(self, n, made):
        super().__init__()
        self.norm, self.made = nn.LayerNorm(n), made
        self.a, self.g, self.o = (nn.Linear(n, n, bias=False) for _ in range(3))

    def forward(self, h):
        z = self.norm(h)
        g = self.g(z)
        return h + self.o(self.made(self, self.a(z), g) + g)


class Net(nn.Module):
    def __init__(self, n, depth, made):
        super().__init__()
        self.i, self.head = nn.Linear(8, n, bias=False), nn.Linear(n, 3, bias=False)
        self.blocks = nn.ModuleList(Block(n, made) for _ in range(depth))
        self.norm = nn.LayerNorm(n)

    def forward(self, x):
        h = self.i(x)
        for b in self.blocks:
            h = b(h)
        return self.head(self.norm(h))


def plan(made):
    return ll.plan(lambda n, depth: Net(n, depth, made), BASE, TARGET, inputs=X)


KEPT = {
    "transform of tokens": lambda s, a, g: fft.fft(a, dim=1).real,
    "ortho": lambda s, a, g: fft.fft(a, norm="ortho").real,
    "there and back": lambda s, a, g: fft.irfft(
        fft.rfft(a) * s.norm.weight[: a.size(-1) // 2 + 1], n=a.size(-1)
    ),
    "there and back, ortho": lambda s, a, g: fft.irfft(
        fft.rfft(a, norm="ortho") * s.norm.weight[: a.size(-1) // 2 + 1], n=a.size(-1), norm="ortho"
    ),
    "sort": lambda s, a, g: a.sort(-1)[0],
    "glu": lambda s, a, g: F.glu(torch.cat([a, g], -1)),
    "standard deviation": lambda s, a, g: g * a.std(-1, keepdim=True),
    "median": lambda s, a, g: g * a.median(-1, keepdim=True)[0],
    "largest": lambda s, a, g: g * a.amax(-1, keepdim=True),
    "mean of a loss": lambda s, a, g: g * F.mse_loss(a, g),
    "a loss for each": lambda s, a, g: F.smooth_l1_loss(a, g, reduction="none"),
    "ranks that choose": lambda s, a, g: a.gather(-1, g.argsort(-1)),
    "signs": lambda s, a, g: a * (g > 0),
    "ranks of tokens": lambda s, a, g: a * g.argsort(1).float(),
    "the place of the largest of four": lambda s, a, g: a + g[..., :4].argmax(-1, keepdim=True),
    "a choice by ranks": lambda s, a, g: a * (g.argsort(-1) > 3).float(),
    "the largest scattered": lambda s, a, g: a * torch.zeros(4, 5, 1).scatter_reduce(
        -1, torch.zeros(g.shape).long(), g, "amax"
    ),
    "counts of tokens": lambda s, a, g: a * (g > 0).sum(1, keepdim=True),
    "entries put": lambda s, a, g: a.index_put((torch.tensor([0]),), g[:1]),
    "matrices of tokens": lambda s, a, g: torch.linalg.solve_triangular(
        torch.eye(5).expand(4, a.size(-1) // 8, 5, 5), a.unflatten(-1, (-1, 8)).transpose(1, 2),
        upper=False,
    ).transpose(1, 2).flatten(2),
    "nan sum of tokens": lambda s, a, g: a + g.nansum(1, keepdim=True),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_operations_that_keep_a_size(name):
    assert plan(KEPT[name]).branches == {"blocks.*": 2}


def scattered(a, how):
    return torch.zeros(4, 5, 1).scatter_reduce(-1, torch.zeros(a.shape).long(), a, how)


CHANGED = {
    "transform": (lambda s, a, g: fft.fft(a).real, "Fourier transform.*norm='ortho'"),
    "transform of reals": (lambda s, a, g: fft.irfft(fft.rfft(a) * fft.rfft(g)), "Fourier"),
    "both ortho": (
        lambda s, a, g: fft.irfft(fft.rfft(a, norm="ortho") * fft.rfft(g, norm="ortho"), norm="ortho"),
        "Fourier"),
    "a kernel": (
        lambda s, a, g: fft.irfft(fft.rfft(a) * fft.rfft(s.norm.weight)), "not by another transform"),
    "back alone": (lambda s, a, g: fft.ifft(a).real, "Fourier"),
    "an activation between": (
        lambda s, a, g: fft.irfft(torch.view_as_complex(torch.view_as_real(fft.rfft(a)).tanh())), "Four"),
    "a bias between": (
        lambda s, a, g: fft.irfft(fft.rfft(a) + s.norm.bias[: a.size(-1) // 2 + 1], n=a.size(-1)), "Four"),
    "a part, ortho": (lambda s, a, g: g * fft.rfft(a, norm="ortho")[..., :1].real, "Fourier"),
    "counts": (lambda s, a, g: g * (a > 0).sum(-1, keepdim=True), "counted or ranked over a dimension"),
    "twice a count and one": (
        lambda s, a, g: g * ((a > 0).sum(-1, keepdim=True) * 2 + 1)[..., :1], "counted or ranked"),
    "counts, as numbers": (lambda s, a, g: g * (a > 0).sum(-1, keepdim=True).float(), "counted or rank"),
    "ranks": (lambda s, a, g: g * a.argsort(-1).float(), "counted or ranked"),
    "the place of the largest": (lambda s, a, g: g + a.argmax(-1, keepdim=True), "counted or ranked"),
    "half of it": (lambda s, a, g: fft.irfft(fft.rfft(a)) + fft.rfft(a)[..., :1].real, "Fourier"),
    "two dimensions": (lambda s, a, g: fft.fft2(a).real, "Fourier"),
    "sum of a loss": (lambda s, a, g: g * F.mse_loss(a, g, reduction="sum"), "reduction='mean'"),
    "sum of another": (
        lambda s, a, g: g * F.binary_cross_entropy_with_logits(a, g.sigmoid(), reduction="sum"),
        "sums a loss over a dimension that grows"),
    "nan sum": (lambda s, a, g: g * a.nansum(-1, keepdim=True), "sums over a dimension that grows"),
    "singular values": (
        lambda s, a, g: g * torch.linalg.svdvals(a)[..., :1, None], "uses '_linalg_svd' over"),
    "distance": (lambda s, a, g: g * torch.dist(a, g), "uses 'dist' over a dimension that grows"),
    "norm of rows": (lambda s, a, g: a.flatten(0, 1).renorm(2, 0, 1.0).view_as(g), "uses 'renorm'"),
    "scattered": (lambda s, a, g: g * scattered(a, "sum"), "sums over a dimension.*scatter_reduce"),
    "put on top": (
        lambda s, a, g: g * torch.zeros(4, 5, 1).index_put(
            (torch.zeros(4, 5, a.size(-1)).long(), torch.zeros(4, 5, a.size(-1)).long(),
             torch.zeros(1).long()), a, accumulate=True),
        "sums over a dimension.*index_put"),
    "a kernel of ones": (
        lambda s, a, g: g * F.conv1d(a.flatten(0, 1)[:, None], torch.ones(1, 1, a.size(-1))).view(4, 5, 1),
        "sums over a dimension that grows with width .convolution"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGED)
def test_operations_that_change_a_size_are_refused(name):
    made, message = CHANGED[name]
    with pytest.raises(ValueError, match=message):
        plan(made)
    with pytest.raises(ValueError, match=message):
        ll.plan(lambda n, depth: Net(n, depth, made), BASE, TARGET, "mup", inputs=X)


def test_what_is_larger_of_a_dimension_that_stays_is_no_matter():
    def made(s, a, g):
        few = a[..., :4]
        return g * (
            fft.fft(few).real.sum(-1, keepdim=True) + F.mse_loss(few, g[..., :4], reduction="sum")
        )

    assert plan(made).branches


def size(made, n):
    torch.manual_seed(0)
    a, g = torch.randn(2, 4, 5, n)
    with torch.no_grad():
        return made(Block(n, made), a, g).square().mean().sqrt().item()


@pytest.mark.parametrize(
    ("made", "slope"),
    [(CHANGED["transform"][0], 0.5), (CHANGED["both ortho"][0], 0.0), (KEPT["there and back"], 0.0),
     (KEPT["ortho"], 0.0), (CHANGED["transform of reals"][0], 0.5), (CHANGED["back alone"][0], -0.5)],
)  # fmt: skip
def test_what_transforms_do_to_sizes(made, slope):
    """Two of data are refused with norm="ortho", too: of entries that are alike they make √n."""
    widths = [64, 256, 1024]
    found = np.polyfit(np.log(widths), np.log([size(made, n) for n in widths]), 1)[0]
    assert found == pytest.approx(slope, abs=0.1)
