"""Small models that the tests of checks and plans share."""

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.up, self.down = nn.Linear(n, n), nn.Linear(n, n)

    def forward(self, h):
        return h + self.down(torch.relu(self.up(h)))


class Model(nn.Module):
    """A residual MLP with biases, 4 outputs."""

    def __init__(self, width, depth):
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.readout = nn.Linear(width, 4)

    def forward(self, x):
        h = self.embed(x)
        for block in self.blocks:
            h = block(h)
        return self.readout(h)


class ConvBlock(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.one = nn.Conv2d(n, n, 3, padding=1, bias=False)
        self.two = nn.Conv2d(n, n, 3, padding=1, bias=False)

    def forward(self, h):
        return h + self.two(torch.relu(self.one(h)))


class Convolutional(nn.Module):
    """Convolutions throughout, the readout too."""

    def __init__(self, width, depth):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.blocks = nn.Sequential(*(ConvBlock(width) for _ in range(depth)))
        self.head = nn.Conv2d(width, 10, 1, bias=False)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x))).mean((2, 3))


def gpt2(width, depth):
    """Hugging Face's, tied, head size 8, no dropout."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(
            n_embd=width,
            n_layer=depth,
            n_head=width // 8,
            vocab_size=64,
            n_positions=16,
            bos_token_id=0,
            eos_token_id=0,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
    )


def _normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


BATCH = (_normal(16, 8), _normal(16, 4))
IMAGES = (_normal(4, 3, 8, 8), _normal(4, 10))
TOKENS = torch.randint(0, 64, (4, 17), generator=torch.Generator().manual_seed(0))


def mse(model, batch):
    return ((model(batch[0]) - batch[1]) ** 2).mean()


def next_token(model, batch):
    logits = model(batch[:, :-1]).logits
    return nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
