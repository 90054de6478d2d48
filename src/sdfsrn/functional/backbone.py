"""The backbone of the implicit functions, and its vector-Jacobian product in closed form. Appendix C, arXiv:2010.10505.

A layer is feature = max(0, y), y = (x - mean(x)) s, s = 1 / sqrt(variance(x) + eps), x = feature W_f + encoding W_e, with mean
and variance over channels. The two products stand for that of the concatenation [feature, encoding], which is never stored.
The last channel of the encoding is 1, so that the last row of W_e is the bias.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

EPS = 1e-5


class BackboneLayer(NamedTuple):
    """Weights of one layer per object; the first layer takes no feature."""

    feature_weight: Float[Tensor, "b i o"] | None  # W_f
    encoding_weight: Float[Tensor, "b e o"]  # W_e

    def map(self, change: Callable[[Tensor], Tensor]) -> BackboneLayer:
        """The layer with changed weights."""
        feature_weight = None if self.feature_weight is None else change(self.feature_weight)
        return BackboneLayer(feature_weight, change(self.encoding_weight))

    def centered(self) -> BackboneLayer:
        """The layer that gives x - mean(x), whose normalisation is the same."""
        return self.map(lambda weight: weight - weight.mean(-1, keepdim=True))

    def __call__(self, feature: Float[Tensor, "b n i"] | None, encoding: Float[Tensor, "b n e"]) -> Float[Tensor, "b n o"]:
        """x = feature W_f + encoding W_e."""
        x = torch.bmm(encoding, self.encoding_weight)
        return x if feature is None or self.feature_weight is None else torch.baddbmm(x, feature, self.feature_weight)


def backbone(encoding: Float[Tensor, "b n e"], layers: Sequence[BackboneLayer]) -> Float[Tensor, "b n c"]:
    """The feature of encoded points after the last layer, in the encoding's precision."""
    with torch.autocast(encoding.device.type, enabled=False):
        first, *rest = (layer.map(lambda weight: weight.to(encoding.dtype)) for layer in layers)
        feature = _activation(first(None, encoding))
        for layer in rest:
            feature = _activation(layer(feature, encoding))
        return feature


def backbone_vjp(
    encoding: Float[Tensor, "b n e"], cotangent: Float[Tensor, "b 1 c"], layers: Sequence[BackboneLayer]
) -> Float[Tensor, "b n e"]:
    """J^T v for the Jacobian J of `backbone` and one cotangent v per object: a function of the weights like any other.

    Going down, a cotangent c of y (0 where y <= 0) becomes s (c - mean(c) - y mean(c y)) for x, and that times W_f^T and W_e^T
    for feature and encoding. The layers have to be `centered`: then y = s x, and mean(c) need not be subtracted, since W_f^T
    and W_e^T map what is equal in all channels to 0. A loss of the result, like eq. (10), needs no double backward.
    """
    with torch.autocast(encoding.device.type, enabled=False):
        layers = [layer.map(lambda weight: weight.to(encoding.dtype)) for layer in layers]
        feature, values = None, []
        for layer in layers:
            x = layer(feature, encoding)
            scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS)
            feature = F.relu(x * scale)
            values.append((x, scale))
        feature_grad, encoding_grad = cotangent.to(encoding.dtype), torch.zeros_like(encoding)
        for layer, (x, scale) in zip(reversed(layers), reversed(values), strict=True):
            y_grad = feature_grad * (x > 0)
            along = scale.pow(3) * (y_grad * x).mean(-1, keepdim=True)
            x_grad = torch.addcmul(scale * y_grad, x, along, value=-1)
            encoding_grad = torch.baddbmm(encoding_grad, x_grad, layer.encoding_weight.mT)
            if layer.feature_weight is not None:
                feature_grad = torch.bmm(x_grad, layer.feature_weight.mT)
        return encoding_grad


def _activation(x: Tensor) -> Tensor:
    return F.relu(F.layer_norm(x, x.shape[-1:], eps=EPS))
