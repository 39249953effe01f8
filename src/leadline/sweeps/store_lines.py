"""The lines of a store: one record each, with a checksum; what is damaged, and what is left of it.

A line is a JSON object that ends in ``,"sum":"..."}``: the first 16 hex digits of the SHA-256 of
the object without that member. Every version of the format keeps this rule.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from typing import Any

from leadline.sweeps.store_values import decode, dumps, loads, run_id, same_json

FORMAT = 1
START = b'{"leadline_run":'
_SUM = re.compile(rb'(?s)(.*),"sum":"([0-9a-f]{16})"\}')
_HEX = re.compile(r"[0-9a-f]{64}")


class StoreError(OSError):
    """A store cannot be opened, read or written; the message says what is safe."""


class Damaged(ValueError):
    """A line is no record; says why."""


class Newer(ValueError):
    """A line is whole and of a later version of the format."""


@dataclass(frozen=True)
class CurvesFile:
    """Where a record's curves are, and how to know them."""

    file: str
    bytes: int
    sha256: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """A line's content; ``spec`` and ``result`` as encoded JSON text."""

    id: str
    rerun: int
    time: float
    spec: str
    result: str
    curves: CurvesFile | None

    def same(self, other: Entry) -> bool:
        """Whether both say the same of the same run."""
        if self.id != other.id or not same_json(self.result, other.result):
            return False
        return (self.curves and self.curves.sha256) == (other.curves and other.curves.sha256)


def curves_name(run: str, sha256: str) -> str:
    """Named by run and content: a rerun's curves replace no others."""
    return f"{run}-{sha256[:16]}.safetensors"


def write_line(entry: Entry) -> bytes:
    """The line, newline included."""
    curves = None if entry.curves is None else vars(entry.curves)
    head = f'{{"leadline_run":{FORMAT},"id":"{entry.id}","rerun":{entry.rerun}'
    body = f'{head},"time":{dumps(entry.time)},"spec":{entry.spec},"result":{entry.result}'
    text = f'{body},"curves":{dumps(curves)}}}'.encode("ascii")
    return text[:-1] + b',"sum":"' + _digest(text) + b'"}\n'


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:16].encode()


def read_line(raw: bytes) -> Entry:
    """The record of one line.

    Raises:
        Damaged: it is none.
        Newer: this version cannot read it.
    """
    found = _SUM.fullmatch(raw)
    if not raw.strip(b"\0"):
        raise Damaged("nothing but zero bytes")
    if found is None:
        raise Damaged("the line is cut off" if raw.startswith(START) else "this is no record")
    text, digest = found[1] + b"}", found[2]
    if _digest(text) != digest:
        raise Damaged("the checksum does not match")
    try:
        return _entry(loads(text))
    except Newer:
        raise
    except (ValueError, KeyError, TypeError, OverflowError) as e:
        raise Damaged(f"this is no record ({type(e).__name__}: {e})") from None


def _entry(data: Any) -> Entry:
    version = data["leadline_run"]
    if type(version) is not int or version < 1:
        raise ValueError(f"leadline_run={version!r}")
    if version > FORMAT:
        raise Newer(version)
    rerun, time, curves = data["rerun"], data["time"], data["curves"]
    if type(rerun) is not int or not 0 <= rerun < 2**62 or not math.isfinite(time):
        raise ValueError(f"rerun={rerun!r}, time={time!r}")
    spec, result = decode(data["spec"]), decode(data["result"])
    if not isinstance(result, dict) or run_id(spec) != data["id"]:
        raise ValueError("the id is not its specification's")
    if curves is not None:
        names = tuple(str(n) for n in curves["names"])
        curves = CurvesFile(curves["file"], int(curves["bytes"]), curves["sha256"], names)
        whole = _HEX.fullmatch(curves.sha256) and curves.bytes >= 0
        if not whole or curves.file != curves_name(data["id"], curves.sha256):
            raise ValueError(f"curves={curves!r}")
    return Entry(data["id"], rerun, time, dumps(data["spec"]), dumps(data["result"]), curves)


def salvage(raw: bytes) -> list[tuple[int, Entry]]:
    """Whole records inside of a damaged line (its newline may be what was damaged)."""
    found = []
    starts = [m.start() for m in re.finditer(re.escape(START), raw)]
    for i, start in enumerate(starts):
        # A nested dict may look like a start, so that every later one may be the end.
        for end in [*starts[i + 1 : i + 4], len(raw)]:
            whole = re.match(rb'(?s).*,"sum":"[0-9a-f]{16}"\}', raw[start:end])
            try:
                found.append((start, read_line(whole[0] if whole else b"")))
                break
            except Damaged:
                continue
    return found
