"""The commands on the built-in network: solve, train, limit, lazy, compare, kernels; and all others."""

from __future__ import annotations

import json
import os
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leadline._version import __version__
from leadline.cli import demo, laws, lifecycle, models, processes, results, sweeps, trainings
from leadline.cli.flags import MEASURING, flags
from leadline.cli.lifecycle import CommandGroup, Kept, one_line, show, while_reading
from leadline.cli.outputs import Outputs
from leadline.disk.bounded import within
from leadline.disk.write import attempt

if TYPE_CHECKING:
    from leadline.architecture import ResNet
    from leadline.kernels.kernels import InitialKernels
    from leadline.limits.result import Limit
    from leadline.problems import Problem
    from leadline.recipes.sgd import SGD
    from leadline.reporting.comparisons import Comparison
    from leadline.reporting.page import Page
    from leadline.trajectory import Trajectory

_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_ABOUT = {
    "solve": "Solve one width and depth without n×n matrices: the built-in ResNet, or a model of yours.",
    "train": "Train dense finite networks: the built-in ResNet, or a model of yours by any optimizer.",
    "limit": "Extrapolate solve to infinite width and depth, with an error bar.",
    "lazy": "Train the network linearised at initialization, at infinite width.",
    "compare": "Limits, lazy limit and finite networks side by side.",
    "kernels": "Kernels at initialization, at infinite width.",
}
_NETWORK = ("activation", "block_layers", "gain", "horizon", "scheme")
_SGD = ("lr", "steps", "batch_size", "momentum", "weight_decay", "center")
_KERNELS = "features gradients tangent tangent_input tangent_hidden tangent_readout".split()


@click.group(cls=CommandGroup, context_settings=_HELP)
@click.version_option(__version__, prog_name="leadline")
def main() -> None:
    """The training dynamics of infinitely wide and deep residual networks, solved.

    Results go to stdout (with --json as JSON), everything else to stderr.
    """
    # Threads that spin while they wait make a busy machine tens of times slower; read by OpenMP
    # when torch is imported.
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}


def _add_command(name: str) -> None:
    @main.command(name, help=_ABOUT[name])
    @trainings.of_a_model(name)
    @flags(name)
    def run(**options: Any) -> None:
        kept: Kept = []
        with one_line(kept):
            processes.check(name)
            outputs = Outputs.take(options)
            kept += _resumable(name, options, outputs.out)
            if name == "kernels":
                _kernels(options, outputs)
            else:
                _run(name, options, outputs)


for _name in _ABOUT:
    _add_command(_name)
for _extra in (demo, models, results, laws, sweeps):
    for _made in _extra.COMMANDS:
        main.add_command(_made)


def _resumable(command: str, options: dict[str, Any], out: Path | None) -> Kept:
    """What an interruption leaves behind; sets the default of --checkpoint."""
    if command == "compare" and out is not None:
        return [(out, "*", f"finished branches are in {out}")]
    if command not in ("solve", "limit"):
        return []
    if options["checkpoint"] is None and out is not None:
        default = "checkpoint.safetensors" if command == "solve" else "sizes"
        options["checkpoint"] = str(out / default)
    if options["checkpoint"] is None:
        return []
    path = Path(options["checkpoint"])
    if command == "limit":
        words = f"the same command resumes from the finished sizes in {path}"
        return [(path, "*.safetensors", words)]
    every = f"written every {options['checkpoint_every']:g} s"
    words = f"the same command resumes from {options['checkpoint']} ({every})"
    return [(path.parent, escape(path.name), words)]


def _kernels(options: dict[str, Any], outputs: Outputs) -> None:
    from leadline.disk.plain import plain
    from leadline.kernels.kernels import initial_kernels

    as_json = options["as_json"]
    settings = {name: options[name] for name in ("depth", "rtol", "seconds")}
    kernels = initial_kernels(_problem(options), _network(options), **settings)
    data = {"depth": kernels.depth, "accuracy": kernels.accuracy}
    data |= {name: plain(getattr(kernels, name)) for name in _KERNELS}
    show(json.dumps(data) if as_json else _kernels_table(kernels))

    def page(command: str) -> Page:
        from leadline.reporting.results import kernels_page

        return kernels_page(kernels, command)

    outputs.keep(page, "figure.html", {"result.json": data})


def _run(command: str, options: dict[str, Any], outputs: Outputs) -> None:
    """What the training commands share: build, run, save, print."""
    as_json, quiet = options.pop("as_json"), options.pop("quiet")
    dry = options.pop("dry_run", False)
    task, build, recipe = _trained(options)
    if command in MEASURING.split():
        options["measure"] = trainings.measuring(options)
    if dry and not processes.leads():
        return
    if dry:
        from leadline.architecture import ResNet
        from leadline.cli.prediction import predict

        if isinstance(build, ResNet):
            prediction = predict(command, task, build, recipe, options)
        else:
            from leadline.cli import model_prediction

            prediction = model_prediction.predict(command, task, build, recipe, options)
        click.echo(json.dumps(prediction.to_json()) if as_json else prediction.text())
        return

    import leadline
    from leadline.reporting.json_text import pieces
    from leadline.reporting.progress import Progress
    from leadline.trajectory import Trajectory

    with (
        processes.group(options),
        Progress(options["seeds"], quiet=quiet or not processes.leads()) as progress,
    ):
        if command != "lazy":
            options["progress"] = progress
        if command == "compare":
            options["out"] = outputs.out
        result = getattr(leadline, command)(task, build, recipe, **options)
    if not processes.leads():
        return
    for warning in _warnings(result):
        click.echo(f"Warning: {warning}", err=True)
    data = result.to_json(lists=False)
    show(pieces(data) if as_json else _words(result, task))

    def page(command_line: str) -> Page:
        from leadline.reporting.comparisons import comparison_page
        from leadline.reporting.results import result_page

        if command == "compare":
            return comparison_page(result, command_line)
        return result_page(result, command_line, _targets(task))

    out = outputs.out
    if command == "compare":
        outputs.keep(page, "compare.html")
        if out is not None and not lifecycle.state.unwritten:
            click.echo(f"wrote {out / 'compare.json'} and branches", err=True)
        return
    if out is not None and isinstance(result, Trajectory):
        attempt(lambda: result.save(out / "trajectory.safetensors"))
    outputs.keep(page, "figure.html", {"result.json": data})


def _words(result: Any, task: Any) -> str:
    """A result for people: what it says of itself, and what was measured."""
    if not getattr(result, "measures", None):
        return repr(result)
    from leadline.reporting.measures import measures_text

    return f"{result!r}\n\n{measures_text(result, _targets(task))}"


def _targets(task: Any) -> Any:
    """What a problem's outputs are to be, (P, C); None of other tasks."""
    from leadline.problems.problem import Problem

    return task.y if isinstance(task, Problem) else None


def _trained(options: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Take what is trained out of the options: data, network or builder, recipe."""
    model = trainings.training(options)
    if model is not None:
        return model
    network, sgd = _network(options), _recipe(options)
    return _problem(options), network, sgd


def _network(options: dict[str, Any]) -> ResNet:
    """Take the network's flags out of the options."""
    from leadline.architecture import ResNet

    values = {name: options.pop(name) for name in _NETWORK}
    return ResNet(skip=not options.pop("skip"), **values)


def _recipe(options: dict[str, Any]) -> SGD:
    """Take the recipe's flags out of the options."""
    from leadline.recipes.sgd import SGD

    roles = tuple(role.strip() for role in options.pop("train").split(",") if role.strip())
    return SGD(train=roles, **{name: options.pop(name) for name in _SGD})


def _problem(options: dict[str, Any]) -> Problem:
    """Take the problem's flags out of the options."""
    text, loss = options.pop("problem"), options.pop("loss")
    with while_reading("--problem", "problem"), within(options.get("memory")):
        from leadline.problems import parse

        return parse(text, loss)


def _warnings(result: Trajectory | Limit | Comparison) -> list[str]:
    """A line for each training that diverged."""
    import numpy as np

    from leadline.trajectory import Trajectory

    remedy = "lower --lr, or use a scheme with a limit"
    if not isinstance(result, Trajectory):
        from leadline.limits.result import Limit

        if not isinstance(result, Limit):
            return [f"{b.name}: {w}" for b in result.branches for w in _warnings(b.result)]
        bad = np.flatnonzero(~np.isfinite(result.train_loss))
        lines = [f"diverged at step {result.steps[bad[0]]}: {remedy}"] if len(bad) else []
        return lines if result.converged else [*lines, f"not converged: {result.message}"]
    if result.diverged is None or not (result.diverged >= 0).any():
        return []
    at = result.diverged[result.diverged >= 0]
    return [f"diverged at step {at.min()} ({len(at)} of {result.seeds} seeds): {remedy}"]


def _kernels_table(kernels: InitialKernels) -> str:
    """Diagonal, off-diagonal and spectrum of each kernel."""
    import numpy as np

    from leadline.tabular.tables import text_table

    rows = []
    for part in _KERNELS:
        matrix = getattr(kernels, part)
        p = len(matrix)
        diagonal = np.trace(matrix) / p
        rest = (matrix.sum() - np.trace(matrix)) / max(p * (p - 1), 1)
        values = np.linalg.eigvalsh((matrix + matrix.T) / 2)
        numbers = (diagonal, rest, values[-1], values[0])
        rows.append([part, *(f"{x:.4g}" for x in numbers)])
    header = ["kernel", "mean K(x,x)", "mean K(x,x')", "largest eigenvalue", "smallest"]
    note = (
        "Tangent kernels are in units of η. accuracy: the largest relative error that was measured."
    )
    return f"{kernels!r}\n\n{text_table(header, rows)}\n\n{note}"
