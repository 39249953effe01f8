"""What cannot be decided is refused: the message names the parameter or module, and the remedy."""

import functools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import orthogonal, spectral_norm

import leadline as ll
from tracing_models import Stack, Tokens, TwoLayers, dense, llama, two

BASE, TARGET = dict(width=16, depth=2), dict(width=64, depth=8)


class Net(nn.Module):
    """A stem, two-layer branches, a readout; ``forward`` and what is done to it after are given."""

    def __init__(self, n, depth, forward=None, after=None):
        super().__init__()
        self.n, self.depth, self.run = n, depth, forward
        self.stem = nn.Linear(10, n, bias=False)
        self.blocks = nn.ModuleList(TwoLayers(n) for _ in range(depth))
        self.head = nn.Linear(n, 3, bias=False)
        if after is not None:
            with torch.no_grad():
                after(self)

    def forward(self, x):
        h = self.stem(x)
        if self.run is not None:
            return self.run(self, h)
        for block in self.blocks:
            h = block(h)
        return self.head(h)


def running(forward):
    return functools.partial(Net, forward=forward)


def after(change):
    return functools.partial(Net, after=change)


def each(step):
    """A forward pass that takes h, the block and its index to the next h."""

    def forward(self, h):
        for i, block in enumerate(self.blocks):
            h = step(self, h, block, i)
        return self.head(h)

    return running(forward)


def fails_at(width=None, depth=None):
    def build(n, layers):
        if n == width or layers == depth:
            raise RuntimeError("out of range")
        return two(n, layers)

    return build


def lazy(n, depth):
    return nn.Sequential(nn.LazyLinear(n), *(TwoLayers(n) for _ in range(depth)), nn.Linear(n, 3))


def with_parameter(value):
    def build(n, depth):
        model = two(n, depth)
        model.extra = nn.Parameter(value(n), requires_grad=value(n).is_floating_point())
        return model

    return build


def frozen(pattern):
    def build(n, depth):
        model = two(n, depth)
        for name, p in model.named_parameters():
            if pattern in name:
                p.requires_grad_(False)
        return model

    return build


BUILDERS = {
    "fails at the base": (
        fails_at(width=16), r"build\(width=16, depth=2\) failed with RuntimeError.*_refusals.py, line"),
    "fails at twice the width": (fails_at(width=32), r"build\(width=32.*multiples of base: all of them"),
    "fails at twice the depth": (fails_at(depth=4), r"build\(width=16, depth=4\) failed"),
    "fails at the target": (fails_at(width=64), r"build\(width=64, depth=8\) failed"),
    "takes one argument": (lambda n: two(n, 2), "failed with TypeError"),
    "ignores width": (lambda n, depth: two(16, depth), "build ignores width"),
    "ignores depth": (lambda n, depth: two(n, 2), "build ignores depth"),
    "not proportional": (
        lambda n, depth: Stack(
            nn.Linear(10, n), [TwoLayers(n) for _ in range(depth)], nn.Linear(n, n * n),
            nn.Linear(n * n, 3)),
        r"'norm.weight' has shape \(256, 16\).*every dimension must be constant, proportional"),
    "lazy": (lazy, r"parameter '0.weight' is lazy.*run one batch through the model inside the builder"),
    "quantised": (
        with_parameter(lambda n: torch.zeros(n, dtype=torch.int8)),
        r"'extra' is torch.int8, quantised: plan the floating-point model"),
    "complex": (
        with_parameter(lambda n: torch.zeros(n, dtype=torch.complex64)),
        r"'extra' is torch.complex64.*real and imaginary part as two parameters"),
    "no parameters": (lambda n, depth: nn.ReLU(), "has no parameters"),
    "frozen": (frozen("head"), r"'head.weight' is frozen.*roles=\{'head.weight': 'frozen'\}"),
    "layers of one index only": (
        lambda n, depth: nn.Sequential(nn.Embedding(50, n), *(TwoLayers(n) for _ in range(depth)),
                                       nn.Linear(n, 50, bias=False)),
        r"'0.weight' could be any of 2 parameters.*give its layer a name of its own"),
    "grows a fan-in with depth": (
        lambda n, depth: Stack(nn.Linear(10, n), [TwoLayers(n) for _ in range(depth)],
                               nn.Identity(), nn.Linear(n, 3 * depth)),
        r"'head.weight' has shape \(6, 16\).*every layer needs parameters of its own"),
}  # fmt: skip


@pytest.mark.parametrize("name", BUILDERS)
def test_builders_that_cannot_be_planned(name):
    build, message = BUILDERS[name]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        ll.plan(build, BASE, TARGET)


def highway(n, depth):
    model = each(lambda self, h, b, i: h + self.gates[i](h).sigmoid() * (b.branch(h) - h))(n, depth)
    model.gates = nn.ModuleList(nn.Linear(n, n) for _ in range(depth))
    return model


def reused(n, depth):
    """One matrix that the stream goes through in every layer."""
    model = each(lambda self, h, b, i: self.shared(h + b.branch(h)))(n, depth)
    model.shared = nn.Linear(n, n)
    return model


def unused(n, depth):
    model = Net(n, depth)
    model.extra = nn.ParameterList([nn.Parameter(torch.randn(n, 7))])
    return model


def tied(n, depth):
    stem, head = Tokens(n), nn.Linear(n, 50, bias=False)
    head.weight = stem.words.weight
    return Stack(stem, [TwoLayers(n) for _ in range(depth)], nn.Identity(), head)


def ended(wrap):
    class Block(TwoLayers):
        def __init__(self, n):
            super().__init__(n)
            self.wrap = wrap(n)

        def forward(self, h):
            return h + self.wrap(self.branch(h))

    return dense(Block)


def parametrized(register):
    class Block(TwoLayers):
        def __init__(self, n):
            super().__init__(n)
            register(self.a)

    return dense(Block)


MODELS = {
    # Sharing over depth.
    "one block for all": (
        running(lambda self, h: self.head(functools.reduce(
            lambda h, _: self.blocks[0](h), self.blocks, h))),
        "'blocks.0.a.weight' is used at several places"),
    "one block twice at any depth": (
        running(lambda self, h: self.head(self.blocks[0](self.blocks[0](h)))),
        "no residual branch repeats with depth"),
    "a matrix of all layers in the stream": (
        reused, "'shared.bias' is used 2 times at one depth and 4 times at twice that"),
    "a readout of every layer": (
        running(lambda self, h: sum(self.head(h := b(h)) for b in self.blocks)),
        "'head.weight' is used 2 times"),
    # Branches and what is beside them.
    "no skip connections": (each(lambda self, h, b, i: b.branch(h)), "no residual branch repeats"),
    "a gate on the stream": (highway, "branch of the model ends in 'mul'.*no weight that acts on it"),
    "two equal paths": (
        each(lambda self, h, b, i: b.a(F.relu(h)) + b.b(h)), "which is the residual branch"),
    "ends in tanh": (
        ended(lambda n: nn.Tanh()),
        "'blocks.0' ends in 'tanh'.*end the branch with a Linear, a Conv, a norm with affine=True"),
    "ends in a plain norm": (
        ended(lambda n: nn.LayerNorm(n, elementwise_affine=False)), "ends in 'native_layer_norm'"),
    "tied, and no norm": (tied, "'stem.words.weight' is both embedding and readout.*untie the two"),
    # Multipliers.
    "the stream's multiplier varies": (
        each(lambda self, h, b, i: (1 - 1 / self.depth) * h + b.branch(h)),
        "multiplies by a number that varies with depth"),
    "multipliers vary over layers": (
        each(lambda self, h, b, i: h + b.branch(h) * (1 - i / self.depth)),
        r"'blocks.\*.b.weight' is multiplied by a number that varies from layer to layer"),
    "multipliers fall with the index": (
        each(lambda self, h, b, i: h + b.branch(h) / (i + 1)), "varies from layer to layer"),
    "no power law": (
        each(lambda self, h, b, i: h + b.branch(h) / math.log(1 + self.depth)),
        "no power law with a known exponent"),
    "a multiplier of width without a weight": (
        each(lambda self, h, b, i: h + b.branch(torch.tanh(h / self.n**0.5))),
        "multiplies by 0.25 at one width"),
    # Sums.
    "a sum over width": (running(lambda self, h: h.sum(-1)), "sums over a dimension that grows"),
    "a norm over width": (
        each(lambda self, h, b, i: h + b.branch(F.normalize(h, dim=-1))), "takes a norm over"),
    "a softmax over width": (
        each(lambda self, h, b, i: h + b.branch(h.softmax(-1))), "takes a softmax over"),
    "a sum over layers": (
        running(lambda self, h: self.head(
            torch.stack([h := b(h) for b in self.blocks]).sum(0))), "sums over all layers"),
    "products of data over width": (
        each(lambda self, h, b, i: h + b.branch((h @ h.mT) @ h)),
        "multiplies two tensors that hold no parameter"),
    # Parameters whose role is unknown.
    "spectral norm": (parametrized(spectral_norm), "is turned into a weight by operations"),
    "orthogonal": (parametrized(orthogonal), "is turned into a weight by operations"),
    "unused": (unused, r"'extra.0': unused.*give roles=\{'extra.0': 'input'\} or"),
    "grown by another operation": (
        each(lambda self, h, b, i: h + F.bilinear(h, h, b.a.weight.expand(self.n, -1, -1))),
        "is used by _trilinear"),
    # Draws.
    "drawn as 1/log(depth)": (
        after(lambda m: [b.b.weight.div_(math.log(1 + m.depth)) for b in m.blocks]),
        "follows no known rule"),
    "drawn as n^-1/3": (
        after(lambda m: [b.a.weight.mul_(m.n ** (1 / 6)) for b in m.blocks]),
        "follows no known rule"),
    "zero at one size": (
        after(lambda m: m.head.weight.mul_(m.n > 16)), "zero at one size and not at another"),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_models_that_cannot_be_decided(name):
    build, message = MODELS[name]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        ll.plan(build, BASE, TARGET, scheme="completep")


@pytest.mark.parametrize(
    "name",
    [
        "the stream's multiplier varies",
        "multipliers vary over layers",
        "multipliers fall with the index",
        "no power law",
    ],
)
def test_multipliers_of_depth_without_a_rule_are_none_of_widths(name):
    build, _ = MODELS[name]
    with pytest.raises(ValueError, match="or give scheme='mup', which scales with width alone"):
        ll.plan(build, BASE, TARGET)
    assert ll.plan(build, BASE, TARGET, scheme="mup").factors()["blocks.0.b.weight"].fold == 1.0


def test_a_frozen_weight_cannot_take_a_multiplier():
    how = dict(roles={"blocks.*.b.weight": "frozen"})
    with pytest.raises(ValueError, match=r"'blocks.0.b.weight' would have to take the branch's"):
        ll.plan(frozen("b.weight"), BASE, TARGET, **how)
    plan = ll.plan(frozen("a.weight"), BASE, TARGET, roles={"blocks.*.a.weight": "frozen"})
    model = plan.apply(frozen("a.weight")(64, 8))
    trained = {id(p) for g in plan.param_groups(model, lr=1.0) for p in g["params"]}
    assert id(model.blocks[0].a.weight) not in trained
    assert plan.factors()["blocks.0.a.weight"].init == 1.0


class Bare(nn.Module):
    """Starts with no layer that says what it takes."""

    def __init__(self, n, depth):
        super().__init__()
        self.start = nn.Parameter(torch.randn(n, 10))
        self.norm = nn.LayerNorm(n)
        self.blocks = nn.ModuleList(TwoLayers(n) for _ in range(depth))
        self.head = nn.Linear(n, 3)

    def forward(self, x, y=0.0):
        h = self.norm((x + y) @ self.start.mT)
        for b in self.blocks:
            h = b(h)
        return self.head(h)


def test_inputs_that_cannot_be_guessed():
    with pytest.raises(ValueError, match=r"the model does not say what it takes.*give inputs="):
        ll.plan(Bare, BASE)
    x = torch.randn(2, 10)
    for inputs in (x, (x, x), [x, x], dict(x=x, y=x), lambda n, depth: torch.randn(depth, 10)):
        assert ll.plan(Bare, BASE, inputs=inputs).branches
    with pytest.raises(ValueError, match=r"forward pass at width=16, depth=2 failed.*give inputs="):
        ll.plan(Bare, BASE, inputs=torch.randn(2, 11))


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        (dict(build=3), TypeError, "build is int, which cannot be called"),
        (dict(build=lambda n, depth: 3), TypeError, "returned int: return a torch.nn.Module"),
        (dict(base=(16, 2)), ValueError, r"base=\(16, 2\) is not a size: give dict"),
        (dict(base=dict(width=0, depth=2)), ValueError, r"base\['width'\]=0 is too small"),
        (dict(target=dict(width=16.5, depth=2)), TypeError, "is not an integer"),
        (dict(scheme="muup"), ValueError, "scheme='muup' is unknown: did you mean 'mup'"),
        (dict(optimizer="rmsprop"), ValueError, "optimizer='rmsprop' is unknown.*choose from sgd"),
        (dict(decay="none"), ValueError, "decay='none' is unknown"),
        (dict(batch_ratio=0), ValueError, "batch_ratio=0 is out of range"),
        (dict(roles={"hed.*": "readout"}), ValueError, r"roles\['hed.\*'\] matches no parameter"),
        (dict(roles={"head.*": "out"}), ValueError, "did you mean 'readout'"),
        (dict(roles={"head.*": dict()}), ValueError, "is no role"),
        (dict(roles=("head.*", "input")), TypeError, "roles=.* is no dict"),
    ],
)
def test_bad_arguments(how, error, message):
    given = dict(build=two, base=BASE, target=TARGET) | how
    with pytest.raises(error, match=message):
        ll.plan(**given)


def test_means_and_root_mean_squares_are_fine():
    def mean_of_squares(self, h, b, i):
        scale = (h.pow(2).sum(-1, keepdim=True) / self.n + 1e-6).rsqrt()
        return h + b.branch(h * scale)

    def norm(self, h, b, i):
        return h + b.branch(h / (h.norm(dim=-1, keepdim=True) / self.n**0.5))

    for step in (mean_of_squares, norm):
        plan = ll.plan(each(step), BASE, TARGET)
        assert plan.factors()["blocks.0.b.weight"].fold == 0.25


def test_models_of_sizes_beyond_the_builders_rule():
    plan = ll.plan(two, BASE)
    with pytest.raises(ValueError, match="width=0 is too small"):
        plan.at(0, 2)
    with pytest.raises(ValueError, match="build the model with the plan's width and depth"):
        plan.param_groups(two(24, 2), lr=1.0)


def test_tied_models_whose_norm_takes_the_multiplier():
    """Llama's norm multiplies by its weight, Gemma's by 1 + weight: both take the readout's."""
    llama_plan = ll.plan(
        lambda n, depth: llama(n, depth, tie_word_embeddings=True),
        dict(width=32, depth=2),
        dict(width=64, depth=2),
    )
    assert llama_plan.factors()["model.norm.weight"].fold == 0.5
    from transformers import GemmaConfig, GemmaForCausalLM

    def gemma(n, depth, tied=True):
        return GemmaForCausalLM(
            GemmaConfig(
                vocab_size=50, hidden_size=n, intermediate_size=2 * n, num_hidden_layers=depth,
                num_attention_heads=n // 16, num_key_value_heads=n // 16, head_dim=16,
                tie_word_embeddings=tied, bos_token_id=0, eos_token_id=0, pad_token_id=0,
            )
        )  # fmt: skip

    how = dict(base=dict(width=32, depth=2), target=dict(width=64, depth=2))
    assert ll.plan(gemma, **how).factors()["model.norm.weight"].fold == pytest.approx(0.5**0.5)
    untied = ll.plan(functools.partial(gemma, tied=False), **how)
    # √n at the embedding's output is there: the constant draw is divided by it.
    assert untied.factors()["model.embed_tokens.weight"].init == pytest.approx(0.5**0.5)
