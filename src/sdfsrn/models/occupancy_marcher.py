"""DVR's ray marcher: the first change from free to occupied space among evenly spaced points in a cube."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sdfsrn.functional.camera import Rays
from sdfsrn.functional.raymarch import bisect, compact, first_crossing, implicit_depth, search_interval, secant
from sdfsrn.models.occupancy import MARGIN, OccupancyField
from sdfsrn.structures import OccupancyMarch

MISSED = 5.0  # depths [0, MISSED] stand for the cube where a ray misses it
MIN_SLOPE = 1e-3  # of f along a ray; flatter surfaces count as this steep
CHUNK = 2**18  # points evaluated at a time


class OccupancyMarcher(nn.Module):
    """Looks at N depths, refines the first change from free to occupied, and gives it its true derivative.

    Section 3.2 of Niemeyer et al., Differentiable Volumetric Rendering, CVPR 2020; N and its doubling as in their code.

    Args:
        extent: half side of the cube around the objects; rays are searched in one 1.1 times as large.
        num_samples: N of training at first.
        doublings: training steps after which N doubles.
        num_test_samples: N of evaluation.
        num_refinements: steps of the refinement.
        refinement: `secant` or `bisection`.
        first_occupied: where the first point is inside the shape, the surface is `predicted` at depth 0, as in the released
            code (so the loss of free space looks at the camera's centre, and space at the cube's side is never carved), or
            the ray is `free` of a predicted surface, and its losses look at random points.
        search_missed: search rays that miss the cube too, at depths from 0 to 5, as the released code does.

    Raises:
        ValueError: another name, or impossible numbers.
    """

    def __init__(
        self,
        extent: float = 0.5,
        num_samples: int = 16,
        doublings: Sequence[int] = (50_000, 100_000, 250_000),
        num_test_samples: int = 128,
        num_refinements: int = 8,
        refinement: str = "secant",
        first_occupied: str = "predicted",
        search_missed: bool = False,
    ) -> None:
        super().__init__()
        if refinement not in ("secant", "bisection") or first_occupied not in ("predicted", "free"):
            got = f"{refinement}, {first_occupied}"
            raise ValueError(f"Expected refinement=secant|bisection and first_occupied=predicted|free, got {got}.")
        if min(num_samples, num_test_samples) < 2 or num_refinements < 0 or not extent > 0:
            got = f"{num_samples=}, {num_test_samples=}, {num_refinements=}, {extent=}"
            raise ValueError(f"Expected at least two samples per ray and a positive extent, got {got}.")
        self.extent, self.num_samples, self.doublings, self.num_test_samples = extent, num_samples, doublings, num_test_samples
        self.num_refinements, self.refinement = num_refinements, refinement
        self.first_occupied, self.search_missed = first_occupied, search_missed
        self.training_step = 0

    @property
    def count(self) -> int:
        """N: twice as large after each of the `doublings` up to `training_step`."""
        done = sum(self.training_step >= step for step in self.doublings)
        return self.num_samples * 2**done if self.training else self.num_test_samples

    def forward(self, field: OccupancyField, rays: Rays) -> OccupancyMarch:
        """March all rays of all objects."""
        near, far, meets = search_interval(rays, MARGIN * self.extent, MISSED)
        searched = torch.ones_like(meets) if self.search_missed else meets
        depth, surface, occupied = self._search(field.detach(), rays, near, far, searched)
        if torch.is_grad_enabled():
            depth = self._differentiable(field, rays, depth, surface)
        predicted = surface | occupied if self.first_occupied == "predicted" else surface
        depth = torch.where(surface, depth, torch.where(predicted, 0.0, math.inf))
        _, feature = field(rays.at(torch.where(predicted, depth, 1.0)))
        opacity = (surface | occupied).to(depth)
        return OccupancyMarch(depth, field.color(feature), surface, predicted, opacity)

    @torch.no_grad()
    def _search(
        self, field: OccupancyField, rays: Rays, near: Tensor, far: Tensor, searched: Tensor
    ) -> tuple[Float[Tensor, "b r"], Bool[Tensor, "b r"], Bool[Tensor, "b r"]]:
        """Depths of surfaces, which rays have one, and which have a first point inside the shape."""
        t = torch.linspace(0, 1, self.count, dtype=near.dtype, device=near.device)
        depths = near[..., None] * (1 - t) + far[..., None] * t
        parts = depths.split(max(1, CHUNK // near.numel()), -1)
        sdfs = torch.cat([field.sdf(rays.at(part).flatten(1, 2)).view_as(part) for part in parts], -1)
        first, surface = first_crossing(sdfs)
        surface = surface & searched
        rows = compact(surface)
        first, rays = first.gather(1, rows)[..., None], rays.select(rows)
        depths, values = (x.gather(1, rows[..., None].expand(-1, -1, len(t))) for x in (depths, sdfs))
        (start, end), (start_sdf, end_sdf) = (
            (x.gather(-1, first)[..., 0], x.gather(-1, first + 1)[..., 0]) for x in (depths, values)
        )
        if self.refinement == "secant":
            found = secant(lambda z: field.sdf(rays.at(z)), start, end, start_sdf, end_sdf, self.num_refinements, guard=0.0)
        else:
            part = bisect(lambda z: field.sdf(rays.at(z)), start, end, start_sdf, self.num_refinements)
            found = start + part * (end - start)
        return near.scatter(1, rows, found), surface, (sdfs[..., 0] <= 0) & searched

    @staticmethod
    def _differentiable(field: OccupancyField, rays: Rays, depth: Tensor, surface: Tensor) -> Float[Tensor, "b r"]:
        """The same depths, with the derivative of a root of f where there is a surface."""
        rows = compact(surface)
        found, some = depth.gather(1, rows), rays.select(rows)
        with torch.no_grad():
            slope = (field.gradient(some.at(found)) * some.direction).sum(-1)
            slope = torch.where(slope.abs() < MIN_SLOPE, -MIN_SLOPE, slope)
        root = implicit_depth(found, field.sdf(some.at(found)), slope, surface.gather(1, rows), max_slope=math.inf)
        return depth.scatter(1, rows, root)
