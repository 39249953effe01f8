"""The README's section on the paper's claims, from a finished study: ./dev bench readme_study DIR

Writes the table between the README's markers and the main picture, docs/study.svg, drawn by headless
Chromium (without it the picture stays as it is). Nothing is measured: `leadline study` did that.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

from leadline.claims.registry import claim
from leadline.claims.study import Study, load
from leadline.reporting.page_numbers import interval

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- study: made by benchmarks/readme_study.py -->", "<!-- /study -->"
PICTURE, PICTURED = ROOT / "docs" / "study.svg", 3
MARKS = {"holds": "✓ holds", "fails": "✕ fails", "undecided": "? not decided at this size"}
FLAGS = "--headless --no-sandbox --disable-gpu --disable-background-networking --no-first-run"


def table(study: Study) -> str:
    """Claims, and below each the parts that are judged apart from it."""
    lines = ["| | claim | verdict | number | value, 95 % |", "| --- | --- | --- | --- | --- |"]
    for number, judged in study.verdicts.items():
        rows = [(f"**{number}**", f"**{claim(number).title}**", judged.headline)]
        rows += [
            (p.key, f"beside it: {p.statement}", p.verdict) for p in judged.parts if not p.claimed
        ]
        for key, words, v in rows:
            value = interval(v.value, v.low, v.high)
            lines.append(f"| {key} | {words} | {MARKS[v.verdict]} | {v.number} | {value} |")
    return "\n".join(lines)


def section(study: Study) -> str:
    """Table, picture, and how they were made."""
    made = study.made[PICTURED]
    days = sorted({str(m["date"]) for m in study.made.values()})
    versions = ", ".join(f"{k} {v}" for k, v in dict(made["versions"]).items())
    alt = claim(PICTURED).figures(study.data[PICTURED])[0].alt
    return "\n\n".join(
        [
            BEGIN,
            table(study),
            f"![{alt}](docs/{PICTURE.name})",
            f"`{study.command()}` on {', '.join(days)}; {made['machine']}; {versions}.",
            END,
        ]
    )


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
    """Rewrite the README's section."""
    study = load(folder)
    readme = ROOT / "README.md"
    text = readme.read_text("utf-8")
    if BEGIN not in text or END not in text:
        sys.exit(f"README.md has no line {BEGIN!r} before {END!r}: add both")
    pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
    readme.write_text(re.sub(pattern, lambda _: section(study), text, flags=re.S), "utf-8")
    drawn = draw(study)
    print(json.dumps({"claims": list(study.verdicts), "picture": drawn}))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("give the folder of a finished study: ./dev bench readme_study DIR")
    main(sys.argv[1])
