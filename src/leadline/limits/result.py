"""What ``limit`` answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from leadline.disk.plain import plain
from leadline.limits.agreement import Agreement
from leadline.limits.kernels_of_sizes import MeasuredLimit
from leadline.tabular.notebook import Plotted, losses_over_steps

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True, repr=False)
class Limit(Plotted):
    """The training of the infinitely wide (and deep) network, with error bars (about 95 %).

    Attributes:
        steps: (R,) recorded steps.
        train_loss, train_loss_error, test_loss, test_loss_error: (R,). Of a ``Task`` or ``Text`` the
            training loss of a step is that of its batch.
        train_outputs (R, P, C), test_outputs (R, P_test, C): extrapolated means over seeds; None for
            what is no ``Problem``, whose losses are extrapolated as numbers.
            From a step on at which networks diverge everything is NaN.
        contributions: what each source adds to the error bar of the training loss where it is
            largest, in squares: sampling (fluctuations over seeds), width and depth (terms of the
            series in 1/n and 1/L; no depth for a limit over width alone), truncation (tol against
            tol/10, where significant).
        sizes: the sizes solved, as rows width, depth, seeds, loss, error, seconds.
        p_value: of the test that the sizes follow the series; NaN where there is nothing to test.
        converged: whether the error bar met rtol, at least three widths and three depths (where
            the limit is over both) were solved, the series fits (p_value ≥ 0.01), and another ensemble
            agrees with the Gaussian one.
            message: why it stopped.
        agreement: of ensemble "fast" with "gaussian" at the first size: width, depth, seeds, p_value,
            difference and error (of losses, in units of the initial one); None for "gaussian".
        measures: what was measured (``measure=``), extrapolated too; None is nothing.
        info: arguments and versions.
    """

    steps: np.ndarray
    train_loss: np.ndarray
    train_loss_error: np.ndarray
    train_outputs: np.ndarray | None
    contributions: Mapping[str, float]
    sizes: tuple[Mapping[str, Any], ...]
    p_value: float
    converged: bool
    message: str
    info: Mapping[str, Any]
    test_loss: np.ndarray | None = None
    test_loss_error: np.ndarray | None = None
    test_outputs: np.ndarray | None = None
    agreement: Agreement | None = None
    measures: MeasuredLimit | None = None

    @property
    def series(self) -> str:
        """What losses are a series in."""
        return "1/n" if self.info.get("over") == "width" else "1/n and 1/L"

    def __repr__(self) -> str:
        k = self.steps[-1]
        lines = [
            f"Limit(coupling={self.info['coupling']}, "
            f"{'' if self.converged else 'NOT CONVERGED: '}{self.message})",
            f"  train_loss: {self.train_loss[0]:.4g} (step 0) → {self.train_loss[-1]:.4g} ± "
            f"{self.train_loss_error[-1]:.1g} (step {k})",
        ]
        if self.test_loss is not None and self.test_loss_error is not None:
            lines.append(
                f"  test_loss: {self.test_loss[0]:.4g} (step 0) → {self.test_loss[-1]:.4g} ± "
                f"{self.test_loss_error[-1]:.1g} (step {k})"
            )
        lines.append(
            "  error sources: " + ", ".join(f"{k} {v:.1g}" for k, v in self.contributions.items())
        )
        lines.append("  sizes: " + ", ".join(f"{c['width']}x{c['depth']}" for c in self.sizes))
        if np.isfinite(self.p_value):
            lines.append(f"  test of the series in {self.series}: p = {self.p_value:.2g}")
        if self.measures is not None:
            lines.append(f"  {self.measures}")
        if self.agreement is not None:
            lines.append(f"  ensemble {self.info['ensemble']}: {self.agreement}")
        return "\n".join(lines)

    def figure(self) -> go.Figure:
        """Losses over steps, with their error bars."""
        curves = [("train loss", self.train_loss, self.train_loss_error)]
        if self.test_loss is not None and self.test_loss_error is not None:
            curves.append(("test loss", self.test_loss, self.test_loss_error))
        return losses_over_steps(self.steps, curves, repr(self).splitlines()[0])

    def to_json(self, lists: bool = True) -> dict[str, Any]:
        """Everything as plain lists and numbers; arrays as they are without ``lists``."""
        out: dict[str, Any] = {
            "info": dict(self.info),
            "converged": self.converged,
            "message": self.message,
            "p_value": plain(self.p_value),
            "contributions": plain(self.contributions),
            "sizes": plain(self.sizes),
            "agreement": None if self.agreement is None else plain(asdict(self.agreement)),
        }
        for name in (
            "steps",
            "train_loss",
            "train_loss_error",
            "train_outputs",
            "test_loss",
            "test_loss_error",
            "test_outputs",
        ):
            value = getattr(self, name)
            out[name] = plain(value) if lists and value is not None else value
        if self.measures is not None:
            out["measures"] = self.measures.to_json(lists)
        return out
