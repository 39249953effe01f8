"""Reports of real results in a real browser: a study, and every command's."""

import pytest

from leadline.claims.claim import TOY
from leadline.claims.measurement import study
from leadline.cli.program import main
from page_browser import SIZES, opens_well
from test_report_cli import check, compare, forecast, kernels, transfer


@pytest.fixture(scope="module")
def report(browser, tmp_path_factory):
    """All ten claims at toy size; after the browser, without which it is not needed."""
    made = study(preset=TOY, out=tmp_path_factory.mktemp("study"), workers=1)
    return (made.path / "report.html").as_uri()


@pytest.mark.parametrize(
    ("size", "scheme"), list(zip(SIZES, ("dark", "light", "dark"), strict=True)), ids=str
)
def test_a_study_opens_well(browser, report, size, scheme):
    opens_well(browser, report, size, scheme)


@pytest.mark.parametrize("command", [check, compare, forecast, kernels, transfer])
def test_reports_of_commands_open_well(browser, command, tmp_path):
    file = tmp_path / "report.html"
    arguments = [str(a) for a in (*command(tmp_path), "--html", file)]
    with pytest.raises(SystemExit) as done:
        main(arguments)
    assert done.value.code in (0, 1, 3)  # 3: undecided, as a grid of two rates is
    opens_well(browser, file.as_uri(), SIZES[0], "light")
