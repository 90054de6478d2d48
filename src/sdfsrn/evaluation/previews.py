"""Previews of a few objects: renderings of a model, meshes, and their measures."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import trimesh
from torch import Tensor

from sdfsrn.evaluation.measuring import shown_color
from sdfsrn.functional.pointcloud import chamfer_distance
from sdfsrn.functional.surface import intersection_over_union
from sdfsrn.meshes.figures import colorize_depth, overlay, to_picture
from sdfsrn.meshes.rendering import orbit_camera, render_mesh
from sdfsrn.structures import Rendering, Views
from sdfsrn.system import ShapeModel

HEADINGS = ("input", "rendered", "mask", "depth", "normals")


class Preview(NamedTuple):
    """A model's reconstruction of one validation object."""

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
        """The name, and the measures that are known."""
        numbers = {"accuracy": self.accuracy, "coverage": self.coverage, "IoU": self.iou}
        return ", ".join([self.name, *(f"{name} {value:.3f}" for name, value in numbers.items() if not math.isnan(value))])


@torch.no_grad()
def preview(model: ShapeModel, views: Views, names: Sequence[str]) -> list[Preview]:
    """Previews of a batch, measured as in the model's validation; `views` must have all pixels of the images."""
    shape, protocol = model(views.image), model.validation
    views = model.pose.estimate(views)
    rendering = model.render(shape, views)
    meshes = [shape[i : i + 1].mesh(protocol.grid) for i in range(len(names))]
    previews = []
    for i, (name, mesh, pictures) in enumerate(
        zip(names, meshes, draw(rendering, views, meshes, model.preprocessing.background), strict=True)
    ):
        truth = protocol.ground_truth(views.points[i])
        accuracy = coverage = math.nan
        if len(mesh.faces) and len(truth):
            predicted = protocol.align(protocol.sample(mesh), truth)
            accuracy, coverage = (float(distance) for distance in chamfer_distance(predicted, truth))
        iou = float(intersection_over_union(rendering.opacity[i] >= 0.5, views.inside[i]))
        side = render_mesh(mesh, orbit_camera(mesh, 215, 20), 128).color
        previews.append(Preview(name, pictures, mesh, side, truth.cpu(), accuracy, coverage, iou))
    return previews


@torch.no_grad()
def draw(rendering: Rendering, views: Views, meshes: Sequence[trimesh.Trimesh], background: float) -> list[list[np.ndarray]]:
    """The pictures that HEADINGS names, for each object; `views` must have all pixels of the images.

    Without colours, where the rendering's are NaN, the mesh stands for the rendering.
    """
    shape = (views.image.shape[-2], views.image.shape[-1])
    inside = rendering.opacity >= 0.5
    depth = torch.where(inside, rendering.depth, torch.nan).unflatten(-1, shape).cpu().numpy()
    color = shown_color(rendering, background).mT.unflatten(-1, shape)
    predicted, true = (mask.unflatten(-1, shape).cpu().numpy() for mask in (inside, views.inside))
    cameras = [views.camera.map(operator.itemgetter(i)) for i in range(len(meshes))]
    pictures = []
    for i, (mesh, camera) in enumerate(zip(meshes, cameras, strict=True)):
        image, rendered = to_picture(views.image[i]), render_mesh(mesh, camera, shape)
        shown = rendered.color if color[i].isnan().any() else to_picture(color[i])
        mask = overlay(image, true[i], predicted[i])
        pictures.append([image, shown, mask, colorize_depth(depth[i]), rendered.normals])
    return pictures
