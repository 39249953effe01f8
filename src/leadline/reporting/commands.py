"""The command that decides what a report leaves open: the one that was run, with options that change."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping


def with_options(command: str, changed: Mapping[str, str]) -> str:
    """A command with these options, in place of what it gave for them.

    >>> with_options("leadline check m.py --seeds 3 --html a.html", {"--seeds": "12"})
    'leadline check m.py --html a.html --seeds 12'
    """
    words = shlex.split(command)
    for option, value in changed.items():
        words = [*_without(words, option), option, value]
    return shlex.join(words)


def _without(words: list[str], option: str) -> list[str]:
    out, skip = [], False
    for word in words:
        if not skip and word != option and not word.startswith(f"{option}="):
            out.append(word)
        skip = not skip and word == option
    return out


def offered(command: str, text: str | None) -> tuple[str, ...]:
    """The command with the options that a text names in brackets; none without any.

    >>> offered("leadline check m.py", "seeds=12 (--seeds 12)")
    ('leadline check m.py --seeds 12',)
    """
    options = dict(re.findall(r"\((--[\w-]+) ([^\s)]+)\)", text or ""))
    return (with_options(command, options),) if command and options else ()


def longer(command: str, messages: Iterable[str]) -> tuple[str, ...]:
    """The command with the time that limits which stopped ask for; none where none did.

    >>> longer("leadline limit --seconds 5", ["stopped by seconds=5: give seconds=40"])
    ('leadline limit --seconds 40',)
    """
    seconds = [float(s) for m in messages for s in re.findall(r"give seconds=([\d.]+)", m)]
    return (
        (with_options(command, {"--seconds": f"{max(seconds):g}"}),) if command and seconds else ()
    )
