"""Legends of pages: one a panel, with that panel's curves, each once."""

import plotly.graph_objects as go
import pytest

from leadline.reporting.page import Drawing, Page, Section, write
from leadline.reporting.page_figures import drawable
from leadline.reporting.panels import BLUE, GREY, ORANGE, Panels
from page_browser import SIZES, Opened, opens_well
from page_samples import figure, kernels

X = (1, 2, 4)
FALL, RISE = (3.0, 2.0, 1.0), (1.0, 2.0, 3.0)


def different():
    """Four panels: two curves, one of them, another one, none; bands, unlisted curves and symbols."""
    p = Panels(["Losses", "Losses <b>again</b>", "", "Nothing"])
    p.panel(0, "step", "loss")
    p.band(X, (2, 1, 0.5), (4, 3, 2), BLUE, "limit", "limit")
    p.line(X, FALL, "limit", BLUE)
    p.line(X, FALL, "limit", BLUE, mode="markers", symbol="x")
    p.line(X, RISE, "network", ORANGE)
    p.line(X, RISE, "hidden", ORANGE, legend=False)
    p.panel(1, "step", "loss")
    p.line(X, FALL, "network", ORANGE, legend=False)
    p.band(X, (2, 1, 0.5), (4, 3, 2), BLUE, "limit")
    p.line(X, RISE, "limit", BLUE)
    p.panel(2, "width", "gap")
    p.theory(X, FALL, "slope −1")
    p.panel(3, "width", "loss")
    p.line(X, FALL, "hidden", GREY, legend=False)
    return p.figure


def grouped(*, one_by_one=True):
    """As comparisons are: names that return below each group's title."""
    p = Panels(["Training loss", "Gap"])
    for panel, names in enumerate((("limit", "width 16"), ("networks",))):
        p.panel(panel, "step", "loss")
        for group, color in (("reused", BLUE), ("independent", ORANGE)):
            for name in names:
                p.band(X, (2, 1, 0.5), (4, 3, 2), color, group, name)
                p.line(X, FALL, name, color, group=group)
                p.figure.data[-1].legendgrouptitle = {"text": group}
    if one_by_one:
        p.figure.update_layout(legend={"groupclick": "toggleitem"})
    return p.figure


def spare(*names):
    """The same curves in two panels, and a place in the grid that has none."""
    p = Panels(["a", "b", "c"])
    for panel in (0, 2):
        p.panel(panel, "step", "loss")
        for name in names:
            p.line(X, FALL, name, BLUE)
    return p.figure


def entries(made):
    """Titles of panels, and the names below them."""
    plain = drawable(made)
    return [(p["title"], [plain["data"][i]["name"] for i in p["entries"]]) for p in plain["panels"]]


def test_a_panel_has_its_own_curves_each_once():
    assert entries(different()) == [
        ("Losses", ["limit", "network"]),
        ("Losses &lt;b&gt;again&lt;/b&gt;", ["limit"]),
        ("gap over width", ["slope −1"]),
        ("Nothing", []),
    ]
    plain = drawable(different())
    for i, panel in enumerate(plain["panels"]):
        axes = {plain["data"][k]["xaxis"] for k in panel["entries"]}
        assert axes <= {f"x{i + 1 if i else ''}"}
    # The curve, not the band or the symbols that have its name.
    first = plain["data"][plain["panels"][0]["entries"][0]]
    assert (first["mode"], "fill" in first) == ("lines+markers", False)


def test_one_name_in_two_groups_is_two_curves():
    twice = ["limit", "width 16"] * 2
    assert entries(grouped()) == [("Training loss", twice), ("Gap", ["networks"] * 2)]


def test_figures_that_others_made():
    # Only the left panel's curves carry the sign that plotly lists them.
    assert entries(figure()) == [
        ("networks, left", ["networks", "limit"]), ("right", ["networks", "limit"]),
    ]  # fmt: skip
    assert entries(kernels()) == [("", [])]
    alone = go.Figure([go.Scatter(y=[1, 2], name=n) for n in ("a", "b", "a")])
    assert entries(alone.add_scatter(y=[3, 4])) == [("", ["a", "b"])]
    beside = go.Figure(figure())
    beside.update_layout(yaxis3={"overlaying": "y2", "side": "right", "anchor": "x2"})
    beside.add_scatter(x=[4, 8], y=[1, 2], name="scale", xaxis="x2", yaxis="y3")
    assert entries(beside)[1] == ("right", ["networks", "limit", "scale"])


def test_legends_stand_where_the_panels_do():
    p = Panels(["a", "b", "c"], wide=True)
    places = [(q["row"], q["first"], q["last"]) for q in drawable(p.figure)["panels"]]
    assert places == [(1, 1, 2), (2, 1, 1), (2, 2, 2)]
    p = Panels(["a", "b", "c", "d"], columns=2)
    places = [(q["row"], q["first"], q["last"]) for q in drawable(p.figure)["panels"]]
    assert places == [(1, 1, 1), (1, 2, 2), (2, 1, 1), (2, 2, 2)]


# In a browser


@pytest.fixture(scope="module")
def address(browser, tmp_path_factory):
    made = {
        "different": different(), "items": grouped(), "groups": grouped(one_by_one=False),
        "alike": figure(), "lone": spare("one"), "spare": spare("one", "two"),
    }  # fmt: skip
    sections = [Section(k, k, figures=(Drawing(f, k, k),)) for k, f in made.items()]
    file = tmp_path_factory.mktemp("legends") / "page.html"
    return write(Page("Legends", (), tuple(sections)), file).as_uri()


@pytest.fixture
def opened(browser, address):
    context = browser.new_context()
    yield lambda **how: Opened(context, address, **how)
    context.close()


def legends(one, section):
    """By panel its entries as they are read: the group, the words, whether pressed."""
    script = """all => all.map(e => [e.ariaLabel ?? e.getAttribute("aria-label"),
      [...e.querySelectorAll("button")].map(b => [
        b.parentElement.querySelector(".of")?.textContent ?? "", b.textContent,
        b.getAttribute("aria-pressed") === "true"])])"""
    return one.page.eval_on_selector_all(f"#{section} .legend [role=group]", script)


def curves(one, section):
    """How many marks each panel shows: lines, symbols and bands."""
    count = "e.querySelectorAll('.js-line, .js-fill, .point').length"
    return one.all(f"#{section} .cartesianlayer .subplot", count)


@pytest.mark.parametrize(("size", "scheme"), [(SIZES[0], "dark"), (SIZES[2], "light")], ids=str)
def test_a_page_of_legends_fits(browser, address, size, scheme):
    opens_well(browser, address, size, scheme)


def test_each_panel_names_its_legend(opened):
    one = opened()
    assert legends(one, "different") == [
        ["Curves of Losses", [["", "limit", True], ["", "network", True]]],
        ["Curves of Losses <b>again</b>", [["", "limit", True]]],
        ["Curves of gap over width", [["", "slope −1", True]]],
    ]
    titles = one.page.locator("#different .legend .title").all_text_contents()
    assert titles == ["Losses", "Losses <b>again</b>", "gap over width"]
    named = one.page.get_by_role("group", name="Curves of gap over width", exact=True)
    assert named.get_by_role("button").count() == 1


def test_panels_of_the_same_curves_share_a_legend(opened):
    one = opened()
    for section, names in (("alike", ["networks", "limit"]), ("spare", ["one", "two"])):
        assert legends(one, section) == []
        shared = one.page.locator(f"#{section} .legend")
        assert shared.get_by_role("button").all_text_contents() == names
        assert shared.locator(".title").count() == 0


def test_one_curve_needs_no_legend(opened):
    assert not opened().page.locator("#lone .legend").is_visible()


def test_every_button_of_a_curve_says_whether_it_is_shown(opened):
    one = opened()
    before = curves(one, "different")
    second = one.page.get_by_role("group", name="Curves of Losses <b>again</b>").locator("button")
    second.focus()
    one.page.keyboard.press("Enter")
    pressed = [[b[2] for b in buttons] for _, buttons in legends(one, "different")]
    assert pressed == [[False, True], [False], [True]]
    after = curves(one, "different")
    assert after[0] < before[0]
    assert after[1] < before[1]
    assert after[2:] == before[2:]
    assert one.page.evaluate("document.activeElement.textContent") == "limit"
    one.page.locator("#different .legend button", has_text="limit").first.click()
    assert {b[2] for _, buttons in legends(one, "different") for b in buttons} == {True}
    assert curves(one, "different") == before


@pytest.mark.parametrize(("section", "hides"), [("items", [[0], []]), ("groups", [[0, 1], [0]])])
def test_groups_keep_their_titles_and_hide_as_before(opened, section, hides):
    one = opened()
    wanted = [
        ["Curves of Training loss",
         [[g, n, True] for g in ("reused", "independent") for n in ("limit", "width 16")]],
        ["Curves of Gap", [[g, "networks", True] for g in ("reused", "independent")]],
    ]  # fmt: skip
    assert legends(one, section) == wanted
    before = curves(one, section)
    one.page.locator(f"#{section} .legend button").first.click()
    for panel, hidden in zip(wanted, hides, strict=True):
        for i in hidden:
            panel[1][i][2] = False
    assert legends(one, section) == wanted
    # Line, band and symbols of each curve that is hidden.
    assert [b - a for a, b in zip(curves(one, section), before, strict=True)] == [
        6 * len(hidden) for hidden in hides
    ]


def test_legends_stand_side_by_side_where_the_panels_do(opened):
    one = opened()
    edges = "[e.getBoundingClientRect().left, e.getBoundingClientRect().top]"
    (a, b, c) = one.all("#different .legend .panel", edges)
    assert a[1] == b[1] < c[1]
    assert a[0] == c[0] < b[0]
    one.page.set_viewport_size({"width": 390, "height": 740})
    one.page.wait_for_timeout(300)
    (a, b, c) = one.all("#different .legend .panel", edges)
    assert a[0] == b[0] == c[0]
    assert a[1] < b[1] < c[1]


def test_numbers_are_a_table_for_each_panel_with_its_axes(opened):
    one = opened()
    one.page.locator("#different .tools button", has_text="Numbers").click()
    tables = one.page.locator("#different .numbers table")
    assert tables.locator("caption").all_text_contents() == [
        "Losses", "Losses <b>again</b>", "gap over width", "Nothing",
    ]  # fmt: skip
    heads = [tables.nth(i).locator("thead th").all_text_contents() for i in range(3)]
    assert heads == [["Curve", "step", "loss"]] * 2 + [["Curve", "width", "gap"]]
    # Three points of "limit" twice, of "network" and of the curve that no legend names.
    first = tables.nth(0).locator("tbody tr").all_text_contents()
    assert first == [
        *["limit13", "limit22", "limit41"] * 2, "network11", "network22", "network43",
        "hidden11", "hidden22", "hidden43",
    ]  # fmt: skip
    assert tables.nth(2).locator("tbody tr").count() == 3
