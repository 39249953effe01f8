"""Parameters that the inputs do not reach, beside those that they do."""

import pytest
import torch
from torch import nn

import leadline as ll
from leadline.parametrization.rules import ONE

BASE, TARGET = dict(width=16, depth=2), dict(width=32, depth=4)
X = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))


class Layer(nn.Module):
    """Modules by name, of which the first two run one after the other in a branch."""

    def __init__(self, parts):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self.run = list(parts)[:2]

    def forward(self, h):
        y = h
        for name in self.run:
            y = self.get_submodule(name)(y)
        return h + y


class Net(nn.Module):
    def __init__(self, n, depth, parts, extra=lambda n, depth: nn.Identity()):
        super().__init__()
        self.stem, self.head = nn.Linear(8, n), nn.Linear(n, 3)
        self.layers = nn.ModuleList(Layer(parts(n)) for _ in range(depth))
        self.extra = extra(n, depth)

    def forward(self, x):
        h = self.stem(x)
        for layer in self.layers:
            h = layer(h)
        return self.head(h)


def line(n, out=None):
    return nn.Linear(n, out or n, bias=False)


def mlp(n):
    return nn.Sequential(line(n, 2 * n), nn.ReLU(), line(2 * n, n))


def planned(parts, extra=lambda n, depth: nn.Identity(), **how):
    plan = ll.plan(lambda n, depth: Net(n, depth, parts, extra), BASE, TARGET, inputs=(X,), **how)
    return plan, {k.template: k for k in plan.kinds}


def test_what_is_called_almost_alike_in_one_layer_stands_at_its_place():
    # Experts of pictures, which are smaller, beside those of words.
    def parts(n):
        small = nn.Sequential(line(n, n), nn.ReLU(), line(n, n))
        return dict(norm=nn.LayerNorm(n), text_experts=mlp(n), image_experts=small)

    plan, kinds = planned(parts)
    factors = plan.factors()
    for i in "02":
        text, image = (kinds[f"layers.*.{what}_experts.{i}.weight"] for what in ("text", "image"))
        assert (image.role, image.branch, image.last) == (text.role, text.branch, text.last)
        assert image.takes == text.takes
        assert "taken to be as layers.*.text_experts" in image.reason
        a, b = (factors[f"layers.1.{what}_experts.{i}.weight"] for what in ("text", "image"))
        assert vars(a) == pytest.approx(vars(b))
    assert kinds["layers.*.image_experts.2.weight"].takes == (("branch", ONE),)


def test_the_most_similar_name_counts():
    # ``query_global`` is like ``query`` and not like the last layer of the branch.
    def parts(n):
        return dict(query=line(n), value=line(n), query_global=line(n), value_global=line(n))

    _, kinds = planned(parts)
    assert not kinds["layers.*.query_global.weight"].last
    assert kinds["layers.*.value_global.weight"].last


def test_what_is_like_several_that_stand_elsewhere_is_refused():
    # ``fc3`` is as near to the first layer of the branch as to its last.
    def parts(n):
        return dict(fc1=line(n), fc2=line(n), fc3=line(n))

    with pytest.raises(ValueError, match=r"do not reach 'layers\.\*\.fc3\.\*', which repeats") as e:
        planned(parts)
    assert "roles={'layers.*.fc3.*': dict(branch=False)}" in str(e.value)
    _, kinds = planned(parts, roles={"layers.*.fc3.*": dict(branch=False)})
    c = kinds["layers.*.fc3.weight"]
    assert (c.role, c.branch, c.takes) == ("hidden", None, ())
    # Over width alone there is nothing to know.
    _, kinds = planned(parts, scheme="mup")
    assert kinds["layers.*.fc3.weight"].role == "hidden"


def test_a_part_of_the_model_that_is_not_reached_is_refused_in_one_line():
    def tower(n, depth):
        return nn.ModuleDict(
            dict(layers=nn.ModuleList(Layer(two(n)) for _ in range(depth)), stem=nn.Linear(5, n))
        )

    def two(n):
        return dict(a=line(n), b=line(n))

    with pytest.raises(ValueError, match=r"do not reach 'extra\.\*'") as e:
        planned(two, tower)
    assert str(e.value).count("do not reach") == 1
    _, kinds = planned(two, tower, roles={"extra.*": dict(branch=False)})
    assert kinds["extra.stem.weight"].role == "input"
    assert kinds["extra.layers.*.b.weight"].takes == ()
    assert kinds["layers.*.b.weight"].takes == (("branch", ONE),)


def test_what_is_not_reached_and_stays_at_any_depth_is_planned_by_its_module():
    _, kinds = planned(lambda n: dict(a=line(n), b=line(n)), lambda n, depth: line(n, 7))
    assert kinds["extra.weight"].role == "readout"


def test_an_unused_bias_stands_beside_its_weight():
    class Bare(Layer):
        def forward(self, h):
            y = torch.relu(h @ self.get_submodule("a").weight)
            return h + y @ self.get_submodule("b").weight

    def build(n, depth):
        model = Net(n, depth, lambda n: {})
        model.layers = nn.ModuleList(
            Bare(dict(a=nn.Linear(n, n), b=nn.Linear(n, n))) for _ in range(depth)
        )
        return model

    plan = ll.plan(build, BASE, TARGET, inputs=(X,))
    kinds = {k.template: k for k in plan.kinds}
    for name, last in (("a", False), ("b", True)):
        weight, bias = (kinds[f"layers.*.{name}.{what}"] for what in ("weight", "bias"))
        assert (bias.role, bias.branch, bias.last, bias.takes) == (
            "vector", weight.branch, last, weight.takes)  # fmt: skip


def test_what_does_not_train_is_like_nothing_that_does():
    def build(n, depth):
        model = Net(n, depth, lambda n: dict(text=mlp(n), image=mlp(n)))
        for layer in model.layers:
            layer.run = ["text"]
            layer.image.requires_grad_(False)
        return model

    plan = ll.plan(build, BASE, TARGET, inputs=(X,))
    roles = {k.template: (k.role, k.takes) for k in plan.kinds}
    assert roles["layers.*.image.2.weight"] == ("frozen", ())
    assert roles["layers.*.text.2.weight"] == ("hidden", (("branch", ONE),))


def test_a_role_that_is_given_leaves_the_place_as_it_is():
    parts = lambda n: dict(norm=nn.LayerNorm(n), text=mlp(n), image=mlp(n))  # noqa: E731
    _, kinds = planned(parts, roles={"layers.*.image.2.weight": "hidden"})
    image = kinds["layers.*.image.2.weight"]
    assert (image.reason, image.takes, image.last) == ("given by roles=", (("branch", ONE),), True)
