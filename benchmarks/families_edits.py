"""What the refusals of some families ask to change in the model or its config, changed."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import torch
from families_configs import Family
from torch import Tensor, nn


def config(**values: Any) -> Callable[[Family], Family]:
    """Other values in the config."""

    def change(f: Family) -> Family:
        return dataclasses.replace(f, extra=lambda w, depth: f.extra(w, depth) | values)

    return change


def model(edit: Callable[[Any], None]) -> Callable[[Family], Family]:
    """A change of the model that was built."""

    def change(f: Family) -> Family:
        return dataclasses.replace(f, edit=edit)

    return change


class Normed(nn.Module):
    """Perceiver's decoder behind an affine norm."""

    def __init__(self, decoder: nn.Module, width: int) -> None:
        super().__init__()
        self.norm, self.decoder = nn.LayerNorm(width), decoder

    def forward(self, hidden_states: Tensor, embedding_layer: nn.Module) -> Tensor:
        return self.decoder(self.norm(hidden_states), embedding_layer=embedding_layer)


def normed(m: Any) -> None:
    """An affine norm before the tied readout."""
    m.embedding_decoder = Normed(m.embedding_decoder, m.config.d_model)


class Readout(nn.Module):
    """MobileBERT's head with one plain weight."""

    def __init__(self, head: Any, width: int, vocabulary: int) -> None:
        super().__init__()
        self.transform, self.decoder = head.transform, nn.Linear(width, vocabulary)
        nn.init.normal_(self.decoder.weight, std=0.02)

    def forward(self, hidden_states: Tensor) -> Tensor:
        return self.decoder(self.transform(hidden_states))


def plain_readout(m: Any) -> None:
    """One plain weight in place of a table and a matrix, concatenated."""
    m.cls.predictions = Readout(m.cls.predictions, m.config.hidden_size, m.config.vocab_size)


def plain_convolutions(m: Any) -> None:
    """Convolutions without weight standardization."""
    for name, old in list(m.named_modules()):
        if type(old).__name__ == "WeightStandardizedConv2d":
            new = nn.Conv2d(
                old.in_channels, old.out_channels, old.kernel_size, old.stride, old.padding,
                old.dilation, old.groups, old.bias is not None,
            )  # fmt: skip
            m.set_submodule(name, new)


def mean_square(m: Any) -> None:
    """SwiftFormer's queries and keys divided by the root of their mean square, not of its sum."""

    def unit(x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)

    def forward(self: Any, x: Tensor) -> Tensor:
        query, key = unit(self.to_query(x)), unit(self.to_key(x))
        weights = (query @ self.w_g * self.scale_factor).softmax(dim=-1)
        pooled = (weights * query).sum(dim=1, keepdim=True)
        return self.final(self.proj(pooled * key) + query)

    for each in m.modules():
        if type(each).__name__ == "SwiftFormerEfficientAdditiveAttention":
            each.forward = forward.__get__(each)


def unscaled_pooler(m: Any) -> None:
    """Gemma 4's pooled pictures times a constant."""
    m.pooler.root_hidden_size = 8.0


def root_mean_square(m: Any) -> None:
    """SuperPoint's descriptors of root mean square 1, where they are made and where they are sampled."""
    decoder = m.descriptor_decoder

    def unit(x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-6)

    def forward(self: Any, encoded: Tensor, keypoints: Tensor) -> Tensor:
        made = unit(self.conv_descriptor_b(self.relu(self.conv_descriptor_a(encoded))))
        x, y = (keypoints.reshape(-1, 2)[:, k].long().div(8, rounding_mode="floor") for k in (0, 1))
        return unit(made[:1, :, y, x])[0].T

    decoder.forward = forward.__get__(decoder)


def root_mean_square_inside(m: Any) -> None:
    """The same of LightGlue's SuperPoint; and its logits over the size of what they are products of."""
    root_mean_square(m.keypoint_detector)
    for each in m.match_assignment_layers:
        each.descriptor_dim **= 2  # Queries and keys are divided by its fourth root.


class Scaled(nn.Module):
    """A module whose first input, or whose output, is divided by a number."""

    def __init__(self, module: Any, before: float = 1.0, behind: float = 1.0) -> None:
        super().__init__()
        self.module, self.before, self.behind = module, before, behind

    def forward(self, x: Tensor, *inputs: Any) -> Tensor:
        return self.module(x / self.before, *inputs) / self.behind


def mean_matches(m: Any) -> None:
    """Grounding DINO's products of pictures and words over their number."""
    for name, each in list(m.named_modules()):
        if type(each).__name__ == "GroundingDinoContrastiveEmbedding":
            m.set_submodule(name, Scaled(each, before=m.config.d_model))


def mean_scores(m: Any) -> None:
    """SuperGlue's scores over the number of their terms, its descriptors of root mean square 1."""
    root_mean_square(m.keypoint_detector)
    m.final_projection = Scaled(m.final_projection, behind=m.config.hidden_size**0.25)


class OneGroup(nn.Module):
    """A norm of each time's pictures by means, with a gain for every channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = x - x.mean((-2, -1), keepdim=True)
        return y * torch.rsqrt(y.square().mean((-2, -1), keepdim=True) + 1e-3) * self.weight


def one_group(m: Any) -> None:
    """Gemma 3n's audio without sums over the times before."""
    for name, each in list(m.named_modules()):
        if type(each).__name__ == "Gemma3nAudioCumulativeGroupNorm":
            m.set_submodule(name, OneGroup(each.num_channels))


def constant_bins(m: Any) -> None:
    """VITS's bins of a spline over a constant."""
    for each in m.modules():
        if type(each).__name__ == "VitsConvFlow":
            each.filter_channels = 64


def constant_scales(m: Any) -> None:
    """Dory's states of root mean square 1 in place of norm 1, and numbers that stay as width grows."""
    for each in m.modules():
        if type(each).__name__ == "DoryL2Norm":
            each._norm = lambda x: x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)
        for name in ("suv_scale", "s_gate_scale", "sqk_scale"):
            if hasattr(each, name):
                setattr(each, name, 1.0)


def constant_logits(m: Any) -> None:
    """Inkling's learned queries for the states of earlier blocks, over a constant number."""

    def forward(self: Any, blocks: Tensor, last: Tensor, index: int | None = None) -> Any:
        states = self.norm(torch.cat([blocks, last.unsqueeze(-2)], -2).float())
        query = (self.query if index is None else self.query[index]).view(-1, states.shape[-1])
        shares = (states @ query.T / 8).softmax(-2)
        out = shares.transpose(-1, -2) @ states
        return out.unbind(-2) if index is None else out

    for each in m.modules():
        if type(each).__name__.endswith("AttentionResidual"):
            each.forward = forward.__get__(each)


def orthonormal(m: Any) -> None:
    """FNet's Fourier transforms, orthonormal."""
    for each in m.modules():
        if hasattr(each, "fourier_transform"):
            each.fourier_transform = functools.partial(torch.fft.fftn, dim=(1, 2), norm="ortho")


def constant_inputs(m: Any) -> None:
    """FastSpeech 2's inputs of encoder and decoder times a constant."""
    for each in m.modules():
        if hasattr(each, "input_scale"):
            each.input_scale = 8.0


EDITS: dict[str, tuple[str, Callable[[Family], Family]]] = {
    "speech_to_text": ("scale_embedding=False", config(scale_embedding=False)),
    "patchtsmixer": ("gated_attn=False", config(gated_attn=False)),
    "prophetnet": ("tie_word_embeddings=False", config(tie_word_embeddings=False)),
    "perceiver": ("a LayerNorm before the readout", model(normed)),
    "mobilebert": ("a plain readout", model(plain_readout)),
    "bit": ("plain convolutions", model(plain_convolutions)),
    "inkling2_loop_text": ("logits over a constant", model(constant_logits)),
    "fnet": ("norm='ortho'", model(orthonormal)),
    "encodec": (
        "norm_type='time_group_norm', use_conv_shortcut=False",
        config(norm_type="time_group_norm", use_conv_shortcut=False),
    ),
    "fastspeech2_conformer": ("a constant scale of inputs", model(constant_inputs)),
    "gemma4_vision": ("a constant pooler", model(unscaled_pooler)),
    "superpoint": ("root mean squares in place of norms", model(root_mean_square)),
    "dory": ("root mean squares in place of norms, constant scales", model(constant_scales)),
    "neomme": ("tie_word_embeddings=False", config(tie_word_embeddings=False)),
    "diffusion_gemma": ("tie_word_embeddings=False", config(tie_word_embeddings=False)),
    "grounding-dino": ("means in place of sums", model(mean_matches)),
    "superglue": (
        "root mean squares in place of norms, means in place of sums",
        model(mean_scores),
    ),
    "gemma3n_audio": ("means in place of sums", model(one_group)),
    "lightglue": (
        "root mean squares in place of norms, logits over d",
        model(root_mean_square_inside),
    ),
    "univnet": ("model_hidden_channels=8", config(model_hidden_channels=8)),
    "vits": ("a constant scale of bins", model(constant_bins)),
    "swiftformer": ("the mean in place of the sum", model(mean_square)),
}
"""By type: what is changed, in words, and the family changed so."""
