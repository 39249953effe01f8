"""What goes wrong, in one line on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

import click

from leadline.cli import processes, start
from leadline.cli.flags import named
from leadline.errors import WriteError

# Seconds that silent processes wait for the one that speaks.
_PATIENCE = 20.0

# In the environment: what nobody expected is a traceback.
TRACEBACK = "LEADLINE_TRACEBACK"

MISTAKES = (ValueError, TypeError, OSError, KeyError, MemoryError, ImportError)

Kept = list[tuple[Path, str | Callable[[Path], bool], str]]
"""Folder, pattern and words: said of an interruption if the folder has such files, not empty, or if
a function of the folder says so."""


@contextlib.contextmanager
def one_line(kept: Kept) -> Generator[None]:
    """Turn mistakes into ``Error: ...`` with exit code 2, and Ctrl-C into 130.

    What could not be written has been said, and is exit code 1. So is what nobody expected, in one line
    that says how to see where it came from.

    Args:
        kept: what an interruption leaves behind; the command fills it in.
    """
    state = start.state
    state.unwritten = False
    state.said = lambda: _left(kept) or "nothing was written"
    try:
        try:
            yield
        except BaseException as error:
            # Libraries that are interrupted while they load raise other things.
            if state.interruptions and not isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt from error
            raise
    except BrokenPipeError:
        raise
    except MISTAKES as error:
        # A mistake in the arguments is every process's: one of them says so.
        if processes.leads() or not isinstance(error, (ValueError, TypeError)):
            text = named(" ".join(message(error).split()))
            left = _left(kept) if isinstance(error, WriteError) else ""
            click.echo(f"Error: {text}" + (f"; {left}" if left else ""), err=True)
        else:
            # torchrun ends all when one ends: the one that says so may be slower to start.
            time.sleep(_PATIENCE)
        sys.exit(2)
    except KeyboardInterrupt:
        said, state.said = state.said(), None
        click.echo(f"Interrupted: {said}", err=True)
        sys.exit(start.INTERRUPTED)
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        text = " ".join(f"unexpected {type(error).__name__}: {error}".split())
        left = "".join(f"; {words}" for words in [_left(kept)] if words)
        click.echo(f"Error: {text}{left}; {TRACEBACK}=1 in the environment shows where", err=True)
        sys.exit(1)
    finally:
        state.said = None
    if state.unwritten:
        sys.exit(1)


def _left(kept: Kept) -> str:
    """Words for what is there."""
    found = []
    for folder, pattern, words in kept:
        with contextlib.suppress(OSError):
            if callable(pattern):
                there = pattern(folder)
            else:
                there = any(p.is_file() and p.stat().st_size for p in folder.glob(pattern))
            found += [words] if there else []
    return "; ".join(found)


def message(error: BaseException) -> str:
    """The error's own words: ``str`` puts those of a KeyError in quotes."""
    if isinstance(error, KeyError) and error.args:
        return str(error.args[0])
    return str(error) or type(error).__name__


@contextlib.contextmanager
def while_reading(flag: str, argument: str) -> Generator[None]:
    """Name the flag in errors that do not name its argument."""
    try:
        yield
    except MISTAKES as error:
        text = message(error)
        if f"{argument}=" not in text:
            text += f" (in {flag})"
        raise ValueError(text) from error
