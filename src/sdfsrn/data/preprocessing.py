"""Preparation of pictures for a trained network, the same at inference as in training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sdfsrn.data.batches.pictures import pack, read_pictures
from sdfsrn.data.batches.views import BatchSettings, composite, make_views
from sdfsrn.data.conventions import crop_camera
from sdfsrn.data.cropping import SIDES, Window, crop_square, crop_window
from sdfsrn.data.images import Cutout, ImageLike, read_cutout
from sdfsrn.data.source import ImageSample, Source
from sdfsrn.functional.camera import Camera
from sdfsrn.structures import Views


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
            image: a file, PIL image, array or tensor, see `open_image`; an alpha channel is the mask.
            mask: likewise, of the picture's size, bright where the object is, see `read_mask`.

        Raises:
            ValueError: an unreadable image or mask, no mask, one of another size, or one that is empty or covers everything.
        """
        return self.prepare(read_cutout(image, mask))

    def prepare(self, cutout: Cutout) -> Float[Tensor, "3 h w"]:
        """The network's input of a picture that has been read."""
        window = crop_window(cutout.alpha, self.crop, self.crop_side)
        rgba = torch.from_numpy(pack(*crop_square(cutout.color, cutout.alpha, *window, self.image_size)))
        layers = rgba.movedim(-1, 0)[None] / 255
        return composite(layers[:, :3], layers[:, 3:], self.background)[0]

    def views(self, source: Source, indices: Sequence[int], device: torch.device) -> Views:
        """A batch of pictures of a data set with all their pixels and their ground truth, in the model's size.

        Raises:
            ValueError: a picture or a ground truth that cannot be used, named.
        """
        pictures = read_pictures(source, indices, points=True, size=self.image_size)
        return make_views(pictures.to(device), None, BatchSettings(background=self.background))


def cropped(cutout: Cutout, camera: Camera, window: Window, image_size: int) -> ImageSample:
    """The window of a picture, `image_size` pixels high and wide, with its camera; `camera` is that of the whole picture."""
    height, width = cutout.alpha.shape
    camera = crop_camera(camera, (width, height), *window).map(Tensor.float)
    return ImageSample(*crop_square(cutout.color, cutout.alpha, *window, image_size), camera, cutout.dropped, cutout.cut)
