"""compare of a builder's models: real networks of growing size beside their limit."""

import json

import pytest

import leadline as ll
from test_limit_builders import BASE, SGD, chain, problem, task

SHORT = ll.SGD(lr=0.2, steps=2)
HOW = dict(base=BASE, scheme="mup", seeds=2, rtol=0.9)


def test_networks_beside_the_limit_in_width(tmp_path):
    """Dense ones of one, two and four times the base's width, and both couplings' limits at its depth."""
    couplings = ("reused", "independent")
    how = dict(HOW, over="width", couplings=couplings, seconds=1e-9)
    c = ll.compare(task(), chain, SHORT, **how, out=tmp_path)
    names = [b.name for b in c.branches]
    assert names[:2] == ["limit-reused", "limit-independent"]
    assert names[2:] == [f"train-{n}x2-reused" for n in (16, 32, 64)]
    assert [row["depth"] for row in c.rows] == [2] * 5
    assert all(row["gap"] > 0 for row in c.rows[2:])
    assert c["train-16x2-reused"].gap(c["limit-reused"]) == c.rows[2]["gap"]
    assert any("true backpropagation alone" in note for note in c.notes)
    assert "2 steps" in repr(c)
    assert "against lazy" not in repr(c)
    kept = json.loads((tmp_path / "compare.json").read_text())
    assert kept["info"]["recipe"]["optimizer"] == "sgd"
    assert {p.stem for p in tmp_path.iterdir()} == {*names, "compare"}


def test_a_large_solve_stands_in_for_a_builder_too():
    c = ll.compare(problem(), chain, SHORT, sizes=((16, 2), (32, 4)), **HOW)
    assert [b.name for b in c.branches] == [
        "solve-128x4-reused",
        "train-16x2-reused",
        "train-32x4-reused",
    ]
    assert any("scheme='mup' has no infinite-depth limit" in note for note in c.notes)
    c.figure()


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="several depths, and over='width' is at one"):
        ll.compare(task(), chain, SGD, sizes=((16, 2), (32, 4)), over="width", **HOW)
    with pytest.raises(TypeError, match=r"base=.* is for a builder"):
        ll.compare(problem(), ll.ResNet(), SGD, base=BASE)
    with pytest.raises(ValueError, match="base is missing"):
        ll.compare(task(), chain, SGD, scheme="mup")
