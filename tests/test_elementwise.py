"""Elementwise optimizers of a matrix that is not stored: replay of dense training, and a part's word."""

import itertools
import math

import pytest
import torch

from dense_training import Attention, ResidualMLP, make_parts, train
from leadline.matrixfree.elementwise import ElementwisePart
from leadline.matrixfree.elementwise_rules import (
    AdamRule,
    AdamWRule,
    ElementwiseStep,
    LionRule,
    SignRule,
)

D = torch.float64
STEPS = 12
FULL = [slice(None)] * (STEPS + 1)
TWO = list(itertools.islice(itertools.cycle([slice(0, 4), slice(4, None)]), STEPS + 1))
RULES = {
    "adam": (AdamRule(eps=1e-10), 0.1),
    "adam, ε above most gradients": (AdamRule(betas=(0.8, 0.9), eps=1e-4), 0.2),
    "adam, ε = 0": (AdamRule(eps=0.0), 0.1),
    "adamw": (AdamWRule(eps=1e-10), 0.1),
    "lion": (LionRule(), 0.02),
    "signsgd": (SignRule(), 0.03),
    "signsgd, momentum": (SignRule(0.8), 0.03),
}


def replay(model, rule, batches, options=None, **how):
    """Relative difference of the losses by parts and by dense training, and the parts' own error."""
    parts = make_parts(model, rule, **(options or {}))
    streamed = train(model, rule, batches, parts=parts, **how)
    true = train(model, rule, batches, **how)
    assert (true[-1] - true[0]).abs() > 0.01 * true[0]
    return float((streamed / true - 1).abs().max()), max(part.error for part in parts.values())


@pytest.mark.parametrize("batches", [FULL, TWO], ids=["full batch", "two batches"])
@pytest.mark.parametrize("name", RULES)
def test_a_residual_perceptron_trains_as_the_dense_one(name, batches):
    rule, lr = RULES[name]
    decay = 3.0 if rule.decoupled else 0.0
    error, reported = replay(ResidualMLP(96), rule, batches, lr=lr, decay=decay)
    assert error <= reported < 1e-14


@pytest.mark.parametrize("name", ["adam", "adamw", "lion", "signsgd, momentum"])
def test_attention_trains_as_the_dense_one(name):
    rule, lr = RULES[name]
    batches = [slice(0, 3), slice(3, None)] * 6 + [slice(0, 3)]
    error, reported = replay(Attention(48), rule, batches, lr=lr / 2)
    assert error <= reported < 1e-14


def test_tiles_that_are_kept_train_as_the_dense_one():
    error, reported = replay(ResidualMLP(96), AdamRule(), TWO, {"memory": 1e9}, lr=0.1)
    assert error <= reported < 1e-14


def test_a_schedule_with_a_step_of_rate_0_and_decay():
    rates = [0.0, 0.5, 1.0, 0.7, 0.0, 0.2]
    error, reported = replay(
        ResidualMLP(48), AdamWRule(), FULL[:7], lr=0.1, rate=rates.__getitem__, decay=20.0
    )
    assert error <= reported < 1e-14


def rows(steps, n_in, n_out, seed=0, sizes=(3,)):
    g = torch.Generator().manual_seed(seed)
    sizes = list(itertools.islice(itertools.cycle(sizes), steps))
    draw = lambda p, n: torch.randn(p, n, generator=g, dtype=D)  # noqa: E731
    return [(draw(p, n_out), draw(p, n_in)) for p in sizes]


def filled(rule, history, n_in, n_out, steps=None, **options):
    part = ElementwisePart(
        n_in, n_out, rule, **dict(dtype=D, workers=1, tile=16, memory=0) | options
    )
    for k, (z, u) in enumerate(history):
        part.update(z, u, steps[k] if steps else ElementwiseStep(0.1))
    return part


def dense(part):
    return part.product(torch.eye(part.n_in, dtype=part.dtype)).mT


ALL = [rule for rule, _ in RULES.values()]


@pytest.mark.parametrize("rule", ALL, ids=list(RULES))
@pytest.mark.parametrize(("n_in", "n_out"), [(16, 32), (37, 21), (1, 40), (300, 5)])
def test_products_on_both_sides_at_any_shape_and_batch_size(rule, n_in, n_out):
    history = rows(5, n_in, n_out, sizes=(3, 1, 0, 7))
    steps = [ElementwiseStep(0.1 / k, 0.3 * rule.decoupled, 1 / k) for k in range(1, 6)]
    part = filled(rule, history, n_in, n_out, steps)
    gradients = [s.gradient * z.T @ u for (z, u), s in zip(history, steps, strict=True)]
    true = rule.written(gradients, steps)
    assert torch.allclose(dense(part), true, rtol=1e-12, atol=1e-13)
    z, u = torch.randn(4, n_out, dtype=D), torch.randn(2, n_in, dtype=D)
    assert torch.allclose(part.product(u), u @ true.T, rtol=1e-12, atol=1e-12)
    assert torch.allclose(part.transposed(z), z @ true, rtol=1e-12, atol=1e-12)
    assert part.scale == pytest.approx(math.prod(1 - s.lr * s.weight_decay for s in steps))


@pytest.mark.parametrize("rule", ALL, ids=list(RULES))
def test_threads_and_memory_change_no_bit(rule):
    history = rows(4, 50, 70, sizes=(3, 5))
    number = 50 * 70 * 8
    answers = []
    for workers, memory in [(1, 0), (3, 0), (2, number), (3, 1.7 * number), (2, 9 * number)]:
        part = ElementwisePart(50, 70, rule, dtype=D, tile=16, workers=workers, memory=memory)
        said = []
        for z, u in history:
            said += [part.product(u), part.transposed(z), part.product(2 * u)]
            part.update(z, u, ElementwiseStep(0.1))
        answers.append([*said, dense(part)])
    for others in answers[1:]:
        assert all(torch.equal(a, b) for a, b in zip(answers[0], others, strict=True))


def test_the_threads_of_others_stay_as_they_are():
    before = torch.get_num_threads()
    dense(filled(AdamRule(), rows(2, 40, 40), 40, 40, workers=2))
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("share", "passes"), [(0, 4), (1, 1), (3, 1)])
def test_memory_saves_passes_over_the_history(share, passes, monkeypatch):
    n, steps = 48, 6
    part = filled(AdamRule(), rows(steps, n, n), n, n, memory=share * 8 * n * n)
    advanced = []
    advance = AdamRule.advance
    monkeypatch.setattr(
        AdamRule,
        "advance",
        lambda self, tile, *rest: (
            advanced.append(tile.update.numel()) or advance(self, tile, *rest)
        ),
    )
    z, u = rows(1, n, n)[0]
    for _ in range(2):
        part.product(u)
        part.transposed(z)
    assert sum(advanced) == n * n * steps * passes
    part.update(z, u, ElementwiseStep(0.1))
    advanced.clear()
    part.product(u)
    assert sum(advanced) == n * n * (1 if share == 3 else steps + 1)
    assert (part.bytes - part.tiles.z[0].nbytes * 2 * (steps + 1)) == share * 8 * n * n


@pytest.mark.parametrize("memory", [0, 1e9])
def test_a_restored_part_goes_on_with_the_same_bits(memory):
    history = rows(6, 30, 20, sizes=(3, 5))
    steps = [ElementwiseStep(0.1 / k, 0.2, 0.9) for k in range(1, 7)]
    whole = filled(AdamWRule(), history, 30, 20, steps, memory=memory)
    before = filled(AdamWRule(), history[:3], 30, 20, steps, memory=memory)
    after = ElementwisePart(30, 20, AdamWRule(), dtype=D, workers=1, tile=16, memory=memory)
    after.update(*rows(1, 30, 20, seed=5)[0], ElementwiseStep(0.5))
    dense(after)
    after.restore({key: x.clone() for key, x in before.tensors().items()})
    for (z, u), step in zip(history[3:], steps[3:], strict=True):
        after.product(u)
        after.update(z, u, step)
    assert torch.equal(dense(after), dense(whole))
    assert (after.scale, after.error, after.bytes) == (whole.scale, whole.error, whole.bytes)


def test_a_part_without_a_step_restores_and_answers_0():
    part = ElementwisePart(7, 5, LionRule(), dtype=D)
    part.restore(ElementwisePart(7, 5, LionRule(), dtype=D).tensors())
    assert torch.equal(part.product(torch.ones(2, 7, dtype=D)), torch.zeros(2, 5, dtype=D))
    assert torch.equal(part.transposed(torch.ones(2, 5, dtype=D)), torch.zeros(2, 7, dtype=D))
    assert part.scale == 1
    assert part.bytes == 0


def test_the_moments_of_a_small_matrix_are_kept_unless_told_otherwise():
    for n, kept in [(1024, 4), (4096, 0)]:
        tiles = ElementwisePart(n, n, AdamRule()).tiles
        assert tiles.kept == kept
        assert tiles.held * n * tiles.tile * 4 <= 1 << 24


def test_rows_are_copied_and_need_no_graph():
    part = ElementwisePart(4, 3, SignRule(), dtype=D)
    z, u = torch.ones(2, 3, dtype=D, requires_grad=True), torch.ones(2, 4, dtype=D)
    part.update(z, u, ElementwiseStep(0.5))
    u.zero_()
    assert torch.equal(dense(part), torch.full((3, 4), -0.5, dtype=D))


def test_an_interrupted_pass_leaves_no_tile_that_moved_halfway(monkeypatch):
    history = rows(4, 40, 40)
    part = filled(AdamRule(), history[:3], 40, 40, memory=1e9)
    dense(part)
    part.update(*history[3], ElementwiseStep(0.1))
    calls = itertools.count()
    advance = AdamRule.advance

    def stopping(self, *arguments):
        advance(self, *arguments)
        if next(calls) == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(AdamRule, "advance", stopping)
        with pytest.raises(KeyboardInterrupt):
            dense(part)
    assert torch.equal(dense(part), dense(filled(AdamRule(), history, 40, 40)))


@pytest.mark.parametrize("rule", ALL, ids=list(RULES))
def test_the_error_of_float32_is_that_of_d(rule):
    history = rows(8, 64, 64)
    part = filled(rule, history, 64, 64, dtype=torch.float32)
    exact = [(z.float().double(), u.float().double()) for z, u in history]
    true = rule.written([z.T @ u for z, u in exact], [ElementwiseStep(0.1)] * 8)
    real = float((dense(part).double() - true).norm() / true.norm())
    # All of the matrix is measured here, so that only the order of sums differs.
    assert real <= part.error
    assert part.error <= 3 * real + 9 * torch.finfo(torch.float32).eps


def test_a_wrong_step_of_the_kernel_shows_in_the_error(monkeypatch):
    advance = AdamRule.advance
    monkeypatch.setattr(AdamRule, "advance", lambda s, a, b, c, t, d: advance(s, a, b, c, t + 1, d))
    assert filled(AdamRule(), rows(3, 20, 20), 20, 20).error > 0.01


def test_dead_entries_stay_without_eps():
    z, u = torch.ones(1, 3), torch.tensor([[1.0, 0.0, 2.0]])
    part = ElementwisePart(3, 3, AdamRule(eps=0.0))
    part.update(z, u, ElementwiseStep(0.25))
    expected = torch.tensor([[-0.25, 0.0, -0.25]] * 3)
    assert torch.allclose(dense(part), expected, rtol=1e-6)
    assert part.error < 1e-6


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: ElementwisePart(0, 3, AdamRule()), ValueError, "n_in=0 is too small"),
        (lambda: ElementwisePart(3, 3, "adam"), TypeError, "rule='adam' is not a"),
        (
            lambda: ElementwisePart(3, 3, AdamRule(), dtype=torch.half),
            ValueError,
            "give torch.float32",
        ),
        (lambda: ElementwisePart(3, 3, AdamRule(), memory=-1), ValueError, "memory=-1 is out of"),
        (lambda: AdamRule(betas=0.9), TypeError, "betas=0.9 is not a pair"),
        (lambda: LionRule(betas=(0.9, 1.0)), ValueError, r"betas\[1\]=1.0 is out of range"),
        (lambda: SignRule(momentum=-0.1), ValueError, "momentum=-0.1 is out of range"),
        (lambda: AdamRule(eps=-1e-8), ValueError, "eps=-1e-08 is out of range"),
        (lambda: ElementwiseStep(math.nan), ValueError, "lr=nan is out of range"),
        (
            lambda: filled(AdamRule(), rows(1, 3, 3), 3, 3, [ElementwiseStep(0.1, 0.1)]),
            ValueError,
            "weight_decay=0.1 with Adam adds .* give AdamW",
        ),
        (lambda: filled(AdamRule(), rows(1, 4, 3), 3, 3), ValueError, r"u \(3, 4\): give \(P, 3\)"),
        (
            lambda: filled(AdamRule(), [(torch.full((1, 3), math.inf),) * 2], 3, 3),
            FloatingPointError,
            "lower the learning rate",
        ),
    ],
)
def test_refusals(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
