"""leadline: the training dynamics of infinitely wide and deep residual networks, solved.

>>> import leadline as ll
>>> problem = ll.digits(classes=(0, 1), samples=16, test_samples=0)
>>> sgd = ll.SGD(lr=0.3, steps=2)
>>> s = ll.solve(problem, ll.ResNet(activation="tanh"), sgd, width=512, depth=4, seeds=2)
>>> s.train_loss.shape
(2, 3)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from leadline._version import __version__

if TYPE_CHECKING:
    from leadline.architecture import ResNet as ResNet
    from leadline.checking.checks import check as check
    from leadline.checking.report import CheckReport as CheckReport
    from leadline.checking.updates import BandWarning as BandWarning
    from leadline.checking.updates import monitor as monitor
    from leadline.claims.measurement import study as study
    from leadline.claims.studies import Study as Study
    from leadline.comparison import compare as compare
    from leadline.errors import CheckpointError as CheckpointError
    from leadline.errors import MemoryBudgetError as MemoryBudgetError
    from leadline.errors import UnwrittenWarning as UnwrittenWarning
    from leadline.errors import WriteError as WriteError
    from leadline.forecasting.forecasts import forecast as forecast
    from leadline.forecasting.result import Forecast as Forecast
    from leadline.identity.names import named as named
    from leadline.kernels.kernels import InitialKernels as InitialKernels
    from leadline.kernels.kernels import initial_kernels as initial_kernels
    from leadline.limits.extrapolation import limit as limit
    from leadline.limits.lazy_training import lazy as lazy
    from leadline.limits.result import Limit as Limit
    from leadline.measure.observation import Measure as Measure
    from leadline.models import gpt as gpt
    from leadline.models import residual_mlp as residual_mlp
    from leadline.parametrization.schemes import Scheme as Scheme
    from leadline.planning.explanation import explain as explain
    from leadline.planning.plans import Plan as Plan
    from leadline.planning.plans import plan as plan
    from leadline.problems import Problem as Problem
    from leadline.problems import arrays as arrays
    from leadline.problems import cifar10 as cifar10
    from leadline.problems import digits as digits
    from leadline.problems import mnist as mnist
    from leadline.problems import npz as npz
    from leadline.problems import parse as parse
    from leadline.problems import power_law as power_law
    from leadline.problems import teacher as teacher
    from leadline.problems.texts import Text as Text
    from leadline.problems.texts import text as text
    from leadline.recipes.elementwise import Adam as Adam
    from leadline.recipes.elementwise import AdamW as AdamW
    from leadline.recipes.elementwise import Lion as Lion
    from leadline.recipes.elementwise import SignSGD as SignSGD
    from leadline.recipes.muon import Muon as Muon
    from leadline.recipes.sgd import SGD as SGD
    from leadline.reporting.comparisons import Comparison as Comparison
    from leadline.reporting.progress import Progress as Progress
    from leadline.solver import solve as solve
    from leadline.store.store import Store as Store
    from leadline.sweeps.driver import Sweep as Sweep
    from leadline.sweeps.driver import sweep as sweep
    from leadline.tasks.task import Task as Task
    from leadline.training.trainer import train as train
    from leadline.trajectory import Trajectory as Trajectory
    from leadline.transferring.result import Transfer as Transfer
    from leadline.transferring.transfers import transfer as transfer
    from leadline.transferring.transfers import transfer_from as transfer_from

# Names are imported on first use: `import leadline` loads neither torch nor numpy.
_WHERE = {
    "CheckReport": "checking.report",
    "check": "checking.checks",
    "BandWarning": "checking.updates",
    "monitor": "checking.updates",
    "Study": "claims.studies",
    "study": "claims.measurement",
    "Comparison": "reporting.comparisons",
    "Progress": "reporting.progress",
    "compare": "comparison",
    "ResNet": "architecture",
    "Limit": "limits.result",
    "limit": "limits.extrapolation",
    "InitialKernels": "kernels.kernels",
    "initial_kernels": "kernels.kernels",
    "lazy": "limits.lazy_training",
    "solve": "solver",
    "CheckpointError": "errors",
    "MemoryBudgetError": "errors",
    "UnwrittenWarning": "errors",
    "WriteError": "errors",
    "Forecast": "forecasting.result",
    "forecast": "forecasting.forecasts",
    "named": "identity.names",
    "Measure": "measure.observation",
    "gpt": "models",
    "residual_mlp": "models",
    "train": "training.trainer",
    "Plan": "planning.plans",
    "explain": "planning.explanation",
    "plan": "planning.plans",
    "Scheme": "parametrization.schemes",
    "Problem": "problems",
    "arrays": "problems",
    "cifar10": "problems",
    "digits": "problems",
    "mnist": "problems",
    "npz": "problems",
    "parse": "problems",
    "power_law": "problems",
    "teacher": "problems",
    "Adam": "recipes.elementwise",
    "AdamW": "recipes.elementwise",
    "Lion": "recipes.elementwise",
    "Muon": "recipes.muon",
    "SGD": "recipes.sgd",
    "SignSGD": "recipes.elementwise",
    "Task": "tasks.task",
    "Store": "store.store",
    "Sweep": "sweeps.driver",
    "sweep": "sweeps.driver",
    "Text": "problems.texts",
    "text": "problems.texts",
    "Trajectory": "trajectory",
    "Transfer": "transferring.result",
    "transfer": "transferring.transfers",
    "transfer_from": "transferring.transfers",
}

__all__ = ["__version__", *sorted(_WHERE)]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'leadline' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"leadline.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_WHERE]
