"""Layers that share a name or begin small, and what a check says of them and of the others."""

from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import leadline as ll
from check_models import Block, mse
from leadline.checking.quantities import Measurement
from leadline.checking.rows import rows_of
from leadline.tracing.builder import Size

X = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
BATCH = (X, torch.sin(X[:, :4]))
SIZES = dict(base=dict(width=32, depth=2), widths=(32, 64), depths=(2, 4), seeds=2, progress=False)


def listed(n, depth):
    """First layer, blocks, norm and last layer in one list: their indices grow with depth."""
    blocks = (Block(n) for _ in range(depth))
    return nn.Sequential(nn.Linear(8, n), *blocks, nn.LayerNorm(n), nn.Linear(n, 4))


def named(n, depth):
    parts = OrderedDict(first=nn.Linear(8, n))
    parts["blocks"] = nn.Sequential(*(Block(n) for _ in range(depth)))
    parts |= dict(norm=nn.LayerNorm(n), last=nn.Linear(n, 4))
    return nn.Sequential(parts)


NAMES = {
    "*.weight (input)": "first.weight",
    "*.weight (vector)": "norm.weight",
    "*.weight (readout)": "last.weight",
    "*.bias (finite)": "last.bias",
    "* (input)": "first",
    "* (vector)": "norm",
    "* (readout)": "last",
}


def test_layers_of_one_list_are_told_apart():
    task = ll.Task(mse, batch=BATCH)
    one, other = (ll.check(task, build, lr=1e-3, **SIZES) for build in (listed, named))
    assert one.lost == other.lost == ()
    seen = {(NAMES.get(r.parameter, r.parameter), r.quantity, r.axis): r for r in one.rows}
    wanted = {(r.parameter, r.quantity, r.axis): r for r in other.rows}
    for key in (k for k in wanted if k[0] in NAMES.values()):
        if key[1] != "effect on output":  # Those are compared with the median kind's.
            assert seen[key].values == pytest.approx(wanted[key].values, rel=1e-4), key
            assert (seen[key].expected, seen[key].verdict) == (
                wanted[key].expected,
                wanted[key].verdict,
            )


class OneHead(nn.Module):
    """Queries of all heads, keys and values of one, in one matrix."""

    def __init__(self, n):
        super().__init__()
        self.q, self.kv, self.o = nn.Linear(n, n), nn.Linear(n, 16), nn.Linear(n, n)
        self.norm, self.up, self.down = nn.LayerNorm(n), nn.Linear(n, n), nn.Linear(n, n)

    def forward(self, h):
        y = self.norm(h)
        q = self.q(y).unflatten(-1, (-1, 8)).transpose(1, 2)
        k, v = (t[:, None] for t in self.kv(y).chunk(2, -1))
        h = h + self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return h + self.down(torch.relu(self.up(h)))


def attending(n, depth):
    blocks = nn.Sequential(*(OneHead(n) for _ in range(depth)))
    return nn.Sequential(nn.Linear(8, n), blocks, nn.Linear(n, 4))


def verdicts(plan, powers):
    """By label of a kind: of effects on the output that go as these powers of width."""
    rng = np.random.default_rng(0)
    measured = {}
    for width in (32, 64, 128):
        size = measured[Size(width, 2)] = []
        for _ in range(4):
            values = {
                ("effect on output", k.label): (width / 32) ** powers.get(k.label, 0.0)
                * np.exp(0.02 * rng.standard_normal())
                for k in plan.kinds
            }
            values["preactivation", "1.*.o"] = (width / 32) ** -0.5
            size.append(Measurement(values, [1.0]))
    return {r.parameter: r.verdict for r in rows_of(plan, {"width": list(measured)}, measured)}


def test_what_passes_through_keys_and_values_of_one_head_begins_small_by_both():
    plan = ll.plan(attending, dict(width=32, depth=2), inputs=X[None])
    factors = {k.template: k.factors for k in plan.kinds if k.role == "readout"}
    assert factors == {"1.*.kv.weight": 2, "2.weight": 1}
    again = ll.Plan.from_json(plan.to_json())
    assert again.kinds == plan.kinds
    inside = [
        k.label for k in plan.kinds if k.branch and "up" not in k.label and "down" not in k.label
    ]
    powers = dict.fromkeys(inside, -0.5) | {"1.*.q.weight": -1.0, "1.*.q.bias": -1.0}
    seen = verdicts(plan, powers)
    assert seen["1.*.q.weight"] == "transient"
    # And the others, fewer than these, do not seem to grow.
    assert {v for t, v in seen.items() if t in {k.label for k in plan.kinds} - set(inside)} == {
        "ok"
    }
    once = replace(plan, kinds=tuple(replace(k, factors=1) for k in plan.kinds))
    assert verdicts(once, powers)["1.*.q.weight"] == "collapsed"
