"""What a model makes of a few objects, to look at: pictures of their functions, meshes, and what they measure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import trimesh
from torch import Tensor

from sdfsrn.functional.pointcloud import chamfer_distance
from sdfsrn.functional.surface import intersection_over_union
from sdfsrn.meshes.figures import colorize_depth, overlay, to_picture
from sdfsrn.meshes.rendering import orbit_camera, render_mesh
from sdfsrn.structures import Rendering, Views
from sdfsrn.system import ShapeModel

HEADINGS = ("input", "rendered", "mask", "depth", "normals")


class Preview(NamedTuple):
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


@torch.no_grad()
def preview(model: ShapeModel, views: Views, names: Sequence[str]) -> list[Preview]:
    """What is logged of each object, measured as in the model's validation; `views` must have all pixels of the images."""
    shape = model(views.image)
    rendering, protocol, previews = model.render(shape, views), model.validation, []
    for i, (name, pictures) in enumerate(zip(names, draw(rendering, views), strict=True)):
        mesh, truth = shape[i : i + 1].mesh(protocol.grid), protocol.ground_truth(views.points[i])
        accuracy = coverage = math.nan
        if len(mesh.faces) and len(truth):
            predicted = protocol.align(protocol.sample(mesh), truth)
            accuracy, coverage = (float(distance) for distance in chamfer_distance(predicted, truth))
        iou = float(intersection_over_union(rendering.opacity[i] >= 0.5, views.inside[i]))
        size = tuple(views.image.shape[-2:])
        normals = render_mesh(mesh, views.camera.map(lambda matrix: matrix[i]), size).normals  # noqa: B023  # used at once
        side = render_mesh(mesh, orbit_camera(mesh, 215, 20), 128).color
        previews.append(Preview(name, [*pictures, normals], mesh, side, truth.cpu(), accuracy, coverage, iou))
    return previews


@torch.no_grad()
def draw(rendering: Rendering, views: Views) -> list[list[np.ndarray]]:
    """For each object the pictures that HEADINGS names but the normals; `views` must have all pixels of the images."""
    shape = views.image.shape[-2:]
    inside = rendering.opacity >= 0.5
    depth = torch.where(inside, rendering.depth, torch.nan).unflatten(-1, shape).cpu().numpy()
    color = rendering.color.mT.unflatten(-1, shape)
    predicted, true = (mask.unflatten(-1, shape).cpu().numpy() for mask in (inside, views.inside))
    pictures = []
    for i in range(len(depth)):
        image = to_picture(views.image[i])
        pictures.append([image, to_picture(color[i]), overlay(image, true[i], predicted[i]), colorize_depth(depth[i])])
    return pictures
