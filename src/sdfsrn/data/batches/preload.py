"""A source held in one array, in memory or in a file: every picture is decoded and checked once, before training starts."""

from __future__ import annotations

import hashlib
import logging
import os
import pathlib
import warnings

import numpy as np
import torch

from sdfsrn.data.alpha import describe_dropped
from sdfsrn.data.batches.pictures import Pictures, pack
from sdfsrn.data.source import GroundTruth, ImageSample, Source, check_picture, evenly_spaced, ground_truth
from sdfsrn.runtime.files import replacing
from sdfsrn.runtime.progress import track

VERSION = 1  # raise it when the same pictures are packed differently
_PROBES = 16  # pictures whose content tells the settings of a source

log = logging.getLogger(__name__)


class PreloadedSource(GroundTruth):
    """The pictures and points of `source`, from one array of bytes (see `pack`), which the processes of a loader share.

    Args:
        source: pictures of one size and one kind of camera.
        description: of the source, for people and in the name of the file.
        folder: keeps the array in a file there, which is read as needed and found again. Changed names, files (size and date)
            or settings of the source make another file; changed masks or cameras under the same pictures may go unnoticed.

    Raises:
        ValueError: the first picture that cannot be used, named.
    """

    def __init__(self, source: Source, description: str, folder: pathlib.Path | None = None) -> None:
        self.source = source
        self.names = source.names
        first = _load(source, 0)
        self._kind = type(first.camera)
        layout = _layout(first)
        if folder is None:
            self._records = _fill(np.empty(len(source), layout), source, first, description)
            return
        path = folder / f"{description}-{_fingerprint(source)}.npy"
        records = _open(path, len(source), layout)
        self._records = _write(path, source, first, description) if records is None else records

    def __len__(self) -> int:
        return len(self.source)

    def picture(self, index: int) -> ImageSample:
        """See the source."""
        record = self._records[index]
        rgba = np.array(record["rgba"])
        matrices = (torch.from_numpy(np.array(record[name])) for name in self._kind._fields)
        return ImageSample(rgba[..., :3], rgba[..., 3].astype(np.float32) / 255, self._kind(*matrices))

    def pictures(self) -> Pictures:
        """All pictures without points: read-only, in the array's own memory."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            rgba, *matrices = (torch.from_numpy(self._records[name]) for name in ("rgba", *self._kind._fields))
        return Pictures(
            rgba, self._kind(*matrices), torch.zeros(len(rgba), 0, 3), torch.arange(len(rgba)), torch.zeros(len(rgba), 0, 0)
        )

    def points(self, index: int) -> np.ndarray:
        """See the source."""
        return self.source.points(index)

    def normals(self, index: int) -> np.ndarray:
        """See the source."""
        return ground_truth(self.source).normals(index)

    def occupancy(self, index: int, points: np.ndarray) -> np.ndarray | None:
        """See the source."""
        return ground_truth(self.source).occupancy(index, points)

    def other_views(self, index: int) -> list[ImageSample]:
        """See the source."""
        return ground_truth(self.source).other_views(index)


def _load(source: Source, index: int) -> ImageSample:
    picture = source.picture(index)
    check_picture(picture, source.names[index])
    return picture


def _layout(picture: ImageSample) -> np.dtype:
    """The layout of a record: a picture and its camera."""
    matrices = [(name, np.float32, tuple(matrix.shape)) for name, matrix in picture.camera._asdict().items()]
    return np.dtype([("rgba", np.uint8, (*picture.alpha.shape, 4)), *matrices])


def _fill(records: np.ndarray, source: Source, first: ImageSample, description: str) -> np.ndarray:
    dropped: list[float] = []
    cut: list[str] = []
    for index in track(range(len(source)), f"Loading {description}", len(source), "pictures"):
        picture = _load(source, index) if index else first
        if _layout(picture) != records.dtype or type(picture.camera) is not type(first.camera):
            raise ValueError(
                f"Expected pictures and cameras as in {source.names[0]} (size {first.alpha.shape}), got another size or "
                f"kind (size {picture.alpha.shape}) in {source.names[index]}."
            )
        records["rgba"][index] = pack(picture.image, picture.alpha)
        for name, matrix in picture.camera._asdict().items():
            records[name][index] = matrix.numpy()
        dropped.append(picture.dropped)
        cut += [source.names[index]] * picture.cut
    _tell(description, [share for share in dropped if share > 0], cut)
    return records


def _tell(description: str, dropped: list[float], cut: list[str]) -> None:
    """Say what reading has found out about the pictures of a split."""
    if dropped:
        log.warning("%s: %s.", description, describe_dropped(len(dropped), float(np.mean(dropped))))
    if cut:
        log.warning(
            "%s: %d objects touch the border of their pictures, where they may go on: %s ...", description, len(cut), cut[0]
        )


def _open(path: pathlib.Path, count: int, layout: np.dtype) -> np.ndarray | None:
    """The records in a file, mapped into memory; None if there is no file or its content is not what its name says."""
    if not path.exists():
        return None
    try:
        records = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # of a damaged file
        log.warning("%s cannot be read (%s); it is written again.", path, error)
        return None
    if records.shape != (count,) or records.dtype != layout:
        log.warning("%s does not hold %d pictures of this size; it is written again.", path, count)
        return None
    return records


def _write(path: pathlib.Path, source: Source, first: ImageSample, description: str) -> np.ndarray:
    """Fill a temporary file, which may be larger than memory, and move it into place."""
    with replacing(path) as temporary:
        records = np.lib.format.open_memmap(temporary, "w+", _layout(first), (len(source),))
        _fill(records, source, first, description)
        records.flush()
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _fingerprint(source: Source) -> str:
    """Cache key: names, size and date of their files, and a few decoded pictures in place of the source's settings."""
    digest = hashlib.sha256(f"{VERSION} {len(source)}".encode())
    for name in source.names:
        digest.update(name.encode() + b"\0")
        if os.path.isfile(name):  # noqa: PTH113  # 700,000 paths are slow to make
            status = os.stat(name)  # noqa: PTH116
            digest.update(f"{status.st_size} {status.st_mtime_ns}\0".encode())
    for index in evenly_spaced(len(source), _PROBES):
        picture = _load(source, index)
        digest.update(type(picture.camera).__name__.encode())
        for array in (picture.image, picture.alpha, *(matrix.numpy() for matrix in picture.camera)):
            digest.update(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
