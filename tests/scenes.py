"""A scene of which everything is known, pictures of it, and a source that holds pictures in memory."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import trimesh

from sdfsrn.data.source import ImageSample
from sdfsrn.evaluation.measuring import TrueShape
from sdfsrn.functional import primitives
from sdfsrn.functional.camera import OrthographicCamera, PerspectiveCamera, pixel_centers
from sdfsrn.meshes.geometry import sample_surface

CAMERAS = pytest.mark.parametrize("kind", [PerspectiveCamera, OrthographicCamera])
DOUBLE = {"dtype": torch.double}


def scene(x: torch.Tensor) -> torch.Tensor:
    """A ball, a box off the centre and a thin rod, exact outside."""

    def at(*place: float) -> torch.Tensor:
        return x - torch.tensor(place, dtype=x.dtype)

    half = torch.tensor([0.3, 0.12, 0.2], dtype=x.dtype)
    ball = primitives.sphere(at(0.1, 0.3, -0.2), torch.tensor(0.25, dtype=x.dtype))
    box = primitives.box(at(0.25, -0.2, 0.1), half)
    rod = primitives.capsule(at(-0.3, 0.0, 0.2), torch.tensor(0.35, dtype=x.dtype), torch.tensor(0.012, dtype=x.dtype))
    return primitives.union(ball, box, rod)


def covered(camera, uv: torch.Tensor, reach: float = 0.0) -> torch.Tensor:
    """Whether the lines of sight through (n, 2) image-plane points come within `reach` of the scene: sphere tracing."""
    rays = camera.rays(uv[None])
    length = rays.direction.norm(dim=-1)
    depth, hit = torch.full_like(length, 0.3), torch.zeros_like(length, dtype=torch.bool)
    for _ in range(60):
        sdf = scene(rays.at(depth))
        hit |= sdf < reach + 1e-4
        depth = depth + torch.where(hit, 0.0, sdf - reach).clamp(min=1e-4) / length
    return hit[0]


def random_picture(kind: type, size: tuple[int, int] = (24, 32)) -> ImageSample:
    """The scene, its alpha counted at 4 x 4 points a pixel and at least 1 / 255 wherever it may touch one."""
    height, width = size
    rotation = torch.linalg.qr(torch.randn(3, 3, **DOUBLE)).Q
    rotation = rotation * torch.det(rotation)
    translation = torch.tensor([0.1, -0.1, 2.0 + torch.rand(()).item()], **DOUBLE)
    intrinsics = torch.eye(3, **DOUBLE)
    intrinsics[0, 0], intrinsics[1, 1] = (2.2, 1.7) if kind is PerspectiveCamera else (0.9, 0.75)
    intrinsics[:2, 2] = torch.randn(2, **DOUBLE) / 10
    pose = torch.cat([rotation, translation[:, None]], -1)
    batch = kind(pose[None], intrinsics[None])
    fine = covered(batch, batch.image_plane(pixel_centers(4 * height, 4 * width, **DOUBLE)[None])[0])
    alpha = F.avg_pool2d(fine.view(1, 1, 4 * height, 4 * width).double(), 4)[0, 0]
    half = math.hypot(1 / (height * intrinsics[1, 1]), 1 / (width * intrinsics[0, 0]))
    reach = half * (translation[2].item() + 1 if kind is PerspectiveCamera else 1)  # to a pixel's corner, at the back
    centers = batch.image_plane(pixel_centers(height, width, **DOUBLE)[None])[0]
    touched = covered(batch, centers, reach).view(height, width)
    alpha = torch.where(touched, alpha.clamp(min=1 / 255), alpha)
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return ImageSample(image, alpha.float().numpy(), kind(pose.float(), intrinsics.float()))


def disc(kind: type, size: int, radius: float, at: tuple[float, float]) -> ImageSample:
    """A disc on the screen, its alpha counted at 8 x 8 points a pixel; where it is not, colours are others."""
    points = pixel_centers(8 * size, 8 * size, **DOUBLE) - torch.tensor(at, **DOUBLE)
    fine = (points.norm(dim=-1) < radius).view(1, 1, 8 * size, 8 * size).double()
    alpha = F.avg_pool2d(fine, 8)[0, 0].float().numpy()
    image = np.where(alpha[..., None] > 0, [200, 100, 50], 7).astype(np.uint8)
    return ImageSample(image, alpha, kind(torch.eye(3, 4), torch.eye(3)))


def ball(radius: float) -> trimesh.Trimesh:
    return trimesh.creation.icosphere(subdivisions=4, radius=radius)


def wedge() -> trimesh.Trimesh:
    """A solid without any symmetry."""
    vertices = np.array([[0, 0, 0], [0.9, 0, 0], [0.1, 0.5, 0], [0.2, 0.1, 0.35]]) - [0.3, 0.15, 0.1]
    return trimesh.convex.convex_hull(vertices)


def surface_points(mesh: trimesh.Trimesh, count: int, seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(sample_surface(mesh, count, seed)[0]).float()


def points_only(points: torch.Tensor) -> TrueShape:
    """An object of which only points are known, and a view of nothing."""
    camera = PerspectiveCamera(torch.eye(3, 4), torch.eye(3))
    blank = ImageSample(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.float32), camera)
    return TrueShape(points, torch.zeros(0, 3), lambda _: None, [blank])


class Memory:
    """A source of pictures held in a list."""

    def __init__(self, pictures: list[ImageSample], points: int = 0) -> None:
        self.pictures, self.count = pictures, points
        self.names = [f"picture {i}" for i in range(len(pictures))]

    def __len__(self) -> int:
        return len(self.pictures)

    def picture(self, index: int) -> ImageSample:
        return self.pictures[index]

    def points(self, index: int) -> np.ndarray:
        return np.ones((self.count * index, 3), np.float32)
