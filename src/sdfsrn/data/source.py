"""What a data set is: pictures of one object each, with cameras, and what may be known of the shapes."""

from __future__ import annotations

import pathlib
from collections.abc import Hashable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch

from sdfsrn.functional.camera import Camera

SPLITS = ("train", "val", "test")


class ImageSample(NamedTuple):
    """One picture of one object, as a data set stores it."""

    image: np.ndarray  # (h, w, 3) uint8, colours not multiplied by alpha
    alpha: np.ndarray  # (h, w) float32 in [0, 1], the object's share of each pixel
    camera: Camera  # without batch dimension: (3, 4), (3, 3)
    dropped: float = 0.0  # share of the photo's pixels whose faint alpha was set to 0, see `sdfsrn.data.alpha.drop_faint`
    cut: bool = False  # whether the object touches the border of the photo that this is a window of


@runtime_checkable
class Source(Protocol):
    """A split of a data set: pictures, and ground truth where there is any."""

    names: list[str]  # one per picture

    def __len__(self) -> int: ...

    def picture(self, index: int) -> ImageSample:
        """The picture of an index; ValueError, naming the file, if it cannot be used."""
        ...

    def points(self, index: int) -> np.ndarray:
        """(n, 3) float32 surface points in the world frame; n = 0 if there is no ground truth, as in training splits."""
        ...


class GroundTruth:
    """Ground truth beside points, for evaluation: a source inherits this and overrides what it knows."""

    def normals(self, index: int) -> np.ndarray:
        """(n, 3) float32 unit normals of `points(index)`, in their order; n = 0 if unknown."""
        return np.zeros((0, 3), np.float32)

    def occupancy(self, index: int, points: np.ndarray) -> np.ndarray | None:
        """(n,) Booleans: which of the points (n, 3), world frame, lie inside the object; None if unknown."""
        return None

    def other_views(self, index: int) -> list[ImageSample]:
        """The same object from other sides, in the same world frame."""
        return []


@runtime_checkable
class ObjectViews(Protocol):
    """What a source also has if it knows which of its pictures show the same object, in the same world frame."""

    @property
    def objects(self) -> Sequence[Hashable]:
        """One per picture, equal for pictures of the same object."""
        ...


def ground_truth(source: Source) -> GroundTruth:
    """`source` if it provides `GroundTruth`, else an empty `GroundTruth`."""
    return source if isinstance(source, GroundTruth) else GroundTruth()


def check_picture(picture: ImageSample, name: str) -> None:
    """Raise ValueError, naming the picture, if no silhouette or no camera can be read from it."""
    if picture.image.shape != (*picture.alpha.shape, 3):
        raise ValueError(
            f"Expected an RGB image and a mask of one size, got {picture.image.shape} and {picture.alpha.shape} in {name}."
        )
    inside = picture.alpha >= 0.5
    if inside.all() or not inside.any():
        what = "covers the whole image" if inside.all() else "is empty"
        raise ValueError(f"Expected a silhouette with background around it, but it {what} in {name}.")
    for field, value in picture.camera._asdict().items():
        if not value.isfinite().all():
            raise ValueError(f"Expected finite cameras, got NaN or infinity in {field} of {name}.")
    rotation = picture.camera.world_to_camera[:, :3].double()
    if not torch.allclose(rotation @ rotation.T, torch.eye(3, dtype=torch.double), atol=1e-3) or torch.det(rotation) < 0:
        raise ValueError(f"Expected a rotation in world_to_camera (orthonormal, no mirroring), got another matrix in {name}.")
    intrinsics = picture.camera.intrinsics
    if intrinsics[0, 0] <= 0 or intrinsics[1, 1] <= 0:
        raise ValueError(f"Expected positive focal lengths in the intrinsics of {name}.")
    if intrinsics[0, 1] != 0 or intrinsics[1, 0] != 0 or intrinsics[2].tolist() != [0, 0, 1]:
        raise ValueError(f"Expected intrinsics [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] without skew in {name}.")


def short_name(name: str) -> str:
    """A picture's name without path and suffix, the model's folder and the view, for the names of files."""
    parts = [part for part in pathlib.PurePath(name).with_suffix("").parts if part not in ("image", "/")]
    return "_".join(parts[-2:])


def evenly_spaced(count: int, most: int) -> list[int]:
    """At most `most` of the numbers below `count`, evenly spaced from the first to the last; all of them if they are no more.

    >>> evenly_spaced(9, 3), evenly_spaced(2, 3)
    ([0, 4, 8], [0, 1])
    """
    return [int(i) for i in np.linspace(0, count - 1, min(count, most)).round()]


def other_sides(view: int, count: int) -> list[int]:
    """Up to four of the `count` views around an object, evenly spaced, other than `view`.

    >>> other_sides(3, 10), other_sides(0, 2)
    ([1, 5, 7, 9], [1])
    """
    return sorted({(view + round(count * i / 5)) % count for i in range(1, 5)} - {view})
