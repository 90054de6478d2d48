"""Refined poses as files: the table of a run, the pictures that moved most, and taking them over into a folder."""

from __future__ import annotations

import csv
import io
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from scipy.spatial.transform import Rotation
from torch import Tensor

from sdfsrn.data.conventions import CONVENTIONS, angles_from_rotation, rotation_from_angles
from sdfsrn.data.preparing.inspection import contact_sheet
from sdfsrn.data.source import ImageSample, Source
from sdfsrn.data.sources.table import ANGLES, read_rows, write_rows
from sdfsrn.metrics.pose import PoseError
from sdfsrn.runtime.files import reading, write_atomically
from sdfsrn.runtime.texts import read_text, table_rows

CONVENTION = "nmr"  # of the angles in `poses.csv`
COLUMNS = (
    "image",
    *ANGLES,
    *(f"annotated_{name}" for name in ANGLES),
    "moved_by",
    "flipped",
    "iou_before",
    "iou_after",
)


class PoseRecord(NamedTuple):
    """The pose of a training picture before and after; rotations from our world to camera axes."""

    name: str
    annotated: Float[np.ndarray, "3 3"]
    refined: Float[np.ndarray, "3 3"]
    flipped: bool
    iou_before: float
    iou_after: float

    @property
    def moved_by(self) -> float:
        """Angle between the two, degrees."""
        return float(np.degrees(Rotation.from_matrix(self.refined @ self.annotated.T).magnitude()))


def write_poses(
    folder: pathlib.Path,
    records: Sequence[PoseRecord],
    world: Float[np.ndarray, "3 3"],
    refined: bool,
    true: Float[Tensor, "n 3 3"] | None = None,
) -> None:
    """Write `poses.csv`, and `poses.json` with what holds for all of them.

    The table has a row per picture: refined and annotated azimuth, elevation and theta (degrees, convention nmr), `moved_by`
    (degrees), `flipped`, and the silhouette's intersection over union under both poses. The JSON has `refined`, whether poses
    were refined at all; `flipped`, how many; `median_moved_by`; `world_rotation`, from the learned world to the annotated one.
    Where the true rotations are known, `error_before` and `error_after` have the values of `PoseError`.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for record in records:
        angles = [*angles_from_rotation(record.refined, CONVENTION), *angles_from_rotation(record.annotated, CONVENTION)]
        ious = [f"{record.iou_before:.4f}", f"{record.iou_after:.4f}"]
        numbers = [f"{value:.4f}" for value in angles]
        writer.writerow([record.name, *numbers, f"{record.moved_by:.3f}", int(record.flipped), *ious])
    write_atomically(folder / "poses.csv", text.getvalue().encode())
    moved = [record.moved_by for record in records if not record.flipped]
    summary = {
        "refined": refined,
        "pictures": len(records),
        "flipped": sum(record.flipped for record in records),
        "median_moved_by": float(np.median(moved)) if moved else 0.0,
        "world_rotation": world.tolist(),
    }
    if true is not None:
        summary["error_before"] = _error([record.annotated for record in records], true)
        summary["error_after"] = _error([record.refined for record in records], true)
    write_atomically(folder / "poses.json", json.dumps(summary, indent=2).encode())


def _error(poses: Sequence[Float[np.ndarray, "3 3"]], true: Float[Tensor, "n 3 3"]) -> dict[str, float]:
    metric = PoseError()
    metric.update(torch.from_numpy(np.stack(poses)), true)
    return {name: round(float(value), 4) for name, value in metric.compute().items()}


def read_poses(path: str | pathlib.Path) -> dict[str, Float[np.ndarray, "3 3"]]:
    """The refined rotations of a `poses.csv`, from our world to camera axes, by the name of the picture.

    Raises:
        ValueError: no such file, no such table, or a cell that is no number.
    """
    path = pathlib.Path(path)
    text = read_text(path, "refined poses")
    with reading(path, "refined poses"):
        rows = [row for _, row in table_rows(text, ANGLES)]
    if not rows or not {"image", *ANGLES} <= set(rows[0]):
        raise ValueError(f"Expected refined poses with the columns image, {', '.join(ANGLES)} in {path}.")
    try:
        angles = {row["image"]: [float(row[name]) for name in ANGLES] for row in rows}
    except (KeyError, ValueError) as error:
        raise ValueError(f"Expected numbers for {', '.join(ANGLES)} in every row of {path} ({error}).") from error
    return {
        image: rotation_from_angles(azimuth, elevation, theta, CONVENTION)
        for image, (azimuth, elevation, theta) in angles.items()
    }


def take_over(root: pathlib.Path, poses: Mapping[str, Float[np.ndarray, "3 3"]], convention: str | None = None) -> int:
    """Put refined poses into a folder's table, and keep the table as it was beside it; how many rows have changed.

    Only rotations change, in the table's own convention; size and place of the objects stay.

    Args:
        root: of the table `cameras.csv` or `cameras.json`, which is kept as `cameras_before.csv` (or `.json`), once.
        poses: rotations from our world to camera axes by the path of the picture, as in `poses.csv`.
        convention: of the table, where it has no such column.

    Raises:
        ValueError: a table that cannot be read, or none of whose pictures has a refined pose.
    """
    path, rows = read_rows(root)
    chosen = _matches(rows, poses)
    for number, rotation in chosen.items():
        rows[number] |= _cells(rows[number], rotation, rows[number].get("convention") or convention or "")
    if not chosen:
        raise ValueError(f"Expected refined poses of pictures in {path}, got those of other pictures.")
    before = path.with_name(f"cameras_before{path.suffix}")
    if not before.exists():
        write_atomically(before, path.read_bytes())
    write_rows(path, rows)
    return len(chosen)


def moved_sheet(source: Source, records: Sequence[PoseRecord], count: int = 10) -> Image.Image:
    """A contact sheet of the pictures whose pose moved most: as annotated, and beside it as refined."""
    order = sorted(range(len(records)), key=lambda i: -records[i].moved_by)[:count]
    pairs = _Pairs(source, [(i, records[i]) for i in order])
    return contact_sheet(pairs, range(len(pairs)), columns=4)


class _Pairs:
    """Pictures twice: under the annotated pose, and under the refined one."""

    def __init__(self, source: Source, chosen: Sequence[tuple[int, PoseRecord]]) -> None:
        self.source, self.chosen = source, chosen
        self.names = [
            name for _, record in chosen for name in (f"{record.name}, annotated", f"moved by {record.moved_by:.0f} degrees")
        ]

    def __len__(self) -> int:
        return len(self.names)

    def picture(self, index: int) -> ImageSample:
        """The picture under one of its poses."""
        number, record = self.chosen[index // 2]
        picture = self.source.picture(number)
        rotation = record.refined if index % 2 else record.annotated
        pose = np.column_stack([rotation, picture.camera.world_to_camera[:, 3]])
        return picture._replace(camera=picture.camera._replace(world_to_camera=torch.from_numpy(pose).float()))

    def points(self, index: int) -> np.ndarray:
        """None."""
        return np.zeros((0, 3), np.float32)


def _matches(rows: Sequence[Mapping[str, str]], poses: Mapping[str, Any]) -> dict[int, Any]:
    """Rotations by the number of the row whose picture or mask they name; the folder may have been moved since."""
    paths = {f"/{row[column]}": i for i, row in enumerate(rows) for column in ("mask", "image") if row.get(column)}
    found = {}
    for name, rotation in poses.items():
        parts = pathlib.PurePath(name).parts
        ends = (f"/{pathlib.PurePosixPath(*parts[first:])}" for first in range(len(parts)))
        number = next((paths[end] for end in ends if end in paths), None)  # the longest
        if number is not None:
            found[number] = rotation
    return found


def _cells(row: Mapping[str, str], rotation: np.ndarray, convention: str) -> dict[str, str]:
    """The cells of a row that hold its rotation."""
    if convention not in CONVENTIONS:
        raise ValueError(f"Expected a convention, {', '.join(CONVENTIONS)}, in a column or as data.convention, got none.")
    if row.get("azimuth"):
        return {
            name: repr(round(value, 6)) for name, value in zip(ANGLES, angles_from_rotation(rotation, convention), strict=True)
        }
    frame = CONVENTIONS[convention]
    pose = np.array(row["world_to_camera"].split(), float).reshape(3, 4)
    pose[:, :3] = frame.to_opencv.T @ rotation @ frame.to_world
    return {"world_to_camera": " ".join(repr(float(value)) for value in pose.flatten())}
