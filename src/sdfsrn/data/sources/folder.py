"""A folder of one's own pictures, with a table of their cameras."""

from __future__ import annotations

import collections
import functools
import pathlib
from typing import Any, Unpack

import numpy as np
import trimesh
from jaxtyping import Float

from sdfsrn.data.batches.datamodule import Loading, ViewsDataModule
from sdfsrn.data.conventions import CONVENTIONS
from sdfsrn.data.cropping import crop_window, object_box
from sdfsrn.data.images import read_cutout
from sdfsrn.data.preprocessing import cropped
from sdfsrn.data.source import SPLITS, GroundTruth, ImageSample
from sdfsrn.data.sources.table import FolderRecord, collect, read_table, table_path
from sdfsrn.meshes.geometry import contains, sample_surface
from sdfsrn.meshes.io import read_mesh
from sdfsrn.runtime.files import check_points, read_npz, reading


class FolderSource(GroundTruth):
    """One split of a folder `root` with pictures, masks, shapes, and `cameras.csv`, or `cameras.json`, of the columns

        image       path below the root; PNG, JPEG, WebP ..., turned upright as its EXIF orientation says
        mask        path, see `sdfsrn.data.images.read_mask`; without one, the image's alpha channel
        split       train (if empty), val or test; without any, of ten rows the ninth is val and the tenth test
        shape       path of the true surface, for evaluation: a mesh (.ply .obj .off .glb .stl), or points: .npy, .npz
                    with `points`, a .ply without faces; in the convention's world frame; never opened in training
        convention  of the poses: opencv, opengl, nmr or pascal3d, see `sdfsrn.data.conventions`

    and of the pose, in the pixel coordinates of the convention and of the upright picture, either

        azimuth elevation theta [scale] [x y]         a weak-perspective camera; angles in degrees
        world_to_camera intrinsics [projection]       12 numbers, 3 x 4 row by row; "fx fy cx cy" or 9 numbers; perspective
                                                      (if absent) or orthographic

    JSON is a list of objects with these keys; matrices may be nested lists there. Without `scale` the world's unit is half
    the side of the window that is cut out, and without x and y its origin falls on the middle of the silhouette's box:
    the canonical frame of eq. (25), arXiv:2010.10505.

    Args:
        root: the folder.
        split: train, val or test.
        image_size: height and width of the pictures that come out, in pixels.
        crop: side of the square cut out around the silhouette, in longer sides of its box; None takes the whole picture,
            padded to a square.
        convention: of all poses, where the table has no such column.
        num_points: of ground truth, at most; that many are drawn from a mesh.
        seed: of those points.

    Raises:
        ValueError: anything that cannot be used, with file and row (of CSV, the header is row 1).
    """

    def __init__(
        self,
        root: str,
        split: str,
        image_size: int = 64,
        crop: float | None = None,
        convention: str | None = None,
        num_points: int = 30_000,
        seed: int = 0,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"Expected split train, val or test, got {split}.")
        for name, value in {"image_size": image_size, "num_points": num_points, "crop": 1 if crop is None else crop}.items():
            if not value > 0:
                raise ValueError(f"Expected a positive data.{name}, got {value}.")
        self.root = pathlib.Path(root)
        self.split = split
        self.image_size = image_size
        self.crop = crop
        self.num_points = num_points
        self.seed = seed
        records, table = read_table(self.root, convention), table_path(self.root)
        self.records = [record for record in records if record.split == split]
        if not self.records:
            there = ", ".join(sorted({record.split for record in records}))
            raise ValueError(
                f"Expected rows of split {split} in the table {table}, got only {there}: name it in a column split."
            )
        collect(self.records, self._check_paths, table)
        objects = collections.Counter(record.image for record in self.records)
        self.names = [str(self.root / (r.image if objects[r.image] == 1 else r.mask or r.image)) for r in self.records]

    def __len__(self) -> int:
        return len(self.records)

    def picture(self, index: int) -> ImageSample:
        """The window around the object, or the whole, with its camera."""
        record = self.records[index]
        try:
            cutout = read_cutout(self.root / record.image, self.root / record.mask if record.mask else None)
        except ValueError as error:
            raise ValueError(f"{str(error).removesuffix('.')} ({record.where}).") from error
        height, width = cutout.alpha.shape
        window, box = crop_window(cutout.alpha, self.crop), object_box(cutout.alpha)
        assert box is not None  # `read_cutout` has checked it
        camera = record.pose.camera(record.convention, (width, height), window, box.middle)
        return cropped(cutout, camera, window, self.image_size)

    def points(self, index: int) -> np.ndarray:
        """Points on the true surface, in our world frame; none in training and where no shape is named."""
        record = self.records[index]
        if self.split == "train" or not record.shape:
            return np.zeros((0, 3), np.float32)
        points = _surface_points(self.root / record.shape, self.num_points, self.seed)
        return (points @ CONVENTIONS[record.convention].to_world.T).astype(np.float32)

    def normals(self, index: int) -> np.ndarray:
        """Unit normals of points that were drawn from a mesh."""
        record = self.records[index]
        if self.split == "train" or not _is_mesh(self.root / record.shape):
            return np.zeros((0, 3), np.float32)
        normals = sample_surface(read_mesh(self.root / record.shape), self.num_points, self.seed)[1]
        return (normals @ CONVENTIONS[record.convention].to_world.T).astype(np.float32)

    def occupancy(self, index: int, points: np.ndarray) -> np.ndarray | None:
        """Which points lie inside the true mesh, if that is watertight."""
        record = self.records[index]
        if self.split == "train" or not _is_mesh(self.root / record.shape):
            return None
        mesh = read_mesh(self.root / record.shape)
        mesh.merge_vertices(merge_tex=True, merge_norm=True)
        return contains(mesh, points @ CONVENTIONS[record.convention].to_world) if mesh.is_watertight else None

    def _check_paths(self, record: FolderRecord) -> None:
        shape = "" if self.split == "train" else record.shape
        for name, path in {"image": record.image, "mask": record.mask, "shape": shape}.items():
            place = self.root / path
            if pathlib.PurePath(path).is_absolute() or not place.resolve().is_relative_to(self.root.resolve()):
                raise ValueError(f"{record.where}: expected the {name} below the folder, got {path}")
            if path and not place.is_file():
                hint = "" if path.isascii() else " (names beside ASCII are safest in a table in UTF-8)"
                raise ValueError(f"{record.where}: expected the {name} {place}, which does not exist{hint}")


def _surface_points(path: pathlib.Path, count: int, seed: int) -> Float[np.ndarray, "n 3"]:
    if path.suffix.lower() == ".npz":
        points = read_npz(path, ["points"])["points"]
    elif path.suffix.lower() == ".npy":
        points = _read_array(path)
    elif not _is_mesh(path):
        points = _read_cloud(path)
    else:
        return sample_surface(read_mesh(path), count, seed)[0]
    check_points(points, path)
    return points[np.random.default_rng(seed).permutation(len(points))[:count]].astype(np.float64)


def _is_mesh(path: pathlib.Path) -> bool:
    suffix = path.suffix.lower()
    return path.is_file() and suffix not in (".npz", ".npy") and (suffix != ".ply" or _has_faces(path))


def _read_array(path: pathlib.Path) -> np.ndarray:
    with reading(path, "points"):
        return np.load(path, allow_pickle=False)


def _has_faces(path: pathlib.Path) -> bool:
    header = path.read_bytes()[:4096].split(b"end_header")[0]
    return any(line.split()[2:] not in ([], [b"0"]) for line in header.splitlines() if line.startswith(b"element face"))


def _read_cloud(path: pathlib.Path) -> np.ndarray:
    with reading(path, "points"):
        cloud: Any = trimesh.load(path, file_type="ply")
        return np.asarray(cloud.vertices)


class FolderDataModule(ViewsDataModule):
    """`FolderSource`, whose arguments these are; `loading` goes to `ViewsDataModule`."""

    def __init__(
        self,
        root: str,
        image_size: int = 64,
        crop: float | None = None,
        convention: str | None = None,
        num_points: int = 30_000,
        seed: int = 0,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(**loading)
        self.crop = crop
        self._open = functools.partial(
            FolderSource,
            root,
            image_size=image_size,
            crop=crop,
            convention=convention,
            num_points=num_points,
            seed=seed,
        )

    def source(self, split: str) -> FolderSource:
        """The pictures of a split."""
        return self._open(split)
