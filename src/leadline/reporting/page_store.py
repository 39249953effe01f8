"""A page as JSON beside the results, so that ``leadline report`` can write it again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from leadline.disk import strict
from leadline.disk.write import write_atomic
from leadline.reporting.page import Drawing, Page, Section, Table

FORMAT = 3
NAME = "page.json"


def save(page: Page, folder: str | os.PathLike[str]) -> Path:
    """Write the page's content into a folder."""
    text = json.dumps(strict.seal({"format": FORMAT, "page": _plain(page)}))
    return write_atomic(Path(folder) / NAME, text.encode(), "out")


def load(folder: str | os.PathLike[str]) -> Page:
    """Read what ``save`` wrote.

    Raises:
        FileNotFoundError: no such folder, or no page in it.
        OSError: the page is damaged or of another format.
    """
    root = Path(folder)
    if not root.is_dir():
        what = "is no folder" if root.exists() else "does not exist"
        raise FileNotFoundError(f"folder={str(folder)!r} {what}: give a folder of results")
    path = root / NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"folder={str(folder)!r} holds no {NAME}: give one that a command wrote with --out"
        )
    try:
        content = strict.unseal(strict.read(path))
        if content["format"] != FORMAT:
            raise OSError(
                f"{str(path)!r} has format {content['format']!r}, not {FORMAT}: run the command again"
            )
        return _page(content["page"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OSError(
            f"{str(path)!r} is damaged ({type(error).__name__}: {error}): run the command again"
        ) from None


def _plain(x: Any) -> Any:
    if isinstance(x, Drawing):
        figure = json.loads(x.figure.to_json() or "{}")
        figure.get("layout", {}).pop("template", None)
        return {"figure": figure, "title": x.title, "alt": x.alt}
    if isinstance(x, Table):
        rows = [[str(c) for c in row] for row in x.rows]
        return {"head": [str(c) for c in x.head], "rows": rows, "caption": x.caption}
    if isinstance(x, Page | Section):
        return {k: _plain(getattr(x, k)) for k in x.__dataclass_fields__}
    return [_plain(v) for v in x] if isinstance(x, tuple) else x


def _page(data: dict[str, Any]) -> Page:
    return Page(
        title=_text(data["title"]),
        lead=tuple(map(_text, data["lead"])),
        sections=tuple(_section(s) for s in data["sections"]),
        facts=_pairs(data["facts"]),
        # Pages of before 0.2 have neither.
        answer=tuple(map(_text, data.get("answer", ()))),
        commands=tuple(map(_text, data.get("commands", ()))),
    )


def _section(data: dict[str, Any]) -> Section:
    value, low, high = (
        None if data[k] is None else float(data[k]) for k in ("value", "low", "high")
    )
    return Section(
        title=_text(data["title"]),
        anchor=_text(data["anchor"]),
        sentence=_text(data["sentence"]),
        number=_text(data["number"]),
        value=value,
        low=low,
        high=high,
        command=_text(data["command"]),
        verdict=None if data["verdict"] is None else _text(data["verdict"]),
        figures=tuple(_drawing(d) for d in data["figures"]),
        findings=tuple(map(_text, data["findings"])),
        paragraphs=tuple(map(_text, data["paragraphs"])),
        tables=tuple(Table(t["head"], t["rows"], _text(t["caption"])) for t in data["tables"]),
        downloads=_pairs(data["downloads"]),
    )


def _drawing(data: dict[str, Any]) -> Drawing:
    import plotly.graph_objects as go

    return Drawing(go.Figure(data["figure"]), _text(data["title"]), _text(data["alt"]))


def _pairs(data: Any) -> tuple[tuple[str, str], ...]:
    return tuple((_text(name), _text(value)) for name, value in data)


def _text(x: Any) -> str:
    if not isinstance(x, str):
        raise TypeError(f"{x!r} is no text")
    return x
