"""Makes pages of the notebooks and of the examples when the site is built (a hook of mkdocs.yml).

A notebook becomes the page ``notebooks/NAME.md`` with the outputs that it is kept with; nothing is run. The
code of each example that ``examples.md`` links to stands on that page. Links to ``../examples/...``, which
lead to the files in a clone, lead to these places on the site. An entry of the reference that says
``::: leadline.plan`` has the heading that a user types, ``ll.plan``.
"""

from __future__ import annotations

import base64
import html
import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
_ENTRY = re.compile(r"^::: leadline\.(\w+)$(?:\n    options:$)?", re.M)
_LINK = re.compile(r"\]\((?:\.\./)+examples/([\w./]+)\)")


def on_files(files: Any, config: Any) -> Any:
    """Adds the notebooks' pages and pictures."""
    for path in sorted(EXAMPLES.glob("notebooks/*.ipynb")):
        text, pictures = notebook(path)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
        for name, picture in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=picture))
    return files


def on_page_markdown(text: str, page: Any, **_: Any) -> str:
    """Puts the code on the page of examples, and leads links to the site's pages."""
    if page.file.src_uri == "examples.md":
        names = dict.fromkeys(re.findall(r"\.\./examples/(\w+\.py)", text))
        text += "".join(f"\n## {n}\n\n{_fence('python', _code(n))}" for n in names)
    text = _ENTRY.sub(
        r"::: leadline.\1\n    options:\n      heading: ll.\1\n      toc_label: ll.\1", text
    )
    up = "../" * (len(PurePosixPath(page.file.src_uri).parts) - 1)
    return _LINK.sub(lambda m: f"]({up}{_place(m[1])})", text)


def _code(name: str) -> str:
    return (EXAMPLES / name).read_text("utf-8")


def _place(name: str) -> str:
    path = PurePosixPath(name)
    if path.suffix == ".ipynb":
        return str(path.with_suffix(".md"))
    return "examples.md#" + path.name.replace(".", "")


def _fence(kind: str, text: str) -> str:
    marks = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    return f"{marks}{kind}\n{text.rstrip()}\n{marks}\n"


def notebook(path: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and its pictures by name."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(_fence("python", source))
        printed = ""
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{path.stem}-{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode("".join(data["image/png"]))
                parts.append(_picture(name, source))
            elif "text/html" in data:
                parts.append(f'<div class="output">{_one_block(data["text/html"])}</div>')
            else:
                printed += "".join(output.get("text", data.get("text/plain", "")))
        if printed.strip():
            parts.append(f'<pre class="output">{html.escape(printed.rstrip())}</pre>')
    begin, rest = parts[0].split("\n", 1)
    link = f"The file to run: `examples/notebooks/{path.name}`, kept with what it printed."
    return "\n\n".join([begin, rest.strip() + "\n\n" + link, *parts[1:]]) + "\n", pictures


def _one_block(markup: Any) -> str:
    """Without blank lines, which would end a block of HTML; the site's style instead of the notebook's."""
    text = re.sub(r"\n\s*\n", "\n", "".join(markup))
    return re.sub(r'style="text-align:(\w+);[^"]*"', r'style="text-align:\1"', text)


def _picture(name: str, source: str) -> str:
    alternative = html.escape(f"Figure drawn by {source.strip().splitlines()[-1]}", quote=True)
    # The whole picture at its own size: where a page is narrow, it is wider than the page.
    return f'<a class="figure" href="../{name}"><img alt="{alternative}" src="../{name}"></a>'
