"""The soft rasteriser: triangles to silhouettes with gradients, colours and the visible surface, on any device.

Triangles that are far from a pixel do not matter to it, so all work is done on (triangle, pixel) pairs: flat lists of those
that are near enough. Sums follow the order of the pairs and are the same in every run. Coordinates are those of the screen.

Liu et al., Soft Rasterizer, ICCV 2019.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

_LEAST_COVERAGE = 1e-10  # a triangle that covers less of a pixel is left out


class Pairs(NamedTuple):
    """Pairs of a triangle and a point, in the order of the triangles; both are counted through the batch."""

    triangle: Int[Tensor, " n"]
    point: Int[Tensor, " n"]
    per_triangle: Int[Tensor, " bf"]
    order: Int[Tensor, " n"]  # sorts the pairs by point
    per_point: Int[Tensor, " br"]


class Visible(NamedTuple):
    """The nearest triangle at every point."""

    triangle: Int[Tensor, "b r"]  # of the object's; -1 where there is none
    weight: Float[Tensor, "b r 3"]  # of its corners, summing to 1; barycentric coordinates on the triangle itself
    depth: Float[Tensor, "b r"]  # infinite where there is none


def reach(sigma: float) -> float:
    """Distance at which a triangle's coverage of a point falls to 1e-10: sigmoid(-reach^2 / sigma) = 1e-10."""
    return math.sqrt(sigma * math.log(1 / _LEAST_COVERAGE - 1))


@torch.no_grad()
def grid_pairs(triangles: Float[Tensor, "b f 3 2"], drawn: Bool[Tensor, "b f"], size: tuple[int, int], margin: float) -> Pairs:
    """Pair every triangle with the pixels whose centres lie in its bounding box, enlarged by `margin` on all sides.

    `drawn` leaves triangles out, as does a corner that is not finite; `size` is the height and width of the pictures. The
    number of pairs depends on the triangles: here, and nowhere else, a device is waited for.
    """
    (height, width), (batch, count) = size, drawn.shape
    drawn = drawn & triangles.isfinite().flatten(2).all(-1)
    low = torch.where(drawn[..., None], triangles.amin(2) - margin, math.inf).flatten(0, 1)
    high = torch.where(drawn[..., None], triangles.amax(2) + margin, -math.inf).flatten(0, 1)
    left, columns = _span(low[:, 0], high[:, 0], width)
    top, rows = _span(low[:, 1], high[:, 1], height)
    numbers = columns * rows
    total = int(numbers.sum())
    triangle = torch.repeat_interleave(numbers, output_size=total)
    place = torch.arange(total, device=triangle.device) - (numbers.cumsum(0) - numbers)[triangle]
    row = torch.div(place, columns[triangle], rounding_mode="floor")
    column = place - row * columns[triangle]
    corner = (torch.arange(len(numbers), device=triangle.device) // count * height + top) * width + left
    return make_pairs(triangle, corner[triangle] + row * width + column, numbers, batch * height * width)


def make_pairs(triangle: Int[Tensor, " n"], point: Int[Tensor, " n"], per_triangle: Int[Tensor, " bf"], points: int) -> Pairs:
    """Pairs in the order of their triangles; `points` is the number of points in the batch."""
    order = torch.sort(point.int(), stable=True).indices
    per_point = torch.zeros(points, dtype=torch.long, device=point.device).index_add(0, point, torch.ones_like(point))
    return Pairs(triangle, point, per_triangle, order, per_point)


def soft_silhouette(
    triangles: Float[Tensor, "b f 3 2"], points: Float[Tensor, "b r 2"], pairs: Pairs, sigma: float
) -> Float[Tensor, "b r"]:
    """alpha = 1 - prod_j (1 - D_j) at the points of their pairs' triangles, D = sigmoid(s / sigma), s as below."""
    log_free = F.logsigmoid(-_pair_distances(triangles, points, pairs, sigma) / sigma)
    return -_sum_per_point(log_free, pairs).expm1().view(points.shape[:2])


def soft_colors(
    triangles: Float[Tensor, "b f 3 2"],
    depth: Float[Tensor, "b f 3"],
    colors: Float[Tensor, "b f 3 c"],
    points: Float[Tensor, "b r 2"],
    pairs: Pairs,
    background: Float[Tensor, " c"],
    sigma: float = 1e-4,
    gamma: float = 1e-4,
    near: float = 1.0,
    far: float = 100.0,
    eps: float = 1e-3,
) -> Float[Tensor, "b r c"]:
    """Colours of the triangles mixed with weights D_j exp(n_j / gamma), and exp(eps / gamma) for the background.

    n = (far - z) / (far - near) with z = 1 / sum (w_i / z_i); w are barycentric coordinates, clipped to [0, 1] and normalised.
    `depth` and `colors` belong to the corners. Triangles whose z is not between `near` and `far` are left out.
    """
    log_coverage = F.logsigmoid(_pair_distances(triangles, points, pairs, sigma) / sigma)
    weight = _barycentric(*_pair_coordinates(triangles, points, pairs)).clamp(0, 1)
    weight = weight / weight.sum(0).clamp(min=1e-10)
    z = 1 / (weight / _spread(_planes(depth[..., None])[0], pairs)).sum(0)
    counted = (z >= near) & (z <= far) & (log_coverage > math.log(_LEAST_COVERAGE))
    score = torch.where(counted, log_coverage + (far - z) / (far - near) / gamma, -math.inf)
    largest = torch.full(pairs.per_point.shape, eps / gamma, dtype=score.dtype, device=score.device)
    largest = largest.scatter_reduce(0, pairs.point, score.detach(), "amax")
    share = (score - largest[pairs.point]).exp()
    behind = (eps / gamma - largest).exp()
    total = behind + _sum_per_point(share, pairs)
    mixed = [
        (behind * background[channel] + _sum_per_point(share * (weight * _spread(plane, pairs)).sum(0), pairs)) / total
        for channel, plane in enumerate(_planes(colors))
    ]
    return torch.stack(mixed, -1).view(*points.shape[:2], -1)


@torch.no_grad()
def visible_triangles(
    triangles: Float[Tensor, "b f 3 2"],
    depth: Float[Tensor, "b f 3"],
    points: Float[Tensor, "b r 2"],
    pairs: Pairs,
    perspective: bool,
) -> Visible:
    """The nearest of the triangles that contain each point; a point on an edge is inside, and of equals the first one wins.

    Without gradient. On the screen of a perspective camera 1 / z is linear along a triangle, on an orthographic one's z is.
    """
    weight = _barycentric(*_pair_coordinates(triangles, points, pairs))
    corner = _spread(_planes(depth[..., None])[0], pairs)
    if perspective:
        weight = weight / corner
        weight = weight / weight.sum(0)
    z = (weight * corner).sum(0)
    z = torch.where((weight >= 0).all(0) & z.isfinite(), z, math.inf)  # zero area: not finite
    nearest = torch.full(pairs.per_point.shape, math.inf, dtype=z.dtype, device=z.device)
    nearest = nearest.scatter_reduce(0, pairs.point, z, "amin")
    number = torch.arange(len(z), device=z.device)
    number = torch.where(z.isfinite() & (z == nearest[pairs.point]), number, len(z))
    first = torch.full(pairs.per_point.shape, len(z), device=z.device).scatter_reduce(0, pairs.point, number, "amin")
    found = first < len(z)
    triangle, weight = F.pad(pairs.triangle, (0, 1))[first] % depth.shape[1], F.pad(weight, (0, 1))[:, first]
    shape = points.shape[:2]
    weight = torch.where(found, weight, 1 / 3)
    return Visible(torch.where(found, triangle, -1).view(shape), weight.T.reshape(*shape, 3), nearest.view(shape))


def _pair_distances(triangles: Tensor, points: Tensor, pairs: Pairs, sigma: float) -> Float[Tensor, " n"]:
    """s of all pairs: +-d^2 to the nearest point of the triangle's edges, positive inside; -inf beyond `reach`.

    That point is a mean of two corners, whose weights are constant for the gradient: s is stationary in them, or they are at
    their bounds.
    """
    at, corners = _pair_coordinates(triangles, points, pairs)
    with torch.no_grad():
        weight, inside = _nearest_on_edges(at, corners)
    square = (at - (weight * corners).sum(1)).square().sum(0)
    return torch.where(inside, square, torch.where(square < reach(sigma) ** 2, -square, -math.inf))


def _nearest_on_edges(at: Float[Tensor, "2 n"], corners: Float[Tensor, "2 3 n"]) -> tuple[Tensor, Tensor]:
    """Weights (3, n) of the corners in the edges' nearest points; which points are inside."""
    edges, arm = corners.roll(-1, 1) - corners, at[:, None] - corners
    along = ((arm * edges).sum(0) / edges.square().sum(0).clamp(min=1e-30)).clamp(0, 1)
    first, second, third = (arm - along * edges).square().sum(0)
    is_first = (first <= second) & (first <= third)
    is_second = ~is_first & (second <= third)
    nearest = torch.stack([is_first, is_second, ~(is_first | is_second)])
    weight = nearest * (1 - along) + (nearest * along).roll(1, 0)
    turn = edges[0] * arm[1] - edges[1] * arm[0]
    return weight, (turn >= 0).all(0) | (turn <= 0).all(0)


def _barycentric(at: Float[Tensor, "2 n"], corners: Float[Tensor, "2 3 n"]) -> Float[Tensor, "3 n"]:
    """Barycentric coordinates of points, negative outside; not finite where a triangle has no area."""
    arm = corners - at[:, None]
    after, last = arm.roll(-1, 1), arm.roll(-2, 1)
    area: Tensor = after[0] * last[1] - after[1] * last[0]
    return area / area.sum(0)


def _pair_coordinates(triangles: Tensor, points: Tensor, pairs: Pairs) -> tuple[Float[Tensor, "2 n"], Float[Tensor, "2 3 n"]]:
    """Points and corners of all pairs."""
    at = points.reshape(-1, 2).T.index_select(1, pairs.point)
    planes = _planes(triangles)
    return at, _spread(planes.flatten(0, 1), pairs).unflatten(0, (2, 3))


def _planes(values: Float[Tensor, "b f 3 c"]) -> Float[Tensor, "c 3 bf"]:
    """Values of corners with the triangles of the batch along the last dimension."""
    return values.flatten(0, 1).permute(2, 1, 0)


def _spread(values: Float[Tensor, "k bf"], pairs: Pairs) -> Float[Tensor, "k n"]:
    """The triangles' values at their pairs."""
    spread: Tensor = _Spread.apply(values.contiguous(), pairs.triangle, pairs.per_triangle)
    return spread


class _Spread(torch.autograd.Function):
    """`values[:, index]` for a sorted index; its backward sums in order, unlike that of `index_select` on a GPU."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor, lengths: Tensor) -> Tensor:
        ctx.save_for_backward(lengths)
        return values.index_select(1, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (lengths,) = ctx.saved_tensors
        rows = len(gradient)
        return _segment_sums(gradient.reshape(-1), lengths.repeat(rows)).view(rows, -1), None, None


def _sum_per_point(values: Float[Tensor, " n"], pairs: Pairs) -> Float[Tensor, " br"]:
    """Sums of pairs' values at every point of the batch."""
    return _segment_sums(values[pairs.order], pairs.per_point)


def _segment_sums(values: Float[Tensor, " n"], lengths: Int[Tensor, " m"]) -> Float[Tensor, " m"]:
    """Sums of successive parts of the given lengths."""
    sums: Tensor = torch.segment_reduce(values, "sum", lengths=lengths, unsafe=True)
    return sums


def _span(low: Tensor, high: Tensor, count: int) -> tuple[Int[Tensor, " bf"], Int[Tensor, " bf"]]:
    """The first of `count` pixel centres in [low, high] along an axis, and how many there are."""
    first = (((low + 1) * count - 1) / 2).ceil().clamp(0, count).long()
    last = (((high + 1) * count - 1) / 2).floor().clamp(-1, count - 1).long()
    return first, (last - first + 1).clamp(min=0)
