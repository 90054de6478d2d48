"""Sphere-traced pictures against the analytic silhouette of a ball, and surface samples against areas."""

import math

import numpy as np
import pytest
import torch

from sdfsrn.data.shapes import ProceduralShape, chair
from sdfsrn.data.shapes.build import ball, box
from sdfsrn.data.shapes.tracing import render, surface_points
from sdfsrn.functional.camera import OrthographicCamera, PerspectiveCamera, look_at_origin, pixel_centers


def camera(kind, views=2, focal=2.0):
    azimuth = torch.linspace(0.3, 4, views)
    pose = look_at_origin(azimuth, torch.full_like(azimuth, math.pi / 6), 2.5)
    return kind(pose, torch.diag(torch.tensor([focal, focal, 1.0])).expand(views, 3, 3))


@pytest.mark.parametrize(("kind", "radius"), [(PerspectiveCamera, 0.5 / math.sqrt(2.5**2 - 0.25)), (OrthographicCamera, 0.5)])
@pytest.mark.parametrize("size", [32, 37])
def test_ball_covers_its_disk(kind, radius, size):
    picture = render(ProceduralShape([ball("ff8000", (0, 0, 0), 0.3)]), camera(kind), size, 3)
    distance = pixel_centers(size, size).norm(dim=-1).reshape(size, size) / 2.0
    pixel, alpha = 2 / size / 2.0, picture.hits / 9
    assert (alpha[:, distance < radius - pixel] == 1).all()
    assert (alpha[:, distance > radius + pixel] == 0).all()
    area = alpha.mean((1, 2)) * 4 / 2.0**2
    torch.testing.assert_close(area, torch.full((2,), math.pi * radius**2), rtol=0.02, atol=0)


def test_light_from_above_and_unpremultiplied_color():
    picture = render(ProceduralShape([box("ff8000", (0, 0, 0), (1, 1, 1), 0.0)]), camera(PerspectiveCamera), 32, 2)
    covered = picture.color[picture.hits > 0]
    brightest = covered.amax(0)
    lambert = 0.5 + 0.5 / math.sqrt(1.25)
    torch.testing.assert_close(brightest, lambert * torch.tensor([1, 128 / 255, 0]), rtol=0, atol=0.01)
    assert covered[:, 0].min() > 0.49  # as bright at the outline as inside
    assert (picture.color[picture.hits == 0] == 0).all()


@pytest.mark.parametrize("kind", [PerspectiveCamera, OrthographicCamera])
def test_beams_lose_no_rays(kind):
    """The same pixels are hit as by tracing every ray alone, from the camera."""
    shape, views = ProceduralShape(chair(np.random.default_rng(3))), camera(kind, 1)
    rays = views.rays(views.image_plane(pixel_centers(48, 48)[None]))
    depth, nearest = torch.full((48 * 48,), 1.5), torch.full((48 * 48,), math.inf)
    speed = rays.direction[0].norm(dim=-1)
    for _ in range(150):
        distance = shape.sdf(rays.origin[0] + depth[:, None] * rays.direction[0])
        depth, nearest = depth + distance / speed, torch.minimum(nearest, distance)
    hits = render(shape, views, 48, 1).hits.flatten()
    assert (hits[nearest < 5e-4] == 1).all()
    assert (hits[nearest > 2e-3] == 0).all()


def test_surface_points_are_uniform_and_exact():
    """A box of 1 x 0.5 x 0.25: every face gets its share of the area, every half of a face half of it."""
    shape = ProceduralShape([box("ffffff", (0, 0, 0), (1, 0.5, 0.25), 0.0)])
    points = surface_points(shape, 20_000, torch.Generator().manual_seed(0))
    assert points.shape == (20_000, 3)
    assert shape.sdf(points).abs().max() < 1e-4
    area = {0: 0.125, 1: 0.25, 2: 0.5}
    for axis, size in area.items():
        for side in (-1, 1):
            share = ((points[:, axis] * side - shape.half_size[axis]).abs() < 1e-4).float().mean().item()
            assert share == pytest.approx(size / 1.75, rel=0.06)
    assert (points > 0).float().mean(0).numpy() == pytest.approx(0.5, abs=0.02)


def test_no_surface_points_where_parts_touch_inside():
    halves = [box("ffffff", (x, 0, 0), (0.5, 1, 1), 0.0) for x in (-0.25, 0.25)]
    points = surface_points(ProceduralShape(halves), 5000, torch.Generator().manual_seed(0))
    assert (points.abs().amax(-1) > 0.499).all()
