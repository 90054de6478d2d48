"""The table of poses that an annotated folder gets, `cameras.csv`: rows and columns that are there already are kept."""

from __future__ import annotations

import pathlib
import unicodedata
from collections.abc import Mapping, Sequence

from sdfsrn.annotating.drafts import Pose
from sdfsrn.data.conventions import angles_from_rotation, rotation_from_angles, screen_matrix
from sdfsrn.data.source import SPLITS
from sdfsrn.data.sources.table import ANGLES, PLACE, Angles, read_rows, read_table, write_rows

WRITTEN = ("image", "mask", "split", *ANGLES, *PLACE, "convention")  # by the page
SHARES = {"train": 8, "val": 1, "test": 1}

Row = dict[str, str]


class CameraTable:
    """The rows of `cameras.csv` in a folder.

    Args:
        root: the folder.
        convention: of the poses where the table has no such column; nmr in a new table.

    Raises:
        ValueError: a table that `data=folder` would refuse, one of matrices, or `cameras.json`.
    """

    def __init__(self, root: pathlib.Path, convention: str | None = None) -> None:
        self.root = root
        self.path = root / "cameras.csv"
        self.stated = convention
        self.rows: list[Row] = []
        self.convention = "nmr"
        self._seen: tuple[int, int] | None = None
        if (root / "cameras.json").is_file():
            raise ValueError(f"Expected cameras.csv or no table in {root}, got cameras.json: convert it first.")
        self.refresh()

    def refresh(self) -> None:
        """Read the table if another program has changed it."""
        seen = self._stamp()
        if seen == self._seen:
            return
        rows = read_rows(self.root)[1] if seen is not None else []
        if rows:
            records = read_table(self.root, self.stated)
            if not all(isinstance(record.pose, Angles) for record in records):
                raise ValueError(
                    f"Expected poses as {', '.join(ANGLES)} in {self.path}, got matrices, which the page cannot turn."
                )
            self.convention = records[0].convention
            drawn = not any(row.get("split") for row in rows)
            for row, record in zip(rows, records, strict=True):
                row |= {"convention": record.convention, **({"split": record.split} if drawn else {})}
        self.rows, self._seen = rows, seen

    def find(self, image: str) -> list[Row]:
        """The rows of a picture."""
        return [row for row in self.rows if _plain(row["image"]) == _plain(image)]

    def paths(self, column: str) -> set[str]:
        """The paths in a column."""
        return {str(pathlib.PurePosixPath(row[column])) for row in self.rows if row.get(column)}

    def put(self, image: str, row: Row | None) -> None:
        """Put a picture's only row, or None, in the place of what it has, and write the table if that changes it."""
        self.refresh()
        before = self.find(image)
        if before == ([] if row is None else [row]):
            return
        rows = [other for other in self.rows if other not in before]
        if row is not None:
            rows.insert(self.rows.index(before[0]) if before else len(rows), row)
        write_rows(self.path, rows)
        self.rows, self._seen = rows, self._stamp()

    def next_split(self) -> str:
        """The split of the next picture: one for each at first, then whichever is furthest behind 8 : 1 : 1."""
        counts = {split: sum(row.get("split") == split for row in self.rows) for split in SPLITS}
        return min(SPLITS, key=lambda split: (counts[split] > 0, counts[split] / SHARES[split]))

    def cells(self, pose: Pose, size: tuple[int, int]) -> Row:
        """A pose in the table's convention; `size` is the picture's width and height."""
        angles: Sequence[float] = pose[:3]
        if self.convention != "nmr":
            angles = angles_from_rotation(
                rotation_from_angles(pose.azimuth, pose.elevation, pose.theta, "nmr"), self.convention
            )
        place: list[float | None] = [pose.scale, pose.x, pose.y]
        to_screen = screen_matrix(self.convention, size)
        if pose.scale is not None:
            place[0] = pose.scale / to_screen[0, 0]
        if pose.x is not None and pose.y is not None:
            place[1:] = [(value - to_screen[i, 2]) / to_screen[i, i] for i, value in enumerate((pose.x, pose.y))]
        numbers = dict(zip((*ANGLES, *PLACE), (*angles, *place), strict=True))
        return {name: "" if value is None else f"{value:.7g}" for name, value in numbers.items()} | {
            "convention": self.convention
        }

    def pose(self, row: Mapping[str, str], size: tuple[int, int]) -> Pose:
        """The pose of a row."""
        azimuth, elevation, theta = (float(row[name]) for name in ANGLES)
        if self.convention != "nmr":
            rotation = rotation_from_angles(azimuth, elevation, theta, self.convention)
            azimuth, elevation, theta = angles_from_rotation(rotation, "nmr")
        scale, x, y = (float(row[name]) if row.get(name) else None for name in PLACE)
        to_screen = screen_matrix(self.convention, size)
        if scale is not None:
            scale = float(scale * to_screen[0, 0])
        if x is not None and y is not None:
            x, y = float(x * to_screen[0, 0] + to_screen[0, 2]), float(y * to_screen[1, 1] + to_screen[1, 2])
        return Pose(azimuth, elevation, theta, scale, x, y)

    def _stamp(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_size


def _plain(path: str) -> str:
    """A path as it is compared: without `./`, and letters with accents as one character each."""
    return unicodedata.normalize("NFC", str(pathlib.PurePosixPath(path)))
