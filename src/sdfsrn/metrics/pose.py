"""Errors of camera poses as a torchmetric."""

from __future__ import annotations

import torch
import torchmetrics
from jaxtyping import Float
from torch import Tensor

from sdfsrn.data.conventions import angles_from_rotation
from sdfsrn.functional.rotation import common_rotation, geodesic_angle

ANGLES = ("azimuth", "elevation", "roll")


class PoseError(torchmetrics.Metric):
    """Angles between estimated and true rotations, in degrees, before and after one common rotation of the world.

    Models that see each object once may learn a world that is turned against the true one: one rotation for all pictures, see
    `common_rotation`, is no error. `compute` gives, after it, `mean`, `median`, the shares `under_10`, `under_30` and `over_90`
    (flips), the median differences `azimuth`, `elevation` and `roll` (of the convention nmr); all with `raw_` before it; and
    `common`, the angle of that rotation. Nothing without a pose.

    Computed in float64, from the poses of all processes.

    Args:
        options: of `torchmetrics.Metric`.
    """

    full_state_update = False
    estimated: list[Tensor]
    true: list[Tensor]

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.add_state("estimated", [], dist_reduce_fx="cat")
        self.add_state("true", [], dist_reduce_fx="cat")

    def update(self, estimated: Float[Tensor, "b 3 3"], true: Float[Tensor, "b 3 3"]) -> None:
        """Add rotations, world to camera."""
        self.estimated.append(estimated.detach().double())
        self.true.append(true.detach().double())

    def rotation(self) -> Float[Tensor, "3 3"]:
        """The common rotation C: x of the estimated world is C x in the true one."""
        return common_rotation(*self._poses())

    def compute(self) -> dict[str, Tensor]:
        """The errors by name."""
        estimated, true = self._poses()
        if len(true) == 0:
            return {}
        rotation = common_rotation(estimated, true)
        raw = {f"raw_{name}": value for name, value in _errors(estimated, true).items()}
        return _errors(estimated @ rotation.T, true) | raw | {"common": geodesic_angle(torch.eye(3).to(rotation), rotation)}

    def _poses(self) -> tuple[Tensor, Tensor]:
        empty = torch.zeros(0, 3, 3, dtype=torch.double)
        states = (self.estimated, self.true)  # after a synchronisation they are tensors
        estimated, true = (torch.cat([empty, *state]) if isinstance(state, list) else state for state in states)
        return estimated, true


def _errors(estimated: Float[Tensor, "n 3 3"], true: Float[Tensor, "n 3 3"]) -> dict[str, Tensor]:
    error = geodesic_angle(estimated, true)
    shares = {"under_10": error < 10, "under_30": error < 30, "over_90": error > 90}
    angles, goal = (
        torch.tensor([angles_from_rotation(rotation, "nmr") for rotation in poses.cpu().numpy()]) for poses in (estimated, true)
    )
    apart = ((angles - goal + 180) % 360 - 180).abs().median(0).values
    return {
        "mean": error.mean(),
        "median": error.median(),
        **{name: share.double().mean() for name, share in shares.items()},
        **dict(zip(ANGLES, apart.to(error), strict=True)),
    }
