from __future__ import annotations

import math

import pytest
import torch

from sdfsrn.functional.camera import Rays
from sdfsrn.functional.raymarch import bisect, compact, first_crossing, implicit_depth, search_interval, secant


@pytest.mark.parametrize("steps", [1, 5, 10, 30])
def test_bisection_halves_the_error_every_step(steps: int) -> None:
    root = torch.rand(3, 400, dtype=torch.double)
    near, far = torch.rand_like(root), 2 + torch.rand_like(root)

    def sdf(z: torch.Tensor) -> torch.Tensor:
        t = (z - near) / (far - near)
        return torch.sin(root - t) + (root - t) ** 3

    t = bisect(sdf, near, far, sdf(near), steps)
    assert (t - root).abs().max() <= 0.5 ** (steps + 1) + 1e-12
    assert (bisect(lambda z: -sdf(z), near, far, -sdf(near), steps) - root).abs().max() <= 0.5 ** (steps + 1) + 1e-12


def test_bisection_calls_the_field_once_a_step_and_ends_beside_far_without_a_crossing() -> None:
    calls = []
    near, far = torch.zeros(1, 2), torch.ones(1, 2)
    t = bisect(lambda z: calls.append(z) or torch.ones_like(z), near, far, torch.ones(1, 2), 12)
    assert len(calls) == 12
    assert ((1 - t) <= 0.5**12).all()
    assert (t < 1).all()


def test_bisection_records_no_gradient() -> None:
    radius = torch.tensor(0.5, requires_grad=True)
    t = bisect(lambda z: z - radius, torch.ones(1, 1), torch.zeros(1, 1), 1 - radius[None, None], 5)
    assert not t.requires_grad


def test_secants_close_in_on_a_root() -> None:
    root = 0.1 + 0.8 * torch.rand(3, 400, dtype=torch.double)
    near, far = torch.rand_like(root), 2 + torch.rand_like(root)

    def sdf(z: torch.Tensor) -> torch.Tensor:
        t = (z - near) / (far - near)
        return torch.sin(root - t) + (root - t) ** 3

    errors = []
    for steps in (0, 3, 8, 20):
        found = secant(sdf, near, far, sdf(near), sdf(far), steps)
        errors.append(((found - near) / (far - near) - root).abs().max().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[1] < 0.06
    assert errors[-1] < 1e-6
    assert not secant(sdf, near, far, sdf(near).requires_grad_(), sdf(far), 2).requires_grad


def test_a_line_is_solved_at_once() -> None:
    near, far = torch.zeros(1, 5), torch.ones(1, 5)
    root = torch.linspace(0.1, 0.9, 5)[None]
    found = secant(lambda z: 2 * (root - z), near, far, 2 * root, 2 * (root - far), 0)
    torch.testing.assert_close(found, root)


@pytest.mark.parametrize("ends", [(1.0, 1.0), (0.2, 0.5), (-0.3, -0.1), (0.0, 0.0)])
def test_secants_stay_between_the_ends_without_a_crossing(ends: tuple[float, float]) -> None:
    near, far = torch.zeros(1, 1), torch.ones(1, 1)
    found = secant(lambda z: ends[0] + z * (ends[1] - ends[0]), near, far, near + ends[0], near + ends[1], 5)
    assert 0 <= found.item() <= 1


def sphere_depth(radius: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    return 3 - (radius**2 - offset**2).sqrt()


def test_implicit_derivative_is_that_of_the_spheres_surface() -> None:
    """Rays along z at `offset` from the centre (0, 0, 3) of a sphere: z* = 3 - sqrt(r^2 - offset^2)."""
    radius = torch.tensor(0.5, dtype=torch.double, requires_grad=True)
    offset = torch.linspace(0, 0.45, 7, dtype=torch.double)[None]
    found = sphere_depth(radius.detach(), offset)
    sdf = (offset**2 + (found - 3) ** 2).sqrt() - radius
    slope = (found - 3) / (offset**2 + (found - 3) ** 2).sqrt()
    depth = implicit_depth(found, sdf, slope, torch.ones_like(found, dtype=torch.bool))
    torch.testing.assert_close(depth, found)
    h = 1e-6
    for i in range(7):
        (ours,) = torch.autograd.grad(depth[0, i], radius, retain_graph=True)
        difference = (sphere_depth(radius + h, offset) - sphere_depth(radius - h, offset))[0, i] / (2 * h)
        assert ours.item() == pytest.approx(difference.item(), rel=1e-7)
        assert ours.item() == pytest.approx(-0.5 / math.sqrt(0.25 - offset[0, i].item() ** 2))


def test_implicit_depth_leaves_missing_rays_alone_and_bounds_grazing_ones() -> None:
    sdf = torch.zeros(1, 3, requires_grad=True)
    depth = torch.ones(1, 3, requires_grad=True)
    result = implicit_depth(depth, sdf, torch.tensor([[-1.0, -1e-9, -1.0]]), torch.tensor([[True, True, False]]))
    result.sum().backward()
    assert torch.equal(result, torch.ones(1, 3))
    assert sdf.grad[0].tolist() == pytest.approx([1.0, 20.0, 0.0])
    assert depth.grad[0].tolist() == [0.0, 0.0, 1.0]


def test_slopes_are_bounded_where_asked() -> None:
    """dz = -df / slope, with the slope at most `max_slope`; without a bound, whatever the slope."""
    sdf = torch.zeros(1, 3, dtype=torch.double, requires_grad=True)
    slope, hit = torch.tensor([[-2.0, -1e-4, 3.0]], dtype=torch.double), torch.ones(1, 3, dtype=torch.bool)
    for bound, expected in ((-1e-3, [0.5, 1000.0, 1000.0]), (math.inf, [0.5, 1e4, -1 / 3])):
        depth = implicit_depth(torch.ones(1, 3, dtype=torch.double), sdf, slope, hit, max_slope=bound)
        (gradient,) = torch.autograd.grad(depth.sum(), sdf)
        torch.testing.assert_close(gradient, torch.tensor([expected], dtype=torch.double))


def test_regula_falsi_without_guard_follows_its_recursion() -> None:
    """The line through both ends; the end of the root's sign moves. By hand for z^2 = 2 in [1, 2]."""
    near, far = 1.0, 2.0
    for _ in range(4):
        root = near + (far - near) * (2 - near**2) / (far**2 - near**2)
        near, far = (root, far) if root**2 < 2 else (near, root)
    expected = near + (far - near) * (2 - near**2) / (far**2 - near**2)

    def sdf(z: torch.Tensor) -> torch.Tensor:
        return 2 - z**2

    ends = [torch.tensor([[z]], dtype=torch.double) for z in (1.0, 2.0)]
    found = secant(sdf, *ends, *map(sdf, ends), num_steps=4, guard=0.0)
    assert found.item() == pytest.approx(expected, rel=1e-14)
    assert abs(found.item() - math.sqrt(2)) < 1e-3


def test_first_crossing() -> None:
    """From free to occupied, after a start in free space; a zero is neither."""
    rows = [[1, 1, -1, 1, -1], [-1, 1, -1, 1, -1], [1, 2, 3, 4, 5], [0, 1, -1, 1, -1], [1, 0, -1, 1, -2], [-1, -1, -1, -1, -1]]
    first, found = first_crossing(torch.tensor(rows, dtype=torch.float)[None])
    assert found.tolist() == [[True, False, False, False, True, False]]
    assert first[0, [0, 4]].tolist() == [1, 3]


def test_compact_keeps_every_marked_ray_once() -> None:
    mask = torch.rand(5, 40) > torch.tensor([0.1, 0.5, 0.9, 1.0, 0.5])[:, None]
    index = compact(mask)
    assert index.shape[1] == mask.sum(-1).max()
    for row, chosen in zip(mask, index, strict=True):
        assert len(chosen.unique()) == len(chosen)
        assert row[chosen].sum() == row.sum()
    assert compact(torch.zeros(2, 4, dtype=torch.bool)).shape == (2, 0)


def test_search_intervals() -> None:
    """The cube's sides at +-0.5 from 2 away, from within, and beside it."""
    origin = torch.tensor([[[0.0, 0.1, -2.0], [0.0, 0.0, 0.2], [0.7, 0.0, -2.0]]])
    rays = Rays(origin, torch.tensor([0.0, 0.0, 1.0]).expand(1, 3, 3))
    near, far, meets = search_interval(rays, 0.5, 5.0)
    torch.testing.assert_close(near, torch.tensor([[1.5, 0.0, 0.0]]))
    torch.testing.assert_close(far, torch.tensor([[2.5, 0.3, 5.0]]))
    assert meets.tolist() == [[True, True, False]]
