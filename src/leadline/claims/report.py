"""A study as a page, as verdicts.json, and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from leadline.claims.registry import NUMBERS, claim
from leadline.claims.verdict import UNDECIDED, Verdict

if TYPE_CHECKING:
    from leadline.claims.study import Study
    from leadline.reporting.page import Page, Section, Table

PAPER = "arXiv 2512.21075v1"


def command(made: Mapping[str, Any], claims: Sequence[int]) -> str:
    """The command line that measures these claims."""
    parts = ["leadline study"]
    if tuple(claims) != NUMBERS:
        parts.append(f"--claims {','.join(str(c) for c in claims)}")
    parts.append(f"--preset {made['preset']}")
    for name, default in (("problem", "digits"), ("device", "cpu"), ("seed", 0)):
        if made[name] != default:
            parts.append(f"--{name} {made[name]}")
    return " ".join(parts)


def verdicts_json(study: Study) -> dict[str, Any]:
    """Verdicts with their numbers, and how they were made."""
    made = study.made[next(iter(study.made))] if study.made else {}
    rows = []
    for number, judged in study.verdicts.items():
        c = claim(number)
        parts = [
            {"key": p.key, "statement": p.statement, "claimed": p.claimed, **_row(p.verdict)}
            for p in judged.parts
        ]
        row = {"claim": number, "title": c.title, "sentence": c.sentence, **_row(judged.headline)}
        about_it = {"command": study.command(number), "seconds": study.made[number]["seconds"]}
        rows.append({**row, **about_it, "parts": parts})
    about = {k: v for k, v in made.items() if k != "seconds"}
    about["command"] = study.command() if made else ""
    return {"study": about, "claims": rows}


def _row(v: Verdict) -> dict[str, Any]:
    return {
        "verdict": v.verdict,
        "number": v.number,
        "value": v.value,
        "low": v.low,
        "high": v.high,
        "rule": v.rule,
    }


def section(study: Study, number: int) -> Section:
    """One claim."""
    from leadline.claims.files import claim_text
    from leadline.reporting.page import Section

    c, data, judged = claim(number), study.data[number], study.verdicts[number]
    v = judged.headline
    found = tuple(c.found(data))
    if v.verdict == UNDECIDED:
        found = (f"This claim is {v.words}.", *found)
    tables = (*((parts_table(study, number),) if judged.parts else ()), *c.tables(data))
    return Section(
        title=f"{number}. {c.title}",
        anchor=f"claim-{number}",
        sentence=f"{c.sentence} ({c.where})",
        verdict=v.verdict,
        number=v.number,
        value=v.value,
        low=v.low,
        high=v.high,
        figures=tuple(c.figures(data)),
        found=found,
        paragraphs=(
            *c.design,
            f"The rule. {c.rule}",
        ),
        tables=tables,
        command=study.command(number),
        downloads=((f"claim-{number}.json", claim_text(study.made[number], number, data)),),
    )


def parts_table(study: Study, number: int) -> Table:
    """The statements that a claim consists of, and those found beside it."""
    from leadline.intervals import written
    from leadline.reporting.page import Table

    rows = [
        (
            p.key,
            p.statement,
            "paper" if p.claimed else "found beside it",
            p.verdict.words,
            p.verdict.number,
            written(p.verdict.value, p.verdict.low, p.verdict.high),
        )
        for p in study.verdicts[number].parts
    ]
    head = ("", "statement", "from", "verdict", "number", "value, 95 %")
    return Table(head, tuple(rows), "The statements one by one")


def page(study: Study) -> Page:
    """The whole report."""
    from leadline.reporting.page import Page
    from leadline.reporting.progress import duration

    first = study.made[next(iter(study.made))]
    made = ", ".join(sorted({str(m["date"]) for m in study.made.values()}))
    facts = [
        ("Date", made),
        ("Command", study.command()),
        ("Machine", str(first["machine"])),
        ("Versions", ", ".join(f"{k} {v}" for k, v in dict(first["versions"]).items())),
        ("Data", f"{first['problem']}, seed {first['seed']}"),
    ]
    spent = sum(float(m["seconds"]) for m in study.made.values())
    facts.append(
        (
            "Measuring",
            f"{duration(spent)} of one-thread processes, cells that claims share counted twice",
        )
    )
    if study.seconds is not None:
        facts.append(("Time of the last call", duration(study.seconds)))
    lead = (
        "“Understanding Scaling Laws in Deep Neural Networks via Feature Learning Dynamics” "
        f"(Yao, Wu, Gao; {PAPER}) describes deep residual networks by a limit of infinite width "
        "and depth, Neural Feature Dynamics (NFD). This report measures its claims one by one. "
        "Each verdict is computed from the data by a rule that is stated in its section; the "
        "rules come from the theory, and their margins were settled on pilot runs at the quick "
        "sizes, before anything was measured at the standard ones. Intervals are 95 % over "
        "seeds.",
        "Only the paper's abstract was at hand: claims that the abstract does not state say so. "
        "What was found beside a claim is marked as that and never enters the claim's verdict.",
    )
    return Page(
        "The claims of Neural Feature Dynamics, measured", lead, study.sections, tuple(facts)
    )


def text(study: Study) -> str:
    """The table of verdicts for a terminal."""
    from leadline.intervals import written
    from leadline.reporting.tables import text_table

    rows = []
    for number, judged in study.verdicts.items():
        entries = [(str(number), claim(number).title, judged.headline)]
        entries += [(f"  {p.key}", "", p.verdict) for p in judged.parts]
        for key, title, v in entries:
            rows.append((key, title, v.words, v.number, written(v.value, v.low, v.high)))
    body = text_table(("", "claim", "verdict", "number", "value, 95 %"), rows, left=4)
    tail = f"report: {study.path / 'report.html'}"
    return "\n".join([study.command(), "", body, "", tail])
