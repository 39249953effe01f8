"""Which scheme a parameter follows, by its branch."""

from __future__ import annotations

from leadline.errors import check_choice
from leadline.parametrization.schemes import SCHEMES, Scheme
from leadline.parametrization.schemes import scheme as by_layers

NAMES = ("sp", *SCHEMES, "spectral", "auto")


def check_scheme(scheme: str | Scheme) -> str | Scheme:
    """Refuse an unknown name; a user's own ``Scheme`` passes."""
    return scheme if isinstance(scheme, Scheme) else check_choice("scheme", scheme, NAMES)


def resolve(scheme: str | Scheme, layers: int | None) -> Scheme | None:
    """The scheme of a parameter in a branch of ``layers`` weight layers (None outside); None is sp.

    ``spectral`` is the rule that the spectral condition gives (2603.00541), which is that of ``auto``.

    >>> resolve("auto", 1).name, resolve("spectral", 3).name, resolve("sp", 2)
    ('depth-mup', 'completep', None)
    """
    if isinstance(scheme, Scheme):
        return scheme
    if scheme == "sp":
        return None
    if scheme in ("auto", "spectral"):
        return by_layers("auto", 2 if layers is None else layers)
    return SCHEMES[scheme]
