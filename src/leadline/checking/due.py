"""The exponents that are due under a scheme, from the same table as the plan's.

In the N(0, 1) form with rates ∝ n^q, outputs ∝ n^-p, branch multiplier L^a and rate factor L^c, gradients
of hidden features are ∝ n^-p and inside branches ∝ L^a more. Then

    own update of a weight       n^(q - p)             L^(a + c) inside branches
    own update of the readout    n^(q - 2p + 1)
    output at initialization     readout n^(1/2 - p), others 1
    change of features           n^(q - p), over depth 1: what a stream of O(1) movement hands on
    effect on the model's output 1 everywhere: what every scheme promises

and what is folded into a weight multiplies what its module puts out. Over depth the effect of a layer kind
is L·L^a·L^(a + c): 1 where the scheme is consistent. The paper's correction has √L there with true
backpropagation; it is due to be 1 as claimed, and a check says what it is.
"""

from __future__ import annotations

from leadline.parametrization.rules import ONE, Power
from leadline.planning.plan import Plan
from leadline.planning.schemes import resolve
from leadline.tracing.survey import Kind

QUANTITIES = ("preactivation", "change", "own update", "effect on output")


def due(plan: Plan, kind: Kind, quantity: str) -> Power:
    """The exponent of a quantity of a kind; sp is asked for what its user wants, 1."""
    s = resolve(plan.scheme, kind.layers)
    if s is None or kind.role == "frozen":
        return ONE
    p, q = -s.readout, s.rate_width
    fold = plan.fold(kind, norms=False)
    if quantity == "effect on output":
        return ONE
    if quantity == "preactivation":
        return Power(0.5 - p if kind.role == "readout" else 0.0) + fold
    if quantity == "change":
        return Power(0.0 if kind.role in ("readout", "finite") else q - p) + fold
    own = q - 2 * p + 1 if kind.role == "readout" else q - p
    if kind.role == "finite":
        own = 0.0
    c = 0.0
    if kind.place.inside:
        c = s.branch + (s.rate_last if kind.last else s.rate_internal)
    return Power(own, c) + fold


def due_stream(plan: Plan, quantity: str) -> Power:
    """The exponent of the stream's size and movement."""
    s = resolve(plan.scheme, 2)
    if s is None or quantity == "stream":
        return ONE
    return Power(s.rate_width + s.readout)


def slack(plan: Plan, kind: Kind | None, quantity: str, axis: str) -> float:
    """How far below due an exponent of depth may lie while the base is too shallow.

    At initialization L branches of size L^a add the variance L^(1 + 2a) to the stream, less and less with
    depth if 1 + 2a < 0. Where they dominate what the stream begins with (norms that end the branches), its
    size falls as L^(½ + a) at first, and so does what it enters outside the branches, and every effect on
    the output. What layers inside branches make of their own inputs does not.
    """
    s = resolve(plan.scheme, 2)
    inside = kind is not None and kind.place.inside and quantity != "effect on output"
    if s is None or axis != "depth" or inside:
        return 0.0
    return max(0.0, -s.noise / 2)
