"""The infinite-width limit of a small GPT under AdamW, with an error bar, and real networks near it.

LEADLINE_LARGE=1 asks for an error of two per cent and takes some minutes.
"""

import os

import torch
import torch.nn.functional as F
from torch import nn

import leadline as ll

LARGE = bool(os.environ.get("LEADLINE_LARGE"))
STEPS, RTOL, SECONDS = (8, 0.02, 1200) if LARGE else (3, 0.1, 60)


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
task, recipe = ll.Task(loss, batch=ids), ll.AdamW(lr=3e-3, steps=STEPS)
plan = ll.plan(GPT, base=dict(width=32, depth=2), optimizer="adamw", inputs=ids[:, :-1])
limit = ll.limit(
    task, plan, recipe, over="width", depth=2, ensemble="fast", rtol=RTOL, seconds=SECONDS
)
print(limit)
for width in (32, 64, 128):
    t = ll.train(task, plan, recipe, width=width, depth=2, seeds=4)
    gap = abs(t.train_loss.mean(0) - limit.train_loss)
    print(
        f"real networks of width {width}: the mean loss is at most {gap.max():.3f} from the limit"
    )
