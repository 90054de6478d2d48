"""The encoding from coarse to fine: what the field sees when, checkpoints, resuming, what is refused."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

import sdfsrn
from sdfsrn import build
from sdfsrn.callbacks import CoarseToFine
from sdfsrn.functional.encoding import positional_encoding
from sdfsrn.models.field import Field, FieldConfig
from sdfsrn.models.hypernetwork import Hypernetwork
from sdfsrn.structures import Views

TINY = [
    "trainer=cpu", "data.num_objects=4", "data.num_eval_objects=2", "data.batch_size=4", "data.shapes.image_size=24",
    "data.num_rays=16", "model.encoder.latent_dim=8", "callbacks.pictures=null", "callbacks.pretraining.iterations=2",
    "callbacks.pretraining.num_points=40", "model.hypernetwork.hidden_width=16", "model.hypernetwork.field.width=16",
    "model.hypernetwork.field.num_frequencies=2", "model.losses.terms.eikonal.num_points=20", "trainer.max_steps=8",
    "trainer.val_check_interval=4", "+trainer.limit_val_batches=0", "test=false", "logger=csv",
    "+trainer.enable_progress_bar=false",
]  # fmt: skip
FADED = ["callbacks=[default,coarse_to_fine]", "callbacks.coarse_to_fine.start=0.25", "callbacks.coarse_to_fine.end=0.75"]


@pytest.mark.parametrize("skip", [True, False])
def test_weights_of_the_rows_are_weights_of_the_encoding(skip: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A field whose encoded points are multiplied instead, in float64, has the same values and gradients."""
    config = FieldConfig(width=8, depth=3, num_frequencies=3, skip=skip, frequency_scale=2.0)
    network = Hypernetwork(4, 8, 1, config).double()
    latent, points = torch.randn(2, 4, dtype=torch.float64), torch.rand(2, 50, 3, dtype=torch.float64, requires_grad=True)
    bands = torch.tensor([1.0, 0.3, 0.0], dtype=torch.float64)

    class Multiplied(Field):
        """Multiplies encoded points."""

        def _encode(self, points: Tensor) -> Tensor:
            factors = torch.cat(
                [bands.new_ones(3), bands[0].expand(6), bands[1].expand(6), bands[2].expand(6), bands.new_ones(1)]
            )
            return positional_encoding(points, 3, 2.0, homogeneous=True) * factors

    expected = Multiplied(network.layers(latent), dataclasses.replace(config, backbone="ordinary")).sdf(points)
    network.bands = bands
    field = network(latent)
    found = field.sdf(points)
    assert torch.allclose(found, expected, atol=1e-12)
    gradient = torch.autograd.grad(expected.sum(), points)[0]
    assert torch.allclose(field.gradient(points), gradient, atol=1e-12)
    network.bands = torch.ones_like(bands)
    assert not torch.allclose(network(latent).sdf(points), expected, atol=1e-3)


def train(
    folder: pathlib.Path, *overrides: str, ckpt: pathlib.Path | None = None
) -> tuple[sdfsrn.ShapeModel, list[list[float]]]:
    seen: list[list[float]] = []

    class Watch(pl.Callback):
        """Notes the weights of each step, and saves one step."""

        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object) -> None:
            """Note them."""
            seen.append(pl_module.hypernetwork.bands.tolist())

        def on_train_batch_start(
            self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Views, batch_idx: int
        ) -> None:
            """Save before step 4."""
            if trainer.global_step == 4 and ckpt is None:
                trainer.save_checkpoint(folder / "middle.ckpt")

    model, datamodule, trainer = build("quickstart", *TINY, *FADED, f"paths.output={folder}", *overrides)
    trainer.callbacks.append(Watch())
    trainer.fit(model, datamodule=datamodule, ckpt_path=ckpt, weights_only=True)
    return model, seen


def test_frequencies_appear_one_after_another(tmp_path: pathlib.Path) -> None:
    """From a quarter of the eight steps to three quarters; a checkpoint has those of its step; resuming changes nothing."""
    model, seen = train(tmp_path)
    steps = torch.tensor([(0, 0), (0, 0), (0, 0), (0.5, 0), (1, 0), (1, 0.5), (1, 1), (1, 1)])
    assert torch.allclose(torch.tensor(seen), steps, atol=1e-6)
    middle = sdfsrn.load(tmp_path / "middle.ckpt")
    assert middle.hypernetwork.bands.tolist() == pytest.approx([1, 0], abs=1e-6)
    assert sdfsrn.load(tmp_path / "checkpoints/last.ckpt").hypernetwork.bands.tolist() == pytest.approx([1, 1])
    resumed, _ = train(tmp_path / "again", ckpt=tmp_path / "middle.ckpt")
    for name, value in model.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_what_cannot_be_is_refused(tmp_path: pathlib.Path) -> None:
    for wrong in ((0.5, 0.5), (-0.1, 0.5), (0.1, 1.5)):
        with pytest.raises(ValueError, match=r"Expected 0 <= start < end <= 1 of callbacks\.coarse_to_fine"):
            CoarseToFine(*wrong)
    with pytest.raises(ValueError, match=r"num_frequencies is above 0, .* got SDFSRN without"):
        train(tmp_path, "model.hypernetwork.field.num_frequencies=0")
