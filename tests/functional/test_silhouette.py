from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull

from sdfsrn.functional import primitives
from sdfsrn.functional.camera import OrthographicCamera, PerspectiveCamera
from sdfsrn.functional.silhouette import (
    cone_lower_bound,
    cylinder_lower_bound,
    distance_transform,
    focal_lower_bound,
    importance_weight,
)

CAMERAS = pytest.mark.parametrize("kind", [PerspectiveCamera, OrthographicCamera])
DOUBLE = {"dtype": torch.double}
CORNERS = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], **DOUBLE)] * 3)

# Every part is the convex hull of equal balls, (centres, radius, signed distance): so is its silhouette, of theirs.
HALF_SIZE, BOX_CENTER = torch.tensor([0.3, 0.12, 0.2], **DOUBLE), torch.tensor([0.25, -0.2, 0.1], **DOUBLE)
CAPSULE_CENTER = torch.tensor([-0.3, 0.1, 0.2], **DOUBLE)
SPHERE = (
    torch.tensor([[0.1, 0.3, -0.2]], **DOUBLE),
    0.25,
    lambda x: primitives.sphere(x - torch.tensor([0.1, 0.3, -0.2], **DOUBLE), torch.tensor(0.25, **DOUBLE)),
)
BOX = (CORNERS * HALF_SIZE + BOX_CENTER, 0.0, lambda x: primitives.box(x - BOX_CENTER, HALF_SIZE))
CAPSULE = (
    torch.tensor([[0.0, -0.3, 0.0], [0.0, 0.3, 0.0]], **DOUBLE) + CAPSULE_CENTER,
    0.1,
    lambda x: primitives.capsule(x - CAPSULE_CENTER, torch.tensor(0.3, **DOUBLE), torch.tensor(0.1, **DOUBLE)),
)
SHAPES = {"sphere": [SPHERE], "box": [BOX], "capsule": [CAPSULE], "union": [SPHERE, BOX, CAPSULE]}


def random_camera(kind: type) -> PerspectiveCamera | OrthographicCamera:
    """A batch of one: any rotation, any focal lengths, principal point off the centre, the object before the camera."""
    rotation = torch.linalg.qr(torch.randn(3, 3, **DOUBLE)).Q
    rotation = rotation * torch.det(rotation)
    translation = torch.rand(3, **DOUBLE) * torch.tensor([0.4, 0.4, 2.0], **DOUBLE)
    translation[2] += 1.5
    intrinsics = torch.eye(3, **DOUBLE)
    intrinsics[0, 0], intrinsics[1, 1] = (0.6 + torch.rand(2, **DOUBLE)) * (1 if kind is PerspectiveCamera else 0.5)
    intrinsics[:2, 2] = torch.randn(2, **DOUBLE) / 4
    return kind(torch.cat([rotation, translation[:, None]], -1)[None], intrinsics[None])


def ball_outline(kind: type, center: torch.Tensor, radius: float, count: int = 64) -> torch.Tensor:
    """(count, 2) corners of a polygon around a ball's silhouette, image plane; 1 + 5 / count^2 times as large."""
    angle = torch.arange(count, **DOUBLE) * 2 * math.pi / count
    circle = torch.stack([angle.cos(), angle.sin()], -1) / math.cos(math.pi / count)
    if kind is OrthographicCamera:
        return center[:2] + radius * circle
    squared = center.dot(center)
    across = torch.linalg.svd(center[None]).Vh[1:]
    points = center * (1 - radius**2 / squared) + radius * (1 - radius**2 / squared).sqrt() * circle @ across
    return points[:, :2] / points[:, 2:]


def polygon_distance(uv: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Exact distance of (n, 2) pixels to the convex hull of some points; 0 inside."""
    hull = points[torch.from_numpy(ConvexHull(points.numpy()).vertices).long()]
    edge = hull.roll(-1, 0) - hull
    to = uv[:, None] - hull
    along = ((to * edge).sum(-1) / edge.square().sum(-1)).clamp(0, 1)
    outside = (edge[:, 0] * to[..., 1] - edge[:, 1] * to[..., 0] < 0).any(-1)
    return torch.where(outside, (to - along[..., None] * edge).norm(dim=-1).amin(-1), 0.0)


def silhouette_distance(camera, parts: list, uv: torch.Tensor) -> torch.Tensor:
    """D(u) without any pixels."""
    distances = []
    for centers, radius, _ in parts:
        x = centers @ camera.world_to_camera[0, :, :3].T + camera.world_to_camera[0, :, 3]
        distances.append(polygon_distance(uv, torch.cat([ball_outline(type(camera), center, radius) for center in x])))
    return torch.stack(distances).amin(0)


@CAMERAS
@pytest.mark.parametrize("shape", SHAPES)
def test_no_surface_is_nearer_than_the_bound(kind: type, shape: str) -> None:
    """100,000 random points in 50 random views, silhouettes without pixels."""
    parts, checked, tightest = SHAPES[shape], 0, math.inf
    for _ in range(50):
        camera = random_camera(kind)
        uv = camera.image_plane(2 * torch.rand(1, 2500, 2, **DOUBLE) - 1)
        distance = silhouette_distance(camera, parts, uv[0])[None]
        depth = 0.05 + 5 * torch.rand(1, 2500, **DOUBLE)
        true = torch.stack([sdf(camera.rays(uv).at(depth)) for _, _, sdf in parts]).amin(0)
        bound = camera.lower_bound(depth, uv, distance)
        assert (bound <= true)[distance > 0].all()
        checked += int((distance > 0).sum())
        tightest = min(tightest, ((true - bound) / bound)[distance > 0].min().item())
    assert checked > 80_000
    assert tightest < 0.02  # the bound is met somewhere: not just small


def test_the_cone_touches_a_sphere() -> None:
    """For u between the principal point and a ball's silhouette, v is where the outline is nearest, and the point of
    u's ray that is square to v's at the point where that touches the ball has exactly the bound for its distance."""
    count, (angle, polar) = 1000, torch.rand(2, 1000, **DOUBLE)
    radius = 0.1 + 0.5 * torch.rand(count, **DOUBLE)
    far = 2 + 3 * torch.rand(count, **DOUBLE)
    half = (radius / far).asin()
    tilt = half + 0.05 + 0.5 * polar
    azimuth = 2 * math.pi * angle
    across = torch.stack([azimuth.cos(), azimuth.sin()], -1)
    center = far[:, None] * torch.cat([across * tilt.sin()[:, None], tilt.cos()[:, None]], -1)
    edge = (tilt - half).tan()  # the silhouette's point nearest to the principal point
    size = edge * torch.rand(count, **DOUBLE)
    uv, distance = across * size[:, None], edge - size
    one = torch.ones(count, 1, **DOUBLE)
    toward = torch.nn.functional.normalize(torch.cat([across * edge[:, None], one], -1), dim=-1)
    ray = torch.cat([uv, one], -1)
    depth = (far.square() - radius.square()).sqrt() / (ray * toward).sum(-1)
    true = (depth[:, None] * ray - center).norm(dim=-1) - radius
    torch.testing.assert_close(cone_lower_bound(depth, uv, distance), true, rtol=0, atol=1e-9)


def test_at_the_principal_point_the_cone_is_upright() -> None:
    depth, distance = 1 + torch.rand(2, 100, **DOUBLE)
    zero = torch.zeros(100, 2, **DOUBLE)
    torch.testing.assert_close(cone_lower_bound(depth, zero, distance), depth * distance.atan().sin())
    torch.testing.assert_close(cone_lower_bound(depth, zero + 1e-9, distance), cone_lower_bound(depth, zero, distance))


def test_the_bound_is_the_papers_expression() -> None:
    u = 2 * torch.randn(10_000, 2, **DOUBLE)
    depth, distance = 1 + 3 * torch.rand(10_000, **DOUBLE), 2 * torch.rand(10_000, **DOUBLE)
    v = (1 + distance / u.norm(dim=-1))[:, None] * u  # eq. (2)
    u_bar, v_bar = (torch.cat([x, torch.ones(10_000, 1, **DOUBLE)], -1) for x in (u, v))
    foot = ((v_bar * u_bar).sum(-1) / (v_bar * v_bar).sum(-1))[:, None] * v_bar
    expected = depth * (u_bar - foot).norm(dim=-1)  # eq. (1)
    torch.testing.assert_close(cone_lower_bound(depth, u, distance), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("focal", [0.5, 1.0, 2.0, 10.0])
def test_the_bound_is_the_distance_to_the_cone(focal: float) -> None:
    """The least of |x - x'| over a fine grid of the circle's angle and of z', with x and x' of eqs. (21)-(22)."""
    angles = torch.linspace(0, 2 * math.pi, 361, **DOUBLE)
    for _ in range(25):
        u, distance, depth = torch.randn(2, **DOUBLE), torch.rand((), **DOUBLE), 1 + 2 * torch.rand((), **DOUBLE)
        direction = torch.atan2(u[1], u[0])
        v = u + distance * torch.stack([(angles + direction).cos(), (angles + direction).sin()], -1)
        other = torch.linspace(1 - focal, 6, 2000, **DOUBLE)
        x = (depth - 1 + focal) / focal * torch.cat([u, u.new_tensor([focal])])
        x_v = (other[:, None, None] - 1 + focal) / focal * torch.cat([v, torch.full_like(v[:, :1], focal)], -1)
        least = (x - x_v).norm(dim=-1).min()
        bound = focal_lower_bound(depth, u, distance, focal)
        assert bound <= least + 1e-12
        assert bound >= least - 5e-3 * max(1.0, least.item())


def test_a_long_focal_length_makes_a_cylinder() -> None:
    u, depth, distance = torch.randn(100, 2, **DOUBLE), 1 + torch.rand(100, **DOUBLE), torch.rand(100, **DOUBLE)
    limit = cylinder_lower_bound(depth, distance)
    torch.testing.assert_close(limit, distance)
    torch.testing.assert_close(focal_lower_bound(depth, u, distance, 1e7), limit, rtol=1e-6, atol=0)
    errors = [(focal_lower_bound(depth, u, distance, f) - limit).abs().max() for f in (1e2, 1e4, 1e6)]
    assert errors[0] > 50 * errors[1] > 50**2 * errors[2]


def test_the_bound_scales_with_the_scene_and_turns_with_the_image() -> None:
    u, depth, distance = torch.randn(100, 2, **DOUBLE), 1 + torch.rand(100, **DOUBLE), torch.rand(100, **DOUBLE)
    bound = cone_lower_bound(depth, u, distance)
    torch.testing.assert_close(cone_lower_bound(7 * depth, u, distance), 7 * bound)
    turn = torch.linalg.qr(torch.randn(2, 2, **DOUBLE)).Q
    torch.testing.assert_close(cone_lower_bound(depth, u @ turn, distance), bound)
    assert (cone_lower_bound(depth, u, distance * 1.01) > bound).all()
    assert (cone_lower_bound(depth, u, 0 * distance) == 0).all()


@pytest.mark.parametrize("pixel", [(1.0, 1.0), (0.3, 0.7), (0.05, 0.01)])
@pytest.mark.parametrize("share", [0.03, 0.2, 0.9])
def test_distance_transform_measures_to_the_pixels_squares(pixel: tuple[float, float], share: float) -> None:
    generator = np.random.default_rng(int(100 * share))
    for height, width in [(9, 13), (1, 8), (7, 1)]:
        silhouettes = generator.random((3, height, width)) < share
        silhouettes[:, 0, -1] = True
        expected = np.full(silhouettes.shape, np.inf)
        for picture, row, column in np.ndindex(*silhouettes.shape):
            for r, c in np.argwhere(silhouettes[picture]):
                gap_y = max(abs(row - r) - 0.5, 0) * pixel[0]
                gap_x = max(abs(column - c) - 0.5, 0) * pixel[1]
                expected[picture, row, column] = min(expected[picture, row, column], math.hypot(gap_y, gap_x))
        found = distance_transform(torch.from_numpy(silhouettes), torch.tensor(pixel, **DOUBLE))
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_distance_transform_in_parts_and_of_pixels_of_several_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    silhouettes, sizes = torch.rand(4, 2, 11, 7) < 0.1, 0.1 + torch.rand(4, 1, 2, **DOUBLE)
    alone = [[distance_transform(silhouettes[i, j], sizes[i, 0]) for j in range(2)] for i in range(4)]
    expected = torch.stack([torch.stack(pair) for pair in alone])
    for elements in (1, 200, 2000, 10**6):
        monkeypatch.setattr("sdfsrn.functional.silhouette._ELEMENTS", elements)
        assert torch.equal(distance_transform(silhouettes, sizes), expected)


def test_distance_transform_of_nothing_and_of_everything() -> None:
    assert distance_transform(torch.zeros(3, 4, dtype=torch.bool)).isposinf().all()
    assert (distance_transform(torch.ones(3, 4, dtype=torch.bool)) == 0).all()


def test_importance_is_the_inverse_distance_and_finite() -> None:
    distance = torch.tensor([[0.0, 0.25, 2.0], [0.0, 4.0, torch.inf]])
    weight = importance_weight(distance, 0.5)
    assert weight.tolist() == [[2.0, 2.0, 0.5], [2.0, 0.25, 0.0]]
    smallest = torch.tensor([[0.5], [0.1]])
    assert importance_weight(distance, smallest)[:, 0].tolist() == pytest.approx([2, 10])
