"""Decoders that deform a sphere: SoftRas's, whose meshes stay in a cube, and CMR's, with a learned mean shape."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sdfsrn.models.meshes import Meshes, SphereTemplate, Texture
from sdfsrn.models.texture import TextureFlow


class MeshDecoder(nn.Module):
    """SoftRas's decoder: each coordinate of a vertex moves within its half of a cube, and the sphere's centre moves too.

    Liu et al., Soft Rasterizer, ICCV 2019.

    Args:
        latent_dim: channels of the latent code.
        extent: half the side of the cube [-extent, extent]^3 that no mesh leaves, world frame; the first ones are near a sphere
            of half this radius.
        widths: of the hidden layers.
        subdivisions: of the sphere, see `SphereTemplate`.
    """

    def __init__(
        self, latent_dim: int, extent: float = 0.5, widths: Sequence[int] = (1024, 2048), subdivisions: int = 3
    ) -> None:
        super().__init__()
        if not extent > 0:
            raise ValueError(f"Expected decoder.extent above 0, got {extent}.")
        self.latent_dim, self.extent, self.widths, self.subdivisions = latent_dim, extent, tuple(widths), subdivisions
        self.sphere = SphereTemplate(subdivisions)
        layers = [(nn.Linear(*channels), nn.ReLU()) for channels in itertools.pairwise((latent_dim, *self.widths))]
        self.hidden = nn.Sequential(*itertools.chain.from_iterable(layers))
        width = (latent_dim, *self.widths)[-1]
        self.centroid = nn.Linear(width, 3)
        self.bias = nn.Linear(width, 3 * len(self.sphere.vertices))

    def forward(self, latent: Float[Tensor, "b l"], image: Float[Tensor, "b 3 h w"] | None = None) -> Meshes:
        """The meshes of latent codes; they have no colours, and the images are not used."""
        hidden = self.hidden(latent)
        bias, centroid = self.bias(hidden).unflatten(-1, (-1, 3)), self.centroid(hidden)[:, None]
        vertices = bounded_vertices(self.sphere.vertices, bias, centroid)
        return Meshes(2 * self.extent * vertices, self.sphere, bias[:, :0])


def bounded_vertices(
    sphere: Float[Tensor, "v 3"], bias: Float[Tensor, "b v 3"], centroid: Float[Tensor, "b 1 3"]
) -> Float[Tensor, "b v 3"]:
    """(v (1 -+ c) + c) / 2 with v = sign(b) sigmoid(logit |b| + bias), b half the unit sphere's, c = tanh(centroid / 10).

    Per coordinate: - where v > 0, + where v < 0. So vertices stay in [-1/2, 1/2]^3 and in their octant about c / 2.
    """
    half = sphere / 2
    start = torch.logit(torch.where(half == 0, 0.5, half.abs()))  # finite where sign(b) = 0
    moved, center = half.sign() * torch.sigmoid(start + bias), torch.tanh(0.1 * centroid)
    return (moved * (1 - moved.sign() * center) + center) / 2


class DeformationDecoder(nn.Module):
    """CMR's shape head: a learned mean shape plus offsets, both mirrored in the plane x = 0.

    Kanazawa et al., Learning Category-Specific Mesh Reconstruction, ECCV 2018. The mean starts as a sphere.

    Args:
        latent_dim: channels of the latent code.
        radius: of the sphere, world frame.
        symmetric: learn the vertices with x >= 0 only; those with x = 0 stay there.
        texture: learn colours as a flow, too; configs hand over the weight of their loss, and 0 is no.
        subdivisions: of the sphere, see `SphereTemplate`.
    """

    mirror: Int[Tensor, " v"]  # each vertex's place among the learned ones
    sign: Float[Tensor, "v 3"]  # and the factor of its coordinates

    def __init__(
        self,
        latent_dim: int,
        radius: float = 1.0,
        symmetric: bool = True,
        texture: float | bool = True,
        subdivisions: int = 3,
    ) -> None:
        super().__init__()
        if not radius > 0:
            raise ValueError(f"Expected decoder.radius above 0, got {radius}.")
        self.latent_dim, self.radius, self.symmetric, self.texture = latent_dim, radius, symmetric, texture
        self.subdivisions = subdivisions
        self.sphere = SphereTemplate(subdivisions)
        learned, mirror, sign = _halves(self.sphere.vertices, symmetric)
        self.register_buffer("mirror", mirror)
        self.register_buffer("sign", sign)
        self.mean = nn.Parameter(radius * self.sphere.vertices[learned])
        self.offsets = nn.Linear(latent_dim, 3 * len(learned))
        nn.init.normal_(self.offsets.weight, std=1e-4)
        nn.init.zeros_(self.offsets.bias)
        self.flow = TextureFlow(latent_dim) if texture else None

    def forward(self, latent: Float[Tensor, "b l"], image: Float[Tensor, "b 3 h w"] | None = None) -> Meshes:
        """The meshes of latent codes; with colours if a texture is learned and the images are given."""
        offsets = self.offsets(latent).unflatten(-1, (-1, 3))
        vertices = (self.mean + offsets)[:, self.mirror] * self.sign
        texture = None if self.flow is None or image is None else Texture(self.flow(latent), image, self.symmetric)
        return Meshes(vertices, self.sphere, offsets, texture)


def _halves(vertices: Float[Tensor, "v 3"], symmetric: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers of the learned vertices, each vertex's place among them, and the factors of its coordinates."""
    count, sign = len(vertices), torch.ones_like(vertices)
    if not symmetric:
        return torch.arange(count), torch.arange(count), sign
    learned = (vertices[:, 0] >= 0).nonzero()[:, 0]
    sign[:, 0] = vertices[:, 0].sign()
    folded = torch.cat([vertices[:, :1].abs(), vertices[:, 1:]], -1)
    return learned, torch.cdist(folded, vertices[learned]).argmin(1), sign
