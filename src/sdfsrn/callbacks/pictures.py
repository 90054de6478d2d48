"""What the model sees and makes, at every validation: pictures and meshes, in the run's folder and to the loggers."""

from __future__ import annotations

import math
import pathlib
from typing import NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
import trimesh
from torch import Tensor

from sdfsrn.callbacks.media import log_media
from sdfsrn.data.views import collate_views
from sdfsrn.functional.pointcloud import chamfer_distance
from sdfsrn.functional.surface import intersection_over_union
from sdfsrn.meshes import write_mesh
from sdfsrn.models import Field
from sdfsrn.pictures import colorize_depth, gallery, overlay, short_name, to_picture
from sdfsrn.rendering import orbit_camera, render_mesh
from sdfsrn.structures import March, Views
from sdfsrn.system import SDFSRN

HEADINGS = ("input", "rendered", "mask", "depth", "normals")


class Prediction(NamedTuple):
    """What a model makes of one validation object."""

    name: str
    pictures: list[np.ndarray]  # as HEADINGS names them
    mesh: trimesh.Trimesh  # without faces if there is no surface
    side: np.ndarray  # the mesh from another side than the input's
    truth: Tensor  # (n, 3), world frame; n = 0 if it is not known
    accuracy: float  # world unit; NaN without mesh or truth, like `coverage`
    coverage: float
    iou: float  # of the silhouettes in the input's view

    @property
    def caption(self) -> str:
        """The name and what is known."""
        numbers = {"accuracy": self.accuracy, "coverage": self.coverage, "IoU": self.iou}
        return ", ".join([self.name, *(f"{name} {value:.3f}" for name, value in numbers.items() if not math.isnan(value))])


class LogPictures(pl.Callback):
    """At every validation, of the first objects: input, rendered RGB, mask, depth and normals; meshes and what they measure.

    Args:
        folder: `step_000100.png` and the first object's `step_000100.glb` are written there.
        num_objects: of the validation split.
    """

    def __init__(self, folder: str, num_objects: int = 6) -> None:
        self.folder = pathlib.Path(folder)
        self.num_objects = num_objects

    def on_validation_end(self, trainer: pl.Trainer, pl_module: SDFSRN) -> None:
        """Draw and log."""
        datamodule = trainer.datamodule  # type: ignore[attr-defined]  # which Lightning does not declare
        if trainer.sanity_checking or not trainer.is_global_zero or datamodule is None:
            return
        dataset = datamodule.dataset("val")
        count = min(self.num_objects, len(dataset))
        views = pl_module.transfer_batch_to_device(collate_views([dataset[i] for i in range(count)]), pl_module.device, 0)
        names = [short_name(dataset.source.names[i]) for i in range(count)]
        predictions = predict(pl_module, views, names)
        rows = [[*p.pictures, p.side] for p in predictions]
        picture = gallery(rows, (*HEADINGS, "mesh"), [p.caption for p in predictions], cell=128)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step_{trainer.global_step:06d}.png"
        picture.save(path)
        if len(predictions[0].mesh.faces):
            write_mesh(predictions[0].mesh, path.with_suffix(".glb"))
        for logger in trainer.loggers:
            log_media(logger, predictions, picture, trainer.global_step)


@torch.no_grad()
def predict(model: SDFSRN, views: Views, names: list[str]) -> list[Prediction]:
    """What is logged of each object, measured as in the model's validation; `views` as `view_pictures` takes them."""
    field, march = model.render(views)
    found = march.sdf[..., -1] < 0
    predictions = []
    for i, (name, pictures) in enumerate(zip(names, _draw(field, march, views), strict=True)):
        mesh, truth = model.validation.mesh(field[i : i + 1], color=True), model.validation.truth(views.points[i])
        accuracy = coverage = math.nan
        if len(mesh.faces) and len(truth):
            predicted = model.validation.align(model.validation.sample(mesh), truth)
            accuracy, coverage = (float(distance) for distance in chamfer_distance(predicted, truth))
        iou = float(intersection_over_union(found[i], views.inside[i]))
        side = render_mesh(mesh, orbit_camera(mesh, 215, 20), 128).color
        predictions.append(Prediction(name, pictures, mesh, side, truth.cpu(), accuracy, coverage, iou))
    return predictions


@torch.no_grad()
def view_pictures(model: SDFSRN, views: Views, field: Field) -> list[list[np.ndarray]]:
    """A row of pictures of each object's functions, as HEADINGS names them; `views` must have all pixels of the images."""
    return _draw(field, model.raymarcher(field, views.camera.rays(views.uv)), views)


def _draw(field: Field, march: March, views: Views) -> list[list[np.ndarray]]:
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
