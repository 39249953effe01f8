"""The dense residual network as an ordinary ``nn.Module``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter, is_lazy

from leadline.available import check_available
from leadline.dense.forward import Architecture, Weights, forward, param_groups
from leadline.dense.weights import HIDDEN, INPUT, READOUT, fill, fill_all, generator
from leadline.errors import check_int

if TYPE_CHECKING:
    from leadline.recipes.sgd import SGD


class DenseResNet(nn.Module):
    """A ``ResNet`` of given width n and depth L; usually built by ``ResNet.module``.

    Its parameters are ``input`` U (n, d), ``hidden``, a list of every W (n, n), block-major, and
    ``readout`` v (n, C), all with N(0, 1) entries: the multipliers are in the forward pass, which
    maps (*, d) to (*, C). They are the weights of run 0 of ``train(..., seed=seed)``.

    Args:
        network: the architecture and scheme.
        width: n ≥ 1.
        depth: number of residual blocks L ≥ 1.
        seed: of the initial weights, ≥ 0.
        inputs: input dimension d ≥ 1; None takes it from the first batch or state dict.
        outputs: number of outputs C ≥ 1.
        dtype: of the parameters; None is PyTorch's default.
        device: of the parameters.

    Raises:
        ValueError, TypeError: naming the argument, its value and the remedy.
        MemoryError: the weights do not fit into the memory that is available.
    """

    def __init__(
        self,
        network: Architecture,
        width: int,
        depth: int,
        seed: int = 0,
        *,
        inputs: int | None = None,
        outputs: int = 1,
        dtype: torch.dtype | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__()
        n, self.depth = check_int("width", width, 1), check_int("depth", depth, 1)
        self.seed = check_int("seed", seed, 0)
        c = check_int("outputs", outputs, 1)
        d = None if inputs is None else check_int("inputs", inputs, 1)
        self.network = network
        self.width = n
        # They are drawn on the CPU, one after the other where they are kept elsewhere.
        parts = [n * n] * (self.depth * network.block_layers) + [n * c, n * (d or 0)]
        count = sum(parts) if torch.device(device).type == "cpu" else max(parts)
        size = (dtype or torch.get_default_dtype()).itemsize
        check_available(f"width={n}, depth={depth}, outputs={c}", {"weights": count * size})

        def empty(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape, dtype=dtype, device=device))

        self.input: Any = UninitializedParameter() if d is None else empty(n, d)
        self.hidden = nn.ParameterList(
            empty(n, n) for _ in range(self.depth * network.block_layers)
        )
        self.readout = empty(n, c)
        tasks = [(w, generator(self.seed, 0, HIDDEN, i)) for i, w in enumerate(self.hidden)]
        tasks.append((self.readout, generator(self.seed, 0, READOUT)))
        if d is not None:
            tasks.append((self.input, generator(self.seed, 0, INPUT)))
        fill_all(tasks)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (*, C) of inputs (*, d)."""
        if is_lazy(self.input):
            self._materialize(x.shape[-1])
            fill(self.input, generator(self.seed, 0, INPUT))
        d = self.input.shape[-1]
        if x.shape[-1] != d:
            raise ValueError(f"x has {x.shape[-1]} features in its last axis: give (*, {d})")
        return forward(self.network, self._weights(), x)

    def param_groups(self, sgd: SGD) -> list[dict[str, Any]]:
        """Groups for ``torch.optim.SGD``, with the rates and decays of this width and depth.

        Only the weights in ``sgd.train`` are listed. ``sgd.schedule`` (a multiplier of every lr)
        and ``sgd.center`` are not part of the groups.

        Raises:
            ValueError: if the input dimension is not known yet.
        """
        if is_lazy(self.input):
            raise ValueError("inputs=None is still open: run one batch first, or give inputs")
        return param_groups(self.network, sgd, self._weights(), self.depth)

    def extra_repr(self) -> str:
        """Width, depth and the network."""
        return f"width={self.width}, depth={self.depth}, seed={self.seed}, {self.network}"

    def _weights(self) -> Weights:
        return Weights(self.input, list(self.hidden), self.readout)

    def _materialize(self, inputs: int) -> None:
        with torch.no_grad():
            like = self.readout
            self.input.materialize((self.width, inputs), like.device, like.dtype)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        if not is_lazy(self.input):
            super()._save_to_state_dict(destination, prefix, keep_vars)
            return
        # An open input has no values to detach: it is stored as it is, like nn.LazyLinear's.
        destination[prefix + "readout"] = self.readout if keep_vars else self.readout.detach()
        destination[prefix + "input"] = self.input

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        stored = state_dict.get(prefix + "input")
        if is_lazy(self.input) and stored is not None and not is_lazy(stored):
            self._materialize(stored.shape[-1])
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
