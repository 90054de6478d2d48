"""A model of another kind, as a user would write it: a linear layer from the pixels to one ellipsoid."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import torch
import trimesh
from torch import Tensor, nn

import sdfsrn


@dataclasses.dataclass
class Ellipsoids:
    radius: Tensor  # (b, 3)
    color: Tensor  # (b, 3) in [-1, 1]

    def __getitem__(self, objects: slice) -> Ellipsoids:
        return Ellipsoids(self.radius[objects], self.color[objects])

    def mesh(self, grid: sdfsrn.Grid | None = None, color: bool = True) -> trimesh.Trimesh:
        ball = trimesh.creation.icosphere(3)
        colors = np.tile(((self.color[0].detach().cpu() + 1) * 127.5).byte().numpy(), (len(ball.vertices), 1))
        vertices = ball.vertices * self.radius[0].detach().cpu().numpy()
        return trimesh.Trimesh(vertices, ball.faces, vertex_colors=colors if color else None, process=False)


class Seen(NamedTuple):
    color: Tensor
    depth: Tensor
    opacity: Tensor


class OpacityLoss(nn.Module):
    def forward(self, shape: Ellipsoids, rendering: Seen, views: sdfsrn.Views) -> Tensor:
        return nn.functional.binary_cross_entropy(rendering.opacity, views.inside.to(rendering.opacity))


class EllipsoidModel(sdfsrn.ShapeModel):
    def __init__(self, losses, image_size=64, optimizer=None, scheduler=None, validation=None):
        super().__init__(losses, optimizer, scheduler, validation)
        self.image_size, self.linear = image_size, nn.Linear(3 * image_size**2, 6)

    def encode(self, image: Tensor) -> Tensor:
        return self.linear(image.flatten(1))

    def decode(self, latent: Tensor) -> Ellipsoids:
        return Ellipsoids(0.8 * latent[:, :3].sigmoid(), latent[:, 3:].tanh())

    def render(self, shape: Ellipsoids, views: sdfsrn.Views) -> Seen:
        origin, direction = (x / shape.radius[:, None] for x in views.camera.rays(views.uv))
        a, b, c = direction.square().sum(-1), (origin * direction).sum(-1), origin.square().sum(-1) - 1
        gap = b.square() / a - c  # positive where the ray meets the ellipsoid
        depth = (-b - gap.clamp(min=0).mul(a).sqrt()) / a
        return Seen(shape.color[:, None].expand(-1, gap.shape[1], -1), depth, torch.sigmoid(4 * gap))
