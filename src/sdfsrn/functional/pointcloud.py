"""Distances between point clouds, and the rigid motion that brings one nearest to another."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import KDTree
from torch import Tensor

_LEAF = 48  # points of a k-d tree's leaf; with scipy's 10 a search takes up to twice as long


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
    """The nearest of the target's points, for many queries: a k-d tree on the CPU, every pair on a GPU.

    The tree compares in float64, on all of torch's threads; its answer does not depend on their number. It is slowest, some
    4 ns per pair, where it has to look at all points, as between the middle of a ball and its surface. Points
    in float64 on a sphere about the origin are searched from each query's projection on it, whose nearest point is the same.
    """

    def __init__(self, target: Float[Tensor, "k 3"]) -> None:
        self.target = target
        if target.is_cuda:
            self._tree, self._radius = None, None
        else:
            points = target.cpu().double().numpy()
            self._tree, self._radius = _tree(points), _sphere_radius(points)

    def __call__(self, source: Float[Tensor, "n 3"]) -> tuple[Float[Tensor, " n"], Int[Tensor, " n"]]:
        """Distance to the nearest target point, and its index."""
        if self._tree is None:
            return nearest_of_all(source, self.target)
        queries = source.cpu().double().numpy()
        if self._radius is not None:
            queries = queries * (self._radius / np.linalg.norm(queries, axis=-1, keepdims=True).clip(1e-300))
        order = _tree(queries).indices  # neighbours follow each other: what they visit stays in the processor's cache
        found = np.empty(len(queries), np.int64)
        found[order] = self._tree.query(queries[order], workers=torch.get_num_threads())[1]
        index = torch.from_numpy(found).to(self.target.device)
        return torch.linalg.vector_norm(source - self.target[index], dim=-1), index


def _tree(points: Float[np.ndarray, "k 3"]) -> KDTree:
    """A tree whose cells are cut in the middle: for points on surfaces it is built and searched faster than scipy's default."""
    return KDTree(points, _LEAF, compact_nodes=False, balanced_tree=False)


def _sphere_radius(points: Float[np.ndarray, "k 3"]) -> float | None:
    """The radius of the sphere about the origin on which all points lie; None if there is none."""
    radius = np.linalg.norm(points, axis=-1)
    middle = float(radius.mean())
    return middle if np.ptp(radius) < 1e-12 * middle else None


def nearest_of_all(
    source: Float[Tensor, "n 3"], target: Float[Tensor, "k 3"], queries: int = 4096
) -> tuple[Float[Tensor, " n"], Int[Tensor, " n"]]:
    """`Neighbours` from the distances of every pair, of some `queries` at a time."""
    exact = "donot_use_mm_for_euclid_dist"
    nearest = [torch.cdist(part, target, compute_mode=exact).min(-1) for part in source.split(queries)]
    return torch.cat([part.values for part in nearest]), torch.cat([part.indices for part in nearest])


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
