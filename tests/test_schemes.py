"""The table of schemes against one written by hand from the papers."""

from dataclasses import astuple

import pytest

from leadline.parametrization.schemes import NAMES, SCHEMES, scheme

# Exponents in depth: branch multiplier, rates of internal and last layers; in width: output, rates.
BY_HAND = {
    "ntk": (-0.5, 0.0, 0.0, -0.5, 0.0, "1806.07572, depth as 2310.02244"),
    "mup": (0.0, 0.0, 0.0, -1.0, 1.0, "2011.14522"),
    "depth-mup": (-0.5, 0.0, 0.0, -1.0, 1.0, "2310.02244, 2309.16620"),
    "depth-mup-corrected": (-0.5, 0.5, 0.0, -1.0, 1.0, "2512.21075"),
    "completep": (-1.0, 1.0, 1.0, -1.0, 1.0, "2505.01618, 2603.00541"),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_scheme_has_the_papers_exponents(name):
    s = scheme(name, 2)
    first, *numbers, reason, source = astuple(s)
    assert first == name
    assert (*numbers, source) == BY_HAND[name]
    assert len(reason) > 10


def test_nothing_else_is_a_scheme():
    assert list(SCHEMES) == list(BY_HAND)
    assert (*BY_HAND, "auto") == NAMES
