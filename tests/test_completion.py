"""W(0) drawn whole, given what was revealed of it."""

import numpy as np
import pytest
import torch

import leadline as ll
from leadline.limits.ladder import Ladder
from leadline.solving.completion import CompleteOperator, pays
from leadline.solving.configuration import Configuration, Settings
from leadline.solving.noise import Noise
from leadline.solving.operator import Operator
from leadline.solving.training import Training
from leadline.solving.updates import Step

N = 40


def operator(seed=0, reused=True, n=N):
    settings = Settings(n=n, reused=reused, dtype=torch.float64)
    return Operator(settings, Noise(seed, (0,), n), Noise(seed, (1,), n))


def rows(seed, count, n=N):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((count, n)))


@pytest.mark.parametrize("reused", [True, False])
def test_earlier_answers_hold_and_what_was_learned_is_kept(reused):
    o = operator(reused=reused)
    u, z = rows(1, 6), rows(2, 5)
    for k in range(3):
        (a, cu), (b, cz) = o.query(u), o.query_transposed(z)
        o.update(0.1 * cz[:5], cu[:5], Step(0.3, momentum=0.9, decay=0.2))
        u, z = u + 0.1 * rows(10 + k, 6), z + 0.1 * rows(20 + k, 5)
    a, b = o.query(u)[0], o.query_transposed(z)[0]
    first = torch.ones(6, dtype=torch.bool)
    before = o.query(u, initial=first)[0]
    whole = CompleteOperator.of(o)
    for answer, expected in (
        (whole.query(u)[0], a),
        (whole.query_transposed(z)[0], b),
        (whole.query(u, initial=first)[0], before),
        (whole.sample(u), a),
    ):
        torch.testing.assert_close(answer, expected, rtol=1e-11, atol=1e-12)
    # The next step is the operator's, momentum and decay included.
    (_, cu), (_, cz) = o.query(u), o.query_transposed(z)
    step = Step(0.3, momentum=0.9, decay=0.2)
    o.update(0.1 * cz, cu[:5], step)
    whole.update(0.1 * z, u[:5], step)
    torch.testing.assert_close(whole.query(u)[0], o.query(u)[0], rtol=1e-10, atol=1e-11)
    back, expected = whole.query_transposed(z)[0], o.query_transposed(z)[0]
    torch.testing.assert_close(back, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("reused", [True, False])
def test_the_whole_matrix_has_the_law_of_a_gaussian_one(reused):
    # Queries that depend on earlier answers: what is drawn has to correct for them.
    seconds, fourths, products, crossed = [], [], [], []
    for seed in range(200):
        o = operator(seed, reused, 16)
        u = rows(3, 3, 16)
        for _ in range(2):
            a = o.query(u)[0]
            u = torch.tanh(o.query_transposed(a)[0])
        whole = CompleteOperator.of(o)
        w = whole.initial[0] * 4
        seconds.append(float((w**2).mean()))
        fourths.append(float((w**4).mean()))
        gram = w @ w.mT / 16
        products.append(float((gram[0, 1:] ** 2).mean()))
        crossed.append(float((w * whole.initial[-1] * 4).mean()))
    for values, expected in ((seconds, 1), (fourths, 3), (products, 1 / 16)):
        error = np.std(values, ddof=1) / len(values) ** 0.5
        assert abs(np.mean(values) - expected) < 4 * error
    error = np.std(crossed, ddof=1) / len(crossed) ** 0.5
    assert abs(np.mean(crossed) - reused) < 4 * error


def test_when_it_pays():
    assert pays(64, 32, 0, 20)  # half of the rank after one step
    assert not pays(256, 32, 0, 20)
    assert pays(256, 32, 2, 18)
    assert not pays(256, 32, 10, 2)  # too little is left to gain from it
    assert not pays(513, 512, 10, 100)


def test_completed_on_the_way_and_in_law_that_of_the_operator(monkeypatch):
    p = ll.teacher(dimension=5, samples=8, test_samples=4, seed=1)
    sgd = ll.SGD(lr=0.3, steps=8)
    made = []
    of = CompleteOperator.of.__func__

    def noted(cls, o):
        made.append(o.ranks)
        return of(cls, o)

    monkeypatch.setattr(CompleteOperator, "of", classmethod(noted))
    options = dict(width=40, depth=2, seeds=150)
    a = ll.solve(p, ll.ResNet(), sgd, **options)
    assert made
    monkeypatch.setattr("leadline.solving.network.pays", lambda *_: False)
    b = ll.solve(p, ll.ResNet(), sgd, seed=1, **options)
    for name in ("train_loss", "test_loss"):
        x, y = getattr(a, name)[:, -1], getattr(b, name)[:, -1]
        error = np.hypot(x.std(ddof=1), y.std(ddof=1)) / 150**0.5
        assert abs(x.mean() - y.mean()) < 4 * error
        assert 0.6 < x.std() / y.std() < 1 / 0.6


@pytest.mark.parametrize("coupling", ["reused", "independent"])
def test_a_checkpoint_of_a_whole_matrix_goes_on_with_the_same_bits(tmp_path, coupling):
    p = ll.teacher(dimension=5, samples=8, test_samples=4, seed=1)
    sgd = ll.SGD(lr=0.3, steps=6, momentum=0.5)
    c = Configuration(p, ll.ResNet(), sgd, width=24, depth=2, coupling=coupling)
    work, other = Training(c), Training(c)
    for _ in range(3):
        work.advance()
    assert all(isinstance(o, CompleteOperator) for block in work.network.operators for o in block)

    class Saved(dict):
        def under(self, prefix):
            return {k.removeprefix(prefix): v for k, v in self.items() if k.startswith(prefix)}

    other.network.restore(Saved(work.network.tensors()))
    other.k = work.k
    for w in (work, other):
        while not w.done:
            w.advance()
    assert work.record.arrays["train_loss"][-1] == other.record.arrays["train_loss"][-1]


def test_where_matrices_stay_revealed():
    p, sgd = ll.teacher(samples=8), ll.SGD(lr=0.3, steps=6)
    assert Configuration(p, ll.ResNet(), sgd, width=24, depth=2).may_complete
    for options in (dict(memory=10**9), dict(complete=False), dict(storage="bfloat16", tol=0.01)):
        assert not Configuration(p, ll.ResNet(), sgd, width=24, depth=2, **options).may_complete
    ends = ll.SGD(lr=0.3, steps=6, train="readout")
    assert not Configuration(p, ll.ResNet(), ends, width=24, depth=2).may_complete


def test_the_rank_is_that_of_the_queries():
    p, sgd = ll.teacher(samples=8), ll.SGD(lr=0.3, steps=6)
    s = ll.solve(p, ll.ResNet(), sgd, width=40, depth=2, seeds=2)
    assert s.info["largest_rank"] == 8  # one step was queried before W(0) was drawn whole


def test_the_first_size_of_a_limit_shows_what_tol_drops():
    p, sgd = ll.teacher(samples=8), ll.SGD(lr=0.3, steps=6)
    first = Configuration(p, ll.ResNet(), sgd, width=64, depth=2, seeds=2)
    ladder = Ladder(first)
    ladder.solve(64, 2)
    ladder.solve(128, 2)
    assert ladder.cells[64, 2].info["complete"] is False
    assert "complete" not in ladder.cells[128, 2].info
