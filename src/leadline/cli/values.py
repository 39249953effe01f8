"""Text of flags as values: memory sizes, widths and depths, lists of numbers, KEY=VALUE."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

import click

from leadline.errors import shown

_SIZE = re.compile(r"\s*([0-9]{1,18})\s*[x×]\s*([0-9]{1,18})\s*")
_MOST = 1000


class Bytes(click.ParamType):
    """A memory size: bytes, or a number with a unit."""

    name = "size"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        """Bytes; KB, MB, GB are powers of 1000, K, M, G and KiB, MiB, GiB of 1024."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([kmgt]?)(i?b?)\s*", value[:100].lower())
        try:
            if match is None or (match[3] == "i"):
                raise ValueError
            decimal = match[2] and match[3] == "b"
            power = "kmgt".index(match[2]) + 1 if match[2] else 0
            return int(float(match[1]) * (1000 if decimal else 1024) ** power)
        except (ValueError, OverflowError):
            self.fail(
                f"{shown(value)} is not a size: give bytes, or such as 512MB or 4GiB", param, ctx
            )


class StepCount(click.ParamType):
    """A number of steps, or auto."""

    name = "steps"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """The number, or "auto"."""
        if isinstance(value, int) or value == "auto":
            return value
        if not re.fullmatch(r"-?[0-9]{1,18}", value):
            self.fail(
                f"{shown(value)} is not a number of steps: give such as 10, or auto", param, ctx
            )
        return int(value)


class SizeList(click.ParamType):
    """Widths and depths such as 64x4,128x8."""

    name = "sizes"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[tuple[int, int], ...]:
        """The pairs (width, depth) that the text lists."""
        if isinstance(value, tuple):
            return value
        pairs = []
        for item in value.split(","):
            match = _SIZE.fullmatch(item.lower())
            if match is None:
                self.fail(f"{shown(item)} is not WIDTHxDEPTH: give such as 64x4,128x8", param, ctx)
            pairs.append((int(match[1]), int(match[2])))
        return tuple(pairs)


def size(name: str, text: str, example: str, least: int = 0) -> tuple[int, int]:
    """Width and depth from WIDTHxDEPTH."""
    match = _SIZE.fullmatch(text.lower())
    if match is None or min(int(match[1]), int(match[2])) < least:
        raise ValueError(f"{name}={shown(text)} is not WIDTHxDEPTH: give such as {example}")
    return int(match[1]), int(match[2])


def integers(name: str, text: str) -> tuple[int, ...]:
    """Integers separated by commas."""
    parts = [p.strip() for p in text.split(",") if p.strip()]
    if not parts or not all(re.fullmatch(r"[0-9]{1,18}", p) for p in parts):
        raise ValueError(f"{name}={shown(text)} is not a list of integers: give such as 64,128,256")
    return tuple(int(p) for p in parts)


def numbers(name: str, text: str, kind: Any) -> list[Any]:
    """Numbers separated by commas, or LOW:HIGH:FACTOR.

    >>> numbers("lrs", "1e-3:8e-3:2", float), numbers("warmup", "2:16:2", int)
    ([0.001, 0.002, 0.004, 0.008], [2, 4, 8, 16])
    """
    try:
        if ":" in text:
            rungs = _ladder(name, text)
            return rungs if kind is float else list(dict.fromkeys(round(x) for x in rungs))
        out = [kind(p) for p in text.split(",") if p.strip()]
    except ValueError as e:
        if str(e).startswith(name):
            raise
        out = []
    if not out:
        raise ValueError(
            f"{name}={shown(text)} is not a list of numbers: give such as 1,2,4"
            + (" or LOW:HIGH:FACTOR such as 1e-4:1e-1:2" if kind is float else " or 8:64:2")
        )
    return out


def _ladder(name: str, text: str) -> list[float]:
    """LOW, LOW·FACTOR, … up to HIGH."""
    low, high, factor = (float(p) for p in text.split(":"))
    if not (0 < low <= high < math.inf and 1 < factor < math.inf):
        raise ValueError
    count = int((math.log(high * (1 + 1e-9)) - math.log(low)) / math.log(factor)) + 1
    if count > _MOST:
        raise ValueError(
            f"{name}={text!r} would be {count:,} values: give a larger FACTOR, for at most {_MOST:,}"
        )
    out = []
    while low <= high * (1 + 1e-9):
        out.append(float(f"{low:.10g}"))
        low *= factor
    return out


def claims(text: str, name: str = "claims") -> list[int]:
    """Numbers of claims, or of figures, separated by commas; ranges as 3-6.

    >>> claims("3,7-9")
    [3, 7, 8, 9]
    """
    out: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,3})(?:-([0-9]{1,3}))?\s*", part)
        if match is None:
            raise ValueError(f"{name}={shown(text)} are no numbers: give such as 3,7 or 1-10")
        out.extend(range(int(match[1]), int(match[2] or match[1]) + 1))
    return out


def limit(text: str) -> tuple[float, float]:
    """A value and its error from VALUE,ERROR."""
    try:
        value, error = (float(p) for p in text.split(","))
    except ValueError:
        raise ValueError(
            f"limit={shown(text)} is not VALUE,ERROR: give such as 0.275,0.002"
        ) from None
    return value, error


def axes(texts: Iterable[str]) -> dict[str, list[Any]]:
    """NAME=V1,V2 as an axis of the builder's argument; values are numbers where they read as such.

    >>> axes(("gain=0.5,1", "activation=relu,tanh", "tied=true"))
    {'gain': [0.5, 1], 'activation': ['relu', 'tanh'], 'tied': [True]}
    """
    out: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not name or not values:
            raise ValueError(f"arg={text!r} is not NAME=VALUE,...: give such as gain=0.5,1")
        out[name] = [_plain(v) for v in values.split(",")]
    return out


def _plain(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def slurm(texts: Iterable[str]) -> dict[str, Any]:
    """Options of sbatch; those without a value are True.

    >>> slurm(("time=2:00:00", "exclusive"))
    {'time': '2:00:00', 'exclusive': True}
    """
    options: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or (equals and not value):
            raise ValueError(f"slurm={text!r} is not KEY=VALUE: give such as time=2:00:00")
        options[key.lstrip("-")] = value or True
    return options


def condition(text: str) -> tuple[str, Any]:
    """KEY=VALUE of runs; the value is meant as JSON or as it is written, whichever there is."""
    key, equals, raw = text.partition("=")
    if not equals or not key:
        raise ValueError(f"where={text!r} is no condition: give KEY=VALUE")
    from leadline.store.store import AnyOf
    from leadline.store.values import loads

    try:
        return key, AnyOf((raw, loads(raw)))
    except ValueError:
        return key, AnyOf((raw, *([float(raw)] if raw.lower() in ("nan", "inf", "-inf") else [])))


def assignments(name: str, texts: Iterable[str]) -> dict[str, str]:
    """WHAT=NAME, by commas or repeated."""
    out = {}
    for part in (p for text in texts for p in text.split(",")):
        key, equals, value = (x.strip() for x in part.partition("="))
        if not equals or not key or not value:
            raise ValueError(f"{name}={shown(part)} is not WHAT=NAME: give such as loss=nll")
        out[key] = value
    return out


def selections(name: str, texts: Iterable[str]) -> dict[str, list[str]]:
    """Values by column from COLUMN=V1,V2."""
    out = {}
    for text in texts:
        key, equals, value = (x.strip() for x in text.partition("="))
        if not equals or not key or not value:
            raise ValueError(f"{name}={shown(text)} is not COLUMN=VALUE: give such as dataset=c4")
        out[key] = [v.strip() for v in value.split(",")]
    return out


def names(name: str, text: str) -> list[str]:
    """Names separated by commas."""
    out = [p.strip() for p in text.split(",") if p.strip()]
    if not out:
        raise ValueError(f"{name}={shown(text)} names nothing: give such as N,D")
    return out


def places(name: str, text: str) -> dict[str, float]:
    """AXIS=SIZE,AXIS=SIZE; sizes with units.

    >>> places("at", "N=7B,D=1.4e11")
    {'N': 7000000000.0, 'D': 140000000000.0}
    """
    from leadline.errors import check_real
    from leadline.tabular.quantities import quantity

    out = {}
    for key, value in assignments(name, [text]).items():
        try:
            size_ = quantity(value)
        except (ValueError, OverflowError):
            raise ValueError(
                f"{name}={shown(text)}: {value!r} is no number: give such as N=7e9,D=1.4e11"
            ) from None
        out[key] = check_real(key, size_, 0.0, open_minimum=True)
    return out


def plain_file(text: str) -> str:
    """A name that every disk takes."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in text)[:60] or "none"
