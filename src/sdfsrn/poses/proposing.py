"""Poses for a folder's pictures that have none, proposed by a model that was trained on those that do."""

from __future__ import annotations

import csv
import io
import logging
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from tqdm import tqdm

from sdfsrn.data.conventions import angles_from_rotation, convention_with_angles
from sdfsrn.data.sources.table import ANGLES, read_rows, write_rows
from sdfsrn.poses.search import PoseCandidate, PoseSearch, propose_pose, unposed_picture
from sdfsrn.runtime.files import PICTURE_SUFFIXES, write_atomically
from sdfsrn.system import ShapeModel

PROPOSALS = "proposals.csv"
FITS = ("iou", "color_error", "score")
MASKS = "masks"  # the folder of silhouettes beside the pictures

Row = dict[str, str]
log = logging.getLogger(__name__)


def propose_folder(
    model: ShapeModel,
    root: str | pathlib.Path,
    search: PoseSearch | None = None,
    accept: bool = False,
    convention: str | None = None,
) -> list[Row]:
    """Write `proposals.csv`: a pose for each picture of a folder that has a silhouette and no pose by hand; its rows.

    A silhouette is an alpha channel, or `masks/<path of the picture>.png`, with or without the picture's own suffix. Poses are
    angles in the table's convention, for `data=folder` without scale and origin. `iou`, `color_error` and `score` tell how well
    the model's shape fits. Pictures without a silhouette, or in which the model sees nothing, are left out and counted.

    Args:
        model: in evaluation mode; trained with `data=folder` and the window of its `preprocessing`.
        root: the folder; its `cameras.csv`, if any, holds the poses by hand.
        search: settings; the defaults if None.
        accept: put the proposals into `cameras.csv` as training pictures, in place of earlier accepted ones. A row that was
            changed by hand since then stays.
        convention: of the table, where it has no such column.

    Raises:
        ValueError: a table that cannot be read, or one of matrices.
    """
    root = pathlib.Path(root)
    table = _read_table(root)
    accepted = _still_accepted(root, table)
    stated = next((row["convention"] for row in table if row.get("convention")), convention or "nmr")
    by_hand = [row for row in table if row["image"] not in accepted]
    rows: list[Row] = []
    pictures = sorted(set(_pictures(root)) - {row[name] for row in by_hand for name in ("image", "mask") if row.get(name)})
    for image in tqdm(pictures, "Proposing poses", unit="picture"):
        mask = _mask(root, image)
        try:
            picture = unposed_picture(root / image, root / mask if mask else None, model.preprocessing)
        except ValueError as error:
            log.info("%s", error)
            continue
        candidates = propose_pose(model, picture, search)
        rows += [_row(image, mask, candidates[0], stated)] if candidates else []
    log.info("Proposed poses for %d pictures; %d have no silhouette or no shape.", len(rows), len(pictures) - len(rows))
    _write(root / PROPOSALS, [{**row, "accepted": str(int(accept))} for row in rows])
    if accept:
        added = [{name: cell for name, cell in row.items() if name not in FITS} | {"split": "train"} for row in rows]
        write_rows(root / "cameras.csv", [*by_hand, *added])
    return rows


def read_proposals(root: str | pathlib.Path) -> list[Row]:
    """The rows of a folder's `proposals.csv`; none without the file."""
    path = pathlib.Path(root) / PROPOSALS
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) if path.is_file() else []


def _read_table(root: pathlib.Path) -> list[Row]:
    if not (root / "cameras.csv").is_file() and not (root / "cameras.json").is_file():
        return []
    path, rows = read_rows(root)
    if path.suffix == ".json" or any(row.get("world_to_camera") for row in rows):
        raise ValueError(f"Expected poses as {', '.join(ANGLES)} in a table cameras.csv to add proposals to, got {path}.")
    for row in rows:
        convention_with_angles(row.get("convention") or "nmr")
    return rows


def _still_accepted(root: pathlib.Path, table: Sequence[Row]) -> set[str]:
    """Pictures whose row is an accepted proposal, as it was written."""
    proposed = {row["image"]: row for row in read_proposals(root) if row["accepted"] == "1"}
    same = ("mask", *ANGLES)
    return {
        row["image"]
        for row in table
        if row["image"] in proposed and all(row.get(name, "") == proposed[row["image"]][name] for name in same)
    }


def _pictures(root: pathlib.Path) -> list[str]:
    """Paths below the root of all pictures but masks and what hidden folders hold."""
    found = [path.relative_to(root) for path in root.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES]
    return [
        path.as_posix() for path in found if path.parts[0] != MASKS and not any(part.startswith(".") for part in path.parts)
    ]


def _mask(root: pathlib.Path, image: str) -> str:
    """The path of a picture's mask below the root; an empty one if it has none of its own."""
    names = (f"{MASKS}/{image}.png", f"{MASKS}/{pathlib.PurePosixPath(image).with_suffix('.png')}")
    return next((name for name in names if (root / name).is_file()), "")


def _row(image: str, mask: str, candidate: PoseCandidate, convention: str) -> Row:
    angles = np.round(angles_from_rotation(candidate.rotation, convention), 4)
    numbers = dict(zip(ANGLES, angles, strict=True)) | {name: round(getattr(candidate, name), 4) for name in FITS}
    return {"image": image, "mask": mask, "convention": convention} | {name: f"{value:g}" for name, value in numbers.items()}


def _write(path: pathlib.Path, rows: Sequence[Mapping[str, str]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["image", "mask", *ANGLES, "convention", *FITS, "accepted"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())
