from __future__ import annotations

import numpy as np
import torch
import trimesh

from scenes import surface_points
from sdfsrn.evaluation.results import Reconstruction
from sdfsrn.evaluation.writers import mesh_pictures
from sdfsrn.functional.camera import PerspectiveCamera


def test_the_side_view_has_large_and_distant_truths_in_sight() -> None:
    camera = PerspectiveCamera(torch.eye(3, 4), torch.eye(3))

    def side(points: torch.Tensor) -> np.ndarray:
        return mesh_pictures(Reconstruction(trimesh.Trimesh(), points, [], camera))[3]

    def dark(points: torch.Tensor) -> np.ndarray:
        return (side(points).astype(int).sum(-1) < 700).nonzero()

    unit = surface_points(trimesh.creation.box((1.0, 0.4, 0.7)), 4000)
    for points in (unit, 3 * unit + 2, 0.01 * unit - 7):
        assert np.array_equal(np.array(dark(points)).min(1) // 6, np.array(dark(unit)).min(1) // 6)
        assert np.array_equal(np.array(dark(points)).max(1) // 6, np.array(dark(unit)).max(1) // 6)
    assert side(torch.zeros(0, 3)).min() == 255
