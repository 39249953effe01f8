"""What a study leaves in its folder, and reading it back.

store/              one record a cell
data/claim-3.json   what a claim's verdict and figures are made of
verdicts.json       per claim: number, verdict, value, low, high, command; and how it was made
report.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leadline.disk import strict
from leadline.disk.plain import plain
from leadline.disk.write import write_atomic

FORMAT = 2


def held(made: Mapping[str, Any], number: int, data: Mapping[str, Any]) -> dict[str, Any]:
    """What the file of one claim's data holds."""
    return plain({"leadline_study": FORMAT, "claim": number, "made": made, "data": data})


def claim_text(made: Mapping[str, Any], number: int, data: Mapping[str, Any]) -> str:
    """The file of one claim's data."""
    return json.dumps(strict.seal(held(made, number, data)), allow_nan=False)


def write_claim(folder: Path, number: int, content: Mapping[str, Any]) -> None:
    """Write what ``held`` made, whole or not at all."""
    text = json.dumps(strict.seal(content), allow_nan=False)
    write_atomic(_data(folder, number), text.encode(), "out")


def read_claim(folder: Path, number: int) -> dict[str, Any] | None:
    """What ``held`` made; None if there is no such file.

    Raises:
        ValueError: it is no such file, or damaged.
    """
    path = _data(folder, number)
    if not path.is_file():
        return None
    try:
        content = strict.unseal(strict.read(path))
        if content["leadline_study"] != FORMAT or content["claim"] != number:
            raise ValueError(f"format {content['leadline_study']!r}, claim {content['claim']!r}")
        return {"made": dict(content["made"]), "data": dict(content["data"])}
    except (ValueError, KeyError, TypeError, OSError) as e:
        raise ValueError(
            f"{str(path)!r} is no data of claim {number} ({e}): delete it and measure it again"
        ) from None


def _data(folder: Path, number: int) -> Path:
    return folder / "data" / f"claim-{number}.json"
