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
from sdfsrn.runtime.configs import instantiate

RECORDED = json.loads(pathlib.Path(__file__).with_name("legacy.json").read_text())


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
