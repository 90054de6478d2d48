"""The backbone of the implicit functions in one kernel up and one down, which keep nothing of the layers between them.

Going down, a tile's layers are computed once more, so that what autograd keeps is the encoding alone.
"""

from __future__ import annotations

from typing import Any

import torch
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
    ascend,
    descend_to_weights,
    layer,
    load_encoding,
    product_precision,
    shares,
)


@triton.jit
def _up(
    encoding, stride_b, stride_n, stride_c, up, features, points, width, columns, eps,
    D: tl.constexpr, C: tl.constexpr, E: tl.constexpr, T: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Features of one tile."""
    thing = tl.program_id(1).to(tl.int64)
    channel, column, point = tl.arange(0, C), tl.arange(0, E), tl.program_id(0) * T + tl.arange(0, T)
    valid = point < points
    gamma, _ = load_encoding(encoding, thing * stride_b + point * stride_n, stride_c, column, valid, columns)
    feature = tl.zeros((T, C), tl.float32)
    for k in range(D):
        y, _scale = layer(feature, gamma, up + thing * D * (C + E) * C, k, width, eps, C, E, P)
        feature = tl.maximum(y, 0.0)
    out = features + (thing * points + point)[:, None] * width + channel[None, :]
    tl.store(out, feature, valid[:, None] & (channel < width)[None, :])


@triton.jit
def _down(
    encoding, stride_b, stride_n, stride_c, cotangents, up, down, blocks, scalars, sums, encoding_grads,
    points, tiles, width, columns, eps,
    D: tl.constexpr, C: tl.constexpr, E: tl.constexpr, T: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Gradients of the weights from the tiles of one program, and of the tiles' encodings."""
    part, thing = tl.program_id(0), tl.program_id(1).to(tl.int64)
    me = thing * tl.num_programs(0) + part
    up += thing * D * (C + E) * C
    down += thing * D * (C + E) * C
    sums += me * D * (C + E) * C
    ys, scales = blocks + me * D * T * C, scalars + me * D * T
    channel, column = tl.arange(0, C), tl.arange(0, E)
    for tile in range(tiles):
        point = (tile * tl.num_programs(0) + part) * T + tl.arange(0, T)
        valid = point < points
        gamma, known = load_encoding(encoding, thing * stride_b + point * stride_n, stride_c, column, valid, columns)
        there = valid[:, None] & (channel < width)[None, :]
        cotangent = tl.load(cotangents + (thing * points + point)[:, None] * width + channel[None, :], there, 0.0)
        ascend(gamma, up, ys, scales, width, eps, D, C, E, T, P)
        grad = descend_to_weights(cotangent, gamma, down, ys, scales, ys, sums, width, False, D, C, E, T, P)
        tl.store(encoding_grads + (thing * points + point)[:, None] * columns + column[None, :], grad, known)


@torch.compiler.disable  # a graph of its own in compiled terms
def backbone(
    encoding: Float[Tensor, "b n e"], layers: PackedLayers, bf16x3: bool = False, tile: int = TILE, programs: int = PROGRAMS
) -> Float[Tensor, "b n c"]:
    """The feature of encoded points after the last layer, as `sdfsrn.functional.backbone`; differentiable once.

    Args:
        encoding: homogeneous positional encoding of the points.
        layers: packed.
        bf16x3: make each product three of bfloat16; otherwise in torch's precision of float32 products.
        tile: points that a program takes at a time, a power of two of at least 16.
        programs: how many share the work of the gradient, over all objects.

    Raises:
        ValueError: another precision than float32.
    """
    settings = (layers.width, product_precision(bf16x3, encoding), tile, programs)
    feature: Tensor = _Backbone.apply(encoding, layers.down, layers.up, settings)
    return feature


class _Backbone(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, encoding: Tensor, down: Tensor, up: Tensor, settings: tuple[int, str, int, int]) -> Tensor:
        (objects, points, columns), (_, depth, rows, c) = encoding.shape, down.shape
        width, precision, tile, _ = settings
        feature = encoding.new_empty(objects, points, width)
        _up[(triton.cdiv(points, tile), objects)](
            encoding, *encoding.stride(), up, feature, points, width, columns, EPS,
            D=depth, C=c, E=rows - c, T=tile, P=precision, num_warps=8, num_stages=1,
        )  # fmt: skip
        ctx.settings = settings
        ctx.save_for_backward(encoding, down, up)
        return feature

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        encoding, down, up = ctx.saved_tensors
        (objects, points, columns), (_, depth, rows, c) = encoding.shape, down.shape
        width, precision, tile, programs = ctx.settings
        parts, tiles = shares(objects, points, tile, programs)
        sums = down.new_zeros(objects, parts, *down.shape[1:])
        blocks, scalars = down.new_empty(objects, parts, depth, tile, c), down.new_empty(objects, parts, depth, tile)
        encoding_grad = encoding.new_empty(encoding.shape)
        _down[(parts, objects)](
            encoding, *encoding.stride(), cotangents[0].contiguous(), up, down, blocks, scalars, sums,
            encoding_grad, points, tiles, width, columns, EPS,
            D=depth, C=c, E=rows - c, T=tile, P=precision, num_warps=8, num_stages=1,
        )  # fmt: skip
        return encoding_grad, sums.sum(1), None, None
