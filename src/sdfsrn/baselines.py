"""What one can score without looking at the picture: the numbers a trained model has to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import trimesh
from jaxtyping import Float
from torch import Tensor

from sdfsrn.functional.pointcloud import chamfer_distance, nearest_distance
from sdfsrn.meshes import sample_surface

_THIN = 3000  # points that are enough to tell candidates apart


def sphere(truths: Sequence[Float[Tensor, "n 3"]], radius: float = 0.5) -> dict[str, Any] | None:
    """Mean accuracy and coverage of the sphere that training starts from; None without ground truth.

    The coverage is exact, | |x| - r |: seen from near the centre no point of a sphere is nearest, and a search would be slow.
    """
    truths = [truth for truth in truths if len(truth)]
    if not truths:
        return None
    surface = torch.from_numpy(sample_surface(trimesh.creation.icosphere(5, radius), 10_000)[0]).float()
    accuracy = torch.stack([nearest_distance(surface, truth).mean() for truth in truths])
    coverage = torch.stack([(truth.norm(dim=-1) - radius).abs().mean() for truth in truths])
    return {"accuracy": float(accuracy.mean()), "coverage": float(coverage.mean())}


def best_constant(
    candidates: Mapping[str, Float[Tensor, "n 3"]], truths: Sequence[Float[Tensor, "n 3"]]
) -> dict[str, Any] | None:
    """The one cloud (in random order) with the lowest mean Chamfer distance to the truths: name, mean accuracy, coverage.

    Chosen, on thinned clouds, with the truths in sight, so that it bounds what any method can score that ignores its input.
    None if either side is empty.
    """
    truths = [truth for truth in truths if len(truth)]
    if not truths or not candidates:
        return None
    thin = [truth[:_THIN] for truth in truths]
    name = min(candidates, key=lambda name: sum(_score(candidates[name][:_THIN], thin)))
    accuracy, coverage = _score(candidates[name], truths)
    return {"name": name, "accuracy": accuracy, "coverage": coverage}


def _score(cloud: Float[Tensor, "n 3"], truths: Sequence[Float[Tensor, "n 3"]]) -> tuple[float, float]:
    scores = torch.tensor([chamfer_distance(cloud, truth) for truth in truths])
    return float(scores[:, 0].mean()), float(scores[:, 1].mean())
