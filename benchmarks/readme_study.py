"""What README.md and docs/findings.md say of a finished study: ./dev bench readme_study [DIR]

Writes between their markers: the findings with their numbers and commands, the main picture,
docs/study.svg, drawn by headless Chromium (without it the picture stays as it is), and in README.md one
plain sentence a claim. Without DIR the README is made anew from what docs/findings.md says. Nothing is
measured: `leadline study` did that.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from pictures import write_svg

from leadline.claims.claim import claim
from leadline.claims.studies import Study, load
from leadline.intervals import written

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- study: made by benchmarks/readme_study.py -->", "<!-- /study -->"
PICTURE, PICTURED = ROOT / "docs" / "study.svg", 3
MARKS = {"holds": "✓ holds", "fails": "✕ fails", "undecided": "? not decided at this size"}
WORDS = {"holds": "Holds", "fails": "Fails", "undecided": "Not decided at this size"}
# What the paper says, and what was measured, of each claim.
PLAIN = {
    1: (
        "At initialization, the kernels of finite networks come to those of the limit, and squared "
        "distances fall like 1/width.",
        "they fall like width to the power {}.",
    ),
    2: (
        "The paper's limit, NFD, is what networks converge to in training.",
        "on a scale from 0 (NFD) to 1 (the limit whose backward pass uses the same weights), the outputs "
        "of real networks of growing size end at {}.",
    ),
    3: (
        "The assumption behind NFD, backward weights independent of the forward ones, becomes valid "
        "again as depth grows.",
        "at infinite depth, half-way through training, the loss of true backpropagation is below that of "
        "independent weights by the fraction {}; later by more.",
    ),
    4: (
        "Features of different samples stay distinct through depth and training.",
        "at infinite width the smallest eigenvalue of their covariance is {} of the mean one (0: features "
        "coincide; the claim needs more than 0.001).",
    ),
    5: (
        "Features are learned at infinite width and depth.",
        "the distance they move goes like width to the power {} (0: as far at any width); it does not "
        "shrink with depth either.",
    ),
    6: (
        "Returns of size diminish, because there is a limit.",
        "the last two doublings of width and depth lower the loss by {} times what the first two did.",
    ),
    7: (
        "In blocks of two layers the first one stops learning as depth grows.",
        "what its update changes goes like depth to the power {} (0: as much at any depth).",
    ),
    8: (
        "A learning rate for this first layer that grows with √depth, the paper's correction, restores it.",
        "the power is then {}.",
    ),
    9: (
        "With the correction the best learning rate carries over depth.",
        "the best rate moves by {} doublings for each doubling of depth.",
    ),
    10: (
        "With the correction deep networks end with a lower loss than without.",
        "the log of their loss over that without the correction is {}, in the least favourable case.",
    ),
}
DIVERGES = "at the rate that is best for the shallowest network, the corrected deep one diverges."
# What makes rates not transfer, as the findings have it and in plain words.
REASONS = {
    "regret above 5%": "trusting the shallowest network's best rate costs the deepest more than 5 % of "
    "loss; ",
    "the base's rate diverges at the largest size": "the shallowest network's best rate diverges in the "
    "deepest; ",
}


def origin(study: Study) -> str:
    """How it was made."""
    made = study.made[PICTURED]
    days = sorted({str(m["date"]) for m in study.made.values()})
    versions = ", ".join(f"{k} {v}" for k, v in dict(made["versions"]).items())
    minutes = sum(float(m["seconds"]) for m in study.made.values()) / 60
    return (
        f"`{study.command()}` on {', '.join(days)}: {minutes:.0f} minutes of one-thread processes "
        f"(cells that claims share counted twice); {made['machine']}; {versions}."
    )


def picture(study: Study, path: str) -> str:
    """The main figure with its text alternative."""
    alt = claim(PICTURED).figures(study.data[PICTURED])[0].alt
    return f"![{alt}]({path})"


def sentences(said: dict[int, tuple[str, str, str]]) -> str:
    """For the README: one plain sentence a claim.

    Args:
        said: verdict, value with its interval, and why rates do not transfer, by the claim's number.
    """
    lines = []
    for number, (verdict, value, reason) in said.items():
        claimed, measured = PLAIN[number]
        words = REASONS.get(reason, "") + measured.format(value)
        if value == "diverges":
            words = DIVERGES
        lines.append(f"{number}. {claimed} **{WORDS[verdict]}**: {words}")
    return "\n".join(lines)


def said_in(findings: str) -> dict[int, tuple[str, str, str]]:
    """Of every claim in docs/findings.md the verdict, the value, and why rates do not transfer (or "")."""
    of = {mark: verdict for verdict, mark in MARKS.items()}
    heads = list(re.finditer(r"^## (\d+)\. ", findings, flags=re.M))
    out = {}
    for head, after in zip(heads, [*heads[1:], None], strict=True):
        text = findings[head.end() : None if after is None else after.start()]
        line = re.search(r"^\*\*(.+?)\*\*: (.*)", text, flags=re.M)
        if line is None:
            sys.exit(f"docs/findings.md has no verdict for claim {head[1]}")
        value = re.search(r"\bdiverges(?=\.)|[−\d.∞]+ \[[^\]]*\]", line[2])
        if value is None:
            sys.exit(f"docs/findings.md has no value for claim {head[1]}")
        reason = re.search(r"the correction [^;]*\(does not transfer: ([^)]+)\)", text)
        out[int(head[1])] = of[line[1]], value[0], reason[1] if reason else ""
    return out


def long(study: Study) -> str:
    """For docs/findings.md: every statement, the numbers in words, the commands."""
    out = [origin(study), picture(study, PICTURE.name)]
    for number, judged in study.verdicts.items():
        c, v = claim(number), judged.headline
        value = written(v.value, v.low, v.high)
        out.append(f"## {number}. {c.title}: {v.words}")
        out.append(f"> {c.sentence} ({c.where})")
        out.append(f"**{MARKS[v.verdict]}**: {v.number}: {value}.\n\n*Rule.* {c.rule}")
        out += c.findings(study.data[number])
        if judged.parts:
            rows = [
                "| | statement | from | verdict | number | value, 95 % |",
                "| --- | --- | --- | --- | --- | --- |",
            ]
            for p in judged.parts:
                value = written(p.verdict.value, p.verdict.low, p.verdict.high)
                said = "paper" if p.claimed else "leadline"
                cells = (
                    p.key,
                    p.statement,
                    said,
                    MARKS[p.verdict.verdict],
                    p.verdict.number,
                    value,
                )
                rows.append("| " + " | ".join(x.replace("|", "\\|") for x in cells) + " |")
            out.append("\n".join(rows))
        out.append(f"`{study.command(number)}`")
    return "\n\n".join(out)


def draw(study: Study) -> bool:
    """The picture, by plotly in Chromium; False without a browser."""
    figure = claim(PICTURED).figures(study.data[PICTURED])[0].figure
    figure.update_layout(
        template="plotly_white", width=1000, height=800, title=None, font={"size": 13},
        legend={"orientation": "h", "y": -0.1, "yanchor": "top"}, margin={"t": 40, "b": 120},
    )  # fmt: skip
    # 1, 2, 5 on logarithmic axes, in plain numbers.
    plain = [m * 10.0**k for k in range(-6, 3) for m in (1, 2, 5)]
    figure.for_each_yaxis(
        lambda y: (
            y.update(tickvals=plain, ticktext=[f"{v:g}" for v in plain]) if y.type == "log" else y
        )
    )
    return write_svg(figure, PICTURE, 1000, 800)


def between(path: Path, text: str) -> None:
    """Rewrite what stands between the markers of a file."""
    old = path.read_text("utf-8")
    if BEGIN not in old or END not in old:
        sys.exit(f"{path.name} has no line {BEGIN!r} before {END!r}: add both")
    pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
    new = f"{BEGIN}\n\n{text}\n\n{END}"
    path.write_text(re.sub(pattern, lambda _: new, old, flags=re.S), "utf-8")


def main(folder: str | None) -> None:
    """The findings of a study, then the README from them."""
    findings = ROOT / "docs" / "findings.md"
    drawn = False
    if folder is not None:
        study = load(folder)
        between(findings, long(study))
        drawn = draw(study)
    said = said_in(findings.read_text("utf-8"))
    between(ROOT / "README.md", sentences(said))
    print(json.dumps({"claims": list(said), "picture": drawn}))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit("give no more than the folder of a finished study: ./dev bench readme_study [DIR]")
    main(sys.argv[1] if len(sys.argv) == 2 else None)
