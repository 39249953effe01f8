"""Schemes of width alone need nothing of what depth leaves undecided."""

import pytest
import torch
from torch import nn

import leadline as ll
from leadline.planning.remedies import offered
from survey_models import X, linear
from test_tracing_first import FirstPlain
from tracing_models import TwoLayers

BASE, WIDE = {"width": 16, "depth": 2}, {"width": 64, "depth": 2}
LARGE = {"width": 64, "depth": 4}


class Blocks(nn.Module):
    """Residual blocks, and what is made of what they make."""

    def __init__(self, n, depth):
        super().__init__()
        self.i, self.o = linear(8, n), linear(n, 4)
        self.blocks = nn.ModuleList(TwoLayers(n) for _ in range(depth))
        self.last(n, depth)

    def last(self, n, depth):
        """What is behind the blocks."""

    def forward(self, x):
        h, kept = self.i(x), []
        for b in self.blocks:
            h = b(h)
            kept.append(h)
        return self.o(self.end(h, kept))


class OfAll(Blocks):
    def end(self, h, kept):
        return torch.stack(kept).sum(0)


class OneByOne(Blocks):
    def last(self, n, depth):
        self.shared = linear(n, n)

    def end(self, h, kept):
        return h + sum(map(self.shared, kept))


class Concatenated(Blocks):
    def last(self, n, depth):
        self.all = linear(depth * n, n)

    def end(self, h, kept):
        return self.all(torch.cat(kept, -1))


class Affine(Blocks):
    """Two entries beside those of the layers."""

    def last(self, n, depth):
        self.all = linear((depth + 2) * n, n)

    def end(self, h, kept):
        return self.all(torch.cat([h, *kept, -h], -1))


class Equal(Blocks):
    """Two paths as long as each other, in every layer."""

    def forward(self, x):
        h = self.i(x)
        for b in self.blocks:
            h = b.a(h) + b.b(h)
        return self.o(h)


def second_plain(n, depth):
    """Of two layers the last, of four the second has no skip connection."""
    return FirstPlain(n, depth, lambda k: k == 1)


# Does a refusal under a scheme of depth offer one of width alone (or roles)?
UNDECIDED = {
    OfAll: True,
    OneByOne: True,
    Concatenated: True,
    Affine: True,
    Equal: True,
    second_plain: True,
}


@pytest.mark.parametrize("build", UNDECIDED)
@pytest.mark.parametrize("scheme", ["mup", "sp"])
def test_what_depth_leaves_undecided_is_no_matter_of_width(build, scheme):
    with pytest.raises(ValueError, match=r"\w") as e:
        ll.plan(build, BASE, LARGE, scheme="completep", inputs=X)
    assert (offered(str(e.value)).get("scheme") == "mup") == UNDECIDED[build]
    plan = ll.plan(build, BASE, WIDE, scheme=scheme, inputs=X)
    assert bool(plan.branches) == (build is OneByOne)  # Nothing else of it is undecided.
    factors = plan.factors()
    # Adam's rates.
    expected = {"sp": (1.0, 1.0, 1.0), "mup": (0.25, 0.25, 1.0)}[scheme]
    names = ("blocks.1.a.weight", "o.weight", "i.weight")
    assert tuple(factors[n].lr for n in names) == expected


@pytest.mark.parametrize("build", UNDECIDED)
def test_between_sizes_of_one_depth_what_depth_leaves_undecided_is_no_matter(build):
    plan = ll.plan(build, BASE, WIDE, scheme="completep", inputs=X)
    assert plan.factors() == ll.plan(build, BASE, WIDE, scheme="mup", inputs=X).factors()
    assert plan.width_alone
    assert f"for depth=2 alone: {plan.width_alone}" in str(plan)
    assert "give" not in plan.width_alone
    for again in (plan, ll.Plan.from_json(plan.to_json())):
        assert again.width_alone == plan.width_alone
        assert again.at(32, 2).target.width == 32
        with pytest.raises(
            ValueError, match=r"depth=4: this plan is for depth=2 alone, that of its"
        ):
            again.at(32, 4)
    # Without a target, or under a scheme of width, any depth may come.
    with pytest.raises(ValueError, match=r"\w"):
        ll.plan(build, BASE, scheme="completep", inputs=X)
    assert not ll.plan(build, BASE, WIDE, scheme="mup", inputs=X).width_alone


def test_what_can_be_read_over_depth_is_read_between_sizes_of_one_depth_too():
    class Plain(Blocks):
        def end(self, h, kept):
            return h

    plan = ll.plan(Plain, BASE, WIDE, inputs=X)
    assert not plan.width_alone
    assert plan.at(16, 8).factors()["blocks.7.b.weight"].fold == 0.25


class Fixed(nn.Module):
    """As many layers at any depth, none with a skip connection."""

    def __init__(self, n, depth):
        super().__init__()
        self.i, self.a, self.o = linear(8, n), linear(n, n), linear(n, 4)

    def forward(self, x):
        return self.o(self.a(self.i(x).relu()).relu())


@pytest.mark.parametrize("scheme", ["auto", "completep", "depth-mup", "ntk"])
def test_a_model_of_one_depth(scheme):
    plan = ll.plan(Fixed, BASE, WIDE, scheme=scheme, inputs=X)
    assert "has the same parameters" in plan.width_alone
    # Adam's step moves what comes behind by n^-½ where features are to stay.
    lazy = scheme == "ntk"
    expected = {
        "i.weight": 0.5 if lazy else 1.0,
        "a.weight": 0.125 if lazy else 0.25,
        "o.weight": 0.25,
    }
    assert {n: f.lr for n, f in plan.factors().items()} == expected
    with pytest.raises(ValueError, match=r"build ignores depth"):
        ll.plan(Fixed, BASE, LARGE, scheme=scheme, inputs=X)


def test_what_width_leaves_undecided_is_refused_under_any_scheme():
    class Sums(Equal):
        def forward(self, x):
            return super().forward(x) + (self.i(x) ** 2).sum(-1, keepdim=True)

    for scheme in ("completep", "mup"):
        with pytest.raises(ValueError, match="sums over a dimension that grows with width"):
            ll.plan(
                Sums,
                BASE,
                WIDE,
                scheme=scheme,
                inputs=X,
                roles={"blocks.*.b.weight": dict(branch=False)},
            )


def test_what_grows_with_width_and_with_depth_by_a_part():
    deep = {"width": 64, "depth": 6}
    plan = ll.plan(Affine, BASE, deep, scheme="mup", inputs=X)
    assert plan.apply(Affine(64, 6)).all.weight.shape == (64, 8 * 64)
    assert plan.factors()["all.weight"].lr == 0.25


def test_a_weight_norm_whose_number_is_another_at_twice_the_depth():
    """Layers and what follows them in one numbered list: the last has another name in a deeper network."""

    class Residual(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.a, self.b = linear(n, n), linear(n, n)

        def forward(self, x):
            return x + self.b(torch.relu(self.a(x)))

    def build(n, depth):
        end = nn.utils.parametrizations.spectral_norm(linear(n, 2 * n))
        return nn.Sequential(
            linear(8, n), *(Residual(n) for _ in range(depth)), end, nn.Linear(2 * n, 4)
        )

    plan = ll.plan(
        build, BASE, WIDE, scheme="mup", inputs=X, roles={"3.*": "hidden", "5.*": "hidden"}
    )
    assert plan.factors()["1.a.weight"].lr == 0.25


def squares(model, batch):
    return (model(batch) - 1).square().mean()


def test_checks_and_sweeps_over_width_need_no_depth():
    task = ll.Task(squares, batch=X)
    how = dict(base=BASE, widths=[16, 32])
    report = ll.check(task, Fixed, depths=[2], seeds=2, steps=2, progress=False, **how)
    assert {row.axis for row in report.rows} == {"width"}
    done = ll.sweep(task, Fixed, depths=[2], lrs=[1e-3, 2e-3], steps=2, **how)
    assert len(done.rows) == 4
    with pytest.raises(ValueError, match="build ignores depth"):
        ll.check(task, Fixed, depths=[2, 4], seeds=2, steps=2, progress=False, **how)
    with pytest.raises(ValueError, match="build ignores depth"):
        ll.sweep(task, Fixed, depths=[2, 4], lrs=[1e-3], steps=2, **how)
