"""What one can score without learning, or without looking at the picture: the numbers a trained model has to beat."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
import trimesh
from jaxtyping import Float
from torch import Tensor

from sdfsrn.data.source import ImageSample
from sdfsrn.evaluation.measuring import Cloud
from sdfsrn.functional.pointcloud import chamfer_distance
from sdfsrn.metrics.protocol import EvaluationProtocol

CANDIDATES = 32  # shapes tried as the best constant one
OBJECTS = 64  # objects that are enough for the mean of a baseline
_THIN = 1000  # points that are enough to tell candidates apart


def sphere(radius: float = 0.5) -> trimesh.Trimesh:
    """The sphere that training starts from."""
    return trimesh.creation.icosphere(5, radius)


def best_constant(candidates: Mapping[str, Cloud], protocol: EvaluationProtocol) -> str | None:
    """The name of the candidate with the least mean Chamfer distance to the other ones; None without any.

    Registered as the protocol says, on thinned clouds (in random order). With shapes of the validation split as candidates
    it bounds what can be scored by a method that ignores its input, without having seen the test's truths.
    """
    names = list(candidates)
    if not names:
        return None
    clouds = [candidates[name].points[:_THIN] for name in names]
    error = np.zeros((len(names), len(names)))
    for i, cloud in enumerate(clouds):
        for j in range(i):
            distances = chamfer_distance(protocol.align(clouds[j], cloud), cloud)
            error[i, j] = error[j, i] = float(sum(distances))
    return names[int(error.sum(1).argmin())]


def visual_hull(picture: ImageSample, protocol: EvaluationProtocol) -> trimesh.Trimesh:
    """All of the grid's cube that falls into the picture's silhouette: what is left without knowledge of depth.

    Closed; its outline runs where half of a pixel would be covered.
    """
    camera = picture.camera.map(lambda matrix: matrix[None])
    alpha = torch.from_numpy(picture.alpha)[None, None]

    def outside(points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        uv, depth = camera.project(points[None])
        screen = camera.screen(uv)[None]
        covered = F.grid_sample(alpha, screen, padding_mode="zeros", align_corners=False)[0, 0, 0]
        return 0.5 - torch.where(depth[0] > 0, covered, 0)

    vertices, faces = dataclasses.replace(protocol.grid, dense=True).surface(outside)
    return trimesh.Trimesh(vertices, faces, process=False)
