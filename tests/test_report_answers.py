"""A report begins with its answer and, where that is open, with the command that decides."""

import dataclasses
import json

import numpy as np
import pytest

import leadline as ll
from leadline.checking.exponents import Exponent
from leadline.checking.report import CheckReport, Row, check_page
from leadline.disk import strict
from leadline.reporting.comparisons import comparison_page
from leadline.reporting.page import Page, Section, Table, render
from leadline.reporting.page_store import load, save
from leadline.reporting.results import result_page
from leadline.trajectory import Trajectory
from leadline.transferring.result import again, transfer_page
from leadline.transferring.transfers import from_rows
from leadline.transferring.verdict import Next, RateGrid
from test_transfer_advice import axis, size
from test_transfer_hyperparameters import planted

FINER = RateGrid(0.001, 0.004, 2.0)


def opened(next_):
    return axis("undecided", size(64), size(128), reason=("open", next_))


RUN = "leadline transfer a.py"
CASES = [
    (f"{RUN} --lrs 1:4:2 --steps 9", Next(FINER), f"{RUN} --steps 9 --lrs 0.001:0.004:2"),
    (f"{RUN} --lrs=1:4:2", Next(FINER, seeds=5), f"{RUN} --lrs 0.001:0.004:2 --seeds 5"),
    ("leadline transfer 'a b' --seeds 4", Next(more=True), "leadline transfer 'a b' --seeds 8"),
    (RUN, Next(FINER, more=True), f"{RUN} --lrs 0.001:0.004:2 --seeds 6"),
    (RUN, Next(FINER, options=False), ""),
    (RUN, Next(trusted=0.1), ""),
    ("", Next(FINER), ""),
]


@pytest.mark.parametrize(("command", "next_", "expected"), CASES)
def test_what_decides_is_the_command_that_was_run_with_what_changes(command, next_, expected):
    assert again(command, opened(next_)) == expected


def test_a_check_and_a_limit_that_are_open_name_the_command():
    moved = Exponent(0.1, -0.5, 0.7, (), 0.0)
    row = Row(
        "model",
        "model",
        "change of output",
        "width",
        moved,
        0.0,
        "inconclusive",
        (8, 16),
        (1.0, 1.2),
    )
    report = CheckReport((row,), (), {}, (), 1e-3, "check", 3, 1.0, "seeds=9 (--seeds 9)", 3.0)
    page = check_page(report, "leadline check a.py --seeds 3")
    assert page.commands == ("leadline check a.py --seeds 9",)
    caption = page.sections[0].tables[0].caption
    assert "inconclusive: the interval reaches across" in caption
    assert (
        check_page(dataclasses.replace(report, remedy=None), "leadline check a.py").commands == ()
    )
    problem = ll.teacher(samples=4, dimension=3, test_samples=0)
    what = (problem, ll.ResNet(), ll.SGD(lr=0.1, steps=1))
    made = ll.compare(*what, sizes=[(8, 1), (16, 2)], seeds=2, rtol=1e-9, seconds=1e-6)
    page = comparison_page(made, "leadline compare --seconds 1e-06")
    (asked,) = {float(c.split()[-1]) for c in page.commands}
    # Every coupling has a share, and the notes speak of the whole.
    assert [n for n in made.notes if f"give seconds={asked:g}" in n]
    assert all("stopped by seconds=1e-06" in n for n in made.notes)
    assert all(a.startswith("Undecided, ") for a in page.answer)
    single = ll.limit(*what, rtol=1e-9, seconds=1e-6)
    assert result_page(single, "leadline limit").commands[0].startswith("leadline limit --seconds ")


def test_ticks_of_a_figure_by_itself_are_whole_numbers():
    result = from_rows(planted("weight_decay", 0.1), None, "loss", hyperparameter="weight_decay")
    figure = result.plot()
    assert figure.layout.xaxis.type == "log"
    assert figure.layout.xaxis.tickformat == "~g" or figure.layout.xaxis.exponentformat == "power"


def test_of_another_hyperparameter_its_option_changes():
    rows = [r for r in planted("weight_decay", 0.1) if r["weight_decay"] >= 0.1]
    result = from_rows(rows, None, "loss", hyperparameter="weight_decay")
    page = transfer_page(result, "leadline transfer a.py --lrs 0.01 --weight-decay 0.1:1:2")
    (command,) = page.commands
    assert command.startswith("leadline transfer a.py --lrs 0.01 --weight-decay ")
    assert "0.1:1:2" not in command
    assert page.answer[0].startswith(
        "Not decided yet, over width. Among the weight decays tried 0.1 is the best at width 64; "
    )


def test_a_decided_transfer_answers_yes_and_no_and_names_the_model():
    rows = [{**r, "model": "build#0123456789abcdef"} for r in planted("weight_decay", 0.1)]
    yes = transfer_page(from_rows(rows, None, "loss", hyperparameter="weight_decay"), "leadline")
    assert yes.answer[0].startswith("Yes, over width. Train every width up to 256 ")
    assert yes.title == "Transfer of the weight decay: build"
    assert yes.commands == ()
    moved = planted("weight_decay", 0.1, drift=1.0)
    no = transfer_page(from_rows(moved, None, "loss", hyperparameter="weight_decay"))
    assert no.answer[0].startswith("No, over width. ")


def test_a_page_shows_its_answer_first_and_explains_undecided():
    section = Section("s", "s", verdict="undecided")
    page = Page("t", ("lead",), (section, dataclasses.replace(section, anchor="b")),
                answer=("found <it>",), commands=("leadline x",))  # fmt: skip
    text = render(page)
    places = [
        text.index(w) for w in ("<h1>", "found &lt;it&gt;", "leadline x", ">lead<", "<em>Und")
    ]
    assert places == sorted(places)
    decided = dataclasses.replace(section, verdict="holds")
    assert "<em>Und" not in render(dataclasses.replace(page, sections=(decided, section)[:1]))


def test_an_interval_in_a_table_is_not_cut_in_two():
    table = Table(("", "a"), [("x", "0.1 [0.05, 0.2]"), ("y", "1 ± 2"), ("z", "3 %")])
    text = render(Page("t", (), (Section("s", "s", tables=(table,)),)))
    for cell in (
        "0.1 [0.05,\N{NO-BREAK SPACE}0.2]",
        "1\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}2",
        "3\N{NO-BREAK SPACE}%",
    ):
        assert f">{cell}<" in text


def test_answers_are_stored_and_earlier_pages_have_none(tmp_path):
    page = Page("t", ("lead",), (), answer=("a", "b"), commands=("c",))
    path = save(page, tmp_path)
    assert load(tmp_path) == page
    content = strict.unseal(strict.read(path))
    del content["page"]["answer"], content["page"]["commands"]
    path.write_text(json.dumps(strict.seal(content)))
    assert load(tmp_path) == dataclasses.replace(page, answer=(), commands=())


def test_a_run_and_a_comparison_say_where_they_end():
    info = {"kind": "train", "width": 8, "depth": 2, "seeds": 2, "problem": {"name": "p"}}
    run = Trajectory(np.arange(2), np.array([[1.0, 0.5], [1.0, 0.7]]), info)
    page = result_page(run)
    assert page.title == "Dense networks: p"
    assert page.answer == ("After 1 steps: train loss 0.6 ± 1.3.",)
    problem = ll.teacher(samples=4, dimension=3, test_samples=0)
    made = ll.compare(problem, ll.ResNet(), ll.SGD(lr=0.1, steps=1), couplings="reused",
                      sizes=[(8, 1), (16, 2)], seeds=2, rtol=0.9)  # fmt: skip
    (said,) = comparison_page(made).answer
    assert said.startswith("Training loss at the end: limit, reused: ")
    assert "; networks of width 16, depth 2: " in said
