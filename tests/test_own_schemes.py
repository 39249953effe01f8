"""A table of the user's works wherever the name of a scheme does."""

import math

import numpy as np
import pytest

import leadline as ll

PROBLEM = ll.digits(classes=(3, 8), samples=8, test_samples=0)
SGD = ll.SGD(lr=0.3, steps=2)
SIZES = dict(widths=[16], depths=[2, 8], steps=2, executor="inline")


def table(name="mine", internal=0.5):
    return ll.Scheme(name, -0.5, internal, 0, -1, 1, "as the paper's correction")


def blocks(scheme):
    return ll.ResNet(activation="relu", block_layers=2, scheme=scheme)


@pytest.mark.parametrize("verb", [ll.train, ll.solve])
def test_a_network_with_a_table_trains_as_with_its_name(verb):
    mine, named = (
        verb(PROBLEM, blocks(s), SGD, width=16, depth=8).train_loss
        for s in (table(), "depth-mup-corrected")
    )
    assert np.array_equal(mine, named)
    between = verb(PROBLEM, blocks(table(internal=0.25)), SGD, width=16, depth=8).train_loss
    assert not np.array_equal(between, named)


def test_the_factors_of_a_table_are_powers_of_depth():
    network = blocks(ll.Scheme("mine", -0.75, 0.25, -0.25, -1, 1, "why"))
    assert network.branch(16) == 16**-0.75
    assert network.rate_factor(0, 16) == 2.0
    assert network.rate_factor(1, 16) == 0.5


def test_sweeps_take_tables_beside_names():
    done = ll.sweep(
        PROBLEM,
        ll.residual_mlp(64, 1),
        lrs=[0.05],
        scheme=["depth-mup-corrected", table()],
        optimizer="sgd",
        **SIZES,
    )
    loss = {(r["scheme"], r["depth"]): r["loss"] for r in done.rows}
    assert [loss["mine", d] for d in (2, 8)] == [loss["depth-mup-corrected", d] for d in (2, 8)]
    assert len({r["id"] for r in done.rows}) == 4


def test_a_sweep_of_a_network_takes_its_own_scheme():
    how = dict(lrs=[0.3], optimizer="sgd") | SIZES
    mine, named, told = (
        [r["loss"] for r in ll.sweep(PROBLEM, blocks(s), **how, **more).rows]
        for s, more in (
            (table(), {}),
            ("depth-mup-corrected", {}),
            ("auto", {"scheme": "depth-mup-corrected"}),
        )
    )
    assert mine == named == told
    with pytest.raises(ValueError, match="differs from the ResNet's 'completep'"):
        ll.sweep(PROBLEM, blocks("completep"), scheme="mup", **how)


def test_runs_of_two_tables_are_two_runs(tmp_path):
    how = dict(lrs=[0.05], optimizer="sgd", store=tmp_path / "runs") | SIZES
    build = ll.residual_mlp(64, 1)
    assert ll.sweep(PROBLEM, build, scheme=table(), **how).fresh == 2
    assert ll.sweep(PROBLEM, build, scheme=table(internal=0.25), **how).fresh == 2
    assert ll.sweep(PROBLEM, build, scheme=table(), **how).fresh == 0
    with ll.Store(tmp_path / "runs") as store:
        assert {r.spec["scheme"] for r in store.records()} == {"mine"}


def test_transfer_compares_tables():
    how = dict(lrs=[0.02, 0.04, 0.08], optimizer="sgd", seeds=1) | SIZES
    result = ll.transfer(PROBLEM, ll.residual_mlp(64, 1), schemes=["mup", table()], **how)
    assert [a.scheme for a in result.axes] == ["mup", "mine"]


def test_two_schemes_of_one_name_are_refused():
    how = dict(lrs=[0.05], optimizer="sgd") | SIZES
    for two in (
        [table(), table(internal=0.25)],
        [table("mup")],
        [table("sp")],
        ["auto", table("auto")],
    ):
        with pytest.raises(ValueError, match="is the name of another scheme"):
            ll.sweep(PROBLEM, ll.residual_mlp(64, 1), scheme=two, **how)


@pytest.mark.parametrize(
    ("argument", "value"),
    [("name", " "), ("branch", math.nan), ("rate_last", 11), ("readout", "1")],
)
def test_a_table_is_checked_when_it_is_made(argument, value):
    good = dict(
        name="mine", branch=-0.5, rate_internal=0, rate_last=0, readout=-1, rate_width=1, reason=""
    )
    with pytest.raises((TypeError, ValueError), match=f"^{argument}="):
        ll.Scheme(**(good | {argument: value}))
