"""``leadline demo``: both halves on data that is there already, within a minute."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leadline.cli.flags import QUIET
from leadline.cli.lifecycle import one_line, show
from leadline.disk.write import attempt, check_folder, write_atomic

if TYPE_CHECKING:
    import torch

    from leadline.reporting.page import Page

_RATES = [2.0 ** (k / 2) for k in range(-15, -8)]
_TOKENS, _CONTEXT, _NOISE = 64, 16, 0.15
_TRANSFER = """\
1. For those who train: does the best learning rate of a narrow model serve wider ones?

   Small GPTs of widths 16, 32 and 64 learn to count, with noise: AdamW, seven rates, four seeds.
"""
_LIMIT = """
2. For those who study: how does training go at infinite width and depth?

   Residual networks on two handwritten digits: their limit with an error bar, and real networks.
"""
_NEXT = """
Next: your own model in a file with build, loss and batches (docs/tutorial-transfer.md),
      leadline check model.py        which layers collapse or explode as it grows
      leadline transfer model.py     does its learning rate carry over
      or docs/tutorial-limit.md for the limits."""


@click.command("demo", help="A tour of both halves within a minute.")
@click.option(
    "--out",
    default="leadline-out/demo",
    show_default=True,
    type=click.Path(),
    help="Folder: transfer.html, compare.html.",
)
@QUIET
def demo_command(out: str, quiet: bool) -> None:
    """Two answers to stdout, two reports into the folder."""
    with one_line([]):
        folder = check_folder("out", out)
        show(_TRANSFER)
        moved = _transferred(quiet)
        show(str(moved))
        show(_LIMIT)
        compared = _compared(quiet)
        show(repr(compared))
        show(_NEXT)
        from leadline.reporting.comparisons import comparison_page
        from leadline.transferring.result import transfer_page

        pages = {"transfer": transfer_page(moved), "compare": comparison_page(compared)}
        for name, page in pages.items():
            _write(folder / f"{name}.html", page)


def counting(step: int, generator: torch.Generator, size: int = 8) -> torch.Tensor:
    """Token ids (size, context + 1) that count up, some of them replaced."""
    import torch

    first = torch.randint(_TOKENS, (size, 1), generator=generator)
    ids = (first + torch.arange(_CONTEXT + 1)) % _TOKENS
    other = torch.randint(_TOKENS, ids.shape, generator=generator)
    return torch.where(torch.rand(ids.shape, generator=generator) < _NOISE, other, ids)


def next_token(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of every next token."""
    import torch

    logits = model(ids[:, :-1]).flatten(0, 1)
    return torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten())


def _transferred(quiet: bool) -> Any:
    import torch

    from leadline.models import gpt
    from leadline.reporting.progress import Progress
    from leadline.tasks.task import Task
    from leadline.transferring.transfers import transfer

    held_out = counting(0, torch.Generator().manual_seed(1), 128)
    task = Task(next_token, batches=counting, eval_batch=held_out)
    sizes: dict[str, Any] = dict(widths=[16, 32, 64], depths=[2], lrs=_RATES, seeds=4, steps=40)
    how: dict[str, Any] = dict(metric="test_loss", executor="inline")
    with Progress(quiet=quiet) as bar:
        build = gpt(context=_CONTEXT, vocabulary=_TOKENS)
        return transfer(task, build, **sizes, **how, progress=bar)


def _compared(quiet: bool) -> Any:
    from leadline.architecture import ResNet
    from leadline.comparison import compare
    from leadline.problems import digits
    from leadline.recipes.sgd import SGD
    from leadline.reporting.progress import Progress

    problem = digits(classes=(3, 8), samples=16, test_samples=50)
    # Accurate enough, and the last network large enough, to tell the limit from the lazy one.
    sizes = [(32, 4), (128, 8), (512, 16)]
    how: dict[str, Any] = dict(couplings="reused", sizes=sizes, rtol=0.05)
    with Progress(5, quiet=quiet) as bar:
        return compare(problem, ResNet(), SGD(lr=0.7, steps=10), **how, progress=bar)


def _write(path: Path, page: Page) -> None:
    from leadline.reporting.page import render

    if attempt(lambda: write_atomic(path, render(page).encode(), "out")):
        click.echo(f"wrote {path}", err=True)


COMMANDS = (demo_command,)
