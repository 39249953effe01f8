"""What a study leaves in its folder, and reading it back.

store/              one record a cell
data/claim-3.json   what a claim's verdict and figures are made of
verdicts.json       per claim: number, verdict, value, low, high, command; and how it was made
report.html
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from leadline.disk.write import write_atomic

FORMAT = 1


def plain_data(x: Any) -> Any:
    """Arrays as lists, numbers that JSON cannot say as None."""
    if isinstance(x, Mapping):
        return {str(k): plain_data(v) for k, v in x.items()}
    if isinstance(x, np.ndarray):
        return plain_data(x.tolist())
    if isinstance(x, list | tuple):
        return [plain_data(v) for v in x]
    if isinstance(x, np.generic):
        x = x.item()
    return None if isinstance(x, float) and not math.isfinite(x) else x


def claim_text(made: Mapping[str, Any], number: int, data: Mapping[str, Any]) -> str:
    """The file of one claim's data."""
    held = {"leadline_study": FORMAT, "claim": number, "made": made, "data": data}
    return json.dumps(plain_data(held), allow_nan=False)


def write_claim(
    folder: Path, made: Mapping[str, Any], number: int, data: Mapping[str, Any]
) -> None:
    """Write it, whole or not at all."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    write_atomic(_data(folder, number), claim_text(made, number, data).encode())


def read_claim(folder: Path, number: int) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """How it was made and the data; None if there is no such file.

    Raises:
        ValueError: it is no such file.
    """
    path = _data(folder, number)
    if not path.is_file():
        return None
    try:
        held = json.loads(path.read_text("utf-8"))
        if held["leadline_study"] != FORMAT or held["claim"] != number:
            raise ValueError(f"format {held['leadline_study']!r}, claim {held['claim']!r}")
        return held["made"], held["data"]
    except (ValueError, KeyError, TypeError) as e:
        raise ValueError(
            f"{str(path)!r} is no data of claim {number} ({e}): measure it again"
        ) from None


def open_folder(out: str | os.PathLike[str]) -> Path:
    """The folder, made if it is missing.

    Raises:
        NotADirectoryError: it is a file.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"out={str(out)!r} is a file: give a folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _data(folder: Path, number: int) -> Path:
    return folder / "data" / f"claim-{number}.json"
