"""Problems: encodings, standardization, draws, names, and what is refused."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from leadline.problems import Problem, arrays, digits, parse, power_law, teacher
from leadline.problems.draw import balanced_limit, round_robin

X = np.array([[0.0, 1.0], [2.0, -1.0], [3.0, 5.0], [-4.0, 0.5]])
Y = np.array([0.5, -1.0, 2.0, 0.0])


# Problem


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


# arrays: targets


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


# arrays: standardization


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


# arrays: refusals


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
        ((X, [0, 1, 0, 1]), {"classes": (0, None)}, "classes holds None"),
        ((X, Y), {"standardize": 1}, "standardize=1"),
    ],
)
def test_arrays_refuses_types(args, options, match):
    with pytest.raises(TypeError, match=match):
        arrays(*args, **options)


# Draws and digits


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


# Synthetic problems


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


# parse


@pytest.mark.parametrize(
    ("problem", "name"),
    [
        (digits((0, 1), 64, seed=1), "digits:0,1?samples=64,seed=1"),
        (digits(samples=20, test_samples=0), "digits?samples=20,test_samples=0"),
        (digits((9, 2), 8, standardize=False), "digits:9,2?samples=8,standardize=false"),
        (teacher(), "teacher"),
        (teacher(samples=4, noise=0.1), "teacher?samples=4,noise=0.1"),
        (
            teacher(outputs=3, loss="cross_entropy", seed=9),
            "teacher?outputs=3,seed=9,loss=cross_entropy",
        ),
        (power_law(exponent=1.5, standardize=True), "power_law?exponent=1.5,standardize=true"),
    ],
)
def test_names_are_read_back(problem, name):
    assert problem.name == name
    assert parse(name) == problem
    assert parse(name).name == name


def test_parse_spellings():
    assert parse("digits?classes=0;1,samples=8") == digits((0, 1), 8)
    assert parse("digits: 0, 1? samples = 8, test_samples=none") == digits((0, 1), 8)
    assert parse("digits:0,1?samples=8,loss=cross_entropy").loss == "cross_entropy"
    assert parse("digits:0,1?samples=8", "cross_entropy").loss == "cross_entropy"
    assert parse("digits:0,1?samples=8,loss=mse", "mse").loss == "mse"
    assert parse("teacher?") == teacher()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("digit", "did you mean 'digits'"),
        ("", "problem=''"),
        ("digits?sample=3", "parameter of digits='sample' .*did you mean 'samples'"),
        ("digits?samples=x", "samples='x' in .* give an integer"),
        ("digits:a,b", "classes='a;b' in .* give digits"),
        ("digits:", "digits takes digits"),
        ("digits:0,1?classes=0;1", "given twice"),
        ("digits?samples=8,samples=9", "given twice"),
        ("digits?samples", "'samples' in .* not parameter=value"),
        ("digits?standardize=1", "standardize='1' in .* give true or false"),
        ("teacher?noise=x", "noise='x' in .* give a number"),
        ("teacher?seed=none", "seed='none' in .* give an integer"),
        ("teacher:4", "has '4' after the colon, where teacher takes nothing"),
        ("teacher?samples=0", "samples=0"),
        ("npz", "names no path"),
        ("cifar10:?samples=10", "names no path"),
        ("npz:what?.npz", "end the string with one more"),
        ("teacher?loss=mae", "loss='mae'"),
    ],
)
def test_parse_refuses(text, match):
    with pytest.raises(ValueError, match=match):
        parse(text)


def test_parse_refuses_two_losses_and_what_is_no_string():
    with pytest.raises(ValueError, match="loss='mse' differs from loss='cross_entropy'"):
        parse("digits?loss=cross_entropy", "mse")
    with pytest.raises(TypeError, match="problem=3"):
        parse(3)


def test_importing_problems_is_light():
    code = (
        "import sys, leadline.problems as p; p.teacher(); "
        "print([m for m in ('torch', 'sklearn') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
