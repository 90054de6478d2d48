"""Chamfer distance over a data set."""

from __future__ import annotations

import torch
import torchmetrics
from jaxtyping import Float
from torch import Tensor

from sdfsrn.functional.pointcloud import chamfer_distance


class ChamferDistance(torchmetrics.Metric):
    """Mean accuracy, coverage, and their mean (chamfer) over objects; an empty prediction is a failure, not a distance.

    `compute` gives a dictionary; the distances are infinite if there was nothing but failures, and it is empty if there was
    nothing at all.
    """

    full_state_update = False
    accuracy: Tensor
    coverage: Tensor
    measured: Tensor
    failures: Tensor

    def __init__(self, **options) -> None:
        super().__init__(**options)
        for name in ("accuracy", "coverage"):
            self.add_state(name, torch.zeros(()), dist_reduce_fx="sum")
        for name in ("measured", "failures"):
            self.add_state(name, torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, predicted: Float[Tensor, "n 3"], truth: Float[Tensor, "k 3"]) -> None:
        """Add an object; `predicted` without points is a failure."""
        if len(predicted) == 0:
            self.failures += 1
            return
        accuracy, coverage = chamfer_distance(predicted.to(truth.device), truth)
        self.accuracy += accuracy
        self.coverage += coverage
        self.measured += 1

    def compute(self) -> dict[str, Tensor]:
        """`accuracy`, `coverage`, `chamfer` in the clouds' unit, and `failures`; nothing without an object."""
        if self.measured + self.failures == 0:
            return {}
        infinite = torch.full_like(self.accuracy, torch.inf)
        accuracy, coverage = (
            torch.where(self.measured > 0, total / self.measured, infinite) for total in (self.accuracy, self.coverage)
        )
        return {
            "accuracy": accuracy,
            "coverage": coverage,
            "chamfer": (accuracy + coverage) / 2,
            "failures": self.failures.float(),
        }
