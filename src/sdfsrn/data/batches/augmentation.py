"""Random changes of pictures: zoom and colour jitter, batched, on any device, functions of random numbers drawn before."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

HUE = 3  # its number among the four changes of colours; 0, 1 and 2 are brightness, contrast and saturation


class AugmentationParams(NamedTuple):
    """The random numbers of training samples; drawn on the CPU, so that every device makes the same batch of them."""

    offsets: Int[Tensor, "b r"]  # of `draw_pixels`, in 2^-31: integers, which no precision rounds; r = 0: all pixels
    zoom: Float[Tensor, " b"]  # factor, 1 without scale jitter
    factors: Float[Tensor, "b 4"]  # of `jitter_colors`
    order: Int[Tensor, "b 4"]  # of `jitter_colors`
    mirrored: Bool[Tensor, " b"]  # the picture is seen in a mirror

    def uniform(self) -> Float[Tensor, "b r"]:
        """`offsets` in [0, 1)."""
        return self.offsets.to(widest(self.offsets.device)) / 2**31


def jitter_colors(
    image: Float[Tensor, "b 3 h w"], factors: Float[Tensor, "b 4"], order: Int[Tensor, "b 4"]
) -> Float[Tensor, "b 3 h w"]:
    """Change brightness, contrast and saturation by up to 20 % and the hue by any angle. Colours in [0, 1].

    `factors` in [-1, 1] are those of the four changes, `order` the sequence per picture in which they are applied. With
    uniform factors this is torchvision's `ColorJitter(0.2, 0.2, 0.2, 0.5)`. Appendix B.1, arXiv:2010.10505.
    """
    from kornia import enhance  # takes 0.7 s to import, and few programs jitter

    blends = (
        enhance.adjust_brightness_accumulative,
        enhance.adjust_contrast_with_mean_subtraction,
        enhance.adjust_saturation_with_gray_subtraction,
    )
    step_of_hue = (order == HUE).long().argmax(1)

    def blend(image: Tensor, steps: range, applies: Tensor) -> Tensor:
        """Apply the blends of some steps to those pictures whose `applies` says so; a factor of 1 changes no other."""
        for step in steps:
            for number, change in enumerate(blends):
                chosen = (order[:, step] == number) & applies[:, step]
                image = change(image, torch.where(chosen, 1 + 0.2 * factors[:, number], 1.0))
        return image

    step = torch.arange(4, device=order.device)
    image = blend(image, range(3), step < step_of_hue[:, None])
    image = enhance.adjust_hue(image, math.pi * factors[:, HUE])  # costs more than all blends, and so comes once
    return blend(image, range(1, 4), step > step_of_hue[:, None])


def zoom(layers: Float[Tensor, "b 4 h w"], factor: Float[Tensor, " b"]) -> Float[Tensor, "b 4 h w"]:
    """Pictures of the same size, enlarged about their middles. Layers are colours and alpha, in [0, 1].

    Every new pixel takes from all old ones it overlaps, so that a pixel of alpha 0 is free of the object for certain. A border
    that is revealed is free and white; what grows beyond the border is cut off. Colours are weighted by alpha and rounded to
    255ths.
    """
    alpha = layers[:, 3:]
    weighted = torch.cat([layers[:, :3] * alpha, alpha], 1)
    rows, columns = (resampling(size, factor)[:, None] for size in layers.shape[2:])
    zoomed = rows @ weighted @ columns.mT
    color, alpha = zoomed[:, :3], zoomed[:, 3:]
    color = torch.where(alpha > 0, color / alpha.clamp(min=1e-30), 1.0).mul(255).round().clamp(0, 255) / 255
    return torch.cat([color, alpha.clamp(max=1)], 1)


def zoom_nearest(values: Float[Tensor, "b h w"], factor: Float[Tensor, " b"], border: float) -> Float[Tensor, "b h w"]:
    """Values per pixel, enlarged with the pictures of `zoom`: each new pixel takes the old one that its centre falls on.

    `border` is the value of what is revealed.
    """
    picture = torch.arange(len(values), device=values.device)[:, None, None]
    rows, columns = (_nearest(size, factor) for size in values.shape[1:])
    old = [places.clamp(0, size - 1) for places, size in zip((rows, columns), values.shape[1:], strict=True)]
    there = (rows == old[0])[:, :, None] & (columns == old[1])[:, None]
    return torch.where(there, values[picture, old[0][:, :, None], old[1][:, None]], border)


def _nearest(size: int, factor: Float[Tensor, " b"]) -> Int[Tensor, "b size"]:
    """The old pixels along an axis on which the new ones' centres fall; beyond the picture, numbers that it has not."""
    place = torch.arange(size, device=factor.device) + 0.5 - size / 2
    return (place / factor[:, None] + size / 2).floor().long()


def resampling(size: int, factor: Float[Tensor, "*b"]) -> Float[Tensor, "*b new old"]:
    """Weights of pixels along an axis: triangles about as wide as two pixels, old or new, whichever are larger."""
    factor = factor.to(widest(factor.device))[..., None, None]
    place = torch.arange(size, device=factor.device, dtype=factor.dtype)
    position = (place[:, None] + 0.5 - size / 2) / factor + size / 2 - 0.5
    reach = (1 / factor).clamp(min=1)
    weight = (1 - (position - place).abs() / reach).clamp(min=0)
    around = torch.arange(-size, size + 2, device=factor.device)  # pixels beyond the border are free, and count
    total = (1 - (position - position.floor() - around).abs() / reach).clamp(min=0).sum(-1, keepdim=True)
    return (weight / total).float()


def widest(device: torch.device) -> torch.dtype:
    """The most precise floating point type of a device."""
    return torch.float if device.type == "mps" else torch.double
