"""Weights that are divided by their norm: gains due to growing norms, and refusals."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm
from torch.nn.utils.parametrizations import orthogonal, spectral_norm, weight_norm
from torch.nn.utils.parametrize import register_parametrization

import leadline as ll
from coordinates import Net, net, slopes
from leadline.tracing.patterns import weight_norm as found_norm
from leadline.tracing.recording import record

pytestmark = pytest.mark.filterwarnings("ignore:`?torch.nn.utils.weight_norm")
X = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))


class Conv(nn.Module):
    """A normalised convolution as a residual branch."""

    def __init__(self, n, k, wrap, kind=nn.Conv1d, power=-0.5):
        super().__init__()
        self.c = kind(n, n, 3, padding=1, bias=False)
        nn.init.normal_(self.c.weight, std=3**-0.5 * n**power)
        self.c = wrap(self.c)

    def forward(self, h):
        return h + self.c(h.transpose(1, 2)).transpose(1, 2)


def names(model):
    g = next(n for n, _ in model.named_parameters() if n.endswith(("original0", "weight_g")))
    return g, g.replace("original0", "original1").replace("weight_g", "weight_v")


def effective(plan, build, n, module):
    """RMS of the weight times √fan_in (its middle dimension grows), mean over draws."""
    out = []
    for seed in range(3):
        torch.manual_seed(seed)
        model = plan.at(n, plan.base.depth).apply(build(n, plan.base.depth))
        model(X)
        out.append(float(module(model).detach().square().mean()) * n)
    return np.mean(out) ** 0.5


# Over which dimensions the norm goes: exponent of width in the gain that is due.
DIMS = [
    *((nn.Conv1d, dim, due) for dim, due in ((0, 0.0), (1, 0.0), (2, 0.5), (None, 0.5))),
    *((nn.ConvTranspose1d, dim, due) for dim, due in ((0, 0.0), (1, 0.0), (2, 0.5))),
]


@pytest.mark.parametrize(
    ("wrap", "power"), [(weight_norm, -0.5), (weight_norm, 0.0), (old_weight_norm, -0.5)]
)
@pytest.mark.parametrize(("kind", "dim", "due"), DIMS, ids=str)
def test_the_gain_of_a_norm_over_growing_dimensions(kind, dim, due, wrap, power):
    build = net(lambda n, k: Conv(n, k, lambda c: wrap(c, dim=dim), kind, power))
    plan = ll.plan(build, dict(width=16, depth=1), dict(width=64, depth=1), inputs=X)
    g, v = names(build(16, 1))
    f = plan.factors()
    m = 4.0
    assert f[g].fold == pytest.approx(m**due)
    # As torch makes it the gain is |v|: drawn ∝ n^(power + ½·growing dimensions).
    assert f[g].init == pytest.approx(m ** (-0.5 - power))
    assert f[v].init == pytest.approx(m ** (-0.5 - power))
    assert (f[g].lr, f[g].weight_decay) == pytest.approx((m**due, m**-due))
    assert f[v].lr == pytest.approx(1 / m)
    seen = [effective(plan, build, n, lambda x: x.blocks[0].c.weight) for n in (16, 256)]
    assert max(seen) / min(seen) < 1.1


def test_rates_of_gains_for_gradient_steps():
    """A gain g = √n·γ has the rates of a multiplier √n in front of γ."""
    build = net(lambda n, k: Conv(n, k, lambda c: weight_norm(c, dim=2)))
    how = dict(base=dict(width=16, depth=2), target=dict(width=64, depth=2), inputs=X)
    f = ll.plan(build, optimizer="sgd", **how).factors()[
        "blocks.0.c.parametrizations.weight.original0"
    ]
    assert (f.lr, f.weight_decay, f.fold) == pytest.approx((4.0, 1 / 4.0, 2.0))
    f = ll.plan(build, optimizer="adamw", **how).factors()
    g = f["blocks.0.c.parametrizations.weight.original0"]
    assert (g.lr, g.weight_decay, g.eps) == pytest.approx((2.0, 0.5, 0.5))


@pytest.mark.parametrize("dim", [1, 2])
def test_coordinates_of_normalised_convolutions(dim):
    build = net(lambda n, k: Conv(n, k, lambda c: weight_norm(c, dim=dim)))
    plan = ll.plan(build, dict(width=32, depth=2), inputs=X)
    found = slopes(plan, build, X, widths=(32, 64, 128, 256))
    for name in ("blocks.0.c", "blocks.1.c"):
        assert np.abs(found[name]).max() < 0.15, (name, found[name])


def test_gains_move_their_weight_by_the_same_part_at_every_width():
    build = net(lambda n, k: Conv(n, k, lambda c: weight_norm(c, dim=2)))
    plan = ll.plan(build, dict(width=32, depth=2), inputs=X)
    moved = []
    for n in (32, 128, 512):
        model = plan.at(n, 2).apply(build(n, 2))
        g = model.blocks[0].c.parametrizations.weight.original0
        before = g.detach().clone()
        o = torch.optim.AdamW(plan.at(n, 2).param_groups(model, lr=0.01))
        model(X).square().mean().backward()
        o.step()
        moved.append(float(((g.detach() - before) / before).abs().mean()))
    # One step of Adam moves an entry by the rate: rate/|g|, and |g| is known to a few per cent.
    assert moved == pytest.approx([moved[0]] * 3, rel=0.1)


FORMS = {
    "g v/|v|": lambda g, v: g * v / v.norm(dim=1, keepdim=True),
    "g (v/|v|)": lambda g, v: g * (v / v.norm(dim=1, keepdim=True)),
    "normalize": lambda g, v: F.normalize(v, dim=1) * g,
    "v (g/|v|)": lambda g, v: v * (g / (v.norm(dim=1, keepdim=True) + 1e-6)),
}


class Own(nn.Module):
    """Weight norm by hand, in the forms people write."""

    def __init__(self, n, k, form):
        super().__init__()
        self.v = nn.Parameter(torch.randn(n, n) / n**0.5)
        self.g = nn.Parameter(torch.ones(n, 1))
        self.form = form

    def forward(self, h):
        return h + torch.relu(h) @ FORMS[self.form](self.g, self.v).mT


@pytest.mark.parametrize("form", FORMS)
def test_weight_norm_by_hand(form):
    build = net(lambda n, k: Own(n, k, form))
    plan = ll.plan(build, dict(width=16, depth=2), dict(width=64, depth=8), inputs=X)
    places = {k.template: (k.role, [w for w, _ in k.takes]) for k in plan.kinds}
    assert places["blocks.*.g"] == ("vector", ["branch"])
    assert places["blocks.*.v"] == ("hidden", [])
    # One layer a branch: r^-½.
    assert plan.factors()["blocks.0.g"].init == 0.5


def test_what_is_no_weight_norm():
    class Layer(nn.Module):
        def __init__(self, make):
            super().__init__()
            self.v, self.g = nn.Parameter(torch.randn(4, 4)), nn.Parameter(torch.ones(4, 1))
            self.w, self.make = nn.Parameter(torch.randn(4, 4)), make

        def forward(self, x):
            return x @ self.make(self.v, self.g, self.w)

    def norms(make):
        graph = record(Layer(make), torch.randn(2, 4))
        return found_norm(graph, next(n for n in graph.nodes if n.op == "mm").inputs[1]) is not None

    assert norms(lambda v, g, w: g * v / v.norm())
    for make in (
        lambda v, g, w: v / v.norm(),  # no gain
        lambda v, g, w: g * v,  # no norm
        lambda v, g, w: g * v / w.norm(),  # another's norm
        lambda v, g, w: g * w * v / v.norm(),  # two gains
        lambda v, g, w: g * v / v.norm(p=1),  # another norm
        lambda v, g, w: g * v * v.norm(),  # multiplied by it
        lambda v, g, w: g * v / v.abs().max(),
        lambda v, g, w: g * v / v.norm() / w.norm(),
        lambda v, g, w: g / v * v.norm(),
    ):
        assert not norms(make)


HEADS = {
    "spectral": (spectral_norm, {"head*original": "readout"}),
    "spectral, old": (old_spectral_norm, {"head*orig": "readout"}),
    "orthogonal": (orthogonal, {"head*original": "readout"}),
    "weight": (weight_norm, {"head*original1": "readout", "head*original0": "finite"}),
}


class Wrapped(Net):
    """The readout is wrapped."""

    def __init__(self, n, depth, wrap):
        super().__init__(n, depth, lambda n, k: Conv(n, k, lambda c: c))
        self.head = wrap(nn.Linear(n, 5, bias=False))


class Normalised(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, w):
        return self.f(w)


def normalised(f):
    def wrap(layer):
        register_parametrization(layer, "weight", Normalised(f), unsafe=True)
        return layer

    return wrap


REFUSED = {
    "spectral": spectral_norm,
    "spectral, old": old_spectral_norm,
    "orthogonal": orthogonal,
    "rows of length 1": normalised(lambda w: F.normalize(w, dim=1)),
    "a norm": normalised(lambda w: F.layer_norm(w, w.shape[-1:])),
    "signs": normalised(torch.sign),
    "squares": normalised(lambda w: w * w),
}


@pytest.mark.parametrize("name", REFUSED)
def test_readouts_whose_scale_is_normalised_away_are_refused(name):
    wrap = REFUSED[name]
    build = lambda n, depth: Wrapped(n, depth, wrap)  # noqa: E731
    how = dict(base=dict(width=32, depth=2), target=dict(width=256, depth=2), inputs=X)
    with pytest.raises(
        ValueError, match="is turned into a weight by operations whose scale cannot"
    ):
        ll.plan(build, **how)
    (own,) = (n for n, p in build(8, 1).named_parameters() if n.startswith("head"))
    with pytest.raises(
        ValueError, match=rf"{own}' is turned into a weight .*change its scale.*is due"
    ):
        ll.plan(build, roles={own: "readout"}, **how)
    # With no factors there is nothing to be wrong.
    assert ll.plan(build, roles={own: "readout"}, scheme="sp", **how).factors()[own].init == 1.0


def test_a_weight_normalised_readout():
    build = lambda n, depth: Wrapped(n, depth, weight_norm)  # noqa: E731
    how = dict(base=dict(width=16, depth=2), target=dict(width=256, depth=2), inputs=X)
    with pytest.raises(ValueError, match="is the gain of a weight-normalised readout"):
        ll.plan(build, **how)
    # Its gain stands for a norm that falls as n^-½.
    given = {"head*original1": "readout", "head*original0": "finite"}
    plan = ll.plan(build, roles=given, **how)
    assert plan.factors()["head.parametrizations.weight.original0"].fold == 0.25
    seen = [effective(plan, build, n, lambda x: x.head.weight) * n**0.5 for n in (16, 64, 256)]
    assert max(seen) / min(seen) < 1.15


@pytest.mark.parametrize("name", REFUSED)
def test_hidden_weights_pass_if_they_have_the_scale_that_is_due(name):
    """Unit rows, unit spectral norm and orthonormal rows have entries ∝ n^-½ anyway."""
    wrap = REFUSED[name]

    class Block(nn.Module):
        def __init__(self, n, k):
            super().__init__()
            self.a, self.b = wrap(nn.Linear(n, n, bias=False)), nn.Linear(n, n, bias=False)

        def forward(self, h):
            return h + self.b(torch.relu(self.a(h)))

    build = net(Block)
    own = next(n for n, _ in build(8, 1).named_parameters() if ".a." in n).replace("0", "*", 1)
    how = dict(
        base=dict(width=32, depth=2),
        target=dict(width=256, depth=2),
        inputs=X,
        roles={own: "hidden"},
    )
    if name in ("a norm", "signs", "squares"):
        with pytest.raises(ValueError, match="change its scale"):
            ll.plan(build, **how)
        return
    plan = ll.plan(build, **how)
    assert plan.factors()[own.replace("*", "0")].lr == 1 / 8
    if name == "spectral":
        found = slopes(plan, build, X, widths=(32, 64, 128), seeds=2)
        assert np.abs(found["blocks.1.b"]).max() < 0.2


def test_a_branch_does_not_fold_into_what_is_normalised():
    for wrap in (spectral_norm, normalised(lambda w: F.layer_norm(w, w.shape[-1:]))):
        build = net(lambda n, k: Conv(n, k, wrap))  # noqa: B023
        own = next(n for n, _ in build(8, 1).named_parameters() if ".c." in n).replace("0", "*", 1)
        with pytest.raises(
            ValueError, match="no weight that acts on it alone can take the branch's"
        ):
            ll.plan(build, dict(width=32, depth=2), inputs=X, roles={own: "hidden"})


class Table(nn.Module):
    """Rows of a table that is made of a parameter."""

    def __init__(self, n, depth, f):
        super().__init__()
        self.e, self.f = nn.Parameter(torch.randn(64, n)), f
        self.blocks = nn.ModuleList(Conv(n, k, lambda c: c) for k in range(depth))
        self.head = nn.Linear(n, 64, bias=False)

    def forward(self, x):
        h = self.f(self.e)[x]
        for b in self.blocks:
            h = b(h)
        return self.head(h)


def test_tables_whose_scale_is_normalised_away_are_refused():
    tokens = torch.randint(0, 64, (2, 6), generator=torch.Generator().manual_seed(0))
    for f, fails in (
        (lambda w: F.normalize(w, dim=1), True),
        (lambda w: F.layer_norm(w, w.shape[-1:]), False),
        (torch.tanh, False),
        (lambda w: w * 2.0, False),
    ):
        build = lambda n, depth, f=f: Table(n, depth, f)  # noqa: E731
        how = dict(base=dict(width=16, depth=2), target=dict(width=64, depth=2), inputs=tokens)
        if fails:
            with pytest.raises(
                ValueError, match=r"'e' is turned into a weight .*0.707 where 1 is due"
            ):
                ll.plan(build, **how)
        else:
            assert ll.plan(build, **how).factors()["e"].init == 1.0


def test_depthwise_filters_and_stems():
    """Norms over both dimensions of a filter a channel: n terms, of constant size."""

    class Deep(nn.Module):
        def __init__(self, n, k):
            super().__init__()
            self.c = weight_norm(nn.Conv1d(n, n, 3, padding=1, groups=n, bias=False), dim=2)
            self.o = nn.Linear(n, n, bias=False)

        def forward(self, h):
            return h + self.o(torch.relu(self.c(h.transpose(1, 2)).transpose(1, 2)))

    def build(n, depth):
        model = Net(n, depth, Deep)
        model.stem = weight_norm(model.stem, dim=0)
        return model

    plan = ll.plan(build, dict(width=16, depth=2), dict(width=64, depth=2), inputs=X)
    f = plan.factors()
    assert f["blocks.0.c.parametrizations.weight.original0"].fold == 2.0
    assert f["stem.parametrizations.weight.original0"].fold == 1.0
    assert {w for k in plan.kinds if k.template.startswith("stem") for w, _ in k.takes} == set()
