"""A panel of model families: small Hugging Face configs, built offline, planned unedited.

    ./dev bench families                 # the table: planned, or refused and what its remedy leads to
    ./dev bench families mixtral gemma2  # some of them
    ./dev bench families --coordinates   # every planned type trained at small sizes; resumes
    ./dev bench families --scheme=sp gpt2 vit   # those under another scheme, trained so; not kept

Each row is one ``model_type``. Nothing is loaded: models are drawn from their configs. The remedy of a
refusal is the arguments that it names or, where it asks to change the model, the change in families_edits.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from families_coordinates import check, taken
from families_edits import EDITS
from families_panel import PANEL, Family
from history import TOY

import leadline as ll
from leadline.planning.remedies import offered

BASE, TARGET = {"width": 64, "depth": 2}, {"width": 128, "depth": 4}
RESULTS = Path(__file__).parent / "results" / "families.json"


def planned(f: Family, optimizer: str = "adamw", **how: Any) -> ll.Plan:
    """Its plan, from the builder alone."""
    target = TARGET if f.deep else TARGET | {"depth": BASE["depth"]}
    return ll.plan(f.build, BASE, target, optimizer=optimizer, inputs=f.inputs, **how)


def remedied(f: Family, message: str) -> tuple[Family, dict[str, Any], str]:
    """The family and the arguments that a refusal asks for, and that in words.

    What a refusal offers has been tried by leadline as far as it goes; behind an edit of the model, that
    is what the edited model's refusal offers.
    """
    if f.type in EDITS:
        words, change = EDITS[f.type]
        try:
            planned(changed := change(f))
        except (ValueError, TypeError) as e:
            how = offered(str(e))
            return changed, how, f"{words}; then {how!r}"
        return changed, {}, words
    how = offered(message)
    return f, how, repr(how)


def answer(f: Family) -> dict[str, Any]:
    """What ``plan`` says of a family: unedited, or with the remedy of its refusal, applied once."""
    started = time.perf_counter()
    try:
        f.build(**BASE)(**taken(f.inputs, **BASE))
    except Exception as e:
        return {"verdict": "not built", "text": f"{type(e).__name__}: {e}"}
    try:
        plan = planned(f)
        row = {
            "verdict": "planned",
            "kinds": len(plan.kinds),
            "branches": dict(plan.branches),
            **({} if f.deep else {"axes": "width"}),
            "muon": sum(k.role == "hidden" for k in planned(f, "muon").kinds),
        }
    except (ValueError, TypeError) as e:
        changed, how, words = remedied(f, str(e))
        row = {"verdict": "refused", "text": str(e), "remedy": words, "then": "planned"}
        try:
            planned(changed, **how)
        except (ValueError, TypeError) as again:
            row["then"] = f"refused: {again}"
    return {**row, "seconds": round(time.perf_counter() - started, 1)}


def coordinates(f: Family, row: dict[str, Any], optimizer: str) -> None:
    """The check of a family that is planned, unedited or with its remedy, into its row."""
    if "planned" not in (row["verdict"], row.get("then")):
        return
    changed, how, _ = (f, {}, "") if row["verdict"] == "planned" else remedied(f, row["text"])
    try:
        plan = planned(changed, optimizer, **how)
        row[f"coordinates {optimizer}"] = check(plan, changed.build, f.inputs, optimizer)
    except Exception as e:
        row[f"coordinates {optimizer}"] = {"verdict": "failed", "text": f"{type(e).__name__}: {e}"}


def line(name: str, row: dict[str, Any]) -> str:
    """One line of the table."""
    text = row.get("text") or f"{row['kinds']} kinds, {len(row['branches'])} branches"
    checks = [
        f"; {k} {v['verdict']} {v.get('off') or ''}"
        for k, v in row.items()
        if k.startswith("coord")
    ]
    then = f"; remedy {row['remedy']}: {row['then']}" if "then" in row else ""
    return f"{name:30} {row['verdict']:9} {text[:600]}{then}{''.join(checks)}"


def other(scheme: str, names: set[str]) -> None:
    """The coordinates of some types under another scheme: does the check notice?"""
    for f in PANEL:
        if f.type in names:
            result = check(planned(f, scheme=scheme), f.build, f.inputs, "adamw")
            print(f"{f.type:30} {scheme:12} {result['verdict']} {result['off'] or ''}", flush=True)


def main(arguments: list[str]) -> None:
    """Print the table and keep it; what has been measured is not measured again unless it is named."""
    torch.set_num_threads(1)
    for scheme in (a.removeprefix("--scheme=") for a in arguments if a.startswith("--scheme=")):
        other(scheme, {a for a in arguments if not a.startswith("--")})
        return
    checks = [a.removeprefix("--coordinates=") for a in arguments if a.startswith("--coordinates=")]
    if "--coordinates" in arguments:
        checks = ["adamw", "muon"]
    names = {a for a in arguments if not a.startswith("--")}
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if TOY:
        names, rows = {"gpt2", "mixtral"}, {}
    for f in PANEL:
        if names and f.type not in names:
            continue
        row = rows.get(f.type)
        if row is None or names or not checks:
            kept = {k: v for k, v in (row or {}).items() if k.startswith("coordinates")}
            row = answer(f)
            row |= kept if "planned" in (row["verdict"], row.get("then")) else {}
        for optimizer in checks:
            if names or f"coordinates {optimizer}" not in row:
                coordinates(f, row, optimizer)
        rows[f.type] = row
        if not TOY:
            RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
        print(line(f.type, row), flush=True)
    verdicts = Counter(r["verdict"] for r in rows.values())
    print(", ".join(f"{n} {v}" for v, n in verdicts.items()), f"of {len(rows)}")


if __name__ == "__main__":
    main(sys.argv[1:])
