"""A tile of points on its way up and down the layers of a backbone, as parts of kernels; weights as the kernels take them.

Notation as in `sdfsrn.functional.fused_backbone`. A tile's y and x_grad lie in memory of the program's own, small enough to
stay in the cache. Sums of gradients are each program's own, too, and are added in a fixed order, so that the same call gives
the same numbers. The part of a gradient of x that is equal in all channels is left out, since centring the weights removes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from sdfsrn.functional.backbone import BackboneLayer
from sdfsrn.kernels import runs_kernels

TILE, PROGRAMS = 64, 128  # points per tile; programs on the device, about one per multiprocessor
_PRECISIONS = {"highest": "ieee", "high": "tf32", "medium": "tf32"}  # of products, by torch's name
_SMALLEST = 16  # side of a block that tensor cores multiply


class PackedLayers(NamedTuple):
    """Weights of all layers, those of features first, with zeros up to the sizes of the kernels' blocks.

    Attributes:
        down: (in, out), differentiable by the layers.
        up: (out, in), the same numbers without gradient.
        width: channels of a feature; the first of those in a block.
    """

    down: Float[Tensor, "b d c+e c"]
    up: Float[Tensor, "b d c c+e"]
    width: int


def pack(layers: Sequence[BackboneLayer]) -> PackedLayers:
    """Layers for the kernels: `centered`, of one width, in float32.

    Raises:
        ValueError: weights on a device without CUDA.
    """
    columns, width = layers[0].encoding_weight.shape[1:]
    device = layers[0].encoding_weight.device
    if not runs_kernels(device):
        raise ValueError(f"Expected a CUDA device, got {device.type}: set model.hypernetwork.field.kernel=plain.")
    c, e = (max(_SMALLEST, triton.next_power_of_2(size)) for size in (width, columns))
    down = torch.stack([_padded(layer, width, c, e) for layer in layers], 1)
    return PackedLayers(down, down.detach().mT.contiguous(), width)


def _padded(layer: BackboneLayer, width: int, c: int, e: int) -> Float[Tensor, "b c+e c"]:
    encoding_weight = F.pad(layer.encoding_weight.float(), (0, c - width, 0, e - layer.encoding_weight.shape[1]))
    if layer.feature_weight is None:
        return F.pad(encoding_weight, (0, 0, c, 0))
    return torch.cat([F.pad(layer.feature_weight.float(), (0, c - width, 0, c - width)), encoding_weight], 1)


def product_precision(bf16x3: bool, encoding: Tensor) -> str:
    """Triton's name of a product's precision: three of bfloat16, or torch's precision of float32 products.

    Raises:
        ValueError: an encoding that is not float32.
    """
    if encoding.dtype != torch.float:
        raise ValueError(f"Expected float32, got {encoding.dtype}: set model.hypernetwork.field.kernel=plain.")
    return "bf16x3" if bf16x3 else _PRECISIONS[torch.get_float32_matmul_precision()]


def shares(objects: int, points: int, tile: int, programs: int) -> tuple[int, int]:
    """How many programs an object has, and how many tiles each of them takes."""
    tiles = triton.cdiv(points, tile)
    parts = min(tiles, max(1, programs // objects))
    return parts, triton.cdiv(tiles, parts)


@triton.jit
def load_encoding(encoding, place, stride_c, column, valid, count):
    """Some columns of the encodings of a tile, 0 where there is no point or no such column; and where there are both."""
    known = valid[:, None] & (tl.arange(0, column.shape[0]) < count)[None, :]
    return tl.load(encoding + place[:, None] + column[None, :] * stride_c, known, 0.0), known


@triton.jit
def add_product(pointers, a, b, P: tl.constexpr):
    """Add a^T b to a sum in memory."""
    tl.store(pointers, tl.dot(tl.trans(a), b, tl.load(pointers), input_precision=P))


@triton.jit
def layer(
    feature, gamma, up, k, width, eps,
    C: tl.constexpr, E: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """One layer's y and s. `up` has weights (D, out, in), features first; the first layer takes no feature."""
    channel, column = tl.arange(0, C), tl.arange(0, E)
    weight = up + k * (C + E) * C + channel[None, :] * (C + E)
    x = tl.dot(gamma, tl.load(weight + C + column[:, None]), input_precision=P)
    if k > 0:
        x = tl.dot(feature, tl.load(weight + channel[:, None]), x, input_precision=P)
    scale = tl.rsqrt(tl.sum(x * x, 1) / width + eps)
    return x * scale[:, None], scale


@triton.jit
def ascend(
    gamma, up, ys, scales, width, eps,
    D: tl.constexpr, C: tl.constexpr, E: tl.constexpr, T: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Up the layers: y and s of each, into memory."""
    row = tl.arange(0, T)
    block = row[:, None] * C + tl.arange(0, C)[None, :]
    feature = tl.zeros((T, C), tl.float32)
    for k in range(D):
        y, scale = layer(feature, gamma, up, k, width, eps, C, E, P)
        tl.store(ys + k * T * C + block, y)
        tl.store(scales + k * T + row, scale)
        feature = tl.maximum(y, 0.0)
    tl.debug_barrier()


@triton.jit
def descend_to_weights(
    cotangent, gamma, down, ys, scales, x_grads, sums, width,
    SECOND: tl.constexpr, D: tl.constexpr, C: tl.constexpr, E: tl.constexpr, T: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Down the layers from a cotangent of the feature, adding the weights' gradients to `sums`; the encoding's gradient.

    With SECOND, `x_grads` has what is added to the gradient of each x, and no gradient of the encoding is made. `down` has
    weights (D, in, out).
    """
    channel, column, row = tl.arange(0, C), tl.arange(0, E), tl.arange(0, T)
    block = row[:, None] * C + channel[None, :]
    encoding_grad = tl.zeros((T, E), tl.float32)
    for step in range(D):
        k = D - 1 - step
        weight, total = down + k * (C + E) * C + channel[:, None], sums + k * (C + E) * C + channel[None, :]
        y, scale = tl.load(ys + k * T * C + block), tl.load(scales + k * T + row)
        cotangent = tl.where(y > 0, cotangent, 0.0)
        turn = tl.sum(cotangent * y, 1) / width
        x_grad = (cotangent - y * turn[:, None]) * scale[:, None]
        if SECOND:
            x_grad += tl.load(x_grads + k * T * C + block)
        else:
            encoding_grad = tl.dot(x_grad, tl.load(weight + (C + column)[None, :] * C), encoding_grad, input_precision=P)
        add_product(total + (C + column)[:, None] * C, gamma, x_grad, P)
        if k > 0:
            feature = tl.maximum(tl.load(ys + (k - 1) * T * C + block), 0.0)
            add_product(total + channel[:, None] * C, feature, x_grad, P)
            cotangent = tl.dot(x_grad, tl.load(weight + channel[None, :] * C), input_precision=P)
    tl.debug_barrier()
    return encoding_grad
