"""The terms of the objective: each knows which quantities of a batch its equation needs."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sdfsrn.functional import losses
from sdfsrn.losses.sampling import check_depths, random_depths, sdf_at
from sdfsrn.models.field import Field
from sdfsrn.structures import March, Rendering, Views


class SilhouetteLoss(nn.Module):
    """L_SDF, eq. (4): f is no smaller than the lower bound at random depths of background rays.

    Args:
        near, far: range of depths, uniform.
        num_samples: M, depths per ray.
        importance: weigh rays by 1 / D(u).
    """

    def __init__(self, near: float, far: float, num_samples: int = 5, importance: bool = True) -> None:
        super().__init__()
        check_depths(near, far)
        self.near, self.far, self.num_samples, self.importance = near, far, num_samples, importance

    def forward(
        self, shape: Field, rendering: Rendering, views: Views, uniform: Float[Tensor, "b r m"] | None = None
    ) -> Float[Tensor, ""]:
        """The mean over the batch; `uniform` in [0, 1) fixes the random draws."""
        depth = random_depths(views, self.near, self.far, self.num_samples, uniform)
        bound = views.camera.lower_bound(depth, views.uv, views.distance)
        weight = views.ray_weight(self.importance)
        return losses.silhouette_loss(sdf_at(shape, views, depth), bound, weight, views.inside)


class RaySurfaceLoss(nn.Module):
    """L_ray, eq. (7), at the last marched point: inside the shape if and only if the pixel is inside the silhouette.

    Args:
        margin: epsilon.
        importance: weigh rays by 1 / D(u).
        balance: average foreground and background separately (released code).
    """

    def __init__(self, margin: float = 0.01, importance: bool = True, balance: bool = False) -> None:
        super().__init__()
        self.margin, self.importance, self.balance = margin, importance, balance

    def forward(self, shape: Field, rendering: March, views: Views) -> Float[Tensor, ""]:
        """The mean over the batch."""
        last_sdf, weight = rendering.visited_sdf[..., -1], views.ray_weight(self.importance)
        return losses.ray_surface_loss(last_sdf, weight, views.inside, self.margin, self.balance)


class RayFreeLoss(nn.Module):
    """L_ray, eq. (7), at all points before the last: free space.

    Args:
        margin: epsilon.
        importance: weigh rays by 1 / D(u) (the released code does not).
    """

    def __init__(self, margin: float = 0.01, importance: bool = True) -> None:
        super().__init__()
        self.margin, self.importance = margin, importance

    def forward(self, shape: Field, rendering: March, views: Views) -> Float[Tensor, ""]:
        """The mean over the batch."""
        return losses.ray_free_loss(rendering.visited_sdf[..., :-1], views.ray_weight(self.importance), self.margin)


class ColorLoss(nn.Module):
    """L_RGB, eq. (8), over all rays; the background has its colour too.

    Args:
        foreground: only over the rays of the silhouette, so that no colour stands in for a surface that is missing, and g need
            not be white around objects.
    """

    def __init__(self, foreground: bool = False) -> None:
        super().__init__()
        self.foreground = foreground

    def forward(self, shape: object, rendering: Rendering, views: Views) -> Float[Tensor, ""]:
        """The mean over the batch."""
        weight = views.ray_weight(importance=False)
        return losses.color_loss(rendering.color, views.color, weight * views.inside if self.foreground else weight)


class EikonalLoss(nn.Module):
    """L_eik, eq. (10), at uniform random points of the cube [low, high]^3.

    Args:
        low, high: of the cube, world frame.
        num_points: per object.
    """

    def __init__(self, low: float = -1.0, high: float = 1.0, num_points: int = 10_000) -> None:
        super().__init__()
        self.low, self.high, self.num_points = low, high, num_points

    def forward(
        self, shape: Field, rendering: object, views: Views, uniform: Float[Tensor, "b n 3"] | None = None
    ) -> Float[Tensor, ""]:
        """The mean over the batch; `uniform` in [0, 1) fixes the random draws."""
        if uniform is None:
            uniform = torch.rand(len(views.uv), self.num_points, 3, dtype=views.uv.dtype, device=views.uv.device)
        points = self.low + uniform * (self.high - self.low)
        return shape.eikonal_loss(points) if isinstance(shape, Field) else losses.eikonal_loss(shape.gradient(points))
