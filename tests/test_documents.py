"""README and docs: links lead somewhere, every page is in the menu, code runs, commands exist."""

import ast
import contextlib
import inspect
import io
import pkgutil
import re
import shlex
import sys
from pathlib import Path

import click
import click.testing
import griffe
import pytest

import leadline as ll
from leadline.cli.program import main

ROOT = Path(ll.__file__).parents[2]
DOCS = ROOT / "docs"
REFERENCE = sorted(DOCS.glob("reference/*.md"))
PAGES = [*sorted(DOCS.glob("*.md")), *REFERENCE]
FILES = [*sorted(ROOT.glob("*.md")), *PAGES]
# Their Python is complete and quick; the blocks of a page share their names.
COMPLETE = ("own-model", "own-data", "own-activation", "forecast-wandb", "tutorial-limit")
NUMBER = re.compile(r"[−-]?(?:\d+(?:\.\d+)?(?:e[-+]?\d+)?|∞)")


def ids(path):
    return path.stem


def prose(path):
    """Without code."""
    return re.sub(r"```.*?```|`[^`\n]*`|^    .*?$", "", path.read_text("utf-8"), flags=re.S | re.M)


def anchors(path):
    """Of a page's headings and entries, as the site makes them."""
    heads = re.findall(
        r"^#+ (.*)$", re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.S), re.M
    )
    plain = [re.sub(r"[`*_]|\]\([^)]*\)|\[", "", h).lower() for h in heads]
    made = {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", h, flags=re.A).strip()) for h in plain}
    return made | set(entries(path))


def entries(path):
    """Python objects that a page documents."""
    return re.findall(r"^::: (\S+)$", path.read_text("utf-8"), re.M)


def python_blocks(path):
    return re.findall(r"^```python\n(.*?)^```", path.read_text("utf-8"), re.S | re.M)


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_links_lead_somewhere(path):
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = path.parent / name if name else path
        if not file.exists() or (anchor and anchor not in anchors(file)):
            wrong.append(target)
    assert wrong == []


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_lists_and_tables_begin_after_a_blank_line(path):
    """Otherwise the site shows them as a part of the paragraph before."""
    item = re.compile(r"(?:[-*]|\d+\.) |\|")
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.S)
    blocks = re.split(r"\n\s*\n", text)
    wrong = [
        line
        for block in blocks
        for first, *lines in [block.strip("\n").split("\n")]
        for line in lines
        if item.match(line) and not item.match(first) and not first.startswith(("#", "<"))
    ]
    assert wrong == []


def menu():
    return re.findall(
        r": ((?:reference/)?[\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.M
    )


def test_every_page_is_in_the_menu_once_and_in_the_index():
    names = sorted(str(p.relative_to(DOCS)) for p in PAGES)
    assert sorted(menu()) == names
    linked = set(re.findall(r"\]\(([\w/-]+\.md)", (DOCS / "index.md").read_text("utf-8")))
    assert linked == set(names) - {"index.md"}


def test_every_public_name_is_on_one_page_of_the_reference():
    assert REFERENCE
    places = [e for p in REFERENCE for e in entries(p)]
    public = [e.removeprefix("leadline.") for e in places if e.count(".") == 1]
    assert sorted(public) == sorted(ll.__all__)
    # Another path to an object would document it twice.
    objects = [pkgutil.resolve_name(e) for e in places]
    assert [p for p, o in zip(places, objects, strict=True) if objects.count(o) > 1] == []
    assert [p.name for p in PAGES if p not in REFERENCE and entries(p)] == []


@pytest.mark.parametrize("path", REFERENCE, ids=ids)
def test_a_page_of_the_reference_begins_with_a_table_of_its_entries(path):
    rows = re.findall(r"^\| \[`(.+?)`\]\(#(\S+)\) \| ", path.read_text("utf-8"), re.M)
    assert [anchor for _, anchor in rows] == entries(path)
    for name, anchor in rows:
        end = anchor.rpartition(".")[2]
        assert name == (f"ll.{end}" if anchor == f"leadline.{end}" else end)


def public(kind):
    """Methods and properties of a class and of leadline's classes that it is made from."""
    own = [c for c in kind.__mro__ if c.__module__.startswith("leadline")]
    return {
        name: value
        for c in reversed(own)
        for name, value in vars(c).items()
        if not name.startswith("_") and (callable(value) or hasattr(value, "__get__"))
    }


def test_what_public_functions_return_is_in_the_reference():
    """The classes of leadline that their annotations name, those of methods too."""
    classes = {
        name for path in Path(ll.__file__).parent.rglob("*.py")
        for name in re.findall(r"^class (\w+)", path.read_text("utf-8"), re.M)
    }  # fmt: skip
    documented = {e.rpartition(".")[2] for p in REFERENCE for e in entries(p)}
    returned = set()
    for value in (getattr(ll, name) for name in ll.__all__):
        for made in (value, *(vars(value).values() if isinstance(value, type) else ())):
            inner = getattr(made, "__func__", getattr(made, "fget", made))
            if not getattr(inner, "__name__", "_").startswith("_"):
                said = getattr(inner, "__annotations__", {}).get("return", "")
                returned |= set(re.findall(r"\w+", str(said)))
    assert (returned & classes) - documented == set()


def test_an_entry_that_lists_its_members_lists_them_all():
    listed = re.compile(
        r"^::: (\S+)\n    options:\n(?: {6}\w+: .*\n)* {6}members:\n((?: {8}- \w+\n)+)", re.M
    )
    found = {k: v.split()[1::2] for p in REFERENCE for k, v in listed.findall(p.read_text("utf-8"))}
    assert found
    for entry, names in found.items():
        assert sorted(names) == sorted(public(pkgutil.resolve_name(entry)))


def test_every_example_is_listed_and_linked_where_it_belongs():
    names = {p.name for p in (ROOT / "examples").glob("*.py")}
    linked = {
        p.stem: set(re.findall(r"\]\(\.\./examples/(\w+\.py)", p.read_text("utf-8"))) for p in PAGES
    }
    assert linked.pop("examples") == names
    assert set().union(*linked.values()) == names


def test_what_old_names_became_is_there():
    """Full names in the second column of the changelog's tables."""
    rows = re.findall(r"^\|.*\|(.*)\|$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    names = {n for row in rows for n in re.findall(r"`(leadline\.[\w.]+)", row)}
    assert len(names) > 30
    for name in sorted(names):
        assert pkgutil.resolve_name(name) is not None, name


def test_practitioners_come_before_theory():
    names = menu()
    first = ["own-model.md", "tasks.md", "recipes.md", "cluster.md", "forecast-wandb.md"]
    assert max(names.index(n) for n in first) < names.index("theory.md")


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_python_is_python_of_this_version(path):
    """It parses, and every name of ``ll`` is there."""
    for block in python_blocks(path):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "ll":
                assert hasattr(ll, node.attr), node.attr


def commands(path):
    """Lines of code that call leadline, continued lines joined."""
    text = re.sub(r"\\\n\s*", " ", path.read_text("utf-8"))
    fenced = "\n".join(re.findall(r"^```bash\n(.*?)^```", text, re.S | re.M))
    indented = "\n".join(
        re.findall(r"^    (.*)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)
    )
    for line in f"{fenced}\n{indented}".splitlines():
        found = re.match(r"(?:[A-Z_]+=\S+ )*leadline ([a-z][^#]*)", line)
        if found and " is " not in line:
            yield found[1]


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_commands_and_their_options_exist(path):
    for line in commands(path):
        words = shlex.split(line)
        command = main.commands.get(words[0])
        assert isinstance(command, click.Command), line
        known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
        options = [w.split("=")[0] for w in words if re.match(r"--[a-z]", w)]
        assert set(options) <= known, (line, set(options) - known)


@pytest.mark.parametrize("name", COMPLETE)
def test_complete_pages_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names, said = {}, io.StringIO()
    for block in python_blocks(DOCS / f"{name}.md"):
        if "transformers." in block or "wandb." in block:
            continue
        with contextlib.redirect_stdout(said):
            exec(compile(block, name, "exec"), names)
    assert said.getvalue()


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield
    for name in ("pictures", "readme_quickstarts", "readme_study"):
        sys.modules.pop(name, None)


def test_the_claims_are_those_of_the_findings(scripts):
    """./dev bench readme_study writes them anew."""
    import readme_study as study

    said = study.said_in((DOCS / "findings.md").read_text("utf-8"))
    assert list(said) == list(range(1, 11))
    written = f"{study.BEGIN}\n\n{study.sentences(said)}\n\n{study.END}"
    assert written in (ROOT / "README.md").read_text("utf-8")


def test_claims_are_read_from_findings(scripts):
    """Values with a minus; one that diverges; a verdict that is open."""
    import readme_study as study

    text = (
        "## 2. A: b\n\n> c\n\n**✕ fails**: gap (0: none) at L = 64, from −1 −0.96 [−1.02, 0.90]. Rule.\n"
        "## 10. A: b\n\n**? not decided at this size**: it diverges. Rule 3 [4, 5].\n"
    )
    assert study.said_in(text) == {
        2: ("fails", "−0.96 [−1.02, 0.90]", ""),
        10: ("undecided", "diverges", ""),
    }
    assert "**Not decided at this size**: at the rate" in study.sentences(study.said_in(text))
    nine = (
        "## 9. A: b\n\n**✕ fails**: drift −1 [−2, 0]. Rule.\n\nSGD: the correction 0 (undecided: x); "
        "AdamW: depth-μP 0 (undecided: y); the correction −1 [−2, 0] (does not transfer: "
        "regret above 5%); 1/L.\n"
    )
    said = study.sentences(study.said_in(nine))
    assert "**Fails**: trusting the shallowest network's best rate costs" in said
    assert "the best rate moves by −1 [−2, 0] doublings" in said


def alike(printed, said):
    """The same words; numbers to a tenth; seconds (the last column, or the end of a line) are free."""
    assert re.sub(r"[─\s]+", " ", NUMBER.sub("0", printed)) == re.sub(
        r"[─\s]+", " ", NUMBER.sub("0", said)
    )
    for before, now in zip(printed.splitlines(), said.splitlines(), strict=True):
        pairs = [[float(n.replace("−", "-").replace("∞", "inf")) for n in NUMBER.findall(line)]
                 for line in (before, now)]  # fmt: skip
        if "reused" in before or " – " in before:
            pairs = [numbers[:-1] for numbers in pairs]
        assert pairs[1] == pytest.approx(pairs[0], rel=0.1, abs=0.02), (before, now)


def test_a_quickstart_has_ten_lines_at_most(scripts):
    from readme_quickstarts import quickstarts

    both = quickstarts((ROOT / "README.md").read_text("utf-8"))
    assert [bool(one.command) for one in both] == [True, False]
    for one in both:
        assert len([line for line in one.code.splitlines() if line.strip()]) <= 10


def test_the_quickstart_of_practitioners_prints_what_stands_beneath(scripts, tmp_path):
    """At full size: it trains 84 small GPTs in about 15 s of processor time."""
    from readme_quickstarts import by_command, quickstarts

    one = quickstarts((ROOT / "README.md").read_text("utf-8"))[0]
    alike(one.printed, by_command(one, tmp_path))


def test_the_quickstart_of_researchers_prints_what_stands_beneath(scripts):
    """At full size: about 12 s of processor time."""
    from readme_quickstarts import by_python, quickstarts

    one = quickstarts((ROOT / "README.md").read_text("utf-8"))[1]
    alike(one.printed, by_python(one)[0])


def test_the_tour_shows_both_halves_and_leaves_two_reports(tmp_path):
    """In processor time about 30 s; reports that open are other tests'."""
    done = click.testing.CliRunner().invoke(main, ["demo", "--quiet", "--out", str(tmp_path)])
    assert done.exit_code == 0
    assert max(map(len, done.stdout.splitlines())) <= 100
    for words in (
        "1. For those who train",
        "2. For",
        "auto (leadline's scaling) over width: transfers",
        "limit ",
    ):
        assert words in done.stdout
    assert {p.name for p in tmp_path.iterdir()} == {"transfer.html", "compare.html"}


@pytest.fixture(scope="module")
def described():
    """Every public name's entries as the site has them: name of an argument or attribute, description."""
    extensions = griffe.load_extensions(str(ROOT / "docs" / "docstrings.py"))
    package = griffe.load("leadline", search_paths=[str(ROOT / "src")], extensions=extensions)

    def of(name):
        one = package[name]
        one = one.final_target if one.is_alias else one
        sections = one.docstring.parse("google")
        entries = [s.value for s in sections if s.kind.value in ("parameters", "attributes")]
        return one, {
            n: e.description
            for several in entries for e in several for n in re.split(r",\s", e.name)
        }  # fmt: skip

    return of


def functions():
    return [n for n in ll.__all__ if inspect.isfunction(getattr(ll, n))]


@pytest.mark.parametrize("name", functions())
def test_every_argument_of_a_public_function_has_an_entry(described, name):
    function, entries = described(name)
    assert {p.name.lstrip("*") for p in function.parameters} <= entries.keys()


def test_entries_on_one_line_are_two_and_none_is_a_quotation(described):
    for name in ("limit", "check", "solve", "ResNet"):
        assert not [k for k, text in described(name)[1].items() if text.startswith(">")]
    limit = described("limit")[1]
    assert limit["rtol"] == "\\> 0 and < 1."
    assert limit["width"].startswith("the first n; None takes room")
