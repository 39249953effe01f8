"""Operators of any shape: exact against a stored matrix, and right in law."""

import numpy as np
import pytest
import torch

from leadline.solving.configuration import Settings
from leadline.solving.noise import Noise
from leadline.solving.operator import Operator
from leadline.solving.sides import Rectangle
from leadline.solving.updates import Step

F64 = torch.float64
SHAPES = [(40, 90), (90, 40), (64, 64)]


def operator(n_out, n_in, std=0.3, seed=0, **settings):
    shape = Rectangle(n_out, n_in, std, Noise(seed, (2,), n_in), Noise(seed, (3,), n_in))
    settings = {"dtype": F64, **settings}
    s = Settings(n=n_out, **settings)
    return Operator(s, Noise(seed, (0,), n_out), Noise(seed, (1,), n_out), shape)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def stored(op, n_in):
    """W(0), all of it."""
    return op.query(torch.eye(n_in, dtype=F64), initial=torch.ones(n_in, dtype=torch.bool))[0].mT


@pytest.mark.parametrize(("n_out", "n_in"), SHAPES)
@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.3)])
def test_queries_and_updates_are_those_of_a_stored_matrix(n_out, n_in, momentum, decay):
    op = operator(n_out, n_in)
    inputs = [normal(3, n_in, seed=k) for k in range(4)]
    signals = [normal(3, n_out, seed=10 + k) / n_out for k in range(4)]
    seen = []
    for k, (u, z) in enumerate(zip(inputs, signals, strict=True)):
        answers, cu = op.query(u)
        back, cz = op.query_transposed(z)
        seen.append((answers, back))
        op.update(cz, cu, Step(0.5 / (k + 1), momentum, decay))
    w, buffer = stored(op, n_in), 0.0
    for k, (u, z, (answers, back)) in enumerate(zip(inputs, signals, seen, strict=True)):
        torch.testing.assert_close(answers, u @ w.mT, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(back, z @ w, rtol=1e-10, atol=1e-10)
        buffer = momentum * buffer + z.mT @ u + decay * w
        w = w - 0.5 / (k + 1) * buffer
    fresh = normal(2, n_in, seed=50)
    torch.testing.assert_close(op.sample(fresh), fresh @ w.mT, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("n_out", "n_in"), SHAPES[:2])
@pytest.mark.parametrize("transposed_first", [False, True])
def test_the_law_is_that_of_independent_entries(n_out, n_in, transposed_first):
    """Mean square, fourth moment and norms of rows and columns, 60 draws, within 4.5 standard errors."""
    std, count = 0.3, 60
    squares, fourth, rows, columns = [], [], [], []
    for seed in range(count):
        op = operator(n_out, n_in, std, seed)
        for k in range(3):
            first, second = (normal(4, n, seed=k) for n in (n_in, n_out))
            if transposed_first:
                op.query_transposed(second)
            op.query(first)
        w = (stored(op, n_in) / std).numpy()
        squares.append((w**2).mean())
        fourth.append((w**4).mean())
        rows.append((w.sum(1) ** 2).mean() / n_in)
        columns.append((w.sum(0) ** 2).mean() / n_out)
    for values, expected in ((squares, 1), (fourth, 3), (rows, 1), (columns, 1)):
        error = np.std(values, ddof=1) / np.sqrt(count)
        assert abs(np.mean(values) - expected) < 4.5 * error


def test_independent_coupling_answers_both_sides_independently():
    """What was learned is common to both sides; the draws are not."""
    products = []
    for seed in range(100):
        op = operator(40, 90, seed=seed, reused=False)
        u, z = normal(1, 90, seed=1), normal(1, 40, seed=2)
        products.append(
            (float(op.query(u)[0] @ z.mT[:, 0]), float(op.query_transposed(z)[0] @ u.mT[:, 0]))
        )
    correlation = np.corrcoef(np.array(products).T)[0, 1]
    assert abs(correlation) < 4.5 / np.sqrt(100)


def test_a_matrix_of_std_zero_is_what_was_learned():
    """A weight that is drawn as zeros."""
    op = operator(40, 90, std=0.0)
    u, z = normal(3, 90), normal(3, 40, seed=1)
    answers, cu = op.query(u)
    assert float(answers.abs().max()) == 0.0
    _, cz = op.query_transposed(z)
    op.update(cz, cu, Step(0.5))
    torch.testing.assert_close(op.query(u)[0], -0.5 * u @ (z.mT @ u).mT, rtol=1e-11, atol=1e-11)


def test_a_checkpoint_continues_both_streams_of_draws():
    first, second = operator(40, 90), operator(40, 90)
    for op in (first,):
        op.query(normal(3, 90))
        op.query_transposed(normal(2, 40, seed=1))
    second.restore({k: v.clone() for k, v in first.tensors().items()})
    for op in (first, second):
        op.query(normal(3, 90, seed=2))
    answers = [op.query_transposed(normal(2, 40, seed=3))[0] for op in (first, second)]
    assert torch.equal(*answers)


def test_forgotten_queries_draw_from_the_scratch_streams():
    op, other = operator(40, 90), operator(40, 90)
    mark = op.mark()
    op.query(normal(3, 90), forget=True)
    op.query_transposed(normal(2, 40), forget=True)
    op.rollback(mark)
    for o in (op, other):
        o.query(normal(3, 90, seed=4))
    assert torch.equal(*(o.query_transposed(normal(2, 40, seed=5))[0] for o in (op, other)))
