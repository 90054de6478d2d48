"""Measures of surfaces and solids as torchmetrics: means over a data set, on any number of processes.

The models' validation uses `ChamferDistance`; the others are there for validations and evaluations of your own. Scores are 0,
and distances infinite, if all objects failed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import trimesh
from torch import Tensor

from sdfsrn.functional.pointcloud import chamfer_distance, match
from sdfsrn.functional.surface import f_score, intersection_over_union, normal_consistency, volume_samples
from sdfsrn.meshes.geometry import contains
from sdfsrn.metrics.objects import ObjectMean, Surface, cloud


class ChamferDistance(ObjectMean):
    """Mean `accuracy`, `coverage`, and their mean `chamfer` over objects, and `failures`; clouds or meshes.

    In their unit, or its square; infinite if all objects failed. See `chamfer_distance`.

    Args:
        squared: take mean squared distances.
        num_points: drawn from a mesh.
        options: of `torchmetrics.Metric`.
    """

    def __init__(self, squared: bool = False, num_points: int = 100_000, **options) -> None:
        super().__init__(["accuracy", "coverage", "chamfer"], float("inf"), **options)
        self.squared, self.num_points = squared, num_points

    def measure(self, predicted: Surface, truth: Surface) -> list[Tensor]:
        """The three distances of an object."""
        points, target = (cloud(surface, self.num_points, seed)[0] for seed, surface in enumerate((predicted, truth)))
        accuracy, coverage = chamfer_distance(points.to(target.device), target, self.squared)
        return [accuracy, coverage, (accuracy + coverage) / 2]


class FScore(ObjectMean):
    """Mean `fscore@<threshold>` over objects, and `failures`; clouds or meshes. See `f_score`.

    Args:
        thresholds: in their unit.
        num_points: drawn from a mesh.
        options: of `torchmetrics.Metric`.
    """

    def __init__(self, thresholds: Sequence[float] = (0.01, 0.02, 0.05), num_points: int = 100_000, **options) -> None:
        super().__init__([f"fscore@{threshold:g}" for threshold in thresholds], 0.0, **options)
        self.thresholds, self.num_points = thresholds, num_points

    def measure(self, predicted: Surface, truth: Surface) -> list[Tensor]:
        """The score at each threshold."""
        points, target = (cloud(surface, self.num_points, seed)[0] for seed, surface in enumerate((predicted, truth)))
        nearest = match(points.to(target.device), target)
        return [f_score(nearest, threshold) for threshold in self.thresholds]


class NormalConsistency(ObjectMean):
    """Mean `normal_consistency` over objects, and `failures`; meshes. See the function of that name.

    Args:
        num_points: drawn from each.
        options: of `torchmetrics.Metric`.
    """

    def __init__(self, num_points: int = 100_000, **options) -> None:
        super().__init__(["normal_consistency"], 0.0, **options)
        self.num_points = num_points

    def measure(self, predicted: Surface, truth: Surface) -> list[Tensor]:
        """The consistency of an object."""
        (points, normals), (target, true) = (_mesh_cloud(mesh, self.num_points, i) for i, mesh in enumerate((predicted, truth)))
        return [normal_consistency(match(points, target), normals, true)]


class VolumeIoU(ObjectMean):
    """Mean `volume_iou` over objects, and `failures`; watertight meshes. See `intersection_over_union`.

    Args:
        power: overlap is sampled at 2^power places in the box around both.
        options: of `torchmetrics.Metric`.
    """

    def __init__(self, power: int = 16, **options) -> None:
        super().__init__(["volume_iou"], 0.0, **options)
        self.power = power

    def measure(self, predicted: Surface, truth: Surface) -> list[Tensor]:
        """The overlap of an object. Raises ValueError unless both are watertight meshes."""
        meshes = [surface for surface in (predicted, truth) if isinstance(surface, trimesh.Trimesh) and surface.is_watertight]
        if len(meshes) != 2:
            raise ValueError("Expected two watertight meshes, got points or an open mesh.")
        corners = np.concatenate([mesh.bounds for mesh in meshes])
        samples = volume_samples(corners.min(0), corners.max(0), self.power)
        return [intersection_over_union(*(torch.from_numpy(contains(mesh, samples)) for mesh in meshes))]


def _mesh_cloud(surface: Surface, num_points: int, seed: int) -> tuple[Tensor, Tensor]:
    if not isinstance(surface, trimesh.Trimesh):
        raise ValueError(f"Expected meshes, which have normals, got {len(surface)} points.")
    return cloud(surface, num_points, seed)
