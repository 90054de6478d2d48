from __future__ import annotations

import pathlib

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image

from sdfsrn.cli.pictures import find_pictures, pair_masks
from sdfsrn.data.batches.datasets import PictureDataset
from sdfsrn.data.source import ImageSample
from sdfsrn.functional.camera import PerspectiveCamera, look_at_origin
from sdfsrn.inference import refine
from sdfsrn.runtime.configs import config_folder, instantiate


def test_masks_are_paired_by_name(tmp_path: pathlib.Path) -> None:
    for folder, names in {"photos": ("a.jpg", "b.jpg"), "masks": ("a.png",)}.items():
        (tmp_path / folder).mkdir()
        for name in names:
            Image.new("RGB", (4, 4)).save(tmp_path / folder / name)
    photos = find_pictures(str(tmp_path / "photos"), "image")
    assert [path.name for path in photos] == ["a.jpg", "b.jpg"]
    assert pair_masks(photos, None) == [None, None]
    assert pair_masks(photos[:1], str(tmp_path / "masks")) == [tmp_path / "masks" / "a.png"]
    with pytest.raises(ValueError, match=r"b\.\*.*b\.jpg"):
        pair_masks(photos, str(tmp_path / "masks"))
    with pytest.raises(ValueError, match="found none"):
        find_pictures(str(tmp_path / "nothing*.png"), "image")


class Discs:
    """Two views of a ball, and no truth."""

    names = ["0", "1"]

    def __len__(self) -> int:
        return 2

    def picture(self, index: int) -> ImageSample:
        pose = look_at_origin(torch.tensor([float(index)]), torch.tensor([0.3]), 2.732)[0]
        camera = PerspectiveCamera(pose, torch.diag(torch.tensor([3.7, 3.7, 1.0])))
        y, x = np.mgrid[:32, :32] - 15.5
        alpha = (np.hypot(x, y) < 6 + 3 * index).astype(np.float32)
        return ImageSample(np.full((32, 32, 3), 80 + 90 * index, np.uint8), alpha, camera)

    def points(self, index: int) -> np.ndarray:
        return np.zeros((0, 3), np.float32)


def test_refinement_lowers_the_loss_and_changes_nothing_but_the_code() -> None:
    small = ["hypernetwork.hidden_width=16", "hypernetwork.field.width=16", "encoder.latent_dim=16"]
    small += ["losses.terms.eikonal.num_points=64", "hypernetwork.field.depth=2"]
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("train", [f"model.{setting}" for setting in small])
    model = instantiate(config.model).train()
    views = PictureDataset(Discs()).views([0, 1])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    found = refine(model, views, steps=16, lr=3e-2)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
    assert len(found.losses) == 16
    assert np.mean(found.losses[-4:]) < 0.95 * np.mean(found.losses[:4])
    assert found.latent.shape == (2, 16)
    with torch.no_grad():
        again = model.hypernetwork(found.latent)
        points = torch.rand(2, 10, 3)
        assert torch.equal(found.shape.sdf(points), again.sdf(points))
        start = model.eval().encoder(views.image)
    assert not torch.allclose(found.latent, start)
    assert torch.equal(refine(model, views, steps=2, lr=3e-2).latent, refine(model, views, steps=2, lr=3e-2).latent)
    assert torch.equal(refine(model, views, steps=0).latent, start)
