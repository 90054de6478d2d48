"""The reference implementation of a model: the same weights and mathematics in the structure of the released code.

Tests compare with it, the benchmark times it, and `model=plain` trains it. Every layer takes the concatenation of its inputs,
the march and the bisection are unrolled with autograd on, and the eikonal term differentiates twice. Encoder, branches of the
hypernetwork and loss terms are the model's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy.spatial import cKDTree
from torch import Tensor

from sdfsrn.functional.camera import Rays
from sdfsrn.functional.isosurface import Grid
from sdfsrn.functional.pointcloud import rigid_motion
from sdfsrn.models.field import Field, FieldConfig, Linear
from sdfsrn.models.hypernetwork import Hypernetwork
from sdfsrn.models.raymarcher import LSTMRayMarcher
from sdfsrn.structures import March


class PlainField(Field):
    """f and g, evaluated as appendix C, arXiv:2010.10505, writes them down; their derivative is autograd's."""

    def __init__(self, layers: Sequence[Linear], config: FieldConfig) -> None:
        self.layers, self.config, self.grid = layers, config, Grid()
        self.sdf_head, self.color_head = layers[-2:]

    def __call__(self, points: Float[Tensor, "b n 3"]) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n c"]]:
        """Signed distance (negative inside) and backbone feature."""
        feature = encoding = self._spectrum(points)
        for i, layer in enumerate(self.layers[:-2]):
            if i > 0 and self.config.skip:
                feature = torch.cat([feature, encoding], -1)
            feature = F.relu(F.layer_norm(_linear(layer, feature), [self.config.width]))
        return _linear(self.sdf_head, feature).squeeze(-1), feature

    def color(self, feature: Float[Tensor, "b n c"]) -> Float[Tensor, "b n 3"]:
        """g, RGB in [-1, 1]."""
        return torch.tanh(self.config.color_scale * _linear(self.color_head, feature))

    @torch.enable_grad()
    def gradient(self, points: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n 3"]:
        """The gradient of f, whose own derivative is a double backward."""
        points = points.detach().requires_grad_()
        return torch.autograd.grad(self.sdf(points).sum(), points, create_graph=True)[0]

    def _spectrum(self, points: Tensor) -> Tensor:
        if self.config.symmetric:
            points = torch.cat([points[..., :1].abs(), points[..., 1:]], -1)
        waves = [points]
        for k in range(self.config.num_frequencies):
            phase = self.config.frequency_scale * 2.0**k * points
            waves += [phase.cos(), phase.sin()]
        return torch.cat(waves, -1)


class PlainRayMarcher(LSTMRayMarcher):
    """The same march, and a bisection that carries points and values along, recorded by autograd.

    Raises:
        ValueError: `implicit_gradient`, which the released code does not have.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.implicit_gradient:
            raise ValueError("Expected a ray marcher without implicit_gradient, which the reference implementation lacks.")

    def forward(self, field: Field, rays: Rays) -> March:
        """March all rays of all objects."""
        depth = torch.full_like(rays.direction[..., 0], self.start)
        depths, sdfs, state = [depth], [], None
        for _ in range(self.num_steps):
            before = rays.at(depth)
            sdf, feature = field(before)
            state = self.cell(feature.flatten(0, 1), state)
            depth = depth + self.step(state[0]).view_as(depth).abs()
            depths.append(depth)
            sdfs.append(sdf)
        after = rays.at(depth)
        sdfs.append(field.sdf(after))
        hit = (sdfs[-2] > 0) & (sdfs[-1] < 0)
        surface = self._bisect(field, before, after, sdfs[-2], sdfs[-1])
        _, feature = field(surface)
        surface_depth = ((surface - rays.origin) * rays.direction).sum(-1) / rays.direction.square().sum(-1)
        return March(torch.stack(depths, -1), torch.stack(sdfs, -1), surface_depth, feature, field.color(feature), hit)

    def _bisect(self, field: Field, x0: Tensor, x1: Tensor, y0: Tensor, y1: Tensor) -> Tensor:
        for _ in range(self.num_bisections):
            x = (x0 + x1) / 2
            y = field.sdf(x)
            first = ((y0 < 0) ^ (y > 0)).to(y)
            y0, y1 = y * first + y0 * (1 - first), y1 * first + y * (1 - first)
            first = first[..., None]
            x0, x1 = x * first + x0 * (1 - first), x1 * first + x * (1 - first)
        return (x0 + x1) / 2


class PlainHypernetwork(Hypernetwork):
    """The same weights, for a `PlainField`."""

    def forward(self, latent: Float[Tensor, "b l"]) -> PlainField:
        """The implicit functions of every object in the batch."""
        return PlainField(self.layers(latent), self.field)


@torch.no_grad()
def plain_grid(field: PlainField, resolution: int, low: float, high: float) -> Float[Tensor, "x y z"]:
    """f of one object at all nodes of the cube, one slice at a time."""
    axis = torch.linspace(low, high, resolution + 1)
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1)
    return torch.stack([field.sdf(part.reshape(1, -1, 3)).view(len(axis), -1) for part in points])


def plain_chamfer(predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances from prediction to truth and from truth to prediction, and the first ones' indices: two new trees, one core."""
    accuracy, index = cKDTree(truth).query(predicted)
    return accuracy, cKDTree(predicted).query(truth)[0], index


def plain_icp(predicted: np.ndarray, truth: np.ndarray, iterations: int) -> np.ndarray:
    """Predicted points, moved rigidly; every iteration matches both directions and uses one."""
    moved = torch.from_numpy(predicted)
    for _ in range(iterations):
        index = plain_chamfer(moved.numpy(), truth)[2]
        rotation, translation = rigid_motion(moved, torch.from_numpy(truth[index]))
        moved = moved @ rotation.T + translation
    return moved.numpy()


def _linear(layer: Linear, x: Tensor) -> Tensor:
    return x @ layer.weight + layer.bias
