"""The renderer of meshes: whole pictures by soft rasterisation, the visible surface by a z-buffer."""

from __future__ import annotations

import functools
import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sdfsrn.functional.camera import Camera, PerspectiveCamera, pixel_centers
from sdfsrn.functional.rasterize import Visible, grid_pairs, reach, soft_silhouette, visible_triangles
from sdfsrn.models.meshes import Meshes


class SoftRasterizer(nn.Module):
    """Meshes to pictures. Nothing is learned.

    Args:
        sigma: sharpness of silhouettes, screen unit squared: coverage falls from 3/4 to 1/4 within 2.1 sqrt(sigma).
    """

    def __init__(self, sigma: float = 1e-4) -> None:
        super().__init__()
        if not 0 < sigma < math.inf:
            raise ValueError(f"Expected a finite rasterizer.sigma above 0, got {sigma}.")
        self.sigma = sigma

    def forward(self, meshes: Meshes, camera: Camera, size: tuple[int, int]) -> MeshRendering:
        """Render pictures of some height and width; triangles with a corner behind the camera are not drawn."""
        return MeshRendering(meshes, camera, size, self.sigma)


class MeshRendering:
    """Meshes seen by cameras; what is not asked for is not computed. See `sdfsrn.structures.Rendering`.

    Args:
        meshes: the shapes.
        camera: one for each.
        size: height and width of the pictures, whose pixels are the rays, row by row.
        sigma: see `SoftRasterizer`.
    """

    def __init__(self, meshes: Meshes, camera: Camera, size: tuple[int, int], sigma: float) -> None:
        self.meshes, self.size, self.sigma = meshes, size, sigma
        self.perspective = isinstance(camera, PerspectiveCamera)
        faces = meshes.sphere.faces
        uv, depth = camera.project(meshes.vertices)
        self.triangles, self.corner_depth = camera.screen(uv)[:, faces], depth[:, faces]
        centers = pixel_centers(*size, dtype=depth.dtype, device=depth.device)
        self.points = centers.expand(len(depth), -1, -1)
        in_front: Bool[Tensor, "b f"] = (self.corner_depth > 0).all(-1)
        self.pairs = grid_pairs(self.triangles, in_front, size, reach(sigma))

    @functools.cached_property
    def alpha(self) -> Float[Tensor, "b r"]:
        """The soft silhouette, with gradients to the vertices."""
        return soft_silhouette(self.triangles, self.points, self.pairs, self.sigma)

    @functools.cached_property
    def visible(self) -> Visible:
        """The surface at the pixels' centres, without gradient."""
        return visible_triangles(self.triangles, self.corner_depth, self.points, self.pairs, self.perspective)

    @property
    def opacity(self) -> Float[Tensor, "b r"]:
        """1 where the pixel's centre is covered, else 0."""
        return (self.visible.triangle >= 0).to(self.points.dtype)

    @property
    def depth(self) -> Float[Tensor, "b r"]:
        """Depth of the visible surface, without gradient; infinite where there is none."""
        return self.visible.depth

    @functools.cached_property
    def color(self) -> Float[Tensor, "b r 3"]:
        """Colours of the visible surface, unlit, with gradients to the texture only; 0 around it, NaN without a texture."""
        if self.meshes.texture is None:
            return torch.full((*self.points.shape[:2], 3), torch.nan, dtype=self.points.dtype, device=self.points.device)
        sphere = self.meshes.sphere
        corners = sphere.vertices[sphere.faces[self.visible.triangle.clamp(min=0)]]
        color = self.meshes.texture.at((self.visible.weight[..., None] * corners).sum(2))
        return torch.where(self.visible.triangle[..., None] >= 0, color, 0.0)
