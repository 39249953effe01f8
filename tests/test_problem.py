"""Problem, and the arrays it is made of."""

from __future__ import annotations

import copy
import pickle

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from leadline.problems import Problem, arrays

X = np.array([[0.0, 1.0], [2.0, -1.0], [3.0, 5.0], [-4.0, 0.5]])


Y = np.array([0.5, -1.0, 2.0, 0.0])


def test_fields_are_frozen_read_only_and_copied():
    x = X.copy(order="F")
    problem = Problem(x, Y[:, None])
    x[0, 0] = 99.0
    assert problem.x[0, 0] == 0.0
    assert problem.x.flags.c_contiguous
    assert problem.x.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        problem.x[0, 0] = 1.0
    with pytest.raises(AttributeError):
        problem.loss = "mse"
    assert (problem.samples, problem.dimension, problem.outputs, problem.test_samples) == (
        4,
        2,
        1,
        0,
    )


def test_equality_hash_and_fingerprint():
    a, b = arrays(X, Y, name="a"), arrays(X, Y, name="b")
    assert a == b
    assert hash(a) == hash(b)
    assert a != arrays(X, Y + 1)
    assert a != "a"
    assert len(a.fingerprint()) == 64
    labels = [0, 1, 2, 0]
    assert arrays(X, labels) != arrays(X, labels, loss="cross_entropy")
    assert arrays(X, Y, X, Y) != a


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_copies_stay_read_only(clone):
    problem = arrays(X, [0, 1, 1, 0], X, [0, 1, 1, 0])
    twin = clone(problem)
    assert twin == problem
    assert not twin.x.flags.writeable
    assert not twin.labels_test.flags.writeable


def test_repr():
    assert repr(arrays(X, Y)) == (
        "Problem('arrays', samples=4, test_samples=0, dimension=2, outputs=1, loss='mse')"
    )


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"x_test": X}, "x_test is given without y_test"),
        ({"y": np.zeros((3, 1))}, "x has 4 rows and y 3"),
        ({"x_test": X[:, :1], "y_test": Y[:, None]}, "x_test has 1 columns and x 2"),
        ({"y": Y}, "y has shape"),
        ({"x": X * np.nan}, r"x\[0, 0\]=nan"),
        ({"loss": "mae"}, "loss='mae'"),
        ({"loss": "cross_entropy"}, "labels missing"),
        ({"labels": [0, 1, 1, 0]}, "y is not the encoding of labels"),
        ({"labels": [0, 1, 2, 0]}, "labels holds 2"),
        ({"labels_test": [0, 1, 1, 0]}, "drop labels_test"),
        ({"classes": ("a", "b")}, "classes="),
    ],
)
def test_problem_refuses(change, match):
    with pytest.raises(ValueError, match=match):
        Problem(**{"x": X, "y": Y[:, None], **change})


def test_problem_refuses_types():
    with pytest.raises(TypeError, match="x has dtype complex128"):
        Problem(X * 1j, Y[:, None])
    with pytest.raises(TypeError, match="name=3"):
        Problem(X, Y[:, None], name=3)


@pytest.mark.parametrize("y", [[1, -1, 1, -1], [True, False, True, False], ["b", "a", "b", "a"]])
def test_two_classes_are_plus_minus_one(y):
    problem = arrays(X, y)
    assert problem.y.tolist() == [[1.0], [-1.0], [1.0], [-1.0]]
    assert problem.labels.tolist() == [1, 0, 1, 0]
    assert problem.classes == tuple(sorted(set(y)))


def test_more_classes_are_one_hot():
    problem = arrays(X, [7, 3, 5, 3], X[:2], [5, 7])
    assert problem.classes == (3, 5, 7)
    assert problem.labels.tolist() == [2, 0, 1, 0]
    assert problem.y.tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0], [1, 0, 0]]
    assert problem.labels_test.tolist() == [1, 2]
    assert problem.y_test.tolist() == [[0, 1, 0], [0, 0, 1]]


def test_cross_entropy_is_one_hot_for_two_classes_and_takes_whole_floats():
    problem = arrays(X, [1.0, 2.0, 2.0, 1.0], loss="cross_entropy")
    assert problem.classes == (1, 2)
    assert problem.y.tolist() == [[1, 0], [0, 1], [0, 1], [1, 0]]


def test_explicit_classes_set_the_order_and_need_not_all_occur():
    assert arrays(X, ["a", "b", "b", "a"], classes=["b", "a"]).labels.tolist() == [1, 0, 0, 1]
    problem = arrays(X[:1], [1], classes=np.array([0, 1, 2]))
    assert problem.y.tolist() == [[0, 1, 0]]
    assert problem.classes == (0, 1, 2)
    assert arrays(X, [1.0, 0.0, 0.0, 1.0], classes=(0, 1)).labels.tolist() == [1, 0, 0, 1]


def test_regression():
    assert arrays(X, Y).y.tolist() == [[0.5], [-1.0], [2.0], [0.0]]
    assert arrays(X, Y).labels is None
    assert arrays(X, np.arange(8).reshape(4, 2)).y.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert arrays(X, np.ones(4)).y.tolist() == [[1.0]] * 4  # constant
    assert arrays(X, Y, X[:2], [3, 4]).y_test.tolist() == [[3.0], [4.0]]


def test_torch_tensors():
    torch = pytest.importorskip("torch")
    x = torch.tensor(X, requires_grad=True)
    assert arrays(x, torch.tensor(Y)) == arrays(X, Y)
    assert arrays(x, torch.tensor([0, 1, 1, 0])) == arrays(X, [0, 1, 1, 0])
    half = torch.tensor(X).bfloat16()
    assert arrays(half, Y, standardize=False).x.tolist() == half.tolist()


matrices = hnp.arrays(
    np.float64,
    st.tuples(st.integers(4, 8), st.integers(1, 5)),
    elements=st.floats(-100, 100, width=16),
    unique=True,
)


@given(matrices)
def test_standardization_centres_then_scales(both):
    x, x_test = both[:-2], both[-2:]
    centred = x - x.mean(0)
    assume((np.abs(centred).max(1) > 1e-6).all())
    centred_test = x_test - x.mean(0)
    assume((np.abs(centred_test).max(1) > 1e-6).all())
    d = x.shape[1]
    problem = arrays(x, np.zeros(len(x)), x_test, np.zeros(len(x_test)))
    for result, expected in ((problem.x, centred), (problem.x_test, centred_test)):
        np.testing.assert_allclose((result**2).sum(1), d, rtol=1e-12)
        norm = np.sqrt((expected**2).sum(1, keepdims=True) / d)
        np.testing.assert_allclose(result * norm, expected, rtol=1e-9, atol=1e-9)


@given(matrices, st.integers(-900, 900))
def test_standardization_ignores_units(x, exponent):
    assume((np.abs(x - x.mean(0)).max(1) > 1e-6).all())
    y = np.zeros(len(x))
    assert np.array_equal(arrays(np.ldexp(x, exponent), y).x, arrays(x, y).x)


def test_one_sample_is_scaled_but_not_centred():
    problem = arrays([[3.0, 4.0]], [1.0], [[6.0, 8.0]], [2.0])
    np.testing.assert_allclose(problem.x, np.sqrt(2) * np.array([[0.6, 0.8]]), rtol=1e-15)
    assert np.array_equal(problem.x, problem.x_test)


def test_no_standardization_keeps_the_numbers_and_images_are_flattened():
    x = np.arange(24).reshape(2, 3, 4)
    assert arrays(x, [0.0, 1.0], standardize=False).x.tolist() == x.reshape(2, 12).tolist()


@pytest.mark.parametrize(
    ("args", "options", "match"),
    [
        (([], []), {}, "x has shape .* empty"),
        ((np.zeros((2, 0)), Y[:2]), {}, "empty"),
        ((Y, Y), {}, r"x has shape \(4,\).*reshape"),
        ((X, Y[:3]), {}, r"y has shape \(3,\) for the 4 samples"),
        ((X, 1.0), {}, r"y has shape \(\)"),
        ((X, np.zeros((4, 1, 1))), {}, "y has shape"),
        ((np.where(X == 5, np.nan, X), Y), {}, r"x\[2, 1\]=nan"),
        ((X, np.where(Y == 2, np.inf, Y)), {}, r"y\[2\]=inf"),
        ((X, [np.nan, 1.0, 2.0, 1.0]), {"loss": "cross_entropy"}, r"y\[0\]=nan"),
        ((X, Y, X[:, :1], Y), {}, "x_test has 1 inputs and x 2"),
        ((X, Y, X), {}, "x_test is given without y_test"),
        ((X, Y, None, Y), {}, "y_test is given without x_test"),
        ((X, Y, X, Y[:2]), {}, "y_test has shape"),
        ((X, Y, X[:0], Y[:0]), {}, "x_test has shape .* empty"),
        ((X, Y, X, np.zeros((4, 2))), {}, "y_test has 2 columns and y 1"),
        ((X, Y), {"loss": "ms"}, "did you mean 'mse'"),
        ((X, [1, 1, 1, 1]), {}, "single class 1"),
        ((X, [0, 1, 2, 0]), {"classes": (0, 1)}, "y holds the class 2"),
        ((X, [0, 1, 1, 0]), {"classes": (1,)}, "at least two"),
        ((X, [0, 1, 1, 0]), {"classes": (0, 1, 1)}, "repeats"),
        ((X, [0, 1, 1, 0], X, [0, 1, 1, 2]), {}, "y_test holds the class 2"),
        ((X, np.eye(4)), {"loss": "cross_entropy"}, "argmax"),
        (([[1.0, 2.0], [1.0]], Y[:2]), {}, "not a rectangular array"),
        ((np.ma.masked_equal(X, 5.0), Y), {}, "masked"),
        (([[1.0], [3.0], [2.0]], Y[:3]), {}, "x row 2 .*standardize=False"),
        (([[0.1], [0.1], [0.1]], Y[:3]), {}, "x row 0"),
        ((X[:2], Y[:2], X[:2].mean(0)[None], [1.0]), {}, "x_test row 0"),
        (([[0.0, 0.0]], [1.0]), {}, "x row 0"),
    ],
)
def test_arrays_refuses(args, options, match):
    with pytest.raises(ValueError, match=match):
        arrays(*args, **options)


@pytest.mark.parametrize(
    ("args", "options", "match"),
    [
        ((X * 1j, Y), {}, "x has dtype complex128"),
        ((X.astype(object), Y), {}, "x has dtype object"),
        ((X.astype(str), Y), {}, "x has dtype <U"),
        ((X, Y.astype(object)), {}, "y has dtype object"),
        ((X, [["a"]] * 4), {}, "y has dtype <U1"),
        ((X, Y, X, ["a"] * 4), {}, "y_test has dtype <U1"),
        ((X, Y), {"loss": "cross_entropy"}, "y holds 0.5, which is not a class label"),
        ((X, [0.0, 1e300, 1.0, 0.0]), {"loss": "cross_entropy"}, "not a class label"),
        ((X, ["c", "d", "c", "d"]), {"classes": "cd"}, "classes='cd' is not a sequence"),
        ((X, [0, 1, 0, 1]), {"classes": np.array(4)}, "classes=.* is not a sequence"),
        ((X, [0, 1, 0, 1]), {"classes": torch.tensor(2)}, "classes=.* is not a sequence"),
        ((X, [0, 1, 0, 1]), {"classes": (0, None)}, "classes holds None"),
        ((X, Y), {"standardize": 1}, "standardize=1"),
    ],
)
def test_arrays_refuses_types(args, options, match):
    with pytest.raises(TypeError, match=match):
        arrays(*args, **options)
