"""PASCAL3D+ (Xiang et al., release 1.1), ImageNet subset: its files, and the silhouettes and clouds made of its CAD models."""

from __future__ import annotations

import collections
import functools
import hashlib
import json
import pathlib
from typing import Any, NamedTuple

import numpy as np
import torch
import trimesh
from PIL import Image

from sdfsrn.data.conventions import pascal3d_rotation
from sdfsrn.data.sources.mat import read_mat
from sdfsrn.functional.camera import PerspectiveCamera
from sdfsrn.meshes.geometry import sample_surface
from sdfsrn.meshes.io import read_mesh
from sdfsrn.meshes.rendering import render_mask
from sdfsrn.meshes.scanning import outer_surface
from sdfsrn.runtime.files import npz_bytes, png_bytes, read_npz, reading, remove_partial, write_atomically
from sdfsrn.runtime.parallel import run_jobs
from sdfsrn.runtime.texts import read_json, read_text

CLASSES = {"airplane": "aeroplane", "car": "car", "chair": "chair"}  # the paper's names, the release's
LISTS = {"train": "train", "val": "val", "test": "val"}  # the release has two; the paper evaluates on the second
NUM_POINTS = 100_000  # of a CAD model's surface
NOTE = "sdfsrn"  # text chunk of a mask that says what it was made from


class Viewpoint(NamedTuple):
    """How an object is seen, in the release's terms; see `projection`."""

    azimuth: float  # degrees
    elevation: float
    theta: float
    distance: float  # in units of the CAD model
    focal: float
    px: float  # where the CAD model's origin falls, in MATLAB's pixels: the middle of the first one is (1, 1)
    py: float
    viewport: float  # pixels a unit of focal length

    @property
    def scale(self) -> float:
        """Pixels that a unit of the CAD model takes at its origin's depth."""
        return self.viewport * self.focal / self.distance


class PascalRecord(NamedTuple):
    """An object in an image."""

    image: str  # name without suffix
    number: int  # of the object in the image's annotation, from 0
    cad_index: int
    viewpoint: Viewpoint
    box: tuple[float, float, float, float]  # left, top, right, bottom in MATLAB's pixels
    truncated: bool
    occluded: bool

    @property
    def name(self) -> str:
        """File stem of the record's mask."""
        return f"{self.image}_{self.number}"


class Pascal3DRelease:
    """The files of one category, and what has been made of them.

    Args:
        root: the folder `PASCAL3D+_release1.1`; nothing is written into it.
        category: airplane, car or chair.
        cache: folder for `masks/<class>/<image>_<object>.png`, at the images' size, and `pointclouds/<class>/<CAD
            number>.npz` (`points`, `normals`; the CAD model's own frame); None: beside the release, named after it.

    Raises:
        ValueError: a category that is not there, or a folder of another layout.
    """

    def __init__(self, root: str, category: str, cache: str | None = None) -> None:
        if category not in CLASSES:
            raise ValueError(f"Expected data.category to be one of {', '.join(CLASSES)}, got {category}.")
        self.root = pathlib.Path(root)
        self.category = category
        self.kind = CLASSES[category]
        self.images = self.root / "Images" / f"{self.kind}_imagenet"
        self.annotations = self.root / "Annotations" / f"{self.kind}_imagenet"
        self.models = self.root / "CAD" / self.kind
        for folder in (self.images, self.annotations, self.models):
            if not folder.is_dir():
                raise ValueError(
                    f"Expected the folder {folder}, which does not exist: set data.root to the unpacked release, the folder "
                    "(PASCAL3D+_release1.1) that holds Annotations, CAD, Image_sets and Images."
                )
        self._objects: dict[str, list[tuple[PascalRecord | None, str]]] = {}
        self.cache = pathlib.Path(cache) if cache else self.root.resolve().with_name(f"{self.root.resolve().name}_sdfsrn")

    def image(self, record: PascalRecord) -> pathlib.Path:
        """The picture."""
        return self.images / f"{record.image}.JPEG"

    def model(self, cad_index: int) -> pathlib.Path:
        """A CAD model."""
        return self.models / f"{cad_index:02d}.off"

    def mask(self, record: PascalRecord) -> pathlib.Path:
        """The silhouette of an object."""
        return self.cache / "masks" / self.kind / f"{record.name}.png"

    def cloud(self, cad_index: int) -> pathlib.Path:
        """Points of a CAD model."""
        return self.cache / "pointclouds" / self.kind / f"{cad_index:02d}.npz"

    def failures(self) -> dict[str, str]:
        """Why things could not be made, by name of record or `CAD <number>`."""
        path = self._failures
        return read_json(path) if path.is_file() else {}

    def records(self, split: str) -> tuple[list[PascalRecord], collections.Counter[str]]:
        """The usable objects of a split, in the order of the release's list, and counts of all there are.

        Skipped and counted: objects of other categories, without a fine viewpoint (distance 0) or a CAD model, images
        without a file or a readable annotation, and what preparing failed for.

        Raises:
            ValueError: no list, or nothing usable on it.
        """
        path = self.root / "Image_sets" / f"{self.kind}_imagenet_{LISTS[split]}.txt"
        if not path.is_file():
            raise ValueError(f"Expected the list of images {path}, which does not exist: data.root must be the whole release.")
        counts, records, failures = collections.Counter[str](), [], self.failures()
        for name in read_text(path).split():
            counts["images"] += 1
            mine = 0
            for record, problem in self._read(name):
                problem = problem or (f"not prepared: see {self._failures.name}" if record and record.name in failures else "")
                if record is None or problem:
                    counts[problem] += 1
                    continue
                records.append(record)
                mine += 1
                counts["truncated"] += record.truncated
                counts["occluded"] += record.occluded
            counts["images with several objects"] += mine > 1
        counts["objects"] = len(records)
        if not records:
            raise ValueError(f"Expected usable objects on {path}, found none: {describe(counts)}.")
        return records, counts

    def prepare(self, num_workers: int | None = None) -> dict[str, str]:
        """Make the silhouettes and clouds that are missing or out of date; the failures, by name.

        Every file appears whole or not at all, so that a run which was killed goes on where it stopped.

        Raises:
            ValueError: the cache cannot be written to.
        """
        masks, clouds = self._missing()
        if not masks and not clouds:
            return self.failures()
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"Expected to write silhouettes and clouds to {self.cache} ({error}): set data.cache.") from error
        remove_partial(self.cache)
        failures = run_jobs(_make_cloud, clouds, f"Scanning {self.kind} models", num_workers, "models")
        failures |= run_jobs(_make_mask, masks, f"Drawing {self.kind} silhouettes", num_workers, "masks")
        write_atomically(self._failures, json.dumps(failures, indent=2).encode())
        return failures

    def prepared(self) -> bool:
        """Everything has been made, or tried."""
        masks, clouds = self._missing()
        return not (masks.keys() | clouds.keys()) - self.failures().keys()

    @property
    def _failures(self) -> pathlib.Path:
        return self.cache / f"{self.kind}_failures.json"

    def _missing(self) -> tuple[dict[str, tuple[Any, ...]], dict[str, tuple[Any, ...]]]:
        """Jobs for masks, sorted by model, and for clouds; what is there counts if it was made from the same pose and model."""
        names = {name for split in ("train", "val") for name in self._list(split)}
        found = [record for name in sorted(names) for record, problem in self._read(name) if record and not problem]
        found.sort(key=lambda record: record.cad_index)
        digests = {index: _digest(self.model(index)) for index in sorted({record.cad_index for record in found})}
        masks = {}
        for record in found:
            note = json.dumps([record.viewpoint, digests[record.cad_index]])
            if _note(self.mask(record)) != note:
                arguments = self.image(record), self.model(record.cad_index), record.viewpoint, self.mask(record), note
                masks[record.name] = arguments
        clouds: dict[str, tuple[Any, ...]] = {
            f"CAD {index:02d}": (self.model(index), self.cloud(index), digest)
            for index, digest in digests.items()
            if _cloud_digest(self.cloud(index)) != digest
        }
        return masks, clouds

    def _list(self, split: str) -> list[str]:
        path = self.root / "Image_sets" / f"{self.kind}_imagenet_{split}.txt"
        return read_text(path).split() if path.is_file() else []

    def _read(self, name: str) -> list[tuple[PascalRecord | None, str]]:
        """Every object of an image, with the reason why it cannot be used, if there is one."""
        if name not in self._objects:
            self._objects[name] = self._examine(name)
        return self._objects[name]

    def _examine(self, name: str) -> list[tuple[PascalRecord | None, str]]:
        if pathlib.PurePath(name).name != name or not (self.images / f"{name}.JPEG").is_file():
            return [(None, "images without a file")]
        try:
            objects = _read_annotation(self.annotations / f"{name}.mat")
        except ValueError:
            return [(None, "images without a readable annotation")]
        examined: list[tuple[PascalRecord | None, str]] = []
        for number, item in enumerate(objects):
            if str(getattr(item, "class", None)) != self.kind:
                examined.append((None, "objects of other categories"))
            elif (record := _record(name, number, item)) is None:
                examined.append((None, "objects without a fine viewpoint"))
            else:
                there = self.model(record.cad_index).is_file()
                examined.append((record, "" if there else "objects without a CAD model"))
        return examined


def projection(viewpoint: Viewpoint, height: int, width: int) -> PerspectiveCamera:
    """The release's camera for an image of that size (`project_3d.m`), from the CAD model's frame; float64, without batch."""
    rotation = pascal3d_rotation(viewpoint.azimuth, viewpoint.elevation, viewpoint.theta)
    world_to_camera = np.concatenate([rotation, [[0.0], [0.0], [viewpoint.distance]]], 1)
    focal = 2 * viewpoint.viewport * viewpoint.focal
    intrinsics = [
        [focal / width, 0, (2 * viewpoint.px - 1) / width - 1],
        [0, focal / height, (2 * viewpoint.py - 1) / height - 1],
        [0, 0, 1],
    ]
    return PerspectiveCamera(torch.from_numpy(world_to_camera), torch.tensor(intrinsics, dtype=torch.float64))


def describe(counts: collections.Counter[str]) -> str:
    """Counts in words."""
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def _read_annotation(path: pathlib.Path) -> np.ndarray:
    """The objects of an annotation."""
    with reading(path, "an annotation"):
        return np.atleast_1d(read_mat(path)["record"].objects)


def _record(image: str, number: int, item: Any) -> PascalRecord | None:
    """An object of an annotation; None without a fine viewpoint, a box, or the number of a CAD model."""
    try:
        values = [float(getattr(item.viewpoint, field)) for field in Viewpoint._fields]
        left, top, right, bottom = (float(value) for value in item.bbox)
        cad_index = int(item.cad_index)
        flags = [bool(np.any(getattr(item, field, 0))) for field in ("truncated", "occluded")]
    except (AttributeError, TypeError, ValueError, OverflowError):  # the release leaves fields out or empty
        return None
    viewpoint = Viewpoint(*values)
    if not np.isfinite([*values, left, top, right, bottom]).all() or min(viewpoint.distance, right - left, bottom - top) <= 0:
        return None
    return PascalRecord(image, number, cad_index, viewpoint, (left, top, right, bottom), *flags)


def _make_mask(image: pathlib.Path, model: pathlib.Path, viewpoint: Viewpoint, path: pathlib.Path, note: str) -> None:
    with reading(image, "a picture"), Image.open(image) as opened:
        width, height = opened.size
    mesh, points = _mesh(model)
    camera = projection(viewpoint, height, width)
    alpha = render_mask(mesh, camera, (height, width))
    if not (alpha >= 0.5).any():
        raise ValueError(f"Expected {model} to be seen in {image}, but its pose puts it outside.")
    # Lines of sight may miss a thin rod, but the bound holds only if every pixel that the object touches has some alpha.
    pixels = camera.pixels(camera.project(points)[0], (height, width)).numpy()
    column, row = np.floor(pixels).astype(int).T
    seen = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    alpha[row[seen], column[seen]] = np.maximum(alpha[row[seen], column[seen]], 1 / 255)
    write_atomically(path, png_bytes(np.ceil(alpha * 255 - 1e-3).astype(np.uint8), **{NOTE: note}))


def _make_cloud(model: pathlib.Path, path: pathlib.Path, digest: str) -> None:
    points, normals = outer_surface(_mesh(model)[0], NUM_POINTS)
    write_atomically(path, npz_bytes(points=points, normals=normals, model=np.array(digest)))


@functools.lru_cache(maxsize=2)  # jobs come sorted by model
def _mesh(path: pathlib.Path) -> tuple[trimesh.Trimesh, torch.Tensor]:
    """A CAD model, and points all over it (float64)."""
    mesh = read_mesh(path)
    return mesh, torch.from_numpy(sample_surface(mesh, NUM_POINTS)[0])


def _digest(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _cloud_digest(path: pathlib.Path) -> str | None:
    """Digest of the model that a cloud was made from; None if there is no cloud."""
    try:
        return str(read_npz(path, ["model"])["model"])
    except ValueError:
        return None


def _note(path: pathlib.Path) -> str | None:
    """The note in a mask about what it was made from; None if there is no mask."""
    try:
        with Image.open(path) as image:
            return str(image.info.get(NOTE))
    except Exception:  # it is drawn again
        return None
