"""Distances between point clouds, and the rigid motion that brings one nearest to another."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree
from torch import Tensor


class Registration(NamedTuple):
    """A rigid motion x -> R x + t, never a reflection, and how near it brings a cloud to its target."""

    rotation: Float[Tensor, "3 3"]  # float64, like the rest
    translation: Float[Tensor, " 3"]
    error: Float[Tensor, ""]  # mean squared distance to the nearest target point, moved
    start: Float[Tensor, ""]  # the same before

    def apply(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Moved points, of the dtype they came in."""
        return (points.double() @ self.rotation.T + self.translation).to(points.dtype)


class Neighbours:
    """The nearest of the target's points, for many queries: a k-d tree on the CPU, every pair (in chunks) on a GPU.

    A tree has to visit nearly all points for a query that is nearly equally far from all of them, as near the centre of a
    ball, and is slower at that than comparing every pair; such queries are told by a sample of the target, and compared.
    The answer does not depend on which way was taken, nor on the number of cores.
    """

    _SAMPLE = 64  # points a query is compared with to tell whether it is hard

    def __init__(self, target: Float[Tensor, "k 3"]) -> None:
        self.target = target
        if target.device.type == "cpu":
            self._tree = KDTree(target.numpy())
            self._sample = target[:: -(-len(target) // self._SAMPLE)]

    def __call__(self, source: Float[Tensor, "n 3"]) -> tuple[Float[Tensor, " n"], Int[Tensor, " n"]]:
        """Distance to the nearest target point, and its index."""
        if source.device.type != "cpu":
            nearest = [_distances(part, self.target).min(-1) for part in source.split(4096)]
            return torch.cat([part.values for part in nearest]), torch.cat([part.indices for part in nearest])
        hard = self._hard(source)
        index = torch.empty(len(source), dtype=torch.long)
        index[~hard] = torch.from_numpy(self._tree.query(source[~hard].numpy(), workers=-1)[1])
        index[hard] = torch.from_numpy(self._compare(source[hard].numpy()))
        return torch.linalg.vector_norm(source - self.target[index], dim=-1), index

    def _hard(self, source: Float[Tensor, "n 3"]) -> Bool[Tensor, " n"]:
        """The tree is slow: too many of the sample are not much farther than the nearest of it."""
        if len(self.target) <= 16 * self._SAMPLE:
            return torch.zeros(len(source), dtype=torch.bool)
        widest = 0.03 * float(
            (self._sample.amax(0) - self._sample.amin(0)).norm()
        )  # from afar all are equally far, but no trouble
        hard = []
        for part in source.split(4096):
            distance = _distances(part, self._sample)
            nearest = distance.amin(-1, keepdim=True)
            near = distance <= nearest + (0.15 * nearest).clamp(max=widest)
            hard.append(near.sum(-1) > self._SAMPLE // 10)
        return torch.cat(hard)

    def _compare(self, source: np.ndarray, chunk: int = 8) -> np.ndarray:
        """Indices of the least |x - y|^2 - |x|^2 = (x, 1) . (-2 y, |y|^2); chunks that stay in the processor's cache."""
        target = self.target.double().numpy()
        lifted = np.concatenate([-2 * target, np.square(target).sum(-1, keepdims=True)], -1).T.copy()
        query = np.concatenate([source, np.ones((len(source), 1))], -1)
        index = np.empty(len(source), dtype=np.int64)
        for start in range(0, len(source), chunk):
            index[start : start + chunk] = (query[start : start + chunk] @ lifted).argmin(-1)
        return index


class Match(NamedTuple):
    """Two clouds, each point with the nearest one of the other cloud."""

    accuracy: Float[Tensor, " n"]  # distance of a predicted point from the nearest true one
    true_index: Int[Tensor, " n"]  # which one that is
    coverage: Float[Tensor, " k"]  # distance of a true point from the nearest predicted one
    predicted_index: Int[Tensor, " k"]


def match(predicted: Float[Tensor, "n 3"], truth: Float[Tensor, "k 3"]) -> Match:
    """Nearest neighbours in both directions, from which the distances between two surfaces follow.

    Raises:
        ValueError: one of the clouds is empty.
    """
    if len(predicted) == 0 or len(truth) == 0:
        raise ValueError(f"Expected two clouds with points, got {len(predicted)} predicted and {len(truth)} true ones.")
    return Match(*Neighbours(truth)(predicted), *Neighbours(predicted)(truth))


def nearest_distance(source: Float[Tensor, "n 3"], target: Float[Tensor, "k 3"]) -> Float[Tensor, " n"]:
    """Distance from each source point to the nearest target point."""
    return Neighbours(target)(source)[0]


def chamfer_distance(
    predicted: Float[Tensor, "n 3"], truth: Float[Tensor, "k 3"], squared: bool = False
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """(accuracy, coverage): the mean distance from prediction to truth, and from truth to prediction.

    In the clouds' unit, or its square with `squared`; the paper's tables show ten times the unsquared one. Section 4,
    arXiv:2010.10505.

    Raises:
        ValueError: one of the clouds is empty.
    """
    found = match(predicted, truth)
    power = 2 if squared else 1
    return found.accuracy.pow(power).mean(), found.coverage.pow(power).mean()


def icp(source: Float[Tensor, "n 3"], target: Float[Tensor, "k 3"], iterations: int = 50) -> Registration:
    """The rigid motion of `source` with a small mean squared distance to the nearest points of `target`.

    In turn, each moved point is given its nearest target point, and the motion that brings them nearest to those is taken;
    the best motion on the way is the result: the last one, but for rounding errors, so it is never worse than none. Ends
    early when the points given do not change. Float64; the same on any number of cores. Besl & McKay 1992; appendix B.2,
    arXiv:2010.10505.

    Raises:
        ValueError: one of the clouds is empty.
    """
    if len(source) == 0 or len(target) == 0:
        raise ValueError(f"Expected two clouds with points, got {len(source)} to move and {len(target)} to move them to.")
    source, target = source.detach().double(), target.detach().double()
    rotation, translation = torch.eye(3).to(source), torch.zeros(3).to(source)
    neighbours = Neighbours(target)
    distance, index = neighbours(source)
    start = distance.square().mean()
    best = Registration(rotation, translation, start, start)
    for _ in range(iterations):
        turn, shift = rigid_motion(source @ rotation.T + translation, target[index])
        rotation, translation = turn @ rotation, turn @ translation + shift
        before = index
        distance, index = neighbours(source @ rotation.T + translation)
        error = distance.square().mean()
        if error < best.error:
            best = Registration(rotation, translation, error, start)
        if torch.equal(index, before):
            break
    return best


def rigid_motion(
    source: Float[Tensor, "n 3"], target: Float[Tensor, "n 3"]
) -> tuple[Float[Tensor, "3 3"], Float[Tensor, " 3"]]:
    """R, t with the least sum of |R x + t - y|^2 over pairs of points: R = V diag(1, 1, det(V U^T)) U^T, never a reflection.

    U S V^T is the singular value decomposition of the sum of (x - mean) (y - mean)^T. Where the points leave R open, as on a
    line, it is the smallest one. Kabsch 1976.
    """
    center, goal = source.mean(0), target.mean(0)
    covariance = (source - center).T @ (target - goal)
    tie = (1e-12 * covariance.norm()).clamp(min=1e-100)  # in favour of no rotation
    u, _, vt = torch.linalg.svd(covariance + tie * torch.eye(3).to(covariance))
    signs = torch.ones(3).to(covariance)
    signs[2] = torch.det(vt.T @ u.T).sign()
    rotation = vt.T * signs @ u.T
    return rotation, goal - rotation @ center


def _distances(source: Float[Tensor, "n 3"], target: Float[Tensor, "k 3"]) -> Float[Tensor, "n k"]:
    return torch.cdist(source, target, compute_mode="donot_use_mm_for_euclid_dist")
