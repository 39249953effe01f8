"""Every benchmark's numbers with machine and versions: results/NAME.json and results/history.jsonl.

    keep("speed", {"dense": {...}})     replaces these entries in results/speed.json and appends one
                                        line {"name", "date", "machine", "versions", "numbers"} to
                                        results/history.jsonl, which is only ever appended to

A benchmark run with --toy, or with LEADLINE_TOY=1, goes through all its lines at a size that takes
seconds; ``size(usual, toy)`` picks. Toy numbers mean nothing and are not kept.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("leadline", "torch", "numpy", "scipy", "jax", "neural-tangents", "mup")

TOY = "--toy" in sys.argv or os.environ.get("LEADLINE_TOY", "") not in ("", "0")
if "--toy" in sys.argv:
    sys.argv.remove("--toy")

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
    """Of Python and of what is loaded."""
    out = {"python": platform.python_version()}
    for name in PACKAGES:
        module = sys.modules.get(name.replace("-", "_"))
        if module is None:
            continue
        try:
            out[name] = getattr(module, "__version__", None) or metadata.version(name)
        except metadata.PackageNotFoundError:
            out[name] = "unknown"
    return out


def keep(name: str, numbers: dict[str, Any], *, results: Path | None = None) -> None:
    """Write results/NAME.json and append to results/history.jsonl; nothing at toy size.

    Args:
        name: of the benchmark, for example ``speed``.
        numbers: entries by name; other entries of results/NAME.json stay as they are.
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
    with (results / "history.jsonl").open("a") as f:
        f.write(json.dumps(now) + "\n")


def spread(values: list[float]) -> str:
    """Median and range of repeated measurements: 1.23 (1.20 to 1.31)."""
    s = sorted(values)
    return f"{s[len(s) // 2]:.3g} ({s[0]:.3g} to {s[-1]:.3g})"
