"""The evaluation protocol: what it measures exactly, and what each alignment takes away."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
import trimesh

from scenes import ball, points_only, surface_points, wedge
from sdfsrn import EvaluationProtocol
from sdfsrn.evaluation.measuring import measure
from sdfsrn.evaluation.summary import summarize
from sdfsrn.functional.isosurface import Grid
from sdfsrn.models import Field, Linear

PROTOCOL = EvaluationProtocol(resolution=32, num_points=5000)
REGISTERED = dataclasses.replace(PROTOCOL, icp_iterations=50)


def chamfer(mesh: trimesh.Trimesh, truth: torch.Tensor, protocol: EvaluationProtocol) -> float:
    return measure(mesh, points_only(truth), protocol).values["chamfer"]


def test_distances_between_two_balls_are_their_difference() -> None:
    truth = torch.from_numpy(trimesh.sample.sample_surface(ball(0.5), 20_000, seed=1)[0]).float()
    status, found = measure(ball(0.4), points_only(truth), PROTOCOL)
    assert status == "ok"
    assert found["accuracy"] == pytest.approx(0.1, abs=2e-3)
    assert found["coverage"] == pytest.approx(0.1, abs=2e-3)
    assert found["chamfer"] == pytest.approx((found["accuracy"] + found["coverage"]) / 2)


class Ball(Field):
    """A ball of radius 0.4, without weights."""

    def __init__(self) -> None:
        self.sdf_head = Linear(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))

    def sdf(self, points: torch.Tensor) -> torch.Tensor:
        return points.norm(dim=-1) - 0.4


def test_a_sphere_measured_against_itself_at_128() -> None:
    """Within the sampling noise, 1 / (2 sqrt(points a unit of area)): 0.0041 x 10 of accuracy, as in the facts of the paper."""
    protocol, area = EvaluationProtocol(), 4 * math.pi * 0.4**2
    truth = 0.4 * torch.nn.functional.normalize(torch.randn(30_000, 3), dim=-1)
    mesh = Ball().mesh(protocol.grid, color=False)
    found = measure(mesh, points_only(truth), protocol).values
    assert found["accuracy"] == pytest.approx(0.5 * math.sqrt(area / 30_000), rel=0.02)
    assert found["coverage"] == pytest.approx(0.5 * math.sqrt(area / 100_000), rel=0.02)
    voxel = 1.2 / 128
    assert np.abs(mesh.bounds.mean(0)).max() < 0.1 * voxel
    assert np.abs(np.ptp(mesh.bounds, axis=0) - 0.8).max() < 0.1 * voxel
    shifted = measure(Ball().mesh(Grid(placement="authors"), color=False), points_only(truth), protocol).values
    assert shifted["accuracy"] == pytest.approx(0.0067, abs=3e-4)  # as the released code measures it


def test_authors_placement_shifts_and_shrinks() -> None:
    exact, authors = (Ball().mesh(Grid(64, placement=p), color=False) for p in ("exact", "authors"))
    np.testing.assert_allclose(exact.bounds, [[-0.4] * 3, [0.4] * 3], atol=1e-3)
    assert exact.volume == pytest.approx(4 / 3 * math.pi * 0.4**3, rel=0.01)
    np.testing.assert_allclose(authors.bounds.mean(0), -0.6 / 65, atol=1e-4)
    np.testing.assert_allclose(np.ptp(authors.bounds, axis=0), 0.8 * 64 / 65, atol=2e-3)


def test_a_sparse_grid_is_asked_for_and_gives_the_same_mesh(monkeypatch: pytest.MonkeyPatch) -> None:
    dense, sparse = (Ball().mesh(Grid(64, dense=dense), color=False) for dense in (True, False))
    np.testing.assert_array_equal(sparse.vertices, dense.vertices)
    np.testing.assert_array_equal(sparse.faces, dense.faces)
    monkeypatch.setattr("sdfsrn.functional.isosurface.sparse_sdf_grid", None)
    assert EvaluationProtocol(resolution=16).dense
    Ball().mesh(Grid(16), color=False)
    with pytest.raises(TypeError):
        Ball().mesh(Grid(16, dense=False), color=False)


def test_registration_undoes_a_rigid_motion_and_nothing_else() -> None:
    moved = wedge().apply_transform(trimesh.transformations.rotation_matrix(0.2, [1, 2, 3])).apply_translation([0.05, 0, 0.03])
    truth = surface_points(wedge(), 4000)
    here, away = chamfer(wedge(), truth, PROTOCOL), chamfer(moved, truth, PROTOCOL)
    registered = chamfer(moved, truth, REGISTERED)
    assert away > 2 * here
    assert registered == pytest.approx(here, rel=0.03)
    assert chamfer(wedge().apply_scale(1.3), truth, REGISTERED) > 1.5 * here
    assert summarize([], REGISTERED)["protocol"]["icp_iterations"] == 50


def test_each_alignment_removes_its_own_difference() -> None:
    truth, here = surface_points(wedge(), 4000), chamfer(wedge(), surface_points(wedge(), 4000), PROTOCOL)
    changed = {
        "yaw": wedge().apply_transform(trimesh.transformations.rotation_matrix(2.0, [0, 1, 0])),
        "scale": wedge().apply_scale(0.6).apply_translation([0.2, 0, -0.1]),
        "anisotropic": wedge().apply_scale([0.6, 1.5, 1]).apply_translation([0.2, 0, -0.1]),
    }
    for change, mesh in changed.items():
        assert chamfer(mesh, truth, PROTOCOL) > 3 * here
        aligned = {name: chamfer(mesh, truth, dataclasses.replace(PROTOCOL, alignment=name)) for name in changed}
        assert aligned[change] == pytest.approx(here, rel=0.15)
        assert all(
            error > 2 * here for name, error in aligned.items() if (name, change) != ("anisotropic", "scale") and name != change
        )
    both = changed["yaw"].copy().apply_transform(trimesh.transformations.rotation_matrix(0.1, [1, 0, 0]))
    assert chamfer(both, truth, dataclasses.replace(REGISTERED, alignment="yaw")) == pytest.approx(here, rel=0.05)
    with pytest.raises(ValueError, match="anisotropic, got mirror"):
        EvaluationProtocol(alignment="mirror")


def test_aligned_clouds_keep_their_points_and_empty_ones_stay() -> None:
    truth, predicted = surface_points(wedge(), 2000), surface_points(wedge(), 12_000, seed=2) + 0.02
    aligned = REGISTERED.align(predicted, truth)
    assert aligned.shape == predicted.shape
    assert aligned.dtype == torch.float32
    pairs = torch.randint(12_000, (100, 2))
    torch.testing.assert_close(
        (aligned[pairs[:, 0]] - aligned[pairs[:, 1]]).norm(dim=-1),
        (predicted[pairs[:, 0]] - predicted[pairs[:, 1]]).norm(dim=-1),
    )
    assert (aligned - (predicted - 0.02)).norm(dim=-1).mean() < 2e-3
    assert torch.equal(PROTOCOL.align(predicted, truth), predicted)
    nothing = torch.zeros(0, 3)
    assert torch.equal(REGISTERED.align(predicted, nothing), predicted)
    assert len(REGISTERED.align(nothing, truth)) == 0


@pytest.mark.parametrize("numbers", [[1.0] * 9, [1.0, 0, 0, 0, 1, 0, 0, 0, -1], [1.0, 0, 0]])
def test_a_rotation_that_is_none_is_refused(numbers: list[float]) -> None:
    with pytest.raises(ValueError, match=r"Expected protocol\.rotation to be the 9 numbers of a rotation"):
        EvaluationProtocol(rotation=numbers)
