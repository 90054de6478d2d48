from __future__ import annotations

import math

import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from sdfsrn.functional.alignment import Affine, box_alignment, identity, scale_alignment, yaw_alignment

DOUBLE = {"dtype": torch.double}


def wedge(count: int = 1500, seed: int = 0) -> torch.Tensor:
    """Points in a solid without any symmetry."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.tensor([[0, 0, 0], [0.9, 0, 0], [0.1, 0.5, 0], [0.2, 0.1, 0.35]], **DOUBLE) - 0.2
    weight = -torch.rand(count, 4, generator=generator, **DOUBLE).log()
    return weight / weight.sum(-1, keepdim=True) @ corner


def turned(points: torch.Tensor, degrees: float) -> torch.Tensor:
    return points @ torch.from_numpy(Rotation.from_euler("y", degrees, degrees=True).as_matrix()).T


@pytest.mark.parametrize("degrees", [-170.5, -90, 0, 3, 64.5, 180])
def test_a_turn_about_the_vertical_is_undone_exactly(degrees: float) -> None:
    found = yaw_alignment(turned(wedge(), degrees), wedge())
    torch.testing.assert_close(found.apply(turned(wedge(), degrees)), wedge(), atol=1e-9, rtol=0)


def test_a_turn_between_the_steps_is_undone_to_a_quarter_degree_from_other_points() -> None:
    found = yaw_alignment(turned(wedge(seed=1), 31.2), wedge())
    assert math.degrees(math.atan2(found.matrix[0, 2], found.matrix[0, 0])) == pytest.approx(-31.2, abs=1.5)


def test_what_looks_the_same_from_all_sides_is_not_turned() -> None:
    axis = torch.tensor([[0.0, -1, 0], [0, 0, 0], [0, 1, 0]])
    assert torch.equal(yaw_alignment(axis, axis + 0.1).matrix, torch.eye(3, **DOUBLE))


def test_size_and_place_are_undone() -> None:
    target = wedge()
    shift = torch.tensor([0.3, -2.0, 1.0], **DOUBLE)
    torch.testing.assert_close(scale_alignment(0.2 * target + shift, target).apply(0.2 * target + shift), target)
    stretched = target * torch.tensor([0.5, 2.0, 3.0]) + shift
    torch.testing.assert_close(box_alignment(stretched, target).apply(stretched), target)
    assert not torch.allclose(scale_alignment(stretched, target).apply(stretched), target, atol=0.02)


def test_flat_and_single_clouds_stay_finite() -> None:
    for source in (torch.zeros(1, 3), torch.zeros(5, 3), torch.rand(5, 3) * torch.tensor([1.0, 0, 1])):
        for align in (scale_alignment, box_alignment, yaw_alignment):
            assert align(source, wedge().float()).apply(source).isfinite().all()


def test_normals_follow_the_surface() -> None:
    """Of an ellipsoid, the gradient of |x / a|^2."""
    points = torch.nn.functional.normalize(torch.randn(50, 3, **DOUBLE), dim=-1)
    sides = torch.tensor([0.5, 1.0, 3.0], **DOUBLE)
    rotation = torch.from_numpy(Rotation.random(rng=0).as_matrix())
    moved = Affine(rotation @ torch.diag(sides), torch.ones(3, **DOUBLE))
    expected = torch.nn.functional.normalize(points / sides, dim=-1) @ rotation.T
    torch.testing.assert_close(moved.apply_normals(points), expected)


def test_one_after_the_other() -> None:
    first, second = (Affine(torch.randn(3, 3, **DOUBLE), torch.randn(3, **DOUBLE)) for _ in range(2))
    points = torch.randn(7, 3, **DOUBLE)
    torch.testing.assert_close(second.after(first).apply(points), second.apply(first.apply(points)))
    assert torch.equal(identity(points).apply(points), points)
    mesh = trimesh.creation.box()
    assert identity(points).apply(torch.from_numpy(mesh.vertices.copy()).float()).dtype == torch.float32
