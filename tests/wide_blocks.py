"""Models of one block each for solves without stored weights, and their replay by dense ones."""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import leadline as ll
from leadline.matrixfree.configuration import TaskConfiguration

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from replay import replay as replay
from wide_models import _batches

N = 32


class Net(nn.Module):
    """Blocks between ordinary ends."""

    def __init__(self, n, depth, block):
        super().__init__()
        self.first, self.last = nn.Linear(4, n), nn.Linear(n, 1)
        self.blocks = nn.ModuleList(block(n) for _ in range(depth))

    def forward(self, x):
        h = self.first(x)
        for block in self.blocks:
            h = h + block(torch.tanh(h))
        return self.last(h)


def configured(block, recipe=None, **options):
    def squares(model, batch):
        return F.mse_loss(model(batch[0]), batch[1])

    return TaskConfiguration(
        ll.Task(squares, batches=_batches((4,), 0)),
        lambda width, depth: Net(width, depth, block),
        recipe or ll.SGD(lr=0.05, steps=3, momentum=0.5),
        width=N,
        depth=2,
        base=dict(width=16, depth=2),
        dtype="float64",
        tol=0.0,
        **options,
    )


class Block(nn.Module):
    """A linear layer, and more of one's own."""

    def __init__(self, n, prepare, forward=lambda s, x: s.layer(x)):
        super().__init__()
        self.layer, self.run = nn.Linear(n, n), forward
        prepare(self)

    def forward(self, x):
        return self.run(self, x)
