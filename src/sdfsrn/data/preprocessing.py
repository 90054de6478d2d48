"""Preparation of pictures for a trained network, the same at inference as in training."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from sdfsrn.data.batches.pictures import pack, read_pictures
from sdfsrn.data.batches.views import BatchSettings, composite, make_views
from sdfsrn.data.conventions import crop_camera
from sdfsrn.data.cropping import SIDES, Window, crop_square, crop_window
from sdfsrn.data.source import ImageSample, Source
from sdfsrn.functional.camera import Camera
from sdfsrn.runtime.files import read_picture as read_picture_file
from sdfsrn.structures import Views

ImageLike = str | pathlib.Path | Image.Image | np.ndarray


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How a model's pictures were made in training, to make others like them.

    Args:
        image_size: height and width of the network's input.
        background: colour behind the object, in [-1, 1].
        crop: side of the square cut out around the silhouette, in sides of its box; None takes the whole picture, padded to
            a square.
        crop_side: which side of the box that is, `longer` or `height`.

    Raises:
        ValueError: a size or a crop that is not positive, or another side.
    """

    image_size: int = 64
    background: float = 1.0
    crop: float | None = None
    crop_side: str = "longer"

    def __post_init__(self) -> None:
        if self.image_size < 1 or (self.crop is not None and not self.crop > 0):
            raise ValueError(f"Expected a positive image_size and crop, got {self.image_size} and {self.crop}.")
        if self.crop_side not in SIDES:
            raise ValueError(f"Expected crop_side to be one of {', '.join(SIDES)}, got {self.crop_side}.")

    def __call__(self, image: ImageLike, mask: ImageLike | None = None) -> Float[Tensor, "3 h w"]:
        """The network's input, colours in [-1, 1].

        Args:
            image: a file, PIL image or uint8 array (h, w, 3 or 4); an alpha channel is the mask.
            mask: of the picture's size, bright where the object is.

        Raises:
            ValueError: an unreadable image or mask, no mask at all, an empty one, or one of another size.
        """
        color, alpha = read_picture(image, mask)
        window = crop_window(alpha, self.crop, self.crop_side)
        rgba = torch.from_numpy(pack(*crop_square(color, alpha, *window, self.image_size)))
        layers = rgba.movedim(-1, 0)[None] / 255
        return composite(layers[:, :3], layers[:, 3:], self.background)[0]

    def views(self, source: Source, indices: Sequence[int], device: torch.device) -> Views:
        """A batch of pictures of a data set with all their pixels and their ground truth, in the model's size.

        Raises:
            ValueError: a picture or a ground truth that cannot be used, named.
        """
        pictures = read_pictures(source, indices, points=True, size=self.image_size)
        return make_views(pictures.to(device), None, BatchSettings(background=self.background))


def cropped(
    color: UInt8[np.ndarray, "h w 3"], alpha: Float[np.ndarray, "h w"], camera: Camera, window: Window, image_size: int
) -> ImageSample:
    """The window of a picture, `image_size` pixels high and wide, with its camera; `camera` is that of the whole picture."""
    height, width = alpha.shape
    camera = crop_camera(camera, (width, height), *window)
    return ImageSample(*crop_square(color, alpha, *window, image_size), camera.map(Tensor.float))


def read_picture(image: ImageLike, mask: ImageLike | None) -> tuple[np.ndarray, np.ndarray]:
    """Colours (h, w, 3) uint8 and alpha (h, w) float32; errors as `Preprocessing`."""
    opened = _open(image)
    if mask is not None:
        alpha = _open(mask).convert("L")
        if alpha.size != opened.size:
            raise ValueError(f"Expected a mask of the image's size {opened.size}, got {alpha.size} in {_name(mask)}.")
    elif opened.mode in ("RGBA", "LA", "PA") or "transparency" in opened.info:
        alpha = opened.convert("RGBA").getchannel("A")
    else:
        raise ValueError(f"Expected an alpha channel in {_name(image)} or a mask: give mask=FILE, bright where the object is.")
    array = np.asarray(alpha, np.float32) / 255
    if not (array >= 0.5).any():
        raise ValueError(f"Expected an object, but the mask of {_name(image)} is empty.")
    return np.array(opened.convert("RGB")), array


def _open(image: ImageLike) -> Image.Image:
    if isinstance(image, Image.Image):
        return ImageOps.exif_transpose(image)
    if isinstance(image, np.ndarray):
        return Image.fromarray(image)
    return read_picture_file(pathlib.Path(image))


def _name(image: ImageLike) -> str:
    return str(image) if isinstance(image, str | pathlib.Path) else "the picture"
