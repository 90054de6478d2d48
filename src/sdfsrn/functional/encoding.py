"""Positional encoding of points, and its derivative."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def positional_encoding(
    points: Float[Tensor, "*n 3"], num_frequencies: int, frequency_scale: float = 1.0
) -> Float[Tensor, "*n c"]:
    """gamma(p) = [p, cos(p), sin(p), cos(2 p), sin(2 p), ..., cos(2^(L-1) p), sin(2^(L-1) p)], 3 + 6 L channels.

    `frequency_scale` multiplies every frequency (pi in the released code, 1 in the paper). Eq. (27), arXiv:2010.10505.

    >>> positional_encoding(torch.zeros(1, 3), 1).tolist()
    [[0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]]
    """
    return points if num_frequencies == 0 else _Encoding.apply(points, num_frequencies, frequency_scale)


def encoding_vjp(
    encoding: Float[Tensor, "*n c"],
    cotangent: Float[Tensor, "*n c"],
    num_frequencies: int,
    frequency_scale: float = 1.0,
) -> Float[Tensor, "*n 3"]:
    """J^T v for the Jacobian J of gamma at the points whose `encoding` is given (d cos = -sin, d sin = cos: no new sines)."""
    gradient = cotangent[..., :3]
    if num_frequencies == 0:
        return gradient
    cos, sin = encoding[..., 3:].unflatten(-1, (num_frequencies, 2, 3)).unbind(-2)
    v_cos, v_sin = cotangent[..., 3:].unflatten(-1, (num_frequencies, 2, 3)).unbind(-2)
    frequency = _frequencies(encoding, num_frequencies, frequency_scale)[:, None]
    return gradient + (frequency * (v_sin * cos - v_cos * sin)).sum(-2)


class _Encoding(torch.autograd.Function):
    """With the derivative from what is there: autograd would take all sines and cosines again on the way back."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, num_frequencies: int, frequency_scale: float) -> Tensor:
        phase = points[..., None, :] * _frequencies(points, num_frequencies, frequency_scale)[:, None]
        encoding = torch.cat([points, torch.stack([phase.cos(), phase.sin()], -2).flatten(-3)], -1)
        ctx.save_for_backward(encoding)
        ctx.num_frequencies, ctx.frequency_scale = num_frequencies, frequency_scale
        return encoding

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (encoding,) = ctx.saved_tensors
        return encoding_vjp(encoding, grads[0], ctx.num_frequencies, ctx.frequency_scale), None, None


def _frequencies(like: Tensor, num_frequencies: int, frequency_scale: float) -> Tensor:
    return frequency_scale * 2.0 ** torch.arange(num_frequencies, dtype=like.dtype, device=like.device)
