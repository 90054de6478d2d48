"""Binary occupancy in place of distances: cross-entropies of sigmoid(-f), the probability of "inside". Table 3."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from sdfsrn.functional import losses
from sdfsrn.losses.sampling import check_depths, random_depths, sdf_at
from sdfsrn.models.field import Field
from sdfsrn.structures import March, Rendering, Views


class FreeOccupancyLoss(nn.Module):
    """Background rays are empty at random depths; stands for `SilhouetteLoss`.

    Args:
        near, far: range of depths, uniform.
        num_samples: M, depths per ray.
        importance: weigh rays by 1 / D(u).
    """

    def __init__(self, near: float, far: float, num_samples: int = 5, importance: bool = True) -> None:
        super().__init__()
        check_depths(near, far)
        self.near, self.far, self.num_samples, self.importance = near, far, num_samples, importance

    def forward(
        self, shape: Field, rendering: Rendering, views: Views, uniform: Float[Tensor, "b r m"] | None = None
    ) -> Float[Tensor, ""]:
        """The mean over the batch; `uniform` in [0, 1) fixes the random draws."""
        depth = random_depths(views, self.near, self.far, self.num_samples, uniform)
        return losses.free_occupancy_loss(sdf_at(shape, views, depth), views.ray_weight(self.importance), views.inside)


class SurfaceOccupancyLoss(nn.Module):
    """The last marched point is occupied if and only if the pixel is inside the silhouette; stands for `RaySurfaceLoss`.

    Args:
        importance: weigh rays by 1 / D(u).
    """

    def __init__(self, importance: bool = True) -> None:
        super().__init__()
        self.importance = importance

    def forward(self, shape: Field, rendering: March, views: Views) -> Float[Tensor, ""]:
        """The mean over the batch."""
        last_sdf = rendering.visited_sdf[..., -1]
        return losses.surface_occupancy_loss(last_sdf, views.ray_weight(self.importance), views.inside)


class VisitedOccupancyLoss(nn.Module):
    """The marched points before the last are empty; stands for `RayFreeLoss`.

    Args:
        importance: weigh rays by 1 / D(u).
    """

    def __init__(self, importance: bool = True) -> None:
        super().__init__()
        self.importance = importance

    def forward(self, shape: Field, rendering: March, views: Views) -> Float[Tensor, ""]:
        """The mean over the batch."""
        return losses.visited_occupancy_loss(rendering.visited_sdf[..., :-1], views.ray_weight(self.importance))
