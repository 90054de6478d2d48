"""What the model sees and makes, at every validation: pictures and a mesh, in the run's folder and to the loggers."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import trimesh
from PIL import Image
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

from sdfsrn.data.views import collate_views
from sdfsrn.meshes import mesh_colors, write_mesh
from sdfsrn.pictures import colorize_depth, gallery, overlay, short_name, to_picture
from sdfsrn.structures import Views
from sdfsrn.system import SDFSRN

HEADINGS = ("input", "rendered", "mask", "depth", "normals")


class LogPictures(pl.Callback):
    """At every validation: input, rendered RGB, mask, depth and normals of the first objects, and the first one's mesh.

    Args:
        folder: `step_000100.png` and `step_000100.glb` are written there.
        num_objects: of the validation split.
    """

    def __init__(self, folder: str, num_objects: int = 6) -> None:
        self.folder = pathlib.Path(folder)
        self.num_objects = num_objects

    @torch.no_grad()
    def on_validation_end(self, trainer: pl.Trainer, pl_module: SDFSRN) -> None:
        """Draw and log."""
        datamodule = trainer.datamodule  # type: ignore[attr-defined]  # which Lightning does not declare
        if trainer.sanity_checking or not trainer.is_global_zero or datamodule is None:
            return
        dataset = datamodule.dataset("val")
        count = min(self.num_objects, len(dataset))
        views = pl_module.transfer_batch_to_device(collate_views([dataset[i] for i in range(count)]), pl_module.device, 0)
        rows = view_pictures(pl_module, views)
        picture = gallery(rows, HEADINGS, [short_name(dataset.source.names[i]) for i in range(count)], cell=128)
        mesh = pl_module.validation.mesh(pl_module(views.image[:1]), color=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step_{trainer.global_step:06d}.png"
        picture.save(path)
        if len(mesh.faces):
            write_mesh(mesh, path.with_suffix(".glb"))
        for logger in trainer.loggers:
            _log(logger, picture, mesh, path, trainer.global_step)


@torch.no_grad()
def view_pictures(model: SDFSRN, views: Views) -> list[list[np.ndarray]]:
    """A row of pictures an object, as HEADINGS names them; `views` must have all pixels of the images."""
    field, march = model.render(views)
    rays = views.camera.rays(views.uv)
    normals = torch.nn.functional.normalize(field.gradient(rays.at(march.surface_depth)), dim=-1)
    normals = normals @ views.camera.world_to_camera[..., :3].mT * torch.tensor([1.0, -1.0, -1.0], device=normals.device)
    hit = march.sdf[..., -1] < 0
    shape = views.image.shape[-2:]
    normals = torch.where(hit[..., None], normals, 1.0).mT.unflatten(-1, shape)
    depth = torch.where(hit, march.surface_depth, torch.nan).unflatten(-1, shape).cpu().numpy()
    color = march.color.mT.unflatten(-1, shape)
    predicted, true = hit.unflatten(-1, shape).cpu().numpy(), views.inside.unflatten(-1, shape).cpu().numpy()
    return [
        [
            image := to_picture(views.image[i]),
            to_picture(color[i]),
            overlay(image, true[i], predicted[i]),
            colorize_depth(depth[i]),
            to_picture(normals[i]),
        ]
        for i in range(len(depth))
    ]


def _log(logger: Logger, picture: Image.Image, mesh: trimesh.Trimesh, path: pathlib.Path, step: int) -> None:
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image("val/pictures", np.asarray(picture), step, dataformats="HWC")
        if len(mesh.faces):
            vertices, faces = (
                torch.from_numpy(np.array(mesh.vertices)).float()[None],
                torch.from_numpy(np.array(mesh.faces))[None],
            )
            rgba = mesh_colors(mesh)
            colors = None if rgba is None else torch.from_numpy(np.array(rgba[:, :3]))[None]
            logger.experiment.add_mesh("val/mesh", vertices, colors, faces, global_step=step)
    elif isinstance(logger, WandbLogger):
        import wandb

        media: dict[str, Any] = {"val/pictures": wandb.Image(picture)}
        if len(mesh.faces):
            media["val/mesh"] = wandb.Object3D(str(path.with_suffix(".glb")))
        logger.experiment.log({**media, "trainer/global_step": step})
