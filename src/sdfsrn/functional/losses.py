"""The losses of the paper, one function per equation. All are means, so that no weight depends on the number of rays.

Tensors are (b, r): objects, rays. `weight` is the importance w(u) = 1 / D(u), or 1, times the inverse density of
the ray; `inside` marks silhouette pixels.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

PerRay = Float[Tensor, "b r"]


def weighted_mean(value: Float[Tensor, "*n"], weight: Float[Tensor, "*n"]) -> Float[Tensor, ""]:
    """sum w x / sum w, and 0 where nothing has weight.

    Under DDP every process has to call this: sum w is then the mean over processes, so that the mean of their losses is the
    loss of their concatenated batches.
    """
    return (weight * value).sum() / _process_mean(weight.sum()).clamp(min=torch.finfo(value.dtype).tiny)


def silhouette_loss(
    sdf: Float[Tensor, "b r m"], bound: Float[Tensor, "b r m"], weight: PerRay, inside: Bool[Tensor, "b r"]
) -> Float[Tensor, ""]:
    """L_SDF = sum_u w sum_z max(0, b(z; u) - f(z u)) / sum_u w over the background u. Eq. (4), arXiv:2010.10505.

    The mean over the m depths stands in for their sum, as in the released code, whose loss weights are the paper's.
    """
    return weighted_mean(F.relu(bound - sdf).mean(-1), weight * ~inside)


def ray_surface_loss(
    last_sdf: PerRay, weight: PerRay, inside: Bool[Tensor, "b r"], margin: float, balance: bool = False
) -> Float[Tensor, ""]:
    """L_ray at j = N: max(0, alpha f + eps), alpha = 1 inside the silhouette, -1 outside. Eq. (7), arXiv:2010.10505.

    With `balance` foreground and background rays are averaged separately and the two means added, as in the released code.
    """
    penalty = F.relu(torch.where(inside, last_sdf, -last_sdf) + margin)
    if balance:
        return weighted_mean(penalty, weight * inside) + weighted_mean(penalty, weight * ~inside)
    return weighted_mean(penalty, weight)


def ray_free_loss(visited_sdf: Float[Tensor, "b r s"], weight: PerRay, margin: float) -> Float[Tensor, ""]:
    """L_ray at j < N: max(0, eps - f), points before the last one lie in free space. Eq. (7), arXiv:2010.10505."""
    return weighted_mean(F.relu(margin - visited_sdf).mean(-1), weight)


def color_loss(rendered: Float[Tensor, "b r 3"], color: Float[Tensor, "b r 3"], weight: PerRay) -> Float[Tensor, ""]:
    """L_RGB = |I^(u) - I(u)|^2, the mean over rays and channels. Eq. (8), arXiv:2010.10505."""
    return weighted_mean((rendered - color).square().mean(-1), weight)


def eikonal_loss(gradient: Float[Tensor, "b n 3"]) -> Float[Tensor, ""]:
    """L_eik = (|grad f| - 1)^2. Eq. (10), arXiv:2010.10505."""
    norm: Tensor = torch.linalg.vector_norm(gradient, dim=-1)
    return (norm - 1).square().mean()


def sphere_loss(sdf: Float[Tensor, "b n"], points: Float[Tensor, "b n 3"], radius: float) -> Float[Tensor, ""]:
    """L_pretrain = (f(x) - (|x| - r))^2, the mean over points. Eq. (26), arXiv:2010.10505."""
    loss: Tensor = F.mse_loss(sdf, torch.linalg.vector_norm(points, dim=-1) - radius)
    return loss


def free_occupancy_loss(sdf: Float[Tensor, "b r m"], weight: PerRay, inside: Bool[Tensor, "b r"]) -> Float[Tensor, ""]:
    """Cross-entropy of "empty" at random depths of background rays; occupancy is sigmoid(-f). Table 3, arXiv:2010.10505."""
    return weighted_mean(F.softplus(-sdf).mean(-1), weight * ~inside)


def surface_occupancy_loss(last_sdf: PerRay, weight: PerRay, inside: Bool[Tensor, "b r"]) -> Float[Tensor, ""]:
    """Cross-entropy of the last marched point against the silhouette. Table 3, arXiv:2010.10505."""
    return weighted_mean(F.softplus(torch.where(inside, last_sdf, -last_sdf)), weight)


def visited_occupancy_loss(visited_sdf: Float[Tensor, "b r s"], weight: PerRay) -> Float[Tensor, ""]:
    """Cross-entropy of "empty" at the points before the last one. Table 3, arXiv:2010.10505."""
    return weighted_mean(F.softplus(-visited_sdf).mean(-1), weight)


def _process_mean(value: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """The mean over the processes of a DDP run, without gradient; the value itself if there is one process."""
    processes = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    if processes == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / processes
