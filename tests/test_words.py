"""The glossary: one word a thing, in names, docstrings and messages."""

import ast
import re
from pathlib import Path

import pytest

import leadline

ROOT = Path(leadline.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# Word replaced, and what stands in its place.
REPLACED = {
    r"question(?! mark)": "query",
    "questions": "queries",
    "glance": "sample",
    "memories": "memory",
}
# Names of variables, arguments, attributes and functions that are no nouns of the field.
NO_NAMES = {"found", "given", "own", "due", "question", "questions", "asked", "glance", "memories"}


def identifiers(tree: ast.AST):
    for node in ast.walk(tree):
        for field in ("id", "arg", "attr", "name", "asname"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                yield value, getattr(node, "lineno", 0)


def texts(tree: ast.AST):
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value, node.lineno


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_names_are_nouns_of_the_field(path):
    wrong = [f"{line}: {name}" for name, line in identifiers(ast.parse(path.read_text()))
             if name.strip("_") in NO_NAMES]  # fmt: skip
    assert wrong == []


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_texts_use_the_words_of_the_field(path):
    words = re.compile(r"\b(" + "|".join(REPLACED) + r")\b", re.IGNORECASE)
    tree = ast.parse(path.read_text())
    wrong = [f"{line}: {m.group()}" for text, line in texts(tree) for m in words.finditer(text)]
    fragment = re.compile(r"\s*(Of|That of|Those of|As of|As the|As they) ")
    wrong += [
        f"{line}: a text begins with Of" for text, line in texts(tree) if fragment.match(text)
    ]
    assert wrong == []
