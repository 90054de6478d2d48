"""DVR's implicit functions: one network for all objects, to which the latent code is added in every block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sdfsrn.functional.isosurface import Grid
from sdfsrn.models.implicit import ImplicitShape

MARGIN = 1.1  # half side of the cube that rays are searched in, over that of the cube around the objects


class Affine(NamedTuple):
    """One linear layer, the same for all objects: y = W x + b."""

    weight: Float[Tensor, "o i"]
    bias: Float[Tensor, " o"]

    def __call__(self, x: Float[Tensor, "b n i"]) -> Float[Tensor, "b n o"]:
        """Apply the layer to the points of all objects."""
        return F.linear(x, self.weight, self.bias)


class Block(NamedTuple):
    """y = x + shift, then y + W1 relu(W0 relu(y)), biases included; the shift is the object's own."""

    shift: Float[Tensor, "b 1 h"]
    hidden: Affine  # W0
    residual: Affine  # W1


class OccupancyField(ImplicitShape):
    """Occupancy and colour of a batch of objects: f = -logit of the probability of "inside", and RGB.

    Args:
        point: layer of a point in the unit cube.
        blocks: residual blocks, with the objects' latent codes in their shifts.
        head: layer to the logit and three colours before their sigmoid.
        extent: half side of the cube around the objects, world unit.
        clip: meshes end at the cube of half side 1.1 `extent`, outside of which f was never trained.
    """

    def __init__(self, point: Affine, blocks: Sequence[Block], head: Affine, extent: float, clip: bool) -> None:
        self.point, self.blocks, self.head = point, blocks, head
        self.extent, self.clip, self.grid = extent, clip, Grid()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.bias.device

    def __call__(self, points: Float[Tensor, "b n 3"]) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n 3"]]:
        """-logit (negative inside) and the colours before their sigmoid."""
        x = self.point(points / (2 * self.extent))
        for shift, hidden, residual in self.blocks:
            x = x + shift
            x = x + residual(F.relu(hidden(F.relu(x))))
        output = self.head(F.relu(x))
        return -output[..., 0], output[..., 1:]

    def color(self, feature: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n 3"]:
        """RGB in [-1, 1]: 2 sigmoid(x) - 1 = tanh(x / 2)."""
        return torch.tanh(feature / 2)

    def gradient(self, points: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n 3"]:
        """grad f in closed form; f is linear in pieces."""
        x, positive = self.point(points / (2 * self.extent)), []
        for shift, hidden, residual in self.blocks:
            x = x + shift
            inner = hidden(F.relu(x))
            positive.append((x > 0, inner > 0))
            x = x + residual(F.relu(inner))
        gradient = self.head.weight[0] * (x > 0)
        for block, (outer, inner) in zip(reversed(self.blocks), reversed(positive), strict=True):
            gradient = gradient + outer * ((inner * (gradient @ block.residual.weight)) @ block.hidden.weight)
        return -(gradient @ self.point.weight) / (2 * self.extent)

    def clipped_sdf(self, points: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n"]:
        """max(f, distance from the cube of half side 1.1 extent) with `clip`, else f."""
        sdf = self.sdf(points)
        return torch.maximum(sdf, points.abs().amax(-1) - MARGIN * self.extent) if self.clip else sdf

    def detach(self) -> OccupancyField:
        """The same functions, with weights that no gradient reaches."""
        return self._map(lambda layer: Affine(*map(Tensor.detach, layer)), Tensor.detach)

    def __getitem__(self, objects: slice) -> OccupancyField:
        """The functions of some of the objects."""
        return self._map(lambda layer: layer, lambda shift: shift[objects])

    def _map(self, layer: Callable[[Affine], Affine], shift: Callable[[Tensor], Tensor]) -> OccupancyField:
        """The functions with changed layers and shifts."""
        blocks = [Block(shift(own), layer(hidden), layer(residual)) for own, hidden, residual in self.blocks]
        field = OccupancyField(layer(self.point), blocks, layer(self.head), self.extent, self.clip)
        field.grid = self.grid
        return field


class OccupancyDecoder(nn.Module):
    """Latent code to `OccupancyField`. Niemeyer et al., Differentiable Volumetric Rendering, CVPR 2020.

    Args:
        latent_dim: channels of the latent code.
        width: hidden units.
        num_blocks: residual blocks, each of which starts as its shortcut.
        extent, clip: see `OccupancyField`.

    Raises:
        ValueError: widths or an extent that are not positive.
    """

    def __init__(self, latent_dim: int, width: int = 128, num_blocks: int = 5, extent: float = 0.5, clip: bool = True) -> None:
        super().__init__()
        if min(latent_dim, width, num_blocks) < 1 or not extent > 0:
            raise ValueError(f"Expected positive sizes, got {latent_dim=}, {width=}, {num_blocks=}, {extent=}.")
        self.latent_dim, self.width, self.num_blocks = latent_dim, width, num_blocks
        self.extent, self.clip = extent, clip
        self.point = nn.Linear(3, width)
        self.shift = nn.ModuleList(nn.Linear(latent_dim, width) for _ in range(num_blocks))
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(num_blocks))
        self.residual = nn.ModuleList(nn.Linear(width, width) for _ in range(num_blocks))
        self.head = nn.Linear(width, 4)
        for layer in self.residual:
            nn.init.zeros_(layer.get_parameter("weight"))

    def forward(self, latent: Float[Tensor, "b l"]) -> OccupancyField:
        """The implicit functions of every object in the batch."""
        parts = zip(self.shift, self.hidden, self.residual, strict=True)
        blocks = [Block(shift(latent)[:, None], _affine(hidden), _affine(residual)) for shift, hidden, residual in parts]
        return OccupancyField(_affine(self.point), blocks, _affine(self.head), self.extent, self.clip)


def _affine(layer: nn.Module) -> Affine:
    return Affine(layer.get_parameter("weight"), layer.get_parameter("bias"))
