"""Answers that an operator forgets at once."""

import pytest
import torch

from leadline.solving.noise import Noise
from operators import normal, operator, same, trained


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("lean", [False, True])
def test_a_sample_agrees_with_every_earlier_answer(lean, balanced):
    """z·(Wu) = (Wᵀz)·u for W as it is after updates with decay; for ``initial`` rows with W(0)."""
    op, z, now, before = trained(lean=lean, balanced=balanced)
    u = normal(5, 60, seed=3)
    assert same(op.sample(u), z, now, u)
    first = torch.tensor([True, False, True, False, False])
    answers = op.sample(u, initial=first)
    assert same(answers[first], z, before, u[first])
    assert same(answers[~first], z, now, u[~first])


@pytest.mark.parametrize("lean", [False, True])
def test_a_sample_repeats_what_is_known(lean):
    op, *_ = trained(lean=lean)
    u, fresh = normal(3, 60, seed=1), normal(2, 60, seed=5)
    known, _ = op.query(u)
    mixed = normal(2, 3, seed=4)
    assert torch.allclose(op.sample(mixed @ u), mixed @ known, atol=1e-11)
    both = op.sample(torch.cat([u, fresh]))
    assert torch.allclose(both[:3], known, atol=1e-11)
    # Equal questions get equal answers, and a sum their sum.
    three = op.sample(torch.stack([fresh[0], fresh[1], fresh[0] + 2 * fresh[1]]))
    assert torch.allclose(three[2], three[0] + 2 * three[1], atol=1e-6)


def test_a_sample_leaves_no_trace():
    answers = []
    for sampled in (False, True):
        op, *_ = trained()
        if sampled:
            op.sample(normal(5, 60, seed=3))
        answers.append(op.query(normal(2, 60, seed=6))[0])
        answers.append(op.query_transposed(normal(2, 60, seed=7))[0])
    assert torch.equal(answers[0], answers[2])
    assert torch.equal(answers[1], answers[3])
    op, *_ = trained()
    ranks = op.ranks
    op.sample(normal(5, 60, seed=3))
    assert op.ranks == ranks


@pytest.mark.parametrize("reused", [True, False])
@pytest.mark.parametrize("verb", ["query", "sample"])
def test_the_law_of_new_answers(verb, reused):
    """Given earlier answers, W̄e of remainders e has covariance ⟨e_i, e_j⟩/n in each direction off R, and
    none along it where the coupling is reused; W is s of it. 600 draws of 40 directions: a variance's
    relative standard error is √(2/24000) = 0.009, tolerances are four and a half.
    """
    n, count = 40, 600
    op = operator(n, reused=reused)
    q, z = normal(2, n, seed=1), normal(3, n, seed=2)
    op.query(q)
    op.query_transposed(z)
    op.learned.scale = 0.7
    basis = torch.linalg.qr(q.mT)[0].mT
    r = torch.linalg.qr(z.mT)[0].mT
    u = torch.stack([normal(n, seed=3), normal(n, seed=4), normal(n, seed=4)])
    u[2] += 0.5 * normal(n, seed=5)
    e = u - (u @ basis.mT) @ basis
    total = []
    for i in range(count):
        op.noise = Noise(i, (2,), n)
        op.scratch = Noise(i, (3,), n)
        if verb == "query":
            mark = op.mark()
            answer = op.query(u, forget=True)[0]
            op.rollback(mark)
        else:
            answer = op.sample(u)
        total.append(answer)
    a = torch.stack(total)
    a = a - a.mean(0)
    off = a - (a @ r.mT) @ r
    gram = torch.einsum("kin,kjn->ij", off, off) / (count - 1) / (n - 3)
    expected = 0.49 * (e @ e.mT) / n
    size = expected.diagonal().sqrt()
    assert ((gram - expected).abs() / (size[:, None] * size)).max() < 0.041
    along = (a @ r.mT).square().sum((0, 2)) / (count - 1) / 3
    if reused:
        assert along.max() < 1e-20
    else:
        # 1800 numbers: 0.033.
        assert (along / expected.diagonal() - 1).abs().max() < 0.15


def test_without_a_scratch_stream_the_run_draws():
    """Forgotten or not: what is drawn comes from the one stream there is."""
    n, u = 30, normal(2, 30, seed=1)
    one, other = operator(n, scratch=False), operator(n, scratch=False)
    a, _ = one.query(u, forget=True)
    b, _ = other.query(u)
    assert torch.equal(a, b)
    with_scratch = operator(n)
    assert not torch.equal(with_scratch.query(u, forget=True)[0], b)
    assert torch.equal(operator(n).query(u)[0], b)


@pytest.mark.parametrize("lean", [False, True])
@pytest.mark.parametrize("reused", [False, True])
def test_more_rows_than_half_of_n_are_answered_by_a_whole_matrix(lean, reused):
    """Linear in the rows, and the answers of earlier queries: those of one matrix, which is forgotten."""
    op, z, now, _ = trained(lean=lean, reused=reused)
    known, u = normal(3, 60, seed=1), normal(31, 60, seed=3)
    answers, _ = op.query(known)
    rows = torch.cat([known, u, u[:4] + 2 * u[4:8]])
    ranks = op.ranks
    out = op.sample(rows)
    assert op.ranks == ranks
    assert torch.allclose(out[:3], answers, atol=1e-11)
    assert torch.allclose(out[34:], out[3:7] + 2 * out[7:11], atol=1e-11)
    if reused:
        assert same(out[3:34], z, now, u)


def test_a_whole_matrix_has_the_law_of_fewer_rows():
    """Means and second moments of answers, 4,000 draws each: 144 differences to five standard errors."""
    n = 12
    u = normal(7, n, seed=3)
    u[5] = u[0] - u[1]
    op = operator(n)
    op.query(normal(2, n, seed=1))
    few, many = (torch.stack([op.sample(u[:k]) for _ in range(4000)]) for k in (6, 7))
    part = many[:, :6]
    for x, y in ((few, part), (few**2, part**2)):
        error = ((x.var(0) + y.var(0)) / 4000).sqrt()
        assert ((x.mean(0) - y.mean(0)).abs() < 5 * error).all()
    # Neurons of an answer, and answers of different rows, covary as Σ_ab − c_a c_bᵀ. A difference has a
    # standard error of .009 at most, over 12 neurons.
    for k in ((0, 0), (0, 2), (5, 1)):
        covariances = [
            ((x[:, k[0]] - x[:, k[0]].mean(0)) * (x[:, k[1]] - x[:, k[1]].mean(0))).mean()
            for x in (few, part)
        ]
        assert covariances[0] == pytest.approx(float(covariances[1]), abs=0.03)
