"""The implicit functions f and g of a batch of objects, with the weights that the hypernetwork predicted for each."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from sdfsrn.functional import backbone as ordinary, fused_backbone as fused
from sdfsrn.functional.backbone import BackboneLayer
from sdfsrn.functional.fused_backbone import rows, tiles

_B = {"fused": fused, "ordinary": ordinary}
from sdfsrn.functional.encoding import encoding_vjp, positional_encoding
from sdfsrn.functional.isosurface import Grid


class Linear(NamedTuple):
    """One linear layer an object, y = x W + b."""

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
    """

    width: int = 128
    depth: int = 4
    num_frequencies: int = 6
    frequency_scale: float = 1.0
    skip: bool = True
    backbone: str = "fused"
    parts: bool = True

    @property
    def encoding_width(self) -> int:
        """Channels of an encoded point."""
        return 3 + 6 * self.num_frequencies

    @property
    def layers(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of every predicted layer: the backbone, then the SDF head, then the colour head."""
        rest = self.width + self.encoding_width * self.skip
        backbone = [(self.encoding_width, self.width)] + [(rest, self.width)] * (self.depth - 1)
        return [*backbone, (self.width, 1), (self.width, 3)]


class Field:
    """f and g, sharing a backbone, for a batch of objects in their own (world) frames.

    Args:
        layers: the linear layers in the order of `FieldConfig.layers`; inputs are [features, encoded point].
        config: the architecture they belong to.
    """

    grid = Grid()  # where meshes are extracted unless told otherwise

    def __init__(self, layers: list[Linear], config: FieldConfig) -> None:
        self.config = config
        (first, *rest), (self.sdf_head, self.color_head) = layers[:-2], layers[-2:]
        self.backbone = [BackboneLayer(None, torch.cat([first.weight, first.bias], 1)).centered()]
        for bias, weight in rest:
            unseen = [] if config.skip else [bias.new_zeros(len(bias), config.encoding_width, config.width)]
            encoding_weight = torch.cat([weight[:, config.width :], *unseen, bias], 1)
            self.backbone.append(BackboneLayer(weight[:, : config.width], encoding_weight).centered())

    def __call__(self, points: Float[Tensor, "b n 3"]) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n c"]]:
        """Signed distance (negative inside) and backbone feature."""
        feature = _B[self.config.backbone].backbone(self._encode(points), self.backbone)
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
        encoding_grad = _B[self.config.backbone].backbone_vjp(encoding, self.sdf_head.weight.mT, self.backbone)
        return encoding_vjp(encoding, encoding_grad, self.config.num_frequencies, self.config.frequency_scale)

    def mean(
        self, loss: Callable[[Field, Float[Tensor, "b n 3"]], Float[Tensor, ""]], points: Float[Tensor, "b n 3"]
    ) -> Float[Tensor, ""]:
        """`loss(self, points)` of constant points, for a loss that is a mean over points; on a CPU in parts.

        The gradient of each part is taken while its values are still in the processor's cache, and they are never all kept.
        """
        parts = tiles(points.detach())
        if not self.config.parts or len(parts) == 1 or torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return loss(self, points)
        return _MeanByParts.apply(loss, self, parts, *self._tensors())

    def mesh(self, grid: Grid | None = None, color: bool = True) -> trimesh.Trimesh:
        """The zero level set of the only object as a closed mesh, see `sdfsrn.models.shape.Shape`."""
        device = self.sdf_head.bias.device
        vertices, faces = (grid or self.grid).surface(lambda x: self.sdf(x[None])[0], device)
        colors = None
        if color and len(vertices):
            colors = vertex_colors(self, torch.as_tensor(vertices, dtype=torch.float32, device=device))
        return trimesh.Trimesh(vertices, faces, vertex_colors=colors, process=False)

    def detach(self) -> Field:
        """The same functions, with weights that no gradient reaches."""
        return self._map(Tensor.detach)

    def __getitem__(self, objects: slice) -> Field:
        """The functions of some of the objects."""
        return self._map(lambda tensor: tensor[objects])

    def _map(self, change: Callable[[Tensor], Tensor]) -> Field:
        return self._with([change(tensor) for tensor in self._tensors()])

    def _tensors(self) -> list[Tensor]:
        """All weights, in the order that `_with` takes them in."""
        _, *backbone = itertools.chain(*self.backbone)  # the first layer has no feature weight
        return [*backbone, *self.sdf_head, *self.color_head]

    def _with(self, tensors: Sequence[Tensor]) -> Field:
        *backbone, sdf_head, color_head = rows([None, *tensors], 2)
        field = copy.copy(self)
        field.backbone = [BackboneLayer(*pair) for pair in backbone]
        field.sdf_head, field.color_head = Linear(*sdf_head), Linear(*color_head)
        return field

    def _encode(self, points: Tensor) -> Tensor:
        """The encoded points, with a 1 behind, as the backbone takes them."""
        return positional_encoding(points, self.config.num_frequencies, self.config.frequency_scale, homogeneous=True)


class _MeanByParts(torch.autograd.Function):
    """The mean of a loss over parts, with the gradient of each taken at once."""

    @staticmethod
    def forward(ctx: Any, loss: Callable[..., Tensor], field: Field, parts: Sequence[Tensor], *weights: Tensor) -> Tensor:
        leaves = [weight.detach().requires_grad_() for weight in weights]
        field = field._with(leaves)
        count, total = sum(part.shape[1] for part in parts), parts[0].new_zeros(())
        sums: list[Tensor | None] = [None] * len(leaves)
        for part in parts:
            with torch.enable_grad():
                value = loss(field, part) * (part.shape[1] / count)
            found = torch.autograd.grad(value, leaves, allow_unused=True)
            sums = [new if old is None else old.add_(new) for old, new in zip(sums, found, strict=True)]
            total += value.detach()
        ctx.save_for_backward(*sums)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, None, *(None if of_sum is None else grads[0] * of_sum for of_sum in ctx.saved_tensors)


@torch.no_grad()
def vertex_colors(field: Field, points: Float[Tensor, "n 3"], chunk: int = 65_536) -> np.ndarray:
    """(n, 3) uint8 colours g at points of one object, world frame."""
    colors = [field.color(field(part[None])[1])[0] for part in points.split(chunk)]
    return ((torch.cat(colors) + 1) * 127.5).round().clamp(0, 255).byte().cpu().numpy()
