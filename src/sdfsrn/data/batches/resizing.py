"""Pictures of other sizes: colours and silhouette resampled together, so that neither bleeds into the other."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sdfsrn.data.source import ImageSample


def resize(image: np.ndarray, alpha: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Antialiased copies of size x size; colours are weighted by alpha, so that none bleeds in from the background."""
    premultiplied = np.concatenate([image * alpha[..., None], alpha[..., None]], -1).astype(np.float32)
    tensor = torch.from_numpy(premultiplied).permute(2, 0, 1)[None]
    resized = F.interpolate(tensor, (size, size), mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()
    color = resized[..., :3] / np.maximum(resized[..., 3:], 1e-6)
    return color.round().clip(0, 255).astype(np.uint8), resized[..., 3].clip(0, 1)


def zoom(picture: ImageSample, factor: float) -> ImageSample:
    """A picture of the same size, enlarged about its middle with its camera; antialiased, so that nothing thin is lost.

    Each new pixel takes from all old ones it overlaps, so that what is free of the object stays known to be. A border that is
    revealed is free and white. What grows beyond the border is cut off, and D no longer knows of it.
    """
    height, width = picture.alpha.shape
    layers = np.empty((4, height, width), np.float32)  # colours times alpha, alpha
    np.multiply(picture.image.transpose(2, 0, 1), picture.alpha, out=layers[:3])
    layers[3] = picture.alpha
    rows, columns = (resampling(size, torch.tensor(factor, dtype=torch.double)) for size in (height, width))
    zoomed = rows @ torch.from_numpy(layers) @ columns.T
    color, alpha = zoomed[:3], zoomed[3]
    color = torch.where(alpha > 0, color / alpha.clamp(min=1e-30), 255).round_().clamp_(0, 255).byte()
    return ImageSample(color.permute(1, 2, 0).contiguous().numpy(), alpha.clamp(max=1).numpy(), picture.camera.zoomed(factor))


def rescaled(picture: ImageSample, factor: float) -> ImageSample:
    """Enlarged; as it is where no silhouette with background around it would be left."""
    zoomed = zoom(picture, factor)
    inside = zoomed.alpha >= 0.5
    return picture if inside.all() or not inside.any() else zoomed


def resampling(size: int, factor: Float[Tensor, "*b"]) -> Float[Tensor, "*b new old"]:
    """Weights of pixels along an axis: triangles about as wide as two pixels, old or new, whichever are larger."""
    factor = factor.to(widest(factor.device))[..., None, None]
    place = torch.arange(size, device=factor.device, dtype=factor.dtype)
    position = (place[:, None] + 0.5 - size / 2) / factor + size / 2 - 0.5
    reach = (1 / factor).clamp(min=1)
    weight = (1 - (position - place).abs() / reach).clamp(min=0)
    around = torch.arange(-size, size + 2, device=factor.device)  # what lies beyond the border is free, and counts
    total = (1 - (position - position.floor() - around).abs() / reach).clamp(min=0).sum(-1, keepdim=True)
    return (weight / total).float()


def widest(device: torch.device) -> torch.dtype:
    """The most precise floating point that a device has."""
    return torch.float if device.type == "mps" else torch.double
