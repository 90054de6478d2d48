"""The report of an evaluation's output folder."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import trimesh
from PIL import Image

from sdfsrn.data.source import short_name
from sdfsrn.evaluation.html import Metric, ReportObject, write_report
from sdfsrn.evaluation.previews import HEADINGS
from sdfsrn.evaluation.results import Row, file_stem, is_error
from sdfsrn.meshes.io import SUFFIXES, read_mesh

FACTS = ("objects", "measured", "failures", "without_truth", "unreadable", "version", "protocol")
SHOWN = 8  # of the best objects, of those in the middle, of the worst, and of those without numbers


def report_evaluation(output: pathlib.Path, rows: Sequence[Row], summary: Mapping[str, Any]) -> pathlib.Path:
    """Write `report.html`, with pictures and meshes of some objects (see `choose`), from what `evaluate` wrote."""
    names = list(summary["metrics"])
    rivals = {name: summary["baselines"][name] for name in summary["baselines"]}
    if "before_optimization" in summary:
        rivals = {"before optimization": summary["before_optimization"], **rivals}
    metrics = {
        name: Metric(
            found["mean"],
            found["median"],
            (found["low"], found["high"]),
            {rival: line["metrics"][name]["mean"] for rival, line in rivals.items() if name in line["metrics"]},
            higher_is_better=not is_error(name),
        )
        for name, found in summary["metrics"].items()
    }
    known = {**summary["about"], **{key: summary[key] for key in FACTS}}
    facts = {key.replace("_", " "): value for key, value in known.items()}
    table = [
        {"name": row.name, "status": row.status, **{name: row.values.get(name) for name in names}, "faces": row.faces}
        for row in rows
    ]
    objects = {place: _object(output, rows[place]) for place in choose(rows, names)}
    path = output / "report.html"
    write_report(path, short_name(str(output.resolve())), facts, metrics, table, objects)
    return path


def choose(rows: Sequence[Row], names: Sequence[str], shown: int = SHOWN) -> list[int]:
    """Places of the best, middle and worst rows by the first metric there is, and of some that could not be measured."""
    places = [i for i, row in enumerate(rows) if not row.status.startswith("unreadable")]
    key = next((name for name in ("chamfer", *names) if any(name in rows[i].values for i in places)), None)
    found = [i for i in places if key in rows[i].values]
    if key is not None:
        found.sort(key=lambda i: rows[i].values[key], reverse=not is_error(key))
    middle = max(0, len(found) // 2 - shown // 2)
    others = [i for i in places if key not in rows[i].values]
    return sorted({*found[:shown], *found[middle : middle + shown], *found[-shown:], *others[:shown]})


def _object(output: pathlib.Path, row: Row) -> ReportObject:
    stem = file_stem(row.number, row.name)
    strip = np.asarray(Image.open(output / "pictures" / f"{stem}.png").convert("RGB"))
    pictures = dict(zip(HEADINGS, np.split(strip, len(HEADINGS), axis=1), strict=True))
    mesh = _written(output / "meshes" / row.mesh) if row.faces else trimesh.Trimesh()
    cloud = output / "truth" / f"{stem}.ply"
    points: Any = trimesh.load(cloud) if cloud.is_file() else None
    return ReportObject(pictures, mesh, None if points is None else np.asarray(points.vertices))


def _written(stem: pathlib.Path) -> trimesh.Trimesh | None:
    """The mesh in one of its files, with vertex colours; None if there is none."""
    path = next((path for suffix in SUFFIXES if (path := stem.with_name(f"{stem.name}{suffix}")).is_file()), None)
    if path is None:
        return None
    mesh: Any = read_mesh(path)
    colors = np.zeros((len(mesh.vertices), 3))
    colors[mesh.faces] = mesh.visual.color  # of the corners, and so of the vertices
    return trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=np.round(colors * 255).astype(np.uint8), process=False)
