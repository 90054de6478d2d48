"""Pictures as they are stored and as loaders deliver them: bytes, cameras and, for evaluation, true points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.utils._pytree import tree_map

from sdfsrn.data.cropping import crop_square
from sdfsrn.data.source import ImageSample, Source, check_picture
from sdfsrn.functional.camera import Camera


class Pictures(NamedTuple):
    """A batch of pictures, or all of a split."""

    rgba: UInt8[Tensor, "b h w 4"]  # colours not multiplied by alpha
    camera: Camera
    points: Float[Tensor, "b n 3"]  # ground truth, world frame; n = 0 in training, padded with NaN
    index: Int[Tensor, " b"]  # type: ignore[assignment]  # in the split; -1: not to be counted; hides `tuple.index`
    hull_depth: Float[Tensor, "b height width"]  # z of the visual hull per pixel, inf beside it; (b, 0, 0) where not known

    def select(self, rows: Int[Tensor, " k"]) -> Pictures:
        """Some of the pictures."""
        camera = self.camera.map(lambda matrix: matrix[rows])
        return Pictures(self.rgba[rows], camera, self.points[rows], self.index[rows], self.hull_depth[rows])

    def to(self, device: torch.device) -> Pictures:
        """The pictures on a device."""
        return tree_map(lambda tensor: tensor.to(device), self)


def pack(image: UInt8[np.ndarray, "h w 3"], alpha: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 4"]:
    """The bytes of a picture, from which all batches are made.

    Alpha is rounded to 255ths, but 0 stays 0, above 0 stays above 0, and 1 / 2 and more stay so: a pixel keeps what it is.
    """
    rounded = np.rint(alpha * np.float32(255))
    return np.dstack([image, np.where(alpha > 0, rounded.clip(1, 255), 0).astype(np.uint8)])


def read_pictures(
    source: Source, indices: Sequence[int], points: bool = False, checked: bool = False, size: int | None = None
) -> Pictures:
    """Pictures of a source as a batch.

    Args:
        source: pictures of one size and one kind of camera.
        indices: -1 stands for the first picture, not to be counted.
        points: read the ground truth, too.
        checked: the source has checked its pictures.
        size: height of the pictures; square ones of another size are resampled. None leaves them as they are.

    Raises:
        ValueError: a picture or a ground truth that cannot be used, named.
    """
    samples, clouds = [], []
    for index in (max(i, 0) for i in indices):
        picture = source.picture(index)
        if not checked:
            check_picture(picture, source.names[index])
        samples.append(picture if size is None else _resized(picture, size, source.names[index]))
        clouds.append(torch.from_numpy(source.points(index)) if points else torch.zeros(0, 3))
    longest = max(len(cloud) for cloud in clouds)
    matrices = (torch.stack(matrix) for matrix in zip(*(sample.camera for sample in samples), strict=True))
    return Pictures(
        torch.from_numpy(np.stack([pack(sample.image, sample.alpha) for sample in samples])),
        type(samples[0].camera)(*matrices),
        torch.stack([F.pad(cloud, (0, 0, 0, longest - len(cloud)), value=float("nan")) for cloud in clouds]),
        torch.tensor(indices),
        torch.zeros(len(samples), 0, 0),
    )


def _resized(picture: ImageSample, size: int, name: str) -> ImageSample:
    """The whole picture in another size; its camera, in screen coordinates, stays."""
    height, width = picture.alpha.shape
    if height == size:
        return picture
    if height != width:
        raise ValueError(f"Expected a square picture, or one of the model's height {size}, got {height} x {width} in {name}.")
    return ImageSample(*crop_square(picture.image, picture.alpha, 0, 0, height, size), picture.camera)
