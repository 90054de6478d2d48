"""Meshes that are deformed spheres, as decoders return them, and the sphere that they start from."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import torch
import trimesh
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from sdfsrn.functional.graph import cotangent_laplacian, flaps, uniform_laplacian
from sdfsrn.functional.isosurface import Grid
from sdfsrn.functional.texture import sample_map, sphere_uv
from sdfsrn.models.shape import check_single


class SphereTemplate(nn.Module):
    """A unit sphere of triangles and what its connectivity says; kept in checkpoints, since vertices are known by number.

    Args:
        subdivisions: of an icosahedron; 3 gives 642 vertices and 1280 faces.
    """

    vertices: Float[Tensor, "v 3"]
    faces: Int[Tensor, "f 3"]  # anticlockwise seen from outside
    flaps: Int[Tensor, "e 4"]  # see `sdfsrn.functional.graph.flaps`
    uniform: Float[Tensor, "v v"]  # Laplacians
    cotangent: Float[Tensor, "v v"]  # of the sphere

    def __init__(self, subdivisions: int = 3) -> None:
        super().__init__()
        if subdivisions < 0:
            raise ValueError(f"Expected decoder.subdivisions of at least 0, got {subdivisions}.")
        self.subdivisions = subdivisions
        sphere = trimesh.creation.icosphere(subdivisions)
        vertices, faces = torch.tensor(np.asarray(sphere.vertices)), torch.tensor(np.asarray(sphere.faces))
        self.register_buffer("vertices", vertices.float())
        self.register_buffer("faces", faces)
        self.register_buffer("flaps", flaps(faces))
        self.register_buffer("uniform", uniform_laplacian(faces, len(vertices)))
        self.register_buffer("cotangent", cotangent_laplacian(vertices, faces).float())


class Texture(NamedTuple):
    """Colours of meshes: each point of the sphere has a place in the picture, whose colour is the point's."""

    flow: Float[Tensor, "b 2 p q"]  # places in the picture, screen coordinates, over the sphere's (u, v)
    picture: Float[Tensor, "b 3 h w"]
    symmetric: bool  # a point has the colour of its mirror image in the plane x = 0

    def at(self, points: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n 3"]:
        """Colours of points on the unit sphere, RGB in [-1, 1]; 0 where the flow leaves the picture."""
        if self.symmetric:
            points = torch.cat([points[..., :1].abs(), points[..., 1:]], -1)
        return sample_map(self.picture, sample_map(self.flow, sphere_uv(points), padding="border"))

    def select(self, objects: slice) -> Texture:
        """The textures of some of the objects."""
        return Texture(self.flow[objects], self.picture[objects], self.symmetric)


@dataclasses.dataclass(frozen=True)
class Meshes:
    """The meshes of a batch of objects, each in its own (world) frame, all with the sphere's faces.

    Attributes:
        vertices: of the objects.
        sphere: that they are deformations of; vertices have its order.
        offsets: the learned part of the deformation, for its prior; k = 0 where there is none.
        texture: None where there are no colours.
    """

    vertices: Float[Tensor, "b v 3"]
    sphere: SphereTemplate
    offsets: Float[Tensor, "b k 3"]
    texture: Texture | None = None

    def __getitem__(self, objects: slice) -> Meshes:
        """Select some of the objects."""
        texture = None if self.texture is None else self.texture.select(objects)
        return Meshes(self.vertices[objects], self.sphere, self.offsets[objects], texture)

    def mesh(self, grid: Grid | None = None, color: bool = True) -> trimesh.Trimesh:
        """The only object as a closed mesh, see `sdfsrn.models.shape.Shape`; `grid` is not needed.

        It may cut through itself. Vertices are float64.
        """
        check_single(len(self.vertices))
        vertices = self.vertices[0].detach().double().cpu().numpy()
        if not np.isfinite(vertices).all():
            count = int((~np.isfinite(vertices)).any(1).sum())
            raise ValueError(f"Expected finite vertices, got {count} of {len(vertices)} that are not: did training diverge?")
        colors = self._vertex_colors() if color and self.texture is not None else None
        mesh = trimesh.Trimesh(vertices, self.sphere.faces.cpu().numpy(), vertex_colors=colors, process=False)
        if mesh.volume < 0:  # inside out
            mesh.invert()
        return mesh

    @torch.no_grad()
    def _vertex_colors(self) -> UInt8[np.ndarray, "v 3"]:
        assert self.texture is not None
        colors = self.texture.at(self.sphere.vertices.expand(1, -1, -1))[0]
        return ((colors + 1) * 127.5).round().clamp(0, 255).byte().cpu().numpy()
