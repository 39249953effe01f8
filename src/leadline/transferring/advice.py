"""What to do after a transfer, in a sentence for each scheme and axis: never more than was measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from leadline.transferring.analysis import AxisResult
from leadline.transferring.verdict import LEAST_SEEDS, REGRET, SizeResult

_REST = "what lies between them and beyond"
LEAST = 0.001
"""The smallest cost that is named."""
CODES = {"transfers": 0, "does not transfer": 1, "undecided": 3}
"""Exit codes by verdict."""


def exit_code(axes: Sequence[AxisResult]) -> int:
    """0 if one scheme transfers along all of its axes, else 3 if that is still open for one, else 1."""
    by_scheme: dict[str, list[int]] = {}
    for a in axes:
        by_scheme.setdefault(a.scheme, []).append(CODES[a.verdict])
    of_scheme = [1 if 1 in codes else max(codes) for codes in by_scheme.values()]
    return 0 if 0 in of_scheme else 3 if 3 in of_scheme else 1


def sentence(a: AxisResult, several: bool = False) -> str:
    """What to do along an axis, or what to run next to know.

    Args:
        several: there are several schemes: name this one.
    """
    head = f"With {a.scheme}: " if several else ""
    make = {"transfers": _train, "does not transfer": _differ, "undecided": _open}
    return head + make[a.verdict](a)


def _train(a: AxisResult) -> str:
    base, last = a.sizes[0], a.sizes[-1]
    said = f"it costs at most {_up(last.regret.high)} of loss at {a.axis} {last.size}"
    between = max(a.sizes[1:-1], key=lambda s: s.regret.high, default=last)
    if between.regret.high > max(last.regret.high, LEAST):
        if math.isinf(between.regret.value):
            said += f", but diverges at {a.axis} {between.size}"
        elif math.isinf(between.regret.high):
            said += f", but at {a.axis} {between.size} nothing bounds the cost"
        else:
            said += f", at most {_up(between.regret.high)} at {between.size}"
    if a.monotone == "no":
        said += f"; the loss at {a.axis} {last.size} is no lower than at {base.size}"
    return f"Train every {a.axis} up to {last.size} with {_rate(base.lr.value)}: {said}."


def _differ(a: AxisResult) -> str:
    base, last = a.sizes[0], a.sizes[-1]
    rates = ", ".join(f"{s.size} with {_range(s)}" for s in a.sizes[1:])
    rate, low, high = _rate(base.lr.value), last.regret.low, last.regret.high
    first = f"Do not train {a.axis} {last.size} with the base's {rate}: it "
    if math.isinf(last.regret.value):
        first += "diverges there"
    elif low > REGRET:
        costs = f"{_percent(low)} to {_percent(high)}"
        first += f"costs {f'at least {_percent(low)}' if math.isinf(high) else costs} there"
    else:
        first = (
            f"The best rate moves with {a.axis}: the base's {rate} costs {_percent(max(low, 0.0))} to "
            f"{_percent(high)} at {a.axis} {last.size}"
        )
    return f"{first}. Train {a.axis} {rates}; larger ones were not measured."


def _range(s: SizeResult) -> str:
    if math.isnan(s.lr.low) or math.isinf(s.lr.high) or s.lr.low == s.lr.high:
        return _rate(s.lr.value)
    return f"{_rate(s.lr.value)} (its best is between {_rate(s.lr.low)} and {_rate(s.lr.high)})"


def _open(a: AxisResult) -> str:
    """What is known of the rates that were run, and what to run to know the rest."""
    known = _tried(a)
    return f"{known} {_next(a, _REST)}" if known else _next(a)


def _tried(a: AxisResult) -> str:
    """What the base's best rate costs the largest size, among the rates that were run; "" if unknown."""
    last = a.sizes[-1].size
    if a.tried is None or math.isnan(a.tried.costs[last].low):
        return ""
    cost = a.tried.costs[last]
    if math.isinf(cost.value):
        said = f"it diverges at {a.axis} {last}" + (", with some seeds" if cost.low == 0 else "")
    else:
        least = f"{percents(cost.low)} to " if cost.low >= LEAST else "at most "
        said = f"at {a.axis} {last} it costs {least}{_up(cost.high)} more loss than the best of them there"
    rate = _rate(a.tried.rate)
    return f"Among the rates tried {rate} is the best at {a.axis} {a.sizes[0].size}; {said}."


def _next(a: AxisResult, what: str = "") -> str:
    """What to run to know ``what``, by default whether the base's best rate serves the largest size."""
    base, last = a.sizes[0], a.sizes[-1]
    what = what or f"whether {_rate(base.lr.value)} serves {a.axis} {last.size}"
    if math.isnan(base.lr.value):
        what = f"which rate serves {a.axis} {base.size}"
    elif base.edge or math.isnan(last.regret.value):
        what = f"which rate serves every {a.axis}"
    after = a.next
    few = math.isfinite(base.loss.value) and math.isnan(base.loss.low)
    if after.rates is not None and few and not after.more:
        after = replace(after, seeds=LEAST_SEEDS)
    if after.steps:
        return f"To know {what}, run again with {' and '.join(after.steps)}."
    step = "rates nearer to where training diverges, or with lower ones"
    if after.trusted is not None:
        return (
            f"Until it is known {what}, train every {a.axis} with {_rate(after.trusted)}, at which "
            f"every size measured trains; to know, run again with {step}."
        )
    return f"To know {what}, run again with {step}."


def without_options(a: AxisResult) -> AxisResult:
    """The same with what to run in words: of runs that were made elsewhere there is no command line."""
    reason = a.reason
    if a.next.rates is not None:
        reason = reason.replace(a.next.rates.option, a.next.rates.words)
    if a.next.seeds is not None:
        reason = reason.removesuffix(f": --seeds {a.next.seeds}")
    return replace(a, reason=reason, next=replace(a.next, options=False))


def _rate(value: float) -> str:
    return f"{value:.3g}"


def percents(cost: float, rounded: Callable[[float], float] = round) -> str:
    """A cost in percent, without the sign: two digits, three from 100 on.

    Args:
        rounded: to a whole number: math.ceil makes of an upper end one that is never less.

    >>> percents(0.0321), percents(0.0321, math.ceil), percents(0.111, math.ceil), percents(1.5)
    ('3.2', '3.3', '12', '150')
    """
    if cost == 0 or math.isinf(cost):
        return "0" if cost == 0 else "∞"
    unit = 10.0 ** (math.floor(math.log10(abs(cost))) + (1 if abs(cost) < 1 else 0))
    # What is not a whole number by rounding alone is one.
    digits = rounded(round(100 * cost / unit, 6)) if abs(cost) < 1 else rounded(100 * cost)
    return f"{digits * unit if abs(cost) < 1 else digits:.6g}"


def _up(cost: float) -> str:
    """An upper end of a cost, LEAST at least."""
    return f"{percents(max(cost, LEAST), math.ceil)} %"


def _percent(value: float) -> str:
    return f"{percents(value)} %"
