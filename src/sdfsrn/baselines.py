"""What one can score without looking at the picture: the numbers a trained model has to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float
from scipy.spatial import KDTree
from torch import Tensor

from sdfsrn.protocol import Protocol


def sphere(truths: Sequence[Float[Tensor, "n 3"]], protocol: Protocol, radius: float = 0.5) -> dict[str, Any] | None:
    """Mean accuracy and coverage of the sphere that training starts from; None without ground truth."""
    surface = protocol.sample(trimesh.creation.icosphere(subdivisions=5, radius=radius))
    return best_constant({"sphere": surface}, truths)


def best_constant(
    candidates: Mapping[str, Float[Tensor, "n 3"]], truths: Sequence[Float[Tensor, "n 3"]]
) -> dict[str, Any] | None:
    """The one cloud with the lowest mean Chamfer distance to all the truths: its name, mean accuracy and coverage.

    Chosen with the truths in sight, so that it bounds every method that ignores its input. None if either side is empty.
    """
    trees = [KDTree(truth.numpy()) for truth in truths if len(truth)]
    if not trees or not candidates:
        return None
    scores = {name: _score(cloud.numpy(), trees) for name, cloud in candidates.items()}
    name = min(scores, key=lambda name: sum(scores[name]))
    return {"name": name, "accuracy": scores[name][0], "coverage": scores[name][1]}


def _score(cloud: np.ndarray, trees: Sequence[KDTree]) -> tuple[float, float]:
    tree = KDTree(cloud)
    accuracy = [truth.query(cloud, workers=-1)[0].mean() for truth in trees]
    coverage = [tree.query(truth.data, workers=-1)[0].mean() for truth in trees]
    return float(np.mean(accuracy)), float(np.mean(coverage))
