"""Does the gradient-independence assumption hold in a transformer? Both couplings, over depth.

The backward pass uses every hidden W(0) itself ("reused", as real networks do) or an independent copy of
it ("independent", the assumption). LEADLINE_LARGE=1 goes to depth 16 with eight seeds.
"""

import os

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import leadline as ll

LARGE = bool(os.environ.get("LEADLINE_LARGE"))
DEPTHS, SEEDS, WIDTH = ((2, 4, 8, 16), 8, 128) if LARGE else ((2, 4), 3, 32)


class GPT(nn.Module):
    """Torch's own layers, causal, pre-norm."""

    def __init__(self, width, depth):
        super().__init__()
        self.token = nn.Embedding(64, width)
        layer = dict(
            nhead=width // 16,
            dim_feedforward=4 * width,
            dropout=0.0,
            batch_first=True,
            norm_first=True,
        )
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, **layer) for _ in range(depth)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 64, bias=False)

    def forward(self, ids):
        x, mask = self.token(ids), torch.ones(ids.shape[1], ids.shape[1]).triu(1).bool()
        for block in self.blocks:
            x = block(x, src_mask=mask)
        return self.head(self.norm(x))


def loss(model, ids):
    return F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())


ids = torch.randint(0, 64, (4, 9), generator=torch.Generator().manual_seed(0))
task = ll.Task(loss, batch=ids)
plan = ll.plan(GPT, base=dict(width=32, depth=2), optimizer="sgd", inputs=ids[:, :-1])
for depth in DEPTHS:
    runs = {
        coupling: ll.solve(
            task, plan, ll.SGD(lr=0.2, steps=8), width=WIDTH, depth=depth, coupling=coupling,
            ensemble="fast", seeds=SEEDS,
        ).train_loss
        for coupling in ("reused", "independent")
    }  # fmt: skip
    taken = (runs["reused"][:, 0] - runs["reused"][:, -1]).mean()
    gaps = (runs["independent"][:, -1] - runs["reused"][:, -1]) / taken
    print(
        f"depth {depth}: what true backpropagation took off the loss, {taken:.3f}; of that the "
        f"assumption lacks {np.mean(gaps):.1%} ± {np.std(gaps, ddof=1) / SEEDS**0.5:.1%}"
    )
