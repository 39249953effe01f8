"""One table of schemes: how multipliers and learning rates depend on width n and depth L.

Everything is stated for weights with N(0, 1) entries (the form of the paper, arXiv 2512.21075v1):

    h_0 = U x/√d,   branch:  h_l = h_{l-1} + √T·L^-s · u_k,   u_j = gain·W_j φ(u_{j-1})/√n,
    f = v·h_L · n^-p

and SGD at rate η·n^q on U and v, η·n^q·c(L) on the weights of a branch. A scheme is the data
(s, c for internal layers, c for a branch's last layer, p, q); nothing else branches on its name.

Sources: mup: Tensor Programs IV (2011.14522). depth-mup: 2310.02244 and 2309.16620.
depth-mup-corrected: 2512.21075v1 (the factor √L on internal layers undoes the 1/√L of their own
update). completep: 2505.01618; the same rule follows from the spectral condition of 2603.00541 for
blocks of two or more weight layers. ntk: 1806.07572 with the residual scaling of depth-mup.
"""

from __future__ import annotations

from dataclasses import dataclass

from leadline.errors import check_choice, check_real, check_type

EXPONENTS = ("branch", "rate_internal", "rate_last", "readout", "rate_width")
"""What a ``Scheme`` holds besides its name and words."""


@dataclass(frozen=True)
class Scheme:
    """Exponents of one parametrization: how multipliers and rates depend on width n and depth L.

    They refer to weights with N(0, 1) entries and to the network of ``ResNet``::

        h_l = h_{l-1} + √T·L^branch·u_k            f = v·h_L·n^readout
        rate of U and v: η·n^rate_width            rate of W_j: η·n^rate_width·L^c

    with c = rate_last for a branch's last weight layer and rate_internal for the others.

    Raises:
        TypeError, ValueError: a name that is no text or empty, an exponent that is not between -10 and 10.
    """

    name: str
    branch: float
    """Exponent of L in the branch multiplier (-s)."""
    rate_internal: float
    """Exponent of L in the learning rate of a branch's layers but the last."""
    rate_last: float
    """Exponent of L in the learning rate of a branch's last weight layer."""
    readout: float
    """Exponent of n in the output multiplier (-p)."""
    rate_width: float
    """Exponent q of n in every learning rate."""
    reason: str
    source: str = "the user's own"

    def __post_init__(self) -> None:
        check_type("name", self.name, str, "give a short text")
        if not self.name.strip():
            raise ValueError(f"name={self.name!r} is empty: give a short text")
        for name in EXPONENTS:
            object.__setattr__(self, name, check_real(name, getattr(self, name), -10.0, 10.0))

    @property
    def exponents(self) -> tuple[float, ...]:
        """The values of ``EXPONENTS``, in order: what a scheme is, whatever it is called."""
        return tuple(getattr(self, name) for name in EXPONENTS)

    def rate_depth(self, position: int, layers: int) -> float:
        """Exponent of L in the rate of weight layer ``position`` (0-based) of a branch."""
        return self.rate_last if position == layers - 1 else self.rate_internal

    def drift(self, position: int, layers: int) -> float:
        """Exponent of L in L·α²·c: how that layer's learning moves the whole stream.

        0 has a limit, above 0 explodes with depth, below 0 vanishes.
        """
        return 1 + 2 * self.branch + self.rate_depth(position, layers)

    @property
    def noise(self) -> float:
        """Exponent of L in L·α²: the variance that all branches add at initialization."""
        return 1 + 2 * self.branch


_TABLE = (
    Scheme("ntk", branch=-0.5, rate_internal=0.0, rate_last=0.0, readout=-0.5, rate_width=0.0,
           reason="lazy: features stop moving as width grows",
           source="1806.07572, depth as 2310.02244"),
    Scheme("mup", branch=0.0, rate_internal=0.0, rate_last=0.0, readout=-1.0, rate_width=1.0,
           reason="feature learning in width; no depth factor", source="2011.14522"),
    Scheme("depth-mup", branch=-0.5, rate_internal=0.0, rate_last=0.0, readout=-1.0, rate_width=1.0,
           reason="branch noise O(1) in total, updates O(1/L)", source="2310.02244, 2309.16620"),
    Scheme("depth-mup-corrected",
           branch=-0.5, rate_internal=0.5, rate_last=0.0, readout=-1.0, rate_width=1.0,
           reason="the paper's correction: internal layers learn √L faster, so their own update is O(1)",
           source="2512.21075"),
    Scheme("completep", branch=-1.0, rate_internal=1.0, rate_last=1.0, readout=-1.0, rate_width=1.0,
           reason="every layer's own update O(1), stream O(1)", source="2505.01618, 2603.00541"),
)  # fmt: skip

SCHEMES: dict[str, Scheme] = {scheme.name: scheme for scheme in _TABLE}
NAMES: tuple[str, ...] = (*SCHEMES, "auto")


def scheme(name: str | Scheme, block_layers: int) -> Scheme:
    """The scheme called ``name``; ``auto`` picks by the number of weight layers of a branch.

    A ``Scheme`` is returned as it is.

    >>> scheme("auto", 1).name, scheme("auto", 2).name
    ('depth-mup', 'completep')
    """
    if isinstance(name, Scheme):
        return name
    check_choice("scheme", name, NAMES)
    if name == "auto":
        name = "depth-mup" if block_layers == 1 else "completep"
    return SCHEMES[name]


def check_network_scheme(scheme: str | Scheme) -> str | Scheme:
    """A name of ``NAMES``, or a table of the user's.

    Raises:
        ValueError, TypeError: neither.
    """
    return scheme if isinstance(scheme, Scheme) else check_choice("scheme", scheme, NAMES)
