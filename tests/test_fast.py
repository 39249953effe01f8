"""The fast operator: exactly a matrix with the right singular values, trained as a dense one is."""

import numpy as np
import pytest
import torch

from leadline.architecture import ResNet
from leadline.limits.agreement import agreement
from leadline.problems import teacher
from leadline.recipes.sgd import SGD
from leadline.solver import solve
from leadline.solving.configuration import Configuration, Settings
from leadline.solving.fast import FastOperator
from leadline.solving.rotations import FastGaussian, Rotation, hartley, singular_values
from leadline.solving.updates import Step, StoredWeight

F64, F32, CPU = torch.float64, torch.float32, torch.device("cpu")
SHAPES = [(64, 64), (48, 96), (96, 48), (100, 37), (97, 97), (1, 7), (131, 3)]


def sequence(*key):
    return np.random.SeedSequence(5, spawn_key=key)


def normal(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def operator(n_out=30, n_in=20, dtype=F64, tol=0.0, std=0.3, **settings):
    s = Settings(n=n_in, dtype=dtype, tol=tol, **settings)
    return FastOperator(s, sequence(0), n_in=n_in, n_out=n_out, std=std)


def dense(op, n_in, n_out, **options):
    """W by its columns, and Wᵀ by its own."""
    ahead = op.query(torch.eye(n_in, dtype=F64), **options)[0].mT
    return ahead, op.query_transposed(torch.eye(n_out, dtype=F64), **options)[0]


# --- rotations ---


@pytest.mark.parametrize("n", [1, 2, 3, 37, 64, 97, 100, 194, 768])
def test_a_transform_is_symmetric_orthogonal_and_flat(n):
    h = hartley(torch.eye(n, dtype=F64))
    assert torch.allclose(h, h.mT, rtol=0, atol=1e-14)
    assert torch.allclose(h @ h, torch.eye(n, dtype=F64), rtol=0, atol=1e-12)
    # cas is at most √2, and a grid's transform has two of them in a product.
    assert h.abs().max() <= (2 + 1e-9) / n**0.5


@pytest.mark.parametrize("n", [2048, 2049, 2053])
def test_a_long_transform_is_its_own_inverse(n):
    x, y = normal(3, n), normal(2, n, seed=1)
    assert torch.allclose(hartley(hartley(x)), x, rtol=0, atol=1e-13)
    assert torch.allclose(hartley(x) @ y.mT, x @ hartley(y).mT, rtol=0, atol=1e-11)


def test_large_and_small_transforms_agree():
    """A line of n points is the same transform by products with a matrix and by Fourier."""
    n = 45
    k = np.arange(n)
    angle = 2 * np.pi * np.outer(k, k) / n
    matrix = torch.from_numpy((np.cos(angle) + np.sin(angle)) / np.sqrt(n))
    assert torch.allclose(hartley(torch.eye(n, dtype=F64)), matrix, rtol=0, atol=1e-13)
    from leadline.solving import rotations

    line = rotations._line(torch.eye(n, dtype=F64))
    assert torch.allclose(line, matrix, rtol=0, atol=1e-13)


def test_a_rotation_is_orthogonal_and_mixes_every_axis():
    n = 256
    rotation = Rotation(n, np.random.SFC64(1), F64, CPU)
    eye = torch.eye(n, dtype=F64)
    o = rotation(eye).mT
    assert torch.allclose(o @ o.mT, eye, rtol=0, atol=1e-12)
    assert torch.allclose(rotation.transposed(eye), o, rtol=0, atol=1e-13)
    # As a Haar rotation's: n·o⁴ has mean 3/n, and a trace of order 1 against √n = 16 and n = 256.
    assert float((o**4).sum(0).max()) * n < 5
    assert float((o**4).mean()) * n**2 == pytest.approx(3, abs=0.15)
    assert abs(float(o.trace())) < 4


@pytest.mark.parametrize("shape", [(200, 200), (50, 200), (199, 200)])
def test_singular_values_are_those_of_gaussian_matrices(shape):
    values = singular_values(*shape)
    assert (values**2).mean() == pytest.approx(1, abs=1e-12)
    assert (np.diff(values) > 0).all()
    rng = np.random.default_rng(0)
    drawn = [np.linalg.svd(rng.standard_normal(shape), compute_uv=False) for _ in range(20)]
    mean = np.mean(drawn, axis=0)[::-1] / max(shape) ** 0.5
    # The mean of the k-th of n values is a quantile up to n^-2/3, at the edge.
    assert np.abs(values - mean).max() < 0.02


def test_quarter_circle():
    """F(s) = (s√(4 − s²)/2 + 2 asin(s/2))/π."""
    n = 1000
    s = singular_values(n, n)
    inside = np.minimum(s / 2, 1)
    share = (s * np.sqrt(np.maximum(4 - s**2, 0)) / 2 + 2 * np.arcsin(inside)) / np.pi
    assert np.abs(share - (np.arange(n) + 0.5) / n).max() < 1e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_the_whole_matrix(shape):
    n_out, n_in = shape
    w0 = FastGaussian(n_out, n_in, 0.3, sequence(1), F64, CPU)
    w = w0(torch.eye(n_in, dtype=F64)).mT
    assert torch.allclose(w0.transposed(torch.eye(n_out, dtype=F64)), w, rtol=0, atol=1e-13)
    expected = 0.3 * max(shape) ** 0.5 * singular_values(*shape)
    got = torch.linalg.svdvals(w).flip(0).numpy()
    assert np.abs(got - expected).max() < 1e-12
    assert w.square().mean() ** 0.5 == pytest.approx(0.3, abs=1e-12)


def test_entries_are_those_of_independent_normals():
    """Rows, columns and entries of W(0) at n = 256: mean, fourth moment, no correlation."""
    n = 256
    w = FastGaussian(n, n, 1.0, sequence(2), F64, CPU)(torch.eye(n, dtype=F64)).mT
    assert abs(float(w.mean())) < 4 / n
    assert float((w**4).mean()) == pytest.approx(3, abs=4 * 96**0.5 / n)
    assert float((w[:-1] * w[1:]).mean()) == pytest.approx(0, abs=4 / n)
    assert float((w * w.mT).mean()) == pytest.approx(1 / n, abs=4 * 2**0.5 / n)


def test_the_same_matrix_in_both_precisions_and_whatever_the_number_of_rows():
    wide = FastGaussian(300, 500, 0.1, sequence(3), F64, CPU)
    narrow = FastGaussian(300, 500, 0.1, sequence(3), F32, CPU)
    u = normal(3000, 500)
    # 3000 rows are worked on in parts.
    assert torch.allclose(narrow(u.float()).double(), wide(u), rtol=0, atol=2e-5)
    assert torch.allclose(wide(u)[2995:], wide(u[2995:]), rtol=0, atol=1e-13)
    other = FastGaussian(300, 500, 0.1, sequence(4), F64, CPU)
    assert float((other(u) - wide(u)).norm()) > float(wide(u).norm())


def test_the_numbers_of_a_seed_stay():
    """From raw words of the bit generator: another NumPy, torch or device changes nothing."""
    w0 = FastGaussian(4, 6, 1.0, sequence(6), F64, CPU)
    w = w0(torch.eye(6, dtype=F64)).mT
    assert w[0, :3].tolist() == pytest.approx(PINNED, abs=1e-12)


PINNED = [0.1877921865919686, -0.6587319960026119, 1.6326286065458573]


# --- the operator ---


def train(op, n_out, n_in, steps=4, momentum=0.9, decay=0.1, rows=3):
    """Steps of SGD on the operator, and the same on a tensor."""
    start = dense(op, n_in, n_out)[0]
    weight = StoredWeight(start.clone())
    for k in range(steps):
        u, z = normal(rows, n_in, seed=k), normal(rows, n_out, seed=50 + k)
        step = Step(0.2 / (1 + k), momentum=momentum, decay=decay)
        _, cu = op.query(u)
        _, cz = op.query_transposed(z)
        op.update(cz / n_in, cu, step)
        weight.update(z.mT @ u / n_in, step)
    return start, weight.value


@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.0), (0.0, 0.3), (0.9, 0.3)])
@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (24, 24)])
def test_training_is_that_of_a_dense_matrix(shape, momentum, decay):
    op = operator(*shape)
    start, expected = train(op, *shape, momentum=momentum, decay=decay)
    ahead, back = dense(op, shape[1], shape[0])
    assert torch.allclose(ahead, expected, rtol=0, atol=1e-13)
    assert torch.allclose(back, expected, rtol=0, atol=1e-13)
    assert float((expected - start).norm()) > 0.03 * float(start.norm())


def test_independent_backward_shares_what_is_learned():
    op = operator(reused=False)
    ahead, back = dense(op, 20, 30)
    assert abs(float((ahead * back).sum() / ahead.norm() / back.norm())) < 0.2
    start, expected = train(op, 30, 20, decay=0.0)
    now, transposed = dense(op, 20, 30)
    assert torch.allclose(now, expected, rtol=0, atol=1e-13)
    assert torch.allclose(transposed - back, expected - start, rtol=0, atol=1e-13)


def test_rows_at_initialization():
    op = operator()
    start, _ = train(op, 30, 20)
    u, rows = normal(4, 20, seed=9), torch.tensor([True, False, True, False])
    mixed, plain = op.query(u, initial=rows)[0], op.query(u)[0]
    before = u @ start.mT
    assert torch.allclose(mixed[rows], before[rows], rtol=0, atol=1e-13)
    assert torch.allclose(mixed[~rows], plain[~rows], rtol=0, atol=1e-14)
    assert torch.equal(op.sample(u, initial=rows), mixed)
    back = op.query_transposed(normal(2, 30), initial=torch.tensor([True, True]))[0]
    assert torch.allclose(back, normal(2, 30) @ start, rtol=0, atol=1e-13)


def test_a_query_leaves_nothing_behind():
    op = operator()
    train(op, 30, 20)
    before, ranks = {k: v.clone() for k, v in op.tensors().items()}, op.ranks
    mark = op.mark()
    op.query(normal(7, 20), forget=True)
    op.query_transposed(normal(7, 30), together=True)
    op.rollback(mark)
    assert op.ranks == ranks
    assert all(torch.equal(before[k], v) for k, v in op.tensors().items())


def test_continues_from_its_tensors():
    one, two = operator(tol=1e-3), operator(tol=1e-3)
    train(one, 30, 20)
    two.restore({k: v.clone() for k, v in one.tensors().items()})
    for op in (one, two):
        train(op, 30, 20)
    assert all(torch.equal(two.tensors()[k], v) for k, v in one.tensors().items())


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("tol", [1e-2, 1e-3])
def test_what_is_cut_is_small(tol, momentum):
    """Gradients whose singular values fall by a factor of 2: the rank stays near log2(1/tol)."""
    n, rows = 80, 24
    op = operator(n, n, tol=tol, std=n**-0.5)
    start = dense(op, n, n)[0]
    weight = StoredWeight(start.clone())
    sizes = 0.5 ** torch.arange(rows, dtype=F64)[:, None]
    ahead, back = normal(rows, n, seed=1), normal(rows, n, seed=2)
    step = Step(0.1, momentum=momentum)
    for k in range(12):
        u, z = ahead + 0.1 * normal(rows, n, seed=3 + k), sizes * back
        op.update(z / n, u, step)
        weight.update(z.mT @ u / n, step)
    learned = weight.value - start
    error = (dense(op, n, n)[0] - weight.value).norm() / learned.norm()
    assert float(error) < 3 * tol
    assert max(op.ranks) <= 1.5 * rows + 1
    q, r = op.ranks
    buffer = op._far.rows.mT @ op.learned.table_buffer.view(r, q) @ op._near.rows
    if momentum:
        assert float((buffer - weight.buffer).norm() / weight.buffer.norm()) < 3 * tol


def test_the_rank_is_that_of_what_is_learned():
    """The same inputs at every step: eight queries a step, rank at most a few tens after twenty steps."""
    p, network, sgd = teacher(samples=8, dimension=6), ResNet("tanh"), SGD(lr=0.5, steps=20)
    size = dict(width=128, depth=4)
    exact = solve(p, network, sgd, **size, tol=0, dtype="float64", ensemble="fast")
    cut = solve(p, network, sgd, **size, tol=1e-3, dtype="float64", ensemble="fast")
    asked = solve(p, network, sgd, **size, tol=1e-3)
    assert cut.info["largest_rank"] <= 24 < asked.info["largest_rank"]
    assert exact.info["largest_rank"] >= 100
    scale = np.abs(exact.train_outputs).max()
    assert np.abs(cut.train_outputs - exact.train_outputs).max() < 2e-3 * scale
    assert not np.array_equal(cut.train_outputs, exact.train_outputs)


def test_a_gradient_that_is_not_finite():
    op = operator()
    with pytest.raises(FloatingPointError, match="not finite"):
        op.update(normal(2, 30) * torch.inf, normal(2, 20), Step(0.1))


# --- the solve ---


def test_both_precisions_see_the_same_network():
    p, network, sgd = teacher(samples=6, dimension=5), ResNet("tanh"), SGD(lr=0.3, steps=6)
    one, two = (
        solve(p, network, sgd, width=96, depth=3, ensemble="fast", dtype=dtype, tol=0)
        for dtype in ("float32", "float64")
    )
    assert np.abs(one.train_outputs - two.train_outputs).max() < 2e-5


@pytest.mark.parametrize(
    ("coupling", "activation", "momentum"), [("reused", "tanh", 0.0), ("independent", "relu", 0.9)]
)
def test_in_law_as_gaussian_weights(coupling, activation, momentum):
    """16 seeds of each, the same U and v: no output differs at the level of 1 % (over all), and the spreads
    are alike (16 seeds know a variance to 37 %)."""
    p, network = teacher(samples=4, dimension=5, seed=2), ResNet(activation)
    sgd = SGD(lr=0.3, steps=4, momentum=momentum)
    how = dict(width=40, depth=2, seeds=16, seed=11, coupling=coupling)
    fast = solve(p, network, sgd, ensemble="fast", **how)
    usual = solve(p, network, sgd, ensemble="gaussian", **how)
    assert agreement(fast, usual).agrees
    ratio = fast.train_outputs.var(0) / usual.train_outputs.var(0)
    assert 0.5 < np.exp(np.log(ratio).mean()) < 2


@pytest.mark.parametrize("coupling", ["reused", "independent"])
def test_a_solve_resumes_from_its_checkpoint(coupling, tmp_path):
    p, network = teacher(samples=6, dimension=5), ResNet("relu")
    sgd = SGD(lr=0.3, steps=6, momentum=0.9, weight_decay=0.01, batch_size=3)
    how = dict(width=40, depth=2, coupling=coupling, ensemble="fast", seeds=2)
    whole = solve(p, network, sgd, **how)

    def stop(seed, step, **_):
        if (seed, step) == (1, 4):
            raise KeyboardInterrupt

    path = tmp_path / "work.safetensors"
    with pytest.raises(KeyboardInterrupt):
        solve(p, network, sgd, **how, checkpoint=path, checkpoint_every=0, progress=stop)
    resumed = solve(p, network, sgd, **how, checkpoint=path)
    assert np.array_equal(resumed.train_outputs, whole.train_outputs)
    assert resumed.info["ensemble"] == "fast"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ensemble": "haar"}, "ensemble='haar'"),
        ({"variance_reduction": "balanced"}, "give variance_reduction='ends' or 'none'"),
        ({"storage": "bfloat16", "tol": 0.01}, "storage='bfloat16' is for the bases of W"),
        ({"spill": "."}, "spill='.' is for the bases of W"),
    ],
)
def test_refusals(options, message):
    p = teacher(samples=4, dimension=3)
    how = {"width": 8, "depth": 2, "ensemble": "fast"} | options
    with pytest.raises(ValueError, match=message):
        Configuration(p, ResNet("tanh"), SGD(lr=0.1, steps=1), **how)
