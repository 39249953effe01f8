"""Samples drawn from the digits, and synthetic problems."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from leadline.problems import digits, power_law, teacher
from leadline.problems.data import balanced_limit, round_robin


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(0, 5))
def test_round_robin_is_a_permutation_whose_beginnings_are_balanced(labels, seed):
    labels = np.unique(labels, return_inverse=True)[1]
    order = round_robin(labels, np.random.default_rng(seed))
    assert sorted(order) == list(range(len(labels)))
    counts = np.bincount(labels)
    for total in range(balanced_limit(counts.tolist()) + 1):
        drawn = np.bincount(labels[order[:total]], minlength=len(counts))
        share = [total // len(counts) + (c < total % len(counts)) for c in range(len(counts))]
        assert drawn.tolist() == share


def rows(x):
    return {row.tobytes() for row in x}


def test_digits_balance_determinism_and_nesting():
    problem = digits((3, 8, 1), samples=32, seed=5)
    assert np.bincount(problem.labels).tolist() == [11, 11, 10]
    assert problem.classes == (3, 8, 1)
    assert problem.dimension == 64
    assert problem == digits((3, 8, 1), samples=32, seed=5)
    assert problem != digits((3, 8, 1), samples=32, seed=6)
    small = digits((3, 8, 1), samples=7, seed=5, standardize=False)
    large = digits((3, 8, 1), samples=32, seed=5, standardize=False)
    assert rows(small.x) <= rows(large.x)


def test_digits_splits_all_samples_without_overlap():
    images, values = load_digits(return_X_y=True)
    for options in ({}, {"samples": 100}, {"classes": (4, 9), "samples": 31, "seed": 2}):
        problem = digits(**options, standardize=False)
        chosen = np.isin(values, problem.classes)
        both = [r.tobytes() for r in (*problem.x, *problem.x_test)]
        assert sorted(both) == sorted(r.tobytes() for r in images[chosen])
        pairs = {r.tobytes(): v for r, v in zip(images, values.tolist(), strict=True)}
        for x, labels in ((problem.x, problem.labels), (problem.x_test, problem.labels_test)):
            assert [pairs[r.tobytes()] for r in x] == [problem.classes[c] for c in labels]


def test_digits_defaults_halve_every_class():
    counts = np.bincount(load_digits(return_X_y=True)[1])
    problem = digits()
    assert np.bincount(problem.labels).tolist() == (counts // 2).tolist()
    assert problem.samples + problem.test_samples == counts.sum()
    np.testing.assert_allclose((problem.x**2).sum(1), 64, rtol=1e-12)


def test_digits_test_samples():
    assert digits((0, 1), 10, 0).x_test is None
    problem = digits((0, 1), 10, 6, loss="cross_entropy")
    assert np.bincount(problem.labels_test).tolist() == [3, 3]
    assert problem.y.shape == (10, 2)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"classes": (0, 10)}, "classes=.*10.*0..9"),
        ({"classes": (0, -1)}, "classes=-1"),
        ({"classes": (3,)}, "at least two"),
        ({"classes": (3, 3)}, "repeats"),
        ({"classes": (0, 1), "samples": 1}, "samples=1 is fewer than the 2 classes"),
        ({"classes": (0, 1), "samples": 400}, "give at most 356"),
        ({"classes": (1, 0), "samples": 358}, "give at most 357"),
        ({"classes": (0, 1), "samples": 0}, "samples=0"),
        ({"classes": (0, 1), "samples": 356, "test_samples": 5}, "give at most 4"),
        ({"seed": -1}, "seed=-1"),
        ({"loss": "mes"}, "did you mean 'mse'"),
    ],
)
def test_digits_refuses(options, match):
    with pytest.raises(ValueError, match=match):
        digits(**options)


@pytest.mark.parametrize("options", [{"classes": 3}, {"classes": "01"}, {"classes": (0.5, 1)}])
def test_digits_refuses_types(options):
    with pytest.raises(TypeError, match="classes"):
        digits(**options)


def test_teacher():
    problem = teacher(samples=5, dimension=3, test_samples=4, outputs=2, seed=1)
    assert problem.x.shape == (5, 3)
    assert problem.y_test.shape == (4, 2)
    assert problem.classes is None
    alone = teacher(samples=5, dimension=3, outputs=2, seed=1)
    assert np.array_equal(alone.x, problem.x)
    assert np.array_equal(alone.y, problem.y)
    noisy = teacher(samples=5, dimension=3, test_samples=4, outputs=2, seed=1, noise=0.5)
    assert np.array_equal(noisy.y_test, problem.y_test)
    assert not np.array_equal(noisy.y, problem.y)
    assert teacher(samples=1).samples == 1


def test_teacher_labels_are_the_largest_output():
    options = {"samples": 50, "test_samples": 20, "outputs": 3, "seed": 4}
    regression = teacher(**options)
    problem = teacher(**options, loss="cross_entropy")
    assert problem.labels.tolist() == regression.y.argmax(1).tolist()
    assert problem.labels_test.tolist() == regression.y_test.argmax(1).tolist()
    assert problem.classes == (0, 1, 2)


def test_power_law_spectrum_and_linear_target():
    problem = power_law(samples=4000, dimension=4, exponent=2.0, test_samples=3)
    variance = np.arange(1.0, 5.0) ** -2.0
    np.testing.assert_allclose(problem.x.var(0), variance / variance.mean(), rtol=0.1)
    w, *_ = np.linalg.lstsq(problem.x, problem.y[:, 0], rcond=None)
    np.testing.assert_allclose(w @ w, 1.0, rtol=1e-12)
    np.testing.assert_allclose(problem.x_test @ w, problem.y_test[:, 0], rtol=1e-10)
    signs = power_law(samples=4000, dimension=4, exponent=2.0, loss="cross_entropy")
    assert signs.labels.tolist() == (problem.y[:, 0] > 0).astype(int).tolist()
    scaled = power_law(samples=10, standardize=True)
    np.testing.assert_allclose((scaled.x**2).sum(1), 64, rtol=1e-12)


@pytest.mark.parametrize(
    ("build", "options", "match"),
    [
        (teacher, {"samples": 0}, "samples=0"),
        (teacher, {"dimension": 0}, "dimension=0"),
        (teacher, {"test_samples": -1}, "test_samples=-1"),
        (teacher, {"outputs": 0}, "outputs=0"),
        (teacher, {"width": 0}, "width=0"),
        (teacher, {"noise": -0.1}, "noise=-0.1"),
        (teacher, {"loss": "cross_entropy"}, "outputs=1 with loss='cross_entropy'"),
        (power_law, {"exponent": -1.0}, "exponent=-1.0"),
        (power_law, {"noise": np.nan}, "noise=nan"),
        (power_law, {"loss": "mae"}, "loss='mae'"),
    ],
)
def test_synthetic_refuses(build, options, match):
    with pytest.raises(ValueError, match=match):
        build(**options)
