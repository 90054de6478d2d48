"""Results of an evaluation, object by object: the mesh, its measures and pictures, and measures of the reference shapes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from torch import Tensor

from sdfsrn.data.batches.preload import PreloadedSource
from sdfsrn.data.source import Source, evenly_spaced, short_name
from sdfsrn.evaluation.measuring import TrueShape, color_error, measure, read_truth
from sdfsrn.evaluation.placing import in_true_world
from sdfsrn.evaluation.previews import draw
from sdfsrn.evaluation.references import OBJECTS, Reference, reference_rows
from sdfsrn.evaluation.summary import Row
from sdfsrn.functional.camera import Camera
from sdfsrn.metrics.protocol import EvaluationProtocol
from sdfsrn.models import Shape
from sdfsrn.structures import Rendering, Views
from sdfsrn.system import ShapeModel


@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
    """Settings of an evaluation beside its protocol.

    Args:
        formats: suffixes of the mesh files; without any, no meshes are written.
        limit: number of objects, from the start of the split; None evaluates all.
        reference: the split whose best constant shape is a reference; None leaves that reference out.
        refine: the shape of one object in place of the model's own (test-time optimization).
        about: what is evaluated, in words, for the summary and the report.
    """

    formats: Sequence[str] = ("ply", "obj", "glb")
    limit: int | None = None
    reference: Source | None = None
    refine: Callable[[ShapeModel, Views], Shape] | None = None
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Reconstruction(NamedTuple):
    """A reconstructed object beside its ground truth; world frame."""

    mesh: trimesh.Trimesh  # without faces if the reconstruction failed
    truth: Float[Tensor, "k 3"]  # k = 0 if unknown
    pictures: list[np.ndarray]  # as HEADINGS names them
    camera: Camera  # of the input, without batch dimension


class Result(NamedTuple):
    """One object of an evaluation."""

    row: Row
    before: Row  # before test-time optimization; without it, `row`
    references: Mapping[str, Row]  # by the reference's name; empty for objects that references are not measured on
    reconstruction: Reconstruction | None  # None if the object could not be read


class _Object(NamedTuple):
    """What an object is measured with."""

    row: Row  # without measures
    views: Views  # all pixels of its picture
    truth: TrueShape
    background: float  # of the picture


def results(
    model: ShapeModel,
    source: Source,
    protocol: EvaluationProtocol,
    references: Mapping[str, Reference],
    options: EvaluationOptions,
) -> Iterator[Result]:
    """Reconstruct and measure the pictures of a split one by one; `references` on at most OBJECTS of them.

    An object that cannot be read or reconstructed gives a row with the reason.
    """
    if isinstance(source, PreloadedSource):
        source = source.source  # reads pictures one by one, so that a broken one does not stop the others
    count = object_count(source, options)
    compared = set(evenly_spaced(count, OBJECTS))
    for index in range(count):
        yield _result(model, source, index, protocol, references if index in compared else {}, options.refine)


@torch.no_grad()
def measured_rows(
    model: ShapeModel, source: Source, truths: Mapping[int, TrueShape], protocol: EvaluationProtocol
) -> list[Row]:
    """Reconstruct and measure some pictures of a split, whose ground truth is given by index; nothing is drawn.

    Raises:
        ValueError: a picture that cannot be used.
    """
    rows = []
    for index, truth in truths.items():
        views = model.preprocessing.views(source, [index], model.device)
        shape = model(views.image)
        thing = _Object(Row(index, short_name(source.names[index])), views, truth, model.preprocessing.background)
        rows.append(_measured(thing, shape, model.render(shape, views), protocol)[0])
    return rows


def object_count(source: Source, options: EvaluationOptions) -> int:
    """Number of objects to evaluate."""
    return min(len(source), options.limit or len(source))


def _result(
    model: ShapeModel,
    source: Source,
    index: int,
    protocol: EvaluationProtocol,
    references: Mapping[str, Reference],
    refine: Callable[[ShapeModel, Views], Shape] | None,
) -> Result:
    row = Row(index, short_name(source.names[index]))
    try:
        views = model.preprocessing.views(source, [index], model.device)
        truth = read_truth(source, index, protocol)
    except ValueError as error:
        unreadable = row._replace(status=f"unreadable: {error}")
        return Result(unreadable, unreadable, {}, None)
    thing = _Object(row, views, truth, model.preprocessing.background)
    with torch.no_grad():
        initial = model(views.image)
    shape = initial if refine is None else refine(model, views)
    with torch.no_grad():
        rendering = model.render(shape, views)
        first = rendering if refine is None else model.render(initial, views)
    row, mesh = _measured(thing, shape, rendering, protocol)
    before = row if refine is None else _measured(thing, initial, first, protocol)[0]
    (pictures,) = draw(rendering, views, [mesh], thing.background)
    camera = views.camera.map(lambda matrix: matrix[0])
    scores = reference_rows(references, thing.row, truth, protocol)
    return Result(row, before, scores, Reconstruction(mesh, truth.points, pictures, camera))


def _measured(thing: _Object, shape: Shape, rendering: Rendering, protocol: EvaluationProtocol) -> tuple[Row, trimesh.Trimesh]:
    """The row filled in, and the mesh, without faces if the reconstruction failed."""
    try:
        mesh = in_true_world(shape.mesh(protocol.grid), thing.truth.views[0], protocol)
    except ValueError as error:  # not finite
        return thing.row._replace(status=f"failure: {error}"), trimesh.Trimesh()
    status, values = measure(mesh, thing.truth, protocol)
    if status.startswith("failure"):
        mesh = trimesh.Trimesh()
    elif not math.isnan(difference := color_error(rendering, thing.views, thing.background)):
        values = values | {"color_error": difference}
    return thing.row._replace(status=status, values=values, vertices=len(mesh.vertices), faces=len(mesh.faces)), mesh
