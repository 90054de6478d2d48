"""What shapes that are given by a function share: the mesh of its zero level set."""

from __future__ import annotations

import abc

import numpy as np
import torch
import trimesh
from jaxtyping import Float, UInt8
from torch import Tensor

from sdfsrn.functional.isosurface import Grid


class ImplicitShape(abc.ABC):
    """A function f, negative inside, and colours, for each object of a batch.

    Attributes:
        grid: where meshes are extracted unless told otherwise.
    """

    grid: Grid

    @property
    @abc.abstractmethod
    def device(self) -> torch.device:
        """Where the weights are."""

    @abc.abstractmethod
    def __call__(self, points: Float[Tensor, "b n 3"]) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n c"]]:
        """f and the feature from which `color` makes a colour."""

    @abc.abstractmethod
    def color(self, feature: Float[Tensor, "b n c"]) -> Float[Tensor, "b n 3"]:
        """RGB in [-1, 1], from the feature of a point."""

    @abc.abstractmethod
    def __getitem__(self, objects: slice) -> ImplicitShape:
        """The functions of some of the objects."""

    def sdf(self, points: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n"]:
        """f, negative inside."""
        return self(points)[0]

    def clipped_sdf(self, points: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n"]:
        """f as it is meshed: positive where the shape is not defined."""
        return self.sdf(points)

    def mesh(self, grid: Grid | None = None, color: bool = True) -> trimesh.Trimesh:
        """The zero level set of the only object as a closed mesh, see `sdfsrn.models.shape.Shape`."""
        vertices, faces = (grid or self.grid).surface(lambda x: self.clipped_sdf(x[None])[0], self.device)
        colors = None
        if color and len(vertices):
            colors = vertex_colors(self, torch.as_tensor(vertices, dtype=torch.float32, device=self.device))
        return trimesh.Trimesh(vertices, faces, vertex_colors=colors, process=False)


@torch.no_grad()
def vertex_colors(shape: ImplicitShape, points: Float[Tensor, "n 3"], chunk: int = 65_536) -> UInt8[np.ndarray, "n 3"]:
    """Colours at points of one object, world frame."""
    colors = [shape.color(shape(part[None])[1])[0] for part in torch.split(points, chunk)]
    return ((torch.cat(colors) + 1) * 127.5).round().clamp(0, 255).byte().cpu().numpy()
