"""A check's report, read again from its JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from leadline.checking.exponents import Exponent
from leadline.checking.report import FAILED, CheckReport, Row
from leadline.errors import check_path


def read_report(path: Any) -> CheckReport:
    """The report in a file that ``leadline check --out`` (check.json) or ``to_json`` wrote.

    Numbers that are not finite are NaN.

    Raises:
        ValueError: it holds no report.
        OSError: it cannot be read.
    """
    text = Path(check_path("report", path)).read_text()
    try:
        data = json.loads(text)
        rows = tuple(_row(r) for r in data["rows"])
        failures = data["failures"]
        lost = failures[: len(failures) - sum(r.verdict in FAILED for r in rows)]
        losses = {
            a: {int(k): _number(v) for k, v in by.items()} for a, by in data["losses"].items()
        }
        return CheckReport(
            rows,
            tuple(lost),
            losses,
            tuple(data["notes"]),
            data["lr"],
            data["title"],
            data["seeds"],
            data["seconds"],
            data["remedy"],
            data["remedy_seconds"],
            data["steps"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise ValueError(
            f"report={str(path)!r} is no report of a check ({type(e).__name__}: {e}): give what "
            "report.to_json() or leadline check --out wrote"
        ) from e


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _row(r: dict[str, Any]) -> Row:
    e = r["exponent"]
    fitted = None
    if e is not None:
        numbers = (_number(e[k]) for k in ("value", "low", "high"))
        slopes = tuple(map(_number, e["slopes"]))
        fitted = Exponent(*numbers, slopes, _number(e["ahead"]), e["curved"])
    return Row(
        r["parameter"],
        r["place"],
        r["quantity"],
        r["axis"],
        fitted,
        r["expected"],
        r["verdict"],
        tuple(r["sizes"]),
        tuple(map(_number, r["values"])),
        r["part"],
    )
