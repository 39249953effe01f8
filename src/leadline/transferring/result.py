"""What ``transfer`` returns."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from leadline.disk.plain import plain
from leadline.reporting.tables import text_table
from leadline.transferring.analysis import AxisResult

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Transfer:
    """Every scheme over every axis.

    Attributes:
        rows: the runs.
        metric: what was minimised: loss (training) or test_loss.
    """

    axes: tuple[AxisResult, ...]
    rows: tuple[dict[str, Any], ...]
    metric: str

    def __str__(self) -> str:
        lines = []
        for a in self.axes:
            lines.append(f"{a.scheme} over {a.axis}: {a.verdict} ({a.reason})")
            lines.append(
                f"  drift {a.drift} doublings of the rate per doubling; larger is better at the base's "
                f"rate: {a.monotone}"
            )
        header = ["scheme", "axis", "size", "best lr", f"{self.metric} there", "at base's lr", "regret",
                  "sharpness", "stable to", "grid"]  # fmt: skip
        body = [
            [
                *(a.scheme, a.axis, str(s.size), str(s.lr), str(s.loss), str(s.at_base)),
                *(
                    str(s.regret),
                    str(s.sharpness),
                    stable_rate(s.stable.value),
                    f"ends {s.edge}" if s.edge else "",
                ),
            ]
            for a in self.axes
            for s in a.sizes
        ]
        return "\n".join([*lines, "", text_table(header, body, left=2)])

    def to_json(self) -> str:
        """Axes and runs."""
        data = {"metric": self.metric, "axes": [asdict(a) for a in self.axes], "runs": self.rows}
        return json.dumps(plain(data))

    def figure(self) -> go.Figure:
        """Loss against log2 of the learning rate, one curve a size, one panel a scheme and axis."""
        from leadline.transferring.figure import transfer_figure

        return transfer_figure(self)


def stable_rate(rate: float) -> str:
    """The largest rate of a grid that trains, in words where that is every one or none."""
    return "all" if rate == math.inf else "none" if math.isnan(rate) else f"{rate:.3g}"
