"""The hypernetwork: from a latent code to the weights of an object's implicit functions."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sdfsrn.models.field import Field, FieldConfig, Linear


class Hypernetwork(nn.Module):
    """(theta, phi) = E(latent): a separate branch of fully-connected layers for every layer of the implicit functions.

    Section 3.3 and appendix C, arXiv:2010.10505.

    Args:
        latent_dim: channels of the latent code.
        hidden_width, num_hidden: of every branch (six of 512 for ShapeNet, two of 256 for PASCAL3D+).
        field: architecture of the implicit functions.

    Attributes:
        bands: weights of the encoding's frequencies, (L,), where they change in training, see `CoarseToFine`; else None.
    """

    bands: Tensor | None

    def __init__(self, latent_dim: int, hidden_width: int, num_hidden: int, field: FieldConfig) -> None:
        super().__init__()
        if min(latent_dim, hidden_width) < 1 or num_hidden < 0:
            raise ValueError(f"Expected positive widths, got {latent_dim=}, {hidden_width=}, {num_hidden=}.")
        self.latent_dim, self.hidden_width, self.num_hidden = latent_dim, hidden_width, num_hidden
        self.field = field
        self.register_buffer("bands", None)
        self.branches = nn.ModuleList(
            _branch(latent_dim, hidden_width, num_hidden, inputs, outputs) for inputs, outputs in field.layers
        )

    def forward(self, latent: Float[Tensor, "b l"]) -> Field:
        """The implicit functions of every object in the batch."""
        return Field(self.layers(latent), self.field)

    def layers(self, latent: Float[Tensor, "b l"]) -> list[Linear]:
        """Their linear layers, in the order of `FieldConfig.layers`."""
        layers = []
        for branch, (inputs, outputs) in zip(self.branches, self.field.layers, strict=True):
            parameters = branch(latent).unflatten(-1, (inputs + 1, outputs))
            layers.append(Linear(bias=parameters[:, :1], weight=parameters[:, 1:]))
        if self.bands is not None:
            encoded = self.field.depth if self.field.skip else 1  # layers that see the encoded point
            layers[:encoded] = [_weighed(layer, self.bands) for layer in layers[:encoded]]
        return layers

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        stored = state_dict.get(f"{prefix}bands")
        if stored is not None and self.bands is None:
            self.bands = torch.ones_like(stored, device=next(self.parameters()).device)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _weighed(layer: Linear, bands: Float[Tensor, " f"]) -> Linear:
    """A layer whose rows for the frequencies, its last inputs, are multiplied by their weights."""
    waves = bands.repeat_interleave(6)  # cos and sin of x, y, z
    others = waves.new_ones(layer.weight.shape[1] - len(waves))
    return Linear(layer.bias, layer.weight * torch.cat([others, waves])[:, None])


def _branch(latent_dim: int, hidden_width: int, num_hidden: int, inputs: int, outputs: int) -> nn.Sequential:
    widths = [latent_dim, *[hidden_width] * num_hidden, (inputs + 1) * outputs]
    layers: list[nn.Module] = []
    for k_in, k_out in itertools.pairwise(widths):
        layers += [nn.Linear(k_in, k_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
