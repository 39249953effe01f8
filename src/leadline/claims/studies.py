"""A study: verdicts, page and text of the claims measured in one folder, and the files there.

store/              one record a cell
data/claim-3.json   what a claim's verdict and figures are made of; figure-2.json of a figure of the paper's
verdicts.json       per claim or figure: number, verdict, value, low, high, command; and how it was made
report.html
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from leadline.claims.claim import FIGURES, NUMBERS, PRESETS, TOY, Name, claim
from leadline.claims.verdict import UNDECIDED, Judgement
from leadline.disk import strict
from leadline.disk.plain import plain
from leadline.disk.write import write_atomic
from leadline.intervals import written
from leadline.reporting.page import Page, Section, Table, render
from leadline.reporting.progress import duration
from leadline.tabular.tables import text_table

FORMAT = 3
PAPER = "arXiv 2512.21075v1"


@dataclass(frozen=True, repr=False)
class Study:
    """Claims and figures of the paper, measured and judged.

    Attributes:
        path: the folder with report.html, verdicts.json, data/ and store/.
        data: what each claim's verdict and figures are made of, by the claim's number or the figure's
            name ("figure-2").
        made: how each was made: preset, problem, seed, device, date, versions, machine.
        seconds: of the call that returned this; None if it was read back.
    """

    path: Path
    data: Mapping[Name, Mapping[str, Any]]
    made: Mapping[Name, Mapping[str, Any]]
    seconds: float | None = None

    @cached_property
    def verdicts(self) -> dict[Name, Judgement]:
        """Each claim's verdict and those of its parts, computed from the data."""
        return {number: claim(number).judge(data) for number, data in self.data.items()}

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """The report's sections, one a claim."""
        return tuple(_section(self, number) for number in self.data)

    def page(self) -> Page:
        """The report."""
        return _page(self)

    def command(self, number: Name | None = None) -> str:
        """What measures a claim (None: all of these) again."""
        made = self.made[next(iter(self.made)) if number is None else number]
        claims = tuple(self.data) if number is None else (number,)
        return _command(made, claims)

    def to_json(self) -> dict[str, Any]:
        """The content of verdicts.json."""
        return plain(_verdicts(self))

    def write(self) -> Path:
        """Write verdicts.json and report.html; returns the report's path."""
        content = strict.seal(self.to_json())
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        write_atomic(self.path / "verdicts.json", text.encode(), "out")
        return write_atomic(self.path / "report.html", render(self.page()).encode(), "out")

    def __repr__(self) -> str:
        return _text(self)


def _command(made: Mapping[str, Any], names: Sequence[Name]) -> str:
    """The command line that measures these claims and figures."""
    parts = ["leadline study"]
    claims = tuple(n for n in names if n in NUMBERS)
    figures = [str(n).partition("-")[2] for n in names if n in FIGURES]
    if claims and (claims != NUMBERS or figures):
        parts.append(f"--claims {','.join(str(c) for c in claims)}")
    if figures:
        parts.append(f"--figure {','.join(figures)}")
    parts.append(f"--preset {made['preset']}")
    for name, default in (("problem", "digits"), ("device", "cpu"), ("seed", 0)):
        if made[name] != default:
            parts.append(f"--{name} {shlex.quote(str(made[name]))}")
    return " ".join(parts)


def _larger(made: Mapping[str, Any], number: Name) -> str:
    """What would decide it, in words."""
    after = dict(zip((TOY, *PRESETS), PRESETS, strict=False)).get(made["preset"])
    if after is None:
        return "No preset is larger: more seeds or larger sizes than these would decide it."
    problem = "mnist:FOLDER" if (after, made["problem"]) == ("full", "digits") else made["problem"]
    return f"More sizes and seeds: {_command({**made, 'preset': after, 'problem': problem}, (number,))}"


def _verdicts(study: Study) -> dict[str, Any]:
    """Verdicts with their numbers, and how they were made."""
    made = study.made[next(iter(study.made))] if study.made else {}
    rows: list[dict[str, Any]] = []
    figures: list[dict[str, Any]] = []
    for number, judged in study.verdicts.items():
        c = claim(number)
        parts = [
            {"key": p.key, "statement": p.statement, "claimed": p.claimed, **asdict(p.verdict)}
            for p in judged.parts
        ]
        row = {"title": c.title, "sentence": c.sentence, **asdict(judged.headline)}
        about_it = {"command": study.command(number), "seconds": study.made[number]["seconds"]}
        row = {**row, **about_it, "parts": parts}
        if number in NUMBERS:
            rows.append({"claim": number, **row})
            continue
        tables = [
            {"caption": t.caption, "head": t.head, "rows": t.rows}
            for t in c.tables(study.data[number])
        ]
        figures.append({"figure": number, **row, "tables": tables})
    about = {k: v for k, v in made.items() if k != "seconds"}
    about["command"] = study.command() if made else ""
    return {"study": about, "claims": rows} | ({"figures": figures} if figures else {})


def _section(study: Study, number: Name) -> Section:
    """One claim, or one figure."""
    c, data, judged = claim(number), study.data[number], study.verdicts[number]
    v = judged.headline
    findings = tuple(c.findings(data))
    if v.verdict == UNDECIDED:
        what = "claim is" if number in NUMBERS else "figure's claim is"
        findings = (f"This {what} {v.words}. {_larger(study.made[number], number)}", *findings)
    tables = (*((_parts(study, number),) if judged.parts else ()), *c.tables(data))
    return Section(
        title=f"{_shown(number)}. {c.title}",
        anchor=_stem(number),
        sentence=f"{c.sentence} ({c.where})",
        verdict=v.verdict,
        number=v.number,
        value=v.value,
        low=v.low,
        high=v.high,
        figures=tuple(c.figures(data)),
        findings=findings,
        paragraphs=(*c.design, f"The rule. {c.rule}"),
        tables=tables,
        command=study.command(number),
        downloads=(
            (f"{_stem(number)}.json", claim_text(content(study.made[number], number, data))),
        ),
    )


def _shown(name: Name) -> str:
    """The name in a text, such as 3 or Figure 2."""
    return str(name).replace("-", " ").capitalize()


def _stem(name: Name) -> str:
    """The name of its file: claim-3, figure-2."""
    return f"claim-{name}" if name in NUMBERS else str(name)


def _parts(study: Study, number: Name) -> Table:
    """The statements that a claim consists of, and those that leadline adds."""
    rows = [
        (
            p.key,
            p.statement,
            "paper" if p.claimed else "leadline",
            p.verdict.words,
            p.verdict.number,
            written(p.verdict.value, p.verdict.low, p.verdict.high),
        )
        for p in study.verdicts[number].parts
    ]
    head = ("", "statement", "from", "verdict", "number", "value, 95 %")
    return Table(head, tuple(rows), "The statements one by one")


def _page(study: Study) -> Page:
    """The whole report."""
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
    what = "of one-thread processes, cells that claims share counted twice"
    facts.append(("Measuring", f"{duration(spent)} {what}"))
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
    title = "The claims of Neural Feature Dynamics, measured"
    how = {"answer": (_answer(study),), "commands": _commands(study)}
    return Page(title, lead, study.sections, tuple(facts), **how)


def _answer(study: Study) -> str:
    """Which claims and figures hold, which fail and which are open, in a sentence."""
    groups: dict[str, list[str]] = {}
    for name, judged in study.verdicts.items():
        what = f"claim {name}" if name in NUMBERS else _shown(name)
        groups.setdefault(judged.headline.words, []).append(what)
    said = "; ".join(f"{words}: {', '.join(names)}" for words, names in groups.items())
    return f"{said[:1].upper()}{said[1:]}."


def _commands(study: Study) -> tuple[str, ...]:
    """The command with the next larger preset, for each claim that is not decided."""
    judged = ((n, j.headline.verdict) for n, j in study.verdicts.items())
    said = [_larger(study.made[n], n).partition(": ")[2] for n, v in judged if v == UNDECIDED]
    return tuple(c for c in said if c.startswith("leadline "))


def _text(study: Study) -> str:
    """The table of verdicts for a terminal."""
    rows = []
    for number, judged in study.verdicts.items():
        entries = [(_shown(number), claim(number).title, judged.headline)]
        entries += [(f"  {p.key}", "", p.verdict) for p in judged.parts]
        for key, title, v in entries:
            rows.append((key, title, v.words, v.number, written(v.value, v.low, v.high)))
    body = text_table(("", "claim", "verdict", "number", "value, 95 %"), rows, left=4)
    lines = [study.command(), "", body, ""]
    for name in study.data:
        for table in claim(name).tables(study.data[name]) if name in FIGURES else ():
            cells = [[str(cell) for cell in row] for row in table.rows]
            lines += [table.caption, text_table([str(h) for h in table.head], cells), ""]
    return "\n".join([*lines, f"report: {study.path / 'report.html'}"])


def load(path: str | os.PathLike[str]) -> Study:
    """The study in a folder; verdicts and figures are made anew from its data.

    Raises:
        FileNotFoundError: there is none. ValueError: its files are damaged.
    """
    folder = Path(path)
    try:
        verdicts = strict.unseal(strict.read(folder / "verdicts.json"))
        identity = {k: verdicts["study"][k] for k in ("preset", "problem", "seed")}
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{str(path)!r} holds no study: give the folder that leadline study --out wrote"
        ) from None
    except (ValueError, KeyError, TypeError) as e:
        raise ValueError(
            f"{str(folder / 'verdicts.json')!r} is damaged: {e}; the same leadline study makes it "
            "again from its store"
        ) from None
    return read(folder, identity, None, {})


def read(
    folder: Path,
    identity: Mapping[str, Any],
    seconds: float | None,
    fresh: Mapping[Name, Mapping[str, Any]],
) -> Study:
    """All claims of a folder that were made the same way, and those at hand."""
    data: dict[Name, Any] = {}
    made: dict[Name, Any] = {}
    for number in (*NUMBERS, *FIGURES):
        stored = fresh.get(number) or read_claim(folder, number)
        if stored is not None and identity_of(stored["made"]) == identity:
            made[number], data[number] = stored["made"], stored["data"]
    return Study(folder, data, made, seconds)


def identity_of(made: Mapping[str, Any]) -> dict[str, Any]:
    return {k: made[k] for k in ("preset", "problem", "seed")}


def content(made: Mapping[str, Any], number: Name, data: Mapping[str, Any]) -> dict[str, Any]:
    """The file of one claim's data, as plain data."""
    return plain({"leadline_study": FORMAT, "claim": number, "made": made, "data": data})


def claim_text(claim_content: Mapping[str, Any]) -> str:
    """The file of one claim's data as text."""
    return json.dumps(strict.seal(claim_content), allow_nan=False)


def write_claim(folder: Path, number: Name, data: Mapping[str, Any]) -> None:
    """Write what ``content`` made, whole or not at all."""
    write_atomic(_data(folder, number), claim_text(data).encode(), "out")


def read_claim(folder: Path, number: Name) -> dict[str, Any] | None:
    """What ``content`` made; None if there is no such file.

    Raises:
        ValueError: it is no such file, or damaged.
    """
    path = _data(folder, number)
    if not path.is_file():
        return None
    try:
        read = strict.unseal(strict.read(path))
        if read["leadline_study"] != FORMAT or read["claim"] != number:
            raise ValueError(f"format {read['leadline_study']!r}, claim {read['claim']!r}")
        return {"made": dict(read["made"]), "data": dict(read["data"])}
    except (ValueError, KeyError, TypeError, OSError) as e:
        raise ValueError(
            f"{str(path)!r} is no data of {_stem(number).replace('-', ' ')} ({e}): delete it and measure "
            "it again"
        ) from None


def _data(folder: Path, number: Name) -> Path:
    return folder / "data" / f"{_stem(number)}.json"
