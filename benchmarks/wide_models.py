"""Builders and tasks of the benchmarks of ``solve``: plain PyTorch and unedited Hugging Face classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import leadline as ll

VOCABULARY, LENGTH = 64, 9


class Residual(nn.Module):
    """A residual perceptron with 1, 2 or 3 layers a block."""

    def __init__(self, n: int, depth: int, layers: int) -> None:
        super().__init__()
        self.first = nn.Linear(4, n)
        self.blocks = nn.ModuleList(
            nn.ModuleList(nn.Linear(n, n, bias=j == 0) for j in range(layers)) for _ in range(depth)
        )
        self.last = nn.Linear(n, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x)
        for block in self.blocks:
            y = h
            for layer in block:
                y = layer(torch.tanh(y))
            h = h + y
        return self.last(torch.tanh(h))


class FusedBlock(nn.Module):
    """A transformer's block with one matrix for queries, keys and values."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2, self.heads = nn.LayerNorm(n), nn.LayerNorm(n), n // 16
        self.qkv, self.out = nn.Linear(n, 3 * n), nn.Linear(n, n)
        self.up, self.down = nn.Linear(n, 4 * n), nn.Linear(4 * n, n)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, n = x.shape
        parts = self.qkv(self.norm_1(x)).split(n, -1)
        q, k, v = (p.view(b, t, self.heads, -1).transpose(1, 2) for p in parts)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(a.transpose(1, 2).reshape(b, t, n))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class GPT(nn.Module):
    """A small language model of one's own."""

    def __init__(self, n: int, depth: int) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(VOCABULARY, n), nn.Embedding(LENGTH, n)
        self.blocks = nn.ModuleList(FusedBlock(n) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(n), nn.Linear(n, VOCABULARY, bias=False)

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        x = self.token(t) + self.position(torch.arange(t.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class Convolutions(nn.Module):
    """Two 3 × 3 convolutions a block, batch norm before each."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.BatchNorm2d(n), nn.BatchNorm2d(n)
        self.conv_1 = nn.Conv2d(n, n, 3, padding=1, bias=False)
        self.conv_2 = nn.Conv2d(n, n, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv_1(torch.relu(self.norm_1(x)))
        return x + self.conv_2(torch.relu(self.norm_2(y)))


class ConvolutionalResNet(nn.Module):
    """Residual blocks of convolutions, and a step down with stride 2."""

    def __init__(self, n: int, depth: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, n, 3, padding=1)
        self.blocks = nn.ModuleList(Convolutions(n) for _ in range(depth))
        self.step, self.head = nn.Conv2d(n, 2 * n, 3, stride=2, padding=1), nn.Linear(2 * n, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(torch.relu(self.step(x)).mean((2, 3)))


class ExpertBlock(nn.Module):
    """Experts in one tensor, the best of four for every row."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.router = nn.Linear(n, 4, bias=False)
        self.up = nn.Parameter(torch.randn(4, n, 2 * n) / n**0.5)
        self.down = nn.Parameter(torch.randn(4, 2 * n, n) / (2 * n) ** 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = self.router(x).softmax(-1)
        best = weights.argmax(-1)
        out = torch.zeros_like(x)
        for e in range(4):
            rows = (best == e).nonzero()[:, 0]
            y = torch.relu(x[rows] @ self.up[e]) @ self.down[e]
            out = out.index_add(0, rows, y * weights[rows, e, None])
        return x + out


class Experts(nn.Module):
    """A small mixture of experts."""

    def __init__(self, n: int, depth: int) -> None:
        super().__init__()
        self.first = nn.Linear(4, n)
        self.blocks = nn.ModuleList(ExpertBlock(n) for _ in range(depth))
        self.last = nn.Linear(n, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x)
        for block in self.blocks:
            h = block(h)
        return self.last(h)


def gpt2(width: int, depth: int) -> nn.Module:
    """Hugging Face's, unedited, without dropout."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY, n_positions=32, n_embd=width, n_layer=depth, n_head=width // 16,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False, bos_token_id=None,
            eos_token_id=None,
        )
    )  # fmt: skip


def llama(width: int, depth: int) -> nn.Module:
    """Hugging Face's, unedited, with groups of queries."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=width, intermediate_size=2 * width,
            num_hidden_layers=depth, num_attention_heads=width // 16,
            num_key_value_heads=max(width // 32, 1), head_dim=16, max_position_embeddings=32,
            use_cache=False, bos_token_id=None, eos_token_id=None,
        )
    )  # fmt: skip


def vit(width: int, depth: int) -> nn.Module:
    """Hugging Face's, unedited, without dropout."""
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(
        ViTConfig(
            hidden_size=width, num_hidden_layers=depth, num_attention_heads=width // 16,
            intermediate_size=2 * width, image_size=16, patch_size=4, num_channels=1, num_labels=10,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )
    )  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A builder, its task of two batches, and the base that its recipe is for."""

    build: Callable[[int, int], nn.Module]
    task: Any
    base: dict[str, int]


def _tokens() -> list[torch.Tensor]:
    t = torch.randint(0, VOCABULARY, (8, LENGTH), generator=torch.Generator().manual_seed(0))
    return [t[:4], t[4:]]


def _language(model: nn.Module, t: torch.Tensor) -> torch.Tensor:
    out = model(t[:, :-1])
    logits = out if isinstance(out, torch.Tensor) else out.logits
    return F.cross_entropy(logits.flatten(0, 1), t[:, 1:].flatten())


def _classes(model: nn.Module, batch: Any) -> torch.Tensor:
    out = model(batch[0])
    return F.cross_entropy(out if isinstance(out, torch.Tensor) else out.logits, batch[1])


def _squares(model: nn.Module, batch: Any) -> torch.Tensor:
    return F.mse_loss(model(batch[0]), batch[1])


def _batches(shape: tuple[int, ...], classes: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(8, *shape, generator=g)
    y = torch.randint(0, classes, (8,), generator=g) if classes else torch.randn(8, 1, generator=g)
    return [(x[:4], y[:4]), (x[4:], y[4:])]


SMALL, HEADS = dict(width=16, depth=2), dict(width=32, depth=2)

CASES: dict[str, Callable[[], Case]] = {
    **{
        f"residual MLP, {k} layers a block": lambda k=k: Case(
            lambda width, depth: Residual(width, depth, k),
            ll.Task(_squares, batches=_batches((4,), 0)),
            SMALL,
        )
        for k in (1, 2, 3)
    },
    "GPT, fused qkv": lambda: Case(GPT, ll.Task(_language, batches=_tokens()), HEADS),
    "HF GPT-2": lambda: Case(gpt2, ll.Task(_language, batches=_tokens()), HEADS),
    "HF Llama": lambda: Case(llama, ll.Task(_language, batches=_tokens()), HEADS),
    "HF ViT": lambda: Case(vit, ll.Task(_classes, batches=_batches((1, 16, 16), 10)), HEADS),
    "conv ResNet": lambda: Case(
        ConvolutionalResNet, ll.Task(_classes, batches=_batches((1, 8, 8), 10)), SMALL
    ),
    "mixture of experts": lambda: Case(
        Experts, ll.Task(_squares, batches=_batches((4,), 0)), SMALL
    ),
}

RECIPES: dict[str, Any] = {
    "SGD": lambda steps: ll.SGD(lr=0.05, steps=steps, momentum=0.9, weight_decay=0.1),
    "Muon": lambda steps: ll.Muon(lr=0.02, steps=steps, weight_decay=0.1, adamw=dict(lr=1e-3)),
    "Adam": lambda steps: ll.Adam(lr=1e-3, steps=steps),
    "AdamW": lambda steps: ll.AdamW(lr=1e-3, steps=steps, weight_decay=0.1, clip=1.0),
    "Lion": lambda steps: ll.Lion(lr=3e-4, steps=steps, weight_decay=0.1),
    "SignSGD": lambda steps: ll.SignSGD(lr=3e-4, steps=steps, momentum=0.5),
}
