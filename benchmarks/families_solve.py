"""Do families of models solve, unedited? ./dev bench families_solve [TYPE ... | all]

A small Hugging Face model of each family is solved with tol = 0 on two batches, W(0) is read off, and a
dense model of the same class is trained from it; in float64, or in float32 where its code knows no other.
Solved: losses are finite and equal at all steps. Refused: by ``plan`` or ``solve``, with a name and remedy,
which is tried. All else is wrong, and exits with 1. Kept in benchmarks/results/families_solve.json.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from families_panel import PANEL, Family
from history import TOY, keep, size
from replay import replay

import leadline as ll
from leadline.matrixfree.configuration import TaskConfiguration
from leadline.planning.remedies import offered

BASE, WIDTH = dict(width=32, depth=2), 64
STEPS = size(4, 1)
TYPES = (
    *("gpt2", "gpt_neox", "opt", "bloom", "llama", "qwen2", "mistral", "gemma", "phi", "mixtral"),
    *("vit", "bert", "t5", "bart", "resnet", "convnext"),
)
_STORED = re.compile(r"stored=(\[[^]]*\]|'[^']+')")
# What the code of families says that knows no float64.
_NOT_DOUBLE = ("got Double", "without overflow")
# Sums in another order: more than this is another computation.
_SAME = {"float64": 1e-9, "float32": 1e-4}


def loss(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Cross entropy of whatever comes first against classes by position."""
    logits = model(**batch)[0]
    rows = logits.reshape(-1, logits.shape[-1])
    return F.cross_entropy(rows, torch.arange(len(rows)) % rows.shape[-1])


def batches(f: Family) -> list[dict[str, torch.Tensor]]:
    """Two: the panel's inputs, and the same numbers in another order."""
    return [dict(f.inputs), {k: v.flip(0).flip(-1) for k, v in f.inputs.items()}]


def solved(f: Family, dtype: str = "float64", **how: Any) -> dict[str, Any]:
    """The replay of a family: how far the losses are apart.

    Raises:
        ValueError: refused.
    """
    task = ll.Task(loss, batches=batches(f))
    recipe = ll.SGD(lr=0.02, steps=STEPS, momentum=0.9)
    c = TaskConfiguration(
        task, f.build, recipe, width=WIDTH, depth=2, base=BASE, dtype=dtype, tol=0.0, **how
    )
    r = replay(c)
    hidden = [n for n, k in c.plan.names.items() if c.plan.kinds[k].role == "hidden"]
    same = np.isfinite(r.solved).all() and r.difference < _SAME[dtype]
    return {
        "verdict": "solved" if same else "wrong",
        "difference": float(f"{r.difference:.2g}"),
        "loss": [round(float(v), 4) for v in r.solved[[0, -1]]],
        "wide": len(r.wide),
        "hidden": len(hidden),
    }


def answer(f: Family) -> dict[str, Any]:
    """Solved, or refused and what the remedy of the refusal gives, at most three times."""
    started, how, said = time.process_time(), {}, []
    for _ in range(4):
        try:
            row = solved(f, **how)
            row["verdict"] += f" with {_words(how)}" if how and row["verdict"] == "solved" else ""
            break
        except ValueError as e:
            said.append(str(e))
            if any(x in said[-1] for x in _NOT_DOUBLE) and "dtype" not in how:
                how["dtype"] = "float32"
                continue
            more = offered(str(e)) or {"stored": (*how.get("stored", ()), *_named(str(e)))}
            row = {"verdict": "refused"}
            if more == {"stored": ()} or all(how.get(k) == v for k, v in more.items()):
                break
            how |= more
        except Exception as e:
            row = {"verdict": "wrong", "text": f"{type(e).__name__}: {e}"[:400]}
            break
    row |= {"seconds": round(time.process_time() - started, 1)}
    return row | ({"said": [text[:300] for text in said]} if said else {})


def _named(text: str) -> list[str]:
    """The parameters that a refusal proposes to keep with entries."""
    found = _STORED.search(text)
    return re.findall(r"'([^']+)'", found[1]) if found else []


def _words(how: dict[str, Any]) -> str:
    return ", ".join(f"{k}={v!r}" for k, v in how.items())


def main(names: list[str]) -> None:
    wanted = size(names or TYPES, names or ("gpt2",))
    families = [f for f in PANEL if f.type in wanted or wanted == ["all"]]
    rows: dict[str, Any] = {}
    for f in families:
        rows[f.type] = row = answer(f)
        what = (
            f"{row['wide']} of {row['hidden']} wide, {row['difference']:.0e}"
            if "wide" in row
            else ""
        )
        said = row.get("text") or " ".join(row.get("said", ""))[:160]
        print(f"{f.type:20} {row['verdict']:12} {what} {said}")
        keep("families_solve", {f.type: row})
    print(Counter(row["verdict"].split()[0] for row in rows.values()))
    if not TOY and any(row["verdict"] == "wrong" for row in rows.values()):
        sys.exit(1)


if __name__ == "__main__":
    torch.manual_seed(0)
    main(sys.argv[1:])
