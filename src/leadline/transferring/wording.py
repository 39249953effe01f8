"""The hyperparameter that is judged: its rows, and its name where sentences speak of the learning rate."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

NAMES = {
    "lr": ("learning rate", "learning rates", "--lrs"),
    "weight_decay": ("weight decay", "weight decays", "--weight-decay"),
    "warmup": ("warm-up", "warm-ups", "--warmup"),
}
"""One, several, and the option, of each hyperparameter whose transfer can be judged."""


def judged(rows: Iterable[Mapping[str, Any]], hyperparameter: str) -> list[dict[str, Any]]:
    """Rows whose ``lr`` is the hyperparameter's value: what is analysed."""
    if hyperparameter == "lr":
        return [dict(r) for r in rows]
    return [{**r, "lr": float(r.get(hyperparameter, 0))} for r in rows]


def in_words(text: str, hyperparameter: str) -> str:
    """A sentence about rates as one about another hyperparameter.

    >>> in_words("the base's rate costs 2 %: extend lrs, --lrs 0.1:0.4:2", "weight_decay")
    "the base's weight decay costs 2 %: extend weight decays, --weight-decay 0.1:0.4:2"
    """
    if hyperparameter == "lr":
        return text
    one, several, option = NAMES[hyperparameter]
    text = text.replace("--lrs", option).replace("best lr", f"best {one}")
    text = re.sub(r"\b(lrs|learning rates|rates)\b", several, text)
    return re.sub(r"\b(learning rate|rate)\b", one, text)
