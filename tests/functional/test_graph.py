"""Edges and Laplacians: recorded values, trimesh, spheres and planes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from sdfsrn.functional.graph import cotangent_laplacian, edges, flap_cosines, flaps, uniform_laplacian
from softras import double, softras_values

BALL = trimesh.creation.icosphere(3)


def parts(mesh: trimesh.Trimesh) -> tuple[torch.Tensor, torch.Tensor]:
    return double(mesh.vertices), torch.tensor(np.asarray(mesh.faces))


@pytest.mark.parametrize("case", range(3))
def test_recorded_values(case: int) -> None:
    record = softras_values("meshes")[case]
    vertices, faces = double(record["vertices"]), torch.tensor(record["faces"])
    exact = {"rtol": 1e-10, "atol": 1e-12}
    uniform = uniform_laplacian(faces, len(vertices), torch.double) @ vertices
    torch.testing.assert_close(uniform, double(record["uniform_laplacian"]), **exact)
    torch.testing.assert_close(cotangent_laplacian(vertices, faces) @ vertices, double(record["cotangent_laplacian"]), **exact)
    torch.testing.assert_close(flap_cosines(vertices[None], flaps(faces))[0], double(record["flap_cosines"]), **exact)


def test_frozen_weights_have_their_recorded_values() -> None:
    record = softras_values("cotangent_frozen")
    frozen = cotangent_laplacian(double(record["weights_of"]), torch.tensor(record["faces"]))
    torch.testing.assert_close(frozen @ double(record["vertices"]), double(record["laplacian"]), rtol=1e-10, atol=1e-12)


def test_edges_are_those_of_trimesh() -> None:
    _, faces = parts(BALL)
    assert set(map(tuple, edges(faces).tolist())) == set(map(tuple, BALL.edges_unique.tolist()))
    found = flaps(faces)
    assert len(found) == len(faces) * 3 // 2
    triangles = {frozenset(face) for face in faces.tolist()}
    assert all({frozenset((a, b, c)), frozenset((a, b, d))} <= triangles for a, b, c, d in found.tolist())
    with pytest.raises(ValueError, match="Expected a closed mesh"):
        flaps(faces[1:])


def test_the_cotangent_laplacian_of_a_sphere_points_to_its_centre() -> None:
    """Parallel to the normal, of lengths 2 area_i / R in sum 2 area / R; symmetric, rows sum to 0, L(a x + t) = a L(x)."""
    radius = 0.7
    vertices, faces = parts(trimesh.creation.icosphere(3, radius))
    laplacian = cotangent_laplacian(vertices, faces)
    torch.testing.assert_close(laplacian, laplacian.T)
    torch.testing.assert_close(laplacian.sum(1), torch.zeros(642).double(), rtol=0, atol=1e-12)
    curvature = laplacian @ vertices
    cosine = torch.nn.functional.cosine_similarity(curvature, -vertices)
    assert cosine.min() > 0.999
    area = trimesh.creation.icosphere(3, radius).area
    assert curvature.norm(dim=1).sum().item() == pytest.approx(2 * area / radius, rel=0.01)
    torch.testing.assert_close(laplacian @ (3 * vertices + 5), 3 * curvature)
    scaled = cotangent_laplacian(2 * vertices + 1, faces)
    torch.testing.assert_close(scaled, laplacian)


def test_a_plane_has_no_curvature_inside() -> None:
    grid = torch.arange(5).double()
    vertices = torch.stack([*torch.meshgrid(grid, grid**1.2, indexing="ij"), torch.zeros(5, 5).double()], -1).view(-1, 3)
    corner = (torch.arange(4)[:, None] * 5 + torch.arange(4)).flatten()
    faces = torch.cat([torch.stack([corner, corner + 5, corner + 6], 1), torch.stack([corner, corner + 6, corner + 1], 1)])
    curvature = (cotangent_laplacian(vertices, faces) @ vertices).view(5, 5, 3)
    assert curvature[1:4, 1:4].abs().max() < 1e-12
    assert curvature[0].abs().max() > 0.1


def test_spheres_have_known_losses() -> None:
    """The uniform Laplacian's grows with R^2, the flaps' does not depend on R."""
    vertices, faces = parts(BALL)
    uniform, pairs = uniform_laplacian(faces, 642, torch.double), flaps(faces)
    for radius in (0.25, 0.5):
        squares = (uniform @ (radius * vertices)).square().sum().item()
        assert squares == pytest.approx(0.00807 * (radius / 0.25) ** 2, rel=1e-3)
        folds = (flap_cosines(radius * vertices[None], pairs) + 1).square().sum().item()
        assert folds == pytest.approx(0.0316, rel=2e-3)
    mean = (cotangent_laplacian(vertices, faces) @ vertices).norm(dim=1).mean().item()
    assert mean == pytest.approx(0.0390, rel=2e-3)


def test_gradients_against_finite_differences_and_degenerate_flaps() -> None:
    mesh = trimesh.creation.icosphere(0)
    vertices, faces = parts(mesh)
    pairs = flaps(faces)
    points = (vertices + 0.1 * torch.randn(12, 3).double())[None].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: flap_cosines(x, pairs), points)
    flat = torch.zeros(1, 12, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(flap_cosines(flat, pairs).sum(), flat)
    assert gradient.isfinite().all()
