"""What a silhouette says about 3D: its distance transform, and the lower bound on every signed distance function."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import distance_transform_edt
from torch import Tensor


def distance_transform(silhouette: np.ndarray, pixel: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """D(u) = min |u - v| over all v in the silhouette: exact, to the squares of its pixels and not to their centres.

    Args:
        silhouette: (h, w) bool; True where the pixel's square counts as covered.
        pixel: height and width of a pixel in the unit wanted (an image-plane unit for the bound).

    Returns:
        (h, w) float64, 0 inside, infinite everywhere if nothing is covered. From any pixel centre the nearest point of a
        pixel's square is a corner, the middle of an edge, or the centre, so one exact transform on the grid of twice the
        resolution, which has them all, is enough. Section 3.1, arXiv:2010.10505.

    >>> distance_transform(np.array([[True, False, False]]))
    array([[0. , 0.5, 1.5]])
    """
    if not silhouette.any():
        return np.full(silhouette.shape, np.inf)
    height, width = silhouette.shape
    fine = np.zeros((2 * height + 1, 2 * width + 1), dtype=bool)
    for row in range(3):
        for column in range(3):
            fine[row : row + 2 * height : 2, column : column + 2 * width : 2] |= silhouette
    distance = distance_transform_edt(~fine, sampling=(pixel[0] / 2, pixel[1] / 2))
    return distance[1::2, 1::2]


def focal_lower_bound(
    depth: Float[Tensor, "*shape"], uv: Float[Tensor, "*#shape 2"], distance: Float[Tensor, "*#shape"], focal: float
) -> Float[Tensor, "*shape"]:
    """b(z; u) = (z - 1 + f) / f * D / sqrt(1 + ((|u| + D) / f)^2): the bound for an image plane at depth 1 and focal length f.

    The camera centre stands at depth 1 - f. This is the distance from the point to the line of sight through v, eq. (2); the
    cone is nearest on that side. f = 1 gives `cone_lower_bound`, f -> infinity `cylinder_lower_bound`.
    Eqs. (21)-(24), arXiv:2010.10505.
    """
    slope = (torch.linalg.vector_norm(uv, dim=-1) + distance) / focal
    return (depth - 1 + focal) / focal * distance * torch.rsqrt(1 + slope.square())


def cone_lower_bound(
    depth: Float[Tensor, "*shape"], uv: Float[Tensor, "*#shape 2"], distance: Float[Tensor, "*#shape"]
) -> Float[Tensor, "*shape"]:
    """b(z; u) = z D / sqrt(1 + (|u| + D)^2): no surface is nearer than this to the point z (u, 1).

    `uv` and `distance` D(u) lie in the z = 1 image plane; the result has `depth`'s unit. Right at u = 0 too, where the
    paper's own form divides by |u|. Eqs. (1)-(2), (20), arXiv:2010.10505.
    """
    return focal_lower_bound(depth, uv, distance, focal=1.0)


def cylinder_lower_bound(depth: Float[Tensor, "*shape"], distance: Float[Tensor, "*#shape"]) -> Float[Tensor, "*shape"]:
    """b(z; u) = D(u) at any depth, the orthographic limit of the cone. Eq. (24), arXiv:2010.10505."""
    return distance.expand_as(depth)


def importance_weight(distance: Float[Tensor, "*shape"], smallest: float | Float[Tensor, "*#shape"]) -> Float[Tensor, "*shape"]:
    """w(u) = 1 / D(u), with D no smaller than `smallest` (half a pixel) so that it stays finite. Eq. (4), arXiv:2010.10505."""
    return 1 / torch.as_tensor(distance).clamp(min=smallest)
