"""A coordinate check in a few lines: sizes of activations, and of their change in one step, over sizes."""

import copy

import numpy as np
import torch
from torch import nn


def outputs(model, inputs):
    """What every module with parameters of its own makes, and the model."""
    found, handles = {}, []

    def keep(name):
        return lambda m, a, out: found.__setitem__(name, out.detach().clone())

    for name, m in model.named_modules():
        if "parametrizations" not in name and next(m.parameters(), None) is not None:
            handles.append(m.register_forward_hook(keep(name)))
    with torch.no_grad():
        model(inputs)
    for h in handles:
        h.remove()
    return found


def coordinates(plan, build, inputs, *, seeds=3, lr=1e-2, make=torch.optim.AdamW):
    """Root mean squares by module: of outputs at initialization, and of their change in one step."""
    total = {}
    for seed in range(seeds):
        torch.manual_seed(seed)
        model = plan.apply(build(plan.target.width, plan.target.depth))
        before = outputs(model, inputs)
        out = model(inputs)
        target = torch.randn(out.shape, generator=torch.Generator().manual_seed(7))
        ((out - target) ** 2).mean().backward()
        make(plan.param_groups(model, lr=lr), lr=lr).step()
        after = outputs(model, inputs)
        for name, x in before.items():
            pair = torch.stack([x.square().mean(), (after[name] - x).square().mean()])
            total[name] = total.get(name, 0) + pair.double().numpy() / seeds
    return {name: np.sqrt(x) for name, x in total.items()}


def slopes(plan, build, inputs, *, widths=None, depths=None, **how):
    """Exponents (size, change) by module, over widths or over depths."""
    sizes = widths or depths
    seen = [
        coordinates(
            plan.at(s, plan.base.depth) if widths else plan.at(plan.base.width, s),
            build, inputs, **how,
        )
        for s in sizes
    ]  # fmt: skip
    names = [n for n in seen[0] if all(n in s and s[n].all() for s in seen)]
    logs = np.log(sizes)
    return {n: np.polyfit(logs, np.log([s[n] for s in seen]), 1)[0] for n in names}


def contribution(plan, build, depth, x, block=0):
    """What a block adds to the stream, with the plan's factors and without, in double precision."""
    torch.manual_seed(0)
    model = build(plan.base.width, depth).double()
    plain = copy.deepcopy(model.blocks[block])
    planned = plan.at(plan.base.width, depth).apply(model).blocks[block]
    with torch.no_grad():
        return planned(x) - x, plain(x) - x


class Net(nn.Module):
    """A stem, blocks, a readout."""

    def __init__(self, width, depth, block, d=8, c=5):
        super().__init__()
        self.stem = nn.Linear(d, width, bias=False)
        self.blocks = nn.ModuleList(block(width, k) for k in range(depth))
        self.head = nn.Linear(width, c, bias=False)

    def forward(self, x):
        h = self.stem(x)
        for block in self.blocks:
            h = block(h)
        return self.head(h)


def net(block):
    """build(width, depth) of ``Net`` with block(width, index)."""
    return lambda width, depth: Net(width, depth, block)
