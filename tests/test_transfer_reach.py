"""From which size to which a rate transfers: the verdict with each size as the last one."""

import math

import pytest

import leadline as ll
from leadline.transferring.reach import Reach, in_range

STEPS = [k / 2 for k in range(-10, 3)]


def runs(best, scale=0.05, stop=math.inf):
    """Losses of depths with their best rates (log2), infinite above ``stop`` at the last of them."""
    return [
        dict(
            depth=d,
            lr=2.0**k,
            seed=s,
            loss=math.inf
            if k > stop and d == max(best)
            else math.exp(scale * (k - x) ** 2 + s / 1e4),
        )
        for d, x in best.items()
        for k in STEPS
        for s in range(4)
    ]


def axis(rows):
    (a,) = ll.transfer_from(rows).axes
    return a


def test_the_last_of_the_reach_is_the_verdict():
    a = axis(runs({4: -2, 8: -2.1, 16: -3, 32: -3.6}))
    assert [r.size for r in a.reach] == [8, 16, 32]
    assert (a.reach[-1].verdict, a.reach[-1].reason) == (a.verdict, a.reason)


def test_each_verdict_is_that_of_the_runs_up_to_a_size():
    best = {4: -2, 8: -2.05, 16: -2.1, 32: -3.5}
    reach = axis(runs(best)).reach
    for r in reach:
        alone = axis(runs({d: x for d, x in best.items() if d <= r.size}))
        assert alone.verdict == r.verdict
        assert r.reason in (alone.reason, "")
    assert [r.verdict for r in reach] == ["transfers", "transfers", "does not transfer"]


def test_a_range_is_said_where_the_rate_stops_to_serve():
    text = axis(runs({4: -2, 8: -2, 16: -2, 64: -4})).range
    assert text.startswith("transfers from depth 4 to 16, fails at 64 (")


def test_divergence_is_said_in_words():
    a = axis(runs({4: -2, 16: -2, 64: -4}, stop=-3.2))
    assert a.range == (
        "transfers from depth 4 to 16, fails at 64 (the base's rate diverges at the largest size)"
    )
    printed = str(ll.transfer_from(runs({4: -2, 16: -2, 64: -4}, stop=-3.2)))
    assert "transfers from depth 4 to 16, fails at 64" in " ".join(printed.split())


T, D, U = "transfers", "does not transfer", "undecided"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((T, T), "transfers from depth 4 to 16, the largest measured"),
        ((T, U), "transfers from depth 4 to 8, undecided at 16"),
        ((U, T), "transfers from depth 4 to 16, the largest measured"),
        ((U, U), "from depth 4 undecided at 8 to 16"),
        ((U, D), "from depth 4 undecided at 8, fails at 16 (why)"),
        ((D, D), "fails from depth 4 at 8 to 16 (why)"),
        ((D, U), "fails from depth 4 at 8 (why)"),
        ((D, T), "fails from depth 4 at 8 (why)"),
        ((T, D, U), "transfers from depth 4 to 8, fails at 16 (why)"),
    ],
)
def test_every_order_of_verdicts_has_its_words(words, text):
    reach = [Reach(2 ** (3 + k), w, "why") for k, w in enumerate(words)]
    assert in_range("depth", 4, reach) == text


def test_nothing_but_the_base_reaches_nowhere():
    assert in_range("width", 64, []) == "no width beyond 64 was measured"
