"""The loss terms of DVR: sums over the rays of all pictures, divided by the number of pictures.

With f the logit of occupancy, p the surface point that was predicted for a ray, and q a random point on it in a cube. The sums
leave the ratio of two terms to the number of rays that each is about, as in the released code.
Section 3.4 of Niemeyer et al., Differentiable Volumetric Rendering, CVPR 2020.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sdfsrn.functional.camera import Rays
from sdfsrn.functional.raymarch import compact, search_interval
from sdfsrn.models.implicit import ImplicitShape
from sdfsrn.models.occupancy import MARGIN
from sdfsrn.models.occupancy_marcher import MISSED
from sdfsrn.structures import OccupancyMarch, Views

PerRay = Float[Tensor, "b r"]


class PhotometricLoss(nn.Module):
    """|c(p) - I|_1, colours in [0, 1], for rays inside the silhouette with a predicted surface."""

    def forward(self, shape: object, rendering: OccupancyMarch, views: Views) -> Float[Tensor, ""]:
        """The sum over rays, per picture."""
        error = (rendering.color - views.color).abs().sum(-1) / 2  # [-1, 1] to [0, 1]
        return ray_sum(error, rendering.predicted & views.inside, views)


class FreespaceLoss(nn.Module):
    """softplus(f) for background rays: at p (without gradient) where a surface is predicted, else at q.

    Args:
        extent: half side of the cube around the objects; q is uniform in one 1.1 times as large.
    """

    def __init__(self, extent: float = 0.5) -> None:
        super().__init__()
        self.extent = extent

    def forward(
        self, shape: ImplicitShape, rendering: OccupancyMarch, views: Views, uniform: PerRay | None = None
    ) -> Float[Tensor, ""]:
        """The sum over rays, per picture; `uniform` in [0, 1) fixes the random draws."""
        rays = views.camera.rays(views.uv)
        depth = random_depth(rays, MARGIN * self.extent, uniform)
        depth = torch.where(rendering.predicted, rendering.depth.detach(), depth)
        return ray_sum(F.softplus(-shape.sdf(rays.at(depth))), ~views.inside, views)


class OccupancyLoss(nn.Module):
    """softplus(-f) at q for rays inside the silhouette without a predicted surface.

    Args:
        extent: half side of the cube around the objects, in which q is uniform.
        hull: take the visual hull's depth, where it is known, in place of q ("with depth").
    """

    def __init__(self, extent: float = 0.5, hull: bool = False) -> None:
        super().__init__()
        self.extent, self.hull = extent, hull
        self._checked = False  # the first batch of the training

    def forward(
        self, shape: ImplicitShape, rendering: OccupancyMarch, views: Views, uniform: PerRay | None = None
    ) -> Float[Tensor, ""]:
        """The sum over rays, per picture; `uniform` in [0, 1) fixes the random draws.

        Raises:
            ValueError: `hull` in a training whose first batch has no hull depth.
        """
        rays = views.camera.rays(views.uv)
        depth = random_depth(rays, self.extent, uniform)
        if self.hull:
            known = known_hull(views, self.training and not self._checked)
            self._checked |= self.training
            depth = torch.where(known, views.hull_depth, depth)
        return ray_sum(F.softplus(shape.sdf(rays.at(depth))), views.inside & ~rendering.predicted, views)


class NormalSmoothnessLoss(nn.Module):
    """|n(p) - n(p + e)| for all rays with a predicted surface, p without gradient; e is uniform in a cube about 0.

    Args:
        step: of the central differences that give the unit normal n, and side of the cube of e.
    """

    def __init__(self, step: float = 1e-3) -> None:
        super().__init__()
        self.step = step

    def forward(
        self, shape: ImplicitShape, rendering: OccupancyMarch, views: Views, uniform: Float[Tensor, "b r 3"] | None = None
    ) -> Float[Tensor, ""]:
        """The sum over rays, per picture; `uniform` in [0, 1) fixes the random draws."""
        if uniform is None:
            uniform = torch.rand_like(rendering.color)
        rows = compact(rendering.predicted)
        predicted, weight = (x.gather(1, rows) for x in (rendering.predicted, views.inverse_density))
        depth = torch.where(predicted, rendering.depth.detach().gather(1, rows), 1.0)
        points = views.camera.rays(views.uv).select(rows).at(depth)
        offset = (uniform.gather(1, rows[..., None].expand(-1, -1, 3)) - 0.5) * self.step
        normal, neighbour = (unit_normals(shape, x, self.step) for x in (points, points + offset))
        difference = torch.linalg.vector_norm(normal - neighbour, dim=-1)
        return (weight * torch.where(predicted, difference, 0.0)).sum() / len(weight)


class SurfaceDepthLoss(nn.Module):
    """|z - z_hull| for rays inside the silhouette with a predicted surface and a known depth of the visual hull."""

    def __init__(self) -> None:
        super().__init__()
        self._checked = False  # the first batch of the training

    def forward(self, shape: object, rendering: OccupancyMarch, views: Views) -> Float[Tensor, ""]:
        """The sum over rays, per picture.

        Raises:
            ValueError: a training whose first batch has no hull depth.
        """
        known = known_hull(views, self.training and not self._checked)
        self._checked |= self.training
        known = known & rendering.predicted
        error = torch.where(known, rendering.depth, 0.0) - torch.where(known, views.hull_depth, 0.0)
        return ray_sum(error.abs(), known & views.inside, views)


def ray_sum(value: PerRay, mask: Bool[Tensor, "b r"], views: Views) -> Float[Tensor, ""]:
    """sum of inverse_density x over the marked rays of all pictures, divided by the number of pictures."""
    return (views.inverse_density * torch.where(mask, value, 0.0)).sum() / len(value)


def random_depth(rays: Rays, half: float, uniform: PerRay | None = None) -> PerRay:
    """A depth per ray, uniform in the cube [-half, half]^3, or in [0, 5] where the ray misses it."""
    near, far, _ = search_interval(rays, half, MISSED)
    return near + (torch.rand_like(near) if uniform is None else uniform) * (far - near)


def unit_normals(shape: ImplicitShape, points: Float[Tensor, "b n 3"], step: float) -> Float[Tensor, "b n 3"]:
    """Outward unit vectors along central differences over `step`; shorter ones where these are below 1e-5."""
    offset = step / 2 * torch.eye(3, dtype=points.dtype, device=points.device)
    pairs = points[..., None, None, :] + torch.stack([offset, -offset])
    after, before = shape.sdf(pairs.flatten(1, 3)).unflatten(1, pairs.shape[1:-1]).unbind(-2)
    return F.normalize((after - before) / step, dim=-1, eps=1e-5)


def known_hull(views: Views, required: bool) -> Bool[Tensor, "b r"]:
    """Where the depth of the visual hull is known.

    Raises:
        ValueError: nowhere in the batch, if it is `required`, for which a GPU is waited for.
    """
    known = torch.isfinite(views.hull_depth)
    if required and not known.any():
        raise ValueError(
            "Expected depths of visual hulls, got none: set data.hull_depth=true, for data with several views of each "
            "object (`python -m sdfsrn.prepare` makes them ahead); for single views take model=dvr."
        )
    return known
