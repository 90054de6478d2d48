"""The two functions of `sdfsrn.functional.backbone` with derivatives written by hand: the same values, less time and memory.

Notation as there. A cotangent c of y gives x the cotangent s P(c), P(c) = c - mean(c) - y mean(c y). A layer keeps only y and s
for the gradient, and the vector-Jacobian product one tensor more: half of what autograd keeps for the ordinary form. On a CPU
each tile of points passes through all layers before the next one, so that its values stay in the processor's cache.
docs/measurements compares the two forms. Only intermediate tensors are changed in place, never one that a function returns to
autograd: the compiler of torch 2.11 loses such a change, and with it the gradient.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sdfsrn.functional.backbone import EPS, BackboneLayer

_TILE = 3 * 2**10  # points of all objects


def backbone(encoding: Float[Tensor, "b n e"], layers: Sequence[BackboneLayer]) -> Float[Tensor, "b n c"]:
    """The feature of encoded points after the last of `centered` layers, in the encoding's precision; differentiable once."""
    with torch.autocast(encoding.device.type, enabled=False):
        weights = _flat(layers, encoding.dtype)
        if torch.is_grad_enabled():
            feature: Tensor = _Backbone.apply(encoding, *weights)
            return feature
        return _joined([_feature(tile, _layers(weights)) for tile in _tiles(encoding)])


def backbone_vjp(
    encoding: Float[Tensor, "b n e"], cotangent: Float[Tensor, "b 1 c"], layers: Sequence[BackboneLayer]
) -> Float[Tensor, "b n e"]:
    """J^T v for the Jacobian J of `backbone` and one cotangent v per object; `centered` layers, differentiable once."""
    with torch.autocast(encoding.device.type, enabled=False):
        weights = [cotangent.to(encoding.dtype), *_flat(layers, encoding.dtype)]
        return _joined([_BackboneVJP.apply(tile, *weights) for tile in _tiles(encoding)])


class _Kept(NamedTuple):
    """What a layer keeps of a tile."""

    y: Float[Tensor, "b n c"]
    scale: Float[Tensor, "b n 1"]  # s


class _Backbone(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, encoding: Tensor, *weights: Tensor | None) -> Tensor:
        kept = [_evaluate(tile, _layers(weights)) for tile in _tiles(encoding)]
        ctx.save_for_backward(encoding, *weights, *(tensor for tile in kept for layer in tile for tensor in layer))
        return _joined([F.relu(tile[-1].y) for tile in kept])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        _check_order()
        encoding, *saved = ctx.saved_tensors
        count = len(ctx.needs_input_grad) - 1
        layers, kept = _layers(saved[:count]), _kept(saved[count:])
        sums = [layer.map(torch.zeros_like) for layer in layers]
        encoding_grads: list[Tensor] = []
        for i, (tile, grad) in enumerate(zip(_tiles(encoding), _tiles(grads[0]), strict=True)):
            of_tile = kept[i * len(layers) : (i + 1) * len(layers)]
            encoding_grad, sums = _descend(layers, of_tile, tile, sums, ctx.needs_input_grad[0], grad)
            encoding_grads += [] if encoding_grad is None else [encoding_grad]
        return _joined(encoding_grads) if encoding_grads else None, *itertools.chain(*sums)


class _BackboneVJP(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, encoding: Tensor, cotangent: Tensor, *weights: Tensor | None) -> Tensor:
        layers = _layers(weights)
        kept = _evaluate(encoding, layers)
        feature_grad, encoding_grad = cotangent.expand_as(kept[-1].y), torch.zeros_like(encoding)
        grads: list[Tensor] = []
        for layer, (y, scale) in zip(reversed(layers), reversed(kept), strict=True):
            y_grad = _masked(feature_grad, y)
            dot = _dot(y_grad, y)
            x_grad = y_grad.mul_(scale).addcmul_(y, dot * scale / -y.shape[-1])
            encoding_grad = torch.baddbmm(encoding_grad, x_grad, layer.encoding_weight.mT)
            if layer.feature_weight is not None:
                feature_grad = torch.bmm(x_grad, layer.feature_weight.mT)
            grads = [x_grad, dot, *grads]
        ctx.save_for_backward(encoding, *weights, *itertools.chain(*kept), *grads)
        return encoding_grad

    @staticmethod
    def backward(ctx: Any, *tangents: Tensor) -> tuple[Tensor | None, ...]:
        """Up the layers along the tangent, then down, since every layer met y and s both going up and going down.

        Where x has the tangent u and x_grad = s P(c), the second derivative of the normalisation gives x the gradient
        -s (mean(c y) s P(u) + mean(u y) x_grad + mean(u x_grad) y).
        """
        _check_order()
        encoding, *saved = ctx.saved_tensors
        count = len(ctx.needs_input_grad) - 2
        layers, kept = _layers(saved[:count]), _kept(saved[count : 2 * count])
        x_grads, dots = saved[2 * count :: 2], saved[2 * count + 1 :: 2]
        sums: list[BackboneLayer] = []
        second: list[Tensor] = []  # gradients of x by the formula above
        feature_tangent = None
        for layer, (y, scale), x_grad, dot in zip(layers, kept, x_grads, dots, strict=True):
            zeros = layer.map(torch.zeros_like)
            sums.append(_with_weight_grads(zeros, feature_tangent, tangents[0], x_grad))
            x_tangent = _linear(layer, feature_tangent, tangents[0])
            factor = scale / -y.shape[-1]
            along, turn = factor * _dot(x_tangent, y), factor * _dot(x_tangent, x_grad)
            y_tangent = x_tangent.mul_(scale).addcmul_(y, along)
            second.append((y_tangent * (factor * dot)).addcmul_(x_grad, along).addcmul_(y, turn))
            feature_tangent = _masked(y_tangent, y)
        encoding_grad, sums = _descend(layers, kept, encoding, sums, ctx.needs_input_grad[0], None, second)
        cotangent_grad = None if feature_tangent is None else feature_tangent.sum(1, keepdim=True)
        return encoding_grad, cotangent_grad, *itertools.chain(*sums)


def _evaluate(encoding: Tensor, layers: Sequence[BackboneLayer]) -> list[_Kept]:
    """What all layers keep of one tile, going up."""
    kept = [_normalize(_linear(layers[0], None, encoding))]
    for layer in layers[1:]:
        kept.append(_normalize(_linear(layer, F.relu(kept[-1].y), encoding)))
    return kept


def _feature(encoding: Tensor, layers: Sequence[BackboneLayer]) -> Tensor:
    """The feature after the last layer, of one tile of which nothing is kept."""
    feature = None
    for layer in layers:
        feature = _normalize(_linear(layer, feature, encoding)).y.relu_()
    return _present(feature)


def _descend(
    layers: Sequence[BackboneLayer],
    kept: Sequence[_Kept],
    encoding: Tensor,
    sums: list[BackboneLayer],
    wants_encoding_grad: bool,
    feature_grad: Tensor | None,
    x_grads: Sequence[Tensor] = (),
) -> tuple[Tensor | None, list[BackboneLayer]]:
    """Gradients of one tile's encoding, and `sums` with those of the weights added.

    `feature_grad` reaches the last layer's feature, `x_grads`, if any, the x of the layers.
    """
    encoding_grad = torch.zeros_like(encoding) if wants_encoding_grad else None
    sums = list(sums)
    for k in reversed(range(len(layers))):
        layer, (y, scale) = layers[k], kept[k]
        if feature_grad is None:
            x_grad = x_grads[k]
        else:
            x_grad = _projected(_masked(feature_grad, y), y).mul_(scale)
            if x_grads:
                x_grad = x_grad.add_(x_grads[k])
        sums[k] = _with_weight_grads(sums[k], F.relu(kept[k - 1].y) if k else None, encoding, x_grad)
        if encoding_grad is not None:
            encoding_grad = torch.baddbmm(encoding_grad, x_grad, layer.encoding_weight.mT)
        if layer.feature_weight is not None:
            feature_grad = torch.bmm(x_grad, layer.feature_weight.mT)
    return encoding_grad, sums


def _linear(layer: BackboneLayer, feature: Tensor | None, encoding: Tensor) -> Tensor:
    """x, as `BackboneLayer` gives it, in one piece of memory."""
    x = torch.bmm(encoding, layer.encoding_weight)
    return x if layer.feature_weight is None else x.baddbmm_(_present(feature), layer.feature_weight)


def _normalize(x: Tensor) -> _Kept:
    """y and s of x, whose mean is 0; x is overwritten on a CPU, whose kernel for layer norms is slower than these passes."""
    if x.device.type != "cpu":
        y, _, scale = torch.native_layer_norm(x, x.shape[-1:], None, None, EPS)
        return _Kept(y, scale)
    variance = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1])
    scale = variance.add_(EPS).rsqrt_()
    return _Kept(x.mul_(scale), scale)


def _projected(cotangent: Tensor, y: Tensor) -> Tensor:
    """P(c), by torch's kernel for the gradient of a layer norm with s = 1."""
    mean, one = torch.zeros_like(y[..., :1]), torch.ones_like(y[..., :1])
    grads: Sequence[Tensor] = torch.ops.aten.native_layer_norm_backward(
        cotangent, y, y.shape[-1:], mean, one, None, None, [True, False, False]
    )
    return grads[0]


def _masked(cotangent: Tensor, y: Tensor) -> Tensor:
    """c where y > 0, else 0: the gradient of max(0, y)."""
    masked: Tensor = torch.ops.aten.threshold_backward(cotangent, y, 0)
    return masked


def _with_weight_grads(sums: BackboneLayer, feature: Tensor | None, encoding: Tensor, x_grad: Tensor) -> BackboneLayer:
    feature_weight = sums.feature_weight
    if feature_weight is not None:
        feature_weight = torch.baddbmm(feature_weight, _present(feature).mT, x_grad)
    return BackboneLayer(feature_weight, torch.baddbmm(sums.encoding_weight, encoding.mT, x_grad))


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1, keepdim=True)


def _check_order() -> None:
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise RuntimeError(
            "Expected a first derivative of the fused backbone; the ordinary one (model.hypernetwork.field.backbone=ordinary) "
            "can be differentiated twice, and for the gradient of the field there is Field.gradient."
        )


def _tiles(points: Float[Tensor, "b n ..."]) -> Sequence[Float[Tensor, "b m ..."]]:
    """Equal parts of a few points on a CPU, elsewhere all of them."""
    objects, count = points.shape[:2]
    return points.chunk(max(1, math.ceil(objects * count / _TILE)), 1) if points.device.type == "cpu" else [points]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), 1)


def _present(tensor: Tensor | None) -> Tensor:
    if tensor is None:
        raise ValueError("Expected at least one layer, the first one without a feature.")
    return tensor


def _flat(layers: Sequence[BackboneLayer], dtype: torch.dtype) -> list[Tensor | None]:
    return [*itertools.chain(*(layer.map(lambda weight: weight.to(dtype)) for layer in layers))]


def _layers(weights: Sequence[Any]) -> list[BackboneLayer]:
    return [BackboneLayer(*pair) for pair in zip(weights[::2], weights[1::2], strict=True)]


def _kept(tensors: Sequence[Tensor]) -> list[_Kept]:
    return [_Kept(*pair) for pair in zip(tensors[::2], tensors[1::2], strict=True)]
