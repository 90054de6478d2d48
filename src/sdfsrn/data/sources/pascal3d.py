"""PASCAL3D+ as square crops with weak-perspective cameras."""

from __future__ import annotations

import functools
import logging
import pathlib
from typing import Unpack

import numpy as np
import torch
from jaxtyping import Float

from sdfsrn.data.batches.datamodule import Loading, ViewsDataModule
from sdfsrn.data.conventions import CAD_TO_WORLD, CAMERA_DISTANCE, pascal3d_rotation
from sdfsrn.data.cropping import crop_square
from sdfsrn.data.images import open_image, read_color, read_mask
from sdfsrn.data.source import GroundTruth, ImageSample
from sdfsrn.data.sources.pascal3d_release import LISTS, Pascal3DRelease, Viewpoint, describe
from sdfsrn.functional.camera import OrthographicCamera
from sdfsrn.runtime.files import check_points, read_npz

CROPS = {"car": (3.0, "height")}  # side of the crop, in sides of the object's box; appendix B.2, arXiv:2010.10505
CROP = (1.2, "longer")  # of the other categories

log = logging.getLogger(__name__)


class Pascal3DSource(GroundTruth):
    """The objects of one split as square crops with weak-perspective cameras, in the canonical frame of appendix B.2.

    The crop's side is 1.2 times the longer side of the object's box, for cars 3 times its height. The world frame is the
    CAD model's turned to y up, front -z, with the crop as [-1, 1]^2: a CAD unit is s of eq. (25), arXiv:2010.10505,
    long, and the camera's translation puts the origin where the release has it, which is not the middle of the box.

    Args:
        release: the files of a category.
        split: train, val or test; the release's second list serves as val and as test.
        image_size: height and width of a picture.
        truncated: keep objects that the image's border cuts, as the paper does, though beyond it their silhouette is unknown.
        num_points: of ground truth, at most.

    Raises:
        ValueError: nothing usable, or the silhouettes have not been made yet.
    """

    def __init__(
        self,
        release: Pascal3DRelease,
        split: str,
        image_size: int = 64,
        truncated: bool = True,
        num_points: int = 30_000,
    ) -> None:
        if split not in LISTS:
            raise ValueError(f"Expected one of the splits {', '.join(LISTS)}, got {split}.")
        self.release = release
        self.split = split
        self.image_size = image_size
        self.num_points = num_points
        records, self.counts = release.records(split)
        self.records = [record for record in records if truncated or not record.truncated]
        self.names = [str(release.mask(record)) for record in self.records]
        missing = [name for name in self.names if not pathlib.Path(name).is_file()]
        if missing:
            raise ValueError(
                f"Expected {len(self.names)} silhouettes in {release.cache}, {len(missing)} are missing ({missing[0]} ...): "
                f"python -m sdfsrn.prepare data=pascal3d data.root={release.root} data.category={release.category}"
            )

    def __len__(self) -> int:
        return len(self.records)

    def picture(self, index: int) -> ImageSample:
        """Image, alpha and camera of an object's crop."""
        record = self.records[index]
        path = self.release.image(record)
        color = read_color(open_image(path, upright=False), str(path))  # as stored, since the annotations are
        mask = read_mask(open_image(self.release.mask(record)), self.names[index], drawn=True).alpha
        if mask.shape != color.shape[:2]:
            raise ValueError(
                f"Expected a mask of {self.release.image(record)}'s size {color.shape[:2]}, got {mask.shape} in "
                f"{self.names[index]}: delete it and prepare again."
            )
        left, top, side = window(record.box, self.release.category)
        color, alpha = crop_square(color, mask, left, top, side, self.image_size)
        return ImageSample(color, alpha, weak_perspective(record.viewpoint, left, top, side))

    def points(self, index: int) -> Float[np.ndarray, "n 3"]:
        """Surface points of the object's CAD model in the picture's world frame, rescaled by eq. (25); none in training."""
        if self.split == "train":
            return np.zeros((0, 3), np.float32)
        record = self.records[index]
        points = _cloud(self.release.cloud(record.cad_index))[: self.num_points]
        _, _, side = window(record.box, self.release.category)
        return (record.viewpoint.scale * 2 / side * points @ CAD_TO_WORLD.T).astype(np.float32)

    def normals(self, index: int) -> Float[np.ndarray, "n 3"]:
        """Outward unit normals of the points; none in training."""
        if self.split == "train":
            return np.zeros((0, 3), np.float32)
        path = self.release.cloud(self.records[index].cad_index)
        normals = _cloud(path, "normals")[: self.num_points]
        return (normals @ CAD_TO_WORLD.T).astype(np.float32)


def weak_perspective(viewpoint: Viewpoint, left: float, top: float, side: float) -> OrthographicCamera:
    """The camera of a square crop, from the canonical frame: float32, without batch.

    The crop's first corner and its side are in pixels from the outer corner of the image's first pixel.
    """
    rotation = pascal3d_rotation(viewpoint.azimuth, viewpoint.elevation, viewpoint.theta) @ CAD_TO_WORLD.T
    origin = [2 * (viewpoint.px - 0.5 - left) / side - 1, 2 * (viewpoint.py - 0.5 - top) / side - 1, CAMERA_DISTANCE]
    world_to_camera = np.concatenate([rotation, np.array(origin)[:, None]], 1)
    return OrthographicCamera(torch.from_numpy(world_to_camera).float(), torch.eye(3))


def window(box: tuple[float, float, float, float], category: str) -> tuple[float, float, float]:
    """Left, top and side of the square crop around a box, in pixels from the outer corner of the image's first pixel.

    The object's box is in MATLAB's pixels. Appendix B.2, arXiv:2010.10505.
    """
    x1, y1, x2, y2 = box
    crop, of = CROPS.get(category, CROP)
    side = crop * (y2 - y1 if of == "height" else max(x2 - x1, y2 - y1))
    return (x1 + x2 - 1 - side) / 2, (y1 + y2 - 1 - side) / 2, side


@functools.lru_cache(maxsize=32)
def _cloud(path: pathlib.Path, name: str = "points") -> np.ndarray:
    points = read_npz(path, [name])[name].astype(np.float64)
    check_points(points, path, name)
    return points


class Pascal3DDataModule(ViewsDataModule):
    """`Pascal3DSource` of a `Pascal3DRelease`, whose arguments these are; `loading` goes to `ViewsDataModule`."""

    def __init__(
        self,
        root: str,
        category: str,
        cache: str | None = None,
        image_size: int = 64,
        truncated: bool = True,
        num_points: int = 30_000,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(**loading)
        self.crop, self.crop_side = CROPS.get(category, CROP)
        self._files = functools.partial(Pascal3DRelease, root, category, cache)
        self._open = functools.partial(Pascal3DSource, image_size=image_size, truncated=truncated, num_points=num_points)

    @functools.cached_property
    def release(self) -> Pascal3DRelease:
        """The files."""
        return self._files()

    def prepare(self, num_workers: int | None = None) -> dict[str, str]:
        """Make the silhouettes and clouds that are missing; what could not be made, by name."""
        return self.release.prepare(num_workers)

    def source(self, split: str) -> Pascal3DSource:
        """The objects of a split; logs what the release has of it."""
        source = self._open(self.release, split)
        log.info("PASCAL3D+ %s, %s: %s", self.release.category, split, describe(source.counts))
        return source
