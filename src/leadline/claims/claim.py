"""What a claim is, what all claims are measured on, and the list of them."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np

from leadline.architecture import ResNet
from leadline.claims import sources
from leadline.claims.cells import Arrays, Cell
from leadline.claims.verdict import Judgement
from leadline.kernels.kernels import initial_kernels
from leadline.problems import Problem
from leadline.reporting.page import Drawing, Table
from leadline.reporting.panels import BLUE, GREEN, ORANGE

# What several claims measure, and how they name and draw it.
COUPLINGS = ("reused", "independent")
COUPLING_NAMES = {"reused": "true backpropagation", "independent": "NFD (independent weights)"}
COUPLING_COLORS = {"reused": BLUE, "independent": ORANGE}
SCHEMES = ("depth-mup", "depth-mup-corrected", "completep")
CORRECTED = "depth-mup-corrected"
SCHEME_COLORS = {"depth-mup": ORANGE, "depth-mup-corrected": BLUE, "completep": GREEN}
SCHEME_NAMES = {
    "depth-mup": "depth-μP",
    "depth-mup-corrected": "corrected",
    "completep": "1/L (CompleteP)",
}
OPTIMIZERS = {"sgd": "SGD", "adamw": "AdamW"}
ROLES = ("input", "hidden", "readout")
SETS = ("train", "test")
TIMES = (0.0, 0.25, 0.5, 0.75, 1.0)
WIDTH, DEPTH = "width n, neurons", "depth L, blocks"

Data = Mapping[str, Any]
"""JSON-able: numbers, texts, nested lists and dicts of them (arrays until they are stored)."""
Name = int | str
"""A claim's number, or the name of one of the paper's figures."""
Key = tuple[Any, ...]
"""What names a claim's cell: kind, sizes, coupling, …"""

PRESETS = ("quick", "standard", "full")
TOY = "toy"
"""Sizes at which nothing can be decided, for tests: all code runs, in seconds."""


@dataclass(frozen=True)
class Setting:
    """A study's choices.

    Attributes:
        source: "digits", "cifar10:PATH" or "mnist:FOLDER".
        seed: of weights and batches; the samples are always the same.
    """

    preset: str
    source: str = "digits"
    seed: int = 0
    device: str = "cpu"

    def two(self, samples: int, test_samples: int = 0) -> Problem:
        """Two classes that are easily confused, one output, targets ±1, squared error."""
        return sources.source_problem(self.source, True, samples, test_samples, "mse")

    def all(self, samples: int, test_samples: int) -> Problem:
        """All ten classes, cross-entropy."""
        return sources.source_problem(self.source, False, samples, test_samples, "cross_entropy")


class Claim:
    """One claim of the paper; each is a subclass in a file of its own.

    Attributes:
        number: the claim's, or a figure's name in ``FIGURES``. title: a few words.
        sentence: what is claimed. where: where the paper says it.
        design: how it is measured, in words.
        rule: how the verdict follows from the data; docs/findings.md lists what pilot runs changed.
        sizes: what ``cells`` measures, by preset.
    """

    number: ClassVar[Name]
    title: ClassVar[str]
    sentence: ClassVar[str]
    where: ClassVar[str] = "abstract"
    design: ClassVar[tuple[str, ...]]
    rule: ClassVar[str]
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]]

    def cells(self, setting: Setting) -> dict[Key, Cell]:
        """What has to be measured, by name."""
        raise NotImplementedError

    def data(self, setting: Setting, arrays: Mapping[Key, Arrays]) -> dict[str, Any]:
        """What is stored, judged and drawn, from the cells' arrays."""
        raise NotImplementedError

    def judge(self, data: Data) -> Judgement:
        """The rule."""
        raise NotImplementedError

    def figures(self, data: Data) -> Sequence[Drawing]:
        """The data, drawn."""
        raise NotImplementedError

    def findings(self, data: Data) -> Sequence[str]:
        """Sentences with the numbers."""
        return ()

    def tables(self, data: Data) -> Sequence[Table]:
        """Tables beside the figures."""
        return ()


_CLASSES = {
    1: "initialization.Initialization",
    2: "limits.LimitOfTraining",
    3: "gia.GradientIndependence",
    4: "degeneracy.NonDegeneracy",
    5: "features.FeatureLearning",
    6: "scaling.DiminishingReturns",
    7: "collapse.Collapse",
    8: "correction.Correction",
    9: "rate_transfer.RateTransfer",
    10: "stronger.StrongerNetworks",
}
NUMBERS = tuple(_CLASSES)
_FIGURES = {
    "figure-1": "figure_limits.LimitFigure",
    "figure-2": "figure_couplings.CouplingsFigure",
    "figure-3": "figure_covariance.CovarianceFigure",
}
FIGURES = tuple(_FIGURES)


def claim(number: Name) -> Claim:
    """The claim of that number, or the figure of that name."""
    places: dict[Name, str] = {**_CLASSES, **_FIGURES}
    module, name = places[number].split(".")
    return getattr(importlib.import_module(f"leadline.claims.{module}"), name)()


def check_claims(
    claims: Iterable[int] | int | None, figures: Iterable[int] | int | None = None
) -> tuple[Name, ...]:
    """Sorted numbers of claims, then names of figures, each once; None is all claims, or no figure.

    With figures, None is no claim.

    Raises:
        ValueError, TypeError: one that there is not; names the nearest.
    """
    if claims is None and figures is None:
        return NUMBERS
    numbers = () if claims is None else _numbers("claims", claims, len(NUMBERS))
    drawn = () if figures is None else _numbers("figures", figures, len(FIGURES))
    return (*numbers, *(f"figure-{k}" for k in drawn))


def _numbers(name: str, values: Iterable[int] | int, last: int) -> tuple[int, ...]:
    wanted = (values,) if isinstance(values, int) else tuple(values)
    for number in wanted:
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"{name}={values!r} holds {number!r}: give numbers 1 to {last}")
        if not 1 <= number <= last:
            nearest = min(max(number, 1), last)
            raise ValueError(
                f"{name}={number!r} is unknown: did you mean {nearest}? choose from 1 to {last}"
            )
    if not wanted:
        raise ValueError(f"{name}={values!r} is empty: give numbers 1 to {last}, or None")
    return tuple(sorted(set(wanted)))


@cache
def stable_rate(
    problem: Problem,
    network: ResNet,
    depth: int | None,
    train: tuple[str, ...],
    fraction: float = 0.25,
) -> float:
    """A learning rate that means the same in every architecture: ``fraction``/λ.

    λ is the largest eigenvalue of the tangent kernel at initialization over P (of the weights that
    learn, at infinite width); linearised training diverges above 2/λ.
    """
    kernel = initial_kernels(problem, network, depth, seconds=None).part(train)
    return fraction * problem.samples / float(np.linalg.eigvalsh(kernel)[-1])
