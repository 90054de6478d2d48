"""Each solid against the nearest of many points of its surface, found without using its signed distance function."""

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull, cKDTree

from sdfsrn.functional import primitives

NOTCHED = torch.tensor([[-0.5, -0.4], [0.5, -0.4], [0.5, 0.4], [0.0, 0.0], [-0.5, 0.3]], dtype=torch.float64)


def value(number):
    return torch.tensor(number, dtype=torch.float64)


def sdf_box(points):
    return primitives.box(points, value([0.5, 0.3, 0.2]))


def sdf_rounded_box(points):
    return primitives.rounded_box(points, value([0.4, 0.2, 0.1]), value(0.1))


def sdf_sphere(points):
    return primitives.sphere(points, value(0.6))


def sdf_capsule(points):
    return primitives.capsule(points, value(0.4), value(0.2))


def sdf_cylinder(points):
    return primitives.cylinder(points, value(0.4), value(0.3))


def sdf_torus(points):
    return primitives.torus(points, value(0.5), value(0.15))


def sdf_round_cone(points):
    return primitives.round_cone(points, value(0.4), value(0.15), value(0.5))


def sdf_prism(points):
    return primitives.prism(points, NOTCHED, value(0.25))


def circle(count=400):
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.cos(angle), np.sin(angle)


def ball(count=60_000):
    direction = np.random.default_rng(0).normal(size=(count, 3))
    return direction / np.linalg.norm(direction, axis=1, keepdims=True)


def box_surface(half, count=150):
    faces, line = [], np.linspace(-1, 1, count)
    first, second = (grid.ravel() for grid in np.meshgrid(line, line))
    for axis in range(3):
        for side in (-1, 1):
            faces.append(np.insert(np.stack([first, second], 1), axis, side, axis=1) * half)
    return np.concatenate(faces)


def revolved(profile):
    """Surface of a profile (radius, height) turned around the y axis."""
    cos, sin = circle()
    radius, height = profile[:, :1], np.broadcast_to(profile[:, 1:], (len(profile), len(cos)))
    return np.stack([radius * cos, height, radius * sin], -1).reshape(-1, 3)


def arc(center, radius, start, end, count=200):
    """Points of a circle in the (radius, height) half plane; angles from the y axis."""
    angle = np.radians(np.linspace(start, end, count))
    return np.stack([center[0] + radius * np.sin(angle), center[1] + radius * np.cos(angle)], 1)


def segment(start, end, count=200):
    share = np.linspace(0, 1, count)[:, None]
    return (1 - share) * np.array(start) + share * np.array(end)


def round_cone_profile():
    tilt = np.degrees(np.arcsin((0.4 - 0.15) / 0.5))  # the side's normal points up by this much
    low, high = arc((0, 0), 0.4, 90 - tilt, 180), arc((0, 0.5), 0.15, 0, 90 - tilt)
    return np.concatenate([low, segment(low[0], high[-1]), high])


def prism_surface():
    corners = NOTCHED.numpy()
    outline = np.concatenate([segment(a, b, 150) for a, b in zip(corners, np.roll(corners, -1, 0), strict=True)])
    height = np.linspace(-0.25, 0.25, 60)
    walls = np.concatenate([np.repeat(outline, 60, 0), np.tile(height, len(outline))[:, None]], 1)
    grid = np.stack(np.meshgrid(np.linspace(-0.5, 0.5, 201), np.linspace(-0.4, 0.4, 161)), -1).reshape(-1, 2)
    ceiling = np.interp(grid[:, 0], [-0.5, 0.0, 0.5], [0.3, 0.0, 0.4])
    caps = grid[grid[:, 1] <= ceiling]
    return np.concatenate([walls] + [np.insert(caps, 2, side, axis=1) for side in (-0.25, 0.25)])


SOLIDS = {
    "sphere": (sdf_sphere, lambda: 0.6 * ball()),
    "box": (sdf_box, lambda: box_surface((0.5, 0.3, 0.2))),
    "rounded_box": (sdf_rounded_box, None),
    "capsule": (sdf_capsule, lambda: revolved(np.concatenate(
        [arc((0, 0.4), 0.2, 0, 90), segment((0.2, -0.4), (0.2, 0.4)), arc((0, -0.4), 0.2, 90, 180)]))),
    "cylinder": (sdf_cylinder, lambda: revolved(np.concatenate(
        [segment((0, 0.3), (0.4, 0.3)), segment((0.4, -0.3), (0.4, 0.3)), segment((0, -0.3), (0.4, -0.3))]))),
    "torus": (sdf_torus, lambda: revolved(arc((0.5, 0), 0.15, 0, 360))),
    "round_cone": (sdf_round_cone, lambda: revolved(round_cone_profile())),
    "prism": (sdf_prism, prism_surface),
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name, (_, surface) in SOLIDS.items() if surface])
def test_exact_distance_outside_and_inside(name):
    sdf, surface = SOLIDS[name]
    points = np.random.default_rng(1).uniform(-1, 1, (3000, 3))
    nearest, _ = cKDTree(surface()).query(points)
    distance = sdf(torch.from_numpy(points)).numpy()
    assert np.abs(np.abs(distance) - nearest).max() < 0.012  # the sampling's resolution
    assert (distance < 0).any()


@pytest.mark.parametrize("name", SOLIDS)
def test_gradient_has_unit_length(name):
    points = torch.rand(2000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).mul(2).sub(1).requires_grad_()
    distance = SOLIDS[name][0](points)
    (gradient,) = torch.autograd.grad(distance.sum(), points)
    torch.testing.assert_close(gradient[distance > 0].norm(dim=-1), torch.ones((distance > 0).sum(), dtype=torch.float64))


@pytest.mark.parametrize("name", SOLIDS)
def test_one_lipschitz_and_finite_gradient_on_axes_and_surfaces(name):
    sdf = SOLIDS[name][0]
    generator = torch.Generator().manual_seed(0)
    first, second = torch.rand(2, 5000, 3, dtype=torch.float64, generator=generator) * 2 - 1
    assert ((sdf(first) - sdf(second)).abs() <= (first - second).norm(dim=-1) + 1e-12).all()
    special = torch.tensor([[0, 0, 0], [0, 0.3, 0], [0.5, 0, 0], [0.5, 0.3, 0.2], [0, 0.6, 0]], dtype=torch.float64)
    (gradient,) = torch.autograd.grad(sdf(special.requires_grad_()).sum(), special)
    assert gradient.isfinite().all()


def test_inside_agrees_with_a_convex_hull():
    surface = SOLIDS["round_cone"][1]()
    equations = torch.from_numpy(ConvexHull(surface[::101]).equations)
    points = torch.from_numpy(np.random.default_rng(2).uniform(-0.6, 0.8, (2000, 3)))
    height = (points @ equations[:, :3].T + equations[:, 3]).amax(-1)
    clear = height.abs() > 0.02
    assert ((height < 0) == (sdf_round_cone(points) < 0))[clear].all()


def test_rounded_box_grows_a_box():
    points = torch.randn(100, 3, dtype=torch.float64)
    torch.testing.assert_close(sdf_rounded_box(points), primitives.box(points, value([0.4, 0.2, 0.1])) - 0.1)


def test_polygon_does_not_depend_on_orientation_or_first_vertex():
    points = torch.randn(200, 2, dtype=torch.float64)
    expected = primitives.polygon(points, NOTCHED)
    torch.testing.assert_close(primitives.polygon(points, NOTCHED.flip(0)), expected)
    torch.testing.assert_close(primitives.polygon(points, NOTCHED.roll(2, 0)), expected)


def test_batches_of_parameters():
    points, corners = torch.randn(3, 50, 2), torch.rand(3, 1, 4, 2)
    together = primitives.polygon(points, corners)
    for i in range(3):
        torch.testing.assert_close(together[i], primitives.polygon(points[i], corners[i, 0]))


def test_union_and_intersection_of_spheres():
    points = torch.randn(1000, 3, dtype=torch.float64)
    shift = value([0.8, 0, 0])
    both = [(points - sign * shift).norm(dim=-1) - 1 for sign in (-1, 1)]
    union, intersection = primitives.union(*both), primitives.intersection(*both)
    assert ((union < 0) == ((both[0] < 0) | (both[1] < 0))).all()
    assert ((intersection < 0) == ((both[0] < 0) & (both[1] < 0))).all()
    assert (intersection >= union).all()
