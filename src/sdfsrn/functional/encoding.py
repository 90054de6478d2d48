"""Positional encoding of points, and its vector-Jacobian product.

Every channel is stored contiguously, since operations on rows of three numbers take several times as long.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def positional_encoding(
    points: Float[Tensor, "*n 3"], num_frequencies: int, frequency_scale: float = 1.0, homogeneous: bool = False
) -> Float[Tensor, "*n c"]:
    """gamma(p) = [p, cos(p), sin(p), cos(2 p), sin(2 p), ..., cos(2^(L-1) p), sin(2^(L-1) p)], 3 + 6 L channels.

    `frequency_scale` multiplies every frequency (pi in the released code, 1 in the paper); `homogeneous` appends a channel
    of ones. Eq. (27), arXiv:2010.10505.

    >>> positional_encoding(torch.zeros(1, 3), 1).tolist()
    [[0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]]
    """
    encoding: Tensor = _Encoding.apply(points, num_frequencies, frequency_scale, homogeneous)
    return encoding


def encoding_vjp(
    encoding: Float[Tensor, "*n c"],
    cotangent: Float[Tensor, "*n c"],
    num_frequencies: int,
    frequency_scale: float = 1.0,
) -> Float[Tensor, "*n 3"]:
    """J^T v for the Jacobian J of gamma at the points whose `encoding` is given: d cos = -sin, d sin = cos."""
    encoding, cotangent = encoding.movedim(-1, 0), cotangent.movedim(-1, 0).contiguous()
    cos, sin = _waves(encoding, num_frequencies).unbind(1)
    v_cos, v_sin = _waves(cotangent, num_frequencies).unbind(1)
    frequency = _frequencies(encoding, num_frequencies, frequency_scale)
    return (cotangent[:3] + (frequency * (v_sin * cos - v_cos * sin)).sum(0)).movedim(0, -1)


def band_weights(done: float, like: Float[Tensor, " l"]) -> Float[Tensor, " l"]:
    """Weights of L frequencies when the share `done` of them is there; each fades in as half a cosine.

    Eq. (14), arXiv:2104.06405.

    >>> band_weights(0.375, torch.zeros(4)).tolist()
    [1.0, 0.5, 0.0, 0.0]
    """
    there = done * len(like) - torch.arange(len(like), dtype=like.dtype, device=like.device)
    return (1 - (math.pi * there.clamp(0, 1)).cos()) / 2


class _Encoding(torch.autograd.Function):
    """Takes its derivative from the values: autograd would compute all sines and cosines a second time."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, num_frequencies: int, frequency_scale: float, homogeneous: bool) -> Tensor:
        coordinates = points.movedim(-1, 0).contiguous()
        phase = coordinates * _frequencies(coordinates, num_frequencies, frequency_scale)
        waves = torch.stack([phase.cos(), phase.sin()], 1).flatten(0, 2)
        one = torch.ones_like(coordinates[:homogeneous])
        encoding = torch.cat([coordinates, waves, one]).movedim(0, -1)
        ctx.save_for_backward(encoding)
        ctx.num_frequencies, ctx.frequency_scale = num_frequencies, frequency_scale
        return encoding

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (encoding,) = ctx.saved_tensors
        return encoding_vjp(encoding, grads[0], ctx.num_frequencies, ctx.frequency_scale), None, None, None


def _waves(channels: Tensor, num_frequencies: int) -> Float[Tensor, "l 2 3 *n"]:
    return channels[3 : 3 + 6 * num_frequencies].view(num_frequencies, 2, 3, *channels.shape[1:])


def _frequencies(like: Tensor, num_frequencies: int, frequency_scale: float) -> Float[Tensor, "l 1 *n"]:
    frequency = frequency_scale * 2.0 ** torch.arange(num_frequencies, dtype=like.dtype, device=like.device)
    return frequency.view(-1, *[1] * like.ndim)
