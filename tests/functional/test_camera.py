from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sdfsrn.functional.camera import OrthographicCamera, PerspectiveCamera, look_at_origin, pixel_centers

DOUBLE = {"dtype": torch.double}
CAMERAS = pytest.mark.parametrize("kind", [PerspectiveCamera, OrthographicCamera])


def random_camera(kind: type, count: int = 4) -> PerspectiveCamera | OrthographicCamera:
    """Random rotations, an object in front, different focal lengths across and down, principal point off the centre."""
    rotation = torch.linalg.qr(torch.randn(count, 3, 3, dtype=torch.double)).Q
    rotation = rotation * torch.det(rotation)[:, None, None]
    translation = torch.tensor([0.0, 0.0, 4.0], dtype=torch.double) + 0.3 * torch.randn(count, 3, dtype=torch.double)
    intrinsics = torch.eye(3, dtype=torch.double).repeat(count, 1, 1)
    intrinsics[:, 0, 0], intrinsics[:, 1, 1] = 1 + torch.rand(2, count, dtype=torch.double)
    intrinsics[:, :2, 2] = torch.randn(count, 2, dtype=torch.double) / 2
    return kind(torch.cat([rotation, translation[..., None]], -1), intrinsics)


@CAMERAS
def test_points_of_a_ray_project_to_its_pixel_and_depth(kind: type) -> None:
    camera, uv, depth = random_camera(kind), torch.randn(4, 50, 2).double(), 1 + 3 * torch.rand(4, 50).double()
    back, back_depth = camera.project(camera.rays(uv).at(depth))
    torch.testing.assert_close(back, uv)
    torch.testing.assert_close(back_depth, depth)


@CAMERAS
def test_rays_through_world_points(kind: type) -> None:
    camera, points = random_camera(kind), torch.rand(4, 50, 3).double() - 0.5
    uv, depth = camera.project(points)
    torch.testing.assert_close(camera.rays(uv).at(depth), points)


@CAMERAS
def test_many_depths_are_one_depth_many_times(kind: type) -> None:
    camera, uv, depth = random_camera(kind), torch.randn(4, 5, 2).double(), torch.rand(4, 5, 7).double()
    rays = camera.rays(uv)
    torch.testing.assert_close(rays.at(depth), torch.stack([rays.at(z) for z in depth.unbind(-1)], -2))


@CAMERAS
def test_screen_and_image_plane_are_inverse(kind: type) -> None:
    camera, screen = random_camera(kind), torch.randn(4, 50, 2).double()
    torch.testing.assert_close(camera.screen(camera.image_plane(screen)), screen)
    single = kind(camera.world_to_camera[1], camera.intrinsics[1])
    torch.testing.assert_close(single.image_plane(screen[1]), camera.image_plane(screen)[1])


def test_perspective_projection_is_the_matrix_product() -> None:
    camera, points = random_camera(PerspectiveCamera), torch.rand(4, 50, 3).double() - 0.5
    homogeneous = torch.cat([points, torch.ones(4, 50, 1)], -1)
    x = torch.einsum("bij,bjk,bnk->bni", camera.intrinsics, camera.world_to_camera, homogeneous)
    torch.testing.assert_close(camera.screen(camera.project(points)[0]), x[..., :2] / x[..., 2:])


def test_perspective_rays_start_at_the_camera_and_orthographic_ones_on_its_plane() -> None:
    camera, uv = random_camera(PerspectiveCamera), torch.randn(4, 9, 2).double()
    start = camera.rays(uv).at(torch.zeros(4, 9).double())
    torch.testing.assert_close(start, start[:, :1].expand_as(start))
    x = start @ camera.world_to_camera[..., :3].mT + camera.world_to_camera[..., 3:].mT
    assert x.abs().max() < 1e-12
    rays = OrthographicCamera(*camera).rays(uv)
    torch.testing.assert_close(rays.direction.norm(dim=-1), torch.ones(4, 9).double())
    torch.testing.assert_close(rays.direction, rays.direction[:, :1].expand_as(rays.direction))


def test_lower_bound_takes_one_depth_or_many() -> None:
    uv, distance, depth = torch.randn(2, 5, 2), torch.rand(2, 5), 1 + torch.rand(2, 5, 3)
    for kind in (PerspectiveCamera, OrthographicCamera):
        camera = kind(torch.eye(3, 4).expand(2, 3, 4), torch.eye(3).expand(2, 3, 3))
        many = camera.lower_bound(depth, uv, distance)
        assert many.shape == depth.shape
        torch.testing.assert_close(many[..., 1], camera.lower_bound(depth[..., 1], uv, distance))
    torch.testing.assert_close(many, distance[..., None].expand_as(depth))


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.3])
@CAMERAS
def test_a_zoomed_camera_sees_the_screen_times_the_factor(kind: type, factor: float) -> None:
    """Perspective: the same points; orthographic: points of an object as much larger, whose origin keeps its depth."""
    camera, points = random_camera(kind), torch.rand(4, 50, 3).double() - 0.5
    zoomed = camera.zoomed(factor)
    larger = points if kind is PerspectiveCamera else factor * points
    torch.testing.assert_close(zoomed.screen(zoomed.project(larger)[0]), factor * camera.screen(camera.project(points)[0]))
    origin = torch.zeros(4, 1, 3).double()
    torch.testing.assert_close(zoomed.project(origin)[1], camera.project(origin)[1])
    assert torch.equal(zoomed.world_to_camera[..., :3], camera.world_to_camera[..., :3])
    assert (zoomed.intrinsics[..., 2, :] == torch.tensor([0.0, 0, 1])).all()
    if kind is OrthographicCamera:
        assert torch.equal(zoomed.intrinsics[..., :2], camera.intrinsics[..., :2])
    single = kind(camera.world_to_camera[1], camera.intrinsics[1]).zoomed(factor)
    assert all(torch.equal(a, b[1]) for a, b in zip(single, zoomed, strict=True))


@CAMERAS
def test_a_mirrored_camera_sees_the_mirrored_object_in_the_mirrored_picture(kind: type) -> None:
    camera, points = random_camera(kind), torch.rand(4, 50, 3).double() - 0.5
    turn = torch.tensor([-1.0, 1.0, 1.0]).double()
    (uv, depth), (mirrored_uv, mirrored_depth) = camera.project(points), camera.mirrored().project(points * turn)
    torch.testing.assert_close(mirrored_depth, depth)
    torch.testing.assert_close(camera.mirrored().screen(mirrored_uv), camera.screen(uv) * turn[:2])
    rotation = camera.mirrored().world_to_camera[..., :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).double().expand(4, 3, 3))
    assert (torch.linalg.det(rotation) > 0).all()
    for twice, once in zip(camera.mirrored().mirrored(), camera, strict=True):
        assert torch.equal(twice, once)


def test_pixel_centers_tile_the_screen() -> None:
    centers = pixel_centers(3, 4, dtype=torch.double).view(3, 4, 2)
    torch.testing.assert_close(centers[:, 1:, 0] - centers[:, :-1, 0], torch.full((3, 3), 2 / 4).double())
    torch.testing.assert_close(centers[1:, :, 1] - centers[:-1, :, 1], torch.full((2, 4), 2 / 3).double())
    assert centers[0, 0].tolist() == pytest.approx([-1 + 1 / 4, -1 + 1 / 3])
    assert centers[-1, -1].tolist() == pytest.approx([1 - 1 / 4, 1 - 1 / 3])


def look_at(azimuth: float, elevation: float, distance: float = 2.0) -> torch.Tensor:
    return look_at_origin(torch.tensor([azimuth], **DOUBLE), torch.tensor([elevation], **DOUBLE), distance)[0]


@pytest.mark.parametrize("azimuth", [0.0, 0.5, math.pi / 2, 3.0, -2.0])
@pytest.mark.parametrize("elevation", [-0.7, 0.0, math.pi / 6, 1.5])
def test_look_at_origin_stands_where_it_says_and_is_upright(azimuth: float, elevation: float) -> None:
    pose = look_at(azimuth, elevation)
    rotation, translation = pose[:, :3], pose[:, 3]
    where = [
        2 * math.cos(elevation) * math.sin(azimuth),
        2 * math.sin(elevation),
        -2 * math.cos(elevation) * math.cos(azimuth),
    ]
    assert (-rotation.T @ translation).tolist() == pytest.approx(where)
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3).double())
    assert torch.det(rotation).item() == pytest.approx(1)
    assert translation.tolist() == pytest.approx([0, 0, 2])
    up = rotation @ torch.tensor([0.0, 1.0, 0.0]).double()
    assert abs(up[0]) < 1e-12
    assert up[1] < 0  # y points down in the picture


def test_front_and_right_of_an_airplane() -> None:
    """Nose towards -z, right wing towards +x: from the front the right wing is on the left, view 6 faces that wing."""
    nose, wing = torch.tensor([0.0, 0.0, -0.4], **DOUBLE), torch.tensor([0.4, 0.0, 0.0], **DOUBLE)
    front, right = look_at(0.0, 0.0), look_at(math.pi / 2, 0.0)
    assert (front[:, :3] @ nose + front[:, 3]).tolist() == pytest.approx([0, 0, 1.6])
    assert (front[:, :3] @ wing)[0] < 0
    assert (right[:, :3] @ wing + right[:, 3]).tolist() == pytest.approx([0, 0, 1.6])
    assert (right[:, :3] @ nose)[0] > 0


def test_cameras_of_the_real_airplanes(airplanes) -> None:
    matrices = np.load(airplanes / "02691156" / "220" / "cameras.npz")
    azimuth = torch.deg2rad(15.0 * torch.arange(24, dtype=torch.double))
    ours = look_at_origin(azimuth, torch.full_like(azimuth, math.radians(30)), 2.732)
    for view in range(24):
        np.testing.assert_allclose(ours[view], matrices[f"world_mat_{view}"][:3, :4], atol=1e-6)
        focal = np.diag(matrices[f"camera_mat_{view}"])[:2]
        np.testing.assert_allclose(focal, 1 / math.tan(math.radians(15)), rtol=1e-6)
