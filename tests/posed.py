"""Coloured shapes, their pictures from known poses, and a model that knows the shape."""

from __future__ import annotations

import numpy as np
import torch
import trimesh
from scipy.spatial.transform import Rotation

from sdfsrn.data.conventions import rotation_from_angles
from sdfsrn.data.source import ImageSample
from sdfsrn.functional.camera import OrthographicCamera, PerspectiveCamera, pixel_centers
from sdfsrn.functional.isosurface import Grid
from sdfsrn.losses import Objective
from sdfsrn.meshes.rendering import render_mask
from sdfsrn.structures import Rendering, Views
from sdfsrn.system import ShapeModel


def box(size: tuple[float, float, float], at: tuple[float, float, float], color: tuple[int, int, int]) -> trimesh.Trimesh:
    part = trimesh.creation.box(size, trimesh.transformations.translation_matrix(at))
    part.visual.vertex_colors = np.tile([*color, 255], (len(part.vertices), 1)).astype(np.uint8)
    return part


def seat() -> trimesh.Trimesh:
    """A chair: its own mirror image in x = 0, front at -z, orange seat, blue back, and front legs shorter than those behind."""
    parts = [box((0.6, 0.08, 0.6), (0, 0, 0), (230, 120, 30)), box((0.6, 0.6, 0.08), (0, 0.3, 0.26), (40, 60, 200))]
    legs = [box((0.06, h, 0.06), (x, -h / 2, z), (20, 20, 20)) for x in (-0.25, 0.25) for z, h in ((-0.25, 0.3), (0.25, 0.45))]
    return trimesh.util.concatenate([*parts, *legs])


def globe(radius: float) -> trimesh.Trimesh:
    """A ball whose colours tell the direction: red towards +x, green towards +y, blue towards +z."""
    ball = trimesh.creation.icosphere(4, radius)
    colors = 127.5 * (1 + ball.vertices / radius)
    ball.visual.vertex_colors = np.column_stack([colors, np.full(len(colors), 255)]).astype(np.uint8)
    return ball


def camera(kind: type, angles: tuple[float, float, float]) -> PerspectiveCamera | OrthographicCamera:
    """One that does not look at the origin."""
    translation = [0.05, -0.03, 2.7]
    pose = np.column_stack([rotation_from_angles(*angles, "nmr"), translation])
    focal = 3.5 if kind is PerspectiveCamera else 1.3
    return kind(torch.from_numpy(pose).float(), torch.tensor([[focal, 0, 0.02], [0, focal, 0.04], [0, 0, 1.0]]))


def photograph(mesh: trimesh.Trimesh, kind: type, angles: tuple[float, float, float], size: int = 64) -> ImageSample:
    """An unshaded picture: each pixel has the colour of the face behind its middle."""
    seen = camera(kind, angles)
    alpha = render_mask(mesh, seen, size)
    colors = np.asarray(mesh.visual.vertex_colors)[mesh.faces, :3].mean(1)
    face = first_faces(mesh, seen, size)
    image = np.where(face[..., None] >= 0, colors[face], 255).astype(np.uint8)
    return ImageSample(image, alpha, seen)


def first_faces(mesh: trimesh.Trimesh, seen: PerspectiveCamera | OrthographicCamera, size: int) -> np.ndarray:
    batch = seen.map(lambda matrix: matrix[None].double())
    rays = batch.rays(batch.image_plane(pixel_centers(size, size, dtype=torch.double)[None]))
    return mesh.ray.intersects_first(rays.origin[0].numpy(), rays.direction[0].numpy()).reshape(size, size)


def degrees(rotation: np.ndarray, picture: ImageSample) -> float:
    true = picture.camera.world_to_camera[:, :3].double().numpy()
    return float(np.degrees(Rotation.from_matrix(rotation @ true.T).magnitude()))


class Knowing(ShapeModel):
    """Sees a known mesh in every picture, and remembers its input."""

    def __init__(self, mesh: trimesh.Trimesh) -> None:
        super().__init__(Objective({"none": torch.nn.Identity()}, {"none": 1.0}))
        self.mesh = mesh
        self.eval()

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        self.seen = image
        return image.mean((1, 2, 3))[:, None]

    def decode(self, latent: torch.Tensor) -> Known:
        return Known(self.mesh)

    def render(self, shape: Known, views: Views) -> Rendering:
        raise NotImplementedError


class Known:
    """A shape with a mesh."""

    def __init__(self, mesh: trimesh.Trimesh) -> None:
        self._mesh = mesh

    def __getitem__(self, objects: slice) -> Known:
        return self

    def mesh(self, grid: Grid | None = None, color: bool = True) -> trimesh.Trimesh:
        return self._mesh.copy()
