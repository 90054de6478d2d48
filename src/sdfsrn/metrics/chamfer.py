"""Chamfer distance over a data set."""

from __future__ import annotations

from torch import Tensor

from sdfsrn.functional.pointcloud import chamfer_distance
from sdfsrn.metrics.objects import ObjectMean, Surface, cloud


class ChamferDistance(ObjectMean):
    """Mean `accuracy`, `coverage`, and their mean `chamfer` over objects, and `failures`; clouds or meshes.

    In their unit, or its square; infinite if there was nothing but failures. See `chamfer_distance`.

    Args:
        squared: mean squared distances instead.
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
