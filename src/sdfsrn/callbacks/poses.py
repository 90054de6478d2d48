"""Refined poses of the training pictures: the decision to refine them, the flips, and the table at the end."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Iterator

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Float
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor

from sdfsrn.data.source import Source, evenly_spaced
from sdfsrn.functional.rotation import common_rotation, flipped
from sdfsrn.models.pose import PoseResidual
from sdfsrn.poses.refining import flip_evidence, pose_fit, refine_poses
from sdfsrn.poses.table import PoseRecord, moved_sheet, write_poses
from sdfsrn.structures import Views
from sdfsrn.system import ShapeModel

CHUNK = 32  # pictures at once


class RefinedPoses(pl.Callback):
    """Turn flipped poses, decide whether to go on refining the others, and write down what became of them; for `PoseResidual`.

    (1) When its rows may move for the first time, and once more at the check, training pictures that fit better with the
    object turned by 180 degrees about its vertical axis are turned, where the evidence of the looks so far is above
    `flip_evidence` on average. (2) At the check, poses of validation pictures, which the model was not trained on, are
    refined as well: unless their silhouettes fit better by `min_gain` on average, the annotated poses are taken for good, and
    the training goes on with these.

    Writes `poses.csv` and `poses.json` at the end of training, see `write_poses`, and `poses.png` with the pictures whose pose
    moved most.

    Args:
        folder: of these files.
        check: share of the training before the check.
        num_objects: validation pictures that are looked at, at most.
        min_gain: in intersection over union.
        flip_evidence: least log-likelihood ratio of a flipped to a right pose, mean of the looks; None turns none.
    """

    def __init__(
        self, folder: str, check: float = 0.5, num_objects: int = 24, min_gain: float = 0.02, flip_evidence: float | None = 1.25
    ) -> None:
        if not 0 <= check < 1:
            raise ValueError(f"Expected callbacks.poses.check of at least 0 and less than 1, got {check}.")
        self.folder = pathlib.Path(folder)
        self.check, self.num_objects, self.min_gain, self.flip_evidence = check, num_objects, min_gain, flip_evidence

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Views, batch_idx: int) -> None:
        """Turn flipped poses before the first step in which poses move; decide at the check."""
        if not isinstance(pl_module, ShapeModel) or not isinstance(pl_module.pose, PoseResidual):
            return
        pose = pl_module.pose
        first, check = (math.ceil(share * pl_module.total_steps) for share in (pose.frozen, max(self.check, pose.frozen)))
        if trainer.global_step not in (first, check):
            return
        validation, training = (trainer.datamodule.dataset(split).source for split in ("val", "train"))  # type: ignore[attr-defined]
        if self.flip_evidence is not None:
            pose.weigh(self._evidence(pl_module, training), self.flip_evidence)
        words = f"Poses: {int(pose.flipped.sum())} of {len(pose.rows)} are turned by 180 degrees"
        if trainer.global_step == check:
            gain = self._gain(pl_module, validation)
            if gain < self.min_gain:
                pose.stay()
            words += f"; refined ones of validation pictures fit by {gain:.3f} IoU better than annotated ones: "
            words += "refinement goes on" if pose.moving else "those of the training pictures stay as annotated"
        rank_zero_info(f"{words}.")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the poses."""
        if not isinstance(pl_module, ShapeModel) or not isinstance(pl_module.pose, PoseResidual) or not trainer.is_global_zero:
            return
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        source, true = datamodule.dataset("train").source, None
        if datamodule.pose_noise or datamodule.pose_flips:
            true = _rotations(datamodule.source("train"))
        records, world = self._records(pl_module, source)
        write_poses(self.folder, records, world, bool(pl_module.pose.moving), true)
        moved_sheet(source, records).save(self.folder / "poses.png")
        rank_zero_info(f"Poses: wrote {self.folder / 'poses.csv'}.")

    def _gain(self, model: ShapeModel, source: Source) -> float:
        """Mean gain in intersection over union of validation pictures whose poses are refined."""
        views = model.preprocessing.views(source, evenly_spaced(len(source), self.num_objects), model.device)
        refined = refine_poses(model, views, sigma=_residual(model).sigma, prior=_residual(model).prior).camera
        before, after = pose_fit(model, views, [views.camera, refined]).iou
        return float((after - before).mean())

    @torch.no_grad()
    def _evidence(self, model: ShapeModel, source: Source) -> Float[Tensor, " n"]:
        """How much speaks for a flip of each training picture's pose as it is now."""
        pose, gains = _residual(model), []
        for views in _chunks(model, source):
            now, turned = pose_fit(model, views, [pose(views).camera, flipped(pose.start(views))]).score
            gains.append(turned - now)
        return flip_evidence(torch.cat(gains))

    @torch.no_grad()
    def _records(self, model: ShapeModel, source: Source) -> tuple[list[PoseRecord], np.ndarray]:
        """What became of each pose, in the annotated world, and the rotation of the learned world to that."""
        pose = _residual(model)
        parts = []
        for views in _chunks(model, source):
            cameras = [views.camera, pose.start(views), pose(views).camera]
            rotations = torch.stack([camera.world_to_camera[..., :3].double() for camera in cameras], 1)
            parts.append((rotations.cpu(), pose_fit(model, views, cameras[::2]).iou.T.cpu()))
        rotations, ious = (torch.cat(values) for values in zip(*parts, strict=True))
        before, start, learned = rotations.unbind(1)
        world = common_rotation(learned, start)
        after = (learned @ world.mT).numpy()
        rows = zip(source.names, before.numpy(), after, pose.flipped.tolist(), ious.tolist(), strict=True)
        return [PoseRecord(name, old, new, flip, *iou) for name, old, new, flip, iou in rows], world.numpy()


def _residual(model: ShapeModel) -> PoseResidual:
    assert isinstance(model.pose, PoseResidual)
    return model.pose


def _rotations(source: Source) -> Float[Tensor, "n 3 3"]:
    return torch.stack([source.picture(i).camera.world_to_camera[:, :3].double() for i in range(len(source))])


def _chunks(model: ShapeModel, source: Source) -> Iterator[Views]:
    for first in range(0, len(source), CHUNK):
        yield model.preprocessing.views(source, range(first, min(first + CHUNK, len(source))), model.device)
