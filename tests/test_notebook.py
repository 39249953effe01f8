"""What a notebook shows of results: text as HTML with tables, and figures."""

from html.parser import HTMLParser

import numpy as np
import pytest

import leadline as ll
from leadline.tabular.notebook import as_html, losses_over_steps
from leadline.tabular.tables import text_table, wrapped
from leadline.trajectory import Trajectory


class Seen(HTMLParser):
    """Texts of paragraphs and cells, with the cells' alignment."""

    def __init__(self, text):
        super().__init__()
        self.open, self.paragraphs, self.cells, self.right = [], [], [], []
        self.feed(text)
        assert self.open == [], "every tag is closed"

    def handle_starttag(self, tag, attrs):
        if tag == "br":
            self.paragraphs[-1] += "\n"
            return
        self.open.append(tag)
        if tag == "p":
            self.paragraphs.append("")
        if tag == "tr":
            self.cells.append([])
        if tag in ("th", "td"):
            self.cells[-1].append("")
            self.right.append("right" in dict(attrs)["style"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1] in ("th", "td"):
            self.cells[-1][-1] += data
        elif self.open:
            self.paragraphs[-1] += data


def test_tables_become_tables_and_texts_paragraphs():
    rows = [["a<b", "−1.5", "yes"], ["", "∞", "no 1"]]
    table = text_table(["name & place", "drift", "ok"], rows)
    seen = Seen(as_html(f"First line\n  second\n    goes on\n\n{table}\n\nlast\n"))
    assert seen.paragraphs == ["First line", "second goes on", "last"]
    assert seen.cells == [["name & place", "drift", "ok"], *rows]
    assert seen.right[:3] == [False, True, False]


def test_a_note_right_under_a_table_is_no_row_of_it():
    table = text_table(["name", "drift"], [["a", "+0.5"], ["b", "-1"]])
    seen = Seen(as_html(f"First\n\n{table}\n* last layer of `blocks`\n"))
    assert seen.cells == [["name", "drift"], ["a", "+0.5"], ["b", "-1"]]
    assert seen.paragraphs == ["First", "* last layer of blocks"]
    assert seen.right[:2] == [False, True]


def test_wrapped_lines_are_one_again():
    text = "word " * 60
    assert Seen(as_html("\n".join(wrapped(text)))).paragraphs == [text.strip()]


def trajectory(seeds):
    losses = np.linspace(1, 0.5, 3) + np.arange(seeds)[:, None]
    return Trajectory(np.arange(3), losses, {"kind": "train", "width": 8, "depth": 2})


def test_a_trajectory_shows_and_plots_itself():
    one = trajectory(2)
    assert Seen(one._repr_html_()).paragraphs[0] == repr(one).splitlines()[0]
    band, line = one.plot().data
    assert list(line.y) == [1.5, 1.25, 1.0]
    # Student's t for two seeds that are 1 apart, whose standard error is a half.
    half = 12.706204736174694 / 2
    y = np.array([1.5, 1.25, 1.0])
    np.testing.assert_allclose(band.y, [*(y + half), *(y - half)[::-1]])
    assert [trace.name for trace in trajectory(1).plot().data] == ["train loss"]


def test_a_loss_without_error_has_no_band():
    nan = np.full(2, np.nan)
    curves = [("a", np.ones(2), nan), ("b", np.ones(2), np.ones(2))]
    assert [t.name for t in losses_over_steps(np.arange(2), curves, "t").data] == [
        "a",
        "b, 95 %",
        "b",
    ]


def test_a_plan_shows_its_table():
    plan = ll.plan(
        ll.residual_mlp(3, 2), dict(width=8, depth=2), dict(width=16, depth=4), optimizer="sgd"
    )
    seen = Seen(plan._repr_html_())
    assert len(seen.cells) > 3
    assert {len(row) for row in seen.cells} == {len(seen.cells[0])}
    from IPython.core.formatters import DisplayFormatter

    data, _ = DisplayFormatter().format(plan)
    assert data["text/plain"] == str(plan)
    assert data["text/html"] == plan._repr_html_()


@pytest.mark.parametrize(
    "name", ["CheckReport", "Comparison", "Forecast", "Limit", "Transfer", "Trajectory"]
)
def test_every_result_shows_and_plots_itself(name):
    kind = getattr(ll, name)
    assert kind.plot
    assert kind._repr_html_
    assert "figure" in vars(kind)


def test_progress_rewrites_one_line_in_a_notebook(monkeypatch):
    from ipykernel.iostream import OutStream

    written = []

    class Stream(OutStream):
        """What a cell's stderr is, without the kernel behind it."""

        __module__ = "ipykernel.iostream"

        def __init__(self):
            pass

        def write(self, text):
            written.append(text)
            return len(text)

        def flush(self):
            pass

        def isatty(self):
            return False

        def __del__(self):
            pass

    with ll.Progress(stream=Stream()) as progress:
        progress._wrote -= 1  # a tenth of a second later
        progress(step=1, steps=2, loss=0.5)
    assert written == ["\rstep 1/2  loss 0.5".ljust(19), "\r                  \r"]
