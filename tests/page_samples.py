"""Pages that the tests of reports share: an ordinary one, and one whose every name is hostile."""

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from leadline.reporting.page import Drawing, Page, Section, Table

ATTACKS = (
    "<script>window.attacked = 1</script>",
    "</script><script>window.attacked = 1</script>",
    "<img src=x onerror='window.attacked = 1'>",
    '" onmouseover="window.attacked = 1" x="',
    "<b>bold</b>",
    "<a href='https://example.org/'>link</a>",
    "<br>",
    "{{ 7 * 7 }} ${7 * 7} &lt;i&gt; %{x}",
    "</title></style>-->",
    "javascript:window.attacked = 1",
)


def figure(names=("networks", "limit")):
    """Two log–log panels, one curve a name."""
    made = make_subplots(rows=1, cols=2, subplot_titles=[f"{names[0]}, left", "right"])
    for i, name in enumerate(names):
        for col in (1, 2):
            made.add_trace(
                go.Scatter(
                    x=[4, 8, 16, 32],
                    y=[(1 + i) / v for v in (4, 8, 16, 32)],
                    mode="lines+markers",
                    name=name,
                    legendgroup=name,
                    showlegend=col == 1,
                    text=[name] * 4,
                    hovertemplate="%{fullData.name} %{text}<br>%{y:.3g}<extra></extra>",
                    line={"color": "rgb(8,81,156)" if i == 0 else None},
                ),
                row=1,
                col=col,
            )
    made.update_xaxes(type="log", title_text="depth L, blocks")
    made.update_yaxes(type="log", title_text="gap of the loss")
    return made


def kernels():
    """A heat map with categories."""
    names = ["a", "b", "c"]
    z = [[2, -1, 0], [-1, 2, -1], [0, -1, 2]]
    return go.Figure(go.Heatmap(x=names, y=names, z=z, zmid=0, colorscale="RdBu"))


def ordinary():
    """Three verdicts, all parts of a section."""
    sections = tuple(
        Section(
            title=f"Claim {i}",
            anchor=f"claim-{i}",
            sentence="Networks reach the limit at O(1/n + 1/L).",
            verdict=verdict,
            number="exponent of the gap in depth",
            value=-0.98,
            low=-1.01,
            high=-0.95,
            findings=("It was found.",),
            figures=(
                Drawing(figure(), "Gap against depth", "Two falling curves."),
                Drawing(kernels(), "Kernel", "A matrix with a positive diagonal."),
            ),
            paragraphs=("Ten seeds a size.",),
            tables=(Table(("size", "gap"), (("8", "0.1 ± 0.2"), ("16", "0.05")), "Gaps"),),
            command=f"leadline study --claims {i}",
            downloads=((f"claim-{i}.csv", "a,b\n1,2\n"), ("größe.json", '{"ü": 1}')),
        )
        for i, verdict in enumerate(("holds", "fails", "undecided"), 1)
    )
    facts = (("Date", "2026-01-02"), ("Command", "leadline study --preset quick"))
    return Page("A study", ("All claims.",), sections, facts)


def hostile():
    """Every string is an attack, in HTML and in figures."""
    sections = tuple(
        Section(
            title=text,
            anchor=f"s-{i}",
            sentence=text,
            verdict=text,
            number=text,
            findings=(text,),
            figures=(Drawing(figure((text, f"{text} 2")), text, text),),
            paragraphs=(text,),
            tables=(Table((text, "b"), ((text, text),), text),),
            command=text,
            downloads=((f"{text}.csv", text),),
        )
        for i, text in enumerate(ATTACKS)
    )
    return Page(ATTACKS[1], ATTACKS, sections, tuple((a, a) for a in ATTACKS))
