"""The ``leadline`` program; torch, NumPy and plotly are imported only inside commands.

program                      ``main``; solve, train, limit, lazy, compare, kernels
models, results, laws        plan, check, explain; runs, report; forecast
sweeps                       sweep, transfer, study
flags, values                options, and what their text means
lifecycle, outputs           errors in one line, interruptions; where results are written
prediction, processes        --dry-run; several processes started by torchrun
"""

from leadline.cli.program import main

__all__ = ["main"]
