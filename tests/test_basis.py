"""Growing bases, and Gram-Schmidt against dense linear algebra."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from leadline.solving.basis import FLOOR, cholesky, choose, extend, gram_factor, inverted
from leadline.solving.shards import Shards

CPU = torch.device("cpu")
F64, F32, BF16 = torch.float64, torch.float32, torch.bfloat16


def normal(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def orthonormal(q, n, seed=0, dtype=F64):
    return torch.linalg.qr(normal(n, q, seed=seed))[0].mT.contiguous().to(dtype)


# --- which are directions ---


def greedy(e, bound, room):
    """Gram-Schmidt one vector at a time."""
    chosen, basis = [], np.zeros((0, e.shape[1]))
    for j, row in enumerate(e):
        left = row - basis.T @ (basis @ row)
        left -= basis.T @ (basis @ left)
        if left @ left > bound[j] and (room is None or len(chosen) < room):
            chosen.append(j)
            basis = np.vstack([basis, left / np.linalg.norm(left)])
    return chosen


@given(st.integers(0, 10**6), st.integers(1, 7), st.sampled_from([None, 0, 1, 2, 3, 9]))
def test_chosen_are_those_with_a_remainder(seed, m, room):
    """Random rows of which some depend on those before them, each with a bound of its own."""
    r = np.random.default_rng(seed)
    e = r.standard_normal((m, 6))
    for j in range(1, m):
        if r.random() < 0.4:
            e[j] = r.standard_normal(j) @ e[:j] + r.choice([0.0, 0.03]) * e[j]
    bound = r.choice([1e-6, 1e-2, 1.0], m)
    index, factor = choose(e @ e.T, bound, room)
    assert index.tolist() == greedy(e, bound, room)
    assert index.dtype.kind == "i"
    some = e[index]
    assert np.allclose(np.tril(factor) @ np.tril(factor).T, some @ some.T, atol=1e-9)
    assert factor.shape == (len(index), len(index))


@pytest.mark.parametrize("rank", [20, 70, 150])
def test_many_rows_are_chosen_from_as_few_are(rank):
    """Several blocks of them; those that depend on others, exactly or nearly, are left out in order."""
    r = np.random.default_rng(rank)
    m = 150
    e = r.standard_normal((m, rank)) @ r.standard_normal((rank, 200))
    e += 1e-2 * (r.random((m, 1)) < 0.3) * r.standard_normal(e.shape)
    bound = r.choice([1e-9, 1e-5, 1e-1], m) * np.square(e).sum(1)
    for room in (None, rank // 2, rank + 5):
        index, factor = choose(e @ e.T, bound, room)
        assert index.tolist() == greedy(e, bound, room)
        some = np.tril(factor) @ np.tril(factor).T
        assert np.allclose(some, (e @ e.T)[np.ix_(index, index)], atol=1e-9)


def test_a_remainder_on_its_bound_is_none():
    gram = np.diag([4.0, 1.0])
    assert choose(gram, np.array([4.0, 0.5]))[0].tolist() == [1]
    assert choose(gram, np.array([3.9, 1.0]))[0].tolist() == [0]
    assert choose(gram, np.array([3.9, 0.9]))[0].tolist() == [0, 1]
    assert choose(gram, np.array([3.9, 0.9]), 2)[0].tolist() == [0, 1]
    assert choose(gram, np.array([3.9, 0.9]), 1)[0].tolist() == [0]


def test_rounding_that_leaves_less_than_nothing():
    """A matrix that is not quite one of inner products: what a row lacks below 0 is no remainder."""
    index, factor = choose(np.array([[1.0, 1.0], [1.0, 0.999]]), np.zeros(2))
    assert index.tolist() == [0]
    assert factor.tolist() == [[1.0]]
    index, factor = choose(np.zeros((2, 2)), np.zeros(2))
    assert (index.tolist(), factor.shape) == ([], (0, 0))


# --- directions ---


def test_floors():
    """About a hundred roundings of float32, and of float64 what its Gram matrices still resolve."""
    assert FLOOR == {F32: 1e-5, F64: 1e-12}


def remainders(u, basis):
    e = u - (u @ basis.mT) @ basis
    return e - (e @ basis.mT) @ basis


def extended(u, basis, tol=1e-10, **how):
    squares = u.double().square().sum(1).numpy()
    return extend(remainders(u, basis), squares, tol**2 * squares, basis, **how)


def overlap(a, b=None):
    a = a.double()
    return float(
        (a @ a.mT - torch.eye(len(a))).abs().max() if b is None else (a @ b.double().mT).abs().max()
    )


@pytest.mark.parametrize("lean", [False, True])
@pytest.mark.parametrize("q", [0, 5])
def test_directions_are_gram_schmidt(lean, q):
    """Orthonormal, off the basis, and remainder j is in the first j of them, its part along the
    j-th positive: QR's factor with a positive diagonal."""
    basis, u = orthonormal(q, 30), normal(6, 30, seed=1)
    k, _ = extended(u, basis, lean=lean)
    assert k.shape == (6, 30)
    assert overlap(k) < 1e-14
    assert q == 0 or overlap(k, basis) < 1e-14
    e = remainders(u, basis)
    c = e @ k.mT
    assert torch.allclose(c @ k, e, atol=1e-13)
    assert c.triu(1).abs().max() < 1e-13
    assert (c.diagonal() > 0).all()


def test_dependent_rows_are_no_directions():
    basis, u = orthonormal(3, 20), normal(3, 20, seed=1)
    mixed = torch.cat([u[:2], u[:2].sum(0, keepdim=True), 5 * basis[:1], u[2:], u[1:2]])
    k, _ = extended(mixed, basis)
    assert len(k) == 3
    assert torch.allclose(k, extended(u, basis)[0], atol=1e-12)


def test_no_more_directions_than_there_is_room():
    basis = orthonormal(17, 20)
    k, _ = extended(normal(9, 20, seed=1), basis)
    assert len(k) == 3
    assert overlap(torch.cat([basis, k])) < 1e-13
    assert len(extended(normal(9, 20, seed=1), orthonormal(20, 20))[0]) == 0


def test_what_is_below_its_bound_is_no_direction():
    """Remainders of 1, 1e-3 and 1e-6 of their questions, at a bound of 1e-4 of each."""
    basis, fresh = orthonormal(3, 20), orthonormal(6, 20)[3:]
    fresh = remainders(fresh, basis)
    fresh = torch.linalg.qr(fresh.mT)[0].mT
    u = torch.stack([fresh[0], basis[0] + 1e-3 * fresh[1], basis[1] + 1e-6 * fresh[2]])
    k, _ = extended(u, basis, tol=1e-4)
    assert len(k) == 2
    assert torch.allclose((k @ fresh.mT).abs(), torch.eye(2, 3, dtype=F64), atol=1e-9)


@pytest.mark.parametrize("lean", [False, True])
def test_a_small_direction_hidden_by_a_large_one_is_found(lean):
    """Of two rows the second is the first plus 1e-7 of another: a Gram matrix does not show it, whose
    square is 1e-14 of the diagonal; a second look does."""
    a, b, c = orthonormal(3, 40)
    u = torch.stack([a, a + 1e-7 * b, c + 2 * a, c - a + 3e-8 * b])
    k, _ = extended(u, orthonormal(3, 40)[:0], tol=1e-12, lean=lean)
    assert len(k) == 3
    assert overlap(k) < 1e-13
    known = torch.stack([a, c, b])
    assert torch.allclose((k @ known.mT).abs(), torch.eye(3, dtype=F64), atol=1e-7)
    # Below the bound it is none.
    assert len(extended(u, k[:0], tol=1e-6, lean=lean)[0]) == 2
    assert len(extended(u[:2], k[:0], tol=0.9e-7, lean=lean)[0]) == 2
    assert len(extended(u[:2], k[:0], tol=1.1e-7, lean=lean)[0]) == 1


def test_hidden_directions_need_room():
    a, b = torch.eye(2, dtype=F64)
    u = torch.stack([a, a + 1e-7 * b])
    assert len(extended(u, a[None][:0], tol=1e-12)[0]) == 2
    assert len(extended(torch.stack([b, b + 1e-7 * a]), a[None], tol=1e-12)[0]) == 1


def test_what_rounding_hides_needs_room_too():
    """Two directions of three are free, and a third row holds a trace of the one that is not."""
    a, b, c = torch.eye(3, dtype=F64)
    e = torch.stack([a, b, a + 1e-7 * c])
    k, _ = extend(e, np.ones(3), np.full(3, 1e-24), c[None])
    assert torch.equal(k, torch.stack([a, b]))
    # Room is counted over all neurons, wherever they are.
    u = normal(5, 40)
    assert len(extend(u, np.ones(5), np.zeros(5), u[:0], shards=Shards(2))[0]) == 2


def nearly_dependent(size, count=4, n=400):
    base = orthonormal(count, n, seed=5)
    u = base[0] + size * base
    return u.float()


@pytest.mark.parametrize("size", [1.0, 0.1, 1e-2, 1e-3])
@pytest.mark.parametrize("most", [0.0, 1e-4, 1.0])
def test_overlaps_are_below_the_bound_that_is_returned(size, most):
    """float32 rows that differ by ``size``: overlaps grow by 1/size, unless they are taken off again."""
    u = nearly_dependent(size)
    k, defect = extended(u, u[:0], tol=1e-5, most=most)
    assert len(k) == 4
    assert overlap(k) <= max(defect, 5e-7)
    assert defect <= most
    if most == 1.0:
        # What overlaps may just grow to, they do: the same directions.
        same, bound = extended(u, u[:0], tol=1e-5, most=defect)
        assert torch.equal(same, k)
        assert bound == defect
        assert 0.3 * 1.2e-7 / size < defect < 10 * 1.2e-7 / size


def test_a_basis_that_is_not_quite_orthonormal_counts():
    """Overlaps within the basis pass to new directions, as many times as the remainder is small."""
    basis = orthonormal(3, 400, dtype=F32)
    u = basis[:1] + 0.01 * normal(1, 400, seed=7, dtype=F32) / 20
    squares = u.double().square().sum(1).numpy()
    e = remainders(u, basis)
    part = math.sqrt(squares[0]) / float(e.norm())
    how = dict(squares=squares, bound=1e-10 * squares, basis=basis, most=1.0)
    eps = torch.finfo(F32).eps
    for defect in (0.0, 1e-5):
        assert extend(e, defect=defect, **how)[1] == pytest.approx((eps + defect) * part, rel=1e-3)
    # A bound that is known stays where the new directions are better.
    v = normal(1, 400, seed=8, dtype=F32)
    e = remainders(v, basis)
    how = dict(squares=v.double().square().sum(1).numpy(), bound=np.zeros(1), basis=basis)
    assert extend(e, defect=0.5, most=0.9, **how)[1] == pytest.approx(0.5, rel=1e-2)
    assert extend(e, defect=0.5, most=0.1, **how)[1] == 0.5


def test_the_bound_on_overlaps_of_several_rows():
    """Rounding of each question, times what Gram-Schmidt makes of it: the rows of |L⁻¹|·|u|."""
    u = torch.stack(
        [normal(400, seed=1), 3 * normal(400, seed=2), 0.1 * normal(400, seed=3)]
    ).float()
    u[2] += u[1]
    norms = u.double().norm(dim=1).numpy()
    factor = np.linalg.cholesky((u.double() @ u.double().mT).numpy())
    grown = (np.abs(np.linalg.inv(factor)) @ norms).max() * torch.finfo(F32).eps
    _, defect = extend(u, norms**2, np.zeros(3), u[:0], most=1.0)
    assert defect == pytest.approx(grown, rel=1e-3)


def test_float64_is_orthogonalised_twice_whatever_is_allowed():
    """Its Gram matrices are no more exact than it is: rows that differ by 1e-4 would overlap by 1e-8."""
    base = orthonormal(4, 100, seed=5)
    u = base[0] + 1e-4 * base
    k, defect = extended(u, u[:0], tol=1e-9, most=1.0)
    assert overlap(k) < 1e-14
    assert defect == 0


def test_a_hidden_direction_is_orthogonalised_twice():
    """In float32, 3e-6 of a row: what is left of it is a tenth rounding."""
    a, b = orthonormal(2, 400)
    u = torch.stack([a, a + 3e-6 * b]).float()
    squares = u.double().square().sum(1).numpy()
    k, _ = extend(u, squares, 1e-12 * squares, u[:0], most=1.0)
    assert len(k) == 2
    assert overlap(k) < 1e-6


def test_the_second_time_counts_what_it_takes_off():
    """Remainders of 4e-5 of their rows that overlap with the basis by 1e-2, as rounding in float32 leaves
    them: taking that off makes them shorter by its square, 1e-4."""
    basis = orthonormal(3, 400)
    e = 2e-6 * normal(2, 400, seed=7)
    e -= (e @ basis.mT) @ basis
    e += 0.01 * e.norm(dim=1, keepdim=True) * basis[:2]
    basis, e, squares = basis.to(F32), e.to(F32), np.ones(2)
    for lean in (False, True):
        k, _ = extend(e, squares, np.zeros(2), basis, lean=lean)
        assert overlap(k) < 2e-6
        assert overlap(k, basis) < 2e-6


def test_directions_off_a_rounded_basis_are_orthonormal():
    """bfloat16 rows are orthonormal to 1e-2 only; the directions made off them are to rounding."""
    basis = orthonormal(6, 300).to(BF16).to(F64)
    assert overlap(basis) > 1e-4
    u = normal(4, 300, seed=1)
    squares = u.square().sum(1).numpy()
    e = u - (u @ basis.mT) @ basis
    k, _ = extend(e, squares, 1e-12 * squares, basis, rounded=True)
    assert overlap(k) < 1e-13


def test_a_gram_matrix_at_hand_is_used():
    u = normal(4, 30)
    squares = u.square().sum(1).numpy()
    plain, _ = extend(u, squares, 1e-20 * squares, u[:0])
    known, _ = extend(u, squares, 1e-20 * squares, u[:0], gram=(u @ u.mT).numpy())
    assert torch.allclose(plain, known, atol=1e-13)
    # Of other rows' it shows.
    other, _ = extend(u, squares, 1e-20 * squares, u[:0], gram=np.diag([1.0, 0.0, 0.0, 0.0]))
    assert len(other) == 1


def test_directions_of_what_is_not_finite():
    for bad in (math.nan, math.inf):
        u = normal(3, 10)
        u[1, 2] = bad
        with pytest.raises(FloatingPointError, match="not finite"):
            extend(u, np.ones(3), np.zeros(3), u[:0])


# --- factors of Gram matrices that may be singular ---


def test_a_cholesky_factor():
    u = normal(5, 30)
    gram = u @ u.mT
    assert torch.equal(gram_factor(gram), torch.linalg.cholesky(gram))


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("n", [2, 3])
def test_a_factor_of_a_singular_matrix(n, scale):
    """More rows than dimensions, and equal ones: L Lᵀ is the matrix to 1e-13 of its mean diagonal."""
    u = scale**0.5 * normal(6, n)
    u[3] = u[1]
    gram = u @ u.mT
    factor = gram_factor(gram)
    assert float((factor @ factor.mT - gram).abs().max()) < 2e-13 * float(gram.diagonal().mean())
    # Triangular: an answer does not depend on the rows after it.
    assert factor.triu(1).abs().max() == 0


def test_a_factor_of_what_rounding_made_indefinite():
    """The part below 0 is left out, to its own size."""
    q = orthonormal(3, 3)
    gram = q.mT @ torch.diag(torch.tensor([2.0, 1.0, -1e-9], dtype=F64)) @ q
    nearest = q.mT @ torch.diag(torch.tensor([2.0, 1.0, 0.0], dtype=F64)) @ q
    factor = gram_factor(gram)
    assert torch.allclose(factor @ factor.mT, nearest, atol=1e-8)
    assert not factor[:, 2].any()


def test_no_factor_of_what_is_not_finite():
    with pytest.raises(FloatingPointError, match="not finite"):
        gram_factor(torch.full((2, 2), math.nan, dtype=F64))


@pytest.mark.parametrize("size", [1.0, 1e-2, 1e-3])
def test_a_device_is_not_waited_for_and_rows_are_orthogonalised_twice(size):
    """float32 rows that differ by ``size``: once would leave overlaps of 1e-7/size."""
    u = nearly_dependent(size)
    k, defect = extended(u, u[:0], tol=1e-5, most=1.0, lean=True)
    assert len(k) == 4
    assert overlap(k) < 5e-7
    assert defect == 0


def test_products_that_overflow_are_training_that_diverges():
    with pytest.raises(FloatingPointError):
        choose(np.array([[1e200, 1e300], [1e300, 1.0]]), np.zeros(2))


def test_a_gram_matrix_that_is_factored_stays_as_it_is():
    """Also one that is singular, and is factored with a little more on its diagonal."""
    u = normal(3, 10)
    for rows_ in (u, torch.cat([u, u])):
        gram = rows_ @ rows_.mT
        before = gram.clone()
        gram_factor(gram)
        assert torch.equal(gram, before)


@pytest.mark.parametrize("m", [4, 80])
def test_factors_and_their_inverses(m):
    u = normal(m, 2 * m + 1).numpy()
    gram = u @ u.T
    factor, failed = cholesky(gram)
    assert failed == 0
    assert (np.triu(factor, 1) == 0).all()
    np.testing.assert_allclose(factor @ factor.T, gram, atol=1e-12 * m)
    inverse = inverted(factor)
    np.testing.assert_allclose(inverse @ factor, np.eye(m), atol=1e-12)
    assert (np.triu(inverse, 1) == 0).all()
    assert cholesky(np.array([[1.0, 2.0], [2.0, 1.0]]))[1] != 0


@pytest.mark.parametrize("m", [20, 40, 60])
def test_rows_far_more_dependent_than_their_remainders_show(m):
    """Kahan's matrix: every remainder is above 1e-5, and the rows' Gram matrix is singular to rounding, so
    that its factor is no way to orthogonal directions of all of them at once."""
    s = 1e-5 ** (1 / 60)
    c = math.sqrt(1 - s**2)
    upper = torch.eye(m, dtype=torch.float64) - c * torch.ones(m, m, dtype=torch.float64).triu(1)
    scale = s ** torch.arange(m, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    q = torch.linalg.qr(torch.randn(128, m, generator=generator, dtype=torch.float64))[0]
    rows = (scale[:, None] * upper).mT @ q.mT
    basis = rows.new_zeros(0, 128)
    squares = rows.square().sum(1).numpy()
    k, _ = extend(rows, squares, 1e-24 * squares, basis)
    assert len(k) == m
    assert float((k @ k.mT - torch.eye(m, dtype=torch.float64)).abs().max()) < 1e-12
    # Rounding over the smallest remainder.
    assert float((rows - (rows @ k.mT) @ k).abs().max()) < 1e-11
