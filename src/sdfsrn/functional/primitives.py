"""Signed distance functions of simple solids in closed form: negative inside, in the unit of the points.

Every solid here is exact, outside and inside, and so 1-Lipschitz. Parameters broadcast against the points' first axes.
The formulas are those collected by I. Quilez, https://iquilezles.org/articles/distfunctions.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_TINY = 1e-20  # keeps the gradient of a square root finite on an axis or an edge


def sphere(points: Float[Tensor, "*n 3"], radius: Float[Tensor, "*#n"]) -> Float[Tensor, "*n"]:
    """|x| - r."""
    return _norm(*points.unbind(-1)) - radius


def box(points: Float[Tensor, "*n 3"], half_size: Float[Tensor, "*#n 3"]) -> Float[Tensor, "*n"]:
    """|max(q, 0)| + min(max(q), 0) with q = |x| - h, a box around the origin of half sides h."""
    excess = points.abs() - half_size
    x, y, z = excess.unbind(-1)
    return _norm(*excess.clamp(min=0).unbind(-1)) + torch.maximum(torch.maximum(x, y), z).clamp(max=0)


def rounded_box(
    points: Float[Tensor, "*n 3"], half_size: Float[Tensor, "*#n 3"], radius: Float[Tensor, "*#n"]
) -> Float[Tensor, "*n"]:
    """A box grown by `radius`: its half sides are `half_size + radius`.

    >>> rounded_box(torch.tensor([3.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, 1.0]), torch.tensor(0.5)).item()
    1.5
    """
    return box(points, half_size) - radius


def capsule(
    points: Float[Tensor, "*n 3"], half_length: Float[Tensor, "*#n"], radius: Float[Tensor, "*#n"]
) -> Float[Tensor, "*n"]:
    """All points within `radius` of the segment from (0, -half_length, 0) to (0, half_length, 0)."""
    x, y, z = points.unbind(-1)
    return _norm(x, (y.abs() - half_length).clamp(min=0), z) - radius


def cylinder(
    points: Float[Tensor, "*n 3"], radius: Float[Tensor, "*#n"], half_height: Float[Tensor, "*#n"]
) -> Float[Tensor, "*n"]:
    """A cylinder with flat caps, around the y axis."""
    x, y, z = points.unbind(-1)
    return extrusion(_norm(x, z) - radius, y, half_height)


def torus(
    points: Float[Tensor, "*n 3"], ring_radius: Float[Tensor, "*#n"], tube_radius: Float[Tensor, "*#n"]
) -> Float[Tensor, "*n"]:
    """All points within `tube_radius` of a circle around the y axis; `ring_radius` must not be the smaller one."""
    x, y, z = points.unbind(-1)
    return _norm(_norm(x, z) - ring_radius, y) - tube_radius


def round_cone(
    points: Float[Tensor, "*n 3"],
    start_radius: Float[Tensor, "*#n"],
    end_radius: Float[Tensor, "*#n"],
    length: Float[Tensor, "*#n"],
) -> Float[Tensor, "*n"]:
    """The convex hull of two balls, at the origin and at (0, length, 0); neither may contain the other."""
    x, y, z = points.unbind(-1)
    radial = _norm(x, z)
    sine = (start_radius - end_radius) / length
    cosine = (1 - sine.square()).sqrt()
    along = cosine * y - sine * radial
    side = cosine * radial + sine * y - start_radius
    end = torch.where(along > cosine * length, _norm(radial, y - length) - end_radius, side)
    return torch.where(along < 0, _norm(radial, y) - start_radius, end)


def polygon(points: Float[Tensor, "*n 2"], vertices: Float[Tensor, "*#n v 2"]) -> Float[Tensor, "*n"]:
    """The distance to the nearest edge, negative inside (even-odd rule), of a simple polygon of any orientation.

    >>> square = torch.tensor([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]])
    >>> polygon(torch.tensor([[1.0, 1.5], [3.0, 1.0]]), square).tolist()
    [-0.5, 1.0]
    """
    x, y = points.unbind(-1)
    missing = points.ndim + 1 - vertices.ndim
    start = vertices[(None,) * missing].movedim(-2, 0)  # all edges at once, in front of the points' axes
    edge = start.roll(-1, 0) - start
    length = _norm(*edge.unbind(-1))
    (edge_x, edge_y), (start_x, start_y) = (edge / length[..., None]).unbind(-1), start.unbind(-1)
    along = edge_x * x + (edge_y * y - (edge_x * start_x + edge_y * start_y))
    aside = edge_x * y - (edge_y * x + (edge_x * start_y - edge_y * start_x))
    over = along - torch.minimum(along.clamp(min=0), length)
    distance = torch.addcmul(aside.square(), over, over).amin(0).clamp(min=_TINY).sqrt()
    above = y >= start_y
    crossed = (above ^ above.roll(-1, 0)) & ~(above ^ (aside > 0))
    return torch.where(crossed, -1.0, 1.0).prod(0).to(distance) * distance


def prism(
    points: Float[Tensor, "*n 3"], vertices: Float[Tensor, "*#n v 2"], half_depth: Float[Tensor, "*#n"]
) -> Float[Tensor, "*n"]:
    """A polygon of the xy plane drawn out along z, from -half_depth to half_depth."""
    return extrusion(polygon(points[..., :2], vertices), points[..., 2], half_depth)


def extrusion(
    outline: Float[Tensor, "*n"], height: Float[Tensor, "*n"], half_height: Float[Tensor, "*#n"]
) -> Float[Tensor, "*n"]:
    """A flat figure drawn out along its normal, from the figure's signed distance and the height above its plane."""
    cap = height.abs() - half_height
    return _norm(outline.clamp(min=0), cap.clamp(min=0)) + torch.maximum(outline, cap).clamp(max=0)


def union(*sdfs: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """min_i f_i: exact outside if all f_i are; inside 1-Lipschitz, its size a lower bound of the distance."""
    return torch.stack(sdfs).amin(0)


def intersection(*sdfs: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """max_i f_i: exact inside if all f_i are; outside 1-Lipschitz, a lower bound of the distance."""
    return torch.stack(sdfs).amax(0)


def _norm(*coordinates: Tensor) -> Tensor:
    squared = coordinates[0].square()
    for value in coordinates[1:]:
        squared = torch.addcmul(squared, value, value)
    return squared.clamp(min=_TINY).sqrt()
