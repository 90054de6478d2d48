"""The report of an evaluation's folder, made from the files in it."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import trimesh

from sdfsrn.data.images import open_image
from sdfsrn.data.source import short_name
from sdfsrn.evaluation.html import Metric, ReportObject, write_report
from sdfsrn.evaluation.previews import HEADINGS
from sdfsrn.evaluation.summary import Row, file_stem, is_error, read_rows
from sdfsrn.meshes.io import SUFFIXES, read_mesh
from sdfsrn.runtime.files import reading
from sdfsrn.runtime.texts import read_json

FACTS = ("objects", "measured", "failures", "without_truth", "unreadable", "version", "protocol")
REPORT = "report.html"
SHOWN = 8  # of the best objects, of those in the middle, of the worst, and of those without numbers


def report_evaluation(folder: pathlib.Path) -> pathlib.Path:
    """Write the REPORT from an evaluation's numbers, with pictures and meshes of some objects, see `choose`.

    Raises:
        ValueError: not an evaluation's folder.
        OSError: pictures of an object are missing.
    """
    rows, summary = _read(folder)
    with reading(folder / "summary.json", "a summary"):
        known = {**summary["about"], **{key: summary[key] for key in FACTS}}
        facts = {key.replace("_", " "): value for key, value in known.items()}
        metrics = _metrics(summary)
    table = [
        {"name": row.name, "status": row.status, **{name: row.values.get(name) for name in metrics}, "faces": row.faces}
        for row in rows
    ]
    objects = {place: _object(folder, rows[place]) for place in choose(rows, list(metrics))}
    path = folder / REPORT
    write_report(path, short_name(str(folder.resolve())), facts, metrics, table, objects)
    return path


def choose(rows: Sequence[Row], names: Sequence[str], shown: int = SHOWN) -> list[int]:
    """Places of the best, middle and worst rows by the first metric there is, and of some without it."""
    places = [i for i, row in enumerate(rows) if not row.status.startswith("unreadable")]
    key = next((name for name in ("chamfer", *names) if any(name in rows[i].values for i in places)), None)
    ranked = [i for i in places if key in rows[i].values]
    if key is not None:
        ranked.sort(key=lambda i: rows[i].values[key], reverse=not is_error(key))
    middle = max(0, len(ranked) // 2 - shown // 2)
    others = [i for i in places if key not in rows[i].values]
    return sorted({*ranked[:shown], *ranked[middle : middle + shown], *ranked[-shown:], *others[:shown]})


def _read(folder: pathlib.Path) -> tuple[list[Row], dict[str, Any]]:
    """The rows and the summary of an evaluation."""
    for name in ("metrics.csv", "summary.json"):
        if not (folder / name).is_file():
            raise ValueError(f"Expected the folder of an evaluation, got no {name} in {folder}")
    summary = read_json(folder / "summary.json")
    if missing := [key for key in ("about", "metrics", *FACTS) if not isinstance(summary, dict) or key not in summary]:
        raise ValueError(f"Expected an evaluation's summary, got none of {missing[0]} in {folder / 'summary.json'}")
    return read_rows(folder / "metrics.csv"), summary


def _metrics(summary: Mapping[str, Any]) -> dict[str, Metric]:
    """Statistics of each metric, beside those before optimization and those of the references."""
    others = {"before optimization": summary["before_optimization"]} if "before_optimization" in summary else {}
    others |= summary.get("references", summary.get("baselines", {}))  # as the key was called before
    return {
        name: Metric(
            model["mean"],
            model["median"],
            (model["low"], model["high"]),
            {other: line["metrics"][name]["mean"] for other, line in others.items() if name in line["metrics"]},
            higher_is_better=not is_error(name),
        )
        for name, model in summary["metrics"].items()
    }


def _object(folder: pathlib.Path, row: Row) -> ReportObject:
    stem = file_stem(row.number, row.name)
    strip = np.asarray(open_image(folder / "pictures" / f"{stem}.png").convert("RGB"))
    pictures = dict(zip(HEADINGS, np.split(strip, len(HEADINGS), axis=1), strict=True))
    mesh = _mesh(folder / "meshes" / row.mesh) if row.faces else trimesh.Trimesh()
    cloud = folder / "truth" / f"{stem}.ply"
    with reading(cloud, "points"):
        points: Any = trimesh.load(cloud) if cloud.is_file() else None
    return ReportObject(pictures, mesh, None if points is None else np.asarray(points.vertices))


def _mesh(stem: pathlib.Path) -> trimesh.Trimesh | None:
    """The mesh in one of its files, with vertex colours; None without a file."""
    path = next((path for suffix in SUFFIXES if (path := stem.with_name(f"{stem.name}{suffix}")).is_file()), None)
    if path is None:
        return None
    mesh: Any = read_mesh(path)
    colors = np.zeros((len(mesh.vertices), 3))
    colors[mesh.faces] = mesh.visual.color  # corners to vertices
    return trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=np.round(colors * 255).astype(np.uint8), process=False)
