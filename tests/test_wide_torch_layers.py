"""Layers of torch: attention and transformer layers solve; parametrized weights are refused by name."""

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

import leadline as ll
from leadline.matrixfree.configuration import TaskConfiguration

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from replay import replay


class Attention(nn.Module):
    """Queries, keys and values of one, two or three inputs from one packed weight."""

    def __init__(self, n, inputs, **options):
        super().__init__()
        self.norm, self.inputs = nn.LayerNorm(n), inputs
        self.attention = nn.MultiheadAttention(n, n // 16, batch_first=True, **options)

    def forward(self, x):
        h = self.norm(x)
        q, k, v = {1: (h, h, h), 2: (h, h.tanh(), None), 3: (h, h.tanh(), h.sin())}[self.inputs]
        return x + self.attention(q, k, k if v is None else v, need_weights=self.inputs == 3)[0]


class Decoder(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(
            n, n // 16, 2 * n, 0.0, batch_first=True, norm_first=True
        )

    def forward(self, x):
        return self.layer(x, x.sin())


def encoder(n, dropout=0.0, **options):
    return nn.TransformerEncoderLayer(n, n // 16, 2 * n, dropout, batch_first=True, **options)


class Parametrized(nn.Module):
    """A weight that is made of others in every pass, beside an ordinary one."""

    def __init__(self, n, parametrize):
        super().__init__()
        self.up, self.down = parametrize(nn.Linear(n, n)), nn.Linear(n, n)

    def forward(self, x):
        return x + self.down(self.up(x.tanh()))


class Net(nn.Module):
    def __init__(self, n, depth, block):
        super().__init__()
        self.first, self.last = nn.Linear(4, n), nn.Linear(n, 1)
        self.blocks = nn.Sequential(*(block(n) for _ in range(depth)))

    def forward(self, x):
        return self.last(self.blocks(self.first(x)))


def solved(block, recipe=None, **options):
    def squares(model, batch):
        return F.mse_loss(model(batch[0]), batch[1])

    g = torch.Generator().manual_seed(0)
    rows = [
        (torch.randn(3, 3, 4, generator=g), torch.randn(3, 3, 1, generator=g)) for _ in range(2)
    ]
    c = TaskConfiguration(
        # The held-out loss is taken in evaluation mode without gradients, where torch has a fast path.
        ll.Task(squares, batches=rows, eval_batch=rows[0]),
        lambda width, depth: Net(width, depth, block),
        recipe or ll.SGD(lr=0.02, steps=3, momentum=0.5),
        width=64, depth=2, base=dict(width=32, depth=2), dtype="float64", tol=0.0, **options,
    )  # fmt: skip
    return replay(c)


@pytest.mark.parametrize(
    ("block", "wide"),
    [
        (lambda n: Attention(n, 1), 4),
        (lambda n: Attention(n, 2), 4),
        (lambda n: Attention(n, 3, bias=False), 4),
        (lambda n: encoder(n), 8),
        (lambda n: encoder(n, 0.1, norm_first=True, activation="gelu"), 8),
        (Decoder, 12),
    ],
)
def test_layers_of_torch_train_as_dense_ones_do(block, wide):
    r = solved(block)
    assert len(r.wide) == wide
    assert r.difference < 1e-12


def test_packed_weights_under_an_elementwise_recipe():
    r = solved(lambda n: Attention(n, 1), ll.AdamW(lr=1e-3, steps=3))
    assert len(r.wide) == 4
    assert r.difference < 1e-12


@pytest.mark.parametrize(
    ("parametrize", "why", "remedy"),
    [
        (parametrizations.weight_norm, "is made of the values of", dict(stored="*original1")),
        (
            parametrizations.spectral_norm,
            "turned into a weight by operations whose scale cannot be read off",
            dict(roles={"*.original": "hidden"}, stored="*.original"),
        ),
        (
            parametrizations.orthogonal,
            "turned into a weight by operations whose scale cannot be read off",
            dict(roles={"*.original": "hidden"}, stored="*.original"),
        ),
    ],
)
def test_parametrized_weights_are_refused_and_the_remedy_works(parametrize, why, remedy):
    with pytest.raises(
        ValueError, match=f"(?s)up.*parametrizations.*{why}|{why}.*parametrizations"
    ):
        solved(lambda n: Parametrized(n, parametrize))
    r = solved(lambda n: Parametrized(n, parametrize), **remedy)
    assert len(r.wide) == 2
    assert r.difference < 1e-12
