"""Colours of figures for a dark page: the same hues, light and dark exchanged.

Done in OKLab (Björn Ottosson, 2020), whose L is the lightness that is seen: what stands out most on
white stands out most on black, so a ramp from light to dark keeps its order of emphasis.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy as np

_TO_LMS = np.array([[0.4122214708, 0.5363325363, 0.0514459929],
                    [0.2119034982, 0.6806995451, 0.1073969566],
                    [0.0883024619, 0.2817188376, 0.6299787005]])  # fmt: skip
_TO_LAB = np.array([[0.2104542553, 0.7936177850, -0.0040720468],
                    [1.9779984951, -2.4285922050, 0.4505937099],
                    [0.0259040371, 0.7827717662, -0.8086757660]])  # fmt: skip
_FROM_LMS, _FROM_LAB = np.linalg.inv(_TO_LMS), np.linalg.inv(_TO_LAB)

# Lightness l of a mark becomes _SUM − l, less steeply beyond what keeps a contrast of 3 to a dark page.
_SUM, _LEAST, _MOST = 1.22, 0.62, 0.93
_PAGE = 0.21
_WHITE = 0.96

_HEX = re.compile(r"#([0-9a-fA-F]{6}|[0-9a-fA-F]{3})")
_RGB = re.compile(r"rgba?\(\s*([\d.]+)\s*,\s*([\d.]+)\s*,\s*([\d.]+)\s*(?:,\s*([\d.]+)\s*)?\)")
_NAMES = {"black": "#000000", "white": "#ffffff", "gray": "#808080", "grey": "#808080"}


def parse(text: str) -> tuple[np.ndarray, float] | None:
    """Red, green and blue in [0, 1] and opacity; None for what is no colour.

    >>> parse("#ff0000")[0].tolist(), parse("rgba(0, 51, 255, 0.5)")[1], parse("teal blue")
    ([1.0, 0.0, 0.0], 0.5, None)
    """
    text = _NAMES.get(text, text).strip()
    if match := _HEX.fullmatch(text):
        digits = match[1] if len(match[1]) == 6 else "".join(2 * c for c in match[1])
        return np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 255, 1.0
    if match := _RGB.fullmatch(text):
        return np.array([float(v) for v in match.groups()[:3]]) / 255, float(match[4] or 1)
    return None


def linear(rgb: np.ndarray) -> np.ndarray:
    """sRGB to linear light."""
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """Lightness and the two colour axes."""
    return _TO_LAB @ np.cbrt(_TO_LMS @ linear(rgb))


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2, from 1 to 21.

    >>> round(contrast("#000000", "#ffffff"), 6)
    21.0
    """
    light = []
    for text in (one, other):
        parsed = parse(text)
        assert parsed is not None
        light.append(float(np.array([0.2126, 0.7152, 0.0722]) @ linear(parsed[0])) + 0.05)
    return max(light) / min(light)


@cache
def dark(text: str) -> str | None:
    """A mark's colour on a dark page; None for what is no colour."""
    parsed = parse(text)
    if parsed is None:
        return None
    rgb, opacity = parsed
    l, a, b = lab(rgb)
    # White is the page, as under an open marker.
    l = _PAGE if l > 0.99 else _exchanged(float(l))
    return _written(l, a, b, opacity)


def _exchanged(l: float) -> float:
    """Falls with l throughout, so that no two shades of a ramp become one."""
    l = _SUM - l
    return min(max(l, _LEAST + 0.2 * (l - _LEAST)), _MOST + 0.1 * max(l - _MOST, 0.0))


def dark_scale(stops: list[Any]) -> dict[str, str]:
    """Colours of a colour scale; one that never meets the white page stays as it is."""
    parsed = {stop[1]: parse(stop[1]) for stop in stops if isinstance(stop[1], str)}
    colours = {k: (lab(v[0]), v[1]) for k, v in parsed.items() if v is not None}
    if not any(c[0] > _WHITE - 0.03 for c, _ in colours.values()):
        return {}
    return {k: _written(_SUM - max(l, 0.32), a, b, o) for k, ((l, a, b), o) in colours.items()}


def _written(l: float, a: float, b: float, opacity: float) -> str:
    """The colour of that lightness, with as much of its saturation as a screen can show."""
    for share in np.linspace(1, 0, 21):
        rgb = _FROM_LMS @ (_FROM_LAB @ np.array([l, share * a, share * b])) ** 3
        if rgb.min() >= -1e-4 and rgb.max() <= 1 + 1e-4:
            break
    rgb = np.clip(rgb, 0, 1)
    rgb = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)
    whole = ",".join(str(round(255 * float(v))) for v in rgb)
    return f"rgb({whole})" if opacity == 1 else f"rgba({whole},{opacity:g})"
