"""Alignments of one point cloud with another by scale, box or yaw, in addition to the rigid one of `icp`."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sdfsrn.functional.pointcloud import nearest_distance

ANGLES, FINE = 72, 10  # of the search: every 5 degrees all around, then every 0.5 degrees about the best
_THIN = 1000  # points that are enough to tell angles apart


class Affine(NamedTuple):
    """x -> A x + t, float64."""

    matrix: Float[Tensor, "3 3"]
    translation: Float[Tensor, " 3"]

    def apply(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Moved points, of the dtype they came in."""
        return (points.double() @ self.matrix.T + self.translation).to(points.dtype)

    def apply_normals(self, normals: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Unit normals of the moved surface, A^-T n."""
        moved = normals.double() @ torch.linalg.inv(self.matrix)
        return torch.nn.functional.normalize(moved, dim=-1).to(normals.dtype)

    def after(self, first: Affine) -> Affine:
        """Both: `first`, then this."""
        return Affine(self.matrix @ first.matrix, self.matrix @ first.translation + self.translation)


def identity(like: Tensor) -> Affine:
    """On the device of `like`."""
    return Affine(torch.eye(3).to(like).double(), torch.zeros(3).to(like).double())


def scale_alignment(source: Float[Tensor, "n 3"], target: Float[Tensor, "k 3"]) -> Affine:
    """The scale and shift that give the source the target's centroid and root mean square distance from it."""
    center, goal = source.double().mean(0), target.double().mean(0)
    radius, reach = (
        (points.double() - middle).square().sum(-1).mean().sqrt() for points, middle in ((source, center), (target, goal))
    )
    scale = reach / radius.clamp(min=1e-12)
    return Affine(scale * torch.eye(3).to(goal), goal - scale * center)


def box_alignment(source: Float[Tensor, "n 3"], target: Float[Tensor, "k 3"]) -> Affine:
    """The scales of the three axes and the shift that give the source the target's bounding box."""
    low, high, start, end = source.amin(0).double(), source.amax(0).double(), target.amin(0).double(), target.amax(0).double()
    scale = (end - start) / (high - low).clamp(min=1e-12)
    return Affine(torch.diag(scale), start - scale * low)


def yaw_alignment(source: Float[Tensor, "n 3"], target: Float[Tensor, "k 3"]) -> Affine:
    """The turn about the world's y axis, in half degrees, with the least Chamfer distance (of thinned clouds, random order).

    Sought all around in steps of 5 degrees, then in steps of 0.5 about the best; of equals the smallest turn.
    """
    source, target = source[:_THIN].double(), target[:_THIN].double()

    def error(half_degrees: int) -> tuple[float, int]:
        moved = source @ _turn(half_degrees).to(source).T
        distance = nearest_distance(moved, target).mean() + nearest_distance(target, moved).mean()
        return round(float(distance), 9), abs(half_degrees)

    coarse = min(range(-360, 360, 720 // ANGLES), key=error)
    best = min(range(coarse - FINE, coarse + FINE + 1), key=error)
    return Affine(_turn(best).to(source), torch.zeros(3).to(source))


def _turn(half_degrees: int) -> Float[Tensor, "3 3"]:
    angle = math.radians(half_degrees / 2)
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]], dtype=torch.double)
