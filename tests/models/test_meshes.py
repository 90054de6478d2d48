"""Meshes: files' worth of them is closed, outward and float64; colours come from the picture."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from sdfsrn.functional.camera import OrthographicCamera, PerspectiveCamera, look_at_origin, pixel_centers
from sdfsrn.models import Meshes, Shape, SoftRasterizer, SphereTemplate, Texture

SPHERE = SphereTemplate(3)


def meshes(vertices: torch.Tensor, texture: Texture | None = None, sphere: SphereTemplate = SPHERE) -> Meshes:
    return Meshes(vertices, sphere, torch.zeros(len(vertices), 0, 3), texture)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_mesh_is_closed_outward_and_double(sign: float) -> None:
    shape = meshes(torch.stack([0.3 * SPHERE.vertices, sign * 0.5 * SPHERE.vertices]))
    assert isinstance(shape, Shape)
    mesh = shape[1:2].mesh()
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume == pytest.approx(4 / 3 * math.pi * 0.125, rel=0.02)
    assert mesh.vertices.dtype == np.float64
    assert len(mesh.vertices) == 642
    assert not mesh.visual.defined


def test_vertices_that_are_not_finite_are_refused() -> None:
    vertices = SPHERE.vertices.clone()[None]
    vertices[0, 5, 1] = math.nan
    with pytest.raises(ValueError, match="got 1 of 642 that are not: did training diverge"):
        meshes(vertices).mesh()


def sphere_points(height: int, width: int) -> torch.Tensor:
    """Points of the unit sphere at the texels of a map, (h, w, 3)."""
    uv = pixel_centers(height, width, dtype=torch.double)
    angle, polar = uv[:, 0] * math.pi, (uv[:, 1] + 1) / 2 * math.pi
    ring = polar.sin()
    return torch.stack([ring * angle.cos(), ring * angle.sin(), polar.cos()], -1).view(height, width, 3)


@pytest.mark.parametrize("kind", [PerspectiveCamera, OrthographicCamera])
def test_a_flow_that_projects_the_surface_returns_the_picture(kind: type) -> None:
    sphere = SphereTemplate(4).double()
    focal = 3.7 if kind is PerspectiveCamera else 1.7
    pose = look_at_origin(torch.tensor([0.7]).double(), torch.tensor([0.4]).double(), 2.732)
    camera = kind(pose, torch.diag(torch.tensor([focal, focal, 1.0]).double())[None])
    uv, _ = camera.project(0.5 * sphere_points(128, 256).view(1, -1, 3))
    flow = camera.screen(uv).mT.view(1, 2, 128, 256)
    size = (40, 40)
    x, y = pixel_centers(*size, dtype=torch.double).T.view(2, *size)
    picture = torch.stack([x, y, (3 * x).sin() * y])[None]
    shape = meshes(0.5 * sphere.vertices[None], Texture(flow, picture, symmetric=False), sphere)
    rendering = SoftRasterizer()(shape, camera, size)
    covered = rendering.opacity[0] > 0
    assert covered.sum() > 200
    torch.testing.assert_close(rendering.color[0][covered], picture[0].flatten(1).T[covered], rtol=0, atol=0.02)
    assert (rendering.color[0][~covered] == 0).all()


def test_a_constant_flow_gives_one_color_and_one_outside_none() -> None:
    picture = torch.rand(1, 3, 8, 8)
    for place, expected in ((-0.375, picture[0, :, 2, 2]), (3.0, torch.zeros(3))):
        texture = Texture(torch.full((1, 2, 16, 32), place), picture, symmetric=True)
        colors = texture.at(SPHERE.vertices[None])[0]
        torch.testing.assert_close(colors, expected.expand(642, 3))


def test_mirrored_points_have_their_twins_colors() -> None:
    texture = Texture(torch.rand(1, 2, 16, 32) * 2 - 1, torch.rand(1, 3, 8, 8), symmetric=True)
    mirrored = SPHERE.vertices * torch.tensor([-1.0, 1.0, 1.0])
    colors = texture.at(SPHERE.vertices[None])
    assert torch.equal(colors, texture.at(mirrored[None]))
    assert not torch.equal(colors, texture._replace(symmetric=False).at(mirrored[None]))


def test_a_mesh_has_the_texture_s_colors() -> None:
    texture = Texture(torch.rand(2, 2, 16, 32) * 2 - 1, torch.rand(2, 3, 8, 8), symmetric=True)
    shape = meshes(SPHERE.vertices.repeat(2, 1, 1), texture)
    mesh = shape[1:2].mesh()
    expected = (texture.select(slice(1, 2)).at(SPHERE.vertices[None])[0] + 1) * 127.5
    np.testing.assert_allclose(mesh.visual.vertex_colors[:, :3], expected.numpy(), atol=0.51)
    assert not shape[1:2].mesh(color=False).visual.defined


def test_colors_move_the_texture_and_not_the_vertices() -> None:
    flow = torch.zeros(1, 2, 16, 32, requires_grad=True)
    vertices = (0.5 * SPHERE.vertices[None]).requires_grad_()
    shape = meshes(vertices, Texture(flow, torch.rand(1, 3, 8, 8), symmetric=True))
    camera = OrthographicCamera(look_at_origin(torch.zeros(1), torch.zeros(1), 2.0), torch.eye(3)[None])
    rendering = SoftRasterizer()(shape, camera, (16, 16))
    moved, still = torch.autograd.grad(rendering.color.sum(), (flow, vertices), allow_unused=True)
    assert moved.abs().sum() > 0
    assert still is None
    assert torch.autograd.grad(rendering.alpha.sum(), vertices)[0].abs().sum() > 0
    assert dataclasses.replace(shape, texture=None).texture is None
