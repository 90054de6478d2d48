"""The solids shapes are made of, named tuples of lengths: scale the fields, and the solid scales; stack them to batch.

Each has the same two methods, in its own frame: `sdf`, its exact signed distance, and `support`, the largest d . x over
the solid for unit directions d, which gives bounding boxes. A `radius` that a solid is grown by rounds its edges.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sdfsrn.functional import primitives


class Box(NamedTuple):
    """A box around the origin, grown by `radius`."""

    half_size: Float[Tensor, "*k 3"]
    radius: Float[Tensor, "*k"]

    def sdf(self, points: Float[Tensor, "*k n 3"]) -> Float[Tensor, "*k n"]:
        """Signed distance."""
        return primitives.rounded_box(points, self.half_size[..., None, :], self.radius[..., None])

    def support(self, direction: Float[Tensor, "m 3"]) -> Float[Tensor, " m"]:
        """Max d . x."""
        return direction.abs() @ self.half_size + self.radius


class Cylinder(NamedTuple):
    """A cylinder around the y axis, grown by `radius`."""

    disk_radius: Float[Tensor, "*k"]
    half_height: Float[Tensor, "*k"]
    radius: Float[Tensor, "*k"]

    def sdf(self, points: Float[Tensor, "*k n 3"]) -> Float[Tensor, "*k n"]:
        """Signed distance."""
        return primitives.cylinder(points, self.disk_radius[..., None], self.half_height[..., None]) - self.radius[..., None]

    def support(self, direction: Float[Tensor, "m 3"]) -> Float[Tensor, " m"]:
        """Max d . x."""
        radial = direction[:, ::2].norm(dim=-1)
        return radial * self.disk_radius + direction[:, 1].abs() * self.half_height + self.radius


class Torus(NamedTuple):
    """A ring around the y axis."""

    ring_radius: Float[Tensor, "*k"]
    tube_radius: Float[Tensor, "*k"]

    def sdf(self, points: Float[Tensor, "*k n 3"]) -> Float[Tensor, "*k n"]:
        """Signed distance."""
        return primitives.torus(points, self.ring_radius[..., None], self.tube_radius[..., None])

    def support(self, direction: Float[Tensor, "m 3"]) -> Float[Tensor, " m"]:
        """Max d . x."""
        return direction[:, ::2].norm(dim=-1) * self.ring_radius + self.tube_radius


class RoundCone(NamedTuple):
    """The convex hull of two balls, at the origin and at (0, length, 0)."""

    start_radius: Float[Tensor, "*k"]
    end_radius: Float[Tensor, "*k"]
    length: Float[Tensor, "*k"]

    def sdf(self, points: Float[Tensor, "*k n 3"]) -> Float[Tensor, "*k n"]:
        """Signed distance."""
        return primitives.round_cone(points, *(value[..., None] for value in self))

    def support(self, direction: Float[Tensor, "m 3"]) -> Float[Tensor, " m"]:
        """Max d . x."""
        return torch.maximum(self.start_radius, direction[:, 1] * self.length + self.end_radius)


class Prism(NamedTuple):
    """A polygon of the xy plane drawn out along z, grown by `radius`."""

    vertices: Float[Tensor, "*k v 2"]
    half_depth: Float[Tensor, "*k"]
    radius: Float[Tensor, "*k"]

    def sdf(self, points: Float[Tensor, "*k n 3"]) -> Float[Tensor, "*k n"]:
        """Signed distance."""
        return primitives.prism(points, self.vertices[..., None, :, :], self.half_depth[..., None]) - self.radius[..., None]

    def support(self, direction: Float[Tensor, "m 3"]) -> Float[Tensor, " m"]:
        """Max d . x."""
        return (direction[:, :2] @ self.vertices.T).amax(-1) + direction[:, 2].abs() * self.half_depth + self.radius


Solid = Box | Cylinder | Torus | RoundCone | Prism
