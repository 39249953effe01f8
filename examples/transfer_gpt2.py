"""Hugging Face GPT-2, unedited: tune it small, train it large.

The head size stays 16 and the number of heads grows with width. The readout shares its weights with the
embedding, so its multiplier goes into the final norm.

Run: python examples/transfer_gpt2.py (needs transformers)
"""

import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

import leadline as ll

VOCABULARY, LENGTH = 96, 32


def build(width: int, depth: int) -> nn.Module:
    return GPT2LMHeadModel(
        GPT2Config(
            n_embd=width,
            n_layer=depth,
            n_head=width // 16,
            vocab_size=VOCABULARY,
            n_positions=LENGTH,
            bos_token_id=0,
            eos_token_id=0,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
    )


def text() -> torch.Tensor:
    """This file's characters, in rows of LENGTH + 1."""
    with open(__file__, encoding="ascii") as f:
        codes = torch.tensor([min(max(ord(c) - 32, 0), VOCABULARY - 1) for c in f.read()])
    rows = len(codes) // (LENGTH + 1)
    return codes[: rows * (LENGTH + 1)].reshape(rows, LENGTH + 1)[:32]


def loss(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    logits = model(batch[:, :-1]).logits
    return nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())


if __name__ == "__main__":
    plan = ll.plan(build, base=dict(width=32, depth=2), target=dict(width=128, depth=6))
    print(plan)
    batch = text()
    for width, depth in ((32, 2), (128, 6)):
        here = plan.at(width, depth)
        torch.manual_seed(0)
        model = here.apply(build(width, depth))
        groups = here.param_groups(model, lr=3e-3, weight_decay=0.1, no_decay=("vector",))
        optimizer = torch.optim.AdamW(groups)
        for _ in range(40):
            optimizer.zero_grad()
            value = loss(model, batch)
            value.backward()
            optimizer.step()
        print(f"width {width}, depth {depth}: loss {value.item():.3f} after 40 steps at lr 0.003")
