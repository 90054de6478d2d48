from __future__ import annotations

import pytest
import torch

from sdfsrn.functional.pixels import draw_pixels, ray_density


def test_density_has_mean_1_and_is_bounded_from_below() -> None:
    weight = torch.rand(3, 50, dtype=torch.double).pow(-2)
    torch.testing.assert_close(ray_density(weight, 0.0), torch.ones(3, 50, dtype=torch.double))
    for share in (0.3, 0.9):
        density = ray_density(weight, share)
        torch.testing.assert_close(density.mean(-1), torch.ones(3, dtype=torch.double))
        assert (density > 1 - share).all()
        torch.testing.assert_close(density, ray_density(7 * weight, share))
        rest = (density - (1 - share)) / weight
        torch.testing.assert_close(rest, rest[:, :1].expand(3, 50))


@pytest.mark.parametrize(("pixels", "rays"), [(20, 7), (7, 20), (12, 12), (1, 3)])
def test_a_pixel_is_drawn_as_often_as_its_density_says(pixels: int, rays: int) -> None:
    """The mean over all places in a stratum, not a sample of them."""
    density = torch.rand(pixels, dtype=torch.double)
    steps = 4000
    uniform = ((torch.arange(steps, dtype=torch.double) + 0.5) / steps)[:, None].expand(steps, rays)
    drawn = draw_pixels(density.expand(steps, pixels), uniform)
    counts = drawn.flatten().bincount(minlength=pixels) / steps
    torch.testing.assert_close(counts.double(), rays * density / density.sum(), rtol=0, atol=2 * rays / steps)


def test_rays_are_spread_over_the_density_in_order() -> None:
    density = torch.rand(5, 300, dtype=torch.double)
    reached = density.cumsum(-1) / density.sum(-1, keepdim=True)
    for _ in range(20):
        drawn = draw_pixels(density, torch.rand(5, 40, dtype=torch.double))
        assert (drawn.diff(dim=-1) >= 0).all()
        before = (drawn[..., None] <= torch.arange(300)).sum(1)  # rays up to a pixel
        assert ((before - 40 * reached).abs() < 1).all()


def test_as_many_uniform_rays_as_pixels_are_all_pixels() -> None:
    for count in (1, 6, 4096, 65537):
        uniform = torch.rand(count, dtype=torch.double)
        assert torch.equal(draw_pixels(torch.ones(count), uniform), torch.arange(count))


def test_what_has_no_density_is_never_drawn() -> None:
    density = torch.tensor([0.0, 1.0, 0.0, 0.0, 2.0, 0.0])
    edges = torch.tensor([0.0, 1 - 2**-31], dtype=torch.double)
    for uniform in torch.cartesian_prod(edges, edges, edges):
        assert set(draw_pixels(density, uniform).tolist()) <= {1, 4}
