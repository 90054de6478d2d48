from __future__ import annotations

from sdfsrn.checkpoints.legacy import modernize
from sdfsrn.losses import (
    FreeOccupancyLoss,
    RayFreeLoss,
    RaySurfaceLoss,
    SilhouetteLoss,
    SurfaceOccupancyLoss,
    VisitedOccupancyLoss,
)
from sdfsrn.models import FieldConfig
from sdfsrn.runtime.configs import describe, instantiate

DEPTHS = {"near": 1.2, "far": 3.8, "num_samples": 4}


def terms(occupancy: bool) -> dict[str, dict]:
    """Nodes of a checkpoint from the time when occupancy was a flag."""
    return {
        "silhouette": {"_target_": "sdfsrn.losses.SilhouetteLoss", **DEPTHS, "importance": False, "occupancy": occupancy},
        "ray_surface": {
            "_target_": "sdfsrn.losses.RaySurfaceLoss", "margin": 0.02, "separate": True, "occupancy": occupancy,
        },
        "ray_free": {
            "_target_": "sdfsrn.losses.RayFreeLoss", "margin": 0.02, "importance": False, "occupancy": occupancy,
        },
        "color": {"_target_": "sdfsrn.losses.ColorLoss"},
    }  # fmt: skip


def built(occupancy: bool) -> dict[str, dict]:
    """The terms of the old checkpoint as they are built today, described."""
    nodes = modernize({"model": {"losses": {"terms": terms(occupancy)}}})["model"]["losses"]["terms"]
    return {name: describe(instantiate(node)) for name, node in nodes.items() if name != "color"}


def test_occupancy_flags_become_classes() -> None:
    assert built(occupancy=True) == {
        "silhouette": describe(FreeOccupancyLoss(**DEPTHS, importance=False)),
        "ray_surface": describe(SurfaceOccupancyLoss()),
        "ray_free": describe(VisitedOccupancyLoss(importance=False)),
    }


def test_fields_had_the_fused_backbone() -> None:
    node = {"_target_": "sdfsrn.models.FieldShape", "width": 32, "reinject": False}
    today = modernize({"model": {"field": node}})["model"]["field"]
    assert today == {"_target_": "sdfsrn.models.FieldConfig", "width": 32, "skip": False, "backbone": "fused"}
    assert instantiate(today) == FieldConfig(width=32, skip=False)


def test_flags_that_were_off_go() -> None:
    assert built(occupancy=False) == {
        "silhouette": describe(SilhouetteLoss(**DEPTHS, importance=False)),
        "ray_surface": describe(RaySurfaceLoss(margin=0.02, balance=True)),
        "ray_free": describe(RayFreeLoss(margin=0.02, importance=False)),
    }
