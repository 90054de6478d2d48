"""A shape: posed, coloured solids, and the exact signed distance to all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sdfsrn.data.shapes.solids import Solid


class Part(NamedTuple):
    """One solid of one colour. A point x of the solid's own frame lies at `rotation @ x + center`."""

    solid: Solid
    rotation: Float[Tensor, "3 3"]
    center: Float[Tensor, "3"]
    color: Float[Tensor, "3"]


class ProceduralShape:
    """The union of parts, moved and scaled so that its bounding box is centred at the origin and its longest side is 1.

    World frame: y up, facing -z, its right side on +x. The signed distance is exact outside; inside, a lower bound.
    """

    def __init__(self, parts: Sequence[Part]):
        if not parts:
            raise ValueError("Expected a shape of at least one part, got none")
        low, high = _bounding_box(parts)
        scale = 1 / (high - low).max()
        self.half_size = scale * (high - low) / 2
        moved = [_moved(part, -(low + high) / 2, scale) for part in parts]
        groups: dict[tuple, list[Part]] = {}
        for part in moved:
            groups.setdefault((type(part.solid), *(value.shape for value in part.solid)), []).append(part)
        self.parts = [part for group in groups.values() for part in group]
        self._groups = [_stack(group) for group in groups.values()]
        self._colors = torch.stack([part.color for part in self.parts])

    def sdf(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """Signed distance to the nearest part, negative inside."""
        return torch.stack([_distances(group, points).amin(0) for group in self._groups]).amin(0)

    def nearest_part(self, points: Float[Tensor, "n 3"]) -> Int[Tensor, " n"]:
        """Index in `parts` of the part with the smallest signed distance."""
        return torch.cat([_distances(group, points) for group in self._groups]).argmin(0)

    def color(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Colour of the nearest part, in [-1, 1]."""
        return self._colors.to(points)[self.nearest_part(points)]

    def normal(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Gradient of the signed distance, of unit length almost everywhere outside."""
        with torch.enable_grad():
            points = points.detach().requires_grad_()
            return torch.autograd.grad(self.sdf(points).sum(), points)[0]


def _bounding_box(parts: Sequence[Part]) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
    axes = torch.cat([torch.eye(3), -torch.eye(3)])
    reach = torch.stack([part.solid.support(axes @ part.rotation) + axes @ part.center for part in parts]).amax(0)
    return -reach[3:], reach[:3]


def _moved(part: Part, shift: Float[Tensor, "3"], scale: Tensor) -> Part:
    solid = type(part.solid)(*(scale * value for value in part.solid))
    return part._replace(solid=solid, center=scale * (part.center + shift))


def _stack(parts: Sequence[Part]) -> Part:
    solid = type(parts[0].solid)(*(torch.stack(values) for values in zip(*(part.solid for part in parts), strict=True)))
    return Part(solid, *(torch.stack(values) for values in zip(*(part[1:] for part in parts), strict=True)))


def _distances(group: Part, points: Float[Tensor, "n 3"]) -> Float[Tensor, "k n"]:
    """Each part of a stack's own distance. Coordinates lie apart in memory (k 3 n), which is faster on a CPU."""
    rotation, center = group.rotation.to(points), group.center.to(points)
    local = rotation.mT @ points.T - rotation.mT @ center[..., None]
    return type(group.solid)(*(value.to(points) for value in group.solid)).sdf(local.mT)
