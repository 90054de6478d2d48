"""The backbone of the implicit functions and its derivative, each with the way back written out.

A layer is feature = max(0, y), y = (x - mean(x)) s, s = 1 / sqrt(variance(x) + eps), x = feature W_f + encoding W_e;
appendix C, arXiv:2010.10505. The last channel of the encoding is 1, so that the last row of W_e is the bias, and `centered`
weights give x - mean(x) at once: neither costs a pass over memory of its own. The normalisation takes a cotangent c of y to
s P(c), P(c) = c - mean(c) - y mean(c y). Of a layer only y and s are kept for the way back; autograd would keep twice as much,
and the derivative of a derivative would cost it twice as many passes over memory.

On a CPU points are taken a tile at a time, through all layers, so that what one layer leaves in the processor's cache is still
there for the next one.
"""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sdfsrn.functional.backbone import BackboneLayer

Optional = Any  # a tensor, or None where there is no such input or nobody asks
_EPS = 1e-5
_TILE = 3 * 2**10  # points of all objects


def backbone(encoding: Float[Tensor, "b n e"], layers: Sequence[BackboneLayer]) -> Float[Tensor, "b n c"]:
    """The feature of encoded points after the last of centered layers, in the encoding's precision; differentiable once."""
    with torch.autocast(encoding.device.type, enabled=False):
        weights = _flat(layers, encoding.dtype)
        if torch.is_grad_enabled():
            return _Backbone.apply(encoding, *weights)
        layers = _layers(weights)
        return _joined([_feature(tile, layers) for tile in tiles(encoding)])


def backbone_vjp(
    encoding: Float[Tensor, "b n e"], cotangent: Float[Tensor, "b 1 c"], layers: Sequence[BackboneLayer]
) -> Float[Tensor, "b n e"]:
    """J^T v for the Jacobian J of `backbone` and one cotangent v an object; differentiable once, so that it can be a loss."""
    with torch.autocast(encoding.device.type, enabled=False):
        weights = [cotangent.to(encoding.dtype), *_flat(layers, encoding.dtype)]
        return _joined([_BackboneVJP.apply(tile, *weights) for tile in tiles(encoding)])


def tiles(points: Float[Tensor, "b n ..."]) -> Sequence[Float[Tensor, "b m ..."]]:
    """Equal parts of a few points on a CPU, elsewhere all of them."""
    objects, count = points.shape[:2]
    return points.chunk(max(1, math.ceil(objects * count / _TILE)), 1) if points.device.type == "cpu" else [points]


class _Values(NamedTuple):
    """What a layer keeps of a tile."""

    y: Float[Tensor, "b n c"]
    scale: Float[Tensor, "b n 1"]  # s


class _Backbone(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, encoding: Tensor, *weights: Tensor | None) -> Tensor:
        values = [list(_upwards(tile, _layers(weights))) for tile in tiles(encoding)]
        ctx.save_for_backward(encoding, *weights, *(tensor for each in values for layer in each for tensor in layer))
        return _joined([F.relu(each[-1].y) for each in values])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        _check_order()
        encoding, *rest = ctx.saved_tensors
        count = len(ctx.needs_input_grad) - 1
        layers = _layers(rest[:count])
        encoding_grads: list[Any] = []
        sums = [layer.map(torch.zeros_like) for layer in layers]
        for tile, feature_grad, kept in zip(tiles(encoding), tiles(grads[0]), rows(rest[count:], 2 * len(layers)), strict=True):
            encoding_grad = torch.zeros_like(tile) if ctx.needs_input_grad[0] else None
            values = _values(kept)
            for k in reversed(range(len(layers))):
                y, scale = values[k]
                x_grad = _projected(_masked(feature_grad, y, owned=k + 1 < len(layers)), y).mul_(scale)
                _add_weight_grads(sums[k], F.relu(values[k - 1].y) if k else None, tile, x_grad)
                feature_grad, encoding_grad = _input_grads(layers[k], x_grad, encoding_grad)
            encoding_grads.append(encoding_grad)
        return _joined(encoding_grads) if ctx.needs_input_grad[0] else None, *itertools.chain(*sums)


class _BackboneVJP(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, encoding: Tensor, cotangent: Tensor, *weights: Tensor | None) -> Tensor:
        layers = _layers(weights)
        values = list(_upwards(encoding, layers))
        feature_grad, encoding_grad = cotangent.expand_as(values[-1].y), torch.zeros_like(encoding)
        grads: list[Tensor] = []
        for k in reversed(range(len(layers))):
            y, scale = values[k]
            y_grad = _masked(feature_grad, y, owned=k + 1 < len(layers))
            dot = _dot(y_grad, y)
            x_grad = y_grad.mul_(scale).addcmul_(y, dot * scale / -y.shape[-1])
            feature_grad, encoding_grad = _input_grads(layers[k], x_grad, encoding_grad)
            grads = [x_grad, dot, *grads]
        ctx.save_for_backward(encoding, *weights, *itertools.chain(*values), *grads)
        return encoding_grad

    @staticmethod
    def backward(ctx: Any, *tangents: Tensor) -> tuple[Tensor | None, ...]:
        """Up the layers along the tangent, then down them again, as every layer met y and s both going up and coming down.

        Where x has the tangent u and x_grad = s P(c), the second derivative of the normalisation gives x the gradient
        -s (mean(c y) s P(u) + mean(u y) x_grad + mean(u x_grad) y).
        """
        _check_order()
        encoding, *rest = ctx.saved_tensors
        count = len(ctx.needs_input_grad) - 2
        layers, rest = _layers(rest[:count]), rest[count:]
        values, grads = _values(rest[: len(rest) // 2]), rows(rest[len(rest) // 2 :], 2)
        sums, of_x = [layer.map(torch.zeros_like) for layer in layers], []
        feature_tangent: Optional = None
        for layer, total, (y, scale), (x_grad, dot) in zip(layers, sums, values, grads, strict=True):
            _add_weight_grads(total, feature_tangent, tangents[0], x_grad)
            x_tangent = _linear(layer, feature_tangent, tangents[0])
            factor = scale / -y.shape[-1]
            along, turn = factor * _dot(x_tangent, y), factor * _dot(x_tangent, x_grad)
            y_tangent = x_tangent.mul_(scale).addcmul_(y, along)
            of_x.append((y_tangent * (factor * dot)).addcmul_(x_grad, along).addcmul_(y, turn))
            feature_tangent = _masked(y_tangent, y)  # of_x is done with it
        encoding_grad = torch.zeros_like(encoding) if ctx.needs_input_grad[0] else None
        feature_grad: Optional = None
        for k in reversed(range(len(layers))):
            x_grad = of_x[k]
            if feature_grad is not None:
                y, scale = values[k]
                x_grad.addcmul_(_projected(_masked(feature_grad, y), y), scale)
            _add_weight_grads(sums[k], F.relu(values[k - 1].y) if k else None, encoding, x_grad)
            feature_grad, encoding_grad = _input_grads(layers[k], x_grad, encoding_grad)
        return encoding_grad, feature_tangent.sum(1, keepdim=True), *itertools.chain(*sums)


def _upwards(encoding: Tensor, layers: Sequence[BackboneLayer], keep: bool = True) -> Iterator[_Values]:
    """Layer after layer, of one tile; a layer's y is overwritten by the next one unless it is to be kept."""
    values: Optional = None
    for layer in layers:
        values = _normalize(_linear(layer, values and F.relu(values.y, inplace=not keep), encoding))
        yield values


def _feature(encoding: Tensor, layers: Sequence[BackboneLayer]) -> Tensor:
    """The feature after the last layer, of one tile of which nothing is kept."""
    return collections.deque(_upwards(encoding, layers, keep=False), 1)[0].y.relu_()


def _linear(layer: BackboneLayer, feature: Optional, encoding: Tensor) -> Tensor:
    x = torch.bmm(encoding, layer.encoding_weight)
    return x if layer.feature_weight is None else x.baddbmm_(feature, layer.feature_weight)


def _normalize(x: Tensor) -> _Values:
    """y and s of x, whose mean is 0; x is overwritten on a CPU, whose kernel for layer norms is slower than these passes."""
    if x.device.type != "cpu":
        y, _, scale = torch.native_layer_norm(x, x.shape[-1:], None, None, _EPS)
        return _Values(y, scale)
    variance = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1])
    scale = variance.add_(_EPS).rsqrt_()
    return _Values(x.mul_(scale), scale)


def _projected(cotangent: Tensor, y: Tensor) -> Tensor:
    """P(c): the normalisation's way back where s is 1."""
    mean, one = torch.zeros_like(y[..., :1]), torch.ones_like(y[..., :1])
    return torch.ops.aten.native_layer_norm_backward(cotangent, y, y.shape[-1:], mean, one, None, None, [True, False, False])[0]


def _masked(cotangent: Tensor, y: Tensor, owned: bool = True) -> Tensor:
    """c where y > 0, else 0: the way back of max(0, y); c is overwritten if it is `owned`."""
    if owned:
        return torch.ops.aten.threshold_backward.grad_input(cotangent, y, 0, grad_input=cotangent)
    return torch.ops.aten.threshold_backward(cotangent, y, 0)


def _input_grads(layer: BackboneLayer, x_grad: Tensor, encoding_grad: Optional) -> tuple[Optional, Optional]:
    """Of the feature, and of the encoding so far; None where there is no such input, or nobody asks."""
    if encoding_grad is not None:
        encoding_grad = encoding_grad.baddbmm_(x_grad, layer.encoding_weight.mT)
    return None if layer.feature_weight is None else torch.bmm(x_grad, layer.feature_weight.mT), encoding_grad


def _add_weight_grads(sums: BackboneLayer, feature: Optional, encoding: Tensor, x_grad: Tensor) -> None:
    if feature is not None:
        sums.feature_weight.baddbmm_(feature.mT, x_grad)
    sums.encoding_weight.baddbmm_(encoding.mT, x_grad)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1, keepdim=True)


def _check_order() -> None:
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise RuntimeError("Expected a first derivative of the field; for that of its gradient there is Field.gradient.")


def _joined(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts, 1) if len(parts) > 1 else parts[0]


def _flat(layers: Sequence[BackboneLayer], dtype: torch.dtype) -> list[Tensor | None]:
    return [*itertools.chain(*(layer.map(lambda weight: weight.to(dtype)) for layer in layers))]


def _layers(weights: Sequence[Tensor | None]) -> list[BackboneLayer]:
    return [BackboneLayer(*row) for row in rows(weights, 2)]


def _values(tensors: Sequence[Tensor]) -> list[_Values]:
    return [_Values(*row) for row in rows(tensors, 2)]


def rows(values: Sequence[Any], width: int) -> list[Sequence[Any]]:
    """A flat list, `width` of it at a time."""
    return [values[i : i + width] for i in range(0, len(values), width)]
