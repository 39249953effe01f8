"""Models in PyTorch's convention that the tests of plans read: build(width, depth) -> nn.Module."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F


class Residual(nn.Module):
    """Adds what ``f`` makes of its input."""

    def __init__(self, *layers):
        super().__init__()
        self.f = nn.Sequential(*layers)

    def forward(self, h):
        return h + self.f(h)


class Stack(nn.Module):
    """A stem, blocks, a norm, a readout."""

    def __init__(self, stem, blocks, norm, head):
        super().__init__()
        self.stem, self.blocks = stem, nn.ModuleList(blocks)
        self.norm, self.head = norm, head

    def forward(self, x):
        h = self.stem(x)
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h))


class TwoLayers(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.a, self.b = nn.Linear(n, n, bias=False), nn.Linear(n, n, bias=False)

    def branch(self, h):
        return self.b(F.relu(self.a(h)))

    def forward(self, h):
        return h + self.branch(h)


def dense(block, d=10, c=3, norm=nn.Identity):
    """build(n, L) of a network on vectors."""

    def build(n, depth):
        blocks = [block(n) for _ in range(depth)]
        return Stack(nn.Linear(d, n, bias=False), blocks, norm(n), nn.Linear(n, c, bias=False))

    return build


two = dense(TwoLayers)


class Own(nn.Module):
    """The project's residual network with variance 1/n and no multipliers."""

    def __init__(self, n, depth, layers, d=5, dtype=torch.float64):
        super().__init__()
        linear = lambda i, o: nn.Linear(i, o, bias=False, dtype=dtype)  # noqa: E731
        self.u, self.v = linear(d, n), linear(n, 1)
        self.blocks = nn.ModuleList(
            nn.ModuleList(linear(n, n) for _ in range(layers)) for _ in range(depth)
        )
        for p in self.parameters():
            nn.init.normal_(p, std=p.shape[1] ** -0.5)

    def forward(self, x):
        h = self.u(x)
        for block in self.blocks:
            z = h
            for j, layer in enumerate(block):
                z = layer(torch.tanh(z) if j or len(block) == 1 else z)
            h = h + z
        return self.v(h)


class Attention(nn.Module):
    """Self-attention with projections of their own, and a pre-norm."""

    def __init__(self, n, heads, kv=None, scale=None, fused=False):
        super().__init__()
        self.heads, self.kv, self.size = heads, kv or heads, n // heads
        self.norm = nn.LayerNorm(n)
        self.q = nn.Linear(n, n, bias=False)
        self.k = nn.Linear(n, self.kv * self.size, bias=False)
        self.v = nn.Linear(n, self.kv * self.size, bias=False)
        self.o = nn.Linear(n, n, bias=False)
        self.scale, self.fused = scale or (lambda d: d**-0.5), fused

    def forward(self, h):
        x = self.norm(h)
        split = lambda y, k: y.unflatten(-1, (k, self.size)).transpose(1, 2)  # noqa: E731
        q, k, v = (
            split(f(x), c) for f, c in ((self.q, self.heads), (self.k, self.kv), (self.v, self.kv))
        )
        k, v = (t.repeat_interleave(self.heads // self.kv, 1) for t in (k, v))
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, scale=self.scale(self.size))
        else:
            y = (q @ k.transpose(-1, -2) * self.scale(self.size)).softmax(-1) @ v
        return h + self.o(y.transpose(1, 2).flatten(2))


class Tokens(nn.Module):
    """Word and position embeddings."""

    def __init__(self, n, tokens=8):
        super().__init__()
        self.words = nn.Embedding(50, n)
        self.places = nn.Parameter(0.02 * torch.randn(1, tokens, n))

    def forward(self, x):
        return self.words(x) + self.places


def sequence(block):
    """build(n, L) of a network on 8 tokens."""

    def build(n, depth):
        blocks = [block(n) for _ in range(depth)]
        return Stack(Tokens(n), blocks, nn.LayerNorm(n), nn.Linear(n, 50, bias=False))

    return build


class ConvBlock(nn.Module):
    """conv-bn-relu-conv-bn, sum, relu."""

    def __init__(self, n):
        super().__init__()
        conv = lambda: nn.Conv2d(n, n, 3, padding=1, bias=False)  # noqa: E731
        self.c1, self.b1, self.c2, self.b2 = conv(), nn.BatchNorm2d(n), conv(), nn.BatchNorm2d(n)

    def forward(self, h):
        return F.relu(h + self.b2(self.c2(F.relu(self.b1(self.c1(h))))))


class Pool(nn.Module):
    def forward(self, h):
        return h.flatten(2).mean(-1)


def images(block, dims=2):
    """build(n, L) of a convolutional network."""
    conv = {1: nn.Conv1d, 2: nn.Conv2d}[dims]

    def build(n, depth):
        stem = conv(3, n, 3, padding=1, bias=False)
        head = nn.Linear(n, 10, bias=False)
        return Stack(stem, [block(n) for _ in range(depth)], Pool(), head)

    return build


class Mixer(nn.Module):
    """Token mixing over a constant number of tokens, then channel mixing."""

    def __init__(self, n, tokens=16):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(n), nn.LayerNorm(n)
        self.t1, self.t2 = nn.Linear(tokens, 32, bias=False), nn.Linear(32, tokens, bias=False)
        self.c1, self.c2 = nn.Linear(n, 4 * n, bias=False), nn.Linear(4 * n, n, bias=False)

    def forward(self, h):
        h = h + self.t2(F.gelu(self.t1(self.n1(h).transpose(1, 2)))).transpose(1, 2)
        return h + self.c2(F.gelu(self.c1(self.n2(h))))


class Patches(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.conv = nn.Conv2d(3, n, 8, 8, bias=False)

    def forward(self, x):
        return self.conv(x).flatten(2).transpose(1, 2)


class Mean(nn.Module):
    def forward(self, h):
        return h.mean(1)


def mixer(n, depth):
    blocks = [Mixer(n) for _ in range(depth)]
    return Stack(Patches(n), blocks, nn.Sequential(nn.LayerNorm(n), Mean()), nn.Linear(n, 10))


def _transformers():
    module = pytest.importorskip("transformers")
    module.logging.set_verbosity_error()
    return module


_SPECIAL = {"bos_token_id": 0, "eos_token_id": 0, "vocab_size": 100}


def gpt2(n, depth, dropout=0.1):
    t = _transformers()
    rates = {f"{k}_pdrop": dropout for k in ("attn", "embd", "resid")}
    heads = {"n_embd": n, "n_layer": depth, "n_head": n // 16}
    return t.GPT2LMHeadModel(t.GPT2Config(**heads, n_positions=32, **rates, **_SPECIAL))


def llama(n, depth, heads=None, **more):
    t = _transformers()
    h = heads or n // 16
    return t.LlamaForCausalLM(
        t.LlamaConfig(
            hidden_size=n,
            intermediate_size=2 * n,
            num_hidden_layers=depth,
            num_attention_heads=h,
            num_key_value_heads=h // 2,
            max_position_embeddings=32,
            **_SPECIAL,
            **more,
        )
    )


def vit(n, depth):
    t = _transformers()
    return t.ViTForImageClassification(
        t.ViTConfig(
            hidden_size=n,
            intermediate_size=4 * n,
            num_hidden_layers=depth,
            num_attention_heads=n // 16,
            image_size=32,
            patch_size=8,
            num_labels=10,
        )
    )


def resnet(n, depth, layer="basic"):
    t = _transformers()
    return t.ResNetForImageClassification(
        t.ResNetConfig(
            embedding_size=n,
            hidden_sizes=[4 * n, 8 * n] if layer == "bottleneck" else [n, 2 * n],
            depths=[depth, depth],
            layer_type=layer,
            num_labels=10,
            image_size=32,
        )
    )


def rms_of_layers(model, inputs):
    """Root mean square of every weight layer's output but the last one's."""
    found = {}

    def keep(name, out):
        found[name] = float(out.detach().square().mean().sqrt())

    kinds = ("Linear", "Conv1D", "Conv2d", "Embedding")
    for name, module in model.named_modules():
        if type(module).__name__ in kinds:
            module.register_forward_hook(lambda m, a, out, name=name: keep(name, out))
    with torch.no_grad():
        model.eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.train()
        model(inputs)
    found.pop(list(found)[-1])
    return found
