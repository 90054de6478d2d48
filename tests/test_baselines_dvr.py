"""DVR from the commands and from Python: it learns, resumes, is measured, optimized, reconstructed, saved and loaded."""

from __future__ import annotations

import csv
import json
import math
import pathlib

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from PIL import Image

import sdfsrn
from scenes import Memory
from sdfsrn import DVR, Views
from sdfsrn.cli.reconstructing import reconstruct_pictures
from sdfsrn.data import BatchSettings, PictureDataset
from sdfsrn.data.source import ImageSample
from sdfsrn.evaluate import evaluate
from sdfsrn.functional.camera import PerspectiveCamera, look_at_origin
from sdfsrn.functional.surface import intersection_over_union
from sdfsrn.losses import FreespaceLoss, NormalSmoothnessLoss, Objective, OccupancyLoss, PhotometricLoss
from sdfsrn.models import ConvEncoder, OccupancyDecoder, OccupancyMarcher
from sdfsrn.runtime.configs import config_folder, instantiate
from sdfsrn.train import train

TINY = [
    "~experiment",
    "model/encoder=small",
    "model.encoder.latent_dim=16",
    "model.encoder.widths=[8,16]",
    "model.hypernetwork.width=24",
    "model.hypernetwork.num_blocks=2",
    "model.raymarcher.num_test_samples=24",
    "model.validation.resolution=16",
    "model.validation.num_points=300",
    "data.num_objects=4",
    "data.num_eval_objects=2",
    "data.shapes.views_per_object=2",
    "data.shapes.image_size=32",
    "data.shapes.category=car",
    "data.batch_size=4",
    "data.num_rays=200",
    "optimizer.lr=5e-3",
    "protocol.resolution=24",
    "protocol.num_points=1000",
    "protocol.num_truth=1000",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=1",
    "trainer.val_check_interval=40",
]


def composed(command: str, folder: pathlib.Path, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose(command, [*overrides, f"paths.output={folder}", f"paths.cache={folder.parent}/cache"])


def trained(folder: pathlib.Path, *overrides: str, model: str = "dvr", steps: int = 120) -> pathlib.Path:
    train(composed("train", folder, *TINY, f"model={model}", f"trainer.max_steps={steps}", *overrides))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder of a tiny training; cars appear after some 70 steps without any surface."""
    return trained(tmp_path_factory.mktemp("dvr") / "run")


def test_training_leaves_everything(run: pathlib.Path) -> None:
    with (run / "csv/metrics.csv").open() as file:
        log = list(csv.DictReader(file))
    terms = {f"train/{name}" for name in ("rgb", "freespace", "occupancy", "normal", "hit")}
    assert terms | {"val/iou", "val/chamfer", "test/chamfer"} <= log[0].keys()
    assert "train/depth" not in log[0]  # its weight is 0
    losses = [float(row["train/loss"]) for row in log if row["train/loss"]]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert [float(row["val/iou"]) for row in log if row["val/iou"]][-1] > 0.3
    assert (run / "pictures/step_000120.png").is_file()
    summary = json.loads((run / "test/summary.json").read_text())
    assert summary["objects"] == 2
    assert (run / "test/report.html").is_file()


def test_a_run_in_two_parts_ends_with_the_same_weights(run: pathlib.Path) -> None:
    """The number of samples follows the step across the break, in the middle of its doublings."""
    short = ["model.raymarcher.doublings=[4,7]", "trainer.val_check_interval=5", "test=false"]
    for folder, part in (("whole", (10,)), ("parts", (5, 10))):
        for steps in part:
            trained(run.parent / folder, *short, steps=steps)
    whole, resumed = (
        torch.load(run.parent / folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for folder in ("whole", "parts")
    )
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_its_checkpoint_is_evaluated_and_optimized(run: pathlib.Path) -> None:
    """The measures of the training come again; the loss of pictures falls as their latent codes change."""
    settings = [f"ckpt_path={run}/checkpoints/best.ckpt", "accelerator=cpu", "test_time_optimization=true", "mesh_formats=[]"]
    summary = evaluate(composed("evaluate", run.parent / "again", *settings, "optimization.steps=2"))
    measures = (s["metrics"]["silhouette_iou"]["mean"] for s in (summary["before_optimization"], summary))
    before = json.loads((run / "test/summary.json").read_text())["metrics"]["silhouette_iou"]["mean"]
    assert [before == pytest.approx(value, abs=1e-6) for value in measures] == [True, False]
    model = sdfsrn.load(run / "checkpoints/last.ckpt")
    views = PictureDataset(Memory([two_discs(32)])).views([0])
    losses = sdfsrn.refine(model, views, steps=40, lr=1e-2).losses
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:8])


def test_it_reconstructs(run: pathlib.Path) -> None:
    image = np.zeros((32, 32, 4), np.uint8)
    image[11:21, 5:27] = (200, 30, 30, 255)
    Image.fromarray(image).save(picture := run.parent / "photo.png")
    settings = [f"ckpt_path={run}/checkpoints/last.ckpt", f"image={picture}", "accelerator=cpu", "mesh_formats=[glb]"]
    (written,) = reconstruct_pictures(composed("reconstruct", run.parent / "meshes", *settings, "turntable=[]"))
    mesh = sdfsrn.reconstruct(picture, run / "checkpoints/last.ckpt")
    assert mesh.is_watertight
    assert mesh.volume > 0
    assert written.is_file()
    assert np.abs(mesh.bounds).max() <= 0.55 + 1e-6  # nothing where nothing was learned


def test_checkpoints_bring_back_the_model(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    model = sdfsrn.load(run / "checkpoints/last.ckpt")
    assert isinstance(model, DVR)
    assert list(model.raymarcher.doublings) == [50_000, 100_000, 250_000]
    in_python = small_model()
    torch.save({"state_dict": in_python.state_dict(), "config": in_python.description()}, tmp_path / "python.ckpt")
    again = sdfsrn.load(tmp_path / "python.ckpt")
    images = torch.rand(2, 3, 24, 24)
    points = torch.rand(2, 9, 3)
    with torch.no_grad():
        torch.testing.assert_close(again(images).sdf(points), in_python.eval()(images).sdf(points), rtol=0, atol=0)


def test_another_model_s_checkpoint_is_refused_by_name(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    ours = run / "checkpoints/last.ckpt"
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        method = instantiate(compose("train", ["paths.output=out"]).model)
    torch.save({"state_dict": method.state_dict(), "config": method.description()}, theirs := tmp_path / "sdfsrn.ckpt")
    for model, path, wanted, found in ((method, ours, "SDFSRN", "DVR"), (small_model(), theirs, "DVR", "SDFSRN")):
        with pytest.raises(ValueError, match=rf"Expected the weights of {wanted}, got those of {found} in .*ckpt") as error:
            sdfsrn.load(path, model=model)
        assert "\n" not in str(error.value)


@pytest.mark.slow
def test_the_hull_reading_trains_and_needs_several_views(tmp_path: pathlib.Path) -> None:
    for name, overrides in (("occupied", []), ("supervised", ["model.losses.weights.depth=10"])):
        folder = trained(tmp_path / name, "test=false", "trainer.val_check_interval=5", *overrides, model="dvr_depth", steps=10)
        with (folder / "csv/metrics.csv").open() as file:
            log = list(csv.DictReader(file))
        assert ("train/depth" in log[0]) == bool(overrides)
        assert all(math.isfinite(float(row["train/loss"])) for row in log if row["train/loss"])
        checkpoint = sdfsrn.load(folder / "checkpoints/last.ckpt")
        assert checkpoint.losses.terms["occupancy"].hull
    with pytest.raises(ValueError, match=r"several views per object"):
        trained(tmp_path / "single", "data.shapes.views_per_object=1", model="dvr_depth")
    with pytest.raises(ValueError, match=r"set data\.hull_depth=true"):
        trained(tmp_path / "forgotten", "data.hull_depth=false", model="dvr_depth")


def small_model(first_occupied: str = "predicted", **weights: float) -> DVR:
    terms = {
        "rgb": PhotometricLoss(),
        "freespace": FreespaceLoss(),
        "occupancy": OccupancyLoss(),
        "normal": NormalSmoothnessLoss(),
    }
    weights = {name: weights.get(name, 0.0) for name in terms} if weights else dict(zip(terms, (1, 1, 1, 0.05), strict=True))
    marcher = OccupancyMarcher(num_test_samples=48, first_occupied=first_occupied)
    return DVR(ConvEncoder(16, (8, 16)), OccupancyDecoder(16, 48, num_blocks=3), marcher, Objective(terms, weights))


def two_discs(size: int = 48) -> ImageSample:
    """A silhouette of two discs that overlap; colours change over the picture."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size * 2 - 1
    inside = (np.hypot(x + 0.2, y) < 0.55) | (np.hypot(x - 0.35, y + 0.15) < 0.4)
    image = np.stack([127 * (x + 1), 0 * x + 80, 127 * (1 - y)], -1).astype(np.uint8)
    pose = look_at_origin(torch.tensor([0.4]), torch.tensor([0.5]), 2.732)[0]
    return ImageSample(image, inside.astype(np.float32), PerspectiveCamera(pose, torch.diag(torch.tensor([3.7, 3.7, 1.0]))))


def fit(model: DVR, steps: int, lr: float) -> Views:
    """Train on one picture; all of its rays."""
    source = Memory([two_discs()])
    sampled, whole = PictureDataset(source, BatchSettings(num_rays=500)), PictureDataset(source).views([0])
    optimizer = torch.optim.Adam(model.parameters(), lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        views = sampled.views([0])
        shape = model(views.image)
        loss, _ = model.losses(shape, model.render(shape, views), views)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return whole


def seen(model: DVR, views: Views) -> torch.Tensor:
    """What the silhouette holds, with the encoder's statistics of this picture."""
    model.raymarcher.eval()
    with torch.no_grad():
        return model.render(model(views.image), views).opacity >= 0.5


@pytest.mark.slow
@pytest.mark.parametrize("first_occupied", ["predicted", "free"])
def test_one_picture_is_learned_by_heart(first_occupied: str) -> None:
    model = small_model(first_occupied)
    views = fit(model, 130, 5e-3)
    assert intersection_over_union(seen(model, views), views.inside) > 0.9
    with torch.no_grad():
        march = model.render(model(views.image), views)
    error = (march.color - views.color).abs()[views.inside & march.surface].mean()
    assert error < 0.25  # of 2; rays that start inside the shape have one colour, that of the camera's centre


@pytest.mark.slow
@pytest.mark.parametrize("first_occupied", ["predicted", "free"])
def test_both_starts_train(first_occupied: str) -> None:
    """From all of space free by occupancy alone, from all of it occupied by free space alone."""
    free = small_model(first_occupied, occupancy=1.0)
    free.hypernetwork.head.bias.data[0] = -1.0
    views = fit(free, 0, 1e-3)
    assert not seen(free.eval(), views).any()
    fit(free.train(), 60, 2e-3)
    assert seen(free, views)[views.inside].all()
    full = small_model(first_occupied, freespace=1.0)
    full.hypernetwork.head.bias.data[0] = 1.0
    assert seen(full.eval(), views)[views.inside].all()
    fit(full.train(), 60, 2e-3)
    assert not seen(full, views)[~views.inside].any()
