"""Exact invariants of the revealed operator, and its law."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import leadline as ll
from leadline.solving.configuration import Configuration, Settings
from leadline.solving.noise import Noise
from leadline.solving.operator import Operator
from leadline.solving.training import Training
from leadline.solving.updates import Step

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}


def operator(n, dtype=torch.float64, seed=0, **settings):
    return Operator(
        Settings(n=n, dtype=dtype, **settings), Noise(seed, (0,), n), Noise(seed, (1,), n)
    )


kinds = st.lists(
    st.tuples(
        st.sampled_from(["fresh", "repeat", "combination", "zero", "answer", "near"]),
        st.booleans(),
        st.integers(1, 5),
        st.sampled_from(["none", "plain", "decay", "momentum", "both"]),
    ),
    min_size=1,
    max_size=14,
)


@settings(max_examples=60, deadline=None)
@given(
    kinds, st.integers(5, 40), st.sampled_from([torch.float32, torch.float64]), st.integers(0, 9)
)
def test_any_order_of_questions_is_one_matrix(history, n, dtype, seed):
    """z·(Wu) = (Wᵀz)·u and stable answers, through updates, decay, momentum, more than n asked."""
    rng = torch.Generator().manual_seed(seed)
    op = operator(n, dtype, seed)
    asked = {False: [], True: []}
    for kind, side, p, change in history:
        u = torch.randn(p, n, generator=rng, dtype=dtype)
        old = asked[side]
        if kind == "repeat" and old:
            u = old[-1][0].clone()
        elif kind == "combination" and old:
            past = torch.cat([q for q, _ in old])
            u = torch.randn(p, len(past), generator=rng, dtype=dtype) @ past
        elif kind == "zero":
            u[0] = 0
        elif kind == "answer" and asked[not side]:
            u = asked[not side][-1][1].clone()
        elif kind == "near" and old:
            u = old[-1][0][:1] + 1e-3 * u
        ask = op.query_transposed if side else op.query
        y, _ = ask(u)
        asked[side].append((u, y))
        for q, a in asked[False]:
            for z, b in asked[True]:
                scale = q.norm() * z.norm() + q.norm() * b.norm() + a.norm() * z.norm()
                assert ((z @ a.mT) - (b @ q.mT)).abs().max() <= TOLERANCE[dtype] * scale
        for s in (False, True):
            for q, a in asked[s]:
                again, _ = (op.query_transposed if s else op.query)(q)
                assert (again - a).norm() <= TOLERANCE[dtype] * (q.norm() + a.norm())
        if change != "none" and asked[False] and asked[True]:
            _, cu = op.query(asked[False][-1][0][:1])
            _, cz = op.query_transposed(asked[True][-1][0][:1])
            momentum = 0.9 if change in ("momentum", "both") else 0.0
            decay = 0.1 if change in ("decay", "both") else 0.0
            op.update(cz / n, cu, Step(0.3, momentum, decay))
            for s in (False, True):
                ask = op.query_transposed if s else op.query
                asked[s] = [(q, ask(q)[0]) for q, _ in asked[s]]
    q, r = op.ranks
    assert q <= n
    assert r <= n


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_updates_are_torch_sgd_of_the_whole_matrix(momentum, decay):
    """Ask everything, so that the matrix is explicit; then torch.optim.SGD on it must agree."""
    n = 12
    op = operator(n)
    eye = torch.eye(n, dtype=torch.float64)
    w = torch.nn.Parameter(op.query(eye)[0].mT.clone())
    assert torch.allclose(op.query_transposed(eye)[0], w.detach(), atol=1e-12)
    optimizer = torch.optim.SGD([w], lr=0.3, momentum=momentum, weight_decay=decay)
    rng = torch.Generator().manual_seed(1)
    for _ in range(6):
        u, z = (torch.randn(3, n, generator=rng, dtype=torch.float64) for _ in range(2))
        a, cu = op.query(u)
        assert torch.allclose(a, u @ w.detach().mT, atol=1e-11)
        b, cz = op.query_transposed(z)
        assert torch.allclose(b, z @ w.detach(), atol=1e-11)
        op.update(cz, cu, Step(0.3, momentum=momentum, decay=decay))
        w.grad = z.mT @ u
        optimizer.step()


@pytest.mark.parametrize("reused", [True, False])
def test_law_of_the_whole_matrix(reused):
    """Entries are independent N(0, 1/n), however the questions are interleaved.

    200 matrices of 24² entries: the variance's relative standard error is √(2/115200) = 0.0042,
    the fourth moment's √(96/115200)/3 = 0.01; tolerances are four of them.
    """
    n, draws = 24, 200
    eye = torch.eye(n, dtype=torch.float64)
    rng = torch.Generator().manual_seed(0)
    entries = []
    for seed in range(draws):
        op = operator(n, seed=seed, reused=reused)
        for p in (3, 1, 5):
            op.query_transposed(torch.randn(p, n, generator=rng, dtype=torch.float64))
            op.query(torch.randn(p, n, generator=rng, dtype=torch.float64))
        w = op.query(eye)[0].mT * math.sqrt(n)
        wt = op.query_transposed(eye)[0] * math.sqrt(n)
        if reused:
            assert torch.allclose(w, wt, atol=1e-10)
        else:
            correlation = float((w * wt).mean())
            assert abs(correlation) < 5 / n
        entries.append(w)
    x = torch.stack(entries)
    assert abs(float(x.var()) - 1) < 4 * 0.0042
    assert abs(float((x**4).mean()) / 3 - 1) < 4 * 0.01
    # Rows and columns: each has squared norm n, standard error √(2n/draws) = 0.49.
    assert np.allclose((x**2).sum(2).mean(0), n, atol=4.5 * 0.49)


@pytest.mark.parametrize("tol", [1e-3, 1e-2])
def test_truncation_keeps_the_coupling(tol):
    """What is below tol keeps its conditional mean: z·(Wu) = (Wᵀz)·u to about tol, not tol-free."""
    n = 200
    rng = torch.Generator().manual_seed(0)
    op = operator(n, tol=tol)
    u = torch.randn(4, n, generator=rng, dtype=torch.float64)
    a, _ = op.query(u)
    z = a + torch.randn(4, n, generator=rng, dtype=torch.float64)
    b, _ = op.query_transposed(z)
    rank = op.ranks
    # A remainder along W̄ᵀz is where a dropped coupling shows: its answer's part along z is O(1).
    e = 0.5 * tol * b / b.norm(dim=1, keepdim=True) * u.norm(dim=1, keepdim=True)
    moved, _ = op.query(u + e)
    assert op.ranks == rank
    left, right = z @ (moved - a).mT, b @ e.mT
    assert float((left - right).norm() / right.norm()) < 1e-6


def test_forgotten_questions_leave_no_trace():
    n = 64
    rng = torch.Generator().manual_seed(0)
    u, z, t = (torch.randn(3, n, generator=rng, dtype=torch.float64) for _ in range(3))
    ops = [operator(n), operator(n)]
    for op, evaluate in zip(ops, (True, False), strict=True):
        op.query(u)
        if evaluate:
            mark = op.mark()
            op.query(t, forget=True)
            op.query_transposed(t, forget=True)
            op.rollback(mark)
    answers = [op.query_transposed(z)[0] for op in ops]
    assert torch.equal(*answers)


def test_initial_rows_ignore_what_was_learned():
    n = 32
    rng = torch.Generator().manual_seed(0)
    op = operator(n)
    u, z = (torch.randn(2, n, generator=rng, dtype=torch.float64) for _ in range(2))
    before, cu = op.query(u)
    _, cz = op.query_transposed(z)
    op.update(cz, cu, Step(0.1, decay=0.2))
    both, _ = op.query(torch.cat([u, u]), initial=torch.tensor([True, True, False, False]))
    assert torch.allclose(both[:2], before, atol=1e-12)
    assert torch.allclose(both[2:], op.query(u)[0], atol=1e-12)
    assert not torch.allclose(both[2:], before, atol=1e-2)


def test_not_finite_questions_are_reported():
    with pytest.raises(FloatingPointError, match="not finite"):
        operator(8).query(torch.full((2, 8), math.nan, dtype=torch.float64))


def test_noise_streams_do_not_depend_on_width_beyond_their_block():
    a = Noise(3, (0, 1), 256).draw(4, torch.float32, torch.device("cpu"))
    b = Noise(3, (0, 1), 700).draw(4, torch.float32, torch.device("cpu"))
    assert torch.equal(a, b[:, :256])
    assert b.shape == (4, 700)


def test_noise_continues_from_its_state():
    a = Noise(3, (0,), 300)
    a.draw(3, torch.float32, torch.device("cpu"))
    b = Noise(9, (0,), 300)
    b.restore(a.state())
    device = torch.device("cpu")
    assert torch.equal(a.draw(2, torch.float64, device), b.draw(2, torch.float64, device))


@pytest.mark.parametrize("tol", [1e-3, 1e-2])
def test_bases_stay_orthonormal_over_a_long_training(tol):
    """Defects do not grow on one another, as they do under a rule that looks at one direction alone.

    Overlaps are kept below tol/100; the norm of a matrix of them may be a few times that.
    """
    p = ll.digits(classes=(0, 1), samples=16, test_samples=0)
    sgd = ll.SGD(lr=0.5, steps=40)
    network = ll.ResNet("tanh", scheme="depth-mup")
    work = Training(Configuration(p, network, sgd, width=1024, depth=4, tol=tol))
    while not work.done:
        work.advance()
    assert work.network.ranks.max() > 60
    for operator in (o for block in work.network.operators for o in block):
        for face in (operator.forward, operator.transposed):
            q = face.queries.view.double()
            assert torch.linalg.matrix_norm(q @ q.mT - torch.eye(len(q)), 2) < 0.05 * tol


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(0, 11), st.booleans())
def test_draws_continue_wherever_they_stop(counts, stop, shared):
    """Rows are made ahead: their number, a restart, or another process's blocks change no number."""
    n, cpu, f32 = 6000, torch.device("cpu"), torch.float32
    whole = Noise(7, (1, 2), n).draw(sum(counts), f32, cpu)
    blocks = range(9, 24) if shared else None
    columns = slice(9 * 256, 24 * 256) if shared else slice(None)
    noise = Noise(7, (1, 2), n, blocks)
    out = []
    for i, m in enumerate(counts):
        if i == stop:
            noise, state = Noise(7, (1, 2), n, blocks), noise.state()
            noise.restore(state)
        out.append(noise.draw(m, f32, cpu))
    assert torch.equal(torch.cat(out), whole[:, columns])
