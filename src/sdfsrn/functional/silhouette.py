"""What a silhouette says about 3D: its distance transform, and the lower bound on every signed distance function."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_PIXELS = 4096  # queried at a time; each needs its distance to every row


def distance_transform(
    silhouette: Bool[np.ndarray, "h w"], pixel: tuple[float, float] = (1.0, 1.0), at: Int[np.ndarray, " n"] | None = None
) -> Float[np.ndarray, "*shape"]:
    """D(u) = min |u - v| over all v in the silhouette: exact, to the squares of its pixels and not to their centres.

    Args:
        silhouette: True where the pixel's square counts as covered.
        pixel: height and width of a pixel in the unit wanted (an image-plane unit for the bound).
        at: the pixels, counted row by row, from whose centres to measure; all if None.

    Returns:
        (n,), or (h, w) for all pixels; float64, 0 inside, infinite everywhere if nothing is covered. A square is as far as two
        gaps say, along a row and across rows: D^2 = min over rows of (gap across)^2 + (least gap along that row)^2.
        Section 3.1, arXiv:2010.10505.

    >>> distance_transform(np.array([[True, False, False]]))
    array([[0. , 0.5, 1.5]])
    """
    height, width = silhouette.shape
    rows, columns = np.arange(height), np.arange(width, dtype=np.float64)
    left = np.maximum.accumulate(np.where(silhouette, columns, -np.inf), 1)
    right = np.minimum.accumulate(np.where(silhouette, columns, np.inf)[:, ::-1], 1)[:, ::-1]
    along = (np.minimum(columns - left, right - columns) - 0.5).clip(0) * pixel[1]
    across = (np.abs(rows - rows[:, None]) - 0.5).clip(0) * pixel[0]
    along, across = np.square(along.T), np.square(across)
    pixels = np.arange(height * width) if at is None else at
    parts = [pixels[i : i + _PIXELS] for i in range(0, len(pixels), _PIXELS)]
    squares = [(along[part % width] + across[part // width]).min(-1) for part in parts]  # over the rows
    distance = np.sqrt(np.concatenate(squares)) if parts else np.zeros(0)
    return distance.reshape(height, width) if at is None else distance


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
