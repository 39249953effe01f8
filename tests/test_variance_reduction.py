"""Balanced noise: orthogonal to other rows and to itself, with its norm's expectation kept."""

import math

import numpy as np
import pytest
import torch

from leadline.solving.configuration import Settings
from leadline.solving.noise import Noise
from leadline.solving.operator import Operator
from leadline.solving.shards import Shards
from leadline.solving.stacked_operator import StackedNeurons
from leadline.solving.variance_reduction import Avoided, balance, orthogonal_ends

F64, F32 = torch.float64, torch.float32


def operator(n, dtype=F64, seed=0, scratch=True, **settings):
    noises = Noise(seed, (0,), n), Noise(seed, (1,), n) if scratch else None
    return Operator(Settings(n=n, dtype=dtype, **settings), *noises)


def normal(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def balanced(m, n, answers, other, avoid, seed=9):
    g = normal(m, n, seed=seed) / math.sqrt(n)
    rows = None if avoid is None else Avoided(avoid, Shards(n))
    return g, balance(g, answers, other, rows, Shards(n))


def test_balanced_noise_is_orthogonal_to_what_is_given():
    """And to itself, each of its rows with the squared norm that noise off R has: (n − r)/n."""
    n = 60
    answers, other, avoid = torch.linalg.qr(normal(n, 12, seed=1))[0].mT.split((4, 5, 3))
    avoid = normal(3, 3, seed=3) @ avoid
    avoid = torch.cat([avoid, avoid.sum(0, keepdim=True), 0 * avoid[:1]])  # dependent, and zero
    g, found = balanced(6, n, answers, other, avoid)
    assert found.shape == (6, n)
    for rows in (answers, other, avoid):
        assert (found @ rows.mT).abs().max() < 1e-13
    assert torch.allclose(found @ found.mT, (n - 5) / n * torch.eye(6, dtype=F64), atol=1e-12)
    # It is made of the draw: the first row is the draw less what is not allowed, the same side of it.
    assert float(g[0] @ found[0]) > 0.5


def test_balanced_noise_ignores_what_rounding_leaves_of_avoided_rows():
    """Directions whose square is a millionth of the largest's: below that they may be rounding."""
    n = 60
    a, b = torch.linalg.qr(normal(n, 2, seed=1))[0].mT[:, None]
    for square, left in ((1.05e-6, False), (0.95e-6, True)):
        for scale in (1.0, 1e3):
            avoid = scale * torch.cat([a, math.sqrt(square) * b])
            _, found = balanced(1, n, a[:0], a[:0], avoid)
            assert (abs(float(found @ b.mT)) > 1e-3) == left
            assert abs(float(found @ a.mT)) < 1e-9


def test_two_passes_where_answers_and_others_overlap():
    """What is left along an answer is −cos³ of what the others held, cos between them: a pass leaves
    cos² of what the one before left. The others, taken off last, are exact."""
    n = 60
    a, b = torch.linalg.qr(normal(n, 2, seed=1))[0].mT[:, None]
    other, cosine = 0.1 * a + math.sqrt(0.99) * b, 0.1
    g, found = balanced(1, n, a, other, None)
    assert abs(float(found @ other.mT)) < 1e-15
    part = g - (g @ torch.cat([a, b]).mT) @ torch.cat([a, b])
    left = float(found @ a.mT) * float(part.norm()) / math.sqrt((n - 1) / n)
    held = float((g - float(g @ a.mT) * a) @ other.mT)
    assert left == pytest.approx(-(cosine**3) * held, rel=0.05)


def test_balanced_noise_off_answers_alone():
    n = 60
    answers = torch.linalg.qr(normal(n, 4, seed=1))[0].mT
    nothing = answers[:0]
    g, found = balanced(3, n, answers, nothing, None)
    assert (found @ answers.mT).abs().max() < 1e-14
    assert torch.allclose(found @ found.mT, torch.eye(3, dtype=F64), atol=1e-13)
    # Gram-Schmidt in the draw's order: row i is made of the draw's first i rows.
    e = g - (g @ answers.mT) @ answers
    q = torch.linalg.qr(e.mT)[0].mT
    assert torch.allclose((found @ q.mT).abs(), torch.eye(3, dtype=F64), atol=1e-12)


def test_balance_needs_room():
    """Half of n: with one row more the draw stays as it is."""
    n = 40
    answers = torch.linalg.qr(normal(n, 5, seed=1))[0].mT
    other = torch.linalg.qr(normal(n, 6, seed=2))[0].mT
    for avoid, m, changed in (
        (None, 9, True),
        (None, 10, False),
        (normal(4, n, seed=3), 5, True),
        (normal(4, n, seed=3), 6, False),
    ):
        g, found = balanced(m, n, answers, other, avoid)
        assert torch.equal(g, found) != changed


def test_a_balanced_operator_draws_off_its_answers():
    """New answers are orthogonal to earlier ones, to R, to one another and to ``avoid``; a plain one's
    are so up to 1/√n only."""
    n = 400
    for reused in (True, False):
        op, plain = operator(n, balanced=True, reused=reused), operator(n, reused=reused)
        avoid = normal(2, n, seed=8)
        for o in (op, plain):
            o.query(normal(3, n, seed=1), avoid=Avoided(avoid, Shards(n)))
        m = op.forward.answers.view
        assert torch.allclose(m @ m.mT, torch.eye(3, dtype=F64), atol=1e-12)
        assert (m @ avoid.mT).abs().max() < 1e-10
        m = plain.forward.answers.view
        assert (m @ avoid.mT).abs().max() > 1e-3


def spanned(rows, x):
    """The part of x (…, n) in the span of rows."""
    q, scale, _ = torch.linalg.svd(rows.mT, full_matrices=False)
    q = q[:, scale > 1e-8 * scale.max()]
    return x @ q @ q.mT


def test_rows_to_avoid_are_those_of_the_pass_and_of_one_layer():
    """Orthonormal, the span of both whatever their sizes, zero where a layer's depend on the pass's."""
    n = 60
    whole, first, second = normal(5, n, seed=1), normal(4, n, seed=2), 1e-9 * normal(4, n, seed=3)
    second[0] = 1e-9 * (whole[1] - 2 * whole[3])
    avoid = Avoided(whole, Shards(n))
    for layer, rank in ((None, 5), (first, 9), (second, 8), (whole[:4], 5)):
        if layer is not None:
            avoid.at(layer)
        rows = whole if layer is None else torch.cat([whole, layer / layer.norm()])
        basis = avoid.basis()
        assert basis.shape == (avoid.count, n) == (len(rows), n)
        sizes = torch.linalg.svdvals(basis)
        assert torch.allclose(sizes, (torch.arange(len(rows)) < rank).to(sizes), atol=1e-9)
        x = normal(3, n, seed=4)
        assert torch.allclose(x @ basis.mT @ basis, spanned(rows, x), atol=1e-9)
        assert basis is avoid.basis()
        assert torch.equal(basis[:5], Avoided(whole, Shards(n)).basis())


@pytest.mark.parametrize("where", ["pass", "layer"])
def test_seeds_whose_rows_are_not_finite_are_noted_and_the_others_go_on(where):
    n = 60
    rows = {"pass": normal(3, 4, n, seed=1), "layer": normal(3, 2, n, seed=2)}
    good = Avoided(rows["pass"], StackedNeurons(n)).at(rows["layer"]).basis(set())
    rows[where] = rows[where].clone()
    rows[where][1, 0, 7] = math.inf
    broken = set()
    basis = Avoided(rows["pass"], StackedNeurons(n)).at(rows["layer"]).basis(broken)
    assert broken == {1}
    assert torch.equal(basis[0::2], good[0::2])
    assert basis.isfinite().all()


@pytest.mark.parametrize(("dtype", "least"), [(F64, 1e-12), (F32, 3e-6)])
def test_several_seeds_noise_is_each_ones(dtype, least):
    """Also of seeds with fewer rows, and one without room."""
    n = 64
    shards, counts = (
        StackedNeurons(n),
        (np.array([6, 4, 22]), np.array([5, 5, 5]), np.array([3, 4, 4])),
    )

    def padded(rows, count, seed):
        q = torch.linalg.qr(normal(n, rows, seed=seed))[0].mT.to(dtype)
        q[count:] = 0
        return q

    def stacked(rows, k):
        return torch.stack([padded(rows, counts[k][s], 10 * k + s) for s in range(3)])

    answers, other = stacked(22, 0), stacked(5, 1)
    avoid = normal(3, 2, n, seed=8, dtype=dtype)
    g = torch.stack([normal(4, n, seed=40 + s) for s in range(3)]).to(dtype) / math.sqrt(n)
    for s in range(3):
        g[s, counts[2][s] :] = 0
    found = balance(g, answers, other, Avoided(avoid, shards), shards, counts)
    assert torch.equal(found[2], g[2])
    for s in range(2):
        q, r, m = (int(x[s]) for x in counts)
        alone = balance(
            g[s, :m], answers[s, :q], other[s, :r], Avoided(avoid[s], Shards(n)), Shards(n)
        )
        assert torch.allclose(found[s, :m], alone, atol=least)
        assert torch.allclose(alone @ alone.mT, (n - r) / n * torch.eye(m, dtype=dtype), atol=least)
        assert (found[s, m:] == 0).all()


def test_ends_are_orthogonal_and_as_long_as_their_expectation():
    """The columns of [U v], with norm √n each, by Gram-Schmidt in order: the first keeps its direction."""
    n = 40
    u, v = normal(n, 3, seed=1), normal(n, 2, seed=2)
    first, last = orthogonal_ends(u, v, Shards(n))
    assert first.shape == u.shape
    assert last.shape == v.shape
    both = torch.cat([first, last], dim=1)
    assert torch.allclose(both.mT @ both, n * torch.eye(5, dtype=F64), atol=1e-11)
    assert torch.allclose(first[:, 0], u[:, 0] * math.sqrt(n) / u[:, 0].norm(), atol=1e-12)
    # The last is what v has beside the columns before it.
    assert float(last[:, 1] @ v[:, 1]) > 0


def test_ends_that_do_not_fit_stay():
    """Up to half of n columns are made orthogonal."""
    n = 10
    for count, changed in ((4, True), (5, False)):
        u, v = normal(n, count, seed=1), normal(n, 1, seed=2)
        first, last = orthogonal_ends(u, v, Shards(n))
        assert (not torch.equal(first, u)) == changed == (not torch.equal(last, v))
