"""`--html`, `--out` and `leadline report` as a user runs them."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from leadline.cli.program import main

SMALL = ("--problem", "teacher?samples=6,dimension=4,test_samples=3", "--steps", "2", "--quiet")
MODEL = """
import torch
from check_models import Model as Build
g = torch.Generator().manual_seed(0)
batch = (torch.randn(8, 8, generator=g), torch.randn(8, 4, generator=g))
def loss(model, batch):
    return ((model(batch[0]) - batch[1]) ** 2).mean()
"""


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


class Titles(HTMLParser):
    """Text of h1 and of captions of figures."""

    def __init__(self, path):
        super().__init__()
        self.at, self.h1, self.captions, self.plots = "", "", [], 0
        self.feed(Path(path).read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        self.at = tag
        self.plots += ("class", "plot") in attrs
        if tag == "figcaption":
            self.captions.append("")

    def handle_endtag(self, tag):
        self.at = ""

    def handle_data(self, data):
        if self.at == "h1":
            self.h1 += data
        if self.at == "figcaption":
            self.captions[-1] += data


def check(tmp_path):
    (tmp_path / "model.py").write_text(MODEL)
    sizes = ("--base", "8x1", "--widths", "8,16,32", "--depths", "1,2,4", "--seeds", "2")
    return ("check", f"{tmp_path}/model.py:Build", *sizes, "--steps", "2", "--quiet")


def transfer(tmp_path):
    sizes = ("--widths", "16,32", "--depths", "2,4", "--lrs", "0.01,0.03,0.1", "--seeds", "2")
    return ("transfer", "resnet", *sizes, "--steps", "2", "--executor", "inline", "--quiet")


def forecast(tmp_path):
    rows = [f"{n},{l},{1 + 8 / n + 1 / l}" for n in (8, 16, 32, 64) for l in (1, 2, 4, 8)]
    (tmp_path / "runs.csv").write_text("width,depth,loss\n" + "\n".join(rows))
    return ("forecast", tmp_path / "runs.csv", "--draws", "100", "--target", "128x8", "--quiet")


def compare(tmp_path):
    return ("compare", *SMALL, "--sizes", "16x1,32x2", "--seeds", "2", "--rtol", "0.9")


def kernels(tmp_path):
    return ("kernels", "--problem", SMALL[1])


@pytest.mark.parametrize(
    ("command", "title"),
    [
        (check, "Check of auto, adamw"),
        (transfer, "Transfer of the learning rate: Network"),
        (forecast, "Forecast of the loss"),
        (compare, "Networks and their limits: teacher"),
        (kernels, "Kernels at initialization, width ∞, depth ∞"),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_reports_of_every_command(command, title, tmp_path):
    out, file = tmp_path / "out", tmp_path / "deep" / "report.html"
    done = run(*command(tmp_path), "--out", out, "--html", file)
    assert done.exit_code in (0, 1, 3), done.output
    page = Titles(file)
    assert page.h1.startswith(title)
    assert page.plots == len(page.captions) >= 1
    # The same again, without computing.
    again = run("report", out)
    assert again.exit_code == 0, again.output
    assert again.stdout == f"{out / 'report.html'}\n"
    assert (out / "report.html").read_text() == file.read_text()
    elsewhere = tmp_path / "elsewhere.html"
    assert run("report", out, "--html", elsewhere).exit_code == 0
    assert elsewhere.read_text() == file.read_text()
    name = {"kernels": "figure.html"}.get(command.__name__, f"{command.__name__}.html")
    assert (out / name).read_text() == file.read_text()


@pytest.mark.parametrize("command", ["solve", "train", "limit", "lazy"])
def test_reports_of_runs(command, tmp_path):
    size = () if command == "lazy" else ("--width", "16", "--depth", "1", "--seeds", "2")
    more = ("--rtol", "0.9") if command == "limit" else ()
    done = run(command, *SMALL, *size, *more, "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    assert run("report", tmp_path / "out").exit_code == 0
    text = (tmp_path / "out" / "report.html").read_text()
    last = data["train_loss"][-1] if command == "limit" else None
    assert "Losses, ± about 95 %" in text
    assert last is None or f"{last:.4g}" in text


def test_a_report_of_a_name_with_markup(tmp_path):
    (tmp_path / "runs.csv").write_text(
        "width,depth,<script>alert(1)</script>\n"
        + "\n".join(f"{n},{l},{1 + 8 / n + 1 / l}" for n in (8, 16, 32, 64) for l in (1, 2, 4, 8))
    )
    file = tmp_path / "r.html"
    done = run(
        "forecast", tmp_path / "runs.csv", "--loss", "<script>alert(1)</script>", "--draws", "100",
        "--quiet", "--html", file,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "<script>alert(1)" not in file.read_text()


def refused(*arguments):
    done = run(*arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Error: ")
    return lines[0]


def test_mistakes_are_one_line(tmp_path):
    assert "does not exist" in refused("report", tmp_path / "none")
    assert "holds no page.json" in refused("report", tmp_path)
    file = tmp_path / "file"
    file.write_text("")
    assert "is no folder: give a folder" in refused("report", file)
    (tmp_path / "page.json").write_text('{"format": 2}')
    assert "is damaged" in refused("report", tmp_path)
    (tmp_path / "page.json").write_bytes(b"\xff\xfe\x00")
    assert "is damaged" in refused("report", tmp_path)
    (tmp_path / "verdicts.json").write_text("{")
    assert "is damaged" in refused("report", tmp_path)
    assert "is a folder: give a file" in refused("kernels", "--html", tmp_path)
    assert "is below a file" in refused("compare", "--html", file / "x.html")
    assert "is a file: give a folder" in refused(*check(tmp_path), "--out", file)
