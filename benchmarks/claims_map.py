"""Where the correction transfers rates and makes deep networks stronger: ./dev bench claims_map

    ./dev bench claims_map --seed-set 0 [CELL ...]    train what is missing, judge, keep
    ./dev bench claims_map --compare                  two seed sets: what they decide otherwise
    ./dev bench claims_map --fewer [CELL ...]         the same with fewer of the seeds
    ./dev bench claims_map --more                     and with more than the first, predicted from intervals
    ./dev bench claims_map --tables                   the tables of docs/findings.md
    ./dev bench claims_map --again [CELL ...]         some kept runs trained again: are they the same?

The paper's claims 9 (the correction restores transfer of learning rates over depth) and 10 (it makes deep
networks stronger), not at one place but as a map: optimizer × block activation × horizon T × training
length × data, networks of two-layer blocks, width 32, depth 4 to 64 or 128, ten classes, cross-entropy.
A cell is one of each; in it every scheme trains every depth at every rate of a grid of √2 with 48 seeds,
and then, with as many seeds as its statements need (SEEDS), at the rates that some choice leads to; the
rate falls linearly to 0. All schemes are one network with one rate at depth 4 (the anchor; 1 in the cell
"paper"). Seed set 0 is seeds 1000, 1001, ..., set 1 is 2000, 2001, ...: about three hours of one core each.

Rules, margins and cells were chosen on a pilot (seeds 0 to 23, ``--seed-set pilot``) and were committed
before a run of the two sets was judged; the cell "long" was added later, under the same rules. What the
pilot taught: constant rates leave noise of 5 to 10 % in
the loss, a rate that falls to 0 leaves 2 to 4 %; twelve seeds do not place the edge of divergence, which
lies beside most best rates, so that rules by which one diverged seed makes a mean infinite decided 70 % of
the statements, and one in five in one set only.

What the first 48 seeds taught: 10 % of the statements were decided in one set only, as many as the
intervals of both sets, averaged, predict (--more), and AdamW's grid ended above a quarter of its best
rates. So its grid begins a doubling lower, and a cell has 48, 96, 192 or more seeds until about one of its
statements is predicted to be decided in one set only. That was fixed before a later seed was trained; the
rules stayed. By then 4 % were decided in one set only, and 16 statements predicted from the intervals (12
are 3 %). So four cells have twice as many seeds, those where that is predicted to help most for its time:
T4, short, tanh, momentum. That, too, was fixed before one of these seeds was trained. 13 statements, 3.2 %,
were left in one set only. So sgd, which was to have twice as many as well and was left at 192 for its time,
and adamw have 384, fixed before the first of these seeds was trained. That left 13 again; so epochs, where
most is predicted (--more: 1.6, with twice as many .85), has 768, fixed before they were trained. A cell's
runs are kept as a table in results/claims_map,
statements in results/claims_map.json; from a finished table nothing is trained again, so that its numbers
regenerate from the table. What was trained of an unfinished cell is in leadline-out/claims_map.

Schemes: depth-mup, depth-mup-corrected (internal layers learn √L faster), completep (1/L, rate L); in some
cells two between the first: internal layers L^¼ faster (kappa-1/4), and the same with all rates of blocks
times L^-⅛ (kappa-1/4-slow).

Statements. Training loss at the end, on all training samples, chooses every rate. Each statement is decided
with its whole 95 % interval or undecided. How a rate is chosen (as a sweep of four seeds chooses it) and
what a diverged run counts (as one that learned nothing) is said in map_rules.py.

- transfers (scheme, base 4, 8 and 16): the base's best rate costs the deepest at most 5 % of loss, and the
  best rate drifts by at most ±.25 doublings per doubling of depth (its value); does not: the cost is above,
  or the drift's whole interval is beyond. Beside it stands the verdict of ``leadline transfer``, which is
  also about what lies between the rates, is by the first 48 seeds, and is not counted. "shift" is by how
  many doublings of the rate, a doubling of depth, the deepest's curve lies right of the base's at the loss
  that the base has at half of its best rate, by the first 48 seeds: what moves is measured there without
  the edge. "lost" is the share of the deepest's runs that diverge at the base's best rate. "ends" says for
  which of base and deepest more than 5 % of the choices are the grid's first or last rate.
- margin (scheme; the rate of depth 4, a half and a quarter of it): that rate costs the deepest at most 5 %
  more (over its own best) than it costs depth 4; "serves" or "costs more".
- stronger (scheme against depth-mup, the deepest, training and test loss; each tuned at that depth; or
  at the rate best for depth 4, at a half, at a quarter of it): "alike" if the whole interval of the log
  ratio is within 5 %, else "stronger" below 0, "weaker" above; where more than half of the runs of both
  diverge, that is said.

In the cells "ratio" internal layers learn four times faster at every depth, under depth-mup. At depth 64
that is the correction's network exactly (its √(64/4) = 4); at depth 4 it is another one. So they tell what
the correction does (a factor that grows) from what a constant factor does, which has a limit at infinite
depth. Where schemes differ at depth 4, "stronger" is also said there ("tuned, base").

Opposite: transfers and does not; serves and costs more; stronger and weaker. Two seed sets agree if no
statement is decided oppositely and at most 3 % are decided in one only.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from history import DEVICE, RESULTS, TOY, keep, size
from map_cells import CELLS
from map_rules import averaged, judge, needed, redrawn
from map_runs import read, write

TEMPORARY = Path(tempfile.gettempdir()) / f"claims_map-{os.getpid()}"
TABLES = TEMPORARY if TOY else RESULTS / "claims_map"
STATE = TEMPORARY if TOY else Path("leadline-out/claims_map")
# First seeds of the sets, how many train at every rate, how many a cell has in the end, and how many train
# at once.
SETS = size({"pilot": 0, "0": 1000, "1": 2000}, {"pilot": 0, "0": 10, "1": 20})
PILOT, FIRST = size((24, 48), (3, 3))
SEEDS = size(
    {
        "sgd": 384, "ratio": 96, "adamw": 384, "momentum": 384, "tanh": 384, "T4": 192, "short": 384,
        "paper": 192, "digits": 768, "epochs": 768, "long": 384, "deep": 48,
    },
    {"sgd": 4},
)  # fmt: skip
TOGETHER = 48 if DEVICE == "cpu" else 192
FEWER = size((12, 24, 48, 96, 192, 384, 768), (2,))
# Times as many seeds a set.
MORE = (1, 2, 4, 8, 16)
OPPOSITE = (
    {"transfers", "does not transfer"}, {"serves", "costs more"}, {"stronger", "weaker"},
)  # fmt: skip


def table(name: str, seed_set: str) -> Path:
    """Where a cell's runs are kept."""
    return TABLES / f"{name}-{seed_set}.csv.gz"


def count(name: str, seed_set: str) -> int:
    """How many seeds a cell has in a set."""
    return PILOT if seed_set == "pilot" else SEEDS[name]


def measured(name: str, seed_set: str) -> list[dict[str, Any]]:
    """A cell's runs: those of its table, and what is missing there, trained."""
    path, cell, start = table(name, seed_set), CELLS[name], SETS[seed_set]
    places = [(s, d) for s in cell.named for d in cell.depths]
    rows = read(path) if path.exists() else []
    total = count(name, seed_set)
    first = range(start, start + min(FIRST, total))
    rows = completed(name, seed_set, rows, first, dict.fromkeys(places, cell.grid))
    if total > FIRST:
        # What both sets' first seeds need: the same rates in both.
        beside = "1" if seed_set == "0" else "0"
        other = table(name, beside)
        others = (
            [r for r in read(other) if r["seed"] < SETS[beside] + FIRST] if other.exists() else []
        )
        if len(others) < FIRST * len(places) * len(cell.grid) and not TOY:
            print(f"{name}: more seeds once seed set {beside} has its first", flush=True)
            return rows
        whole = [r for r in rows if r["seed"] < start + FIRST] + others
        later = range(start + FIRST, start + total)
        rows = completed(name, seed_set, rows, later, needed(whole, cell.bases))
    return rows


def again(names: Sequence[str], seed_set: str) -> None:
    """Train a cell's first seeds again, at every rate of its largest depth, and compare losses; kept."""
    for name in names:
        cell, start = CELLS[name], SETS[seed_set]
        rows = read(table(name, seed_set))
        known = {(r["scheme"], r["depth"], r["lr"], r["seed"]): r["loss"] for r in rows}
        depth, seeds = max(cell.depths), range(start, start + size(12, 2))
        pairs = [
            (r["loss"], known[r["scheme"], r["depth"], r["lr"], r["seed"]])
            for scheme in cell.named
            for r in cell.rows(None, scheme, depth, cell.grid, seeds)
        ]
        both = np.array([p for p in pairs if np.isfinite(p).all()])
        off = np.abs(both[:, 0] / both[:, 1] - 1)
        out = {
            "runs": len(pairs),
            "diverged in one only": sum(math.isinf(a) != math.isinf(b) for a, b in pairs),
            "within .1 %": round(float((off < 1e-3).mean()), 4),
            "median": float(f"{np.median(off):.2g}"),
            "mean loss over mean loss": round(float(both[:, 0].mean() / both[:, 1].mean()), 5),
        }
        print(f"{name}, depth {depth}, on {DEVICE}:", out, flush=True)
        keep("claims_map", {f"again {name} {DEVICE}": out})


def completed(
    name: str,
    seed_set: str,
    rows: list[dict[str, Any]],
    seeds: range,
    rates: Mapping[tuple[str, int], Sequence[float]],
) -> list[dict[str, Any]]:
    """The rows and what is missing of these seeds and rates; kept after every TOGETHER seeds."""
    cell, store = CELLS[name], STATE / f"{name}-{seed_set}"
    for at in range(0, len(seeds), TOGETHER):
        started, some = time.process_time(), seeds[at : at + TOGETHER]
        known = {(r["scheme"], r["depth"], r["lr"], r["seed"]) for r in rows}
        new: list[dict[str, Any]] = []
        for (scheme, depth), lrs in rates.items():
            missing = [lr for lr in lrs if any((scheme, depth, lr, s) not in known for s in some)]
            if missing:
                part = cell.rows(store, scheme, depth, missing, some)
                new += [
                    r for r in part if (r["scheme"], r["depth"], r["lr"], r["seed"]) not in known
                ]
        if new:
            rows = rows + new
            write(table(name, seed_set), rows)
            seconds = time.process_time() - started
            print(
                f"{name}, seed set {seed_set}: {len(new)} runs, {seconds:.0f} s of one core",
                flush=True,
            )
    return rows


def judged(
    name: str, seed_set: str, seeds: int | None = None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A cell's statements and losses, by all seeds of a set or by its first ones, of what is trained."""
    cell, known = CELLS[name], measured if seeds is None else lambda n, k: read(table(n, k))
    rows = known(name, seed_set)
    total = seeds or len({r["seed"] for r in rows})
    if cell.against:
        beside = known(cell.against, seed_set)
        rows += [r for r in beside if r["scheme"] == "depth-mup" and r["depth"] in cell.depths]
    some = range(SETS[seed_set], SETS[seed_set] + total)
    rows = [r for r in rows if r["seed"] in some]
    statements, losses = judge(rows, cell.bases, total, FIRST)
    if cell.against:
        # Those are the other cell's.
        statements = [s for s in statements if s["scheme"] != "depth-mup"]
    return statements, losses


def report(name: str, seed_set: str) -> None:
    """Judge a cell, keep and print."""
    statements, losses = judged(name, seed_set)
    counts = Counter(s["word"] for s in statements)
    whole = {"statements": statements, "losses": losses}
    entry = f"{name}-{seed_set}"
    keep("claims_map", {entry: whole}, history={entry: dict(counts)})
    print(f"{name}-{seed_set}:", ", ".join(f"{n} {w}" for w, n in counts.most_common()), flush=True)
    for s in statements:
        if s["what"] == "transfers":
            print(
                f"  {s['scheme']} from {s['base']}: {s['word']}, drift {s['drift']}, cost {s['cost']}"
            )
        elif s["what"] == "stronger" and s["metric"] == "loss":
            print(
                f"  {s['scheme']} {s['reading']}: {s['word']} {s['ratio']} {s.get('diverges', '')}"
            )


def kept() -> dict[str, Any]:
    """Finished cells."""
    path = RESULTS / "claims_map.json"
    return json.loads(path.read_text()) if path.exists() else {}


def key(s: dict[str, Any]) -> str:
    """What a statement is about."""
    return " ".join(
        str(s[k]) for k in ("what", "scheme", "base", "margin", "reading", "metric") if k in s
    )


def agreement(words: dict[str, tuple[dict[str, str], dict[str, str]]]) -> dict[str, Any]:
    """Two seed sets, statement by statement, by cell."""
    total, open_in_both, decided = 0, 0, [0, 0]
    opposite, one = [], []
    for name, (first, second) in words.items():
        for k in first:
            pair = [first[k], second[k]]
            if "not measured" in pair:
                continue
            total += 1
            free = [w == "undecided" for w in pair]
            decided = [n + (not f) for n, f in zip(decided, free, strict=True)]
            open_in_both += all(free)
            if set(pair) in OPPOSITE:
                opposite.append(f"{name}: {k}: {' / '.join(pair)}")
            elif any(free) and not all(free):
                one.append(f"{name}: {k}: {' / '.join(pair)}")
    return dict(
        statements=total, decided=decided, opposite=opposite, in_one_only=one,
        undecided_in_both=open_in_both,
    )  # fmt: skip


def compare() -> None:
    """What the kept statements of the two sets say alike; kept too."""
    results = kept()
    both = {n: [results.get(f"{n}-{s}") for s in ("0", "1")] for n in CELLS}
    words = {
        name: tuple({key(s): s["word"] for s in r["statements"]} for r in two)
        for name, two in both.items()
        if None not in two
    }
    summary = agreement(words)
    print(json.dumps(summary, indent=1, ensure_ascii=False))
    if summary["statements"]:
        keep("claims_map", {"compared": summary})


def fewer(names: Sequence[str]) -> None:
    """How what is decided grows with the seeds of a set, those that all of these cells have; of all cells
    kept too."""
    cells = [n for n in names if all(table(n, s).exists() for s in ("0", "1"))]
    most = min(len({r["seed"] for r in read(table(n, s))}) for n in cells for s in ("0", "1"))
    out = {}
    for count in [c for c in FEWER if c <= most]:
        words = {
            n: tuple({key(s): s["word"] for s in judged(n, k, count)[0]} for k in ("0", "1"))
            for n in cells
        }
        summary = agreement(words)
        out[count] = {k: v if isinstance(v, int) else len(v) for k, v in summary.items()}
        out[count]["decided"] = summary["decided"]
        print(count, "seeds:", out[count], flush=True)
    if len(cells) == len(CELLS):
        keep("claims_map", {"fewer seeds": out})


def more() -> None:
    """How many statements of a cell the intervals of the first seeds predict to be decided in one of two
    sets only, with so many times as many seeds; the true numbers are taken to be the means of both sets."""
    generator, out = np.random.default_rng(0), {}
    for name in CELLS:
        both = [
            {key(s): s for s in judged(name, k, FIRST)[0]}
            for k in ("0", "1") if table(name, k).exists()
        ]  # fmt: skip
        mean = [averaged([s[k] for s in both]) for k in (both[0] if both else {})]
        out[name] = {}
        for times in MORE:
            pairs = [
                [redrawn(s, times, generator) == "undecided" for _ in range(2)]
                for s in mean * 20 if s["word"] not in ("not measured", "both diverge")
            ]  # fmt: skip
            out[name][times] = round(sum(a != b for a, b in pairs) / 20, 2)
        print(f"{name}: in one set only", out[name], flush=True)
    keep("claims_map", {"more seeds": out})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed-set", choices=tuple(SETS), default="0")
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--fewer", action="store_true")
    parser.add_argument("--more", action="store_true")
    parser.add_argument("--tables", action="store_true")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("cells", nargs="*", metavar="CELL", default=list(CELLS))
    told = parser.parse_args()
    acts = dict(compare=compare, fewer=lambda: fewer(told.cells), more=more)
    acts["again"] = lambda: again(told.cells, told.seed_set)
    for name, act in acts.items():
        if getattr(told, name):
            act()
            return
    if told.tables:
        from map_tables import tables

        print(tables(kept(), CELLS))
        return
    unknown = [c for c in told.cells if c not in CELLS]
    if unknown:
        parser.error(f"{unknown[0]!r} is no cell: give {', '.join(CELLS)}")
    for name in told.cells:
        report(name, told.seed_set)


if __name__ == "__main__":
    main()
