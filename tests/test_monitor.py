"""A real run is compared with a check at small sizes: silent where right, else it names the layer."""

import json
import warnings

import pytest
import torch

import leadline as ll
from check_models import BATCH, TOKENS, Model, gpt2, mse, next_token
from leadline.checking.saved import read_report

BASE, TARGET = dict(width=32, depth=2), dict(width=256, depth=4)
TASK = ll.Task(mse, batch=BATCH)


@pytest.fixture(scope="module")
def report():
    how = dict(widths=(32, 64, 128), depths=(2, 4), seeds=2, base=BASE, progress=False)
    return ll.check(TASK, Model, **how)


def trained(report, steps=6, lr=1e-3, build=Model, loss=mse, batch=BATCH, **how):
    plan = ll.plan(build, BASE, TARGET)
    torch.manual_seed(0)
    model = plan.apply(build(**TARGET))
    optimizer = torch.optim.AdamW(plan.param_groups(model, lr=lr))
    watch = ll.monitor(report, model, plan, optimizer, every=2, **how)
    take(model, optimizer, steps, loss, batch)
    return watch


def take(model, optimizer, steps, loss=mse, batch=BATCH):
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()


def test_a_right_run_is_silent(report):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ll.BandWarning)
        watch = trained(report)
    assert watch.messages == []
    assert {r.step for r in watch.records} == {0, 2, 4}
    first = {r.parameter: r.ratio for r in watch.records if r.step == 0}
    assert len(first) >= 6
    # The first step of Adam is what the check's first steps are, per unit of the rate.
    assert all(0.4 < v < 2.5 for v in first.values()), first
    assert "over expected" in str(watch)


def test_another_rate_than_the_checks_changes_nothing(report):
    slow, fast = (trained(report, lr=lr, steps=1).records for lr in (1e-5, 1e-3))
    for a, b in zip(slow, fast, strict=True):
        assert a.ratio == pytest.approx(b.ratio, rel=0.05)


def test_a_layer_that_leaves_the_others_is_named(report):
    """A layer whose inputs are larger than those of the check, where no plan can see it."""
    plan = ll.plan(Model, BASE, TARGET)
    torch.manual_seed(0)
    model = plan.apply(Model(**TARGET))
    optimizer = torch.optim.AdamW(plan.param_groups(model, lr=1e-4))
    for block in model.blocks:
        block.up.register_forward_pre_hook(lambda m, args: (args[0] * 30,))
        block.up.register_forward_hook(lambda m, args, out: out / 30)
    watch = ll.monitor(report, model, plan, optimizer, every=1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        take(model, optimizer, 2)
    (message,) = [m for m in watch.messages if "up.weight" in m]
    assert message.startswith("step 0: the update of blocks.*.up.weight is ")
    assert " times the other layers', where the check at small sizes leaves 1/4 to 4" in message
    ours = [str(w.message) for w in said if w.category is ll.BandWarning]
    assert ours == watch.messages


def test_all_layers_together(report):
    """An optimizer of another kind: SGD's updates against Adam's."""
    plan = ll.plan(Model, BASE, TARGET)
    model = plan.apply(Model(**TARGET))
    groups = [dict(params=list(model.parameters()), lr=1e-3)]
    optimizer = torch.optim.SGD(groups)
    watch = ll.monitor(report, model, plan, optimizer, every=1, band=2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ll.BandWarning)
        take(model, optimizer, 1)
    assert any("the updates of all layers are" in m for m in watch.messages)


def test_watching_changes_nothing_of_the_training(report):
    def weights(watching):
        plan = ll.plan(Model, BASE, TARGET)
        torch.manual_seed(0)
        model = plan.apply(Model(**TARGET))
        optimizer = torch.optim.AdamW(plan.param_groups(model, lr=1e-3))
        if watching:
            ll.monitor(report, model, plan, optimizer, every=1)
        for _ in range(3):
            optimizer.zero_grad()
            mse(model, BATCH).backward()
            optimizer.step()
        return [p.detach().clone() for p in model.parameters()], torch.rand(1)

    (a, x), (b, y) = weights(False), weights(True)
    assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))
    assert torch.equal(x, y)


def test_it_ends_when_it_is_closed(report):
    watch = trained(report, steps=2)
    before = len(watch.records)
    watch.close()
    assert not watch._handles
    assert len(watch.records) == before


def test_a_report_from_its_file(report, tmp_path):
    path = tmp_path / "check.json"
    path.write_text(report.to_json())
    again = read_report(path)
    assert json.loads(again.to_json())["rows"] == json.loads(report.to_json())["rows"]
    assert again.verdict == report.verdict
    assert again.steps == report.steps == 4
    one, other = (trained(r, steps=1).records for r in (report, path))
    assert [r.ratio for r in one] == [r.ratio for r in other]
    path.write_text("{}")
    with pytest.raises(ValueError, match="is no report of a check"):
        read_report(path)


def test_transformers_are_watched(report):
    task = ll.Task(next_token, batch=TOKENS)
    how = dict(widths=(32, 64), depths=(2, 4), seeds=1, base=BASE, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ll.BandWarning)
        watch = trained(
            ll.check(task, gpt2, **how), steps=3, build=gpt2, loss=next_token, batch=TOKENS
        )
    assert any("c_attn" in r.parameter for r in watch.records)
    with pytest.raises(
        ValueError, match="no parameter of the model is one that the check measured"
    ):
        trained(report, build=gpt2, loss=next_token, batch=TOKENS)


def test_parameters_that_are_spread_are_refused_before_any_step(report):
    plan = ll.plan(Model, BASE, TARGET)
    model = plan.apply(Model(**TARGET))
    optimizer = torch.optim.AdamW(plan.param_groups(model, lr=1e-3))
    model.embed.weight.full_tensor = lambda: None
    with pytest.raises(ValueError, match=r"'embed\.weight' is spread over processes"):
        ll.monitor(report, model, plan, optimizer)


@pytest.mark.parametrize(
    ("how", "message"),
    [(dict(band=1.0), "band=1.0 is out of range"), (dict(band=-2), "band=-2")],
)
def test_bad_arguments(report, how, message):
    with pytest.raises(ValueError, match=message):
        trained(report, **how)
