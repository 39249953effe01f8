"""``to_code``: the printed program does what the plan does."""

import pytest
import torch

import leadline as ll
from check_models import Model, gpt2


def both(build, optimizer, **how):
    plan = ll.plan(
        build, dict(width=16, depth=2), dict(width=32, depth=4), optimizer=optimizer, **how
    )
    space = {}
    exec(compile(plan.to_code(), "plan", "exec"), space)
    torch.manual_seed(0)
    mine = plan.apply(build(32, 4))
    torch.manual_seed(0)
    theirs = space["rescale_"](build(32, 4))
    return plan, space, mine, theirs


@pytest.mark.parametrize("build", [Model, gpt2])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "lion", "signsgd", "adafactor"])
def test_the_same_values_and_groups(build, optimizer):
    plan, space, mine, theirs = both(build, optimizer)
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)
    how = dict(lr=3e-3, weight_decay=0.1)
    ours = plan.param_groups(mine, eps=1e-3 if optimizer == "adafactor" else 1e-8, **how)
    for g, h in zip(ours, space["param_groups"](theirs, **how), strict=True):
        assert {k: v for k, v in g.items() if k != "params"} == {
            k: v for k, v in h.items() if k != "params"
        }
        assert [tuple(p.shape) for p in g["params"]] == [tuple(p.shape) for p in h["params"]]


@pytest.mark.parametrize("batch", [1.0, 4.0])
def test_muon_in_two_parts(batch):
    plan, space, mine, theirs = both(Model, "muon", batch_ratio=batch)
    for part, flag in (("muon", True), ("adamw", False)):
        ours = plan.param_groups(mine, lr=0.01, part=part)
        printed = space["param_groups"](theirs, lr=0.01, muon=flag)
        assert [{k: v for k, v in g.items() if k != "params"} for g in ours] == [
            {k: v for k, v in g.items() if k != "params"} for g in printed
        ]


def test_batch_and_duration_are_printed():
    _, space, _, theirs = both(Model, "adamw", batch_ratio=4.0)
    group = space["param_groups"](theirs, lr=1.0)[0]
    assert group["betas"] == pytest.approx((0.6, 0.996))
    assert group["lr"] == pytest.approx(2.0)
