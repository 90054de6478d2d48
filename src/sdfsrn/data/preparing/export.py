"""Export of any data set to a folder that `FolderSource` reads."""

from __future__ import annotations

import csv
import hashlib
import io
import pathlib
from collections.abc import Mapping

import numpy as np

from sdfsrn.data.conventions import PROJECTIONS, matrices_from_camera
from sdfsrn.data.images import DRAWN
from sdfsrn.data.source import Source
from sdfsrn.runtime.files import npz_bytes, png_bytes, write_atomically

COLUMNS = ("image", "split", "shape", "world_to_camera", "intrinsics", "projection", "convention")


def export_folder(sources: Mapping[str, Source], root: str | pathlib.Path) -> None:
    """Write sources, by split, as `<root>/<split>/000000.png` (RGBA), `<root>/shapes/...npz` and `<root>/cameras.csv`.

    Poses are matrices in the convention nmr; points are written once for all pictures of a split that share them. The table
    comes last, so that an unfinished export is not taken for a data set.

    Raises:
        ValueError: `root` has something in it already; a picture that cannot be used.
    """
    root = pathlib.Path(root)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ValueError(f"Expected a new or empty folder to export to, got {root}, which has something in it.")
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for split, source in sources.items():
        shapes: dict[bytes, str] = {}
        for index in range(len(source)):
            writer.writerow(_export(source, split, index, shapes, root))
    write_atomically(root / "cameras.csv", table.getvalue().encode())


def _export(source: Source, split: str, index: int, shapes: dict[bytes, str], root: pathlib.Path) -> dict[str, str]:
    """Write the files of a picture; its row of the table."""
    picture, points = source.picture(index), source.points(index)
    image, shape = f"{split}/{index:06d}.png", ""
    alpha = np.round(picture.alpha * 255).astype(np.uint8)
    write_atomically(root / image, png_bytes(np.concatenate([picture.image, alpha[..., None]], -1), **{DRAWN: "alpha"}))
    if len(points) > 0:
        digest = hashlib.sha256(points.tobytes()).digest()
        shape = shapes.setdefault(digest, f"shapes/{split}-{index:06d}.npz")
        if not (root / shape).exists():
            write_atomically(root / shape, npz_bytes(points=points))
    height, width = picture.alpha.shape
    pose, intrinsics = matrices_from_camera(picture.camera, "nmr", (width, height))
    projection = next(name for name, kind in PROJECTIONS.items() if isinstance(picture.camera, kind))
    return {
        "image": image,
        "split": split,
        "shape": shape,
        "world_to_camera": _numbers(pose),
        "intrinsics": _numbers(intrinsics),
        "projection": projection,
        "convention": "nmr",
    }


def _numbers(matrix: np.ndarray) -> str:
    """All digits, so that what is read back is the same."""
    return " ".join(repr(float(value)) for value in matrix.flatten())
