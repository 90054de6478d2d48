"""What a silhouette says about 3D: its distance transform, and the lower bound on every signed distance function."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_ELEMENTS = 2**19  # distances of pixels to rows that are in memory at once


def distance_transform(
    silhouette: Bool[Tensor, "*b h w"], pixel: Float[Tensor, "*#b 2"] | None = None, half: float = 0.5
) -> Float[Tensor, "*b h w"]:
    """D(u) = min |u - v| over all v in the silhouette: exact, to the squares of its pixels and not to their centres.

    `silhouette` is True where the pixel's square counts as covered; `pixel` is a pixel's height and width in the unit wanted
    (an image-plane unit for the bound; 1 if None), and its precision that of the result: 0 inside, infinite if nothing is
    covered. `half` is how far a pixel reaches from its centre: 0 gives the distance to its centre. A square is as far as two
    gaps say, along a row and across rows:
    D^2 = min over rows of (gap across)^2 + (least gap along that row)^2. Section 3.1, arXiv:2010.10505.

    >>> distance_transform(torch.tensor([[True, False, False]]))
    tensor([[0.0000, 0.5000, 1.5000]])
    """
    height, width = silhouette.shape[-2:]
    pixel = torch.ones(2, device=silhouette.device) if pixel is None else pixel
    size = pixel.expand(*silhouette.shape[:-2], 2).reshape(-1, 2, 1, 1)
    flat = silhouette.reshape(-1, height, width)
    rows, columns = (torch.arange(n, device=pixel.device, dtype=pixel.dtype) for n in (height, width))
    left = torch.where(flat, columns, -torch.inf).cummax(-1).values
    right = torch.where(flat, columns, torch.inf).flip(-1).cummin(-1).values.flip(-1)
    along = ((torch.minimum(columns - left, right - columns) - half).clamp(min=0) * size[:, 1]).square()
    across = (((rows - rows[:, None]).abs() - half).clamp(min=0) * size[:, 0]).square()
    together, part = max(1, _ELEMENTS // (height * height * width)), max(1, _ELEMENTS // (height * width))
    squares = [
        torch.cat([(a[:, None] + some[..., None]).amin(2) for some in c.split(part, 1)], 1)
        for a, c in zip(along.split(together), across.split(together), strict=True)
    ]
    return torch.cat(squares).sqrt().reshape(silhouette.shape)


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
