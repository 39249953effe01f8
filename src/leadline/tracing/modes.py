"""What sees every operation of PyTorch, without importing the compiler.

Its import takes two seconds, more than a plan. PyTorch (2.13) imports it where the method of a mode, or a
random draw of a tensor without memory, is marked as none to compile.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class OperationMode(TorchDispatchMode):
    """A mode whose ``__torch_dispatch__`` is called as it stands."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


class NothingDrawn(OperationMode):
    """Random draws pass over tensors without memory."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        random = torch.Tag.nondeterministic_seeded in func.tags
        if random and func._schema.name.endswith("_") and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))
