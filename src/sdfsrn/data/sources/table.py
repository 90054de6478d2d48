"""The table of a user's own pictures, `cameras.csv` or `cameras.json`: read and checked row by row."""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from sdfsrn.data.conventions import CONVENTIONS, PROJECTIONS, camera_from_angles, camera_from_matrices, screen_matrix
from sdfsrn.data.conventions import convention_with_angles as check_angles
from sdfsrn.data.cropping import Window
from sdfsrn.data.source import SPLITS
from sdfsrn.functional.camera import Camera
from sdfsrn.runtime.files import reading, write_atomically
from sdfsrn.runtime.texts import read_text, table_rows

ANGLES = ("azimuth", "elevation", "theta")
PLACE = ("scale", "x", "y")
MATRICES = ("world_to_camera", "intrinsics")
NUMBERS = (*ANGLES, *PLACE, *MATRICES)
COLUMNS = ("image", "mask", "split", "shape", *NUMBERS, "projection", "convention")
DRAWN = (*["train"] * 8, "val", "test")  # splits of a table that names none, over and over
SHOWN = 5  # bad rows that one error tells of

T = TypeVar("T")


class Angles(NamedTuple):
    """A weak-perspective pose, in degrees and a convention's pixel coordinates."""

    angles: tuple[float, float, float]  # azimuth, elevation, theta
    scale: float | None  # None: the world's unit is half the side of the window
    origin: tuple[float, float] | None  # None: it falls on the middle of the silhouette's box
    projection: str = "orthographic"

    def camera(self, convention: str, size: tuple[int, int], window: Window, middle: tuple[float, float]) -> Camera:
        """Our camera of the whole picture of `size` (width, height); window and middle are in pixels."""
        from_pixels = np.linalg.inv(screen_matrix(convention, size)) @ screen_matrix("opengl", size)
        x, y, _ = from_pixels @ [*middle, 1]
        scale = self.scale or window.side / 2 * from_pixels[0, 0]
        return camera_from_angles(self.angles, scale, self.origin or (x, y), convention, size)


class Matrices(NamedTuple):
    """A pose and its intrinsics, as in the convention."""

    world_to_camera: np.ndarray
    intrinsics: np.ndarray
    projection: str

    def camera(self, convention: str, size: tuple[int, int], window: Window, middle: tuple[float, float]) -> Camera:
        """Our camera of the whole picture of `size` (width, height), wherever the object is."""
        return camera_from_matrices(self.world_to_camera, self.intrinsics, convention, size, self.projection)


class FolderRecord(NamedTuple):
    """One checked row."""

    where: str  # for messages: "row 3"
    image: str
    mask: str
    split: str
    shape: str
    convention: str
    pose: Angles | Matrices


def read_table(root: pathlib.Path, convention: str | None) -> list[FolderRecord]:
    """All rows of a folder's table, whose poses follow one convention, named by the argument or by its column.

    Raises:
        ValueError: no table or two; unknown columns; no rows; and the first few bad rows together.
    """
    path, rows = _open(root)
    if not rows:
        raise ValueError(f"Expected at least one row in {path}, got none.")
    if convention is not None and convention not in CONVENTIONS:
        raise ValueError(f"Expected data.convention to be one of {', '.join(CONVENTIONS)}, got {convention}.")
    if not any(row.get("split") for _, row in rows):
        rows = [(where, row | {"split": DRAWN[i % len(DRAWN)]}) for i, (where, row) in enumerate(rows)]
    records = collect(rows, lambda row: _record(row[0], row[1], convention), path)
    _check_equal("convention", {record.where: record.convention for record in records}, path)
    _check_equal("projection", {record.where: record.pose.projection for record in records}, path)
    collect(records, _once(), path)
    return records


def read_rows(root: pathlib.Path) -> tuple[pathlib.Path, list[dict[str, str]]]:
    """A folder's table, and its rows as they stand there, cells as text.

    Raises:
        ValueError: no table or two, or one that cannot be read.
    """
    path, rows = _open(root)
    return path, [row for _, row in rows]


def write_rows(path: pathlib.Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write a table with the columns of all its rows, in the order of COLUMNS; CSV or JSON by the path's suffix."""
    if path.suffix == ".json":
        return write_atomically(path, json.dumps([dict(row) for row in rows], indent=1).encode())
    text = io.StringIO()
    writer = csv.DictWriter(text, [name for name in COLUMNS if any(name in row for row in rows)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())


def collect(items: Iterable[Any], function: Callable[[Any], T], path: pathlib.Path) -> list[T]:
    """The results for all items; ValueError with the first few messages together, in one line, if there are any."""
    results, problems = [], []
    for item in items:
        try:
            results.append(function(item))
        except ValueError as error:
            problems.append(str(error).removesuffix("."))
    if problems:
        more = f"; and {len(problems) - SHOWN} more rows" if len(problems) > SHOWN else ""
        raise ValueError(f"{'; '.join(problems[:SHOWN])}{more} of {path}.")
    return results


def table_path(root: pathlib.Path) -> pathlib.Path:
    """A folder's table. Raises ValueError for no folder, no table, or two."""
    if not root.is_dir():
        raise ValueError(f"Expected pictures in {root}, which does not exist: set data.root to the folder that holds them.")
    paths = [path for path in (root / "cameras.csv", root / "cameras.json") if path.is_file()]
    if len(paths) != 1:
        raise ValueError(f"Expected either cameras.csv or cameras.json in {root}, got {'both' if paths else 'none'}.")
    return paths[0]


def _open(root: pathlib.Path) -> tuple[pathlib.Path, list[tuple[str, dict[str, str]]]]:
    path = table_path(root)
    text = read_text(path, "a table")
    with reading(path, "a table"):
        rows = _json_rows(text) if path.suffix == ".json" else table_rows(text, NUMBERS)
    _check_columns(dict.fromkeys(name for _, row in rows for name in row), path)
    return path, rows


def _json_rows(text: str) -> list[tuple[str, dict[str, str]]]:
    rows = json.loads(text)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("expected a list of objects")
    return [(f"row {i}", {key: _cell(value) for key, value in row.items()}) for i, row in enumerate(rows, 1)]


def _cell(value: Any) -> str:
    """A value of JSON as it would stand in CSV: matrices row by row."""
    if isinstance(value, list):
        return " ".join(_cell(item) for item in value)
    return "" if value is None else str(value).strip()


def _check_columns(names: Iterable[str], path: pathlib.Path) -> None:
    for name in names:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(COLUMNS)}."
            raise ValueError(f'Expected known columns in {path}, got "{name}": {hint}')


def _record(where: str, row: dict[str, str], convention: str | None) -> FolderRecord:
    try:
        cells = {name: text for name, text in row.items() if text}
        if "image" not in cells:
            raise ValueError("expected the path of an image")
        split = cells.get("split", "train")
        _one_of("split", split, SPLITS)
        stated = cells.get("convention", convention)
        if stated is None:
            raise ValueError(f"expected a convention, {', '.join(CONVENTIONS)}, in a column or as data.convention")
        _one_of("convention", stated, CONVENTIONS)
        if convention not in (None, stated):
            raise ValueError(f"expected convention {convention} as data.convention says, got {stated}")
        pose = _pose(cells, stated)
        if "shape" in cells and split != "train" and isinstance(pose, Angles) and pose.scale is None:
            raise ValueError("expected a scale beside a shape, since without one the world's unit follows from the picture")
        return FolderRecord(where, cells["image"], cells.get("mask", ""), split, cells.get("shape", ""), stated, pose)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _pose(cells: dict[str, str], convention: str) -> Angles | Matrices:
    by_angles = [name for name in (*ANGLES, *PLACE) if name in cells]
    by_matrices = [name for name in MATRICES if name in cells]
    if bool(by_angles) == bool(by_matrices):
        got = f"{by_angles[0]} and {by_matrices[0]}" if by_angles else "neither"
        raise ValueError(f"expected a pose, either {', '.join(ANGLES)} or {' and '.join(MATRICES)}, got {got}")
    if by_angles:
        check_angles(convention)
        _together(cells, ANGLES)
        _one_of("projection of angles", cells.get("projection", "orthographic"), ("orthographic",))
        azimuth, elevation, theta = (_numbers(cells, name, 1)[0] for name in ANGLES)
        if not -90 <= elevation <= 90:
            raise ValueError(f"expected an elevation between -90 and 90 degrees, got {elevation:g}")
        return Angles((azimuth, elevation, theta), _scale(cells), _origin(cells))
    _together(cells, MATRICES)
    projection = cells.get("projection", "perspective")
    _one_of("projection", projection, PROJECTIONS)
    pose = np.array(_numbers(cells, "world_to_camera", 12)).reshape(3, 4)
    rotation = pose[:, :3]
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) or np.linalg.det(rotation) < 0:
        raise ValueError("expected a rotation in world_to_camera (orthonormal, no mirroring), got another matrix")
    return Matrices(pose, _intrinsics(cells), projection)


def _intrinsics(cells: dict[str, str]) -> np.ndarray:
    values = _numbers(cells, "intrinsics", 4, 9)
    fx, fy, cx, cy = values if len(values) == 4 else (values[i] for i in (0, 4, 2, 5))
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    if fx <= 0 or fy <= 0 or (len(values) == 9 and not np.array_equal(matrix.flatten(), values)):
        raise ValueError("expected intrinsics fx 0 cx 0 fy cy 0 0 1 with positive fx and fy and no skew")
    return matrix


def _scale(cells: dict[str, str]) -> float | None:
    if "scale" not in cells:
        return None
    (scale,) = _numbers(cells, "scale", 1)
    if scale <= 0:
        raise ValueError(f"expected a positive scale, got {scale:g}")
    return scale


def _origin(cells: dict[str, str]) -> tuple[float, float] | None:
    if "x" not in cells and "y" not in cells:
        return None
    _together(cells, ("x", "y"))
    return _numbers(cells, "x", 1)[0], _numbers(cells, "y", 1)[0]


def _numbers(cells: dict[str, str], name: str, *counts: int) -> list[float]:
    words = cells[name].split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise ValueError(f'expected numbers in {name}, got "{cells[name]}"') from None
    if len(values) not in counts:
        raise ValueError(f"expected {' or '.join(map(str, counts))} numbers in {name}, got {len(values)}")
    if not all(map(math.isfinite, values)):
        raise ValueError(f"expected finite numbers in {name}, got {cells[name]}")
    return values


def _together(cells: dict[str, str], names: tuple[str, ...]) -> None:
    missing = [name for name in names if name not in cells]
    if missing:
        raise ValueError(f"expected {', '.join(names)} together, got no {' and no '.join(missing)}")


def _one_of(name: str, value: str, choices: Iterable[str]) -> None:
    if value not in choices:
        near = difflib.get_close_matches(value, list(choices), 1)
        hint = f": did you mean {near[0]}?" if near else ""
        raise ValueError(f"expected {name} to be one of {', '.join(choices)}, got {value}{hint}")


def _check_equal(name: str, values: dict[str, str], path: pathlib.Path) -> None:
    """Raise ValueError, naming two rows, if not all rows have the same value."""
    first, expected = next(iter(values.items()))
    for where, value in values.items():
        if value != expected:
            raise ValueError(
                f"Expected one {name} for all pictures, got {expected} in {first} and {value} in {where} of {path}."
            )


def _once() -> Callable[[FolderRecord], None]:
    """A check that raises ValueError for a picture and mask that an earlier row has already."""
    seen: dict[tuple[str, str], str] = {}

    def check(record: FolderRecord) -> None:
        first = seen.setdefault((record.image, record.mask), record.where)
        if first != record.where:
            raise ValueError(f"{record.where}: expected every object once, got {record.image} as in {first}")

    return check
