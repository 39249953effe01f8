"""The ``leadline`` program; torch, NumPy and plotly are imported only inside commands."""

from leadline.cli.program import main

__all__ = ["main"]
