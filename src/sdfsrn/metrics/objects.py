"""Means over objects, exactly the same on any number of processes and in any order."""

from __future__ import annotations

import abc

import torch
import torchmetrics
import trimesh
from jaxtyping import Float
from torch import Tensor

from sdfsrn.meshes.geometry import sample_surface

_UNIT = 2.0**-40  # of the sums, which are whole numbers, so that no order of adding them matters

Surface = Float[Tensor, "_ 3"] | trimesh.Trimesh


class ObjectMean(torchmetrics.Metric, abc.ABC):
    """Mean over objects of the values of `measure`; an empty prediction counts as a failure and has no value.

    `compute` gives a dictionary, empty without an object; values are `worst` if all objects failed.

    Args:
        names: of the values.
        worst: infinity for distances, 0 for scores.
        options: of `torchmetrics.Metric`.
    """

    full_state_update = False
    total: Tensor
    measured: Tensor
    failures: Tensor

    def __init__(self, names: list[str], worst: float, **options) -> None:
        super().__init__(**options)
        self.names, self.worst = names, worst
        self.add_state("total", torch.zeros(len(names), dtype=torch.long), dist_reduce_fx="sum")
        for name in ("measured", "failures"):
            self.add_state(name, torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    @abc.abstractmethod
    def measure(self, predicted: Surface, truth: Surface) -> list[Tensor]:
        """The values of an object, in the order of `names`."""

    def update(self, predicted: Surface, truth: Surface) -> None:
        """Add an object; `predicted` without points or faces is a failure."""
        if len(predicted.faces if isinstance(predicted, trimesh.Trimesh) else predicted) == 0:
            self.failures += 1
            return
        values = torch.stack(self.measure(predicted, truth)).to(self.total.device)
        self.total += (values / _UNIT).round().long()
        self.measured += 1

    def compute(self) -> dict[str, Tensor]:
        """The means by name, and `failures`; empty without an object."""
        if self.measured + self.failures == 0:
            return {}
        mean = self.total * _UNIT / self.measured.clamp(min=1)
        mean = torch.where(self.measured > 0, mean, torch.full_like(mean, self.worst))
        return dict(zip(self.names, mean, strict=True)) | {"failures": self.failures.float()}


def cloud(surface: Surface, num_points: int, seed: int = 0) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "m 3"]]:
    """Sample points and normals of a mesh; a cloud is returned as it is, without normals."""
    if isinstance(surface, trimesh.Trimesh):
        points, normals = (torch.from_numpy(array).float() for array in sample_surface(surface, num_points, seed))
        return points, normals
    return surface, surface.new_zeros(0, 3)
