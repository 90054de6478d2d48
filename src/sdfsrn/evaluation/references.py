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
from sdfsrn.metrics.protocol import EvaluationProtocol

CANDIDATES = 32  # shapes among which the best constant one is chosen, at most
OBJECTS = 64  # objects that references are measured on, at most
_THIN = 1000  # points per candidate in that choice


class Reference(NamedTuple):
    """A prediction that takes no model."""

    predict: Callable[[TrueShape], PredictedSurface]
    notes: dict[str, Any]  # for the summary


def reference_shapes(source: Source | None, protocol: EvaluationProtocol) -> dict[str, Reference]:
    """The references by name; the best constant shape is one of `source`, which gives none if None or without truth."""
    ball, clouds = sphere(), candidate_clouds(source, protocol)
    references = {"untrained sphere": Reference(lambda truth: ball, {})}
    name = best_constant(clouds, protocol)
    if name is not None:
        constant = clouds[name]
        references["best constant shape"] = Reference(lambda truth: constant, {"name": name, "chosen_from": len(clouds)})
    references["visual hull"] = Reference(lambda truth: visual_hull(truth.views[0], protocol), {})
    return references


def reference_rows(
    references: Mapping[str, Reference], row: Row, truth: TrueShape, protocol: EvaluationProtocol
) -> dict[str, Row]:
    """The row of an object filled in by each reference."""
    measured = {name: measure(reference.predict(truth), truth, protocol) for name, reference in references.items()}
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


def candidate_clouds(source: Source | None, protocol: EvaluationProtocol) -> dict[str, Cloud]:
    """Ground truth of at most CANDIDATES pictures, evenly spaced over a split, by name; of those that have any."""
    clouds: dict[str, Cloud] = {}
    if source is None:
        return clouds
    for index in evenly_spaced(len(source), CANDIDATES):
        points = protocol.ground_truth(torch.from_numpy(source.points(index)))
        if len(points):
            normals = torch.from_numpy(ground_truth(source).normals(index))[: len(points)]
            clouds[short_name(source.names[index])] = Cloud(points, normals)
    return clouds


def sphere(radius: float = 0.5) -> trimesh.Trimesh:
    """The sphere that training starts from."""
    return trimesh.creation.icosphere(5, radius)


def best_constant(candidates: Mapping[str, Cloud], protocol: EvaluationProtocol) -> str | None:
    """The name of the candidate with the least mean Chamfer distance to the other ones; None without any.

    Registered as the protocol says, on thinned clouds (in random order). With shapes of the validation split as candidates
    it bounds the score of any method that ignores its input, without a look at the test's ground truth.
    """
    names = list(candidates)
    if not names:
        return None
    clouds = [candidates[name].points[:_THIN] for name in names]
    error = np.zeros((len(names), len(names)))
    for i, cloud in enumerate(clouds):
        for j in range(i):
            distances = chamfer_distance(protocol.align(clouds[j], cloud), cloud)
            error[i, j] = error[j, i] = float(sum(distances))
    return names[int(error.sum(1).argmin())]


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
