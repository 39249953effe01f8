"""An unedited Hugging Face GPT-2, trained without its hidden matrices: losses over width.

LEADLINE_LARGE=1 goes to width 4096, whose dense hidden weights with gradients would take 3.2 GB.
"""

import os

import torch
from transformers import GPT2Config, GPT2LMHeadModel

import leadline as ll

VOCABULARY, TOKENS = 64, 16
WIDTHS = (1024, 2048, 4096) if os.environ.get("LEADLINE_LARGE") else (64, 128)


def build(width, depth):
    """(width, depth) -> model: heads of 16, no dropout."""
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY, n_positions=TOKENS, n_embd=width, n_layer=depth, n_head=width // 16,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False, bos_token_id=None,
            eos_token_id=None,
        )
    )  # fmt: skip


def loss(model, ids):
    return model(input_ids=ids, labels=ids).loss


def counting(step, generator):
    """Sequences that count upwards from somewhere."""
    start = torch.randint(0, VOCABULARY, (2, 1), generator=generator)
    return (start + torch.arange(TOKENS)) % VOCABULARY


task = ll.Task(loss, batches=counting)
plan = ll.plan(
    build, base=dict(width=64, depth=2), optimizer="sgd", inputs=dict(input_ids=counting(0, None))
)
for width in WIDTHS:
    run = ll.solve(task, plan, ll.SGD(lr=0.05, steps=6), width=width, depth=2, ensemble="fast")
    rank, wide = run.info["largest_rank"], len(run.info["wide"])
    print(
        f"width {width}: {wide} weights multiplied, rank {rank}, losses {run.train_loss[0].round(3)}"
    )
