"""A model of another kind trains, is saved, evaluated, optimized and reconstructs: nothing else is assumed of models."""

from __future__ import annotations

import csv
import json
import pathlib

import numpy as np
import pytest
import torch
import trimesh
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from PIL import Image

import sdfsrn
from ellipsoid import EllipsoidModel
from sdfsrn.cli.reconstructing import reconstruct_pictures
from sdfsrn.evaluate import evaluate
from sdfsrn.runtime.configs import config_folder
from sdfsrn.train import train

CONFIGS = {
    "model/ellipsoid.yaml": """
_target_: ellipsoid.EllipsoidModel
image_size: 24
losses:
  _target_: sdfsrn.losses.Objective
  terms: {opacity: {_target_: ellipsoid.OpacityLoss}, color: {_target_: sdfsrn.losses.ColorLoss}}
  weights: {opacity: 1.0, color: 0.1}
validation: {_target_: sdfsrn.EvaluationProtocol, resolution: 8, num_points: 300}
""",
    "experiment/ellipsoid.yaml": """
# @package _global_
defaults: [override /model: ellipsoid, override /data: synthetic]
data: {num_objects: 8, num_eval_objects: 2, batch_size: 4, num_rays: 200, shapes: {image_size: 24, views_per_object: 2}}
optimizer: {lr: 0.0002}
trainer: {max_steps: 60, val_check_interval: 20, accelerator: cpu}
protocol: {num_points: 1000, num_truth: 1000}
""",
}


def composed(command: str, folder: pathlib.Path, *overrides: str) -> DictConfig:
    search = f"hydra.searchpath=[file://{folder.parent}/configs]"
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose(command, [search, *overrides, f"paths.output={folder}", f"paths.cache={folder.parent}/cache"])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder of a training of ellipsoids by the command."""
    folder = tmp_path_factory.mktemp("ellipsoids") / "run"
    for name, text in CONFIGS.items():
        path = folder.parent / "configs" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    train(composed("train", folder, "experiment=ellipsoid"))
    return folder


def test_it_learns_and_is_measured(run: pathlib.Path) -> None:
    summary = json.loads((run / "test/summary.json").read_text())
    assert summary["measured"] == 2
    assert {"accuracy", "silhouette_iou", "normal_consistency"} <= set(summary["metrics"])
    assert (run / "test/report.html").is_file()
    assert len(list((run / "pictures").glob("*.png"))) == 3
    with (run / "csv/metrics.csv").open() as file:
        log = list(csv.DictReader(file))
    assert {"train/color", "train/hit", "val/chamfer"} <= log[0].keys()
    losses, ious = ([float(row[name]) for row in log if row[name]] for name in ("train/opacity", "val/iou"))
    assert losses[-1] < 0.8 * losses[0]
    assert ious[-1] > ious[0]


def test_its_checkpoint_evaluates_with_test_time_optimization(run: pathlib.Path) -> None:
    checkpoint = f"ckpt_path={run}/checkpoints/best.ckpt"
    refused = composed("evaluate", run.parent / "refused", checkpoint)
    with pytest.raises(ValueError, match=r"names ellipsoid\.EllipsoidModel, no class of this package.*trusted=\[MODULE\]"):
        evaluate(refused)
    options = ["trusted=[ellipsoid]", "accelerator=cpu", "test_time_optimization=true", "optimization.lr=0.05"]
    summary = evaluate(composed("evaluate", run.parent / "again", checkpoint, *options))
    before, after = (s["metrics"]["silhouette_iou"]["mean"] for s in (summary["before_optimization"], summary))
    assert before == pytest.approx(json.loads((run / "test/summary.json").read_text())["metrics"]["silhouette_iou"]["mean"])
    assert after > before


def test_it_reconstructs_from_the_command_and_from_python(run: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDFSRN_TRUSTED", "ellipsoid")
    checkpoint, picture = run / "checkpoints/last.ckpt", run.parent / "photo.png"
    image = np.zeros((40, 60, 4), np.uint8)
    image[10:30, 20:40] = (250, 10, 10, 255)
    Image.fromarray(image).save(picture)
    settings = [f"ckpt_path={checkpoint}", f"image={picture}", "accelerator=cpu", "mesh_formats=[glb]", "turntable=[]"]
    (written,) = reconstruct_pictures(composed("reconstruct", run.parent / "meshes", *settings))
    model = sdfsrn.load(checkpoint)
    assert model.preprocessing.image_size == 24
    with torch.no_grad():
        mesh = model(model.preprocessing(picture)[None]).mesh()
    assert mesh.is_watertight
    np.testing.assert_allclose(trimesh.load(written, force="mesh").bounds, mesh.bounds, atol=1e-5)


def test_it_resumes(run: pathlib.Path) -> None:
    """The finished run is left alone; two parts end with the weights of one."""
    whole = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    parts = run.parent / "parts"
    for steps in (20, 60):
        train(composed("train", parts, "experiment=ellipsoid", f"trainer.max_steps={steps}", "test=false"))
    resumed = torch.load(parts / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_built_in_python_it_describes_itself(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    from ellipsoid import OpacityLoss
    from sdfsrn.losses import Objective

    model = EllipsoidModel(Objective({"opacity": OpacityLoss()}, {"opacity": 2.0}), image_size=24)
    torch.save({"state_dict": model.state_dict(), "config": model.description()}, tmp_path / "python.ckpt")
    again = sdfsrn.load(tmp_path / "python.ckpt", trusted=["ellipsoid"])
    assert isinstance(again, EllipsoidModel)
    assert (again.image_size, again.losses.weights) == (24, {"opacity": 2.0})
    assert torch.equal(again.linear.weight, model.linear.weight)
