"""The terms of mesh models: silhouettes, priors of shape, texture. Liu et al., ICCV 2019; Kanazawa et al., ECCV 2018."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sdfsrn.functional.graph import flap_cosines
from sdfsrn.functional.texture import barrier, sample_map
from sdfsrn.models.meshes import Meshes, Texture
from sdfsrn.models.rasterizer import MeshRendering
from sdfsrn.structures import Views


class MaskIoULoss(nn.Module):
    """SoftRas's silhouette loss: 1 - sum p t / (sum (p + t - p t) + 1e-6), p the rendered silhouette, t the true one."""

    def forward(self, shape: object, rendering: MeshRendering, views: Views) -> Float[Tensor, ""]:
        """The mean over pictures."""
        return mask_iou_loss(rendering.alpha, views.inside.to(rendering.alpha))


def mask_iou_loss(predicted: Float[Tensor, "b r"], true: Float[Tensor, "b r"]) -> Float[Tensor, ""]:
    """1 - the mean over pictures of the soft intersection over union."""
    both = predicted * true
    return 1 - (both.sum(1) / ((predicted + true - both).sum(1) + 1e-6)).mean()


class MaskLoss(nn.Module):
    """CMR's silhouette loss: the mean squared difference between rendered and true masks."""

    def forward(self, shape: object, rendering: MeshRendering, views: Views) -> Float[Tensor, ""]:
        """The mean over pixels and pictures."""
        return (rendering.alpha - views.inside.to(rendering.alpha)).square().mean()


class LaplacianLoss(nn.Module):
    """SoftRas's Laplacian loss: sum over vertices of |v_i - mean of its neighbours|^2."""

    def forward(self, shape: Meshes, rendering: object, views: object) -> Float[Tensor, ""]:
        """The mean over objects."""
        return (shape.sphere.uniform @ shape.vertices).square().sum((1, 2)).mean()


class FlattenLoss(nn.Module):
    """SoftRas's flatten loss: sum over edges of (cos + 1)^2, see `flap_cosines`."""

    def forward(self, shape: Meshes, rendering: object, views: object) -> Float[Tensor, ""]:
        """The mean over objects."""
        return (flap_cosines(shape.vertices, shape.sphere.flaps) + 1).square().sum(1).mean()


class SmoothnessLoss(nn.Module):
    """CMR's Laplacian loss: the length of (L v)_i, with the sphere's cotangent weights for all shapes."""

    def forward(self, shape: Meshes, rendering: object, views: object) -> Float[Tensor, ""]:
        """The mean over vertices and objects."""
        return _mean_length(shape.sphere.cotangent @ shape.vertices)


class DeformationLoss(nn.Module):
    """CMR's deformation prior: the length of an offset from the mean shape."""

    def forward(self, shape: Meshes, rendering: object, views: object) -> Float[Tensor, ""]:
        """The mean over learned vertices and objects."""
        return _mean_length(shape.offsets)


class TextureLoss(nn.Module):
    """Mean |difference| of rendered and true colours in [-1, 1], both times the true mask; 0 stands where no mesh is seen.

    In place of CMR's perceptual distance, whose weights are learned elsewhere.
    """

    def forward(self, shape: Meshes, rendering: MeshRendering, views: Views) -> Float[Tensor, ""]:
        """The mean over the pixels of all silhouettes, and channels."""
        _textured(shape)
        difference = (rendering.color - views.color).abs().mean(-1) * views.inside
        return difference.sum() / views.inside.sum().clamp(min=1)


class FlowLoss(nn.Module):
    """CMR's flow loss: the barrier of the silhouette where the texture's flow points, see `barrier`."""

    def forward(self, shape: Meshes, rendering: object, views: Views) -> Float[Tensor, ""]:
        """The mean over texels and pictures."""
        mask = views.inside.view(len(views.image), *views.image.shape[-2:])
        height = barrier(mask).to(views.color.dtype)[:, None]
        return sample_map(height, _textured(shape).flow.flatten(2).mT, padding="border").mean()


def _mean_length(vectors: Float[Tensor, "b v 3"]) -> Float[Tensor, ""]:
    """The mean length of vectors; its gradient at 0 is 0."""
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=-1)
    return lengths.mean()


def _textured(shape: Meshes) -> Texture:
    """The texture. Raises ValueError if there is none."""
    if shape.texture is None:
        raise ValueError(
            "Expected a decoder with a texture, or model.losses.weights.texture=0 and model.losses.weights.flow=0."
        )
    return shape.texture
