"""A small model with losses and batches of its own, which worker processes can import."""

import torch
from torch import nn


class Net(nn.Module):
    """Residual, 4 inputs, 2 outputs."""

    def __init__(self, width, depth):
        super().__init__()
        self.embed = nn.Linear(4, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.readout = nn.Linear(width, 2)

    def forward(self, x):
        h = self.embed(x)
        for layer in self.layers:
            h = h + layer(torch.relu(h))
        return self.readout(h)


def rows(count):
    """Inputs and targets."""
    g = torch.Generator().manual_seed(0)
    return torch.randn(count, 4, generator=g), torch.randn(count, 2, generator=g)


def mse(model, batch):
    x, y = batch
    return ((model(x) - y) ** 2).mean()


def squares(model, batch):
    """Of a dict."""
    return ((model(batch["x"]) - batch["y"]) ** 2).mean()


def drawn(step, generator):
    x = torch.randn(8, 4, generator=generator)
    return x, x[:, :2] * 2


def noisy(step):
    """Numbers of torch's global generator."""
    return torch.randn(8, 4), torch.full((8, 2), float(step))


def words(step, generator):
    """As a dict."""
    x, y = drawn(step, generator)
    return {"x": x, "y": y}
