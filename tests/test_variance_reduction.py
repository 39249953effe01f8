"""Balanced noise: orthogonal to other rows and to itself, with its norm's expectation kept."""

import math

import pytest
import torch

from leadline.solving.configuration import Settings
from leadline.solving.noise import Noise
from leadline.solving.operator import Operator
from leadline.solving.shards import Shards
from leadline.solving.variance_reduction import balance

F64, F32 = torch.float64, torch.float32


def operator(n, dtype=F64, seed=0, scratch=True, **settings):
    noises = Noise(seed, (0,), n), Noise(seed, (1,), n) if scratch else None
    return Operator(Settings(n=n, dtype=dtype, **settings), *noises)


def normal(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def balanced(m, n, answers, other, avoid, seed=9):
    g = normal(m, n, seed=seed) / math.sqrt(n)
    return g, balance(g, answers, other, avoid, Shards(n))


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
            o.query(normal(3, n, seed=1), avoid=avoid)
        m = op.forward.answers.view
        assert torch.allclose(m @ m.mT, torch.eye(3, dtype=F64), atol=1e-12)
        assert (m @ avoid.mT).abs().max() < 1e-10
        m = plain.forward.answers.view
        assert (m @ avoid.mT).abs().max() > 1e-3
