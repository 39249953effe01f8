"""The cells of ``claims_map``: what is trained in each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from history import DEVICE, TOY, size
from map_blocks import ALL, NAMED, blocks
from map_rules import CLASSES
from map_runs import METRICS

import leadline as ll

FASHION = "/usr/share/datasets/fashion-mnist"
WIDTH = size(32, 8)
BASES = size((4, 8, 16), (2, 4))
DEPTHS = size((4, 8, 16, 64), (2, 4, 8))
# Samples, batch (None: all), steps.
LENGTHS = size(
    {
        "short": (64, None, 15),
        "pass of 512": (512, 32, 16),
        "pass": (1024, 32, 32),
        "epochs": (256, 32, 64),
        "long": (128, 32, 80),
    },
    {
        "short": (20, None, 3),
        "pass of 512": (20, 10, 2),
        "pass": (40, 10, 4),
        "epochs": (20, 10, 4),
        "long": (10, 10, 5),
    },
)
TEST = size(400, 20)


@dataclass(frozen=True)
class Cell:
    """One place of the map; ``rates`` are the ends of the grid, log2.

    With ``ratio`` internal layers learn so many times faster at every depth, under depth-mup: judged as
    a scheme "internal-x4" beside the depth-mup of the cell ``against``.
    """

    optimizer: str
    activation: str
    rates: tuple[float, float]
    data: str = "fashion"
    horizon: float = 1.0
    length: str = "pass"
    anchor: int = DEPTHS[0]
    schemes: tuple[str | ll.Scheme, ...] = NAMED
    depths: tuple[int, ...] = field(default=DEPTHS)
    ratio: float = 1.0
    against: str = ""

    @property
    def problem(self) -> ll.Problem:
        """Ten classes; 8 × 8 pixels."""
        samples = LENGTHS[self.length][0]
        how: dict[str, Any] = dict(samples=samples, test_samples=TEST, loss="cross_entropy")
        if self.data == "digits":
            return ll.digits(classes=tuple(range(CLASSES)), **how)
        return ll.mnist(FASHION, side=8, **how)

    @property
    def grid(self) -> list[float]:
        """Rates by factors of √2."""
        low, high = self.rates
        return [2.0 ** (low + k / 2) for k in range(round(2 * (high - low)) + 1)]

    @property
    def bases(self) -> list[int]:
        """Depths from which rates are carried."""
        return [b for b in BASES if b in self.depths[:-1]]

    @property
    def named(self) -> dict[str, str | ll.Scheme]:
        """The schemes by what they are called in the runs."""
        if self.against:
            return {f"internal-x{self.ratio:g}": self.schemes[0]}
        return {s if isinstance(s, str) else s.name: s for s in self.schemes}

    def rows(
        self,
        store: Path | None,
        scheme: str,
        depth: int,
        lrs: Sequence[float],
        seeds: Sequence[int],
    ) -> list[dict[str, Any]]:
        """Train what the store lacks: every run, infinite losses where it diverged."""
        _, batch, steps = LENGTHS[self.length]
        gradient = self.optimizer != "adamw"
        swept = ll.sweep(
            self.problem,
            blocks(self.activation, self.horizon, self.anchor, gradient, ratio=self.ratio),
            widths=[WIDTH],
            depths=[depth],
            lrs=list(lrs),
            seeds=list(seeds),
            steps=steps,
            batch_size=batch,
            scheme=[self.named[scheme]],
            optimizer="sgd" if gradient else "adamw",
            schedule="linear",
            momentum=0.9 if self.optimizer == "momentum" else 0.0,
            base=dict(width=WIDTH, depth=self.anchor),
            store=store,
            executor="inline",
            device=DEVICE,
        )
        assert isinstance(swept, ll.Sweep)
        if swept.failed:
            raise RuntimeError("; ".join(swept.failed))
        return [_row(r) | {"scheme": scheme} for r in swept.rows]


def _row(run: dict[str, Any]) -> dict[str, Any]:
    lost = run["diverged"] or run["loss"] is None
    ends = {k: math.inf if lost else float(f"{run[k]:.4g}") for k in METRICS}
    return {k: run[k] for k in ("depth", "lr", "seed")} | ends


CELLS: dict[str, Cell] = {
    "sgd": Cell("sgd", "relu", (-2, 1.5), schemes=ALL),
    "ratio": Cell("sgd", "relu", (-2.5, 1), schemes=NAMED[:1], ratio=4.0, against="sgd"),
    "adamw": Cell("adamw", "relu", (-9, -4)),
    "momentum": Cell("momentum", "relu", (-5.5, -0.5)),
    "tanh": Cell("sgd", "tanh", (-1.5, 3)),
    "T4": Cell("sgd", "relu", (-4, 0), horizon=4.0),
    "short": Cell("sgd", "relu", (-2, 1.5), length="short"),
    "paper": Cell("sgd", "relu", (-2.5, 1.5), anchor=1),
    "digits": Cell("sgd", "relu", (-2.5, 2), data="digits", length="pass of 512"),
    "epochs": Cell("sgd", "relu", (-2, 1.5), length="epochs"),
    "long": Cell("sgd", "relu", (-2.5, 1.5), length="long"),
    "deep": Cell("sgd", "relu", (-1, 1), depths=(4, 32, 128)),
}
if TOY:
    CELLS = {"sgd": Cell("sgd", "relu", (-2, -0.5), data="digits", schemes=(*NAMED[:2], ALL[3]))}
