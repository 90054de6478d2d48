"""Distances between point clouds, and the rigid motion that brings one nearest to another."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import KDTree
from torch import Tensor

_SIZE = 32  # points of a block
_GROUP = 64  # blocks of queries at a time


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
    """The nearest of the target's points, for many queries: by blocks on the CPU, every pair (in chunks) on a GPU.

    Both clouds are cut into blocks of near points, and only those blocks are compared, every pair of theirs, whose boxes are
    no farther apart than the query's block may lie from its nearest points. A k-d tree answers one query after the other, and
    takes long where many points are nearly equally far, as between a ball's centre and its surface. Compared in float64; the
    answer does not depend on the number of cores.
    """

    def __init__(self, target: Float[Tensor, "k 3"]) -> None:
        self.target = target
        if target.device.type == "cpu":
            self._origin = target.double().mean(0).numpy()
            self._index, points = _blocks(target.double().numpy() - self._origin)
            self._low, self._high = points.min(1), points.max(1)
            self._lifted = np.concatenate([-2 * points, np.square(points).sum(-1, keepdims=True)], -1)

    def __call__(self, source: Float[Tensor, "n 3"]) -> tuple[Float[Tensor, " n"], Int[Tensor, " n"]]:
        """Distance to the nearest target point, and its index."""
        if source.device.type != "cpu":
            nearest = [_distances(part, self.target).min(-1) for part in source.split(4096)]
            return torch.cat([part.values for part in nearest]), torch.cat([part.indices for part in nearest])
        index = torch.from_numpy(self._nearest(source.double().numpy() - self._origin))
        return torch.linalg.vector_norm(source - self.target[index], dim=-1), index

    def _nearest(self, source: np.ndarray) -> np.ndarray:
        """Indices of the least |x - y|^2 - |x|^2 = (x, 1) . (-2 y, |y|^2)."""
        places, points = _blocks(source)
        index = np.empty(len(source), np.int64)
        for start in range(0, len(places), _GROUP):  # the tables of more blocks would not stay in the processor's cache
            part = points[start : start + _GROUP]
            query = np.concatenate([part, np.ones((*part.shape[:2], 1))], -1)
            for place, block, near in zip(places[start : start + _GROUP], query, self._near(part, query), strict=True):
                chosen = near.nonzero()[0]
                nearest = (block @ self._lifted[chosen].reshape(-1, 4).T).argmin(-1)
                index[place] = self._index[chosen].reshape(-1)[nearest]
        return index

    def _near(self, points: np.ndarray, query: np.ndarray) -> np.ndarray:
        """Which target blocks (columns) may hold the nearest point of any in a query block (rows)."""
        square = np.square(points).sum(-1)
        first = (query[:, _SIZE // 2] @ self._lifted[:, _SIZE // 2].T).argmin(-1)
        reach = ((query @ self._lifted[first].transpose(0, 2, 1)).min(-1) + square).max(-1)  # squared; it is no farther
        low, high = points.min(1), points.max(1)
        gap = np.zeros((len(points), len(self._low)))
        for axis in range(3):
            apart = np.maximum(self._low[:, axis] - high[:, axis, None], low[:, axis, None] - self._high[:, axis])
            gap += np.square(apart.clip(0))
        rounding = 1e-12 * (square.max() + self._lifted[..., 3].max())
        return gap <= reach[:, None] + rounding


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


def _blocks(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices (m, size) and coordinates (m, size, 3) of points that lie together; the last one is repeated to fill up."""
    order = KDTree(points, _SIZE, compact_nodes=False).indices
    index = np.pad(order, (0, -len(order) % _SIZE), mode="edge").reshape(-1, _SIZE)
    return index, points[index]


def _distances(source: Float[Tensor, "n 3"], target: Float[Tensor, "k 3"]) -> Float[Tensor, "n k"]:
    return torch.cdist(source, target, compute_mode="donot_use_mm_for_euclid_dist")
