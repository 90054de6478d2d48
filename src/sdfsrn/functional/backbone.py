"""The backbone of the implicit functions and its derivative, each with the way back written out.

A layer is feature = max(0, y), y = (x - mean(x)) s, s = 1 / sqrt(variance(x) + eps), x = feature W_f + encoding W_e;
appendix C, arXiv:2010.10505. The last channel of the encoding is 1, so that the last row of W_e is the bias, which then costs
no pass over memory of its own, there or back. The normalisation takes a cotangent c of y to s P(c), P(c) = c - mean(c) -
y mean(c y). Of a layer only y and s are kept for the way back; autograd would keep twice as much, and the derivative of a
derivative would cost it twice as many passes over memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Optional = Any  # a tensor, or None where there is no such input or nobody asks
_EPS = 1e-5
_CACHED = 2**13  # points of all objects, so that a layer's values stay in a processor's cache on the way there and back


class BackboneLayer(NamedTuple):
    """One layer of the backbone, an object: x = features W_f + encoding W_e; the first layer has no W_f.

    The two products stand for that of the concatenation, which is never stored.
    """

    feature_weight: Any  # Float[Tensor, "b i o"], or None
    encoding_weight: Float[Tensor, "b e o"]


def backbone(encoding: Float[Tensor, "b n e"], layers: Sequence[BackboneLayer]) -> Float[Tensor, "b n c"]:
    """The feature of encoded points after the last layer, in the encoding's precision; differentiable once."""
    with torch.autocast(encoding.device.type, enabled=False):
        weights = _flat(layers, encoding.dtype)
        if torch.is_grad_enabled():
            return _joined([_Backbone.apply(part, *weights) for part in _parts(encoding)])
        return _joined([_forward(part, _layers(weights), keep=False)[0] for part in _parts(encoding)])


def backbone_vjp(
    encoding: Float[Tensor, "b n e"], cotangent: Float[Tensor, "b 1 c"], layers: Sequence[BackboneLayer]
) -> Float[Tensor, "b n e"]:
    """J^T v for the Jacobian J of `backbone` and one cotangent v an object; differentiable once, so that it can be a loss."""
    with torch.autocast(encoding.device.type, enabled=False):
        weights = [cotangent.to(encoding.dtype), *_flat(layers, encoding.dtype)]
        return _joined([_BackboneVJP.apply(part, *weights) for part in _parts(encoding)])


class _Backbone(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, encoding: Tensor, *weights: Tensor | None) -> Tensor:
        feature, kept = _forward(encoding, _layers(weights))
        ctx.save_for_backward(encoding, *weights, *(tensor for pair in kept for tensor in pair))
        return feature

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        _check_order()
        encoding, *rest = ctx.saved_tensors
        count = len(ctx.needs_input_grad) - 1
        layers, kept = _layers(rest[:count]), _rows(rest[count:], 2)
        weights: list[BackboneLayer] = []
        feature_grad, encoding_grad = grads[0], _zeros(encoding, ctx.needs_input_grad[0])
        for k in reversed(range(len(layers))):
            y, scale = kept[k]
            x_grad = _project(_masked(feature_grad, y), y).mul_(scale)
            weights.append(_weight_grads(layers[k], F.relu(kept[k - 1][0]) if k else None, encoding, x_grad))
            feature_grad, encoding_grad = _input_grads(layers[k], x_grad, encoding_grad)
        return encoding_grad, *(tensor for layer in reversed(weights) for tensor in layer)


class _BackboneVJP(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, encoding: Tensor, cotangent: Tensor, *weights: Tensor | None) -> Tensor:
        layers = _layers(weights)
        feature, normalized = _forward(encoding, layers)
        feature_grad, encoding_grad = cotangent.expand_as(feature), _zeros(encoding, True)
        kept: list[Tensor] = []
        for layer, (y, scale) in zip(reversed(layers), reversed(normalized), strict=True):
            y_grad = _masked(feature_grad, y)
            x_grad = _project(y_grad, y).mul_(scale)
            feature_grad, encoding_grad = _input_grads(layer, x_grad, encoding_grad)
            kept = [y, scale, y_grad, x_grad, *kept]
        ctx.save_for_backward(encoding, *weights, *kept)
        return encoding_grad

    @staticmethod
    def backward(ctx: Any, *tangents: Tensor) -> tuple[Tensor | None, ...]:
        """Up the layers along the tangent, then down them again, as every layer met y and s both going up and coming down."""
        _check_order()
        encoding, *rest = ctx.saved_tensors
        count = len(ctx.needs_input_grad) - 2
        layers, kept = _layers(rest[:count]), _rows(rest[count:], 4)
        weights, of_y, of_scale = [], [], []
        feature_tangent: Optional = None
        for layer, (y, scale, y_grad, x_grad) in zip(layers, kept, strict=True):
            weights.append(_weight_grads(layer, feature_tangent, tangents[0], x_grad))
            x_tangent = _linear(layer, feature_tangent, tangents[0])
            of_scale.append(scale * _mean(x_tangent, x_grad))
            of_y.append((x_tangent * (-scale * _mean(y_grad, y))).addcmul_(y_grad, -scale * _mean(x_tangent, y)))
            feature_tangent = _masked(_project(x_tangent, y).mul_(scale), y)
        feature_grad: Optional = None
        encoding_grad = _zeros(encoding, ctx.needs_input_grad[0])
        for k in reversed(range(len(layers))):
            y, scale, _, _ = kept[k]
            y_grad = of_y[k] if feature_grad is None else of_y[k].add_(_masked(feature_grad, y))
            x_grad = _project(y_grad, y).mul_(scale).addcmul_(y, of_scale[k], value=-1)
            found = _weight_grads(layers[k], F.relu(kept[k - 1][0]) if k else None, encoding, x_grad)
            weights[k] = _sum(found, weights[k])
            feature_grad, encoding_grad = _input_grads(layers[k], x_grad, encoding_grad)
        cotangent_grad = feature_tangent.sum(1, keepdim=True)
        return encoding_grad, cotangent_grad, *(tensor for layer in weights for tensor in layer)


def _forward(
    encoding: Tensor, layers: Sequence[BackboneLayer], keep: bool = True
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """The last feature, and (y, s) of every layer; with y overwritten where nothing is to be kept."""
    feature: Optional = None
    kept = []
    for layer in layers:
        x = _linear(layer, feature, encoding)
        y, _, scale = torch.native_layer_norm(x, x.shape[-1:], None, None, _EPS)
        feature = F.relu(y, inplace=not keep)
        if keep:
            kept.append((y, scale))
    return feature, kept


def _linear(layer: BackboneLayer, feature: Optional, encoding: Tensor) -> Tensor:
    x = encoding @ layer.encoding_weight
    return x if layer.feature_weight is None else x.baddbmm_(feature, layer.feature_weight)


def _input_grads(layer: BackboneLayer, x_grad: Tensor, encoding_grad: Optional) -> tuple[Optional, Optional]:
    """Of the feature, and of the encoding so far; None where there is no such input, or nobody asks."""
    if encoding_grad is not None:
        encoding_grad = encoding_grad.baddbmm_(x_grad, layer.encoding_weight.mT)
    return None if layer.feature_weight is None else x_grad @ layer.feature_weight.mT, encoding_grad


def _weight_grads(layer: BackboneLayer, feature: Optional, encoding: Tensor, x_grad: Tensor) -> BackboneLayer:
    return BackboneLayer(None if layer.feature_weight is None else feature.mT @ x_grad, encoding.mT @ x_grad)


def _sum(a: BackboneLayer, b: BackboneLayer) -> BackboneLayer:
    both: list[Any] = [None if x is None else x + y for x, y in zip(a, b, strict=True)]
    return BackboneLayer(*both)


def _project(cotangent: Tensor, y: Tensor) -> Tensor:
    """P(c): the normalisation's way back where mean is 0 and s is 1."""
    mean, one = torch.zeros_like(y[..., :1]), torch.ones_like(y[..., :1])
    return torch.ops.aten.native_layer_norm_backward(cotangent, y, y.shape[-1:], mean, one, None, None, [True, False, False])[0]


def _masked(cotangent: Tensor, y: Tensor) -> Tensor:
    """c where y > 0, else 0: the way back of max(0, y)."""
    return torch.ops.aten.threshold_backward(cotangent, y, 0)


def _mean(a: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.vecdot(a, b)[..., None] / a.shape[-1]


def _check_order() -> None:
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise RuntimeError("Expected a first derivative of the field; for that of its gradient there is Field.gradient.")


def _zeros(like: Tensor, needed: bool) -> Optional:
    return torch.zeros_like(like) if needed else None


def _parts(encoding: Tensor) -> Sequence[Tensor]:
    return encoding.split(max(1, _CACHED // len(encoding)), 1) if encoding.device.type == "cpu" else [encoding]


def _joined(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts, 1) if len(parts) > 1 else parts[0]


def _flat(layers: Sequence[BackboneLayer], dtype: torch.dtype) -> list[Tensor | None]:
    return [None if tensor is None else tensor.to(dtype) for layer in layers for tensor in layer]


def _layers(weights: Sequence[Tensor | None]) -> list[BackboneLayer]:
    return [BackboneLayer(*row) for row in _rows(weights, 2)]


def _rows(values: Sequence[Any], width: int) -> list[Sequence[Any]]:
    return [values[i : i + width] for i in range(0, len(values), width)]
