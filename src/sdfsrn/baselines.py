"""What one can score without looking at the picture: the numbers a trained model has to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from torch import Tensor

from sdfsrn.functional.pointcloud import chamfer_distance, nearest_distance
from sdfsrn.meshes import sample_surface
from sdfsrn.protocol import Protocol

CANDIDATES = 32  # shapes tried as the best constant one
OBJECTS = 256  # truths that are enough for the mean of a baseline
_THIN, _FEW = 1000, 64  # points and truths that are enough to tell candidates apart


def spread(count: int, most: int) -> list[int]:
    """At most `most` of the numbers below `count`, evenly spaced; all of them if they are no more.

    >>> spread(9, 3), spread(2, 3)
    ([0, 4, 8], [0, 1])
    """
    return [int(i) for i in np.linspace(0, count - 1, min(count, most)).round()]


def sphere(truths: Sequence[Float[Tensor, "n 3"]], protocol: Protocol, radius: float = 0.5) -> dict[str, Any] | None:
    """Mean accuracy and coverage of the sphere that training starts from, registered as the protocol says.

    With `objects`, the number of truths it was measured against; None without any. The coverage is exact, | |x - c| - r |.
    """
    truths = [truth for truth in truths if len(truth)]
    if not truths:
        return None
    surface = torch.from_numpy(sample_surface(trimesh.creation.icosphere(5, radius), 10_000)[0]).float()
    cloud = torch.cat([surface, surface.new_zeros(1, 3)])  # the centre moves along, it is no part of the surface
    scores = []
    for truth in truths:
        moved, center = protocol.align(cloud, truth).split([len(surface), 1])
        coverage = ((truth - center).norm(dim=-1) - radius).abs().mean()
        scores.append((nearest_distance(moved, truth).mean(), coverage))
    accuracy, coverage = torch.tensor(scores).mean(0).tolist()
    return {"accuracy": accuracy, "coverage": coverage, "objects": len(truths)}


def best_constant(
    candidates: Mapping[str, Float[Tensor, "n 3"]], truths: Sequence[Float[Tensor, "n 3"]], protocol: Protocol
) -> dict[str, Any] | None:
    """The one cloud (in random order) with the lowest mean Chamfer distance to the truths: name, mean accuracy, coverage.

    Registered as the protocol says. Chosen, on thinned clouds and evenly spaced truths, with the truths in sight, so that it
    bounds what any method can score that ignores its input and gives one of the candidates. With `objects`, the number of
    truths it was measured against. None if either side is empty.
    """
    truths = [truth for truth in truths if len(truth)]
    if not truths or not candidates:
        return None
    thin = [truths[i][:_THIN] for i in spread(len(truths), _FEW)]
    name = min(candidates, key=lambda name: sum(_score(candidates[name][:_THIN], thin, protocol)))
    accuracy, coverage = _score(candidates[name], truths, protocol)
    return {"name": name, "accuracy": accuracy, "coverage": coverage, "objects": len(truths)}


def _score(cloud: Float[Tensor, "n 3"], truths: Sequence[Float[Tensor, "n 3"]], protocol: Protocol) -> tuple[float, float]:
    scores = torch.tensor([chamfer_distance(protocol.align(cloud, truth), truth) for truth in truths])
    return float(scores[:, 0].mean()), float(scores[:, 1].mean())
