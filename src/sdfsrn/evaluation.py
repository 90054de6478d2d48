"""Measuring a trained model on a split: a row an object, a summary with baselines, meshes and a gallery."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
import math
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import trimesh
from rich.console import Console
from rich.table import Table
from torch import Tensor
from tqdm import tqdm

from sdfsrn import baselines
from sdfsrn.callbacks.pictures import HEADINGS, view_pictures
from sdfsrn.data.views import ViewsDataset, collate_views
from sdfsrn.functional.pointcloud import chamfer_distance
from sdfsrn.meshes import write_mesh
from sdfsrn.pictures import gallery, short_name, strip
from sdfsrn.protocol import Protocol
from sdfsrn.rendering import orbit_camera, render_mesh, render_points, turntable
from sdfsrn.structures import Views
from sdfsrn.system import SDFSRN

log = logging.getLogger(__name__)
PICTURED = 24  # objects in the gallery


class Row(NamedTuple):
    """One object of `metrics.csv`; distances in the world's unit, NaN for a failure."""

    name: str
    accuracy: float
    coverage: float
    chamfer: float
    status: str  # ok, or why it could not be measured
    vertices: int
    faces: int


def evaluate(
    model: SDFSRN,
    dataset: ViewsDataset,
    protocol: Protocol,
    output: pathlib.Path,
    formats: Sequence[str] = ("ply", "obj", "glb"),
    limit: int | None = None,
    reference: ViewsDataset | None = None,
) -> dict[str, Any]:
    """Reconstruct and measure every picture of a split; the best constant shape is one of the `reference` split's.

    Writes `metrics.csv` (a row an object), `summary.json`, `meshes/<number>_<name>.<format>`, `gallery.png` and
    `turntable.png` of the first objects into `output`, shows the summary as a table, and returns it.
    """
    model.eval()
    (output / "meshes").mkdir(parents=True, exist_ok=True)
    count = min(len(dataset), limit or len(dataset))
    rows, truths, pictures, strips = [], [], [], []
    measured_against = set(baselines.spread(count, baselines.OBJECTS))
    for index in tqdm(range(count), "Evaluating", unit="object"):
        views = model.transfer_batch_to_device(collate_views([dataset[index]]), model.device, 0)
        name = short_name(dataset.source.names[index])
        with torch.no_grad():
            mesh = protocol.mesh(model(views.image), color=True)
        truth = protocol.truth(views.points[0].cpu())
        rows.append(measure(name, mesh, truth, protocol))
        if index in measured_against:
            truths.append(truth)
        if len(mesh.faces):
            for suffix in formats:
                write_mesh(mesh, output / "meshes" / f"{index:04d}_{name}.{suffix}")
        if index < PICTURED:
            pictures.append([*view_pictures(model, views)[0], *mesh_pictures(mesh, truth, views)])
            strips.append(np.asarray(strip(turntable(mesh, frames=8, size=128))))
    _write(rows, output)
    _draw(rows, pictures, strips, output)
    found = {
        "untrained sphere": baselines.sphere(truths, protocol),
        "best constant shape": baselines.best_constant(_clouds(reference, protocol), truths, protocol),
    }
    summary = summarize(rows, protocol) | {"baselines": {name: line for name, line in found.items() if line is not None}}
    (output / "summary.json").write_text(json.dumps(summary, indent=2))
    show(summary)
    log.info("Wrote %s", output)
    return summary


def measure(name: str, mesh: trimesh.Trimesh, truth: Tensor, protocol: Protocol) -> Row:
    """Accuracy and coverage of a mesh, registered as the protocol says.

    An empty mesh is a failure, an object without truth is not measured.
    """
    status, accuracy, coverage = "ok", math.nan, math.nan
    if len(mesh.faces) == 0:
        status = "failure: no surface"
    elif len(truth) == 0:
        status = "no ground truth"
    else:
        predicted = protocol.align(protocol.sample(mesh), truth)
        accuracy, coverage = (float(d) for d in chamfer_distance(predicted, truth))
    return Row(name, accuracy, coverage, (accuracy + coverage) / 2, status, len(mesh.vertices), len(mesh.faces))


def summarize(rows: Sequence[Row], protocol: Protocol) -> dict[str, Any]:
    """Means over the measured objects, counts, and the protocol."""
    from sdfsrn import __version__

    measured = [row for row in rows if row.status == "ok"]
    means = {
        name: float(np.mean([getattr(row, name) for row in measured])) if measured else None
        for name in ("accuracy", "coverage", "chamfer")
    }
    return {
        **means,
        **{f"{name}_x10": None if value is None else 10 * value for name, value in means.items()},
        "objects": len(rows),
        "measured": len(measured),
        "failures": sum(row.status.startswith("failure") for row in rows),
        "protocol": dataclasses.asdict(protocol),
        "version": __version__,
    }


def show(summary: dict[str, Any]) -> None:
    """The summary as a table."""
    table = Table("", "accuracy", "coverage", "accuracy x10", "coverage x10", title="Mean Chamfer distances (lower is better)")
    lines = {"this model": summary, **summary["baselines"]}
    for name, line in lines.items():
        raw = [line["accuracy"], line["coverage"]]
        if None not in raw:
            table.add_row(name, *(f"{x:.4f}" for x in raw), *(f"{10 * x:.3f}" for x in raw))
    table.caption = f"{summary['measured']} of {summary['objects']} objects measured, {summary['failures']} failures"
    Console().print(table)


def mesh_pictures(mesh: trimesh.Trimesh, truth: Tensor, views: Views) -> list[np.ndarray]:
    """The mesh from the input's camera and from another side, which has the truth in sight, and the true points from there."""
    camera = type(views.camera)(*(t[0].cpu() for t in views.camera))
    side = orbit_camera(_cube(truth), azimuth=215, elevation=20)
    aside = render_mesh(mesh, side, 160)
    return [render_mesh(mesh, camera, 160).color, aside.color, aside.normals, render_points(truth.numpy(), side, 160)]


def _cube(points: Tensor) -> trimesh.Trimesh:
    """A cube about the middle of the points' bounding box, as wide as its longest side; of side 1 without points."""
    if len(points) == 0:
        return trimesh.creation.box((1.0, 1.0, 1.0))
    low, high = points.amin(0).double(), points.amax(0).double()
    cube = trimesh.creation.box([max(float((high - low).max()), 1e-6)] * 3)
    return cube.apply_translation(((low + high) / 2).numpy())


def _clouds(dataset: ViewsDataset | None, protocol: Protocol) -> dict[str, Tensor]:
    """Clouds of some pictures of a split, evenly spaced over it: candidates for the best constant shape."""
    if dataset is None:
        return {}
    source = dataset.source
    chosen = baselines.spread(len(source), baselines.CANDIDATES)
    clouds = {short_name(source.names[i]): torch.from_numpy(source.points(i)) for i in chosen}
    return {name: protocol.truth(cloud) for name, cloud in clouds.items() if len(cloud)}


def _write(rows: Sequence[Row], output: pathlib.Path) -> None:
    with (output / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        writer.writerows(rows)


def _draw(rows: Sequence[Row], pictures: list, strips: list, output: pathlib.Path) -> None:
    headings = [*HEADINGS, "mesh", "another side", "normals", "truth"]
    captions = [
        f"{row.name}   accuracy x10 {10 * row.accuracy:.3f}   coverage x10 {10 * row.coverage:.3f}   {row.status}"
        for row in rows[: len(pictures)]
    ]
    gallery(pictures, headings, captions, cell=128).save(output / "gallery.png")
    gallery([[picture] for picture in strips], [""], captions, cell=1024).save(output / "turntable.png")
