"""Measuring a trained model on a split: a row an object, a summary with baselines, meshes and pictures.

Written into the output folder:

    metrics.csv                 a row an object; metrics_before.csv: before test-time optimization, if that was asked for
    summary.json                what was evaluated, statistics over objects, counts, protocol, version, baselines
    meshes/<number>_<name>.*    predictions, world frame
    truth/<number>_<name>.ply   true points, at most 10,000
    pictures/<number>_<name>.png   input, rendered RGB, mask, depth and normals, side by side
    gallery.png, turntable.png  the first objects
    report.html                 all of it to look at, in one file, with the best, middle, worst and failed objects in 3D
"""

from __future__ import annotations

import json
import logging
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import trimesh
from torch import Tensor
from tqdm import tqdm

from sdfsrn.data.batches.preload import PreloadedSource
from sdfsrn.data.source import Source, ground_truth, short_name, spread
from sdfsrn.evaluation import references as baselines
from sdfsrn.evaluation.measuring import Cloud, Measurement, PredictedSurface, TrueShape, measure, metric_names, read_truth
from sdfsrn.evaluation.previews import HEADINGS, draw
from sdfsrn.evaluation.report import report_evaluation
from sdfsrn.evaluation.results import Row, file_stem, show, statistics, summarize, write_rows
from sdfsrn.meshes.figures import gallery, hstack
from sdfsrn.meshes.io import write_mesh
from sdfsrn.meshes.rendering import orbit_camera, render_mesh, render_points, turntable
from sdfsrn.metrics.protocol import EvaluationProtocol
from sdfsrn.models import Shape
from sdfsrn.runtime.files import write_atomically
from sdfsrn.structures import Views
from sdfsrn.system import ShapeModel

log = logging.getLogger(__name__)
PICTURED = 24  # objects in the gallery
SHOWN_POINTS = 10_000  # of a truth, in its file


class Baseline(NamedTuple):
    """A shape for any object, that a model has to beat."""

    predict: Callable[[TrueShape], PredictedSurface]
    notes: dict[str, Any]


def evaluate(
    model: ShapeModel,
    source: Source,
    protocol: EvaluationProtocol,
    output: pathlib.Path,
    formats: Sequence[str] = ("ply", "obj", "glb"),
    limit: int | None = None,
    reference: Source | None = None,
    refine: Callable[[ShapeModel, Views], Shape] | None = None,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Reconstruct and measure every picture of a split; writes the files above, shows the summary, and returns it.

    Whatever cannot be read or reconstructed is a row with its reason; the rest is measured. The best constant shape is one
    of the `reference` split's; `refine` gives the field of one object in place of the model's (test-time optimization).
    `about` is what was evaluated, in words: it goes into the summary and onto the report.
    """
    model.eval()
    source = _unpacked(source)
    count = min(len(source), limit or len(source))
    rivals = _baselines(reference, protocol)
    against = set(spread(count, baselines.OBJECTS))
    rows, before, pictures, strips = [], [], [], []
    scores: dict[str, list[Row]] = {name: [] for name in rivals}
    for index in tqdm(range(count), "Evaluating", unit="object"):
        name = short_name(source.names[index])
        try:
            views = model.preprocessing.views(source, [index], model.device)
            truth = read_truth(source, index, protocol)
        except ValueError as error:
            rows.append(Row(index, name, f"unreadable: {error}", {}))
            before.append(rows[-1])
            continue
        stem = file_stem(index, name)
        with torch.no_grad():
            initial = model(views.image)
        shape = initial if refine is None else refine(model, views)
        mesh, found = _predict(shape, truth, protocol)
        written = stem if len(mesh.faces) and _write_meshes(mesh, output / "meshes" / stem, formats) else ""
        rows.append(Row(index, name, found.status, found.values, len(mesh.vertices), len(mesh.faces), written))
        if refine is not None:
            start, found = _predict(initial, truth, protocol)
            before.append(Row(index, name, found.status, found.values, len(start.vertices), len(start.faces)))
        if index in against:
            for rival, baseline in rivals.items():
                scores[rival].append(Row(index, name, *measure(baseline.predict(truth), truth, protocol)))
        with torch.no_grad():
            seen = draw(model.render(shape, views), views)[0]
        seen.append(render_mesh(mesh, views.camera.map(lambda matrix: matrix[0]), tuple(views.image.shape[-2:])).normals)
        _save(hstack(seen), output / "pictures" / f"{stem}.png")
        _write_truth(truth.points, output / "truth" / f"{stem}.ply")
        if index < PICTURED:
            pictures.append((rows[-1], [*seen, *mesh_pictures(mesh, truth.points, views)]))
            strips.append(np.asarray(hstack(turntable(mesh, frames=8, size=128))))
    _draw(pictures, strips, output)
    write_rows(rows, metric_names(protocol), output / "metrics.csv")
    summary = {"about": dict(about or {}), **summarize(rows, protocol)}
    if refine is not None:
        write_rows(before, metric_names(protocol), output / "metrics_before.csv")
        summary["before_optimization"] = statistics(before, protocol.seed)
    summary["baselines"] = _scored(rivals, scores, protocol)
    write_atomically(output / "summary.json", json.dumps(summary, indent=2).encode())
    log.info("Wrote %s", report_evaluation(output, rows, summary))
    show(summary)
    return summary


def mesh_pictures(mesh: trimesh.Trimesh, truth: Tensor, views: Views) -> list[np.ndarray]:
    """The mesh from the input's camera and from another side, which has the truth in sight, and the true points from there."""
    camera = views.camera.map(lambda matrix: matrix[0])
    side = orbit_camera(_cube(truth), azimuth=215, elevation=20)
    aside = render_mesh(mesh, side, 160)
    return [render_mesh(mesh, camera, 160).color, aside.color, aside.normals, render_points(truth.numpy(), side, 160)]


def _predict(shape: Shape, truth: TrueShape, protocol: EvaluationProtocol) -> tuple[trimesh.Trimesh, Measurement]:
    """The mesh, without faces if it is a failure, and its measures."""
    try:
        mesh = shape.mesh(protocol.grid)
    except ValueError as error:  # not finite
        return trimesh.Trimesh(), Measurement(f"failure: {error}", {})
    found = measure(mesh, truth, protocol)
    return (trimesh.Trimesh() if found.status.startswith("failure") else mesh), found


def _unpacked(source: Source) -> Source:
    """Pictures as they are stored, read one by one, so that a bad one does not stop the others."""
    return source.source if isinstance(source, PreloadedSource) else source


def _baselines(reference: Source | None, protocol: EvaluationProtocol) -> dict[str, Baseline]:
    ball, clouds = baselines.sphere(), _clouds(reference, protocol)
    found = {"untrained sphere": Baseline(lambda truth: ball, {})}
    name = baselines.best_constant(clouds, protocol)
    if name is not None:
        constant = clouds[name]
        found["best constant shape"] = Baseline(lambda truth: constant, {"name": name, "chosen_from": len(clouds)})
    found["visual hull"] = Baseline(lambda truth: baselines.visual_hull(truth.views[0], protocol), {})
    return found


def _clouds(source: Source | None, protocol: EvaluationProtocol) -> dict[str, Cloud]:
    """Clouds of some pictures of a split, evenly spaced over it: candidates for the best constant shape."""
    if source is None:
        return {}
    found = {}
    for i in spread(len(source), baselines.CANDIDATES):
        points = protocol.ground_truth(torch.from_numpy(source.points(i)))
        if len(points):
            found[short_name(source.names[i])] = Cloud(points, torch.from_numpy(ground_truth(source).normals(i))[: len(points)])
    return found


def _scored(rivals: dict[str, Baseline], scores: dict[str, list[Row]], protocol: EvaluationProtocol) -> dict[str, Any]:
    """Statistics of the baselines that could be measured."""
    return {
        name: statistics(scores[name], protocol.seed) | {"objects": len(scores[name])} | baseline.notes
        for name, baseline in rivals.items()
        if any(row.values for row in scores[name])
    }


def _cube(points: Tensor) -> trimesh.Trimesh:
    """A cube about the middle of the points' bounding box, as wide as its longest side; of side 1 without points."""
    if len(points) == 0:
        return trimesh.creation.box((1.0, 1.0, 1.0))
    low, high = points.amin(0).double(), points.amax(0).double()
    cube = trimesh.creation.box([max(float((high - low).max()), 1e-6)] * 3)
    return cube.apply_translation(((low + high) / 2).numpy())


def _write_meshes(mesh: trimesh.Trimesh, stem: pathlib.Path, formats: Sequence[str]) -> bool:
    for suffix in formats:
        write_mesh(mesh, stem.with_name(f"{stem.name}.{suffix}"))
    return len(formats) > 0


def _write_truth(points: Tensor, path: pathlib.Path) -> None:
    if len(points):
        write_atomically(path, trimesh.PointCloud(points[:SHOWN_POINTS].numpy()).export(file_type="ply"))


def _save(picture: Any, path: pathlib.Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def _draw(pictures: list[tuple[Row, list]], strips: list, output: pathlib.Path) -> None:
    headings = [*HEADINGS, "mesh", "another side", "normals", "truth"]
    captions = [
        "   ".join(
            [
                row.name,
                *(f"{name} x10 {10 * row.values[name]:.3f}" for name in ("accuracy", "coverage") if name in row.values),
                row.status,
            ]
        )
        for row, _ in pictures
    ]
    _save(gallery([cells for _, cells in pictures], headings, captions, cell=128), output / "gallery.png")
    _save(gallery([[picture] for picture in strips], [""], captions, cell=1024), output / "turntable.png")
