"""The eikonal loss of a backbone, eq. (10), arXiv:2010.10505, and its gradient for all weights, in one pass over the points.

The loss is a mean, so that a point's part of the gradient is known as soon as its own value is. A program takes a tile of an
object's points up the layers, down them for the gradient of f, and, with the derivative of (|grad f| - 1)^2, up and down once
more: what `sdfsrn.functional.fused_backbone` does in operations on all points.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from sdfsrn.functional.backbone import EPS
from sdfsrn.kernels.layers import (
    PROGRAMS,
    TILE,
    PackedLayers,
    add_product,
    ascend,
    descend_to_weights,
    load_encoding,
    product_precision,
    shares,
)


@triton.jit
def _encoded(encoding, stride_c, place, valid, count, scale, E: tl.constexpr):
    """gamma (T, E), its derivative by the coordinate it is made of, and which columns are made of x, y and z."""
    column = tl.arange(0, E)
    gamma, _ = load_encoding(encoding, place, stride_c, column, valid, count)
    wave = (column >= 3) & (column < count - 1)
    is_sin = ((column - 3) // 3) % 2 == 1
    partner = tl.where(wave, tl.where(is_sin, column - 3, column + 3), column)
    frequency = tl.where(is_sin, scale, -scale) * tl.exp2(((column - 3) // 6).to(tl.float32))
    other, _ = load_encoding(encoding, place, stride_c, partner, valid, count)
    slope = tl.where(wave[None, :], frequency[None, :] * other, tl.where(column < 3, 1.0, 0.0)[None, :])
    return gamma, slope, column % 3


@triton.jit
def _sum_where(value, mask):
    """The sum over columns of a mask."""
    return tl.sum(tl.where(mask[None, :], value, 0.0), 1)


@triton.jit
def _descend(
    seed, down, ys, scales, x_grads, dots, width,
    D: tl.constexpr, C: tl.constexpr, E: tl.constexpr, T: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Down the layers: x_grad = s P(c) and sum(c y) of each, into memory; the gradient of f by the encoding."""
    channel, column, row = tl.arange(0, C), tl.arange(0, E), tl.arange(0, T)
    block = row[:, None] * C + channel[None, :]
    cotangent, encoding_grad = tl.zeros((T, C), tl.float32) + seed[None, :], tl.zeros((T, E), tl.float32)
    for step in range(D):
        k = D - 1 - step
        weight = down + k * (C + E) * C + channel[:, None]
        y, scale = tl.load(ys + k * T * C + block), tl.load(scales + k * T + row)
        cotangent = tl.where(y > 0, cotangent, 0.0)
        dot = tl.sum(cotangent * y, 1)
        x_grad = cotangent * scale[:, None] - y * (dot * scale / width)[:, None]
        tl.store(x_grads + k * T * C + block, x_grad)
        tl.store(dots + k * T + row, dot)
        encoding_grad = tl.dot(x_grad, tl.load(weight + (C + column)[None, :] * C), encoding_grad, input_precision=P)
        if k > 0:
            cotangent = tl.dot(x_grad, tl.load(weight + channel[None, :] * C), input_precision=P)
    tl.debug_barrier()
    return encoding_grad


@triton.jit
def _ascend_along(
    tangent, up, ys, scales, x_grads, dots, sums, width,
    D: tl.constexpr, C: tl.constexpr, E: tl.constexpr, T: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Up along a tangent of the encoding: second derivatives of the normalisations in place of x_grad; the last tangent."""
    channel, column, row = tl.arange(0, C), tl.arange(0, E), tl.arange(0, T)
    block = row[:, None] * C + channel[None, :]
    feature_tangent = tl.zeros((T, C), tl.float32)
    for k in range(D):
        weight, total = up + k * (C + E) * C + channel[None, :] * (C + E), sums + k * (C + E) * C + channel[None, :]
        y, x_grad = tl.load(ys + k * T * C + block), tl.load(x_grads + k * T * C + block)
        scale, dot = tl.load(scales + k * T + row), tl.load(dots + k * T + row)
        add_product(total + (C + column)[:, None] * C, tangent, x_grad, P)
        x = tl.dot(tangent, tl.load(weight + C + column[:, None]), input_precision=P)
        if k > 0:
            add_product(total + channel[:, None] * C, feature_tangent, x_grad, P)
            x = tl.dot(feature_tangent, tl.load(weight + channel[:, None]), x, input_precision=P)
        along, turn = -scale * tl.sum(x * y, 1) / width, -scale * tl.sum(x * x_grad, 1) / width
        x = x * scale[:, None] + y * along[:, None]
        second = x * (-scale * dot / width)[:, None] + x_grad * along[:, None] + y * turn[:, None]
        tl.store(x_grads + k * T * C + block, second)
        feature_tangent = tl.where(y > 0, x, 0.0)
    tl.debug_barrier()
    return feature_tangent


@triton.jit
def _eikonal(
    encoding, stride_b, stride_n, stride_c, head, up, down, blocks, scalars, sums, head_sums, losses,
    points, tiles, width, columns, frequency_scale, share, eps,
    D: tl.constexpr, C: tl.constexpr, E: tl.constexpr, T: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Losses and gradients of the tiles of one program. `up` has weights (D, out, in), `down` (D, in, out), features first."""
    part, thing = tl.program_id(0), tl.program_id(1).to(tl.int64)
    me = thing * tl.num_programs(0) + part
    up += thing * D * (C + E) * C
    down += thing * D * (C + E) * C
    sums += me * D * (C + E) * C
    ys, scales = blocks + me * 2 * D * T * C, scalars + me * 2 * D * T
    x_grads, dots = ys + D * T * C, scales + D * T
    seed = tl.load(head + thing * C + tl.arange(0, C))
    loss, head_grad = tl.zeros((T,), tl.float32), tl.zeros((C,), tl.float32)
    for tile in range(tiles):
        point = (tile * tl.num_programs(0) + part) * T + tl.arange(0, T)
        place, valid = thing * stride_b + point * stride_n, point < points
        gamma, slope, axis = _encoded(encoding, stride_c, place, valid, columns, frequency_scale, E)
        ascend(gamma, up, ys, scales, width, eps, D, C, E, T, P)
        encoding_grad = _descend(seed, down, ys, scales, x_grads, dots, width, D, C, E, T, P) * slope
        gx, gy, gz = (
            _sum_where(encoding_grad, axis == 0),
            _sum_where(encoding_grad, axis == 1),
            _sum_where(encoding_grad, axis == 2),
        )
        norm = tl.sqrt(gx * gx + gy * gy + gz * gz)
        loss += tl.where(valid, (norm - 1) * (norm - 1), 0.0)
        factor = tl.where(valid & (norm > 0), 2 * share * (norm - 1) / norm, 0.0)
        along = tl.where((axis == 0)[None, :], gx[:, None], tl.where((axis == 1)[None, :], gy[:, None], gz[:, None]))
        tangent = slope * along * factor[:, None]
        head_grad += tl.sum(_ascend_along(tangent, up, ys, scales, x_grads, dots, sums, width, D, C, E, T, P), 0)
        none = tl.zeros((T, C), tl.float32)
        descend_to_weights(none, gamma, down, ys, scales, x_grads, sums, width, True, D, C, E, T, P)
    tl.store(head_sums + me * C + tl.arange(0, C), head_grad)
    tl.store(losses + me, tl.sum(loss, 0) * share)


@torch.compiler.disable  # a graph of its own in compiled terms
def eikonal_loss(
    encoding: Float[Tensor, "b n e"],
    head: Float[Tensor, "b c 1"],
    layers: PackedLayers,
    frequency_scale: float,
    bf16x3: bool = False,
    tile: int = TILE,
    programs: int = PROGRAMS,
) -> Float[Tensor, ""]:
    """The mean of (|grad f| - 1)^2, eq. (10), arXiv:2010.10505, differentiable once by the weights.

    Args:
        encoding: homogeneous positional encoding of the points, of which no gradient is taken.
        head: weights of f's last layer.
        layers: packed.
        frequency_scale: of the encoding.
        bf16x3: make each product three of bfloat16; otherwise in torch's precision of float32 products.
        tile: points that a program takes at a time, a power of two of at least 16.
        programs: how many share the work, over all objects.

    Raises:
        ValueError: another precision than float32.
    """
    settings = _Settings(layers.width, frequency_scale, product_precision(bf16x3, encoding), tile, programs)
    head = F.pad(head[..., 0].float(), (0, layers.down.shape[-1] - layers.width))
    loss: Tensor = _Eikonal.apply(encoding, head, layers.down, layers.up, settings)
    return loss


class _Settings(NamedTuple):
    width: int
    frequency_scale: float
    precision: str
    tile: int
    programs: int


class _Eikonal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, encoding: Tensor, head: Tensor, down: Tensor, up: Tensor, settings: _Settings) -> Tensor:
        (objects, points, columns), (_, depth, rows, c) = encoding.shape, down.shape
        width, scale, precision, tile, programs = settings
        parts, tiles = shares(objects, points, tile, programs)
        empty, sums = encoding.new_empty, down.new_zeros(objects, parts, *down.shape[1:])
        head_sums, losses = empty(objects, parts, c), empty(objects, parts)
        blocks, scalars = empty(objects, parts, 2, depth, tile, c), empty(objects, parts, 2, depth, tile)
        _eikonal[(parts, objects)](
            encoding, *encoding.stride(), head, up, down, blocks, scalars, sums, head_sums, losses,
            points, tiles, width, columns, scale, 1 / (objects * points), EPS,
            D=depth, C=c, E=rows - c, T=tile, P=precision, num_warps=8, num_stages=1,
        )  # fmt: skip
        ctx.save_for_backward(head_sums.sum(1), sums.sum(1))
        return losses.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        head_grad, grad = (cotangents[0] * value for value in ctx.saved_tensors)
        return None, head_grad, grad, None, None
