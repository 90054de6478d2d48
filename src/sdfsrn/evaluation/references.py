"""Reference shapes, made without learning or without the picture: what a trained model has to beat."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import trimesh
from jaxtyping import Float
from torch import Tensor

from sdfsrn.data.source import ImageSample, Source, evenly_spaced, ground_truth, short_name
from sdfsrn.evaluation.measuring import Cloud, PredictedSurface, TrueShape, measure
from sdfsrn.evaluation.summary import Row, statistics
from sdfsrn.functional.pointcloud import chamfer_distance
from sdfsrn.meshes.geometry import sample_surface
from sdfsrn.metrics.protocol import EvaluationProtocol

CANDIDATES = 32  # shapes among which the best constant one is chosen, at most
OBJECTS = 64  # objects that references are measured on, at most
RADIUS = 0.5  # of the sphere that training starts from
_THIN = 1000  # points per candidate in that choice


class Reference(NamedTuple):
    """A prediction that takes no model."""

    predict: Callable[[TrueShape], PredictedSurface]
    notes: dict[str, Any]  # for the summary
    cloud: Cloud | None = None  # points of a prediction that is the same for all objects; None has them sampled


def reference_shapes(source: Source | None, protocol: EvaluationProtocol) -> dict[str, Reference]:
    """The references by name; the best constant shape is one of `source`, which gives none if None or without truth."""
    ball = sphere()
    references = {"untrained sphere": Reference(lambda truth: ball, {}, sphere_cloud(protocol))}
    candidates = {} if source is None else candidate_points(source, protocol)
    chosen = best_constant(candidates, protocol)
    if source is not None and chosen is not None:
        points = candidates[chosen]
        constant = Cloud(points, torch.from_numpy(ground_truth(source).normals(chosen))[: len(points)])
        notes = {"name": short_name(source.names[chosen]), "chosen_from": len(candidates)}
        references["best constant shape"] = Reference(lambda truth: constant, notes)
    references["visual hull"] = Reference(lambda truth: visual_hull(truth.views[0], protocol), {})
    return references


def reference_rows(
    references: Mapping[str, Reference], row: Row, truth: TrueShape, protocol: EvaluationProtocol
) -> dict[str, Row]:
    """The row of an object filled in by each reference."""
    measured = {
        name: measure(reference.predict(truth), truth, protocol, reference.cloud) for name, reference in references.items()
    }
    return {name: row._replace(status=found.status, values=found.values) for name, found in measured.items()}


def reference_statistics(
    references: Mapping[str, Reference], scores: Mapping[str, Sequence[Row]], protocol: EvaluationProtocol
) -> dict[str, Any]:
    """`statistics` of the references that could be measured, the number of objects, and notes."""
    return {
        name: statistics(scores[name], protocol.seed) | {"objects": len(scores[name])} | reference.notes
        for name, reference in references.items()
        if any(row.values for row in scores[name])
    }


def candidate_points(source: Source, protocol: EvaluationProtocol) -> dict[int, Float[Tensor, "n 3"]]:
    """Ground truth of at most CANDIDATES pictures, evenly spaced over a split, by index; of those that have any."""
    indices = evenly_spaced(len(source), CANDIDATES)
    points = {index: protocol.ground_truth(torch.from_numpy(source.points(index))) for index in indices}
    return {index: cloud for index, cloud in points.items() if len(cloud)}


def sphere() -> trimesh.Trimesh:
    """The sphere that training starts from."""
    return trimesh.creation.icosphere(5, RADIUS)


def sphere_cloud(protocol: EvaluationProtocol) -> Cloud:
    """Points uniform over `sphere`, moved from its faces onto the sphere itself, where `Neighbours` finds them fast."""
    points, _ = sample_surface(sphere(), protocol.num_points, protocol.seed)
    normals = torch.nn.functional.normalize(torch.from_numpy(points), dim=-1)
    return Cloud(RADIUS * normals, normals)


def best_constant(candidates: Mapping[int, Float[Tensor, "n 3"]], protocol: EvaluationProtocol) -> int | None:
    """The index of the candidate with the least mean Chamfer distance to the other ones; None without any.

    Registered as the protocol says, on thinned clouds (in random order). With shapes of the validation split as candidates
    it bounds the score of any method that ignores its input, without a look at the test's ground truth.
    """
    if not candidates:
        return None
    clouds = [points[:_THIN] for points in candidates.values()]
    error = np.zeros((len(clouds), len(clouds)))
    for i, cloud in enumerate(clouds):
        for j in range(i):
            distances = chamfer_distance(protocol.align(clouds[j], cloud), cloud)
            error[i, j] = error[j, i] = float(sum(distances))
    return list(candidates)[int(error.sum(1).argmin())]


def visual_hull(picture: ImageSample, protocol: EvaluationProtocol) -> trimesh.Trimesh:
    """The part of the grid's cube that projects into the picture's silhouette; closed.

    Its outline runs where half of a pixel is covered.
    """
    camera = picture.camera.map(lambda matrix: matrix[None])
    alpha = torch.from_numpy(picture.alpha)[None, None]

    def outside(points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        uv, depth = camera.project(points[None])
        screen = camera.screen(uv)[None]
        covered = F.grid_sample(alpha, screen, padding_mode="zeros", align_corners=False)[0, 0, 0]
        return 0.5 - torch.where(depth[0] > 0, covered, 0)

    vertices, faces = dataclasses.replace(protocol.grid, dense=True).surface(outside)
    return trimesh.Trimesh(vertices, faces, process=False)
