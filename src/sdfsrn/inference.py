"""From one image to a coloured mesh; and, where the camera is known, to a latent code that fits the picture better."""

from __future__ import annotations

import pathlib
from typing import NamedTuple

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from sdfsrn.data.resizing import resize
from sdfsrn.data.source import Picture
from sdfsrn.data.views import composite
from sdfsrn.files import read_picture as read_picture_file
from sdfsrn.functional.camera import OrthographicCamera
from sdfsrn.models.field import Field
from sdfsrn.protocol import Protocol
from sdfsrn.structures import Views
from sdfsrn.system import SDFSRN

REFINED_RAYS = 1024  # random ones of a picture, a step, as in training

ImageLike = str | pathlib.Path | Image.Image | np.ndarray


def reconstruct(
    image: ImageLike,
    model: SDFSRN | str | pathlib.Path,
    mask: ImageLike | None = None,
    protocol: Protocol | None = None,
    image_size: int = 64,
    margin: float | None = None,
    background: float = 1.0,
) -> trimesh.Trimesh:
    """A closed, coloured mesh of the object in a picture, in the frame of the model's training shapes.

    Args:
        image: a file, PIL image or uint8 array (h, w, 3 or 4); an alpha channel is the mask.
        model: a trained model, or the path of its checkpoint.
        mask: of the picture's size, bright where the object is.
        protocol: how the surface is extracted; as in the model's training if None, or 128 voxels along an axis.
        image_size: of the network's input.
        margin: crop to a square around the silhouette, this many times its longer side; None takes the whole picture.
        background: colour put behind the object, in [-1, 1], as in training.

    Returns:
        The mesh, with vertex colours; without faces where the model sees no surface.

    Raises:
        ValueError: an unreadable image or mask, no mask at all, an empty one, or one of another size.
    """
    from sdfsrn.cli import load_checkpoint, load_protocol

    if not isinstance(model, SDFSRN):
        model = load_checkpoint(model)[0]
    protocol = protocol or load_protocol({}, model.config)
    picture = network_input(image, mask, image_size, margin, background)
    model.eval()
    with torch.no_grad():
        return protocol.mesh(model(picture[None].to(model.device)), color=True)


class Refinement(NamedTuple):
    """Latent codes that were adapted to their pictures."""

    latent: Float[Tensor, "b l"]
    field: Field  # of the adapted code
    losses: list[float]  # before every step


def refine(model: SDFSRN, views: Views, steps: int = 100, lr: float = 1e-3, seed: int = 0) -> Refinement:
    """Fit the latent codes of some pictures, whose cameras are known, under the training losses; no weight changes.

    Adam from the encoder's codes on, with new random rays every step; `views` hold all pixels. The same seed gives the same
    codes, and leaves torch's random state alone. Last row of Table 3, arXiv:2010.10505.
    """
    was_training = model.training
    model.eval()
    with torch.random.fork_rng([views.image.device] if views.image.is_cuda else []), torch.enable_grad():
        torch.manual_seed(seed)
        latent = model.encoder(views.image).detach().requires_grad_()
        optimizer, losses = torch.optim.Adam([latent], lr), []
        for _ in range(steps):
            part = views.some(torch.randperm(views.uv.shape[1], device=views.uv.device)[:REFINED_RAYS])
            field = model.hypernetwork(latent)
            march = model.raymarcher(field, part.camera.rays(part.uv))
            loss, _ = model.losses(field, march, part)
            latent.grad = torch.autograd.grad(loss, latent)[0]  # and no gradient is left on a weight
            optimizer.step()
            losses.append(loss.detach())
    latent = latent.detach()
    with torch.no_grad():
        field = model.hypernetwork(latent)
    model.train(was_training)
    return Refinement(latent, field, [float(loss) for loss in losses])


def network_input(
    image: ImageLike, mask: ImageLike | None, image_size: int, margin: float | None = None, background: float = 1.0
) -> torch.Tensor:
    """(3, image_size, image_size) in [-1, 1]: the object over the background, squared, cropped and resized.

    Arguments and errors as `reconstruct`.
    """
    color, coverage = read_picture(image, mask)
    color, coverage = square(color, coverage, margin)
    color, coverage = resize(color, coverage, image_size)
    eye = torch.eye(3)
    return composite(Picture(color, coverage, OrthographicCamera(torch.cat([eye, eye[:, :1]], 1), eye)), background)


def read_picture(image: ImageLike, mask: ImageLike | None) -> tuple[np.ndarray, np.ndarray]:
    """Colours (h, w, 3) uint8 and coverage (h, w) float32; errors as `reconstruct`."""
    opened = _open(image)
    if mask is not None:
        coverage = _open(mask).convert("L")
        if coverage.size != opened.size:
            raise ValueError(f"Expected a mask of the image's size {opened.size}, got {coverage.size} in {_name(mask)}.")
    elif opened.mode in ("RGBA", "LA", "PA") or "transparency" in opened.info:
        coverage = opened.convert("RGBA").getchannel("A")
    else:
        raise ValueError(f"Expected an alpha channel in {_name(image)} or a mask: give mask=FILE, bright where the object is.")
    array = np.asarray(coverage, np.float32) / 255
    if not (array >= 0.5).any():
        raise ValueError(f"Expected an object, but the mask of {_name(image)} is empty.")
    return np.array(opened.convert("RGB")), array


def square(color: np.ndarray, coverage: np.ndarray, margin: float | None) -> tuple[np.ndarray, np.ndarray]:
    """The smallest square around the picture, or one of `margin` times the silhouette's longer side around the silhouette."""
    height, width = coverage.shape
    if margin is None:
        side, center = max(height, width), (height / 2, width / 2)
    else:
        rows, columns = np.nonzero(coverage >= 0.5)
        side = round(margin * (max(np.ptp(rows), np.ptp(columns)) + 1))
        center = ((rows.min() + rows.max() + 1) / 2, (columns.min() + columns.max() + 1) / 2)
    if side < 1:
        raise ValueError(f"Expected a positive margin, got {margin}.")
    top, left = (round(c - side / 2) for c in center)
    pad = [(max(0, -top), max(0, top + side - height)), (max(0, -left), max(0, left + side - width))]
    top, left = top + pad[0][0], left + pad[1][0]
    window = (slice(top, top + side), slice(left, left + side))
    return np.pad(color, [*pad, (0, 0)])[window], np.pad(coverage, pad)[window]


def _open(image: ImageLike) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, np.ndarray):
        return Image.fromarray(image)
    return read_picture_file(pathlib.Path(image))


def _name(image: ImageLike) -> str:
    return str(image) if isinstance(image, str | pathlib.Path) else "the picture"
