"""Pages in a real browser: drawn, quiet, readable at every size, dark and light, by keyboard, in print.

Needs Chromium and playwright's Python package; `./dev test` installs Chromium where it can.
"""

import sys

import pytest

from leadline.reporting.page import write
from leadline.reporting.page_colours import contrast
from page_browser import SIZES, Opened, opens_well
from page_samples import ATTACKS, hostile, ordinary


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    made = {"ordinary": ordinary(), "hostile": hostile()}
    return {k: write(page, folder / f"{k}.html").as_uri() for k, page in made.items()}


@pytest.fixture
def opened(browser, files):
    context = browser.new_context()
    yield lambda name="ordinary", **how: Opened(context, files[name], **how)
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", ["ordinary", "hostile"])
def test_a_page_is_drawn_quietly_and_fits(browser, files, name, size, scheme):
    loaded, drawn = opens_well(browser, files[name], size, scheme)
    print(f"{name} {size} {scheme}: open {loaded:.2f} s, drawn {drawn:.2f} s", file=sys.stderr)


def test_hostile_names_do_nothing_and_are_shown(opened):
    one = opened("hostile")
    assert one.page.evaluate("window.attacked") is None
    assert one.page.locator(".plot a, .plot image, main img").count() == 0
    assert one.page.locator("svg tspan[style*='bold'], svg tspan[style*='italic']").count() == 0
    for attack in ATTACKS:
        shown = " ".join(attack.split())
        assert one.page.get_by_role("button", name=shown, exact=True).count() >= 1
        assert one.page.get_by_role("heading", name=shown, exact=True).count() >= 1
    # The title of a panel, and the text under the pointer.
    titles = one.all(".annotation-text", "e.textContent")
    assert "<b>bold</b>, left" in titles
    figure = one.page.locator("#s-4-figure-1")
    figure.scroll_into_view_if_needed()
    box = figure.locator(".point").first.bounding_box()
    one.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=4)
    hover = figure.locator(".hovertext").first
    hover.wait_for()
    assert "<b>bold</b> <b>bold</b>" in hover.text_content()
    assert one.said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_curves_are_seen(opened, scheme):
    one = opened(scheme=scheme)
    ground = one.page.evaluate("getComputedStyle(document.body).backgroundColor")
    strokes = one.all(".plot .js-line", "e.style.stroke")
    assert len(strokes) >= 12
    for stroke in strokes:
        assert contrast(stroke, ground) >= 3, stroke


def test_colours_change_while_the_page_is_open(opened):
    one = opened(scheme="light")
    light = one.all(".plot .js-line", "e.style.stroke")
    one.page.emulate_media(color_scheme="dark")
    one.page.wait_for_timeout(200)
    dark = one.all(".plot .js-line", "e.style.stroke")
    assert len(dark) == len(light)
    assert not set(light) & set(dark)
    labels = one.all(".plot .xtitle", "e.style.fill")
    assert min(contrast(c, "#14171c") for c in labels) >= 4.5


def test_panels_are_stacked_when_the_window_narrows(opened):
    one = opened()
    before = one.page.locator("#claim-1-figure-1 .main-svg").first.bounding_box()
    one.page.set_viewport_size({"width": 360, "height": 740})
    one.page.wait_for_timeout(300)
    after = one.page.locator("#claim-1-figure-1 .main-svg").first.bounding_box()
    assert after["width"] <= 360 - 32
    assert after["height"] > before["height"]
    assert one.page.evaluate("document.documentElement.scrollWidth") <= 360


def test_by_keyboard(opened):
    one = opened()
    one.page.keyboard.press("Tab")
    assert one.page.evaluate("document.activeElement.className") == "skip"
    box = one.page.locator(".skip").bounding_box()
    assert box["y"] >= 0
    one.page.keyboard.press("Enter")
    assert one.page.evaluate("document.activeElement.id") == "main"
    # A legend's button hides a curve in both panels, and shows it again.
    button = one.page.locator("#claim-1 .legend button").first
    curves = one.page.locator("#claim-1-figure-1 .js-line")
    assert curves.count() == 4
    button.focus()
    one.page.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "false"
    assert curves.count() == 2
    outline = one.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    one.page.keyboard.press("Space")
    assert button.get_attribute("aria-pressed") == "true"
    assert curves.count() == 4


def test_the_numbers_of_a_figure(opened):
    one = opened()
    opener = one.page.locator("#claim-1 .tools button", has_text="Numbers").first
    assert opener.get_attribute("aria-expanded") == "false"
    opener.click()
    tables = one.page.locator("#claim-1-figure-1-numbers table")
    assert tables.first.locator("thead th").all_text_contents() == [
        "Curve", "depth L, blocks", "gap of the loss",
    ]  # fmt: skip
    assert tables.locator("tbody tr").count() == 16
    assert tables.locator("tbody tr").first.text_content() == "networks40.25"


def test_data_and_pictures_are_saved(opened, tmp_path):
    one = opened()
    with one.page.expect_download() as download:
        one.page.locator("a[download='claim-2.csv']").click()
    assert download.value.suggested_filename == "claim-2.csv"
    download.value.save_as(tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text() == "a,b\n1,2\n"
    with one.page.expect_download() as download:
        one.page.locator("#claim-1 .tools button", has_text="Save as SVG").first.click()
    download.value.save_as(tmp_path / "x.svg")
    assert "<svg" in (tmp_path / "x.svg").read_text("utf-8")[:200]
    # The command is copied, or selected for the reader to copy.
    one.page.locator(".copy").first.click()
    one.page.locator(".copy", has_text="Copied").wait_for()
    assert one.said == []


def test_in_print(opened):
    one = opened(scheme="dark")
    one.page.emulate_media(media="print", color_scheme="dark")
    one.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert one.page.evaluate("getComputedStyle(document.body).color") == "rgb(29, 35, 43)"
    widths = one.all(".plot .main-svg", "e.getBoundingClientRect().width")
    assert set(widths) == {680}
    heights = one.all("figure", "e.getBoundingClientRect().height")
    assert max(heights) < 1000  # an A4 page within its margins, in CSS pixels
    assert one.all("figure", "getComputedStyle(e).breakInside") == ["avoid"] * len(heights)
    assert one.page.locator(".tools:visible, .copy:visible, nav:visible").count() == 0
    strokes = one.all(".plot .js-line", "e.style.stroke")
    assert min(contrast(s, "#ffffff") for s in strokes) >= 3
    assert one.page.pdf(format="A4").startswith(b"%PDF")
    one.page.emulate_media(media="screen", color_scheme="dark")
    one.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert one.page.evaluate("getComputedStyle(document.body).color") == "rgb(228, 231, 235)"
    assert max(one.all(".plot .main-svg", "e.getBoundingClientRect().width")) > 680
    assert one.said == []


def test_without_scripts_words_numbers_and_data_are_there(browser, files):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(files["ordinary"])
    assert "holds" in page.locator("table.summary").text_content()
    assert page.locator("noscript p").is_visible()
    assert page.locator(".copy:visible").count() == 0
    with page.expect_download() as download:
        page.locator("a[download='claim-1.csv']").click()
    assert download.value.suggested_filename == "claim-1.csv"
    context.close()
