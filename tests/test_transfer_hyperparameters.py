"""Weight decay and warm-up are judged as the learning rate is."""

import json

import pytest

import leadline as ll
from leadline.transferring.result import transfer_page
from leadline.transferring.transfers import from_rows
from leadline.transferring.wording import in_words
from task_models import Net, mse, rows

TASK = ll.Task(mse, batch=rows(24))


def planted(name, best, drift=0.0):
    """Log loss is a parabola in log2 of the hyperparameter around base · size^drift."""
    import math

    return [
        {"width": w, "depth": 1, "lr": 1e-2, "seed": s, "scheme": "auto", name: v, "id": f"{w}{v}{s}",
         "loss": math.exp(0.05 * (math.log2(v / best) - drift * math.log2(w / 64)) ** 2 + 1e-4 * s)}
        for w in (64, 128, 256) for v in [best * 2.0**k for k in range(-4, 5)] for s in range(3)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "best", "words"),
    [("weight_decay", 0.1, "weight decay"), ("warmup", 32, "warm-up")],
)
def test_planted_optima_of_another_hyperparameter(name, best, words):
    good = from_rows(planted(name, best), None, "loss", hyperparameter=name)
    (axis,) = good.axes
    assert axis.verdict == "transfers"
    assert axis.sizes[-1].lr.value == pytest.approx(best, rel=1e-3)
    moving = from_rows(planted(name, best, drift=1.0), None, "loss", hyperparameter=name)
    assert moving.axes[0].verdict == "does not transfer"
    assert moving.axes[0].drift.value == pytest.approx(1.0, abs=0.05)
    for result in (good, moving):
        text = str(result) + " ".join(result.answer)
        assert "rate" not in text.replace("moderate", "")
        assert words in text
        assert json.loads(result.to_json())["hyperparameter"] == name
        page = transfer_page(result)
        assert page.title == f"Transfer of the {words}"
        assert result.figure().layout.xaxis.title.text == f"{words} of the base"


def test_an_undecided_one_names_its_option():
    rows_ = [r for r in planted("weight_decay", 0.1) if r["weight_decay"] >= 0.1]
    result = from_rows(rows_, None, "loss", hyperparameter="weight_decay")
    assert result.axes[0].verdict == "undecided"
    assert "--weight-decay" in result.answer[0]
    assert "--lrs" not in str(result)


def test_transfer_trains_over_weight_decays_and_warm_ups():
    how = dict(widths=[16, 32], depths=[1], seeds=1, steps=6, executor="inline", lrs=[1e-2])
    decays = ll.transfer(TASK, Net, weight_decay=[0.01, 0.1, 1.0], **how)
    assert decays.hyperparameter == "weight_decay"
    assert {r["weight_decay"] for r in decays.rows} == {0.01, 0.1, 1.0}
    assert {r["lr"] for r in decays.rows} == {1e-2}
    ups = ll.transfer(TASK, Net, warmup=[1, 2, 4], extend=1, **how)
    assert ups.hyperparameter == "warmup"
    assert all(r.get("warmup", 0) == int(r.get("warmup", 0)) >= 1 for r in ups.rows)
    rates = ll.transfer(TASK, Net, warmup=2, weight_decay=0.1, **how | dict(lrs=[1e-3, 1e-2, 1e-1]))
    assert rates.hyperparameter == "lr"


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            dict(lrs=[1e-3, 1e-2, 1e-1], weight_decay=[0.1, 1.0, 10.0]),
            "lr and weight_decay both have",
        ),
        (dict(lrs=[1e-2], weight_decay=[0.1, 1.0]), "weight_decay=.* too few to find an optimum"),
        (dict(lrs=[1e-2], weight_decay=[0.0, 0.1, 1.0]), "holds 0, which no factor reaches"),
        (dict(lrs=[1e-2]), "lrs=.* are too few"),
    ],
)
def test_what_cannot_be_judged(how, message):
    with pytest.raises(ValueError, match=message):
        ll.transfer(TASK, Net, widths=[16, 32], depths=[1], steps=2, executor="inline", **how)


def test_words():
    said = "extend lrs upwards, --lrs 0.001:0.032:2; the best learning rate, other rates"
    assert in_words(said, "lr") == said
    assert in_words(said, "warmup") == (
        "extend warm-ups upwards, --warmup 0.001:0.032:2; the best warm-up, other warm-ups"
    )
