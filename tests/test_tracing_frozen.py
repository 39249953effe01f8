"""What does not train: left alone, rescaled as its role, or refused."""

import pytest
import torch
from torch import nn

import leadline as ll
from leadline.tracing.initialization import Rule
from survey_models import X, model, read_model


def freeze(name):
    def change(self, n, depth):
        for key, p in self.named_parameters():
            if name in key:
                p.requires_grad_(False)

    return model(change)


def test_what_does_not_train_takes_no_multiplier():
    s, kinds = read_model(freeze(".b."), {"*.b.*": "frozen"})
    b = kinds["blocks.*.b.weight"]
    assert (b.role, b.takes, b.rule) == ("frozen", (), Rule(fixed=True))
    ((what, line),) = s.obstacles
    assert what == "branch"
    assert line.startswith(
        "parameter 'blocks.0.b.weight' would have to take the branch's multiplier"
    )


def test_what_does_not_train_and_takes_no_multiplier_is_left_alone():
    s, _ = read_model(freeze(".a."), {"*.a.*": "frozen"})
    assert s.obstacles == ()


def drawn(name, power, depths=0.0):
    """Frozen weights with deviations ∝ n^power · L^depths."""

    def change(self, n, depth):
        for key, p in self.named_parameters():
            if key.endswith(name):
                nn.init.normal_(p.requires_grad_(False), std=n**power * depth**depths)

    return model(change)


@pytest.mark.parametrize(("name", "power"), [("i.weight", 0.0), ("a.weight", -0.5)])
def test_what_does_not_train_and_is_drawn_as_its_role_is_left_alone(name, power):
    s, kinds = read_model(drawn(name, power))
    (k,) = [k for t, k in kinds.items() if t.endswith(name)]
    assert (k.role, k.rule, s.obstacles) == ("frozen", Rule(fixed=True), ())


@pytest.mark.parametrize(("name", "power"), [("i.weight", 0.0), ("a.weight", -0.5)])
@pytest.mark.parametrize(("off", "depths"), [(0.5, 0.0), (-0.5, 0.0), (0.0, -0.5)])
def test_what_does_not_train_and_is_drawn_otherwise_is_rescaled(name, power, off, depths):
    build = drawn(name, power + off, depths)
    plan = ll.plan(build, dict(width=16, depth=2), dict(width=64, depth=8), inputs=X)
    (kind,) = [k for k in plan.kinds if k.template.endswith(name)]
    assert (kind.role, kind.reason.split(";")[0]) == ("frozen", "does not train")
    assert plan.kind_factors(kind).init == pytest.approx(4**-off * 4**-depths)
    torch.manual_seed(0)
    scaled = plan.apply(build(64, 8))
    torch.manual_seed(0)
    code: dict = {}
    exec(plan.to_code(), code)
    other = code["rescale_"](build(64, 8))
    values = dict(other.named_parameters())
    for n, p in scaled.named_parameters():
        torch.testing.assert_close(p, values[n])
    frozen = {id(p) for n, p in scaled.named_parameters() if n.endswith(name)}
    for groups in (plan.param_groups(scaled, 1e-3), code["param_groups"](scaled, 1e-3)):
        assert not frozen & {id(p) for g in groups for p in g["params"]}
    assert ll.plan(build, dict(width=16, depth=2), dict(width=64, depth=8), "sp", inputs=X).kind_factors(
        kind).init == 1.0  # fmt: skip
    alone = ll.plan(build, dict(width=16, depth=2), dict(width=64, depth=8), inputs=X,
                    roles={kind.template: "frozen"})  # fmt: skip
    assert (
        alone.factors()[next(n for n, _ in scaled.named_parameters() if n.endswith(name))].init
        == 1.0
    )


def test_a_readout_that_does_not_train_is_given_as_frozen():
    with pytest.raises(ValueError, match=r"'o.weight' is frozen .*roles=\{'o.weight': 'frozen'\}"):
        read_model(freeze("o."))

    def ones(self, n, depth):
        nn.init.ones_(self.o.weight.requires_grad_(False))

    with pytest.raises(ValueError, match=r"multiplies two tensors that hold no parameter"):
        ll.plan(model(ones), dict(width=16, depth=2), inputs=X)

    def signs(self, n, depth):
        self.o.weight = nn.Parameter(torch.ones_like(self.o.weight) * (torch.arange(n) % 2), False)

    with pytest.raises(ValueError, match=r"'o.weight' is frozen .*roles=\{'o.weight': 'frozen'\}"):
        read_model(model(signs))
    read_model(model(signs), {"o.weight": "frozen"})
    with pytest.raises(ValueError, match=r"'i.weight' is frozen .*not 'input'"):
        read_model(freeze("i."), {"i.weight": "input"})
    with pytest.raises(ValueError, match=r"'i.weight' trains "):
        read_model(model(), {"i.weight": "frozen"})
