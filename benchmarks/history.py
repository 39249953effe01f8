"""Every benchmark's numbers with machine and versions: results/NAME.json and results/history.jsonl.

    keep("speed", {"dense": {...}})     replaces these entries in results/speed.json and appends one
                                        line {"name", "date", "machine", "versions", "numbers"} to
                                        results/history.jsonl, which is only ever appended to

A benchmark run with --toy, or with LEADLINE_TOY=1, goes through all its lines at a size that takes
seconds; ``size(usual, toy)`` picks. Toy numbers mean nothing and are not kept.
"""

from __future__ import annotations

import datetime
import io
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout, suppress
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO, TypeVar

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("leadline", "torch", "numpy", "scipy", "jax", "neural-tangents", "mup")

TOY = "--toy" in sys.argv or os.environ.get("LEADLINE_TOY", "") not in ("", "0")
if "--toy" in sys.argv:
    sys.argv.remove("--toy")

DEVICE = os.environ.get("LEADLINE_DEVICE", "cpu")
"""Where the benchmarks train that can train elsewhere."""

T = TypeVar("T")


def size(usual: T, toy: T) -> T:
    """The usual size, or the toy one."""
    return toy if TOY else usual


def machine() -> dict[str, Any]:
    """What a number depends on, and nothing that names the machine."""
    out: dict[str, Any] = {"cores": os.cpu_count(), "machine": platform.machine()}
    try:
        flags = Path("/proc/cpuinfo").read_text()
        out["simd"] = next(f for f in ("avx512f", "avx2", "sse4_2", "asimd") if f in flags)
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        out["memory_GiB"] = round(total / 2**30)
    except (OSError, StopIteration, ValueError):
        pass
    torch = sys.modules.get("torch")
    if torch is not None:
        out["threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            out["gpu"] = torch.cuda.get_device_name()
    return out


def versions() -> dict[str, str]:
    """Of Python and of what is installed."""
    out = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            out[name] = metadata.version(name)
    return out


def keep(
    name: str,
    numbers: dict[str, Any],
    *,
    history: dict[str, Any] | None = None,
    results: Path | None = None,
) -> None:
    """Write results/NAME.json and append to results/history.jsonl; nothing at toy size.

    Args:
        name: of the benchmark, for example ``speed``.
        numbers: entries by name; other entries of results/NAME.json stay as they are.
        history: what the history has of them, in few numbers; None: all.
        results: another folder, which also keeps toy numbers (for tests).
    """
    if results is None:
        if TOY:
            return
        results = RESULTS
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"{name}.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    now = {
        "name": name,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": versions(),
        "numbers": numbers,
    }
    described = {
        key: value | {k: now[k] for k in ("date", "machine", "versions")}
        for key, value in numbers.items()
    }
    path.write_text(json.dumps(before | described, indent=1) + "\n")
    line = now if history is None else now | {"numbers": history}
    with (results / "history.jsonl").open("a") as f:
        f.write(json.dumps(line) + "\n")


class _Both(io.StringIO):
    """Shown and remembered."""

    def __init__(self, shown: TextIO) -> None:
        super().__init__()
        self._shown = shown

    def write(self, text: str) -> int:
        self._shown.write(text)
        self._shown.flush()
        return super().write(text)


def keep_printed(name: str, parts: Mapping[str, Callable[[], None]]) -> None:
    """Run the parts that the command line names (default: all), and keep the lines they print."""
    for part in sys.argv[1:] or parts:
        print(f"{part}: {(parts[part].__doc__ or '').strip()}".removesuffix(": "))
        shown = _Both(sys.stdout)
        with redirect_stdout(shown):
            parts[part]()
        keep(name, {part: {"lines": shown.getvalue().splitlines()}})


def spread(values: list[float]) -> str:
    """Median and range of repeated measurements: 1.23 (1.20 to 1.31)."""
    s = sorted(values)
    return f"{s[len(s) // 2]:.3g} ({s[0]:.3g} to {s[-1]:.3g})"
