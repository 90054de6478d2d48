from __future__ import annotations

import numpy as np
import pytest
import torch

from sdfsrn import Grid
from sdfsrn.models import OccupancyDecoder, OccupancyField, Shape

DOUBLE = {"dtype": torch.double}


def decoder(**settings: object) -> OccupancyDecoder:
    """A small decoder of which no weight is zero."""
    made = OccupancyDecoder(**{"latent_dim": 5, "width": 8, "num_blocks": 2, **settings}).double()
    for layer in made.residual:
        torch.nn.init.normal_(layer.weight, std=0.5)
    return made


def test_the_published_size() -> None:
    made = OccupancyDecoder(256)
    linear = [(3, 128), *5 * [(256, 128)], *10 * [(128, 128)], (128, 4)]
    assert sum(p.numel() for p in made.parameters()) == sum((i + 1) * o for i, o in linear) == 330_628


def test_every_block_starts_as_its_shortcut() -> None:
    made = OccupancyDecoder(4, width=8, num_blocks=2)
    latent, points = torch.randn(2, 4), torch.rand(2, 7, 3) - 0.5
    x = made.point(points)
    for shift, residual in zip(made.shift, made.residual, strict=True):
        x = x + shift(latent)[:, None] + residual.bias
    sdf, _ = made(latent)(points)
    torch.testing.assert_close(sdf, -made.head(x.relu())[..., 0])


def test_values_by_hand() -> None:
    """The formula of the specification, one point of one object at a time."""
    made = decoder(extent=1.3)
    latent, points = torch.randn(2, 5, **DOUBLE), torch.randn(2, 3, 3, **DOUBLE)
    sdf, feature = (field := made(latent))(points)
    for i in range(2):
        for j in range(3):
            x = made.point.weight @ (points[i, j] / 2.6) + made.point.bias
            for shift, hidden, residual in zip(made.shift, made.hidden, made.residual, strict=True):
                x = x + shift.weight @ latent[i] + shift.bias
                x = x + residual.weight @ (hidden.weight @ x.relu() + hidden.bias).relu() + residual.bias
            logit, *rgb = made.head.weight @ x.relu() + made.head.bias
            torch.testing.assert_close(sdf[i, j], -logit)
            torch.testing.assert_close(field.color(feature)[i, j], 2 * torch.stack(rgb).sigmoid() - 1)


def test_the_gradient_is_autograds() -> None:
    field = decoder(extent=0.7)(torch.randn(2, 5, **DOUBLE))
    points = torch.randn(2, 50, 3, **DOUBLE).requires_grad_()
    (expected,) = torch.autograd.grad(field.sdf(points).sum(), points)
    torch.testing.assert_close(field.gradient(points), expected)


def test_objects_are_apart_and_detached_ones_are_constants() -> None:
    field = decoder()(latent := torch.randn(3, 5, **DOUBLE).requires_grad_())
    field.grid = Grid(9)
    points = torch.randn(3, 4, 3, **DOUBLE)
    torch.testing.assert_close(field[1:2].sdf(points[1:2]), field.sdf(points)[1:2])
    assert field[1:2].grid == Grid(9)
    assert isinstance(field[1:2], Shape)
    assert not field.detach().sdf(points).requires_grad
    (gradient,) = torch.autograd.grad(field.sdf(points)[1].sum(), latent)
    assert gradient[1].abs().max() > 0
    assert not gradient[[0, 2]].any()


def filled(clip: bool, extent: float = 0.5) -> OccupancyField:
    """Everything is inside, as far as the network says."""
    made = OccupancyDecoder(2, width=4, num_blocks=1, extent=extent, clip=clip)
    torch.nn.init.constant_(made.head.bias, 1.0)
    torch.nn.init.zeros_(made.head.weight)
    return made(torch.zeros(1, 2))


@pytest.mark.parametrize(("extent", "grid"), [(0.5, Grid(30)), (1.3, Grid(31, -1.6, 1.6))])
def test_meshes_end_at_the_cube_that_was_searched(extent: float, grid: Grid) -> None:
    """Exactly there, wherever the grid's nodes are; without clipping, at the grid's side."""
    mesh = filled(True, extent).mesh(grid)
    assert mesh.is_watertight
    assert mesh.volume > 0
    np.testing.assert_allclose(np.abs(mesh.bounds), 1.1 * extent, atol=1e-5)
    np.testing.assert_allclose(np.abs(filled(False, extent).mesh(grid).bounds), grid.high, atol=1e-3)
    assert (mesh.visual.vertex_colors[:, :3] == round(255 * float(torch.sigmoid(torch.tensor(1.0))))).all()


@pytest.mark.parametrize("settings", [{"width": 0}, {"num_blocks": 0}, {"extent": 0.0}, {"latent_dim": 0}])
def test_impossible_sizes(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Expected positive sizes"):
        decoder(**settings)
