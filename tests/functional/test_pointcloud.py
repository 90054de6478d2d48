from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

from sdfsrn.functional.pointcloud import chamfer_distance, nearest_distance


def test_nearest_distance_is_that_of_every_pair() -> None:
    source, target = torch.randn(300, 3), torch.randn(170, 3)
    np.testing.assert_allclose(nearest_distance(source, target), cdist(source, target).min(1), rtol=1e-5)
    assert nearest_distance(source, target).dtype == torch.float32


def test_chamfer_against_scipy() -> None:
    predicted, truth = torch.randn(2000, 3) * 0.9, torch.randn(3000, 3)
    accuracy, coverage = chamfer_distance(predicted, truth)
    assert accuracy.item() == pytest.approx(KDTree(truth).query(predicted)[0].mean(), rel=1e-5)
    assert coverage.item() == pytest.approx(KDTree(predicted).query(truth)[0].mean(), rel=1e-5)


def test_distances_are_not_squared_and_not_symmetric() -> None:
    predicted, truth = torch.zeros(1, 3), torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 1.0]])
    accuracy, coverage = chamfer_distance(predicted, truth)
    assert (accuracy.item(), coverage.item()) == (1, 3)


def test_scale_and_rigid_motion() -> None:
    predicted, truth = torch.randn(2, 100, 3, dtype=torch.double)
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.double)).Q
    moved = chamfer_distance(3 * predicted @ rotation + 1, 3 * truth @ rotation + 1)
    torch.testing.assert_close(torch.stack(moved), 3 * torch.stack(chamfer_distance(predicted, truth)))
    assert chamfer_distance(truth, truth)[0] == 0


@pytest.mark.parametrize(("n", "k"), [(0, 5), (5, 0), (0, 0)])
def test_an_empty_cloud_has_no_distance(n: int, k: int) -> None:
    with pytest.raises(ValueError, match=f"got {n} predicted and {k} true"):
        chamfer_distance(torch.zeros(n, 3), torch.zeros(k, 3))
