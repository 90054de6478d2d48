from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from scenes import CAMERAS, DOUBLE
from sdfsrn.functional.camera import OrthographicCamera, PerspectiveCamera, look_at_origin, pixel_centers
from sdfsrn.functional.hull import cube_interval, first_depth, hull_depth, visual_hull

RADIUS, STEP = 0.4, 1.1 / 63  # of the ball, of the grid
DISTANCE, FOCAL = {PerspectiveCamera: 2.732, OrthographicCamera: 2.5}, {PerspectiveCamera: 3.73, OrthographicCamera: 1.4}


def around(kind: type, count: int):
    """Cameras that look at the origin from directions all over the sphere, on a spiral."""
    number = torch.arange(count, **DOUBLE)
    pose = look_at_origin(2.4 * number, ((2 * number + 1) / count - 1).mul(0.99).asin(), DISTANCE[kind])
    intrinsics = torch.diag(torch.tensor([FOCAL[kind], FOCAL[kind], 1.0], **DOUBLE)).expand(count, 3, 3)
    return kind(pose, intrinsics)


def plane(camera, size: int) -> torch.Tensor:
    """Image-plane coordinates of all pixel centres."""
    return camera.image_plane(pixel_centers(size, size, **DOUBLE).expand(len(camera.intrinsics), -1, -1))


def ball_hit(camera, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Distance of each pixel centre's ray to the ball's centre, and the depth where it first meets the ball."""
    rays = camera.rays(plane(camera, size))
    a, b = rays.direction.square().sum(-1), (rays.direction * rays.origin).sum(-1)
    gap = rays.origin.square().sum(-1) - b.square() / a
    depth = -b / a - ((RADIUS**2 - gap).clamp(min=0) / a).sqrt()
    return gap.clamp(min=0).sqrt().view(-1, size, size), depth.view(-1, size, size)


def random_silhouettes(count: int, size: int) -> torch.Tensor:
    """Balls that are off the centre by one place per view, and holes: silhouettes of no object at all."""
    rows, columns = torch.meshgrid(*[torch.arange(size, **DOUBLE)] * 2, indexing="ij")
    place = size / 2 + size / 10 * torch.randn(count, 2, 1, 1, **DOUBLE)
    inside = torch.hypot(rows - place[:, 0], columns - place[:, 1]) < size * (0.2 + 0.2 * torch.rand(count, 1, 1))
    return inside & (torch.rand(inside.shape) > 0.05)


@CAMERAS
def test_the_hull_of_many_views_of_a_ball_is_the_ball(kind: type) -> None:
    camera, size = around(kind, 60), 128
    nearest, true = ball_hit(camera, size)
    depth = hull_depth(nearest < RADIUS, camera)
    assert depth[nearest >= RADIUS].isinf().all()
    steep = nearest < 0.8 * RADIUS
    error = (depth - true)[steep]
    assert error.abs().mean() < STEP
    assert error.abs().max() < 3 * STEP  # a grid step, one of the ray and half a pixel, at 53 degrees from the normal
    assert depth[nearest < RADIUS].isfinite().double().mean() > 0.97


@CAMERAS
@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_the_hull_is_no_deeper_than_the_object(kind: type, count: int) -> None:
    camera = around(kind, count)
    nearest, true = ball_hit(camera, 96)
    depth = hull_depth(nearest < RADIUS, camera)
    error = (depth - true)[nearest < 0.8 * RADIUS]
    assert error.max() < 3 * STEP
    assert error.mean() < STEP / 2


@CAMERAS
def test_finer_grids_come_nearer(kind: type) -> None:
    camera = around(kind, 16)
    nearest, true = ball_hit(camera, 160)
    steep = nearest < 0.8 * RADIUS
    errors = [(hull_depth(nearest < RADIUS, camera, resolution=n, num_depths=2 * n) - true)[steep].abs() for n in (12, 24, 48)]
    means = [error.mean().item() for error in errors]
    assert means[1] < 0.65 * means[0]
    assert means[2] < 0.65 * means[1]


@CAMERAS
def test_more_views_never_make_the_depth_smaller(kind: type) -> None:
    camera, inside = around(kind, 8), random_silhouettes(8, 40)
    before = torch.zeros(1, 40, 40, **DOUBLE)
    grown = 0
    for count in range(1, 9):
        depth = hull_depth(inside[:count], camera.map(lambda matrix, count=count: matrix[:count]))[:1]
        assert (depth >= before).all()
        grown += int((depth > before).sum())
        before = depth
    assert grown > 200


def test_a_cube_seen_along_its_axes_is_its_hull() -> None:
    """Node by node; its faces where they are, up to the spacing of the depths along a ray."""
    half, size = 0.3, 50  # pixels of 2 / (1.5 size)
    turns = [[[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[0, 0, 1], [0, 1, 0], [-1, 0, 0]], [[1, 0, 0], [0, 0, 1], [0, -1, 0]]]
    rotation = torch.tensor([*turns, *[[[-a for a in x], y, [-a for a in z]] for x, y, z in turns]], **DOUBLE)
    pose = torch.cat([rotation, torch.tensor([0, 0, 2.5], **DOUBLE).expand(6, 3)[..., None]], -1)
    camera = OrthographicCamera(pose, torch.diag(torch.tensor([1.5, 1.5, 1], **DOUBLE)).expand(6, 3, 3))
    uv = plane(camera, size)
    inside = (uv.abs().amax(-1) < half).view(6, size, size)
    hull = visual_hull(inside, camera)
    edge = (uv.abs().amax(-1).view(6, size, size)[inside].max() + 1 / size / 1.5).item()  # of the last pixel that is inside
    axis = torch.linspace(-0.55, 0.55, 64, **DOUBLE).abs() < edge
    assert torch.equal(hull, axis[:, None, None] & axis[:, None] & axis)
    depth = hull_depth(inside, camera)
    assert depth[~inside].isinf().all()
    assert (depth[inside] - (2.5 - half)).abs().max() < 1.1 / 95 + STEP / 2 + edge - half + 1e-9


@CAMERAS
def test_nodes_are_kept_if_every_mask_has_them_by_brute_force(kind: type) -> None:
    camera, inside = around(kind, 5), random_silhouettes(5, 24)
    axis = torch.linspace(-0.55, 0.55, 20, **DOUBLE)
    nodes = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).view(1, -1, 3)
    screen = camera.screen(camera.project(nodes.expand(5, -1, 3))[0])
    found = F.grid_sample(inside[:, None].double(), screen[:, None], mode="nearest", align_corners=False)
    expected = (found > 0.5).all(0).view(20, 20, 20)
    assert 50 < expected.sum() < 7000
    assert torch.equal(visual_hull(inside, camera, resolution=20), expected)


@CAMERAS
def test_depths_are_those_of_a_walk_along_each_ray(kind: type) -> None:
    """Point by point: the first of the depths whose nearest node is in the hull."""
    hull, camera = torch.rand(9, 9, 9) > 0.9, around(kind, 3)
    rays = camera.rays(plane(camera, 7))
    near, far = cube_interval(rays, 0.55)
    depth = first_depth(hull, rays, 0.55, 12)
    seen = 0
    for view, ray in torch.cartesian_prod(torch.arange(3), torch.arange(49)).tolist():
        expected = math.inf
        for i in range(12 if near[view, ray] < far[view, ray] else 0):
            z = (near + (far - near) * i / 11)[view, ray]
            point = rays.origin[view, ray] + z * rays.direction[view, ray]
            if hull[tuple(((point / 0.55 + 1) * 4).round().long().clamp(0, 8).tolist())]:
                expected, seen = z.item(), seen + 1
                break
        assert depth[view, ray].item() == pytest.approx(expected, rel=1e-12)
    assert 10 < seen < 147


@CAMERAS
def test_one_empty_silhouette_leaves_nothing(kind: type) -> None:
    camera, inside = around(kind, 4), random_silhouettes(4, 32)
    assert hull_depth(inside, camera).isfinite().any()
    inside[2] = False
    assert not visual_hull(inside, camera).any()
    assert hull_depth(inside, camera).isinf().all()


@CAMERAS
def test_what_a_picture_does_not_show_is_not_in_the_hull(kind: type) -> None:
    """Full pictures: what is left is in the cut of all pyramids of vision, and in front of the cameras."""
    camera = around(kind, 6)
    camera = camera._replace(intrinsics=camera.intrinsics * torch.tensor([3.0, 3, 1], **DOUBLE)[:, None])
    hull = visual_hull(torch.ones(6, 8, 8, dtype=torch.bool), camera)
    points = hull.nonzero().double() * STEP - 0.55
    uv, depth = camera.project(points.expand(6, -1, 3))
    assert 0 < len(points) < hull.numel() / 4
    assert (camera.screen(uv).abs() <= 1 + 1e-9).all()
    behind = camera._replace(world_to_camera=camera.world_to_camera * torch.tensor([1.0, 1, 1, -1], **DOUBLE))
    assert (depth > 0).all()
    assert not visual_hull(torch.ones(6, 8, 8, dtype=torch.bool), behind).any()


@CAMERAS
def test_the_cube_begins_and_ends_where_points_say(kind: type) -> None:
    camera = around(kind, 7)
    rays = camera.rays(plane(camera, 9))
    near, far = cube_interval(rays, 0.4)
    depth = torch.linspace(0, 5, 4001, **DOUBLE).expand(7, 81, 4001)
    within = (rays.at(depth).abs() <= 0.4).all(-1)
    assert torch.equal(within, (depth >= near[..., None]) & (depth <= far[..., None]))
    assert within.any(-1).sum() > 100
    assert (near > far).sum() > 20


def test_rays_along_the_cubes_faces_and_from_within_it() -> None:
    pose = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], **DOUBLE)[None]
    camera = OrthographicCamera(pose, torch.eye(3, **DOUBLE)[None])
    near, far = cube_interval(camera.rays(torch.tensor([[[0.1, 0.2], [0.1, 0.6]]], **DOUBLE)), 0.5)
    assert near[0, 0] == 0
    assert far[0, 0] == 0.5
    assert near[0, 1] > far[0, 1]
    empty = first_depth(torch.ones(4, 4, 4, dtype=torch.bool), camera.rays(torch.tensor([[[0.1, 0.6]]], **DOUBLE)), 0.5)
    assert empty.isinf().all()


@CAMERAS
def test_single_and_double_precision_agree(kind: type) -> None:
    camera = around(kind, 12)
    inside = ball_hit(camera, 64)[0] < RADIUS
    double, single = hull_depth(inside, camera), hull_depth(inside, camera.map(torch.Tensor.float))
    assert single.dtype is torch.float
    both = double.isfinite() & single.isfinite()
    assert (double.isfinite() == single.isfinite()).double().mean() > 0.999
    assert ((double - single)[both].abs() < 1e-5).double().mean() > 0.99
