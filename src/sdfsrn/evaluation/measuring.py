"""All measures of one predicted shape against the ground truth of its object."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from torch import Tensor

from sdfsrn.data.source import ImageSample, Source, ground_truth
from sdfsrn.functional.alignment import Affine
from sdfsrn.functional.camera import Camera
from sdfsrn.functional.pointcloud import match
from sdfsrn.functional.surface import f_score, intersection_over_union, normal_consistency, volume_samples
from sdfsrn.meshes.geometry import contains, sample_surface
from sdfsrn.meshes.rendering import render_mask
from sdfsrn.metrics.protocol import EvaluationProtocol
from sdfsrn.structures import Rendering, Views


class TrueShape(NamedTuple):
    """The ground truth of an object, as far as it is known; world frame."""

    points: Float[Tensor, "k 3"]
    normals: Float[Tensor, "m 3"]  # of the points, in their order; m = 0 if unknown
    occupancy: Callable[[np.ndarray], np.ndarray | None]  # which of the points (n, 3) lie inside; None if unknown
    views: list[ImageSample]  # the input, then the same object from other sides


class Cloud(NamedTuple):
    """A predicted surface given by points, in random order."""

    points: Float[Tensor, "n 3"]
    normals: Float[Tensor, "m 3"]  # m = n, or 0 if unknown


PredictedSurface = trimesh.Trimesh | Cloud


class Measurement(NamedTuple):
    """The status (`ok`, `failure: ...` or `no ground truth`) and the measures by name."""

    status: str
    values: dict[str, float]


def metric_names(protocol: EvaluationProtocol) -> list[str]:
    """The names of all measures, in the order of tables; distances are in the world's unit."""
    scores = [f"fscore@{threshold:g}" for threshold in protocol.thresholds]
    squared = ["chamfer_squared"] if protocol.squared else []
    views = ["silhouette_iou", "novel_silhouette_iou", "depth_error", "color_error"]
    return ["accuracy", "coverage", "chamfer", *squared, *scores, "normal_consistency", "volume_iou", *views]


def read_truth(source: Source, index: int, protocol: EvaluationProtocol) -> TrueShape:
    """Read the ground truth of a picture's object. Raises ValueError if it or the picture is broken."""
    known, picture = ground_truth(source), source.picture(index)
    points = protocol.ground_truth(torch.from_numpy(source.points(index)))
    normals = torch.from_numpy(known.normals(index))[: len(points)]
    if len(normals) not in (0, len(points)):
        raise ValueError(f"Expected a normal for each of {len(points)} points, got {len(normals)} of {source.names[index]}.")
    return TrueShape(points, normals, lambda x: known.occupancy(index, x), [picture, *known.other_views(index)])


def measure(
    prediction: PredictedSurface, truth: TrueShape, protocol: EvaluationProtocol, cloud: Cloud | None = None
) -> Measurement:
    """Measure a prediction: shapes after the protocol's alignment, silhouettes and depth without.

    An empty prediction, or one that is not finite, is a failure without measures. Without true points only the views are
    measured. `cloud` stands for the points that the protocol would sample from the prediction.
    """
    if failure := _failure(prediction):
        return Measurement(f"failure: {failure}", {})
    values = {} if isinstance(prediction, Cloud) else measure_views(prediction, truth)
    if len(truth.points) == 0:
        return Measurement("no ground truth", values)
    return Measurement("ok", measure_shape(prediction, truth, protocol, cloud) | values)


def measure_shape(
    prediction: PredictedSurface, truth: TrueShape, protocol: EvaluationProtocol, cloud: Cloud | None = None
) -> dict[str, float]:
    """`accuracy`, `coverage`, `chamfer`, F-scores; `normal_consistency` and `volume_iou` if known of both shapes.

    Points are uniform over the aligned surface; see `measure` for `cloud`.
    """
    predicted = surface_cloud(prediction, protocol) if cloud is None else cloud
    alignment = protocol.register(predicted.points, truth.points)
    if isinstance(prediction, Cloud):
        predicted = Cloud(alignment.apply(predicted.points), alignment.apply_normals(predicted.normals))
    elif protocol.aligns:
        prediction = _moved(prediction, alignment)
        predicted = surface_cloud(prediction, protocol)
    nearest = match(predicted.points, truth.points)
    accuracy, coverage = float(nearest.accuracy.mean()), float(nearest.coverage.mean())
    values = {"accuracy": accuracy, "coverage": coverage, "chamfer": (accuracy + coverage) / 2}
    if protocol.squared:
        values["chamfer_squared"] = float(nearest.accuracy.square().mean() + nearest.coverage.square().mean()) / 2
    values |= {f"fscore@{t:g}": float(f_score(nearest, t)) for t in protocol.thresholds}
    if len(truth.normals) and len(predicted.normals):
        values["normal_consistency"] = float(normal_consistency(nearest, predicted.normals, truth.normals))
    if not isinstance(prediction, Cloud):
        values |= _volume(prediction, truth)
    return values


def measure_views(mesh: trimesh.Trimesh, truth: TrueShape) -> dict[str, float]:
    """`silhouette_iou` in the input's view, its mean over the other views `novel_silhouette_iou`, and `depth_error`.

    A pixel belongs to a silhouette if at least half of it is covered.
    """
    ious = []
    for picture in truth.views:
        rendered = render_mask(mesh, picture.camera, picture.alpha.shape)
        masks = (torch.from_numpy(np.asarray(mask) >= 0.5) for mask in (rendered, picture.alpha))
        ious.append(float(intersection_over_union(*masks)))
    values = {"silhouette_iou": ious[0]}
    if len(ious) > 1:
        values["novel_silhouette_iou"] = float(np.mean(ious[1:]))
    depth = depth_error(mesh, truth.points, truth.views[0].camera, truth.views[0].alpha.shape)
    return values if math.isnan(depth) else values | {"depth_error": depth}


def depth_error(mesh: trimesh.Trimesh, points: Float[Tensor, "k 3"], camera: Camera, shape: tuple[int, ...]) -> float:
    """Mean |z - z'| between the visible true surface and the mesh, along the same lines of sight; NaN if no line meets both.

    One line per pixel (of `shape`, height and width) goes through the nearest true point in that pixel, at depth z, and meets
    the mesh at depth z'. Pixels without a true point or without the mesh do not count.
    """
    camera = camera.map(lambda matrix: matrix.detach().cpu().double()[None])
    uv, depth = camera.project(points.cpu().double()[None])
    pixel = camera.pixels(uv, (shape[0], shape[1]))[0].floor().long()
    seen = ((pixel >= 0) & (pixel < torch.tensor([shape[1], shape[0]]))).all(-1) & (depth[0] > 0)
    index = torch.nonzero(seen)[:, 0]
    index = index[depth[0, index].argsort(stable=True)]
    _, first = np.unique((pixel[index, 1] * shape[1] + pixel[index, 0]).numpy(), return_index=True)  # nearest comes first
    chosen = index[torch.from_numpy(first)]
    if len(chosen) == 0:
        return math.nan
    rays = camera.rays(uv[:, chosen])
    predicted = _first_depth(mesh, rays.origin[0].numpy(), rays.direction[0].numpy())
    error = np.abs(predicted - depth[0, chosen].numpy())
    return float(np.mean(error[np.isfinite(error)])) if np.isfinite(error).any() else math.nan


def shown_color(rendering: Rendering, background: float) -> Float[Tensor, "b r 3"]:
    """The rendering's colours where a ray meets the surface; elsewhere the background, whatever the model has there."""
    return torch.where(rendering.opacity[..., None] >= 0.5, rendering.color, background)


def color_error(rendering: Rendering, views: Views, background: float) -> float:
    """Mean squared difference between `shown_color` and the pictures', in [-1, 1], over all rays and channels.

    With all pixels of the pictures as rays. NaN where the rendering has no colours.
    """
    return float((shown_color(rendering, background) - views.color).square().mean())


def surface_cloud(prediction: PredictedSurface, protocol: EvaluationProtocol) -> Cloud:
    """Points uniform over a mesh, and its normals at them; a cloud is returned as it is."""
    if isinstance(prediction, Cloud):
        return prediction
    points, normals = sample_surface(prediction, protocol.num_points, protocol.seed)
    return Cloud(torch.from_numpy(points).float(), torch.from_numpy(normals).float())


def _failure(prediction: PredictedSurface) -> str | None:
    if isinstance(prediction, Cloud):
        return None if len(prediction.points) else "no points"
    if len(prediction.faces) == 0:
        return "no surface"
    if not np.isfinite(prediction.vertices).all():
        return "NaN or infinite vertices"
    return None if prediction.area > 0 else "a surface without area"


def _moved(mesh: trimesh.Trimesh, alignment: Affine) -> trimesh.Trimesh:
    transform = np.eye(4)
    transform[:3, :3], transform[:3, 3] = alignment.matrix.cpu().numpy(), alignment.translation.cpu().numpy()
    return mesh.copy().apply_transform(transform)


def _volume(mesh: trimesh.Trimesh, truth: TrueShape) -> dict[str, float]:
    """`volume_iou`, from samples of the box around both; empty if the occupancy is unknown or the mesh is open."""
    if not mesh.is_watertight:
        return {}
    true = truth.points.cpu().double().numpy()
    low, high = np.minimum(mesh.bounds[0], true.min(0)), np.maximum(mesh.bounds[1], true.max(0))
    margin = 0.02 * (high - low).max()  # since points underestimate the box of their surface
    samples = volume_samples(low - margin, high + margin)
    inside = truth.occupancy(samples)
    if inside is None:
        return {}
    return {"volume_iou": float(intersection_over_union(torch.from_numpy(contains(mesh, samples)), torch.from_numpy(inside)))}


def _first_depth(mesh: trimesh.Trimesh, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Depth at which lines of sight first meet the mesh; NaN for lines that miss it."""
    face = mesh.ray.intersects_first(origin, direction)
    depth = np.full(len(face), np.nan)
    hit = face >= 0
    normal, corner = mesh.face_normals[face[hit]], mesh.triangles[face[hit], 0]
    slope = (direction[hit] * normal).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        depth[hit] = ((corner - origin[hit]) * normal).sum(-1) / slope
    return depth
