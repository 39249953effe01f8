"""Builders of wide models: draws are told from the operations; what depends on values is refused."""

import ast
import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import leadline as ll
from leadline.matrixfree.hollow import hollow_model
from leadline.tracing.builder import Size
from wide_blocks import Block, N, configured, replay


def drawn(initialize, shape=(N, N), **options):
    """The noted draw of a matrix that was initialized so, and its dense entries."""

    def build(width, depth):
        layer = nn.Linear(shape[1], shape[0], bias=False)
        with torch.no_grad():
            initialize(layer.weight)
        return layer

    dense = build(0, 0).weight
    return hollow_model(build, Size(N, 2), 0, {"weight": shape})[1]["weight"], dense


@pytest.mark.parametrize(
    ("initialize", "std"),
    [
        (nn.init.xavier_uniform_, (2 / (400 + 300)) ** 0.5),
        (nn.init.xavier_normal_, (2 / (400 + 300)) ** 0.5),
        (nn.init.kaiming_uniform_, (2 / 300) ** 0.5),
        (nn.init.kaiming_normal_, (2 / 300) ** 0.5),
        (nn.init.zeros_, 0.0),
        (lambda w: nn.init.trunc_normal_(w, std=0.3), 0.3),
        (lambda w: nn.init.trunc_normal_(w, std=0.3, a=-0.3, b=0.3), 0.3 * 0.5396),
        (lambda w: w.uniform_(-1, 1).mul_(3).div_(2).neg_(), 1.5 / 3**0.5),
        (lambda w: w.normal_(1.0, 2.0).sub_(1.0), 2.0),
        (lambda w: nn.init.normal_(nn.init.orthogonal_(w), std=0.7), 0.7),
    ],
)
def test_standard_deviation_of_a_draw_is_that_of_dense_entries(initialize, std):
    draw, dense = drawn(initialize, (400, 300))
    assert draw.std() == pytest.approx(std, rel=2e-3)
    assert float(dense.detach().std()) == pytest.approx(std, rel=0.02)


def test_a_sample_is_the_same_in_every_call_and_leaves_random_numbers_alone():
    state = torch.get_rng_state()
    draw, _ = drawn(lambda w: w.uniform_(0.5, 1.5).log_().sub_(w.new_tensor(0.0)))
    assert draw._known() is None
    torch.set_rng_state(state)
    with pytest.raises(ValueError, match=r"the mean -0\.0\d+, not 0"):
        draw.std()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("initialize", "why"),
    [
        (nn.init.orthogonal_, "copy_"),
        (nn.init.eye_, "eye"),
        (lambda w: nn.init.sparse_(w, 0.5), "index_put_"),
        (lambda w: w[:3].normal_(), "normal_ of a part"),
        (lambda w: w.mul_(torch.arange(N)[:, None]), "mul_"),
        (lambda w: w.copy_(torch.ones(N, N)), "copy_"),
        (lambda w: w.div_(w.norm()), "div_"),
        (lambda w: w.cumsum_(0), "cumsum_"),
        (lambda w: w.tril_(), "tril_"),
        (nn.init.ones_, "mean 1"),
    ],
)
def test_what_is_no_independent_draw_is_told(initialize, why):
    with pytest.raises(ValueError, match=why):
        drawn(initialize)[0].std()


def _rows(shape):
    return torch.zeros(shape).index_fill_(0, torch.arange(3), 0.1)


def _mask(s, values):
    s.register_buffer("mask", values)


@pytest.mark.parametrize(
    "prepare",
    [
        lambda s: _mask(s, torch.ones(s.layer.weight.shape).tril().t() / len(s.layer.weight)),
        lambda s: _mask(s, torch.ones(s.layer.weight.shape) / len(s.layer.weight)),
        lambda s: setattr(s, "mask", _rows(s.layer.weight.shape)),
    ],
)
def test_other_tensors_of_a_wide_shape_have_their_values(prepare):
    c = configured(lambda n: Block(n, prepare, lambda s, x: s.layer(x * s.mask.sum(0))))
    r = replay(c)
    assert len(r.wide) == 2
    assert r.difference < 1e-12


def test_a_weight_in_a_list_is_the_wide_one():
    def prepare(s):
        s.weights = [s.layer.weight]

    r = replay(configured(lambda n: Block(n, prepare, lambda s, x: F.linear(x, s.weights[0]))))
    assert len(r.wide) == 2
    assert r.difference < 1e-12


def _copies(s):
    s.other = copy.deepcopy(s.layer)


def _reads(s):
    s.first_entry = float(s.layer.weight.detach()[0, 0])


def _orthogonal(s):
    nn.init.orthogonal_(s.layer.weight)


def _hook(s):
    s.layer.weight.register_hook(lambda g: g / 10)


@pytest.mark.parametrize(
    ("prepare", "forward", "why"),
    [
        (_copies, lambda s, x: s.other(torch.tanh(s.layer(x))), "copies of one draw"),
        (_reads, lambda s, x: s.layer(x), "reads values"),
        (_orthogonal, lambda s, x: s.layer(x), "not drawn as independent entries"),
        (_hook, lambda s, x: s.layer(x), "hook on its gradient"),
        (
            lambda s: s.register_buffer("start", s.layer.weight.detach().clone()),
            lambda s, x: s.layer(x * (1 + s.start.sum(0))),
            "made of the values",
        ),
        (
            lambda s: setattr(s, "start", s.layer.weight.data),
            lambda s, x: s.layer(x * (1 + s.start.sum(0))),
            "made of the values",
        ),
    ],
)
def test_what_depends_on_values_is_refused_and_the_remedy_works(prepare, forward, why):
    # Where nothing else is wide, a draw that cannot be stands for no solve at all.
    remedy = "train it with leadline.train" if prepare is _orthogonal else "stored="
    with pytest.raises(ValueError, match=f"(?s){why}.*{remedy}"):
        replay(configured(lambda n: Block(n, prepare, forward)))

    def with_another(n):
        return nn.Sequential(nn.Linear(n, n), Block(n, prepare, forward))

    r = replay(configured(with_another, stored="blocks.*.1.*"))
    assert len(r.wide) == 2
    assert r.difference < 1e-12


def test_draws_that_cannot_be_wide_are_refused_together():
    def build(n):
        return nn.Sequential(nn.Linear(n, n), Block(n, _orthogonal))

    with pytest.raises(ValueError, match="2 parameters are not drawn as independent") as refused:
        replay(configured(build))
    stored = ast.literal_eval(str(refused.value).split("stored=")[1].split(" to keep")[0])
    assert len(stored) == 2
    r = replay(configured(build, stored=stored))
    assert len(r.wide) == 2
    assert r.difference < 1e-12


class Experts(nn.Module):
    """More experts than rows, each a module."""

    def __init__(self, n):
        super().__init__()
        self.router = nn.Linear(n, 6)
        self.experts = nn.ModuleList(nn.Linear(n, n) for _ in range(6))

    def forward(self, x):
        best, out = self.router(x).argmax(-1), torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            rows = (best == i).nonzero()[:, 0]
            out = out.index_add(0, rows, expert(x[rows]))
        return out


@pytest.mark.parametrize(
    "recipe",
    [
        ll.SGD(lr=0.1, steps=4, momentum=0.9, weight_decay=0.5),
        ll.AdamW(lr=1e-3, steps=4, weight_decay=0.5),
    ],
)
def test_experts_without_rows_have_the_gradient_zero(recipe):
    """Momentum and decay go on for them."""
    assert replay(configured(Experts, recipe)).difference < 1e-12


def test_recipes_without_decay_of_hidden_weights():
    recipes = [
        ll.AdamW(lr=1e-3, steps=3, weight_decay=0.5, no_decay=n) for n in ((), ("*.layer.weight",))
    ]
    results = [replay(configured(lambda n: Block(n, lambda s: None), r)) for r in recipes]
    assert max(r.difference for r in results) < 1e-12
    assert abs(results[0].solved[-1] / results[1].solved[-1] - 1) > 1e-5


def _function(s, x):
    return Linear.apply(x, s.layer.weight)


class Linear(torch.autograd.Function):
    """A product with a gradient of one's own."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x @ w.t()

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g @ w, g.t() @ x


def _both(s, x):
    return s.other(F.linear(F.linear(x, s.layer.weight), s.layer.weight.T))


def _another(s):
    s.other = nn.Linear(*s.layer.weight.shape)


@pytest.mark.parametrize(
    ("prepare", "forward", "options", "why"),
    [
        (lambda s: None, _function, {}, "torch.autograd.Function"),
        (_another, _both, dict(coupling="independent"), "would be two weights"),
    ],
)
def test_uses_that_would_be_wrong_are_refused(prepare, forward, options, why):
    with pytest.raises(ValueError, match=f"(?s){why}.*stored='blocks"):
        replay(configured(lambda n: Block(n, prepare, forward), **options))
