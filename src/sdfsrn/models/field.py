"""The implicit functions f and g of a batch of objects, with the weights that the hypernetwork predicted for each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sdfsrn.functional import backbone, fused_backbone, losses
from sdfsrn.functional.backbone import BackboneLayer
from sdfsrn.functional.encoding import encoding_vjp, positional_encoding
from sdfsrn.functional.isosurface import Grid
from sdfsrn.kernels import runs_kernels
from sdfsrn.models.implicit import ImplicitShape


class Linear(NamedTuple):
    """One linear layer per object, y = x W + b."""

    bias: Float[Tensor, "b 1 o"]
    weight: Float[Tensor, "b i o"]

    def __call__(self, x: Float[Tensor, "b n i"]) -> Float[Tensor, "b n o"]:
        """Apply each object's layer to its own points."""
        return torch.baddbmm(self.bias, x, self.weight)


@dataclasses.dataclass(frozen=True)
class FieldConfig:
    """The architecture of the implicit functions. Appendix C, arXiv:2010.10505.

    Args:
        width: hidden units of the backbone.
        depth: linear layers of the backbone.
        num_frequencies: L of the positional encoding; 0 leaves the bare coordinates.
        frequency_scale: factor on its frequencies (the released code has pi).
        skip: every layer after the first sees the encoded point again.
        backbone: `fused`, with derivatives written by hand, or `ordinary`, which autograd differentiates: the same values.
        symmetric: f and g at (x, y, z) are those at (|x|, y, z): the object is its own mirror image in the plane x = 0.
        color_scale: factor on the colour head's output before the tanh; a small one keeps fast training from saturating it.
        kernel: on a CUDA device: `plain`, many operations; `triton`, one kernel each for the backbone's feature, for its
            gradient, and for the eikonal loss with its gradient, with products in the trainer's precision (float32, TF32);
            `triton_bf16x3`, with each of them as three products of bfloat16.

    Raises:
        ValueError: another `backbone` or `kernel`, or a `color_scale` that is not positive.
    """

    width: int = 128
    depth: int = 4
    num_frequencies: int = 6
    frequency_scale: float = 1.0
    skip: bool = True
    backbone: str = "fused"
    symmetric: bool = False
    color_scale: float = 1.0
    kernel: str = "plain"

    def __post_init__(self) -> None:
        if self.backbone not in ("fused", "ordinary"):
            raise ValueError(f"Expected field.backbone=fused|ordinary, got {self.backbone}.")
        if self.kernel not in ("plain", "triton", "triton_bf16x3"):
            raise ValueError(f"Expected field.kernel=plain|triton|triton_bf16x3, got {self.kernel}.")
        if not self.color_scale > 0:
            raise ValueError(f"Expected field.color_scale above 0, got {self.color_scale}.")

    @property
    def encoding_width(self) -> int:
        """Channels of an encoded point."""
        return 3 + 6 * self.num_frequencies

    @property
    def layers(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of every predicted layer: the backbone, then the SDF head, then the colour head."""
        rest = self.width + self.encoding_width * self.skip
        first, others = (self.encoding_width, self.width), [(rest, self.width)] * (self.depth - 1)
        return [first, *others, (self.width, 1), (self.width, 3)]


class Field(ImplicitShape):
    """f and g, sharing a backbone, for a batch of objects in their own (world) frames.

    Args:
        layers: the linear layers in the order of `FieldConfig.layers`; inputs are [features, encoded point].
        config: the architecture they belong to.

    Attributes:
        grid: where meshes are extracted unless told otherwise.
    """

    _packed: Any = None  # weights for kernels

    def __init__(self, layers: Sequence[Linear], config: FieldConfig) -> None:
        self.layers, self.config, self.grid = layers, config, Grid()
        *hidden, self.sdf_head, self.color_head = layers
        self.backbone = [_backbone_layer(k, layer, config) for k, layer in enumerate(hidden)]
        self._functions = fused_backbone if config.backbone == "fused" else backbone
        if config.kernel != "plain" and runs_kernels(self.device):
            from sdfsrn.kernels.layers import pack  # needs Triton

            self._packed = pack(self.backbone)

    def __call__(self, points: Float[Tensor, "b n 3"]) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n c"]]:
        """Signed distance (negative inside) and backbone feature."""
        feature = self._feature(self._encode(points))
        return self.sdf_head(feature).squeeze(-1), feature

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.sdf_head.bias.device

    def color(self, feature: Float[Tensor, "b n c"]) -> Float[Tensor, "b n 3"]:
        """g, RGB in [-1, 1], from the backbone feature of a point."""
        return torch.tanh(self.config.color_scale * self.color_head(feature))

    def gradient(self, points: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n 3"]:
        """grad f in closed form: a function of the weights like any other, so that its loss needs no double backward."""
        encoding = self._encode(points)
        encoding_grad = self._functions.backbone_vjp(encoding, self.sdf_head.weight.mT, self.backbone)
        gradient = encoding_vjp(encoding, encoding_grad, self.config.num_frequencies, self.config.frequency_scale)
        return self._folded(gradient, points) if self.config.symmetric else gradient

    def eikonal_loss(self, points: Float[Tensor, "b n 3"]) -> Float[Tensor, ""]:
        """The mean of (|grad f| - 1)^2, eq. (10), arXiv:2010.10505; by a kernel, where one is chosen and can run."""
        if self._packed is None or not torch.is_grad_enabled():
            return losses.eikonal_loss(self.gradient(points))
        from sdfsrn.kernels import eikonal

        encoding, head, scale = self._encode(points.detach()), self.sdf_head.weight, self.config.frequency_scale
        loss: Tensor = eikonal.eikonal_loss(encoding, head, self._packed, scale, self._bf16x3)
        return loss

    def detach(self) -> Field:
        """The same functions, with weights that no gradient reaches."""
        return self._map(Tensor.detach)

    def __getitem__(self, objects: slice) -> Field:
        """The functions of some of the objects."""
        return self._map(lambda weights: weights[objects])

    def _map(self, change: Callable[[Tensor], Tensor]) -> Field:
        """The functions with changed weights."""
        field = type(self)([Linear(change(bias), change(weight)) for bias, weight in self.layers], self.config)
        field.grid = self.grid
        return field

    @property
    def _bf16x3(self) -> bool:
        return self.config.kernel == "triton_bf16x3"

    def _feature(self, encoding: Tensor) -> Tensor:
        if self._packed is None:
            feature: Tensor = self._functions.backbone(encoding, self.backbone)
            return feature
        from sdfsrn.kernels.backbone import backbone as by_kernel

        feature = by_kernel(encoding, self._packed, self._bf16x3)
        return feature

    @staticmethod
    def _folded(vector: Float[Tensor, "b n 3"], points: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n 3"]:
        """Vectors with x turned about where the point's x is negative: points themselves, or gradients there."""
        sign = torch.where(points[..., :1] < 0, -1.0, 1.0)
        return torch.cat([sign * vector[..., :1], vector[..., 1:]], -1)

    def _encode(self, points: Tensor) -> Tensor:
        """Encoded points with a last channel of ones, as the backbone takes them."""
        points = self._folded(points, points) if self.config.symmetric else points
        return positional_encoding(points, self.config.num_frequencies, self.config.frequency_scale, homogeneous=True)


def _backbone_layer(index: int, layer: Linear, config: FieldConfig) -> BackboneLayer:
    """A predicted layer with its weights divided between features and encoded point; the bias belongs to the latter's 1."""
    bias, weight = layer
    if index == 0:
        return BackboneLayer(None, torch.cat([weight, bias], 1)).centered()
    unseen = [] if config.skip else [bias.new_zeros(len(bias), config.encoding_width, config.width)]
    encoding_weight = torch.cat([weight[:, config.width :], *unseen, bias], 1)
    return BackboneLayer(weight[:, : config.width], encoding_weight).centered()
