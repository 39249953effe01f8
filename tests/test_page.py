"""Pages without a browser: what the document holds, that names stay text, colours, panels, ticks."""

import base64
import dataclasses
import itertools
import json
import re
from html.parser import HTMLParser

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.intervals import written
from leadline.reporting.page import Page, Section, Table, render, write
from leadline.reporting.page_colours import contrast, dark, dark_scale, lab, parse
from leadline.reporting.page_figures import drawable, log_ticks, stacked, text_only
from leadline.reporting.page_store import load, save
from leadline.reporting.panels import ticks
from page_samples import ATTACKS, figure, hostile, kernels, ordinary


class Document(HTMLParser):
    """Elements with attributes, and the text of each."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.texts = [], [], {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture(scope="module")
def html():
    return render(ordinary())


@pytest.fixture(scope="module")
def document(html):
    return Document(html)


def test_nothing_is_fetched(document):
    for tag, attrs in document.elements:
        assert "src" not in attrs, tag
        address = attrs.get("href", "#")
        assert address.startswith(("#", "data:")), (tag, address)
    policy = document.all("meta")[1]["content"]
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy
    assert "unsafe-inline" not in policy.split("style-src")[0]


def test_plotly_is_there_once(html):
    assert html.count("* plotly.js v") == 1
    assert len(html) < 5.2e6


def test_landmarks_headings_and_anchors(document):
    for tag in ("header", "nav", "main", "footer", "title", "h1"):
        assert len(document.all(tag)) == 1, tag
    assert document.all("html")[0]["lang"] == "en"
    levels = [int(t[1]) for t, _ in document.elements if re.fullmatch(r"h[1-6]", t)]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    ids = [a["id"] for _, a in document.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attrs in document.elements:
        for key in ("aria-labelledby", "data-for"):
            assert attrs.get(key, ids[0]) in ids
        if attrs.get("href", "").startswith("#"):
            assert attrs["href"][1:] in ids


def test_every_figure_has_a_text_alternative_and_every_table_headers(document):
    plots = [a for a in document.all("div") if a.get("class") == "plot"]
    assert len(plots) == len(document.all("figcaption")) == 6
    assert all(p["role"] == "img" and p["aria-label"].endswith(".") for p in plots)
    assert len(document.all("caption")) == len(document.all("table")) == 4
    assert all(a["scope"] in ("row", "col") for a in document.all("th"))


def test_the_summary_has_every_verdict_in_words_with_its_interval(html):
    summary = html.split('<table class="summary"')[1].split("</table>")[0]
    for word in ("holds", "fails", "undecided"):
        assert f"</span>{word}</span>" in summary
    assert summary.count("−0.980 [−1.010, −0.950]") == 3
    one = dataclasses.replace(ordinary(), sections=ordinary().sections[:1])
    assert '<table class="summary"' not in render(one)


def test_downloads_hold_their_content(document):
    links = [a for a in document.all("a") if "download" in a]
    assert len(links) == 6
    content = {a["download"]: base64.b64decode(a["href"].partition(",")[2]) for a in links}
    assert content["claim-2.csv"] == b"a,b\n1,2\n"
    assert content["größe.json"].decode() == '{"ü": 1}'


def test_hostile_names_add_no_element():
    def shape(page):
        return [t for t, _ in Document(render(page)).elements]

    harmless = hostile()
    plain = [f"name {i}" for i in range(len(ATTACKS))]
    sections = tuple(
        dataclasses.replace(
            s, title=p, sentence=p, verdict=p, number=p, findings=(p,), paragraphs=(p,), command=p,
            downloads=((p, p),),
        )
        for s, p in zip(harmless.sections, plain, strict=True)
    )  # fmt: skip
    harmless = Page("title", tuple(plain), sections, tuple((p, p) for p in plain))
    assert shape(hostile()) == shape(harmless)
    for tag, attrs in Document(render(hostile())).elements:
        assert not [k for k in attrs if k.startswith("on")], tag


@given(st.text())
def test_any_name_is_shown_as_it_is(name):
    section = Section(title=name, anchor="a", downloads=((name, name),))
    text = render(Page("t", (), (section,)))
    title = text.split('<h2 id="a-title">')[1].split("</h2>")[0]
    parser = Document(f"<h2>{title}</h2>")
    shown = "".join(parser.texts.get("h2", []))
    assert parser.all("h2") == [{}]
    assert len(parser.elements) == 1
    assert shown.replace("\ufffd", "?") == re.sub("[\ud800-\udfff]", "?", name).replace(
        "\ufffd", "?"
    )


def test_no_end_of_a_script_is_in_the_figures():
    for page in (ordinary(), hostile()):
        held = re.findall(
            r'<script type="application/json" data-for="[^"]*">(.*?)</script>', render(page)
        )
        assert len(held) == sum(len(s.figures) for s in page.sections)
        for text in held:
            assert "<" not in text
            json.loads(text)


def test_verdicts_in_tables_are_marked():
    rows = (("a", "holds"), ("b", "<fails>"))
    text = render(Page("t", (), (Section("x", "x", tables=(Table(("", "verdict"), rows),)),)))
    assert text.count('class="verdict holds"') == 1
    assert "&lt;fails&gt;</td>" in text


def test_figures_show_tags_as_text():
    assert text_only({"name": "<b>x</b> & <a href='y'>"}) == {
        "name": "&lt;b&gt;x&lt;/b&gt; &amp; &lt;a href='y'&gt;"
    }
    template = {"hovertemplate": "<b>%{y}</b><br><a href='y'>x</a><extra></extra>"}
    assert text_only(template)["hovertemplate"] == (
        "<b>%{y}</b><br>&lt;a href='y'&gt;x&lt;/a&gt;<extra></extra>"
    )
    for attack in ATTACKS:
        shown = json.dumps(drawable(figure((attack, "b"))))
        for tag in ("<script", "<img", "<a ", "<b>", "</title"):
            assert tag not in shown.replace("<br>%{y", ""), attack


@pytest.mark.parametrize("anchor", ["", "A", "1a", "a b", "a<", "summary"])
def test_bad_anchors_are_refused(anchor):
    with pytest.raises(ValueError, match="anchor="):
        render(Page("t", (), (Section("x", anchor),)))


def test_shared_anchors_are_refused():
    with pytest.raises(ValueError, match="taken"):
        render(Page("t", (), (Section("x", "a"), Section("y", "a"))))


def test_interval():
    assert written(1.0, 1.0, 1.0) == "1 [1, 1]"
    assert written(12345.6, 12000.0, 13000.0) == "12346 [12000, 13000]"
    assert written(0.5, float("-inf"), float("inf")) == "0.5 [−∞, ∞]"
    assert written(float("nan"), 0.0, 1.0) == "nan [0, 1]"


# Colours


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_every_mark_is_seen_on_a_dark_page(rgb):
    given_, page = f"rgb{rgb}", "#14171c"
    other = dark(given_)
    if lab(parse(given_)[0])[0] > 0.99:  # white stands for the page
        assert contrast(other, page) < 1.2
    else:
        assert contrast(other, page) >= 3


def test_a_ramp_keeps_its_order_of_emphasis():
    ramp = [f"rgb({v},{v + 20},{v + 60})" for v in range(20, 190, 10)]
    white = [contrast(c, "#fbfbf9") for c in ramp]
    black = [contrast(dark(c), "#14171c") for c in ramp]
    assert white == sorted(white, reverse=True)
    assert black == sorted(black, reverse=True)


def test_hue_and_opacity_stay():
    parsed, opacity = parse(dark("rgba(200,80,20,0.25)"))
    assert opacity == 0.25
    for one, other in ((lab(parse("rgb(200,80,20)")[0]), lab(parsed)),):
        angles = [np.arctan2(c[2], c[1]) for c in (one, other)]
        assert abs(angles[0] - angles[1]) < 0.05


def test_scales_that_meet_white_are_exchanged_and_others_kept():
    diverging = drawable(kernels())["dark"]
    assert len(diverging) == 11
    assert lab(parse(diverging["scale:rgb(247,247,247)"])[0])[0] < 0.3
    viridis = go.Figure(go.Heatmap(z=[[1]], colorscale="Viridis")).data[0].colorscale
    assert dark_scale([list(s) for s in viridis]) == {}


@pytest.mark.parametrize("text", ["", "red-ish", "#12", "rgb(1,2)", "url(x)"])
def test_what_is_no_colour_stays(text):
    assert dark(text) is None


# Panels and ticks


def test_stacked_panels_do_not_overlap_and_keep_their_titles():
    plain = drawable(figure())
    narrow = plain["narrow"]
    first, second = narrow["yaxis"]["domain"], narrow["yaxis2"]["domain"]
    assert first[1] == 1
    assert first[0] > second[1]
    assert second[0] == pytest.approx(0, abs=1e-9)
    assert narrow["xaxis"]["domain"] == narrow["xaxis2"]["domain"] == [0, 1]
    assert [a["y"] for a in narrow["annotations"]] == [first[1], second[1]]
    assert narrow["height"] > plain["wide"].get("height", 420)


def test_stacked_panels_all_have_axis_titles_and_numbers():
    from plotly.subplots import make_subplots

    made = make_subplots(rows=2, cols=2, shared_yaxes=True, shared_xaxes=True)
    for row in (1, 2):
        for col in (1, 2):
            made.add_trace(go.Scatter(x=[1, 2], y=[1, 2]), row=row, col=col)
    made.update_xaxes(title_text="below", row=2)
    made.update_yaxes(title_text="beside", col=1)
    layout = drawable(made)["narrow"]
    for k, title in (("xaxis", "below"), ("yaxis", "beside")):
        for i in ("", "2", "3", "4"):
            assert layout[k + i]["title"]["text"] == title
            assert layout[k + i]["showticklabels"] is True


def test_titles_of_panels_side_by_side_wrap():
    from plotly.subplots import make_subplots

    title = "a title that is far too long for a third, n = 64"
    made = make_subplots(rows=1, cols=3, subplot_titles=[title, "b", "c"])
    wide = drawable(made)["wide"]
    lines = wide["annotations"][0]["text"].split("<br>")
    assert len(lines) > 1
    assert " ".join(lines).replace("\N{NO-BREAK SPACE}", " ") == title
    assert "n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}64" in lines[-1]


def test_colour_bars_follow_their_panels():
    from plotly.subplots import make_subplots

    made = make_subplots(rows=1, cols=2)
    for col in (1, 2):
        made.add_trace(go.Heatmap(z=[[1, 2]], colorbar={"x": 0.5 * col}), row=1, col=col)
    plain = json.loads(made.to_json())
    layout, bars = stacked({"data": plain["data"], "layout": plain["layout"]})
    for i, axis in ((0, "yaxis"), (1, "yaxis2")):
        low, high = layout[axis]["domain"]
        assert bars[i]["y"] == pytest.approx((low + high) / 2)
        assert bars[i]["x"] == 1


def test_ticks_of_log_axes():
    assert ticks(0.3) == {"tickformat": "~g", "nticks": 6}
    assert ticks(1.5) == {"tickformat": "~g", "dtick": "D2"}
    assert ticks(5)["dtick"] == 1
    made = figure()
    layout = json.loads(made.to_json())["layout"]
    log_ticks(made, layout)
    assert layout["yaxis"]["dtick"] == "D2"  # 1/32 … 2/4: 1.2 decades
    assert layout["xaxis"]["dtick"] == "D2"  # 4 … 32
    made.data[0].error_y = {"type": "data", "array": [0.2499, 0, 0, 0]}
    layout = json.loads(made.to_json())["layout"]
    log_ticks(made, layout)
    assert layout["yaxis"]["dtick"] == 1  # the bar ends at 0.0001
    layout["xaxis"] = {"type": "log", "tickvals": [4, 32]}
    log_ticks(made, layout)
    assert "dtick" not in layout["xaxis"]


# Stored pages


def test_a_stored_page_is_the_same_page(tmp_path):
    for page in (ordinary(), hostile()):
        save(page, tmp_path)
        assert render(load(tmp_path)) == render(page)


def test_a_page_is_written_whole(tmp_path):
    path = write(ordinary(), tmp_path / "deep" / "report.html")
    assert path.read_text("utf-8") == render(ordinary())
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"format": 2}', '{"format": 1, "page": {"title": 3}}',
     '{"format": 1, "page": {"title": "x", "lead": [], "facts": [], "sections": [{}]}}'],
)  # fmt: skip
def test_a_damaged_page_is_refused(tmp_path, content):
    (tmp_path / "page.json").write_text(content)
    with pytest.raises(OSError, match=r"page\.json.*run the command again"):
        load(tmp_path)


def test_a_damaged_figure_is_refused(tmp_path):
    save(ordinary(), tmp_path)
    path = tmp_path / "page.json"
    path.write_text(path.read_text().replace('"type": "scatter"', '"type": "nonsense"'))
    with pytest.raises(OSError, match="run the command again"):
        load(tmp_path)
