"""The report of an evaluation's output folder."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import trimesh
from PIL import Image

from sdfsrn.callbacks.pictures import HEADINGS
from sdfsrn.pictures import short_name
from sdfsrn.report import Metric, ReportObject, write_report
from sdfsrn.results import Row, is_error

FACTS = ("objects", "measured", "failures", "without_truth", "unreadable", "version", "protocol")
SHOWN = 8  # of the best objects, of those in the middle, and of the worst


def report_evaluation(output: pathlib.Path, rows: Sequence[Row], summary: Mapping[str, Any]) -> pathlib.Path:
    """Write `report.html`, with pictures and meshes of the best, middle and worst objects, from what `evaluate` wrote.

    An object without a PLY file of its mesh has only its row.
    """
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
    facts = {key.replace("_", " "): summary[key] for key in FACTS}
    table = [
        {"name": row.name, "status": row.status, **{name: row.values.get(name) for name in names}, "faces": row.faces}
        for row in rows
    ]
    objects = {place: _object(output, rows[place]) for place in choose(rows, names)}
    path = output / "report.html"
    write_report(path, short_name(str(output.resolve())), facts, metrics, table, objects)
    return path


def choose(rows: Sequence[Row], names: Sequence[str], shown: int = SHOWN) -> list[int]:
    """Places of the best, middle and worst rows by the first metric they have, of those with a mesh to show."""
    places = [i for i, row in enumerate(rows) if row.mesh]
    key = next((name for name in ("chamfer", *names) if any(name in rows[i].values for i in places)), None)
    if key is not None:
        worst = np.inf if is_error(key) else -np.inf
        places.sort(key=lambda i: rows[i].values.get(key, worst))
    middle = max(0, len(places) // 2 - shown // 2)
    return sorted({*places[:shown], *places[middle : middle + shown], *places[-shown:]})


def _object(output: pathlib.Path, row: Row) -> ReportObject:
    stem = row.mesh
    strip = np.asarray(Image.open(output / "pictures" / f"{stem}.png").convert("RGB"))
    pictures = dict(zip(HEADINGS, np.split(strip, len(HEADINGS), axis=1), strict=True))
    path, cloud = output / "meshes" / f"{stem}.ply", output / "truth" / f"{stem}.ply"
    mesh: Any = trimesh.load(path, process=False) if path.is_file() else trimesh.Trimesh()
    points: Any = trimesh.load(cloud) if cloud.is_file() else None
    return ReportObject(pictures, mesh, None if points is None else np.asarray(points.vertices))
