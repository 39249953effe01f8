"""What a claim is: words, cells, pure data, a rule, figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leadline.claims.cell import Arrays, Cell
from leadline.claims.setting import Setting
from leadline.claims.verdict import Judgement

if TYPE_CHECKING:
    from leadline.reporting.page import Drawing, Table

Data = Mapping[str, Any]
"""JSON-able: numbers, texts, nested lists and dicts of them (arrays until they are stored)."""


@dataclass(frozen=True)
class Claim:
    """One claim of the paper; each has a file of its own.

    Attributes:
        sentence: what is claimed. where: where the paper says it.
        design: how it is measured, in words.
        rule: how the verdict follows from the data; docs/findings.md lists what pilot runs changed.
        cells: what has to be measured, by name.
        data: the cells' arrays -> what is stored, judged and drawn.
        judge: the rule. figures: thin drawing of the data. tables: beside them.
        found: sentences with the numbers, made of the data.
    """

    number: int
    title: str
    sentence: str
    where: str
    design: tuple[str, ...]
    rule: str
    cells: Callable[[Setting], dict[str, Cell]]
    data: Callable[[Setting, Mapping[str, Arrays]], dict[str, Any]]
    judge: Callable[[Data], Judgement]
    figures: Callable[[Data], Sequence[Drawing]]
    found: Callable[[Data], Sequence[str]] = lambda data: ()
    tables: Callable[[Data], Sequence[Table]] = lambda data: ()
