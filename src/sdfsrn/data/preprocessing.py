"""From one picture of any size to the input of a network, at inference as in training."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.utils._pytree import tree_map

from sdfsrn.data.batches.resizing import resize
from sdfsrn.data.batches.views import ViewsDataset, collate_views, composite
from sdfsrn.data.source import ImageSample, Source
from sdfsrn.functional.camera import OrthographicCamera
from sdfsrn.runtime.files import read_picture as read_picture_file
from sdfsrn.structures import Views

ImageLike = str | pathlib.Path | Image.Image | np.ndarray


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How a model's pictures were made in training, to make others like them.

    Args:
        image_size: height and width of the network's input.
        background: colour behind the object, in [-1, 1].
        crop: side of the square cut out around the silhouette, in longer sides of its box; None takes the whole picture,
            padded to a square.
    """

    image_size: int = 64
    background: float = 1.0
    crop: float | None = None

    def __call__(self, image: ImageLike, mask: ImageLike | None = None) -> Float[Tensor, "3 h w"]:
        """The network's input, colours in [-1, 1].

        Args:
            image: a file, PIL image or uint8 array (h, w, 3 or 4); an alpha channel is the mask.
            mask: of the picture's size, bright where the object is.

        Raises:
            ValueError: an unreadable image or mask, no mask at all, an empty one, or one of another size.
        """
        color, alpha = square(*read_picture(image, mask), self.crop)
        color, alpha = resize(color, alpha, self.image_size)
        eye = torch.eye(3)
        return composite(ImageSample(color, alpha, OrthographicCamera(torch.cat([eye, eye[:, :1]], 1), eye)), self.background)

    def views(self, source: Source, indices: Sequence[int], device: torch.device) -> Views:
        """A batch of pictures of a data set with all their pixels and their ground truth, as the model takes them.

        Raises:
            ValueError: a picture or a ground truth that cannot be used, named.
        """
        dataset = ViewsDataset(source, None, self.background)
        return tree_map(lambda tensor: tensor.to(device), collate_views([dataset[i] for i in indices]))


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


def square(color: np.ndarray, alpha: np.ndarray, margin: float | None) -> tuple[np.ndarray, np.ndarray]:
    """The smallest square around the picture, or one of `margin` times the silhouette's longer side around the silhouette."""
    height, width = alpha.shape
    if margin is None:
        side, center = max(height, width), (height / 2, width / 2)
    else:
        rows, columns = np.nonzero(alpha >= 0.5)
        side = round(margin * (max(np.ptp(rows), np.ptp(columns)) + 1))
        center = ((rows.min() + rows.max() + 1) / 2, (columns.min() + columns.max() + 1) / 2)
    if side < 1:
        raise ValueError(f"Expected a positive margin, got {margin}.")
    top, left = (round(c - side / 2) for c in center)
    pad = [(max(0, -top), max(0, top + side - height)), (max(0, -left), max(0, left + side - width))]
    top, left = top + pad[0][0], left + pad[1][0]
    window = (slice(top, top + side), slice(left, left + side))
    return np.pad(color, [*pad, (0, 0)])[window], np.pad(alpha, pad)[window]


def _open(image: ImageLike) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, np.ndarray):
        return Image.fromarray(image)
    return read_picture_file(pathlib.Path(image))


def _name(image: ImageLike) -> str:
    return str(image) if isinstance(image, str | pathlib.Path) else "the picture"
