"""What goes wrong, in one line on stderr."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Generator

import click

from leadline.cli import processes
from leadline.cli.flags import named

# Seconds that silent processes wait for the one that speaks.
_PATIENCE = 20.0

MISTAKES = (ValueError, TypeError, OSError, KeyError, MemoryError, ImportError)


@contextlib.contextmanager
def one_line(kept: list[str]) -> Generator[None]:
    """Turn mistakes into ``Error: ...`` with exit code 2, and Ctrl-C into 130.

    Args:
        kept: what an interruption leaves behind, in words; the command fills it in.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except MISTAKES as error:
        # A mistake in the arguments is every process's: one of them says so.
        if processes.leads() or not isinstance(error, (ValueError, TypeError)):
            text = named(" ".join(message(error).split()))
            click.echo(f"Error: {text}", err=True)
        else:
            # torchrun ends all when one ends: the one that says so may be slower to start.
            time.sleep(_PATIENCE)
        sys.exit(2)
    except KeyboardInterrupt:
        rest = "; ".join(kept) or "nothing was written"
        click.echo(f"Interrupted: {rest}", err=True)
        sys.exit(130)


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
