"""Random points that loss terms look at."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sdfsrn.models.implicit import ImplicitShape
from sdfsrn.structures import Views


def check_depths(near: float, far: float) -> None:
    """Refuse an impossible range of depths.

    Raises:
        ValueError: with the range.
    """
    if not 0 <= near < far:
        raise ValueError(f"Expected 0 <= near < far for the depths of a loss, got {near=}, {far=}.")


def random_depths(
    views: Views, near: float, far: float, num_samples: int, uniform: Float[Tensor, "b r m"] | None = None
) -> Float[Tensor, "b r m"]:
    """Depths per ray, uniform between `near` and `far`; `uniform` in [0, 1) fixes the draws."""
    if uniform is None:
        uniform = torch.rand(*views.distance.shape, num_samples, dtype=views.uv.dtype, device=views.uv.device)
    return near + uniform * (far - near)


def sdf_at(field: ImplicitShape, views: Views, depth: Float[Tensor, "b r m"]) -> Float[Tensor, "b r m"]:
    """f at depths on the rays of the views."""
    return field.sdf(views.camera.rays(views.uv).at(depth).flatten(1, 2)).view_as(depth)
