"""Sampling of pixels for rays: denser near the outline, with the inverse density as weight."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def ray_density(weight: Float[Tensor, "*b n"], share: float) -> Float[Tensor, "*b n"]:
    """p(u) = (1 - s) + s w(u) / mean w: how many rays a pixel is to get, relative to the mean pixel.

    A `share` s of the rays is drawn in proportion to w, the others uniformly, so that no inverse density exceeds
    1 / (1 - s). Losses that weigh rays by w(u) = 1 / D(u), eq. (4), arXiv:2010.10505, then vary least with what was drawn.
    """
    return 1 - share + share * weight / weight.mean(-1, keepdim=True)


def draw_pixels(density: Float[Tensor, "*b n"], uniform: Float[Tensor, "*b r"]) -> Int[Tensor, "*b r"]:
    """One pixel from each of r strata of equal density, in order; `uniform` in [0, 1) is the position within the stratum.

    1 / density is the weight of a drawn pixel: the mean over rays of x / density has the mean of x over the image as its
    expectation.

    >>> draw_pixels(torch.tensor([1.0, 1.0, 1.0, 1.0, 4.0, 0.0]), torch.full((4,), 0.5))
    tensor([1, 3, 4, 4])
    """
    count = uniform.shape[-1]
    place = (torch.arange(count, device=uniform.device) + uniform) / count
    reached = density.to(place.dtype).cumsum(-1)
    return torch.searchsorted(reached, place * reached[..., -1:], right=True).clamp(max=density.shape[-1] - 1)
