"""Pictures, meshes, point clouds and tables in each logger's form."""

from __future__ import annotations

import math
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from torch import Tensor

from sdfsrn.evaluation.previews import Preview
from sdfsrn.loggers.wandb_run import WandbRun
from sdfsrn.meshes.io import mesh_colors, write_mesh

COLUMNS = ("name", "image", "render", "normals", "mesh", "accuracy", "coverage", "iou")
CLOUD = 2000  # points of the truth that are logged, at each validation


def log_media(logger: Logger, previews: Sequence[Preview], picture: Image.Image, step: int) -> None:
    """Log `val/pictures`, and `val/mesh` and `val/truth` of the first object, to TensorBoard and W&B.

    W&B also gets the other meshes and the table `val/predictions`. Other loggers take no pictures.
    """
    if isinstance(logger, TensorBoardLogger):
        _log_tensorboard(logger.experiment, previews[0], picture, step)
    elif isinstance(logger, WandbLogger) and not (isinstance(logger, WandbRun) and logger.has(step)):
        _log_wandb(logger, previews, picture, step)


def _log_tensorboard(writer: Any, first: Preview, picture: Image.Image, step: int) -> None:
    writer.add_image("val/pictures", np.asarray(picture), step, dataformats="HWC")
    if len(first.mesh.faces):
        colors = mesh_colors(first.mesh)
        writer.add_mesh(
            "val/mesh",
            torch.tensor(first.mesh.vertices.view(np.ndarray), dtype=torch.float32)[None],
            None if colors is None else torch.tensor(colors[None, :, :3]),
            torch.tensor(first.mesh.faces.view(np.ndarray))[None],
            global_step=step,
        )
    if len(first.truth):
        writer.add_mesh("val/truth", _thinned(first.truth)[None], global_step=step)


def _log_wandb(logger: WandbLogger, previews: Sequence[Preview], picture: Image.Image, step: int) -> None:
    """Log through the logger, which adds the trainer's step; W&B's own `step` would drop what a resumed run logs again.

    The table shows pictures of the meshes, since W&B takes no mesh files in tables.
    """
    import wandb

    table = wandb.Table(columns=list(COLUMNS))
    for p in previews:
        image, render, _, _, normals = map(wandb.Image, p.pictures)
        numbers = (None if math.isnan(x) else x for x in (p.accuracy, p.coverage, p.iou))
        table.add_data(p.name, image, render, normals, wandb.Image(p.side), *numbers)
    media: dict[str, Any] = {"val/pictures": wandb.Image(picture), "val/predictions": table}
    truth = previews[0].truth
    if len(truth):
        media["val/truth"] = wandb.Object3D(_thinned(truth).double().numpy().round(4), caption=previews[0].name)
    with tempfile.TemporaryDirectory() as folder:  # W&B copies them
        meshes: list[Any] = []
        for p in previews:
            if len(p.mesh.faces):
                path = pathlib.Path(folder) / f"{len(meshes)}.glb"
                write_mesh(p.mesh, path)
                meshes.append(wandb.Object3D(path, caption=p.name))
        if meshes:
            media["val/mesh"] = meshes
        logger.log_metrics(media, step)


def _thinned(points: Tensor) -> Tensor:
    """At most CLOUD of the points, evenly spaced in their order."""
    return points[:: -(-len(points) // CLOUD)]
