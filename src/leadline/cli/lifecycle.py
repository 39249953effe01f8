"""How a command starts and ends: streams, interruptions, mistakes in one line, files not written."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any, TextIO

import click

from leadline.cli import processes
from leadline.cli.flags import named
from leadline.errors import AFTER_REMEDY, UnwrittenWarning, WriteError, cut

INTERRUPTED = 130
_LONG = re.compile(r"\S{81,}")
# Seconds that silent processes wait for the one that speaks.
_PATIENCE = 20.0

# In the environment: what nobody expected is a traceback.
TRACEBACK = "LEADLINE_TRACEBACK"

MISTAKES = (ValueError, TypeError, OSError, KeyError, MemoryError, ImportError)

Kept = list[tuple[Path, str | Callable[[Path], bool], str]]
"""Folder, pattern and words: said of an interruption if the folder has such files, not empty, or if
a function of the folder says so."""


class CommandState:
    """What one command has come to.

    Attributes:
        interruptions: signals so far.
        said: what an interruption leaves behind, in words; None outside of the work.
        unwritten: something could not be written, so that the command fails though it has its result.
    """

    def __init__(self) -> None:
        self.interruptions = 0
        self.said: Callable[[], str] | None = None
        self.unwritten = False

    def interrupted(self, _number: int = 0, _frame: Any = None) -> None:
        """The first signal ends the work in order; where there is none, or at the second, at once.

        No exception then: it could arrive where nobody catches it, and be a traceback.
        """
        self.interruptions += 1
        if self.interruptions == 1 and self.said is not None:
            raise KeyboardInterrupt
        self.leave()

    def leave(self) -> None:
        """End now, with the line that has not been said yet."""
        if self.said is not None:
            with contextlib.suppress(OSError):
                os.write(2, f"Interrupted: {self.said()}\n".encode(errors="backslashreplace"))
        os._exit(INTERRUPTED)


state = CommandState()


class CommandGroup(click.Group):
    """The group of commands, as a process starts it."""

    def main(self, *arguments: Any, **how: Any) -> Any:
        """Run a command."""
        with _streams(), _signals(), _warnings():
            return super().main(*arguments, **how)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command of a context; what it does not understand is named, not repeated in full."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            text = _LONG.sub(lambda word: cut(word[0]), error.format_message())
            raise click.UsageError(text, error.ctx) from None


class _Forgiving:
    """stderr that may be full or closed: what cannot be said there must not cost the result."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write as far as the stream takes it."""
        try:
            return self._stream.write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        """Flush; an error is no reason to stop."""
        with contextlib.suppress(OSError):
            self._stream.flush()


@contextlib.contextmanager
def _streams() -> Generator[None]:
    if sys.stdout is None or sys.stderr is None:
        # The next files to be opened would get their numbers, and what libraries print to these.
        for fd in (0, 1, 2):
            try:
                os.fstat(fd)
            except OSError:
                os.open(os.devnull, os.O_RDWR)
    error = sys.stderr
    sys.stderr = open(os.devnull, "w") if error is None else _Forgiving(error)  # noqa: SIM115
    try:
        if sys.stdout is None:
            click.echo("Error: stdout is closed: give a file, or /dev/null", err=True)
            sys.exit(2)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        yield
    finally:
        if error is not None:
            sys.stderr = error


@contextlib.contextmanager
def _signals() -> Generator[None]:
    global state
    state = CommandState()
    before = signal.getsignal(signal.SIGINT)
    ours = threading.current_thread() is threading.main_thread() and before in (
        signal.SIG_DFL,
        signal.default_int_handler,
    )
    if not ours:  # the caller's, or a background job's that ignores it
        yield
        return

    def unraisable(what: Any) -> None:
        # One that arrived where exceptions are dropped: in a destructor, say.
        if issubclass(what.exc_type, KeyboardInterrupt):
            state.leave()
        hook(what)

    hook, sys.unraisablehook = sys.unraisablehook, unraisable
    signal.signal(signal.SIGINT, state.interrupted)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        # After one the process is about to end, and a second one ends it now.
        if not state.interruptions:
            signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _warnings() -> Generator[None]:
    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, UnwrittenWarning):
            state.unwritten = True
            click.echo(f"Warning: {message}", err=True)
        else:
            usual(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        warnings.simplefilter("always", UnwrittenWarning)
        usual = warnings.showwarning
        setattr(warnings, "showwarning", show)  # noqa: B010  # a function of its own type
        yield


def show(text: str | Iterable[str]) -> None:
    """A result, whole or in pieces, to stdout, before it goes to files: where stdout refuses it, the files
    are still made."""
    try:
        for piece in (text,) if isinstance(text, str) else text:
            click.echo(piece, nl=False)
        click.echo()
        return
    except BrokenPipeError:
        state.unwritten = True  # the reader has had enough, and knows
    except OSError as error:
        why = f"stdout cannot be written: {error.strerror}; direct it to a disk with room"
        warnings.warn(why, UnwrittenWarning, stacklevel=2)
    with contextlib.suppress(OSError, ValueError):
        # What is left of it must not fail again when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def one_line(kept: Kept) -> Generator[None]:
    """Turn mistakes into ``Error: ...`` with exit code 2, and Ctrl-C into 130.

    What could not be written has been said, and is exit code 1. So is what nobody expected, in one line
    that says how to see where it came from.

    Args:
        kept: what an interruption leaves behind; the command fills it in.
    """
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
            text = laid_out(named(message(error)))
            left = _left(kept) if isinstance(error, WriteError) else ""
            click.echo(f"Error: {text}" + (f"; {left}" if left else ""), err=True)
        else:
            # torchrun ends all when one ends: the one that says so may be slower to start.
            time.sleep(_PATIENCE)
        sys.exit(2)
    except KeyboardInterrupt:
        said, state.said = state.said(), None
        click.echo(f"Interrupted: {said}", err=True)
        sys.exit(INTERRUPTED)
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
    lines = []
    for folder, pattern, words in kept:
        with contextlib.suppress(OSError):
            if callable(pattern):
                there = pattern(folder)
            else:
                there = any(p.is_file() and p.stat().st_size for p in folder.glob(pattern))
            lines += [words] if there else []
    return "; ".join(lines)


def laid_out(text: str) -> str:
    """One line; where there are several reasons one for each, with all that it is the reason of.

    >>> print(laid_out("cannot fold:\\n  a: no place\\n  b: no place\\n  c: two rows"))
    cannot fold:
      a, b: no place
      c: two rows
    >>> print(laid_out(f"a is\\n  bad\\n{AFTER_REMEDY}\\ncannot fold:\\n  a: no place\\n  b: no place"))
    a is bad
    With that it comes to this:
    cannot fold:
      a, b: no place
    """
    if f"\n{AFTER_REMEDY}\n" in text:
        return f"\n{AFTER_REMEDY}\n".join(
            laid_out(part) for part in text.split(f"\n{AFTER_REMEDY}\n")
        )
    head, *items = re.split(r"\n\s+", text.strip())
    if len(items) < 2 or not head.endswith(":"):
        return " ".join(text.split())
    groups: dict[str, list[str]] = {}
    for item in items:
        name, colon, reason = item.partition(": ")
        groups.setdefault(reason if colon else item, []).append(name if colon else "")
    from leadline.tabular.tables import wrapped

    lines = [head]
    for reason, names in groups.items():
        of = ", ".join(filter(None, names))
        lines += wrapped(f"{of}: {reason}" if of else reason, "  ")
    return "\n".join(lines)


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
