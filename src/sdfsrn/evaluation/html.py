"""An evaluation as one HTML page that needs no network: numbers, histograms, pictures, and meshes in 3D."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import importlib.resources
import json
import math
import pathlib
import string
import zlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import trimesh
import trimesh.viewer
from jaxtyping import Float, Int, UInt8

from sdfsrn.meshes.io import mesh_colors
from sdfsrn.runtime.files import png_bytes, write_atomically

MOST_FACES = 60_000  # of a mesh in the page: 24 objects stay below 25 MB
MOST_POINTS = 15_000
_STEPS = 65_535  # a vertex is one of 2^16 places along each side of its mesh's box


class Metric(NamedTuple):
    """Statistics of a column of the rows."""

    mean: float | None
    median: float | None
    interval: tuple[float, float] | None = None  # 95 % of the mean, over objects
    references: Mapping[str, float] = MappingProxyType({})  # means to compare with, by name
    higher_is_better: bool = False


class ReportObject(NamedTuple):
    """Pictures and shapes of an object; mesh and truth in one frame, y up."""

    pictures: Mapping[str, UInt8[np.ndarray, "_ _ 3"]]  # by heading, in this order; the first two stand for the object in lists
    mesh: trimesh.Trimesh | None  # with vertex colours; without faces if there is no surface, None if it is in no file
    truth: Float[np.ndarray, "n 3"] | trimesh.Trimesh | None  # points in random order, or a mesh


def write_report(
    path: pathlib.Path,
    title: str,
    facts: Mapping[str, Any],
    metrics: Mapping[str, Metric],
    rows: Sequence[Mapping[str, Any]],
    objects: Mapping[int, ReportObject],
) -> None:
    """Write the page atomically. It loads nothing from elsewhere, and names and facts are never read as HTML.

    Args:
        path: of the file.
        title: in words, such as "SDF-SRN on chairs".
        facts: data set, version, seed, ...; a mapping, such as the protocol, folds away under its name.
        metrics: columns to compare objects by; the first is selected when the page opens.
        rows: one per object, all with the same columns: `name`, `status` ("ok", "failure: ...", or the reason why it was not
            measured), the metrics, and any others. NaN and None are shown as missing.
        objects: pictures and meshes of some of the rows, by position. Meshes of more than 60,000 faces are made coarser
            and clouds of more than 15,000 points are cut; the page says so.

    Raises:
        ValueError: rows of different columns, a metric that is no column, an object that is no row.
    """
    columns = list(rows[0]) if rows else ["name", "status", *metrics]
    if any(list(row) != columns for row in rows):
        raise ValueError(f"Expected rows of the columns {', '.join(columns)}, got others for {path}")
    if missing := [name for name in ("name", "status", *metrics) if name not in columns]:
        raise ValueError(f"Expected a column {missing[0]}, got {', '.join(columns)} for {path}")
    if unknown := [index for index in objects if not 0 <= index < len(rows)]:
        raise ValueError(f"Expected objects among the {len(rows)} rows, got number {unknown[0]} for {path}")
    content = {
        "title": title,
        "facts": facts,
        "metrics": {name: metric._asdict() for name, metric in metrics.items()},
        "columns": columns,
        "rows": [list(row.values()) for row in rows],
        "objects": {str(index): _object(item) for index, item in objects.items()},
    }
    write_atomically(path, _page(title, content).encode(errors="replace"))


def _page(title: str, content: Mapping[str, Any]) -> str:
    """The template filled in. Its security policy names script and style by their hash, so that no other script runs."""
    style, script = _asset("report.css"), three() + _asset("viewer.js") + _asset("report.js")
    return string.Template(_asset("report.html")).substitute(
        title=html.escape(title),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        data=json.dumps(_plain(content), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
    )


@functools.cache
def three() -> str:
    """three.js, from trimesh, which bundles it in the page of its own viewer; without that viewer's program.

    Raises:
        ValueError: this version of trimesh has another bundle.
    """
    page = trimesh.viewer.scene_to_html(trimesh.Scene([trimesh.creation.box()]))
    library, end, _ = page.partition("<script>")[2].partition("THREE.GLTFLoader=GLTFLoader;})();")
    if not end:
        raise ValueError(f"Expected three.js in the viewer of trimesh, got another program in trimesh {trimesh.__version__}")
    return f"{library}{end}\n"


def _asset(name: str) -> str:
    return (importlib.resources.files("sdfsrn.evaluation") / "assets" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _plain(value: Any) -> Any:
    """Convert to values of JSON: NaN and infinity to None, unknown objects to their text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _object(item: ReportObject) -> dict[str, Any]:
    return {
        "pictures": {heading: _text(png_bytes(picture)) for heading, picture in item.pictures.items()},
        "mesh": None if item.mesh is None else _mesh(item.mesh, smooth=True),
        "written": item.mesh is not None,
        "truth": _truth(item.truth),
    }


def _truth(truth: Float[np.ndarray, "n 3"] | trimesh.Trimesh | None) -> dict[str, Any] | None:
    if isinstance(truth, trimesh.Trimesh):
        return _mesh(truth, smooth=False)  # models have edges
    points = np.zeros((0, 3)) if truth is None else np.asarray(truth, float)
    points = points[np.isfinite(points).all(-1)]
    if len(points) == 0:
        return None
    drawn = points[:MOST_POINTS]
    return _shape(drawn, np.zeros((0, 3), int)) | _size(len(points), len(drawn), "points")


def _mesh(mesh: trimesh.Trimesh, smooth: bool) -> dict[str, Any] | None:
    """Pack a mesh without its unused vertices and its faces with a NaN corner; None if no face is left."""
    vertices, faces, colors = np.asarray(mesh.vertices, float), np.asarray(mesh.faces), mesh_colors(mesh)
    faces = faces[np.isfinite(vertices).all(-1)[faces].all(-1)]
    if len(faces) == 0:
        return None
    used, corners = np.unique(faces, return_inverse=True)
    values = [vertices[used]] if colors is None else [vertices[used], colors[used, :3].astype(float)]
    coarse, (places, *colored) = coarsen(corners.reshape(-1, 3), values, MOST_FACES)
    return _shape(places, coarse, *colored) | _size(len(mesh.faces), len(coarse), "faces") | {"smooth": smooth}


def _size(count: int, drawn: int, unit: str) -> dict[str, Any]:
    return {"size": f"{count:,} {unit}", "drawn": f"{drawn:,}" if drawn < count else None}


def coarsen(
    faces: Int[np.ndarray, "f 3"], values: Sequence[Float[np.ndarray, "n _"]], most: int
) -> tuple[Int[np.ndarray, "g 3"], list[Float[np.ndarray, "k _"]]]:
    """Merge vertices until at most `most` faces are left; the faces, and the vertices' values (positions first).

    Vertices in one cubic cell of a grid become their mean, and faces that collapse disappear. The cells are as small as
    possible. A mesh of no more faces stays unchanged.
    """
    vertices = values[0]
    if len(faces) <= most:
        return faces, list(values)
    low, extent = vertices.min(0), np.ptp(vertices, 0).max()
    # Two and a half faces lie in a cell's square of surface.
    cell = max(math.sqrt(2.5 * trimesh.triangles.area(vertices[faces]).sum() / most), extent / 2**20, 1e-12)
    while True:
        index = ((vertices - low) / cell).astype(np.int64)
        _, label, count = np.unique(np.ravel_multi_index(index.T, index.max(0) + 1), return_inverse=True, return_counts=True)
        merged = label[faces]
        merged = merged[(merged != np.roll(merged, 1, axis=1)).all(-1)]
        if len(merged) <= most:
            means = [np.stack([np.bincount(label, column) / count for column in value.T], -1) for value in values]
            return merged, means
        cell *= 1.05


def _shape(
    vertices: Float[np.ndarray, "n 3"], faces: Int[np.ndarray, "f 3"], colors: Float[np.ndarray, "n 3"] | None = None
) -> dict[str, Any]:
    low, extent = vertices.min(0), np.ptp(vertices, 0)
    places = np.round((vertices - low) / np.maximum(extent, 1e-12) * _STEPS)
    # Neighbouring faces have neighbouring corners: their differences deflate better than the numbers.
    steps = np.diff(faces.reshape(-1), prepend=0)
    return {
        "low": low.tolist(),
        "extent": extent.tolist(),
        "vertices": _packed(places.astype("<u2")),
        "faces": _packed(steps.astype("<i4")),
        "colors": None if colors is None else _packed(colors.round().astype(np.uint8)),
    }


def _packed(array: np.ndarray) -> str:
    return _text(zlib.compress(array.tobytes()))


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
