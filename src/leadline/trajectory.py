"""What a training run was: one frozen result for the solver, dense networks and the lazy limit."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leadline.disk import sealed
from leadline.disk.plain import plain
from leadline.disk.write import as_path, write_atomic
from leadline.errors import cut
from leadline.intervals import half_width, standard_error
from leadline.tabular.notebook import Plotted, losses_over_steps

if TYPE_CHECKING:
    import pandas
    import plotly.graph_objects as go

FORMAT = 2
_ARRAYS = (
    "steps",
    "train_loss",
    "train_outputs",
    "train_accuracy",
    "test_steps",
    "test_loss",
    "test_outputs",
    "test_accuracy",
    "diverged",
    "times",
    "measured_steps",
)


@dataclass(frozen=True, repr=False)
class Trajectory(Plotted):
    """A training run, over S seeds and R recorded steps of K (R = K+1 unless ``record_every``).

    Attributes:
        steps: (R,) the recorded steps.
        test_steps: (R',) those of the recorded steps at which test inputs were evaluated (all of them
            unless ``test_every``); None without test inputs.
        train_loss, test_loss: (S, R), (S, R').
        train_outputs, test_outputs: (S, R, P, C), (S, R', P_test, C); None where only losses are recorded
            (a ``Task``, a ``Text``), whose train_loss is the batch's of that step.
        train_accuracy, test_accuracy: (S, R), (S, R') in [0, 1]; None for regression.
        diverged: (S,) the first step whose loss is not finite or has grown 10^8-fold; -1 if none.
            Everything from that step on is NaN.
        times: (D,) depth times t = l/L in [0, 1] of the measures.
        measured_steps: (M,) steps of the measures.
        measures: arrays by name, first axes (S, M): ``feature_kernel`` h·h'/n,
            ``activation_kernel`` φ(h)·φ(h')/n and ``gradient_kernel`` z·z'/n, all (S, M, D, P, P);
            ``tangent_input``, ``tangent_hidden``, ``tangent_readout`` (S, M, P, P), in units of η;
            ``movement`` RMS of h − h(step 0) (S, M, D, P); ``particles`` (S, M, D, P, particles).
            With several outputs gradient and tangent kernels are means over the outputs. Of a builder's
            models D is the modules, named by ``modules``, and P their first rows (``Measure.rows``).
        info: how it was computed: kind, arguments, versions, seconds.
    """

    steps: np.ndarray
    train_loss: np.ndarray
    info: Mapping[str, Any]
    train_outputs: np.ndarray | None = None
    train_accuracy: np.ndarray | None = None
    test_steps: np.ndarray | None = None
    test_loss: np.ndarray | None = None
    test_outputs: np.ndarray | None = None
    test_accuracy: np.ndarray | None = None
    diverged: np.ndarray | None = None
    times: np.ndarray | None = None
    measured_steps: np.ndarray | None = None
    measures: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.test_steps is None and self.test_loss is not None:
            object.__setattr__(self, "test_steps", self.steps)
        for name in _ARRAYS:
            value = getattr(self, name)
            if value is not None:
                value = np.asarray(value)
                value.setflags(write=False)
                object.__setattr__(self, name, value)

    @property
    def seeds(self) -> int:
        """The number of runs S."""
        return len(self.train_loss)

    @property
    def modules(self) -> tuple[str, ...]:
        """(D,) names of the measured modules of a builder's model."""
        return tuple(self.info.get("modules", ()))

    def mean(self, name: str = "train_loss") -> np.ndarray:
        """Mean over seeds of an attribute or measure."""
        return self._get(name).mean(0)

    def error(self, name: str = "train_loss") -> np.ndarray:
        """Standard error of ``mean``; NaN for a single seed."""
        return standard_error(self._get(name))

    def half_width(self, name: str = "train_loss") -> np.ndarray:
        """Half of the 95 % interval of ``mean`` (Student's t); NaN for a single seed."""
        return half_width(self._get(name))

    def tangent_kernel(self) -> np.ndarray:
        """Θ, the sum of its three parts: (S, M, P, P), in units of η."""
        parts = [self._get(f"tangent_{role}") for role in ("input", "hidden", "readout")]
        return parts[0] + parts[1] + parts[2]

    def smallest_eigenvalue(self, kernel: str = "activation_kernel") -> np.ndarray:
        """Smallest eigenvalue of the P×P covariance over depth, (S, M, D): non-degeneracy."""
        return np.linalg.eigvalsh(self._get(kernel))[..., 0]

    def alignment(self, targets: np.ndarray, kernel: str = "feature_kernel") -> np.ndarray:
        """Alignment ⟨K, yyᵀ⟩/(‖K‖‖yyᵀ‖) of a kernel with targets (P, C): (S, M, D) in [-1, 1].

        Of modules, whose kernels are of the first rows, so are the targets that count.
        """
        k = self.tangent_kernel() if kernel == "tangent_kernel" else self._get(kernel)
        if self.modules:
            targets = np.asarray(targets)[: k.shape[-1]]
        y = np.asarray(targets, dtype=float).reshape(k.shape[-1], -1)
        yy = y @ y.T
        norms = np.sqrt((k**2).sum((-2, -1))) * np.sqrt((yy**2).sum())
        return (k * yy).sum((-2, -1)) / norms

    def _get(self, name: str) -> np.ndarray:
        value = self.measures.get(name)
        if value is None:
            value = getattr(self, name, None) if name in _ARRAYS else None
        if value is None:
            have = [n for n in _ARRAYS if getattr(self, n) is not None] + list(self.measures)
            raise KeyError(f"{name!r} was not recorded: this trajectory has {', '.join(have)}")
        return value

    def to_pandas(self) -> pandas.DataFrame:
        """One row per seed and recorded step; NaN where test inputs were not evaluated."""
        try:
            import pandas
        except ImportError:
            raise ImportError("to_pandas needs pandas: pip install 'leadline[pandas]'") from None
        s, r = self.train_loss.shape
        columns = {
            "seed": np.repeat(np.arange(s), r),
            "step": np.tile(self.steps, s),
        }
        for name in ("train_loss", "train_accuracy", "test_loss", "test_accuracy"):
            value = getattr(self, name)
            if value is not None:
                every = np.full((s, r), np.nan)
                steps = self.steps if name.startswith("train") else self.test_steps
                assert steps is not None
                every[:, np.isin(self.steps, steps)] = value
                columns[name] = every.reshape(-1)
        return pandas.DataFrame(columns)

    def __repr__(self) -> str:
        i = self.info
        what = ", ".join(f"{k}={i[k]}" for k in ("width", "depth", "coupling") if i.get(k))
        lines = [f"Trajectory({i.get('kind', '?')}: {what}, seeds={self.seeds})"]
        for name in ("train_loss", "test_loss", "train_accuracy", "test_accuracy"):
            if getattr(self, name) is not None:
                m, e = self.mean(name), self.half_width(name)
                ends = [
                    f"{v:.4g}" + ("" if np.isnan(u) else f" ± {u:.1g}")
                    for v, u in ((m[0], e[0]), (m[-1], e[-1]))
                ]
                first, last = self.steps[0], self.steps[-1]
                few = f", at {m.size} of {self.steps.size} recorded steps: test_every"
                few = few if m.size < self.steps.size else ""
                lines.append(f"  {name}: {ends[0]} (step {first}) → {ends[1]} (step {last}){few}")
        if self.measures:
            where = cut(f" of {', '.join(self.modules)}", 200) if self.modules else ""
            lines.append(f"  measures: {', '.join(self.measures)}{where}")
        if self.diverged is not None and (self.diverged >= 0).any():
            at = self.diverged[self.diverged >= 0]
            lines.append(
                f"  DIVERGED in {len(at)} of {self.seeds} seeds, first at step {at.min()}: "
                "lower lr, or use more depth or a scheme with a limit"
            )
        return "\n".join(lines)

    def figure(self) -> go.Figure:
        """Mean losses over steps, with their 95 % intervals."""
        names = [n for n in ("train_loss", "test_loss") if getattr(self, n) is not None]
        curves = [(n.replace("_", " "), self.mean(n), self.half_width(n)) for n in names]
        return losses_over_steps(self.steps, curves, repr(self).splitlines()[0])

    def to_json(self, lists: bool = True) -> dict[str, Any]:
        """Everything as plain lists and numbers, NaN as None; arrays as they are without ``lists``."""
        as_asked = plain if lists else np.asarray
        out: dict[str, Any] = {"info": dict(self.info)}
        for name in _ARRAYS:
            value = getattr(self, name)
            out[name] = None if value is None else as_asked(value)
        out["measures"] = {k: as_asked(v) for k, v in self.measures.items()}
        return out

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write safetensors with a JSON header and a checksum; the file appears whole or not at all.

        Raises:
            WriteError: naming path, reason and remedy.
        """
        arrays = {n: getattr(self, n) for n in _ARRAYS if getattr(self, n) is not None}
        arrays |= {f"measures/{k}": np.asarray(v) for k, v in self.measures.items()}
        plain = [sealed.of_numpy(k, v) for k, v in arrays.items()]
        header = {"format": FORMAT, "kind": "trajectory", "info": dict(self.info)}
        return write_atomic(path, lambda file: sealed.write(file, plain, header))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Trajectory:
        """Read what ``save`` wrote, and nothing else.

        Raises:
            OSError: if the file is missing, damaged or of another format.
        """
        shown = f"path={cut(repr(str(as_path('path', path))), 300)}"
        try:
            header, arrays = sealed.arrays(path)
            if header.get("kind") != "trajectory" or header["format"] != FORMAT:
                raise ValueError(f"it is {header.get('kind', 'something else')!r}")
            measures = {k[9:]: arrays.pop(k) for k in list(arrays) if k.startswith("measures/")}
            info = dict(header["info"])
            losses, modules = info.get("recorded") == "losses", info.get("modules", ())
            _check_arrays(arrays, measures, losses, len(modules))
            return cls(**arrays, measures=measures, info=info)
        except FileNotFoundError:
            raise FileNotFoundError(f"{shown} does not exist: give a saved trajectory") from None
        except (KeyError, ValueError, TypeError, AttributeError) as e:
            why = f"it lacks {e}" if isinstance(e, KeyError) else str(e)
            raise OSError(
                f"{shown} is not a whole saved trajectory: {why}; run it again, or give what save "
                "wrote"
            ) from None
        except OSError as e:
            raise OSError(
                f"{shown} cannot be read: {e.strerror}; give a saved trajectory"
            ) from None


def _check_arrays(
    arrays: Mapping[str, np.ndarray],
    measures: Mapping[str, np.ndarray],
    losses_alone: bool,
    modules: int,
) -> None:
    """Refuse arrays whose names, types or shapes are not a trajectory's."""
    unknown = sorted(set(arrays) - set(_ARRAYS))
    if unknown:
        raise ValueError(f"a trajectory has no {unknown[0]!r}")
    steps, loss = arrays["steps"], arrays["train_loss"]
    if loss.ndim != 2 or steps.shape != loss.shape[1:]:
        raise ValueError(f"train_loss has shape {loss.shape}, steps has {steps.shape}")
    seeds, recorded = loss.shape
    tested = arrays.get("test_steps", steps)
    if tested.ndim != 1 or not np.isin(tested, steps).all():
        raise ValueError("test_steps are not among its steps")
    times, measured = (arrays.get(n, np.zeros(0)) for n in ("times", "measured_steps"))
    for name, x in {**arrays, **measures}.items():
        whole = name in ("steps", "test_steps", "diverged", "measured_steps")
        if x.dtype.kind not in ("iu" if whole else "f"):
            raise ValueError(f"{name} has type {x.dtype}")
        if name in measures:
            right = x.shape[:2] == (seeds, len(measured)) and x.ndim >= 4
            right &= not modules or x.shape[2] == modules
        elif name == "diverged":
            right = x.shape == (seeds,)
        elif name in ("steps", "test_steps", "times", "measured_steps"):
            right = x.ndim == 1
        else:
            right = x.shape[:2] == (seeds, len(tested) if name.startswith("test") else recorded)
            right &= x.ndim == (4 if name.endswith("outputs") else 2)
        if not right:
            raise ValueError(f"{name} has shape {x.shape}, with {seeds} seeds, {recorded} steps")
    if "train_outputs" not in arrays and not losses_alone:
        raise KeyError("train_outputs")
    if len(times) == 0 and not modules and any(m.ndim > 4 for m in measures.values()):
        raise KeyError("times")


def versions() -> dict[str, str]:
    """Versions that a rerun needs to know."""
    import torch

    from leadline._version import __version__

    return {
        "leadline": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def has_diverged(loss: float, first: float) -> bool:
    """Not finite, or 10^8 times the first recorded loss (at least 1)."""
    return not np.isfinite(loss) or loss > 1e8 * max(first, 1.0)


def too_large(error: RuntimeError) -> bool:
    """Is it PyTorch's for a factor that the tensor's precision cannot hold, such as a rate of 1e39?"""
    return "without overflow" in str(error)
