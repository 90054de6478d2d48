"""`model/pose=residual` in trainings from end to end: files, resuming, the guard, graphs, what is refused."""

from __future__ import annotations

import csv
import json
import pathlib

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor

import sdfsrn
from sdfsrn import build
from sdfsrn.callbacks.poses import RefinedPoses
from sdfsrn.data import SyntheticSource
from sdfsrn.data.batches.turned import TurnedSource
from sdfsrn.data.source import Source
from sdfsrn.models import PoseResidual
from sdfsrn.poses.refining import pose_fit, refine_poses
from sdfsrn.poses.search import COLOR_WEIGHT
from sdfsrn.structures import Views

TINY = [
    "trainer=cpu", "data.num_objects=4", "data.num_eval_objects=2", "data.shapes.views_per_object=2", "data.batch_size=4",
    "data.shapes.image_size=24",
    "data.num_rays=16", "model.encoder.latent_dim=8", "callbacks.pretraining=null", "callbacks.pictures=null",
    "model.hypernetwork.hidden_width=16", "model.hypernetwork.field.width=16", "model.losses.terms.eikonal.num_points=20",
    "trainer.max_steps=8", "trainer.val_check_interval=4", "+trainer.limit_val_batches=0", "test=false", "logger=csv",
    "+trainer.enable_progress_bar=false", "scheduler=constant", "data.pose_noise=10", "data.pose_flips=0.25",
]  # fmt: skip
RESIDUAL = ["model/pose=residual", "callbacks.poses.min_gain=-1"]  # refine whatever the check says


def fit(folder: pathlib.Path, *overrides: str, ckpt: pathlib.Path | None = None) -> sdfsrn.ShapeModel:
    model, datamodule, trainer = build("quickstart", *TINY, f"paths.output={folder}", *overrides)
    trainer.fit(model, datamodule=datamodule, ckpt_path=ckpt, weights_only=True)
    return model


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("run")
    fit(folder, *RESIDUAL)
    return folder


def test_a_run_writes_what_became_of_the_poses(run: pathlib.Path) -> None:
    rows = list(csv.DictReader((run / "poses.csv").open()))
    state = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert [row["image"] for row in rows] == state["pictures"]
    assert len(rows) == len(state["state_dict"]["pose.rows"]) == 8
    moved = torch.rad2deg(state["state_dict"]["pose.rows"].norm(dim=1))
    assert (moved > 0).all()
    assert (moved <= 15.001).all()
    summary = json.loads((run / "poses.json").read_text())
    assert summary["refined"] is True
    wrong = TurnedSource(SyntheticSource("chair", "train", 4, views_per_object=2, image_size=24), 10.0, 0.25)
    expected = np.degrees(wrong.errors.magnitude())
    expected[wrong.flipped] = 180  # nearly: see `raw_over_90`
    assert summary["error_before"]["raw_over_90"] == 0.25
    assert summary["error_before"]["raw_median"] == pytest.approx(np.sort(expected)[3], abs=0.01)  # of torch: the lower one
    assert summary["error_after"] != summary["error_before"]
    assert [int(row["flipped"]) for row in rows] == state["state_dict"]["pose.flipped"].tolist()
    assert all(0 <= float(row[name]) <= 1 for row in rows for name in ("iou_before", "iou_after"))
    assert Image.open(run / "poses.png").size[0] > 700


def test_written_poses_are_in_the_annotated_world(run: pathlib.Path) -> None:
    """Taken together they are not turned against those before: no rotation of the world brings them nearer."""
    from sdfsrn.data.conventions import rotation_from_angles
    from sdfsrn.functional.rotation import common_rotation

    rows = [row for row in csv.DictReader((run / "poses.csv").open()) if row["flipped"] == "0"]
    names = ("azimuth", "elevation", "theta")
    after, before = (
        np.stack([rotation_from_angles(*(float(row[prefix + name]) for name in names), "nmr") for row in rows])
        for prefix in ("", "annotated_")
    )
    if len(rows) == 8:
        turn = common_rotation(torch.from_numpy(after), torch.from_numpy(before))
        np.testing.assert_allclose(turn, np.eye(3), atol=1e-4)
    moved = np.degrees(np.arccos(((np.einsum("nij,nij->n", after, before) - 1) / 2).clip(-1, 1)))
    np.testing.assert_allclose(moved, [float(row["moved_by"]) for row in rows], atol=0.05)


class SaveAt(pl.Callback):
    """Saves before a step."""

    def __init__(self, step: int, path: pathlib.Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Views, batch_idx: int) -> None:
        """Save."""
        if trainer.global_step == self.step and not self.path.exists():
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 5])  # before and after the decision
def test_a_resumed_run_has_the_same_poses(run: pathlib.Path, tmp_path: pathlib.Path, step: int) -> None:
    model, datamodule, trainer = build("quickstart", *TINY, *RESIDUAL, f"paths.output={tmp_path}")
    trainer.callbacks.append(SaveAt(step, tmp_path / "middle.ckpt"))
    trainer.fit(model, datamodule=datamodule)
    resumed = fit(tmp_path / "again", *RESIDUAL, ckpt=tmp_path / "middle.ckpt")
    whole = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    same(whole, model.state_dict())
    same(whole, resumed.state_dict())


STAY = ["model/pose=residual", "callbacks.poses.min_gain=1", "callbacks.poses.flip_evidence=null"]


def test_poses_that_fit_stay(tmp_path: pathlib.Path) -> None:
    """The check on validation pictures finds too little before anything moves: nothing ever does, and the files say so."""
    model = fit(tmp_path, *STAY, "callbacks.poses.check=0")
    given = fit(tmp_path / "given", "model/pose=given")
    assert not model.pose.rows.any()
    for name, value in given.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name  # the same training as with the poses as given
    rows = list(csv.DictReader((tmp_path / "poses.csv").open()))
    assert all(float(row["moved_by"]) < 1e-3 for row in rows)
    assert json.loads((tmp_path / "poses.json").read_text())["refined"] is False
    assert not (tmp_path / "given" / "poses.csv").exists()


def test_poses_that_have_moved_for_nothing_go_back(tmp_path: pathlib.Path) -> None:
    """They move from step 2 on, until the check before step 4 finds too little; then they stay where they were."""
    moved = []

    class Watch(pl.Callback):
        """Notes how far the rows are."""

        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object) -> None:
            """Note it."""
            moved.append(float(pl_module.pose.rows.detach().abs().max()))

    model, datamodule, trainer = build("quickstart", *TINY, *STAY, f"paths.output={tmp_path}")
    trainer.callbacks.append(Watch())
    trainer.fit(model, datamodule=datamodule)
    assert [value > 0 for value in moved] == [False, False, True, True, False, False, False, False]
    assert not model.pose.moving
    assert not model.pose.count.any()
    assert json.loads((tmp_path / "poses.json").read_text())["refined"] is False


def test_a_flip_begins_a_row_anew() -> None:
    """Twice is not at all."""
    pose = PoseResidual()
    pose.attach(["a", "b", "c"])
    for value in (pose.rows, pose.mean, pose.square, pose.count):
        value.data.fill_(1.0)
    pose.flip(torch.tensor([True, False, True]))
    pose.flip(torch.tensor([False, False, True]))
    assert pose.flipped.tolist() == [True, False, False]
    for value in (pose.rows, pose.mean, pose.square, pose.count):
        assert (value[1] == 1).all()
        assert not value[[0, 2]].any()


def test_a_model_with_refined_poses_is_a_model(run: pathlib.Path) -> None:
    model = sdfsrn.load(run / "checkpoints/last.ckpt")
    assert len(model.pose.rows) == 8
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 24, 24)).mesh() is not None


def test_a_checkpoint_without_evidence_loads(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Those from before flips were weighed over several looks."""
    checkpoint = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    for name in ("pose.evidence", "pose.looks"):
        del checkpoint["state_dict"][name]
    torch.save(checkpoint, tmp_path / "old.ckpt")
    pose = sdfsrn.load(tmp_path / "old.ckpt").pose
    assert torch.equal(pose.rows, checkpoint["state_dict"]["pose.rows"])
    assert pose.evidence.tolist() == [0.0] * 8
    assert pose.looks == 0


def test_rows_of_other_pictures_are_refused(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(
        ValueError, match=r"Expected the training pictures of the checkpoint, .* got chair-train-0004/00 in the place of none"
    ):
        fit(tmp_path, *RESIDUAL, "data.num_objects=5", ckpt=run / "checkpoints/last.ckpt")


def test_an_endless_training_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=r"Expected trainer\.max_steps or max_epochs with PoseResidual"):
        fit(tmp_path, *RESIDUAL, "trainer.max_steps=-1", "+trainer.max_epochs=-1")


def test_the_check_leaves_the_training_as_it_is(run: pathlib.Path) -> None:
    """Neither weights, nor gradients, nor random numbers."""
    model = sdfsrn.load(run / "checkpoints/last.ckpt").train()
    views = model.preprocessing.views(SyntheticSource("chair", "val", 2, image_size=24), [0, 1], model.device)
    state = torch.get_rng_state()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    refined = refine_poses(model, views, steps=2)
    fit = pose_fit(model, views, [views.camera, refined.camera])
    assert fit.iou.shape == (2, 2)
    assert ((fit.iou - fit.score >= 0) & (fit.iou - fit.score <= COLOR_WEIGHT)).all()
    assert torch.equal(torch.get_rng_state(), state)
    same(before, model.state_dict())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
    assert (refined.turn.norm(dim=1) > 0).all()


def test_wrong_poses_are_what_was_asked_for() -> None:
    """The right standard deviation about each axis, the right share turned, always the same ones, against the true cameras."""
    source = SyntheticSource("chair", "train", 40, views_per_object=3, image_size=16)
    wrong = TurnedSource(source, 10.0, 0.25)
    vectors = np.degrees(wrong.errors.as_rotvec())
    np.testing.assert_allclose(vectors.std(0), 10, atol=2)
    assert wrong.flipped.sum() == 30
    again = TurnedSource(source, 10.0, 0.25)
    for i in (0, 7):
        pose, true = wrong.picture(i).camera.world_to_camera, source.picture(i).camera.world_to_camera
        assert torch.equal(pose, again.picture(i).camera.world_to_camera)
        assert torch.equal(pose[:, 3], true[:, 3])
        turn = (
            pose[:, :3].double().numpy()
            @ np.diag([-1.0, 1, -1] if wrong.flipped[i] else [1.0, 1, 1])
            @ true[:, :3].double().numpy().T
        )
        angle = np.degrees(np.arccos((np.trace(turn) - 1) / 2))
        assert angle == pytest.approx(np.linalg.norm(vectors[i]), abs=1e-3)
    with pytest.raises(ValueError, match=r"Expected data\.pose_noise of at least 0 and data\.pose_flips in \[0, 1\], got -1"):
        TurnedSource(source, -1)


def test_flips_are_looked_for_twice(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When poses begin to move, and at the check, where both looks together decide."""
    steps = []

    def found(self: RefinedPoses, model: sdfsrn.ShapeModel, source: Source) -> torch.Tensor:
        steps.append(model.trainer.global_step)
        looks = {2: [2.0, 2.0, 1.0, 1.0, -9.0], 4: [1.0, -0.5, 2.0, 1.4, 4.0]}  # of poses 0 and 1 as the first has turned them
        return torch.tensor([*looks[steps[-1]], -1.0, -1.0, -1.0])

    monkeypatch.setattr(RefinedPoses, "_evidence", found)
    model = fit(tmp_path, *RESIDUAL)
    assert steps == [2, 4]
    # 2 - 1 is below 2 x 1.25 on either side: turned once, not turned back, as 1 - 2 is no evidence for the annotated pose
    assert model.pose.flipped.tolist() == [True, True, True, False, False, False, False, False]
    assert model.pose.evidence.tolist() == pytest.approx([1.0, 2.5, 3.0, 2.4, -5.0, -2.0, -2.0, -2.0])
