from __future__ import annotations

import math

import pytest
import torch

from sdfsrn.functional.raymarch import bisect, implicit_depth, secant


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
