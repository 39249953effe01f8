"""Small models whose hidden matrices are multiplied by what a test hands them, and their training."""

from __future__ import annotations

import torch

from leadline.matrixfree.elementwise import ElementwisePart
from leadline.matrixfree.elementwise_rules import (
    AdamRule,
    AdamWRule,
    ElementwiseRule,
    ElementwiseStep,
    LionRule,
)

D = torch.float64


class PartProduct(torch.autograd.Function):
    """W u with W = scale·W(0) + what a part has learned; the rows of both passes are kept."""

    @staticmethod
    def forward(ctx, u, w, part, rows):
        ctx.made = w, part, rows, u
        return part.scale * u @ w.T + part.product(u)

    @staticmethod
    def backward(ctx, z):
        w, part, rows, u = ctx.made
        rows.append((z, u))
        return part.scale * z @ w + part.transposed(z), None, None, None


class ResidualMLP:
    """tanh, two layers a block, mean-field readout, squared loss on batches (x, y)."""

    inputs, outputs = 8, 4

    def __init__(self, n: int, blocks: int = 2, samples: int = 12, seed: int = 0) -> None:
        g = torch.Generator().manual_seed(seed)

        def draw(*shape):
            return torch.randn(shape, generator=g, dtype=D)

        self.n, self.blocks = n, blocks
        self.others = {"U": draw(n, self.inputs) / self.inputs**0.5, "v": draw(self.outputs, n)}
        self.hidden = {str(i): draw(n, n) / n**0.5 for i in range(2 * blocks)}
        self.x, self.y = draw(samples, self.inputs), draw(samples, self.outputs)

    def batch(self, rows):
        return self.x[rows], self.y[rows]

    def loss(self, others, multiply, batch):
        x, y = batch
        h = x @ others["U"].T
        for l in range(self.blocks):
            inner = multiply(str(2 * l), torch.tanh(h))
            h = h + multiply(str(2 * l + 1), torch.tanh(inner)) / self.blocks
        return 0.5 * (h @ others["v"].T / self.n - y).square().sum(1).mean()


class Attention:
    """One block of causal attention (two heads) and an MLP n → 2n → n over tokens, cross-entropy."""

    vocabulary, length = 11, 5

    def __init__(self, n: int, samples: int = 6, seed: int = 0) -> None:
        g = torch.Generator().manual_seed(seed)

        def draw(*shape):
            return torch.randn(shape, generator=g, dtype=D)

        self.n = n
        self.others = {"E": draw(self.vocabulary, n), "v": draw(self.vocabulary, n)}
        shapes = dict(q=(n, n), k=(n, n), v=(n, n), o=(n, n), up=(2 * n, n), down=(n, 2 * n))
        self.hidden = {key: draw(*shape) / shape[1] ** 0.5 for key, shape in shapes.items()}
        tokens = (samples, self.length + 1)
        self.tokens = torch.randint(self.vocabulary, tokens, generator=g)

    def batch(self, rows):
        return self.tokens[rows]

    def loss(self, others, multiply, tokens):
        x = others["E"][tokens[:, :-1]]

        def rows(key, x):
            return multiply(key, x.flatten(0, -2)).unflatten(0, x.shape[:-1])

        norm = torch.nn.functional.layer_norm
        a = norm(x, (self.n,))
        q, k, v = (rows(key, a).unflatten(-1, (2, -1)).transpose(1, 2) for key in "qkv")
        # 1/d as in mup: keys and queries of equal features would leave softmax saturated.
        y = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=2 / self.n
        )
        x = x + rows("o", y.transpose(1, 2).flatten(2))
        x = x + rows("down", torch.relu(rows("up", norm(x, (self.n,)))))
        scores = norm(x, (self.n,)) @ others["v"].T / self.n
        return torch.nn.functional.cross_entropy(scores.flatten(0, 1), tokens[:, 1:].flatten())


class Written(torch.optim.Optimizer):
    """Lion and SignSGD as their papers write them."""

    def __init__(self, params, rule, lr, weight_decay=0.0) -> None:
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay))
        self.rule = rule

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                if isinstance(self.rule, LionRule):
                    b1, b2 = self.rule.betas
                    p.sub_(group["lr"] * torch.sign(b1 * m + (1 - b1) * p.grad))
                    m.copy_(b2 * m + (1 - b2) * p.grad)
                else:
                    m.copy_(self.rule.momentum * m + p.grad)
                    p.sub_(group["lr"] * torch.sign(m))


def optimizer(rule: ElementwiseRule, params, lr: float, weight_decay: float = 0.0):
    """The dense optimizer of a rule: torch's where it has one."""
    if isinstance(rule, AdamWRule):
        how = dict(betas=rule.betas, eps=rule.eps, weight_decay=weight_decay)
        return torch.optim.AdamW(params, lr=lr, **how)
    if isinstance(rule, AdamRule):
        return torch.optim.Adam(params, lr=lr, betas=rule.betas, eps=rule.eps)
    return Written(params, rule, lr, weight_decay)


def leaves(tensors):
    return {key: x.clone().requires_grad_() for key, x in tensors.items()}


def train(model, rule, batches, *, lr, rate=lambda k: 1.0, decay=0.0, parts=None):
    """Losses before every step and after the last; hidden matrices dense, or streamed by ``parts``.

    Hidden matrices learn at lr/n, others at lr, both times rate(step).
    """
    others, hidden = leaves(model.others), {} if parts else leaves(model.hidden)
    groups = [dict(params=list(others.values()), lr=lr, weight_decay=0.0)]
    if hidden:
        groups.append(dict(params=list(hidden.values()), lr=lr / model.n, weight_decay=decay))
    dense = optimizer(rule, groups, lr)
    rates = [group["lr"] for group in groups]
    losses = []
    for k, batch in enumerate(batches):
        rows = {key: [] for key in model.hidden}

        def multiply(key, u, rows=rows):
            if parts:
                return PartProduct.apply(u, model.hidden[key], parts[key], rows[key])
            return u @ hidden[key].T

        loss = model.loss(others, multiply, model.batch(batch))
        losses.append(loss.item())
        if k == len(batches) - 1:
            break
        dense.zero_grad()
        loss.backward()
        for group, usual in zip(dense.param_groups, rates, strict=True):
            group["lr"] = usual * rate(k)
        dense.step()
        step = ElementwiseStep(lr / model.n * rate(k), decay)
        for key, part in (parts or {}).items():
            z, u = (torch.cat(x) for x in zip(*rows[key], strict=True))
            part.update(z, u, step)
    return torch.tensor(losses, dtype=D)


def make_parts(model, rule, **options):
    options = dict(dtype=D, workers=1, tile=64, memory=0) | options
    return {
        key: ElementwisePart(w.shape[1], w.shape[0], rule, **options)
        for key, w in model.hidden.items()
    }
