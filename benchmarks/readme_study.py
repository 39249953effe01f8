"""What README.md and docs/findings.md say of a finished study: ./dev bench readme_study DIR

Writes between their markers: verdict tables, the findings with their numbers and commands, and the main
picture, docs/study.svg, drawn by headless Chromium (without it the picture stays as it is). Nothing is
measured: `leadline study` did that.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

from leadline.claims.claim import claim
from leadline.claims.studies import Study, load
from leadline.intervals import written

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- study: made by benchmarks/readme_study.py -->", "<!-- /study -->"
PICTURE, PICTURED = ROOT / "docs" / "study.svg", 3
MARKS = {"holds": "✓ holds", "fails": "✕ fails", "undecided": "? not decided at this size"}
FLAGS = "--headless --no-sandbox --disable-gpu --disable-background-networking --no-first-run"


def table(study: Study) -> str:
    """One row a claim; what was found beside it by key and mark."""
    lines = ["| | claim | verdict | number | value, 95 % | beside it |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for number, judged in study.verdicts.items():
        v = judged.headline
        beside = [f"{p.key} {MARKS[p.verdict.verdict][0]}" for p in judged.parts if not p.claimed]
        value = written(v.value, v.low, v.high)
        cells = (
            str(number),
            claim(number).title,
            MARKS[v.verdict],
            v.number,
            value,
            ", ".join(beside),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


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


def short(study: Study) -> str:
    """For the README."""
    note = (
        "Beside it: statements found on the way, by their number in the findings; they never enter a "
        "claim's verdict."
    )
    shown = picture(study, f"docs/{PICTURE.name}")
    return "\n\n".join([table(study), note, shown, origin(study)])


def long(study: Study) -> str:
    """For docs/findings.md: every statement, the numbers in words, the commands."""
    out = [origin(study), picture(study, PICTURE.name)]
    for number, judged in study.verdicts.items():
        c, v = claim(number), judged.headline
        value = written(v.value, v.low, v.high)
        out.append(f"## {number}. {c.title}: {v.words}")
        out.append(f"> {c.sentence} ({c.where})")
        out.append(f"**{MARKS[v.verdict]}**: {v.number} {value}. {c.rule}")
        out += c.findings(study.data[number])
        if judged.parts:
            rows = [
                "| | statement | from | verdict | number | value, 95 % |",
                "| --- | --- | --- | --- | --- | --- |",
            ]
            for p in judged.parts:
                value = written(p.verdict.value, p.verdict.low, p.verdict.high)
                said = "paper" if p.claimed else "beside it"
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
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if browser is None:
        return False
    from playwright import sync_api

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
    with tempfile.TemporaryDirectory() as folder, sync_api.sync_playwright() as p:
        page = Path(folder) / "figure.html"
        figure.write_html(page, include_plotlyjs=True)
        made = p.chromium.launch(executable_path=browser, args=FLAGS.split())
        tab = made.new_page()
        tab.goto(page.as_uri())
        tab.wait_for_selector(".main-svg", state="attached")
        image = "{format: 'svg', width: 1000, height: 800}"
        uri = tab.evaluate(f"Plotly.toImage(document.querySelector('.js-plotly-plot'), {image})")
        made.close()
    from urllib.parse import unquote

    PICTURE.write_text(unquote(uri.partition(",")[2]) + "\n", "utf-8")
    return True


def main(folder: str) -> None:
    """Rewrite what stands between the markers."""
    study = load(folder)
    for path, text in (
        (ROOT / "README.md", short(study)),
        (ROOT / "docs" / "findings.md", long(study)),
    ):
        old = path.read_text("utf-8")
        if BEGIN not in old or END not in old:
            sys.exit(f"{path.name} has no line {BEGIN!r} before {END!r}: add both")
        pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
        new = f"{BEGIN}\n\n{text}\n\n{END}"
        path.write_text(re.sub(pattern, lambda _, new=new: new, old, flags=re.S), "utf-8")
    print(json.dumps({"claims": list(study.verdicts), "picture": draw(study)}))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("give the folder of a finished study: ./dev bench readme_study DIR")
    main(sys.argv[1])
