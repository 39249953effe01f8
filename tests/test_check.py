"""``check`` passes right models and fails broken ones, naming the layer at fault."""

import json

import numpy as np
import pytest
import torch

import leadline as ll
from check_models import BATCH, IMAGES, TOKENS, Convolutional, Model, gpt2, mse, next_token
from leadline.checking.exponents import exponent, verdict
from tracing_models import ConvBlock, images

SIZES = dict(widths=(32, 64, 128), depths=(2, 4, 8), seeds=3, progress=False)


def plan(build=Model, **how):
    inputs = IMAGES[0] if build is Convolutional else None
    return ll.plan(build, dict(width=32, depth=2), inputs=inputs, **how)


@pytest.fixture(scope="module")
def right():
    return ll.check(ll.Task(mse, batch=BATCH), plan(), **SIZES)


def test_a_right_model_passes(right):
    assert right.ok, right.failures
    assert right.failures == ()
    # The noise of three seeds leaves effects on outputs open, not the layers' own updates.
    own = [r for r in right.rows if r.quantity == "own update" and "weight" in r.parameter]
    assert {r.verdict for r in own} <= {"ok", "inconclusive"}
    assert sum(r.verdict == "ok" for r in own) >= 5


@pytest.mark.parametrize("how", [dict(optimizer="sgd"), dict(optimizer="sgd", scheme="completep")])
def test_right_models_pass_with_sgd(how):
    report = ll.check(ll.Task(mse, batch=BATCH), plan(**how), **SIZES)
    assert report.ok, report.failures


def test_a_right_convolutional_model_passes():
    report = ll.check(ll.Task(mse, batch=IMAGES), plan(Convolutional), **SIZES)
    assert report.ok, report.failures


def test_gpt2_passes():
    report = ll.check(ll.Task(next_token, batch=TOKENS), plan(gpt2), **SIZES)
    assert report.ok, report.failures


def scaled(pattern, factor):
    """An apply that multiplies some parameters by factor(m, r) afterwards."""

    def apply(model, here):
        here.apply(model)
        with torch.no_grad():
            for name, p in model.named_parameters():
                if pattern in name:
                    p.mul_(factor(here.m, here.r))
        return model

    return apply


BROKEN = {
    "forgotten readout": (Model, "readout", dict(apply=scaled("readout.weight", lambda m, r: m))),
    "width-scaled bias": (Model, "blocks.*.up", dict(apply=scaled("up.bias", lambda m, r: 4 * m))),
    "missing residual factor": (Model, "blocks.*.down", dict(apply=scaled("down", lambda m, r: r))),
    "unscaled conv readout": (Convolutional, "head", dict(apply=scaled("head", lambda m, r: m))),
    "hidden weights not 1/√n": (
        Convolutional, "blocks.*.one", dict(apply=scaled("one", lambda m, r: m**0.5))),
    "embedding scaled like a readout": (
        Model, "embed", dict(apply=scaled("embed", lambda m, r: 1 / m))),
    "tied weights scaled twice": (gpt2, "wte", dict(apply=scaled("wte", lambda m, r: 1 / m))),
    "wrong eps": (
        Model, "up.weight",
        dict(optimizer=lambda model, here, lr: torch.optim.AdamW(
            [{**g, "eps": 1e-8} for g in here.param_groups(model, lr)]))),
    "absolute scheduler": (
        Model, "up.weight",
        dict(scheduler=lambda o: torch.optim.lr_scheduler.OneCycleLR(o, max_lr=0.01, total_steps=9))),
    "another library's optimizer": (
        Model, "up.weight",
        dict(optimizer=lambda model, here, lr: torch.optim.AdamW(model.parameters(), lr=lr))),
    "weight decay not scaled": (
        Model, "up.weight",
        dict(optimizer=lambda model, here, lr: torch.optim.AdamW(
            [{**g, "weight_decay": 0.1} for g in here.param_groups(model, lr)]))),
    "a forgotten parameter": (
        Model, "up.bias",
        dict(optimizer=lambda model, here, lr: torch.optim.AdamW(
            [{**g, "params": [p for p in g["params"] if p is not model.blocks[0].up.bias]}
             for g in here.param_groups(model, lr)]))),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_models_fail_and_the_layer_is_named(name):
    build, layer, how = BROKEN[name]
    batch, loss = {Model: (BATCH, mse), Convolutional: (IMAGES, mse), gpt2: (TOKENS, next_token)}[
        build
    ]
    report = ll.check(ll.Task(loss, batch=batch), plan(build), **SIZES, lr=1e-3, **how)
    assert not report.ok
    assert any(layer in f for f in report.failures), report.failures


def test_standard_parametrization_fails():
    report = ll.check(ll.Task(mse, batch=BATCH), plan(scheme="sp"), **SIZES)
    assert not report.ok
    assert any("exploding" in f for f in report.failures)


def test_a_scheduler_of_the_plan_passes():
    def scheduler(optimizer):
        return holder[0].scheduler(
            torch.optim.lr_scheduler.OneCycleLR, optimizer, lr=1e-3, max_lr=1e-3, total_steps=9
        )

    holder = [plan()]
    report = ll.check(ll.Task(mse, batch=BATCH), holder[0], **SIZES, lr=1e-3, scheduler=scheduler)
    assert report.lost == ()


def test_the_report_says_what_it_holds(right):
    text = str(right)
    assert f"{right.verdict} (" in text
    assert " ".join(right.answer.split()) in " ".join(text.split())
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "cannot see" in text
    assert "loss after the steps, by width: 32:" in text
    data = json.loads(right.to_json())
    assert data["ok"] is True
    assert data["verdict"] == right.verdict
    assert data["seeds"] == right.seeds >= 3
    assert {r["axis"] for r in data["rows"]} == {"width", "depth"}
    figure = right.figure()
    panels = {a.text for a in figure.layout.annotations}
    assert "own update over depth" in panels
    assert len(figure.data) > 20
    axes = [a for a in figure.to_dict()["layout"].items() if a[0].startswith(("xaxis", "yaxis"))]
    assert len(axes) == 12
    assert all(a["type"] == "log" for _, a in axes)


def test_exponents_of_planted_powers():
    x = np.array([8, 16, 32, 64])
    noise = np.exp(0.02 * np.random.default_rng(0).standard_normal((4, 5)))
    e = exponent(x, 3 * x[:, None] ** -0.5 * noise)
    assert e.low < -0.5 < e.high
    assert e.high - e.low < 0.1
    assert verdict(e, -0.5) == "ok"
    assert verdict(e, 0.0) == "collapsed"
    assert verdict(e, -1.0) == "exploding"
    assert verdict(exponent(x[:2], noise[:2]), 0.0) in ("ok", "inconclusive")
    assert exponent(x, np.zeros((4, 5))) is None
    assert verdict(None, 0.0) == "n/a"


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (dict(widths=(32, 80)), r"80 is no multiple of the base's width, 32: give"),
        (dict(depths=()), r"depths=\(\) is empty"),
        (dict(widths=(32,), depths=(2,)), "hold one size"),
        (dict(seeds=0), "seeds=0 is too small"),
        (dict(lr=-1.0), "lr=-1.0 is out of range"),
        (dict(loss=lambda m, b: m(b[0])), "returned \\(16, 4\\): return a scalar"),
    ],
)
def test_bad_arguments(how, message):
    loss = how.pop("loss", mse)
    with pytest.raises(ValueError, match=message):
        ll.check(ll.Task(loss, batch=BATCH), plan(), **(SIZES | how))


def test_a_plan_from_a_file_needs_its_builder(tmp_path):
    plan().save(tmp_path / "plan.json")
    loaded = ll.Plan.load(tmp_path / "plan.json")
    with pytest.raises(ValueError, match="no builder"):
        ll.check(ll.Task(mse, batch=BATCH), loaded, **SIZES)
    report = ll.check(
        ll.Task(mse, batch=BATCH),
        loaded,
        widths=(32, 64),
        depths=(2,),
        seeds=1,
        builder=Model,
        progress=False,
    )
    assert report.rows


def test_widths_below_the_number_of_samples_are_too_small_for_adam():
    """A right model; the sign of a sum of many outer products is less aligned with each of them."""
    draw = torch.Generator().manual_seed(0)
    many = (torch.randn(512, 8, generator=draw), torch.randn(512, 4, generator=draw))
    sizes = SIZES | dict(widths=(8, 16, 32), depths=(2,), lr=1e-3)
    for name, said in (("adamw", True), ("sgd", False)):
        here = ll.plan(Model, dict(width=8, depth=2), optimizer=name)
        notes = " ".join(ll.check(ll.Task(mse, batch=many), here, **sizes).notes)
        assert ("number of samples (or tokens)" in notes) == said


def test_branches_that_outweigh_the_stream_want_a_deeper_base():
    """conv-bn-relu-conv-bn: each branch begins with size 1, and completep takes 1/r of it."""
    here = plan(images(ConvBlock))
    report = ll.check(
        ll.Task(mse, batch=(IMAGES[0], IMAGES[1])), here, **(SIZES | dict(widths=(32,), seeds=2))
    )
    assert report.ok, report.failures
    assert any("a deeper base" in n for n in report.notes)
    (stream,) = [r for r in report.rows if r.quantity == "stream"]
    assert stream.exponent.high < -0.25
    assert stream.verdict == "transient"


@pytest.mark.parametrize("name", ["lion", "signsgd"])
def test_steps_of_signs_keep_their_size_over_width_and_depth(name):
    """Their exponents are those of Adam: the layers' own updates neither vanish nor explode."""
    report = ll.check(ll.Task(mse, batch=BATCH), plan(optimizer=name), **SIZES)
    assert report.ok, report.failures


def test_a_check_takes_a_recipe():
    """Weight decay moves what shrinks, clipping and warm-up make updates smaller, in the ratio they say."""
    task = ll.Task(mse, batch=BATCH)
    how = SIZES | dict(widths=(32, 64), depths=(2,), seeds=1, lr=1e-2, steps=2, optimizer="sgd")

    def moved(**recipe):
        rows = ll.check(task, Model, **how, **recipe).rows
        return {r.parameter: r.values[0] for r in rows if r.quantity == "own update"}

    plain, warm = moved(), moved(warmup=2)
    # Steps of 1/2 and 1 instead of 1 and 1; the second gradient differs a little.
    assert warm["embed.weight"] / plain["embed.weight"] == pytest.approx(0.75, rel=0.05)
    assert moved(clip=1e-3)["embed.weight"] < 0.1 * plain["embed.weight"]
    assert moved(weight_decay=50.0)["embed.weight"] > 2 * plain["embed.weight"]
    bf16 = moved(precision="bfloat16")
    assert bf16["embed.weight"] == pytest.approx(plain["embed.weight"], rel=0.05)
    assert bf16 != plain
    with pytest.raises(TypeError, match="beside a function optimizer"):
        ll.check(task, Model, **how | dict(optimizer=lambda m, p, lr: None), weight_decay=0.1)
