"""The data of a study: which there are, and what a claim asks of them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from leadline.errors import check_choice, shown
from leadline.problems import Problem, cifar10, digits, parse

_KINDS = ("digits", "cifar10", "mnist")
_WANTED = "give 'digits', 'cifar10:PATH' or 'mnist:FOLDER'"
# Options that a study leaves to its user; the others are the claims'.
_FREE = ("side", "center")
# Samples that the two classes closest to each other are looked for among.
_LOOK = 1000


def check_source(source: str) -> str:
    """Refuse other data, for which the sizes of the presets are not made, and files that cannot be read.

    Raises:
        ValueError, TypeError: naming the nearest valid one. OSError: of the files.
    """
    if not isinstance(source, str):
        raise TypeError(f"problem={shown(source)} is not a text: {_WANTED}")
    kind, colon, argument = source.partition(":")
    check_choice("problem", kind, _KINDS)
    path, mark, options = argument.rpartition("?")
    if not mark or kind != "mnist":
        path, options = argument, ""
    if (kind != "digits") != bool(path) or (kind == "digits" and colon):
        raise ValueError(f"problem={shown(source)}: {_WANTED}")
    for item in options.split(",") if options else ():
        key = item.partition("=")[0].strip()
        if key not in _FREE:
            raise ValueError(
                f"problem={shown(source)} sets {key!r}, which is the study's: give {' and '.join(_FREE)} "
                "alone"
            )
    if kind != "digits":
        source_problem(source, False, 10, 10, "mse")
    return source


@cache
def source_problem(
    source: str, pair: bool, samples: int, test_samples: int, loss: str, seed: int = 0
) -> Problem:
    """Samples of a source, drawn by ``seed``: of all ten classes, or of two that are easily confused.

    The pair is 3 and 8 of the digits, cats and dogs of CIFAR-10, and of other images the classes whose
    means lie closest to each other.
    """
    how: dict[str, Any] = dict(samples=samples, test_samples=test_samples, loss=loss, seed=seed)
    kind, _, path = source.partition(":")
    if kind == "digits":
        return digits(classes=(3, 8) if pair else None, **how)
    if kind == "cifar10":
        return cifar10(path, classes=("cat", "dog") if pair else None, **how)
    if pair:
        how["classes"] = ";".join(str(c) for c in _closest(source))
    return _with(source, how)


def _with(source: str, how: dict[str, Any]) -> Problem:
    options = ",".join(f"{k}={v}" for k, v in how.items())
    _, mark, there = source.rpartition("?")
    return parse(f"{source}{(',' if there else '') if mark else '?'}{options}")


@cache
def _closest(source: str) -> tuple[int, int]:
    """The two classes whose means are closest, of the normalised inputs of so many samples."""
    p = _with(source, dict(samples=_LOOK, test_samples=0))
    assert p.labels is not None
    means = np.stack([p.x[p.labels == c].mean(0) for c in range(p.outputs)])
    apart = np.linalg.norm(means[:, None] - means, axis=2) + np.diag(np.full(p.outputs, np.inf))
    a, b = divmod(int(np.argmin(apart)), p.outputs)
    return min(a, b), max(a, b)
