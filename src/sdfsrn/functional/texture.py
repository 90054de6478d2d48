"""Texture flow: from points on a sphere to places in a picture, and the barrier that keeps them in its silhouette."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from sdfsrn.functional.silhouette import distance_transform


def sphere_uv(points: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 2"]:
    """(u, v) = (atan2(y, x) / pi, 2 arccos(z / |p|) / pi - 1) in [-1, 1]^2.

    >>> sphere_uv(torch.tensor([0.0, 1.0, 0.0]))
    tensor([0.5000, 0.0000])
    """
    x, y, z = points.unbind(-1)
    height = (z / points.norm(dim=-1).clamp(min=1e-12)).clamp(-1, 1)
    return torch.stack([torch.atan2(y, x) / math.pi, 2 * height.arccos() / math.pi - 1], -1)


def sample_map(values: Float[Tensor, "b c h w"], at: Float[Tensor, "b n 2"], padding: str = "zeros") -> Float[Tensor, "b n c"]:
    """Bilinear values of maps at screen coordinates (x, y), whose -1 is the outer corner of the first pixel."""
    sampled: Tensor = F.grid_sample(values, at[:, :, None], mode="bilinear", padding_mode=padding, align_corners=False)
    return sampled[..., 0].mT


def barrier(mask: Bool[Tensor, "b h w"], steepness: float = 50.0) -> Float[Tensor, "b h w"]:
    """B = sigmoid(k (d_out - d_in) / side) of a silhouette: near 0 inside, near 1 outside.

    d_out and d_in are the distances in pixels between a pixel's centre and that of the nearest one inside, respectively
    outside; 0 for a pixel that is so itself. `side` is the width of the picture.
    """
    outside, inside = distance_transform(torch.stack([mask, ~mask]), half=0.0).clamp(max=2.0 * max(mask.shape[-2:]))
    return torch.sigmoid(steepness * (outside - inside) / mask.shape[-1])
