"""A GPT of your own from one file: plan it, check it, find its learning rate small, train it large.

The model shares the weights of its head with the embedding. The same file serves the command line:

    leadline plan examples/nanogpt.py --base 32x2 --target 128x8
    leadline check examples/nanogpt.py --base 32x2 --widths 32,64,128 --depths 2,4,8
    leadline transfer examples/nanogpt.py --widths 32,64 --depths 2,4 --lrs 1e-3:3e-2:2 --steps 60
    leadline train examples/nanogpt.py --base 32x2 --width 128 --depth 8 --lr 4e-3 --steps 300

Run: python examples/nanogpt.py (seconds, at toy size), or with --full (minutes)
"""

import sys

import torch
import torch.nn.functional as F
from torch import nn

import leadline as ll

VOCABULARY, CONTEXT, HEAD = 128, 32, 16


class Block(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(n), nn.LayerNorm(n)
        self.c_attn, self.c_proj = nn.Linear(n, 3 * n), nn.Linear(n, n)
        self.fc, self.proj = nn.Linear(n, 4 * n), nn.Linear(4 * n, n)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, n = x.shape
        q, k, v = self.c_attn(self.ln_1(x)).split(n, dim=2)
        q, k, v = (y.view(b, t, n // HEAD, HEAD).transpose(1, 2) for y in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).contiguous().view(b, t, n))
        return x + self.proj(F.gelu(self.fc(self.ln_2(x))))


class GPT(nn.Module):
    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCABULARY, width), nn.Embedding(CONTEXT, width)
        self.h = nn.ModuleList(Block(width) for _ in range(depth))
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, VOCABULARY, bias=False)
        self.lm_head.weight = self.wte.weight
        self.apply(self._init)
        for name, p in self.named_parameters():
            if name.endswith("proj.weight"):
                nn.init.normal_(p, std=0.02 / (2 * depth) ** 0.5)

    def _init(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(
        self, tokens: torch.Tensor, targets: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.h:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def build(width: int, depth: int) -> nn.Module:
    return GPT(width, depth)


with open(__file__, encoding="ascii") as file:
    DATA = torch.tensor([ord(c) for c in file.read()])
TRAIN, EVAL = DATA[: len(DATA) * 9 // 10], DATA[len(DATA) * 9 // 10 :]


def rows(data: torch.Tensor, starts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    places = starts[:, None] + torch.arange(CONTEXT + 1)
    return data[places[:, :-1]], data[places[:, 1:]]


def batches(step: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    return rows(TRAIN, torch.randint(len(TRAIN) - CONTEXT, (8,), generator=generator))


eval_batch = rows(EVAL, torch.arange(0, len(EVAL) - CONTEXT, CONTEXT // 2))


def loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    tokens, targets = batch
    value: torch.Tensor = model(tokens, targets)[1]
    return value


def main(full: bool) -> None:
    task = ll.Task(loss, batches=batches, eval_batch=eval_batch)
    base = dict(width=32, depth=2)
    widths, depths = ([32, 64, 128], [2, 4, 8]) if full else ([32, 64], [2, 4])

    # 1. Does every layer scale as it should?
    print(ll.check(task, build, widths, depths, base=base))

    # 2. Does the base's best learning rate stay the best?
    lrs = [1e-3 * 2.0**k for k in range(6 if full else 4)]
    result = ll.transfer(
        task, build, widths=widths, depths=depths, lrs=lrs, seeds=3, steps=60 if full else 10
    )
    print(result)

    # 3. Train the target with it.
    lr = result.axes[0].sizes[0].lr.value
    target = dict(width=widths[-1], depth=depths[-1])
    recipe = ll.AdamW(lr=lr, steps=300 if full else 10)
    run = ll.train(task, build, recipe, base=base, **target, record_every=10)
    print(f"{target}: held-out loss {run.test_loss[0, -1]:.3f} with lr {lr:.2g}")


if __name__ == "__main__":
    main("--full" in sys.argv)
