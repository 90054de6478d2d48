"""The terms of the objective as objects: each knows which quantities of a batch its equation needs."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sdfsrn.functional import losses
from sdfsrn.models.field import Field
from sdfsrn.structures import March, Views


class SilhouetteLoss(nn.Module):
    """L_SDF, eq. (4): f is no smaller than the lower bound at random depths of background rays.

    Args:
        num_samples: M depths a ray.
        near, far: range of depths, uniform.
        importance: weigh rays by 1 / D(u).
        occupancy: cross-entropy instead of the bound (Table 3).
    """

    def __init__(self, near: float, far: float, num_samples: int = 5, importance: bool = True, occupancy: bool = False) -> None:
        super().__init__()
        if not 0 <= near < far:
            raise ValueError(f"Expected 0 <= near < far for the silhouette loss, got {near=}, {far=}.")
        self.near, self.far, self.num_samples = near, far, num_samples
        self.importance, self.occupancy = importance, occupancy

    def forward(
        self, field: Field, march: March, views: Views, uniform: Float[Tensor, "b r m"] | None = None
    ) -> Float[Tensor, ""]:
        """`uniform` in [0, 1) fixes the random draws."""
        if uniform is None:
            uniform = torch.rand(*views.distance.shape, self.num_samples, device=views.uv.device)
        depth = self.near + uniform * (self.far - self.near)
        sdf = field.sdf(views.camera.rays(views.uv).at(depth).flatten(1, 2)).view_as(depth)
        weight = views.ray_weight(self.importance)
        if self.occupancy:
            return losses.free_occupancy_loss(sdf, weight, views.inside)
        bound = views.camera.lower_bound(depth, views.uv, views.distance)
        return losses.silhouette_loss(sdf, bound, weight, views.inside)


class RaySurfaceLoss(nn.Module):
    """L_ray, eq. (7), at the last marched point: inside the shape if and only if the pixel is inside the silhouette.

    Args:
        margin: epsilon.
        importance: weigh rays by 1 / D(u).
        balance: average foreground and background on their own (released code).
        occupancy: cross-entropy instead of the hinge (Table 3).
    """

    def __init__(self, margin: float = 0.01, importance: bool = True, balance: bool = False, occupancy: bool = False) -> None:
        super().__init__()
        self.margin, self.importance, self.balance, self.occupancy = margin, importance, balance, occupancy

    def forward(self, field: Field, march: March, views: Views) -> Float[Tensor, ""]:
        """One number for the batch."""
        weight = views.ray_weight(self.importance)
        if self.occupancy:
            return losses.surface_occupancy_loss(march.visited_sdf[..., -1], weight, views.inside)
        return losses.ray_surface_loss(march.visited_sdf[..., -1], weight, views.inside, self.margin, self.balance)


class RayFreeLoss(nn.Module):
    """L_ray, eq. (7), at all points before the last: free space.

    Args:
        margin: epsilon.
        importance: weigh rays by 1 / D(u) (the released code does not).
        occupancy: cross-entropy instead of the hinge (Table 3).
    """

    def __init__(self, margin: float = 0.01, importance: bool = True, occupancy: bool = False) -> None:
        super().__init__()
        self.margin, self.importance, self.occupancy = margin, importance, occupancy

    def forward(self, field: Field, march: March, views: Views) -> Float[Tensor, ""]:
        """One number for the batch."""
        weight = views.ray_weight(self.importance)
        if self.occupancy:
            return losses.visited_occupancy_loss(march.visited_sdf[..., :-1], weight)
        return losses.ray_free_loss(march.visited_sdf[..., :-1], weight, self.margin)


class ColorLoss(nn.Module):
    """L_RGB, eq. (8), over all rays; the background has its colour too."""

    def forward(self, field: Field, march: March, views: Views) -> Float[Tensor, ""]:
        """One number for the batch."""
        return losses.color_loss(march.color, views.color, views.ray_weight(importance=False))


class EikonalLoss(nn.Module):
    """L_eik, eq. (10), at uniform random points of the cube [low, high]^3.

    Args:
        low, high: world frame.
        num_points: an object.
    """

    def __init__(self, low: float = -1.0, high: float = 1.0, num_points: int = 10_000) -> None:
        super().__init__()
        self.low, self.high, self.num_points = low, high, num_points

    def forward(
        self, field: Field, march: March, views: Views, uniform: Float[Tensor, "b n 3"] | None = None
    ) -> Float[Tensor, ""]:
        """`uniform` in [0, 1) fixes the random draws."""
        if uniform is None:
            uniform = torch.rand(len(views.uv), self.num_points, 3, device=views.uv.device)
        points = self.low + uniform * (self.high - self.low)
        return field.mean(lambda part, x: losses.eikonal_loss(part.gradient(x)), points)
