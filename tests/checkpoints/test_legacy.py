"""Checkpoints of commit 01ebcdd load: legacy.json has their configurations and the shapes of their weights."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
import torch

import sdfsrn
from sdfsrn.checkpoints.legacy import modernize
from sdfsrn.data import ViewsDataModule
from sdfsrn.inference import reconstruct
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

RECORDED = json.loads(pathlib.Path(__file__).with_name("legacy.json").read_text())
DEPTHS = {"near": 1.2, "far": 3.8, "num_samples": 4}


@pytest.fixture(params=RECORDED["checkpoints"])
def checkpoint(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> tuple[str, pathlib.Path]:
    """A checkpoint with random weights, as it was written then."""
    recorded = RECORDED["checkpoints"][request.param]
    shapes = RECORDED["encoder"] | recorded["shapes"]
    state = {name: 0.01 * torch.rand(shape) if shape else torch.zeros((), dtype=torch.long) for name, shape in shapes.items()}
    torch.save({"state_dict": state, "config": recorded["config"]}, tmp_path / "old.ckpt")
    return request.param, tmp_path / "old.ckpt"


def test_an_old_checkpoint_loads_with_its_preprocessing_and_protocol(checkpoint: tuple[str, pathlib.Path]) -> None:
    name, path = checkpoint
    model = sdfsrn.load(path)
    assert isinstance(model, sdfsrn.SDFSRN)
    weak_perspective = name in ("folder", "pascal_car")
    assert model.protocol.high == (1.3 if weak_perspective else 0.6)
    assert model.protocol.icp_iterations == (50 if weak_perspective else 0)
    assert model.preprocessing.image_size == 64
    assert model.preprocessing.background == (0.5 if name == "quickstart" else 1.0)
    assert model.preprocessing.crop == {"folder": 1.2, "pascal_car": 3.0}.get(name)
    assert isinstance(instantiate(model.config["data"]), ViewsDataModule)
    assert model.hypernetwork.field.skip == (name != "plain")


def test_an_old_checkpoint_reconstructs(checkpoint: tuple[str, pathlib.Path]) -> None:
    image = np.zeros((30, 40, 4), np.uint8)
    image[5:25, 10:30] = (200, 40, 30, 255)
    mesh = reconstruct(image, checkpoint[1], grid=sdfsrn.Grid(8, -1.0, 1.0))
    assert np.isfinite(mesh.vertices).all()


def test_today_s_names_stay() -> None:
    config = {"model": {"_target_": "sdfsrn.SDFSRN", "a": [{"_target_": "x", "balance": 1}]}, "seed": 3}
    assert modernize(config) == config
    assert modernize({"separate": 1}) == {"separate": 1}  # no argument of an object


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
    assert today == {
        "_target_": "sdfsrn.models.FieldConfig",
        "width": 32,
        "skip": False,
        "backbone": "fused",
        "kernel": "plain",
    }
    assert instantiate(today) == FieldConfig(width=32, skip=False)


def test_flags_that_were_off_go() -> None:
    assert built(occupancy=False) == {
        "silhouette": describe(SilhouetteLoss(**DEPTHS, importance=False)),
        "ray_surface": describe(RaySurfaceLoss(margin=0.02, balance=True)),
        "ray_free": describe(RayFreeLoss(margin=0.02, importance=False)),
    }
