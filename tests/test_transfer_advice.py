"""The sentence that a transfer ends with, and its exit code, on planted results."""

import math

import pytest

from leadline.intervals import Interval
from leadline.transferring.advice import exit_code, sentence, without_options
from leadline.transferring.analysis import AxisResult
from leadline.transferring.verdict import NOTHING, Next, RateGrid, SizeResult

INF, NAN = math.inf, math.nan
ALL = Interval(INF, INF, INF)


def size(width, lr=(0.01, 0.008, 0.0125), regret=(0.0, 0.0, 0.0), loss=(1.0, 0.9, 1.1), edge=""):
    there = Interval(*loss)
    return SizeResult(width, Interval(*lr), there, there, Interval(*regret), there, edge, ALL)


def axis(verdict, *sizes, reason=("", NOTHING), monotone="yes", scheme="auto"):
    drift = Interval(0.0)
    return AxisResult(scheme, "width", sizes, drift, verdict, reason[0], monotone, reason[1])


LOWER = (0.005, 0.004, 0.00625)


@pytest.mark.parametrize(
    ("high", "words"),
    [
        (0.0, "0.1 %"),
        (0.00099, "0.1 %"),
        (0.001, "0.1 %"),
        (0.00101, "0.11 %"),
        (0.0099, "0.99 %"),
        (0.0321, "3.3 %"),
        (0.05, "5 %"),
    ],
)
def test_what_transfer_costs_is_never_said_to_be_less(high, words):
    said = sentence(axis("transfers", size(64), size(512, regret=(0.0, 0.0, high))))
    assert (
        said
        == f"Train every width up to 512 with 0.01: it costs at most {words} of loss at width 512."
    )


def test_a_size_between_that_costs_more_is_named():
    last = size(512, regret=(0.0, 0.0, 0.009))
    same = axis("transfers", size(64), size(128, regret=(0.0, 0.0, 0.006)), last)
    assert "128" not in sentence(same)
    more = axis("transfers", size(64), size(128, regret=(0.03, 0.0, 0.08)), last)
    assert sentence(more).endswith(
        "it costs at most 0.9 % of loss at width 512, at most 8 % at 128."
    )
    for regret, words in (
        ((INF, INF, INF), "but diverges at width 128."),
        ((0.01, 0.0, INF), "but at width 128 nothing bounds the cost."),
    ):
        wild = axis("transfers", size(64), size(128, regret=regret), last)
        assert sentence(wild).endswith(f"at most 0.9 % of loss at width 512, {words}")
    worse = axis("transfers", size(64), last, monotone="no")
    assert sentence(worse).endswith("; the loss at width 512 is no lower than at 64.")


TRAIN = (
    " Train width 128 with 0.01 (its best is between 0.008 and 0.0125), 512 with 0.005 (its best is "
    "between 0.004 and 0.00625); larger ones were not measured."
)


@pytest.mark.parametrize(
    ("regret", "words"),
    [
        ((0.1, 0.06, 0.14), "Do not train width 512 with the base's 0.01: it costs 6 % to 14 % there."),
        ((1.5, 1.2, INF), "Do not train width 512 with the base's 0.01: it costs at least 120 % there."),
        ((INF, INF, INF), "Do not train width 512 with the base's 0.01: it diverges there."),
        ((0.02, 0.0, 0.04),
         "The best rate moves with width: the base's 0.01 costs 0 % to 4 % at width 512."),
    ],
)  # fmt: skip
def test_rates_that_do_not_transfer(regret, words):
    a = axis("does not transfer", size(64), size(128), size(512, LOWER, regret))
    assert sentence(a) == words + TRAIN


def test_a_rate_whose_interval_is_not_known_stands_alone():
    a = axis("does not transfer", size(64), size(512, (0.005, NAN, NAN), (0.1, 0.06, 0.14)))
    assert "Train width 512 with 0.005; larger" in sentence(a)


GRID = (
    "the grid does not bracket every optimum: extend lrs downwards, --lrs 0.0001:1:2",
    Next(RateGrid(1e-4, 1.0, 2.0)),
)
SEEDS = "intervals need three seeds or more: --seeds 3", Next(seeds=3)
OPEN = (
    "the intervals reach across the limits; next: a finer grid, --lrs 0.001:0.1:1.2 and more seeds or "
    "larger sizes",
    Next(RateGrid(1e-3, 0.1, 1.2), more=True),
)
EDGE = (
    "the base's best rate is at the edge of divergence: trust a smaller one, such as 0.005, at which every "
    "size trains",
    Next(trusted=0.005),
)
KNOW = "To know whether 0.01 serves width 512, run again with "


@pytest.mark.parametrize(
    ("reason", "one", "said", "elsewhere"),
    [
        (GRID, {}, "--lrs 0.0001:1:2.", "rates from 0.0001 to 1 by factors of 2."),
        (GRID, dict(loss=(1.0, NAN, NAN)), "--lrs 0.0001:1:2 and --seeds 3.",
         "rates from 0.0001 to 1 by factors of 2 and three seeds of every size and rate."),
        (SEEDS, dict(loss=(1.0, NAN, NAN)), "--seeds 3.", "three seeds of every size and rate."),
        (OPEN, {}, "--lrs 0.001:0.1:1.2 and more seeds or larger sizes.",
         "rates from 0.001 to 0.1 by factors of 1.2 and more seeds or larger sizes."),
    ],
)  # fmt: skip
def test_what_to_run_to_know(reason, one, said, elsewhere):
    a = axis("undecided", size(64, **one), size(512, **one), reason=reason)
    assert sentence(a) == KNOW + said
    b = without_options(a)
    assert sentence(b) == KNOW + elsewhere
    assert "--" not in b.reason


def test_what_is_not_known():
    low = size(64, edge="low")
    assert sentence(axis("undecided", low, size(512), reason=GRID)).startswith(
        "To know which rate serves every width, run again with --lrs"
    )
    none = size(64, lr=(NAN, NAN, NAN), loss=(INF, INF, INF), edge="all diverged")
    assert sentence(axis("undecided", none, size(512), reason=GRID)).startswith(
        "To know which rate serves width 64, run again with --lrs"
    )
    edge = sentence(axis("undecided", size(64), size(512), reason=EDGE))
    assert edge.startswith(
        "Until it is known whether 0.01 serves width 512, train every width with 0.005, at"
    )
    lost = sentence(axis("undecided", size(64), size(512), reason=(EDGE[0].split(",")[0], Next())))
    assert lost == KNOW + "rates nearer to where training diverges, or with lower ones."


def test_several_schemes_are_named():
    a = axis("transfers", size(64), size(512))
    assert sentence(a, several=True) == f"With auto: {sentence(a)}"


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ({"a": "+"}, 0),
        ({"a": "-"}, 1),
        ({"a": "?"}, 3),
        ({"a": "++"}, 0),
        ({"a": "+-"}, 1),
        ({"a": "+?"}, 3),
        ({"a": "?-"}, 1),
        ({"a": "-", "b": "+"}, 0),
        ({"a": "-", "b": "?"}, 3),
        ({"a": "?-", "b": "-"}, 1),
        ({"a": "?", "b": "++"}, 0),
    ],
)
def test_exit_codes(verdicts, code):
    words = {"+": "transfers", "-": "does not transfer", "?": "undecided"}
    axes = [axis(words[v], size(64), scheme=s) for s, some in verdicts.items() for v in some]
    assert exit_code(axes) == code
