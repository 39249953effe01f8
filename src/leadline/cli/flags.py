"""One table of flags: which commands take them, their defaults and what they set."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from leadline import activations
from leadline.cli.values import Bytes, SizeList, StepCount
from leadline.parametrization import schemes

ALL = "solve train limit lazy compare kernels"
RUNS = "solve train limit lazy compare"
SOLVERS = "solve limit compare"
MEASURING = "train solve limit"


@dataclass(frozen=True)
class Flag:
    """One flag.

    Attributes:
        argument: the library's name for it; errors name that, so it is shown where it differs.
        default: a value, or one for each command.
    """

    name: str
    argument: str
    kind: Any
    default: Any
    commands: str
    help: str

    def option(self, command: str) -> Callable[[Any], Any]:
        """The click option of a command."""
        default = self.default
        if isinstance(default, Mapping):
            default = default[command]
        how: dict[str, Any] = {"help": self.help, "default": default}
        if self.kind is bool:
            how["is_flag"] = True
        else:
            how |= {"type": self.kind, "show_default": default is not None}
        return click.option(self.name, self.argument, **how)


_SCHEMES = ", ".join(schemes.NAMES)
_ACTIVATIONS = ", ".join(activations.NAMES)
_PATH = click.Path()

FLAGS = (
    Flag("--problem", "problem", str, "digits:3,8?samples=32,test_samples=50", ALL,
         "Data and targets: digits:0,1 | teacher | power_law | npz:PATH | cifar10:PATH | mnist:FOLDER, "
         "with ?parameter=value,... of the builder."),
    Flag("--loss", "loss", str, None, ALL, "mse or cross_entropy; default: the problem's."),
    Flag("--width", "width", int, {"solve": 512, "train": 256, "limit": None}, "solve train limit",
         "Width n (limit: the first; default: room enough for the problem; of a model times the base's)."),
    Flag("--depth", "depth", int,
         {"solve": 8, "train": 8, "limit": None, "lazy": None, "kernels": None},
         "solve train limit lazy kernels",
         "Depth L (limit: the first; default 8, of a model twice the base's; lazy, kernels: default ∞)."),
    Flag("--sizes", "sizes", SizeList(), None, "compare",
         "Finite networks, WIDTHxDEPTH,...; default 64x4,128x8,256x16, of a model 1, 2, 4 times the base."),
    Flag("--over", "over", str, "both", "limit compare",
         "both, or width: the limit of infinite width at one depth."),
    Flag("--coupling", "coupling", str, "reused", "solve train limit",
         "reused (backpropagation through the same weights) or independent (through a copy)."),
    Flag("--ensemble", "ensemble", str, "gaussian", "solve limit compare",
         "gaussian (the law of dense networks) or fast (the same limit, O(n) memory for W(0))."),
    Flag("--steps", "steps", int, 20, RUNS, "Training steps."),
    Flag("--lr", "lr", float, 0.3, RUNS,
         "Learning rate η, the same at every width and depth (of a model the base's, by default the usual "
         "one of its optimizer)."),
    Flag("--batch-size", "batch_size", int, None, RUNS, "Samples a step; default: all."),
    Flag("--momentum", "momentum", float, 0.0, RUNS,
         "Momentum, as torch.optim.SGD's (of a model, its optimizer's)."),
    Flag("--weight-decay", "weight_decay", float, 0.0, RUNS, "Weight decay λ."),
    Flag("--train", "train", str, "input,hidden,readout", RUNS, "Which weights learn."),
    Flag("--center", "center", bool, False, RUNS, "Start training outputs at 0."),
    Flag("--activation", "activation", str, "tanh", ALL, f"One of {_ACTIVATIONS}."),
    Flag("--block-layers", "block_layers", int, 1, ALL, "Weight layers of a residual block."),
    Flag("--no-skip", "skip", bool, False, ALL, "No skip connections."),
    Flag("--gain", "gain", float, 1.0, ALL, "Multiplies every hidden weight."),
    Flag("--horizon", "horizon", float, 1.0, ALL, "Variance that the branches add in total, T."),
    Flag("--scheme", "scheme", str, "auto", ALL, f"One of {_SCHEMES}."),
    Flag("--seeds", "seeds", int, {"solve": 1, "train": 4, "limit": 4, "lazy": 1, "compare": 4},
         RUNS, "Runs."),
    Flag("--seed", "seed", int, 0, RUNS, "Seed of weights and batches."),
    Flag("--tol", "tol", float, {"solve": 1e-3, "limit": None, "compare": None}, SOLVERS,
         "Relative size of directions that are dropped; default of limits: chosen by what it changes."),
    Flag("--rtol", "rtol", float, {"limit": 0.01, "compare": 0.02, "lazy": 1e-6, "kernels": 1e-6},
         "limit compare lazy kernels",
         "Error bar asked for, relative to the initial loss (lazy, kernels: of the kernels)."),
    Flag("--seconds", "seconds", float,
         {"limit": 300.0, "compare": 300.0, "lazy": 15.0, "kernels": 15.0},
         "limit compare lazy kernels",
         "Time budget of the limit (compare: of the limits together; lazy, kernels: of the kernels, "
         "refused beyond)."),
    Flag("--variance-reduction", "variance_reduction", str, {"solve": "none", "limit": None},
         "solve limit", "none, ends or balanced (limit: by default balanced, with --ensemble fast ends)."),
    Flag("--record-every", "record_every", int, 1, RUNS, "Record every so many steps."),
    Flag("--test-every", "test_every", StepCount(), "auto", "solve",
         "Evaluate the test inputs every so many steps; auto: as takes a third of the time at most."),
    Flag("--measure", "quantities", str, None, MEASURING,
         "Record in the network: feature_kernel, gradient_kernel, movement; of a ResNet also "
         "activation_kernel, tangent_kernel; by commas (with --modules: default features, movement)."),
    Flag("--modules", "modules", str, None, MEASURING,
         "For a model: measure outputs of these modules, names or patterns by commas, such as 'blocks.*'."),
    Flag("--measure-steps", "measure_steps", str, None, MEASURING,
         "Steps of --measure, by commas; -1 is after the last one. Default 0,-1."),
    Flag("--measure-times", "measure_times", str, None, MEASURING,
         "For a ResNet: depth times in [0, 1] of --measure. Default 0,0.25,0.5,0.75,1."),
    Flag("--dtype", "dtype", str, "float32", f"train {SOLVERS}", "float32 or float64."),
    Flag("--device", "device", str, "cpu", f"train {SOLVERS}", "A torch device."),
    Flag("--memory", "memory", Bytes(), None, f"train {SOLVERS}",
         "Memory budget, such as 4GiB; default: most of what is free."),
    Flag("--storage", "storage", str, None, "solve",
         "bfloat16 halves the memory of the bases (for --tol 0.004 and more)."),
    Flag("--spill", "spill", _PATH, None, "solve", "Folder for bases larger than memory."),
    Flag("--checkpoint", "checkpoint", _PATH, None, "solve limit",
         "File (limit: folder) to resume from; with --out the default is DIR/checkpoint.safetensors "
         "(limit: DIR/sizes)."),
    Flag("--checkpoint-every", "checkpoint_every", float, 300.0, "solve",
         "Seconds between checkpoints."),
    Flag("--out", "out", _PATH, None, ALL, "Folder for the results and a figure (HTML)."),
    Flag("--html", "html", _PATH, None, ALL, "Write the report (one HTML file) to this file."),
    Flag("--json", "as_json", bool, False, ALL, "Print the results as JSON, and nothing else."),
    Flag("--dry-run", "dry_run", bool, False, f"train {SOLVERS}",
         "Predict memory and time, and stop."),
    Flag("--quiet", "quiet", bool, False, ALL, "No progress."),
)  # fmt: skip


MODELS = "train solve limit compare"
"""Commands that take a model of a builder too."""

OF_A_MODEL = (
    Flag("--base", "base", str, "64x4", MODELS,
         "For a model: size that lr, weight decay and ε are for, WIDTHxDEPTH."),
    Flag("--optimizer", "optimizer", str, None, MODELS,
         "For a model: sgd, adam, adamw (default), lion, signsgd, muon or muon-match-rms."),
    Flag("--betas", "betas", str, None, MODELS,
         "For a model: Adam's, AdamW's or Lion's, such as 0.9,0.95."),
    Flag("--eps", "eps", float, None, MODELS, "For a model: Adam's and AdamW's ε."),
    Flag("--adamw-lr", "adamw_lr", float, None, MODELS,
         "For muon: rate of AdamW, which trains what is no hidden matrix; default: --lr."),
    Flag("--stored", "stored", str, None, "solve limit",
         "For a model: hidden weights that keep their entries, names or patterns by commas."),
    Flag("--batch-seed", "batch_seed", int, None, "train solve",
         "For a model: seed of batches; default: --seed."),
)  # fmt: skip

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else.")
QUIET = click.option("--quiet", is_flag=True, help="No progress.")
HTML = click.option(
    "--html", type=click.Path(), default=None, help="Write the report (one HTML file) to this file."
)


COURSE = (
    click.option(
        "--schedule",
        default="constant",
        show_default=True,
        help="Learning rates over steps: constant, cosine, linear, wsd; or FILE.py has schedule().",
    ),
    click.option("--warmup", default="0", show_default=True, help="Steps of linear warm-up."),
    click.option("--clip", default=None, help="Largest norm of the gradient, in the base's units."),
    click.option("--accumulation", default=1, show_default=True, help="Batches a step."),
)
RECIPE = (
    *COURSE,
    click.option("--precision", default="float32", show_default=True, help="float32 or bfloat16."),
)


def together(options: Iterable[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """Decorator: several options, shown in this order."""

    def decorate(function: Any) -> Any:
        for option in reversed(list(options)):
            function = option(function)
        return function

    return decorate


def flags(command: str) -> Callable[[Any], Any]:
    """Decorator: all flags of a command, in the table's order."""
    return together(f.option(command) for f in FLAGS if command in f.commands.split())


_READING = {
    r"\broles(=|\[)": "--role PATTERN=ROLE",
    r"\binputs=": "--input SHAPE",
    r"\bmeasure\.steps=": "--measure-steps",
    r"\btimes=": "--measure-times",
    r"\bmeasure\.modules\b": "--modules",
}
"""What of Python's arguments has an option of another form."""


def named(message: str) -> str:
    """The message, followed by the flags whose names differ from the arguments it names.

    >>> named("batch_size=0 is too small: give an integer >= 1")
    'batch_size=0 is too small: give an integer >= 1 (--batch-size)'
    >>> named("say roles={'head': 'readout'}")
    "say roles={'head': 'readout'} (--role PATTERN=ROLE)"
    """
    differing = [option for sign, option in _READING.items() if re.search(sign, message)]
    differing += [
        f.name
        for f in (*FLAGS, *OF_A_MODEL)
        if f.name[2:] != f.argument and re.search(rf"\b{f.argument}\b *=", message)
    ]
    return f"{message} ({', '.join(differing)})" if differing else message
