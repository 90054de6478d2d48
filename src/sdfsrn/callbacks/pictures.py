"""Pictures and meshes of validation objects, in the run's folder and in its loggers."""

from __future__ import annotations

import pathlib

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from sdfsrn.data.source import short_name
from sdfsrn.evaluation.previews import HEADINGS, preview
from sdfsrn.loggers.media import log_media
from sdfsrn.loggers.tolerant import forgiven
from sdfsrn.meshes.figures import gallery
from sdfsrn.meshes.io import write_mesh
from sdfsrn.system import ShapeModel


class LogPictures(Checkpoint):  # which Lightning runs after others: the last checkpoint is written before media go out
    """Log the first objects at every validation: input, rendered RGB, mask, depth, normals, meshes and their measures.

    Args:
        folder: of `step_000100.png`, and of the first object's `step_000100.glb`.
        num_objects: pictures of the validation split.
    """

    def __init__(self, folder: str, num_objects: int = 6) -> None:
        self.folder = pathlib.Path(folder)
        self.num_objects = num_objects

    def on_validation_end(self, trainer: pl.Trainer, pl_module: ShapeModel) -> None:
        """Draw, write and log the previews."""
        datamodule = trainer.datamodule  # type: ignore[attr-defined]  # which Lightning does not declare
        if trainer.sanity_checking or not trainer.is_global_zero or datamodule is None:
            return
        source = datamodule.dataset("val").source
        indices = range(min(self.num_objects, len(source)))
        views = pl_module.preprocessing.views(source, indices, pl_module.device)
        previews = preview(pl_module, views, [short_name(source.names[i]) for i in indices])
        rows = [[*p.pictures, p.side] for p in previews]
        picture = gallery(rows, (*HEADINGS, "mesh"), [p.caption for p in previews], cell=128)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step_{trainer.global_step:06d}.png"
        picture.save(path)
        if len(previews[0].mesh.faces):
            write_mesh(previews[0].mesh, path.with_suffix(".glb"))
        for logger in trainer.loggers:
            with forgiven(logger):
                log_media(logger, previews, picture, trainer.global_step)
