"""The revealed operator question by question: what it must answer exactly, and what it draws."""

import math

import numpy as np
import pytest
import torch

from disks import resident
from leadline.solving.configuration import Settings
from leadline.solving.noise import Noise
from leadline.solving.shards import Shards
from leadline.solving.updates import Step
from leadline.solving.variance_reduction import Avoided
from operators import BF16, F32, F64, normal, operator, trained

# --- settings ---


def test_settings():
    s = Settings(n=12)
    assert (s.floor, s.defect) == pytest.approx((1e-5, 1e-7))
    assert Settings(n=12, dtype=F64).floor == 1e-12
    assert Settings(n=12, tol=0.1).floor == 0.1
    assert Settings(n=12, tol=0.1).defect == pytest.approx(1e-3)
    assert (s.reused, s.balanced, s.lean, s.counter, s.rounded) == (
        True,
        False,
        False,
        False,
        False,
    )
    assert Settings(n=12, storage=F32).rounded is False
    assert Settings(n=12, storage=BF16).rounded is True
    assert (s.shards.n, s.shards.width) == (12, 12)
    shards = Shards(12)
    assert Settings(n=12, shards=shards).shards is shards
    assert Settings(n=12, device=torch.device("cuda"), shards=shards).lean
    assert Settings(n=12, device=torch.device("cuda"), shards=shards).counter


# --- what is below tol ---


@pytest.mark.parametrize("verb", ["query", "sample"])
@pytest.mark.parametrize("lean", [False, True])
@pytest.mark.parametrize("initial", [False, True])
def test_what_is_below_tol_keeps_its_mean_under_decay(verb, lean, initial):
    """A remainder of half of tol along Wᵀz: its answer's part along z is as large as it would be, by
    the weights as they are after decay, or by W(0)'s."""
    tol = 0.01
    op, z, now, before = trained(n=200, tol=tol, lean=lean)
    u = normal(3, 200, seed=1)
    how = {"initial": torch.tensor([initial] * 3)} if initial else {}
    known = before if initial else now
    basis = op.forward.queries.view
    e = known[:3] - (known[:3] @ basis.mT) @ basis
    e = 0.5 * tol * e / e.norm(dim=1, keepdim=True) * u.norm(dim=1, keepdim=True)
    if verb == "sample" and lean:
        return  # looks at nothing: every remainder is drawn, none is below tol
    ask = (lambda x: op.query(x, **how)[0]) if verb == "query" else (lambda x: op.sample(x, **how))
    rank = op.ranks
    moved = ask(u + e) - ask(u)
    assert op.ranks == rank
    left, right = z @ moved.mT, known @ e.mT
    assert float((left - right).norm() / right.norm()) < 1e-6


@pytest.mark.parametrize("lean", [False, True])
def test_tol_is_relative_to_the_question(lean):
    """Remainders of 2e-2 and 5e-3 of their questions at tol = 0.01, whatever the questions' sizes."""
    n = 80
    op = operator(n, tol=0.01, lean=lean)
    u = torch.linalg.qr(normal(n, 4, seed=1))[0].mT
    op.query(u[:2])
    for size in (1e-3, 1.0, 1e3):
        mark = op.mark()
        op.query(size * torch.stack([u[0] + 0.005 * u[2], u[1] + 0.02 * u[3]]))
        assert op.ranks == (3, 0)
        c = op.forward.queries.view[2:] @ u.mT
        assert c.abs().argmax() == 3
        op.rollback(mark)


@pytest.mark.parametrize("lean", [False, True])
def test_together_tol_is_relative_to_the_largest(lean):
    """For a sum over rows: a row of a thousandth of another's size matters as little."""
    n = 80
    u = torch.linalg.qr(normal(n, 4, seed=1))[0].mT
    rows = torch.stack([u[0], 1e-3 * u[1], 0.1 * u[2]])
    for together, rank in ((False, 3), (True, 2)):
        op = operator(n, tol=0.01, lean=lean)
        op.query(rows, together=together)
        assert op.ranks == (rank, 0)
    op = operator(n, tol=0.01, lean=lean)
    op.query(rows)
    assert op.ranks == (3, 0)


def test_a_sample_draws_nothing_below_tol():
    """Two samples differ in rows above tol only, whatever rows stand beside them."""
    op, *_ = trained(n=200, tol=0.01)
    u, fresh = normal(3, 200, seed=1), normal(3, 200, seed=5)
    small = u + 0.004 * fresh
    drawn = op.scratch.state().copy()
    assert torch.equal(op.sample(small), op.sample(small))
    assert (op.scratch.state() == drawn).all()
    mixed = torch.stack([small[0], fresh[1], small[2]])
    first, second = op.sample(mixed), op.sample(mixed)
    assert torch.equal(first[[0, 2]], second[[0, 2]])
    assert (first[1] - second[1]).norm() > 0.1


@pytest.mark.parametrize("dtype", [F32, F64])
def test_rows_are_told_apart_where_rounding_allows(dtype):
    """|u|² − |c|² has roundings of a few ε|u|²: at tol² of 4ε it tells rows apart, below it must not."""
    limit = math.sqrt(4 * torch.finfo(dtype).eps)
    c = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=dtype)
    for tol, due in ((0.999 * limit, None), (1.001 * limit, [0, 2])):
        op = operator(40, dtype, tol=tol)
        squares = np.array([2.0, 1.0, 3.0])
        rows = op._above(c, squares, op._bounds(squares, together=False))
        assert (rows if rows is None else rows.tolist()) == due
    # All rows are all rows, without an index.
    assert op._above(c, squares + 1, op._bounds(squares, together=False)) is None


@pytest.mark.parametrize("tol", [0.0, 0.01])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_reported(tol, bad):
    for verb in ("query", "query_transposed", "sample"):
        op, *_ = trained(tol=tol)
        u = normal(3, 60, seed=3)
        u[1, 2] = bad
        with pytest.raises(FloatingPointError, match="not finite"):
            getattr(op, verb)(u)
    op = operator(60, balanced=True)
    with pytest.raises(FloatingPointError, match="not finite"):
        op.query(normal(2, 60), avoid=Avoided(bad * torch.ones(1, 60, dtype=F64), Shards(60)))


def test_an_operator_at_rest_leaves_memory(tmp_path):
    """Both bases of both sides, and what it answers afterwards is the same."""
    op, memory = operator(5000, spill=str(tmp_path)), operator(5000)
    for o in (op, memory):
        o.query(normal(4, 5000, seed=1))
        o.query_transposed(normal(4, 5000, seed=2))
        assert (resident(tmp_path) >= 4 * 4 * 40_000) or o is memory
        o.rest()
    assert resident(tmp_path) < 40_000
    u = normal(2, 5000, seed=3)
    assert torch.equal(op.query(u)[0], memory.query(u)[0])


@pytest.mark.parametrize("tol", [0.0, 1e-3, 0.1])
def test_no_bit_depends_on_which_rows_are_looked_at(tol):
    """Rows that hold nothing new, among rows that do: the same directions, the same coefficients."""
    n = 80
    u, fresh = normal(2, n, seed=1), normal(2, n, seed=3)
    mixed, plain = operator(n, tol=tol), operator(n, tol=tol)
    for op in (mixed, plain):
        op.query(u)
    a, c = mixed.query(torch.stack([u[0], fresh[0], u[0] - u[1], fresh[1], 0 * u[0]]))
    b, d = plain.query(fresh)
    assert mixed.ranks == plain.ranks == (4, 0)
    assert torch.allclose(a[[1, 3]], b, atol=1e-12)
    assert torch.allclose(c[[1, 3]], d, atol=1e-12)
    assert c[[0, 2, 4]][:, 2:].abs().max() < 1e-12
    assert a[4].abs().max() == 0


def test_coefficients_are_those_of_the_question():
    """c Q is the question where nothing is dropped: for known, mixed and new rows of both sides."""
    n = 50
    op = operator(n)
    for seed, ask, face in (
        (1, op.query, op.forward),
        (2, op.query_transposed, op.transposed),
        (3, op.query, op.forward),
        (1, op.query, op.forward),
        (2, op.query_transposed, op.transposed),
    ):
        u = normal(3, n, seed=seed)
        _, c = ask(u)
        assert torch.allclose(c @ face.queries.view, u, atol=1e-12)
    assert op.ranks == (6, 3)


# --- updates ---


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_updates_while_the_bases_grow(momentum, decay):
    """Coefficients from before the last questions: the gradient's are then zero there. Against
    torch.optim.SGD on the whole matrix, which a second operator of the same draws shows."""
    n = 16
    op = operator(n)
    rng = torch.Generator().manual_seed(3)
    history = []
    for _ in range(4):
        u, z = (torch.randn(2, n, generator=rng, dtype=F64) for _ in range(2))
        _, cu = op.query(u)
        _, cz = op.query_transposed(z)
        # More questions, on both sides, before the step is taken.
        op.query(torch.randn(1, n, generator=rng, dtype=F64))
        op.query_transposed(torch.randn(1, n, generator=rng, dtype=F64))
        op.update(cz, cu, Step(0.3, momentum=momentum, decay=decay))
        history.append((u, z))
    eye = torch.eye(n, dtype=F64)
    w0 = op.query(eye, initial=torch.ones(n, dtype=torch.bool))[0].mT
    w = torch.nn.Parameter(w0.clone())
    optimizer = torch.optim.SGD([w], lr=0.3, momentum=momentum, weight_decay=decay)
    for u, z in history:
        w.grad = z.mT @ u
        optimizer.step()
    assert torch.allclose(op.query(eye)[0].mT, w.detach(), atol=1e-10)
    assert torch.allclose(op.query_transposed(eye)[0], w.detach(), atol=1e-10)
    rows = torch.arange(n) % 2 == 0
    first, _ = op.query_transposed(eye, initial=rows)
    assert torch.allclose(first[rows], w0[rows], atol=1e-10)
    assert torch.allclose(first[~rows], w.detach()[~rows], atol=1e-10)


def test_an_update_without_decay_leaves_the_scale():
    op, *_ = trained(decay=0.3)
    scale = op.learned.scale
    _, cu = op.query(normal(1, 60, seed=1))
    _, cz = op.query_transposed(normal(1, 60, seed=2))
    op.update(cz, cu, Step(0.5))
    assert op.learned.scale == scale
    op.update(cz, cu, Step(0.5, decay=0.2))
    assert op.learned.scale == pytest.approx(0.9 * scale)


def test_the_first_answers_are_the_noise():
    """With nothing known before, W̄ of an orthonormal basis is what was drawn, over √n."""
    n = 30
    answers, _ = operator(n).query(3 * torch.eye(2, n, dtype=F64))
    drawn = Noise(0, (0,), n).draw(2, F64, torch.device("cpu")) / n**0.5
    assert torch.allclose(answers, 3 * drawn, rtol=1e-12)


# --- state ---


@pytest.mark.parametrize("scratch", [True, False])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_an_operator_continues_from_its_state(scratch, momentum):
    """The same bits: of queries, forgotten ones, samples and updates after it."""
    n = 40
    op = operator(n, F32, scratch=scratch)

    def work(op, seed):
        u, z = normal(3, n, seed=seed, dtype=F32), normal(2, n, seed=seed + 1, dtype=F32)
        a, cu = op.query(u)
        b, cz = op.query_transposed(z)
        op.update(cz[:1], cu[:1], Step(0.1, momentum=momentum, decay=0.1))
        return [a, b, op.sample(normal(2, n, seed=seed + 2, dtype=F32)), op.query(u)[0]]

    work(op, 1)
    state = {name: t.clone() for name, t in op.tensors().items()}
    assert ("scratch" in state) == scratch
    other = operator(n, F32, seed=9, scratch=scratch)
    other.restore(state)
    kept = {name: t.clone() for name, t in state.items()}
    third = operator(n, F32, seed=8, scratch=scratch)
    third.restore(state)
    work(third, 7)
    assert all(torch.equal(t, state[name]) for name, t in kept.items())
    assert other.ranks == op.ranks
    assert (other.learned.scale, other.learned.scale_buffer) == (
        op.learned.scale,
        op.learned.scale_buffer,
    )
    assert (other.forward.defect, other.transposed.defect) == (
        op.forward.defect,
        op.transposed.defect,
    )
    for a, b in zip(work(op, 5), work(other, 5), strict=True):
        assert torch.equal(a, b)
    # What was given stays as it was.
    assert torch.equal(state["C"], state["C"].clone())
    assert state["Q"].shape == (3, n)


def test_a_state_keeps_the_defects_of_both_sides():
    op = operator(30)
    op.forward.defect, op.transposed.defect = 0.25, 0.5
    op.learned.scale, op.learned.scale_buffer = 0.75, 0.125
    other = operator(30)
    other.restore(op.tensors())
    assert (other.forward.defect, other.transposed.defect) == (0.25, 0.5)
    assert (other.learned.scale, other.learned.scale_buffer) == (0.75, 0.125)


def test_the_defect_of_a_side_is_its_own():
    """Remainders that are small parts of their questions in float32: overlaps of the questions asked."""
    n = 300
    op = operator(n, F32, tol=0.05)
    u = normal(1, n, seed=1, dtype=F32)
    op.query(u)
    op.query(u + 0.1 * normal(1, n, seed=2, dtype=F32))
    assert 0 < op.forward.defect < op.settings.defect
    assert op.transposed.defect == 0
