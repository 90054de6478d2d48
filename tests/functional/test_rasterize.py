"""The soft rasteriser: recorded values, analytic cases, the dense evaluation, the mask of a ray caster, gradients."""

from __future__ import annotations

import math

import pytest
import torch
import trimesh

from scenes import CAMERAS
from sdfsrn.functional.camera import OrthographicCamera, PerspectiveCamera, look_at_origin, pixel_centers
from sdfsrn.functional.rasterize import grid_pairs, reach, soft_colors, soft_silhouette, visible_triangles
from sdfsrn.meshes.rendering import render_mask
from softras import all_pairs, double, softras_values


def dense_silhouette(triangles: torch.Tensor, points: torch.Tensor, sigma: float) -> torch.Tensor:
    """alpha, straight from the formula: one object, no pairs, no tricks."""
    start, end = triangles, triangles.roll(-1, 1)
    edge, arm = end - start, points[:, None, None] - start
    along = ((arm * edge).sum(-1) / edge.square().sum(-1)).clamp(0, 1)
    square = (arm - along[..., None] * edge).square().sum(-1).amin(-1)
    turn = edge[..., 0] * arm[..., 1] - edge[..., 1] * arm[..., 0]
    inside = (turn >= 0).all(-1) | (turn <= 0).all(-1)
    coverage = torch.sigmoid(torch.where(inside, square, -square) / sigma)
    coverage = torch.where(inside | (square < reach(sigma) ** 2), coverage, 0.0)
    return 1 - (1 - coverage).prod(-1)


def silhouette(triangles: torch.Tensor, points: torch.Tensor, sigma: float) -> torch.Tensor:
    """alpha of one object at any points."""
    pairs = all_pairs(1, len(triangles), len(points))
    return soft_silhouette(triangles[None], points[None], pairs, sigma)[0]


def on_grid(triangles: torch.Tensor, size: tuple[int, int], sigma: float) -> torch.Tensor:
    points = pixel_centers(*size, dtype=triangles.dtype).expand(len(triangles), -1, -1)
    drawn = torch.ones(triangles.shape[:2], dtype=torch.bool)
    return soft_silhouette(triangles, points, grid_pairs(triangles, drawn, size, reach(sigma)), sigma)


def ball(kind: type, radius: float = 0.5, subdivisions: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, object]:
    """Corners on the screen (3 objects), their depths, the faces, the cameras."""
    mesh = trimesh.creation.icosphere(subdivisions, radius)
    pose = look_at_origin(double([0.3, 2.0, 4.0]), double([0.2, -0.4, 0.9]), 2.732)
    camera = kind(pose, torch.diag(double([2.0, 1.6, 1.0])).repeat(3, 1, 1))
    faces = torch.tensor(mesh.faces)
    uv, depth = camera.project(double(mesh.vertices).repeat(3, 1, 1))
    return camera.screen(uv)[:, faces], depth[:, faces], faces, camera


# recorded values


@pytest.mark.parametrize("case", range(5))
def test_silhouettes_have_their_recorded_values(case: int) -> None:
    record = softras_values("silhouette")[case]
    triangles, points = double(record["triangles"]), double(record["points"])
    for j in range(len(triangles)):
        alone = silhouette(triangles[j : j + 1], points, record["sigma"])
        expected = double(record["coverage"])[:, j]
        kept = double(record["signed_squared_distance"])[:, j] > -(reach(record["sigma"]) ** 2)
        torch.testing.assert_close(alone, torch.where(kept, expected, 0.0), rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(silhouette(triangles, points, record["sigma"]), double(record["alpha"]), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("case", range(5))
def test_their_gradients_have_their_recorded_values(case: int) -> None:
    record = softras_values("silhouette")[case]
    triangles = double(record["triangles"]).requires_grad_()
    alpha = silhouette(triangles, double(record["points"]), record["sigma"])
    checked = 0
    for value, expected in zip(alpha, record["alpha_gradient"], strict=True):
        if expected is not None:
            (gradient,) = torch.autograd.grad(value, triangles, retain_graph=True)
            torch.testing.assert_close(gradient, double(expected), rtol=1e-9, atol=1e-12)
            checked += 1
    assert checked > 0


def test_a_picture_has_its_recorded_values() -> None:
    record = softras_values("silhouette_image")
    alpha = on_grid(double(record["triangle"])[None, None], (8, 8), record["sigma"])
    torch.testing.assert_close(alpha.view(8, 8), double(record["alpha"]), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("case", range(10))
def test_colors_have_their_recorded_values(case: int) -> None:
    record = softras_values("color")
    triangles, depth, colors = (double(record[name])[None] for name in ("triangles", "vertex_depths", "vertex_colors"))
    values = record["cases"][case]
    settings = {name: values[name] for name in ("sigma", "gamma", "near", "far", "eps")}
    points = double(values["point"])[None, None]
    mixed = soft_colors(triangles, depth, colors, points, all_pairs(1, 2, 1), double(values["background"]), **settings)
    torch.testing.assert_close(mixed[0, 0], double(values["color"]), rtol=1e-10, atol=1e-12)


# analytic cases


@pytest.mark.parametrize("distance", [-0.04, -0.01, -0.001, 0.0, 0.001, 0.01, 0.05])
def test_coverage_beside_a_straight_edge(distance: float) -> None:
    """sigmoid(+-d^2 / sigma) at the distance d, 1/2 on the edge; 3/4 on one that two triangles share."""
    large = double([[[-9.0, 0.0], [9.0, 0.0], [0.0, 9.0]]])
    alpha = silhouette(large, double([[0.1, distance]]), 1e-4)
    expected = 1 / (1 + math.exp(-math.copysign(distance**2, distance) / 1e-4))
    assert alpha.item() == pytest.approx(expected, rel=1e-9, abs=1e-15)
    shared = torch.cat([large, double([[[-9.0, 0.0], [9.0, 0.0], [0.0, -9.0]]])])
    both = silhouette(shared, double([[0.1, distance]]), 1e-4)
    assert both.item() == pytest.approx(1 - expected * (1 - expected), rel=1e-9)
    if distance == 0:
        assert both.item() == pytest.approx(0.75)


def test_the_order_of_triangles_and_of_corners_does_not_matter() -> None:
    triangles, points = torch.randn(1, 7, 3, 2).double() / 2, (20, 28)
    alpha = on_grid(triangles, points, 1e-3)
    assert 0.1 < alpha.mean() < 0.9
    for other in (triangles.flip(1), triangles.flip(2), triangles.roll(1, 2)):
        torch.testing.assert_close(on_grid(other, points, 1e-3), alpha, rtol=1e-12, atol=1e-14)


@CAMERAS
@pytest.mark.parametrize("sigma", [1e-5, 1e-3])
def test_pairs_give_what_all_triangles_give_in_all_pixels(kind: type, sigma: float) -> None:
    triangles, *_ = ball(kind)
    triangles = triangles.requires_grad_()
    points = pixel_centers(17, 23, dtype=torch.double)
    dense = torch.stack([dense_silhouette(triangle, points, sigma) for triangle in triangles])
    sparse = on_grid(triangles, (17, 23), sigma)
    torch.testing.assert_close(sparse, dense, rtol=1e-9, atol=1e-9)
    direction = torch.randn_like(dense)
    expected, gradient = (torch.autograd.grad((alpha * direction).sum(), triangles)[0] for alpha in (dense, sparse))
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-6)


@CAMERAS
def test_a_batch_gives_what_its_objects_give_one_by_one(kind: type) -> None:
    triangles = ball(kind)[0].float()
    alone = torch.cat([on_grid(triangle[None], (20, 20), 1e-4) for triangle in triangles])
    assert torch.equal(on_grid(triangles, (20, 20), 1e-4), alone)


@CAMERAS
def test_a_hard_limit_is_the_mask_of_a_ray_caster(kind: type) -> None:
    """sigma to 0: alpha is the coverage of pixel centres, the visible triangles' too; the area is that of the outline."""
    triangles, depth, _, camera = ball(kind, subdivisions=4)
    mesh = trimesh.creation.icosphere(4, 0.5)
    size, points = (64, 64), pixel_centers(64, 64, dtype=torch.double).expand(3, -1, -1)
    alpha = on_grid(triangles, size, 1e-9)
    pairs = grid_pairs(triangles, (depth > 0).all(-1), size, 0.0)
    visible = visible_triangles(triangles, depth, points, pairs, kind is PerspectiveCamera)
    for i in range(3):
        mask = torch.from_numpy(render_mask(mesh, camera.map(lambda matrix, i=i: matrix[i]), size, supersampling=1) > 0.5)
        assert ((alpha[i].view(size) > 0.5) != mask).sum() <= 4  # of 4096: outlines through a pixel's very centre
        assert torch.equal(visible.triangle[i] >= 0, visible.depth[i].isfinite())
        assert ((visible.triangle[i] >= 0).view(size) != mask).sum() <= 4
    if kind is OrthographicCamera:
        area = math.pi * 0.25 * 2.0 * 1.6 / 4 * 64 * 64
        assert abs(alpha.sum(1) - area).max() < 2 * math.pi * 0.25 * 64 * 0.5


@CAMERAS
def test_the_visible_surface_is_the_sphere_s_front(kind: type) -> None:
    triangles, depth, _, camera = ball(kind, subdivisions=5)
    size, points = (32, 32), pixel_centers(32, 32, dtype=torch.double).expand(3, -1, -1)
    pairs = grid_pairs(triangles, (depth > 0).all(-1), size, 0.0)
    visible = visible_triangles(triangles, depth, points, pairs, kind is PerspectiveCamera)
    origin, direction = camera.rays(camera.image_plane(points))
    a, b, c = direction.square().sum(-1), (origin * direction).sum(-1), origin.square().sum(-1) - 0.25
    inner = b.square() - a * c > 0.2 * a * 0.25  # away from the outline
    front = (-b - (b.square() - a * c).clamp(min=0).sqrt()) / a
    assert inner.sum() > 150
    torch.testing.assert_close(visible.depth[inner], front[inner], rtol=0, atol=2e-3)
    torch.testing.assert_close(visible.weight.sum(-1), torch.ones_like(visible.depth))
    mesh = trimesh.creation.icosphere(5, 0.5)
    corners = double(mesh.triangles)[visible.triangle.clamp(min=0)]
    surface = (visible.weight[..., None] * corners).sum(2)
    expected = origin + visible.depth.nan_to_num(posinf=0)[..., None] * direction
    torch.testing.assert_close(surface[inner], expected[inner], rtol=0, atol=1e-9)  # weights are barycentric in space


def test_the_nearer_of_two_triangles_is_seen() -> None:
    triangle = double([[-0.9, -0.9], [0.9, -0.9], [0.0, 0.9]])
    depth = double([[3.0, 3.0, 3.0], [1.0, 2.0, 1.5], [5.0, 5.0, 5.0]])[None]
    triangles = triangle.expand(1, 3, 3, 2)
    pairs = grid_pairs(triangles, torch.ones(1, 3, dtype=torch.bool), (8, 8), 0.0)
    visible = visible_triangles(triangles, depth, pixel_centers(8, 8, dtype=torch.double)[None], pairs, True)
    assert set(visible.triangle.unique().tolist()) == {-1, 1}


# gradients


@CAMERAS
def test_gradients_against_finite_differences(kind: type) -> None:
    triangles = ball(kind, subdivisions=0)[0][:1].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: on_grid(x, (6, 7), 1e-2), triangles, eps=1e-7, atol=1e-5)


def test_colors_gradients_against_finite_differences() -> None:
    record = softras_values("color")
    triangles, depth, colors = (
        double(record[n])[None].requires_grad_() for n in ("triangles", "vertex_depths", "vertex_colors")
    )
    points = double([[0.05, 0.02], [-0.4, -0.35], [0.2, -0.1]])[None]

    def mixed(*inputs: torch.Tensor) -> torch.Tensor:
        return soft_colors(*inputs, points, all_pairs(1, 2, 3), torch.ones(3).double(), 1e-3, 0.1, 1.0, 5.0)

    assert torch.autograd.gradcheck(mixed, (triangles, depth, colors))


def test_useless_triangles_give_finite_gradients_and_no_coverage() -> None:
    """Zero area, off the screen, behind the camera, not finite, none at all."""
    point, line = [[0.3, 0.3]] * 3, [[-0.5, 0.0], [0.5, 0.0], [0.2, 0.0]]
    far, large = [[5.0, 5.0], [6.0, 5.0], [5.0, 6.0]], [[1e20, 0.0], [1e20, 1.0], [0.0, 1e20]]
    broken, behind = [[math.nan, 0.0], [0.5, 0.0], [0.0, 0.5]], [[-0.5, -0.5], [0.5, -0.5], [0.0, 0.5]]
    triangles = torch.tensor([[point, line, far, large, broken, behind]]).requires_grad_()
    drawn = torch.tensor([[True, True, True, False, True, False]])
    points = pixel_centers(9, 9)[None]
    alpha = soft_silhouette(triangles, points, grid_pairs(triangles, drawn, (9, 9), reach(1e-3)), 1e-3)
    (gradient,) = torch.autograd.grad(alpha.sum(), triangles)
    assert gradient.isfinite().all()
    assert (gradient[0, 2:] == 0).all()
    visible = visible_triangles(
        triangles.detach(), torch.ones(1, 6, 3), points, grid_pairs(triangles, drawn, (9, 9), 0.0), True
    )
    assert (visible.triangle == -1).all()
    assert visible.weight.isfinite().all()
    empty = torch.zeros(2, 0, 3, 2)
    nothing = soft_silhouette(
        empty, points.expand(2, -1, -1), grid_pairs(empty, torch.ones(2, 0, dtype=torch.bool), (9, 9), 0.1), 1e-3
    )
    assert (nothing == 0).all()
    assert nothing.shape == (2, 81)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="NO GPU CHECKED: THERE IS NONE")
@CAMERAS
def test_a_gpu_gives_what_a_cpu_gives_and_the_same_bits_twice(kind: type) -> None:
    triangles, depth, *_ = ball(kind, subdivisions=3)
    direction = torch.randn(3, 64 * 64)
    found = {}
    for name, device in (("cpu", "cpu"), ("gpu", "cuda"), ("again", "cuda")):
        corners = triangles.float().to(device).requires_grad_()
        points = pixel_centers(64, 64, device=device).expand(3, -1, -1)
        pairs = grid_pairs(corners, (depth > 0).all(-1).to(device), (64, 64), reach(1e-4))
        alpha = soft_silhouette(corners, points, pairs, 1e-4)
        (gradient,) = torch.autograd.grad((alpha * direction.to(device)).sum(), corners)
        visible = visible_triangles(corners, depth.float().to(device), points, pairs, kind is PerspectiveCamera)
        found[name] = [x.detach().cpu() for x in (alpha, gradient, visible.depth, visible.triangle)]
    assert all(torch.equal(one, other) for one, other in zip(found["gpu"], found["again"], strict=True))
    torch.testing.assert_close(found["gpu"][0], found["cpu"][0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["gpu"][1], found["cpu"][1], rtol=1e-3, atol=1e-2)
    assert (found["gpu"][3] != found["cpu"][3]).float().mean() < 1e-3
