"""Differentiable volumetric rendering, as a model of this package."""

from __future__ import annotations

from jaxtyping import Bool
from torch import Tensor

from sdfsrn.models.occupancy_marcher import OccupancyMarcher
from sdfsrn.structures import OccupancyMarch
from sdfsrn.system import ImplicitModel


class DVR(ImplicitModel):
    """Occupancy and colour, learned through implicit derivatives of the first surface (DVR). arXiv:1912.07372.

        views.image --encoder--> latent --hypernetwork--> field: occupancy, colour, one network for all objects
        views.camera, views.uv --> rays --raymarcher(field)--> march: the first surface, colour
        field, march, views --losses--> the weighted sum of the losses

    Args:
        encoder: image to latent code, with `latent_dim`.
        hypernetwork: latent code to `OccupancyField`: an `OccupancyDecoder`.
        raymarcher: (field, rays) to `OccupancyMarch`.
        losses, optimizer, scheduler, validation, pose: see `ShapeModel`.
    """

    raymarcher: OccupancyMarcher
    empty_steps = 5000  # first all of space becomes free; then the occupancy loss makes surfaces

    def prepare_step(self, step: int) -> int:
        """Set and return the marcher's number of samples, which grows in training."""
        self.raymarcher.training_step = step
        return self.raymarcher.count

    def surface_found(self, rendering: OccupancyMarch) -> Bool[Tensor, "b r"]:
        """Which rays meet a surface, not only start inside the shape."""
        return rendering.surface
