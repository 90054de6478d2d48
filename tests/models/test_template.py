"""Deformed spheres: recorded vertices, where they may go, mirrors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from sdfsrn.models import DeformationDecoder, MeshDecoder, SoftRasterizer, SphereTemplate
from sdfsrn.models.template import bounded_vertices
from softras import double, softras_values

SPHERE = SphereTemplate(3)


def test_vertices_have_their_recorded_values() -> None:
    for record in softras_values("softras_vertices"):
        base, bias, centroid = (double(record[name]) for name in ("base", "bias", "centroid"))
        vertex = bounded_vertices(base[None], bias[None, None], centroid[None, None])[0, 0]
        torch.testing.assert_close(vertex, double(record["vertex"]), rtol=1e-10, atol=1e-12)


def test_the_template_is_a_closed_unit_sphere_of_642_vertices() -> None:
    assert SPHERE.vertices.shape == (642, 3)
    assert SPHERE.faces.shape == (1280, 3)
    assert SPHERE.flaps.shape == (1920, 4)
    torch.testing.assert_close(SPHERE.vertices.norm(dim=1), torch.ones(642))
    assert (SPHERE.vertices == 0).any(1).sum() == 90
    corners = SPHERE.vertices[SPHERE.faces]
    normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert ((normal * corners.mean(1)).sum(1) > 0).all()
    assert {"vertices", "faces", "flaps", "uniform", "cotangent"} == SPHERE.state_dict().keys()


@pytest.mark.parametrize("extent", [0.5, 1.3])
def test_softras_starts_near_a_sphere_of_half_the_extent(extent: float) -> None:
    meshes = MeshDecoder(8, extent, widths=(16, 32))(torch.randn(4, 8))
    radius = meshes.vertices.norm(dim=-1)
    assert 0.8 * extent / 2 < radius.mean() < 1.2 * extent / 2
    still = bounded_vertices(SPHERE.vertices, torch.zeros(1, 642, 3), torch.zeros(1, 1, 3))
    torch.testing.assert_close(still[0], SPHERE.vertices / 4)


def test_softras_stays_in_its_cube_and_its_octants() -> None:
    bias, centroid = 20 * torch.randn(6, 642, 3), 30 * torch.randn(6, 1, 3)
    vertices = bounded_vertices(SPHERE.vertices, bias, centroid)
    assert vertices.abs().max() <= 0.5
    center = torch.tanh(0.1 * centroid) / 2
    sign = (vertices - center) * SPHERE.vertices.sign()
    assert sign.min() >= -1e-6
    on_plane = SPHERE.vertices == 0
    moved = (vertices - center)[:, on_plane]
    torch.testing.assert_close(moved, torch.zeros_like(moved))
    still = bounded_vertices(SPHERE.vertices, torch.zeros(6, 642, 3), centroid)
    torch.testing.assert_close(still.mean(1).sign(), centroid[:, 0].sign())  # the centroid moves all


def test_softras_gradients_are_finite_and_right() -> None:
    bias = torch.randn(1, 642, 3, requires_grad=True)
    centroid = torch.randn(1, 1, 3, requires_grad=True)
    gradients = torch.autograd.grad(bounded_vertices(SPHERE.vertices, bias, centroid).square().sum(), (bias, centroid))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert (gradients[0][0][SPHERE.vertices == 0] == 0).all()
    small = SphereTemplate(0).vertices.double()
    inputs = (torch.randn(1, 12, 3).double().requires_grad_(), torch.randn(1, 1, 3).double().requires_grad_())
    assert torch.autograd.gradcheck(lambda *x: bounded_vertices(small, *x), inputs)


@pytest.mark.parametrize("radius", [0.5, 1.0])
def test_cmr_starts_as_its_sphere(radius: float) -> None:
    decoder = DeformationDecoder(8, radius, texture=False)
    assert decoder.mean.shape == (337, 3)
    meshes = decoder(torch.randn(3, 8))
    torch.testing.assert_close(meshes.vertices, (radius * SPHERE.vertices).expand(3, -1, -1), rtol=0, atol=3e-3)
    assert (meshes.vertices[0] != meshes.vertices[1]).any()


def test_without_offsets_all_pictures_have_the_mean_shape() -> None:
    decoder = DeformationDecoder(8, texture=False)
    torch.nn.init.zeros_(decoder.offsets.weight)
    torch.nn.init.normal_(decoder.mean)
    vertices = decoder(torch.randn(3, 8)).vertices
    assert torch.equal(vertices[0], vertices[1])
    right = SPHERE.vertices[:, 0] > 0
    assert torch.isin(vertices[0][right], decoder.mean).all()


def test_cmr_is_its_own_mirror_image() -> None:
    """Vertices and faces; and both halves move what is learned."""
    decoder = DeformationDecoder(8, texture=False)
    torch.nn.init.normal_(decoder.offsets.weight)
    torch.nn.init.normal_(decoder.mean)
    vertices = decoder(torch.randn(2, 8)).vertices
    flip = torch.tensor([-1.0, 1.0, 1.0])
    twin = torch.cdist(SPHERE.vertices * flip, SPHERE.vertices).argmin(1)
    assert torch.equal(twin[twin], torch.arange(642))
    assert (twin == torch.arange(642)).sum() == 32
    torch.testing.assert_close(vertices[:, twin], vertices * flip)
    faces, mirrored = ({frozenset(face) for face in f.tolist()} for f in (SPHERE.faces, twin[SPHERE.faces]))
    assert faces == mirrored
    for half in (SPHERE.vertices[:, 0] > 0, SPHERE.vertices[:, 0] < 0):
        (gradient,) = torch.autograd.grad(vertices[:, half].square().sum(), decoder.mean, retain_graph=True)
        assert ((gradient != 0).any(1).sum()) == 305


def test_without_symmetry_every_vertex_is_learned() -> None:
    decoder = DeformationDecoder(8, symmetric=False, texture=False)
    assert decoder.mean.shape == (642, 3)
    torch.testing.assert_close(decoder(torch.zeros(1, 8)).vertices[0], SPHERE.vertices)


def test_the_texture_is_built_where_it_has_a_weight() -> None:
    assert DeformationDecoder(4, texture=0.0).flow is None
    decoder = DeformationDecoder(4, texture=0.5).eval()
    image = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        texture = decoder(torch.randn(2, 4), image).texture
        assert decoder(torch.randn(2, 4)).texture is None
    assert texture.flow.shape == (2, 2, 128, 256)
    assert texture.flow.abs().max() <= 1
    assert torch.equal(texture.picture, image)


@pytest.mark.parametrize(
    ("build", "needle"),
    [
        (lambda: MeshDecoder(4, extent=0), "extent above 0, got 0"),
        (lambda: DeformationDecoder(4, radius=-1), "radius above 0, got -1"),
        (lambda: SphereTemplate(-1), "subdivisions of at least 0, got -1"),
        (lambda: SoftRasterizer(float("inf")), "finite rasterizer.sigma above 0, got inf"),
    ],
)
def test_impossible_sizes_are_refused(build: Callable[[], object], needle: str) -> None:
    with pytest.raises(ValueError, match=needle):
        build()


def test_several_objects_are_not_one_mesh() -> None:
    meshes = MeshDecoder(4, subdivisions=1, widths=(8,))(torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"one object.*got 2"):
        meshes.mesh()
