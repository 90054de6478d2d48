from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sdfsrn.functional import losses
from sdfsrn.losses import FreeOccupancyLoss, SurfaceOccupancyLoss, VisitedOccupancyLoss
from sdfsrn.models.field import Field
from sdfsrn.structures import March, Views

Batch = tuple[Field, March, Views]
CLOSE = {"rtol": 1e-4, "atol": 1e-6}


def mean(value: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return (weight * value).sum() / weight.sum()


@pytest.mark.parametrize("importance", [True, False])
def test_terms_are_cross_entropies(batch: Batch, importance: bool) -> None:
    shape, rendering, views = batch
    weight = views.inverse_density * (views.weight if importance else 1)
    uniform = torch.rand(*views.distance.shape, 5)
    sdf = shape.sdf(views.camera.rays(views.uv).at(1 + uniform).flatten(1, 2)).view_as(uniform)
    empty = F.binary_cross_entropy(torch.sigmoid(-sdf), torch.zeros_like(sdf), reduction="none").mean(-1)
    ours = FreeOccupancyLoss(1, 2, importance=importance)(shape, rendering, views, uniform)
    torch.testing.assert_close(ours, mean(empty, weight * ~views.inside), **CLOSE)
    last = F.binary_cross_entropy_with_logits(-rendering.visited_sdf[..., -1], views.inside.float(), reduction="none")
    torch.testing.assert_close(SurfaceOccupancyLoss(importance)(shape, rendering, views), mean(last, weight), **CLOSE)
    free = -torch.log(1 - torch.sigmoid(-rendering.visited_sdf[..., :-1])).mean(-1)
    torch.testing.assert_close(VisitedOccupancyLoss(importance)(shape, rendering, views), mean(free, weight), **CLOSE)


def test_draws_are_those_of_every_checkpoint_so_far(batch: Batch) -> None:
    """One number of the global generator per depth, in the order of rays: bit for bit."""
    shape, rendering, views = batch
    torch.manual_seed(3)
    ours = FreeOccupancyLoss(1.5, 3.5, num_samples=7)(shape, rendering, views)
    torch.manual_seed(3)
    depth = 1.5 + 2.0 * torch.rand(*views.distance.shape, 7)
    sdf = shape.sdf(views.camera.rays(views.uv).at(depth).flatten(1, 2)).view_as(depth)
    assert torch.equal(ours, losses.free_occupancy_loss(sdf, views.weight * views.inverse_density, views.inside))


def test_impossible_ranges_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0 <= near < far"):
        FreeOccupancyLoss(2.0, 2.0)
