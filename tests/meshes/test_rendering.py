import itertools

import numpy as np
import pytest
import torch
import trimesh

from sdfsrn.functional.camera import OrthographicCamera, PerspectiveCamera, look_at_origin
from sdfsrn.meshes import rendering
from sdfsrn.meshes.materials import FaceMaterials, materials_of
from sdfsrn.meshes.rendering import orbit_camera, render_mask, render_mesh, render_points, turntable

RADIUS, DISTANCE, FOCAL = 0.4, 2.0, 3.0
RED, BLUE = [255, 0, 0, 255], [0, 0, 255, 255]


def camera(kind, azimuth=30.0, elevation=20.0, focal=1.0):
    """A camera at DISTANCE from the origin; angles in degrees."""
    angles = torch.deg2rad(torch.tensor([azimuth, elevation]))
    return kind(look_at_origin(angles[:1], angles[1:], DISTANCE), torch.diag(torch.tensor([focal, focal, 1.0]))[None])


@pytest.fixture(scope="module")
def ball():
    return trimesh.creation.icosphere(subdivisions=5, radius=RADIUS)


def reddish(picture):
    return (picture[..., 0] > picture[..., 2].astype(int) + 40) & (picture[..., 1] < 100)


def bluish(picture):
    return (picture[..., 2] > picture[..., 0].astype(int) + 40) & (picture[..., 1] < 100)


def test_ball_under_an_orthographic_camera(ball):
    seen = render_mesh(ball, camera(OrthographicCamera), 64)
    area = np.pi * RADIUS**2 / 4 * 64**2  # the screen's area is 4
    assert seen.mask.sum() == pytest.approx(area, rel=0.01)
    x, y = np.meshgrid(*[(2 * np.arange(64) + 1) / 64 - 1] * 2)
    expected = DISTANCE - np.sqrt(np.maximum(RADIUS**2 - x**2 - y**2, 0))
    middle = x**2 + y**2 < (0.8 * RADIUS) ** 2
    assert abs(seen.depth - expected)[middle].max() < 1e-3
    assert np.isnan(seen.depth[seen.mask == 0]).all()
    assert np.isfinite(seen.depth[seen.mask > 0]).all()


def test_ball_under_a_perspective_camera(ball):
    seen = render_mesh(ball, camera(PerspectiveCamera, focal=FOCAL), 64)
    outline = FOCAL * RADIUS / np.sqrt(DISTANCE**2 - RADIUS**2)
    assert seen.mask.sum() == pytest.approx(np.pi * outline**2 / 4 * 64**2, rel=0.01)
    u, v = np.meshgrid(*[((2 * np.arange(64) + 1) / 64 - 1) / FOCAL] * 2)
    a = u**2 + v**2 + 1  # |z (u, v, 1) - (0, 0, D)|^2 = r^2
    expected = (DISTANCE - np.sqrt(np.maximum(DISTANCE**2 - a * (DISTANCE**2 - RADIUS**2), 0))) / a
    middle = u**2 + v**2 < (0.8 * outline / FOCAL) ** 2
    assert abs(seen.depth - expected)[middle].max() < 1e-3  # z of the camera frame, not the length of the ray


def test_colors_appear_on_the_right_sides():
    """From azimuth 90 the camera stands on +x and looks along -x with y up: +z is on its left."""
    box = trimesh.creation.box(extents=(0.5, 0.5, 1)).subdivide().subdivide().subdivide()
    box.visual.vertex_colors = np.where(box.vertices[:, 2:] > 0, RED, BLUE).astype(np.uint8)
    picture = render_mesh(box, camera(OrthographicCamera, azimuth=90, elevation=0), 64).color
    assert reddish(picture[:, :30]).sum() > 200
    assert bluish(picture[:, 34:]).sum() > 200
    assert not reddish(picture[:, 34:]).any()
    assert not bluish(picture[:, :30]).any()


@pytest.mark.parametrize("kind", [OrthographicCamera, PerspectiveCamera])
@pytest.mark.parametrize("place", [(0.0, 0.3, 0.0), (0.3, 0.0, 0.1), (-0.1, -0.2, 0.35)])
def test_things_appear_where_the_camera_projects_them(kind, place):
    small = trimesh.creation.icosphere(subdivisions=2, radius=0.03).apply_translation(place)
    view = camera(kind, azimuth=70, elevation=25)
    uv, depth = view.project(torch.tensor([[place]]))
    expected = (view.screen(uv)[0, 0].numpy() + 1) / 2 * [120, 80]
    seen = render_mesh(small, view, (80, 120))
    row, column = np.argwhere(seen.mask > 0).mean(0) + 0.5
    assert seen.mask.shape == (80, 120)
    assert [column, row] == pytest.approx(expected, abs=0.7)
    assert np.nanmean(seen.depth) == pytest.approx(float(depth) - 0.02, abs=0.02)
    dots = render_points(torch.tensor([place]), view, (80, 120))
    row, column = np.argwhere((dots < 250).all(-1)).mean(0) + 0.5
    assert [column, row] == pytest.approx(expected, abs=0.7)


def test_up_is_up():
    cone = trimesh.creation.cone(radius=0.3, height=0.6).apply_transform(
        trimesh.transformations.rotation_matrix(-np.pi / 2, [1, 0, 0])
    )
    widths = (render_mesh(cone, camera(OrthographicCamera, elevation=0), 64).mask > 0).sum(1)
    rows = np.flatnonzero(widths)
    assert widths[rows[0]] < widths[rows[-1]] / 3


def test_normals_are_of_the_camera_frame(ball):
    picture = render_mesh(ball, camera(OrthographicCamera), 64).normals.astype(int)
    assert picture[32, 32] == pytest.approx([128, 128, 255], abs=6)
    assert picture[32, 32 + 11, 0] > 220  # the right side faces right
    assert picture[32 - 11, 32, 1] > 220  # the top faces up
    assert (picture[0, 0] == 255).all()


def test_colors_are_interpolated_within_a_face():
    corners = [[-0.8, -0.8, 0], [0.8, -0.8, 0], [0, 0.8, 0]]
    face = trimesh.Trimesh(
        corners, [[0, 1, 2]], vertex_colors=[[0, 0, 0, 255], [250, 250, 250, 255], [0, 0, 0, 255]], process=False
    )
    row = render_mesh(face, camera(OrthographicCamera, azimuth=180, elevation=0), 32).color[26, 8:24, 0].astype(int)
    steps = np.diff(row)
    assert row[-1] > row[0] + 80
    assert steps.max() - steps.min() <= 1


def test_back_of_an_open_surface_is_lit_like_its_front():
    corners, faces = [[-0.8, -0.8, 0], [0.8, -0.8, 0], [0, 0.8, 0]], np.array([[0, 1, 2]])
    view = camera(OrthographicCamera, azimuth=0, elevation=0)
    front, back = (render_mesh(trimesh.Trimesh(corners, f, process=False), view, 16).color for f in (faces, faces[:, ::-1]))
    np.testing.assert_array_equal(front, back)


@pytest.mark.parametrize("empty", [trimesh.Trimesh(), trimesh.Trimesh(np.zeros((0, 3)), np.zeros((0, 3), int))])
def test_empty_mesh_and_empty_cloud_are_white(empty):
    seen = render_mesh(empty, camera(PerspectiveCamera), (10, 20))
    assert seen.color.shape == seen.normals.shape == (10, 20, 3)
    assert (seen.color == 255).all()
    assert (seen.mask == 0).all()
    assert np.isnan(seen.depth).all()
    assert all((picture == 255).all() for picture in turntable(empty, 2, 16))
    assert (render_points(torch.full((5, 3), float("nan")), camera(PerspectiveCamera), 16) == 255).all()


def test_mesh_behind_the_camera_is_not_seen(ball):
    behind = ball.copy().apply_translation(-3 * DISTANCE * camera(PerspectiveCamera).world_to_camera[0, 2, :3].numpy())
    assert render_mesh(behind, camera(PerspectiveCamera), 16).mask.sum() == 0
    assert (render_points(behind.vertices, camera(PerspectiveCamera), 16) == 255).all()


def test_near_points_cover_far_ones():
    toward = -camera(PerspectiveCamera).world_to_camera[0, 2, :3]
    cloud = torch.stack([0.3 * toward, -0.3 * toward])
    one, two, swapped = (render_points(c, camera(PerspectiveCamera), 32, 0.1) for c in (cloud[:1], cloud, cloud.flip(0)))
    np.testing.assert_array_equal(two, swapped)
    np.testing.assert_array_equal(one[16, 16], two[16, 16])


def test_discs_are_painted_one_after_the_other():
    rng = np.random.default_rng(0)
    center, color, radius = rng.uniform(-4, 24, (60, 2)), rng.uniform(size=(60, 3)), 3.4
    expected, picture = np.ones((2, 20, 20, 3))
    for (x, y), ink in zip(np.floor(center).astype(int), color, strict=True):
        for dx, dy in itertools.product(range(-4, 5), repeat=2):
            if dx**2 + dy**2 <= radius**2 and 0 <= x + dx < 20 and 0 <= y + dy < 20:
                expected[y + dy, x + dx] = ink * (1 - 0.3 * (dx**2 + dy**2) / radius**2)
    rendering._splat(picture, center, color, radius)
    np.testing.assert_allclose(picture, expected)


@pytest.mark.parametrize("side", [1, 2, 3])
@pytest.mark.parametrize("kind", [bool, float])
def test_the_mean_of_a_pixel_is_that_of_its_samples(side, kind):
    fine = (np.random.default_rng(0).uniform(size=(8 * side, 5 * side, 3)) * 2).astype(kind)
    blocks = fine.reshape(8, side, 5, side, 3)
    np.testing.assert_allclose(rendering._mean(blocks), blocks.mean((1, 3)), rtol=1e-14)


def test_camera_may_lack_its_batch_but_not_be_several(ball):
    view = camera(PerspectiveCamera)
    single = PerspectiveCamera(view.world_to_camera[0], view.intrinsics[0].double())
    np.testing.assert_array_equal(render_mesh(ball, view, 16).color, render_mesh(ball, single, 16).color)
    several = PerspectiveCamera(view.world_to_camera.repeat(2, 1, 1), view.intrinsics.repeat(2, 1, 1))
    with pytest.raises(ValueError, match="got a batch of 2"):
        render_mesh(ball, several, 16)


def test_orbit_camera_frames_a_mesh_of_any_size_and_place(ball):
    moved = ball.copy().apply_scale(7).apply_translation([10, -20, 5])
    for azimuth, elevation in [(0.0, 0.0), (120.0, 35.0), (250.0, -60.0)]:
        mask = render_mesh(moved, orbit_camera(moved, azimuth, elevation), 64).mask
        assert mask.sum() == pytest.approx(np.pi * (0.95 * 32) ** 2, rel=0.01)
        assert mask[0].sum() == mask[:, 0].sum() == 0


def test_turntable_has_its_frames(ball):
    pictures = turntable(ball, frames=3, size=24)
    assert [picture.shape for picture in pictures] == [(24, 24, 3)] * 3
    assert all(picture.dtype == np.uint8 for picture in pictures)


PLACES = [(0, 0, 0), (0.5, 0.3, 0), (0.9, 0, -0.2), (0, 9, 0)]  # the last out of sight


@pytest.mark.parametrize("kind", [OrthographicCamera, PerspectiveCamera])
@pytest.mark.parametrize("place", PLACES)
def test_mask_is_that_of_the_picture(ball, kind, place, monkeypatch):
    moved = ball.copy().apply_translation(place)
    expected = render_mesh(moved, camera(kind), (40, 60), 3).mask
    assert (expected.sum() > 0) == (place != PLACES[-1])
    monkeypatch.setattr(rendering, "MAX_RAYS", 500)
    mask = render_mask(moved, camera(kind), (40, 60))
    assert mask.dtype == np.float32
    np.testing.assert_array_equal(mask, expected.astype(np.float32))


def test_mask_and_picture_agree_with_a_cast_of_every_line(ball):
    """Also around a camera that the mesh reaches behind of, where nothing can be projected."""
    view = camera(PerspectiveCamera, focal=FOCAL)
    towards = -DISTANCE * view.world_to_camera[0, 2, :3].numpy()
    long = trimesh.creation.cylinder(0.2, segment=[[0.3, 0, 0], np.array([0.1, 0.1, 0]) + 2 * towards])
    for mesh in (long, ball):
        rays = view.rays(view.image_plane(rendering.pixel_centers(60, 90)[None]))
        hit = mesh.ray.intersects_any(rays.origin[0].numpy(), rays.direction[0].numpy()).reshape(60, 90)
        np.testing.assert_array_equal(render_mask(mesh, view, (60, 90), 1) > 0, hit)
        np.testing.assert_array_equal(render_mesh(mesh, view, (60, 90), 1).mask > 0, hit)


def test_rays_are_cast_only_near_the_mesh(ball, monkeypatch):
    small = ball.copy().apply_scale(0.2)
    count = []
    cast = type(small.ray).intersects_any
    monkeypatch.setattr(type(small.ray), "intersects_any", lambda self, o, d: count.append(len(o)) or cast(self, o, d))
    assert render_mask(small, camera(OrthographicCamera), 100).sum() > 0
    assert sum(count) < 1.2 * (0.16 / 2 * 300 + 4) ** 2


def test_empty_mesh_has_an_empty_mask():
    assert render_mask(trimesh.Trimesh(), camera(PerspectiveCamera), (6, 8)).tolist() == np.zeros((6, 8)).tolist()


def test_surface_is_the_covered_part_alone(ball):
    red = ball.copy()
    red.visual.vertex_colors = RED
    seen = render_mesh(red, camera(OrthographicCamera), 64, 4)
    partly = (seen.mask > 0) & (seen.mask < 1)
    assert partly.sum() > 50
    assert (seen.surface[partly][:, 1:] == 0).all()
    assert (seen.surface[seen.mask == 0] == 0).all()
    over = seen.mask[..., None] * seen.surface + (1 - seen.mask[..., None]) * 255
    assert abs(over - seen.color).max() <= 1


def test_picture_on_a_wall_lies_where_its_coordinates_say():
    """Seen from -z, +x is on the left: the wall's u grows to the left, v grows upward, and the picture repeats."""
    corners = np.array([[-0.8, -0.8, 0], [0.8, -0.8, 0], [0.8, 0.8, 0], [-0.8, 0.8, 0]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    uv = (corners[:, :2] / 0.8)[faces]  # -1 .. 1: twice each way
    picture = np.zeros((40, 40, 3), np.uint8)
    picture[:20, :20] = 255  # upper left of the picture: u < 1/2, v > 1/2
    wall = trimesh.Trimesh(corners, faces, process=False)
    wall.visual = FaceMaterials(np.ones((2, 3, 3)), uv, np.zeros(2, int), [picture])
    seen = render_mesh(wall, camera(OrthographicCamera, 0, 0), 80).surface.max(-1)
    x, y = np.meshgrid(*[(2 * np.arange(80) + 1) / 80 - 1] * 2)
    u, v = -x / 0.8, -y / 0.8
    clear = (abs(u) < 0.95) & (abs(v) < 0.95) & (abs(u * 2 % 1 - 0.5) < 0.4) & (abs(v * 2 % 1 - 0.5) < 0.4)
    np.testing.assert_array_equal((seen > 60)[clear], ((u % 1 < 0.5) & (v % 1 > 0.5))[clear])


def test_painted_meshes_are_flat_and_others_smooth():
    rough = trimesh.creation.icosphere(subdivisions=1, radius=RADIUS)
    smooth = render_mesh(rough, camera(OrthographicCamera), 64, 1)
    rough.visual = materials_of(rough.visual, rough.faces)
    flat = render_mesh(rough, camera(OrthographicCamera), 64, 1)
    np.testing.assert_array_equal(flat.mask, smooth.mask)
    assert len(np.unique(flat.surface[flat.mask > 0], axis=0)) <= len(rough.faces) / 2 + 5
    assert len(np.unique(smooth.surface[smooth.mask > 0], axis=0)) > 60
    assert abs(flat.surface.astype(int) - smooth.surface).max() > 5
