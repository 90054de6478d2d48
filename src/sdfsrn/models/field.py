"""The implicit functions f and g of a batch of objects, with the weights that the hypernetwork predicted for each."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sdfsrn.functional.encoding import encoding_vjp, positional_encoding


class Linear(NamedTuple):
    """One linear layer an object, y = x W + b."""

    bias: Float[Tensor, "b 1 o"]
    weight: Float[Tensor, "b i o"]

    def __call__(self, x: Float[Tensor, "b n i"]) -> Float[Tensor, "b n o"]:
        """Apply each object's layer to its own points."""
        return torch.baddbmm(self.bias, x, self.weight)


@dataclasses.dataclass(frozen=True)
class FieldShape:
    """The architecture of the implicit functions. Appendix C, arXiv:2010.10505.

    Args:
        width: hidden units of the backbone.
        depth: linear layers of the backbone.
        num_frequencies: L of the positional encoding; 0 leaves the bare coordinates.
        frequency_scale: factor on its frequencies (the released code has pi).
        reinject: every layer after the first sees the encoded point again.
    """

    width: int = 128
    depth: int = 4
    num_frequencies: int = 6
    frequency_scale: float = 1.0
    reinject: bool = True

    @property
    def encoding_width(self) -> int:
        """Channels of an encoded point."""
        return 3 + 6 * self.num_frequencies

    @property
    def layers(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of every predicted layer: the backbone, then the SDF head, then the colour head."""
        rest = self.width + self.encoding_width * self.reinject
        backbone = [(self.encoding_width, self.width)] + [(rest, self.width)] * (self.depth - 1)
        return [*backbone, (self.width, 1), (self.width, 3)]


class Field:
    """f and g, sharing a backbone, for a batch of objects in their own (world) frames.

    A layer's input is [features, encoded point]; the product is taken as `features @ W_f + encoding @ W_e`, so that no
    concatenation is ever stored.

    Args:
        layers: the linear layers in the order of `FieldShape.layers`.
        shape: the architecture they belong to.
    """

    def __init__(self, layers: list[Linear], shape: FieldShape) -> None:
        self.layers = layers
        self.shape = shape
        *backbone, self.sdf_head, self.color_head = layers
        self.first, self.rest = backbone[0], [_split(layer, shape.width) for layer in backbone[1:]]

    def __call__(self, points: Float[Tensor, "b n 3"]) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n c"]]:
        """Signed distance (negative inside) and backbone feature."""
        feature = self._backbone(self._encode(points))[-1]
        return self.sdf_head(feature).squeeze(-1), feature

    def sdf(self, points: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n"]:
        """f, negative inside."""
        return self(points)[0]

    def color(self, feature: Float[Tensor, "b n c"]) -> Float[Tensor, "b n 3"]:
        """g, RGB in [-1, 1], from the backbone feature of a point."""
        return torch.tanh(self.color_head(feature))

    def gradient(self, points: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n 3"]:
        """The gradient of f in closed form: an ordinary function of the weights, so no double backward is ever needed."""
        encoding = self._encode(points)
        normalized = self._backbone(encoding, keep_normalized=True)
        feature_grad = self.sdf_head.weight.mT.expand(-1, points.shape[1], -1)
        encoding_grad = torch.zeros(())
        for layer, (y, scale) in zip(reversed([None, *self.rest]), reversed(normalized), strict=True):
            grad = feature_grad * (y > 0)
            grad = scale * (grad - grad.mean(-1, keepdim=True) - y * (grad * y).mean(-1, keepdim=True))
            if layer is None:
                encoding_grad = encoding_grad + grad @ self.first.weight.mT
            else:
                weight, encoding_weight, _ = layer
                feature_grad = grad @ weight.mT
                if encoding_weight is not None:
                    encoding_grad = encoding_grad + grad @ encoding_weight.mT
        return encoding_vjp(encoding, encoding_grad, self.shape.num_frequencies, self.shape.frequency_scale)

    def detach(self) -> Field:
        """The same functions, with weights that no gradient reaches."""
        return Field([Linear(*(t.detach() for t in layer)) for layer in self.layers], self.shape)

    def __getitem__(self, objects: slice) -> Field:
        """The functions of some of the objects."""
        return Field([Linear(*(t[objects] for t in layer)) for layer in self.layers], self.shape)

    def _encode(self, points: Tensor) -> Tensor:
        return positional_encoding(points, self.shape.num_frequencies, self.shape.frequency_scale)

    def _backbone(self, encoding: Tensor, keep_normalized: bool = False) -> list:
        """[feature of the last layer], or (normalised pre-activation, 1 / standard deviation) of every layer."""
        kept, feature = [], encoding
        for layer in [None, *self.rest]:
            x = self.first(feature) if layer is None else _apply(layer, feature, encoding)
            if keep_normalized:
                variance, mean = torch.var_mean(x, -1, correction=0, keepdim=True)
                scale = torch.rsqrt(variance + _LAYER_NORM_EPS)
                y = (x - mean) * scale
                kept.append((y, scale))
            else:
                y = F.layer_norm(x, x.shape[-1:], eps=_LAYER_NORM_EPS)
            feature = F.relu(y)
        return kept if keep_normalized else [feature]


_LAYER_NORM_EPS = 1e-5


def _split(layer: Linear, width: int) -> tuple[Tensor, Tensor | None, Tensor]:
    """Weights on the features, weights on the encoded point (None when there are none), bias."""
    encoding_weight = layer.weight[:, width:] if layer.weight.shape[1] > width else None
    return layer.weight[:, :width], encoding_weight, layer.bias


def _apply(layer: tuple[Tensor, Tensor | None, Tensor], feature: Tensor, encoding: Tensor) -> Tensor:
    weight, encoding_weight, bias = layer
    if encoding_weight is not None:
        bias = torch.baddbmm(bias, encoding, encoding_weight)
    return torch.baddbmm(bias, feature, weight)
