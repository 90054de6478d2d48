"""Distances between point clouds."""

from __future__ import annotations

import torch
from jaxtyping import Float
from scipy.spatial import KDTree
from torch import Tensor


def nearest_distance(source: Float[Tensor, "n 3"], target: Float[Tensor, "k 3"], chunk: int = 4096) -> Float[Tensor, " n"]:
    """Distance from each source point to the nearest target point: a k-d tree on the CPU, in chunks elsewhere."""
    if source.device.type == "cpu":
        distance, _ = KDTree(target.numpy()).query(source.numpy(), workers=-1)
        return torch.from_numpy(distance).to(source.dtype)
    return torch.cat(
        [torch.cdist(part, target, compute_mode="donot_use_mm_for_euclid_dist").amin(-1) for part in source.split(chunk)]
    )


def chamfer_distance(
    predicted: Float[Tensor, "n 3"], truth: Float[Tensor, "k 3"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """(accuracy, coverage): the mean unsquared distance from prediction to truth, and from truth to prediction.

    In the clouds' unit; the paper's tables show ten times as much. Section 4, arXiv:2010.10505.

    Raises:
        ValueError: one of the clouds is empty.
    """
    if len(predicted) == 0 or len(truth) == 0:
        raise ValueError(f"Expected two clouds with points, got {len(predicted)} predicted and {len(truth)} true ones.")
    return nearest_distance(predicted, truth).mean(), nearest_distance(truth, predicted).mean()
