"""Renderings of meshes and points by ray casting, and turntables. Pictures are uint8 RGB on white, (h, w, 3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import trimesh
from jaxtyping import Float, UInt8
from torch import Tensor

from sdfsrn.functional.camera import Camera, PerspectiveCamera, look_at_origin, pixel_centers
from sdfsrn.meshes.io import mesh_colors
from sdfsrn.meshes.materials import GRAY, FaceMaterials

LIGHT = np.array([-0.352, -0.5, -0.791])  # unit vector towards the light, camera frame: above the left shoulder
AMBIENT = 0.45
MAX_RAYS = 200_000  # cast at once; about 40 MB
NEAR, FAR = np.array([0.10, 0.22, 0.42]), np.array([0.70, 0.80, 0.90])  # of points


class RenderedMesh(NamedTuple):
    """A mesh seen by a camera, pixel by pixel."""

    color: UInt8[np.ndarray, "h w 3"]  # shaded, over white
    surface: UInt8[np.ndarray, "h w 3"]  # shaded, of the covered part of the pixel alone; black off the mesh
    normals: UInt8[np.ndarray, "h w 3"]  # camera frame: red to the right, green up, blue towards the viewer
    depth: Float[np.ndarray, "h w"]  # of the camera frame, mean over the covered part of the pixel; nan off the mesh
    mask: Float[np.ndarray, "h w"]  # covered part of the pixel, in [0, 1]


class Hits(NamedTuple):
    """First intersections of lines of sight with a mesh; p of n lines have one."""

    line: np.ndarray  # (p,) index of the line
    face: np.ndarray  # (p,)
    weight: np.ndarray  # (p, 3) of the face's corners, summing to 1
    depth: np.ndarray  # (p,)


def render_mesh(mesh: trimesh.Trimesh, camera: Camera, size: int | tuple[int, int], supersampling: int = 2) -> RenderedMesh:
    """Render a mesh with its colours, lit from above the viewer's left shoulder.

    Meshes with `FaceMaterials` are shaded flat, others smoothly, with the colours of their vertices. `camera` holds one
    camera, batched or not, whose screen is the whole picture; `size` is its side or (height, width) in pixels, each averaged
    over supersampling^2 lines of sight. Surfaces behind the camera (depth < 0) are invisible. Needs embreex to be fast.
    Raises ValueError for several cameras.
    """
    camera = _single(camera)
    height, width = _shape(size, supersampling)
    color, normals = np.zeros((2, height * width, 3))
    depth = np.full(height * width, np.nan)
    for line, origin, direction in _sight(mesh, camera, height, width):
        hits = _cast(mesh, origin, direction)
        normal = _normals(mesh, hits) @ camera.world_to_camera[0, :, :3].numpy().T
        normal *= np.where(_faces_away(mesh, hits, direction), -1, 1)[:, None]
        light = AMBIENT + (1 - AMBIENT) * (0.5 + 0.5 * normal @ LIGHT).clip(0, 1) ** 1.5
        met = line[hits.line]
        color[met] = _colors(mesh, hits) * light[:, None]
        normals[met] = 0.5 + 0.5 * normal * [1, -1, -1]
        depth[met] = hits.depth
    blocks = (height // supersampling, supersampling, width // supersampling, supersampling, -1)  # as `_mean` takes them
    hit = ~np.isnan(depth)
    covered = _mean(hit.reshape(blocks))
    white = (~hit)[:, None]
    part = covered.clip(1 / supersampling**2)[:, None, :, None]
    mean_depth = np.where(covered > 0, _mean(np.nan_to_num(depth).reshape(blocks)) / part[:, 0, :, 0], np.nan)[..., 0]
    return RenderedMesh(
        _bytes((color + white).reshape(blocks)),
        _bytes(color.reshape(blocks) / part),
        _bytes((normals + white).reshape(blocks)),
        mean_depth,
        covered[..., 0],
    )


def render_mask(
    mesh: trimesh.Trimesh, camera: Camera, size: int | tuple[int, int], supersampling: int = 3
) -> Float[np.ndarray, "h w"]:
    """`render_mesh`'s mask alone, float32: the covered part of each pixel, in [0, 1]."""
    camera = _single(camera)
    height, width = _shape(size, supersampling)
    covered = np.zeros(height * width, bool)
    for line, origin, direction in _sight(mesh, camera, height, width):
        covered[line] = mesh.ray.intersects_any(origin, direction)
    blocks = (height // supersampling, supersampling, width // supersampling, supersampling)
    return _mean(covered.reshape(blocks)).astype(np.float32)


def render_points(
    points: Float[np.ndarray, "n 3"] | Float[Tensor, "n 3"],
    camera: Camera,
    size: int | tuple[int, int],
    radius: float = 0.012,
) -> UInt8[np.ndarray, "h w 3"]:
    """Render a cloud (world frame) as small balls, near ones dark, far ones light; `radius` is in heights of the picture.

    Points that are not finite (padding) or behind the camera are left out. `camera` and `size` as in `render_mesh`.
    """
    height, width = _shape(size, 2)
    picture = np.ones((height, width, 3))
    cloud = torch.as_tensor(points).detach().cpu().double().reshape(1, -1, 3)
    camera = _single(camera)
    uv, z = camera.project(cloud[:, cloud[0].isfinite().all(-1)])
    screen, depth = camera.screen(uv)[0].numpy(), z[0].numpy()
    screen, depth = screen[depth > 0], depth[depth > 0]
    if len(depth) > 0:
        order = np.argsort(-depth)  # nearest last
        pixel = ((screen[order] + 1) / 2 * [width, height]).clip(-1e6, 1e6)
        farness = (1.5 * (depth[order] - depth.min()) / max(np.ptp(depth), 1e-12)).clip(0, 1)  # the far third is hidden
        _splat(picture, pixel, NEAR + farness[:, None] * (FAR - NEAR), max(radius * height, 0.75))
    return _bytes(picture.reshape(height // 2, 2, width // 2, 2, 3))


def orbit_camera(mesh: trimesh.Trimesh, azimuth: float, elevation: float) -> PerspectiveCamera:
    """A camera that sees the whole mesh, aimed at the middle of its bounding box, with the world's y axis up.

    Angles in degrees, as in `look_at_origin`. For an empty mesh the camera sees the unit ball.
    """
    vertices = np.array([[-1.0, 0, 0], [1.0, 0, 0]]) if len(mesh.faces) == 0 else mesh.vertices.view(np.ndarray)
    center = (vertices.min(0) + vertices.max(0)) / 2
    radius = max(np.linalg.norm(vertices - center, axis=-1).max(), 1e-6)
    angles = torch.deg2rad(torch.tensor([azimuth, elevation], dtype=torch.float64))
    look = look_at_origin(angles[:1], angles[1:], 5 * radius)
    translation = look[..., 3:] - look[..., :3] @ torch.from_numpy(center)[:, None]
    focal = 0.95 * 24**0.5  # from 5 radii away a ball's outline has the slope 1 / sqrt(5^2 - 1): it fills 95 %
    intrinsics = torch.diag(torch.tensor([focal, focal, 1.0], dtype=torch.float64))
    return PerspectiveCamera(torch.cat([look[..., :3], translation], -1), intrinsics[None])


def turntable(
    mesh: trimesh.Trimesh, frames: int = 8, size: int = 192, elevation: float = 20.0
) -> list[UInt8[np.ndarray, "h w 3"]]:
    """Render a mesh from all sides, at azimuths 360 i / frames; `elevation` in degrees."""
    return [render_mesh(mesh, orbit_camera(mesh, 360 * i / frames, elevation), size).color for i in range(frames)]


def _shape(size: int | tuple[int, int], supersampling: int) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return height * supersampling, width * supersampling


def _sight(
    mesh: trimesh.Trimesh, camera: Camera, height: int, width: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The lines of sight that may meet the mesh, in batches of rows: index (n,) in the picture, origin, direction (n, 3)."""
    if len(mesh.faces) == 0:
        return
    top, bottom, left, right = _window(mesh, camera, height, width)
    x = pixel_centers(1, width, dtype=torch.float64)[left:right, 0]
    y = pixel_centers(height, 1, dtype=torch.float64)[:, 1]
    step = max(1, MAX_RAYS // max(1, len(x)))
    for first in range(top, bottom, step) if len(x) > 0 else ():
        last = min(first + step, bottom)
        screen = torch.cartesian_prod(y[first:last], x).flip(-1)
        rays = camera.rays(camera.image_plane(screen[None]))
        line = np.arange(first, last)[:, None] * width + np.arange(left, right)
        yield line.reshape(-1), rays.origin[0].numpy(), rays.direction[0].numpy()


def _window(mesh: trimesh.Trimesh, camera: Camera, height: int, width: int) -> tuple[int, int, int, int]:
    """Bounds (top, bottom, left, right) of pixels that a mesh may cover; of all pixels if it reaches behind the camera."""
    vertices = torch.tensor(mesh.vertices.view(np.ndarray)[mesh.referenced_vertices], dtype=torch.float64)
    uv, depth = camera.project(vertices[None])
    if depth.min() <= 0:
        return 0, height, 0, width
    low, high = camera.pixels(torch.stack(torch.aminmax(uv, dim=1), 1), (height, width))[0].numpy()
    left, top = np.floor(low - 1).clip(0, [width, height]).astype(int).tolist()  # one pixel more, for rounding
    right, bottom = np.ceil(high + 1).clip(0, [width, height]).astype(int).tolist()
    return top, bottom, left, right


def _single(camera: Camera) -> Camera:
    """The one camera, on the CPU, in float64, with a batch of one."""
    values = [value.detach().cpu().double() for value in camera]
    if any(value.ndim == 3 and len(value) != 1 for value in values):
        raise ValueError(f"Expected one camera, got a batch of {len(values[0])}: select one of them")
    return type(camera)(*(value.reshape(1, *value.shape[-2:]) for value in values))


def _cast(mesh: trimesh.Trimesh, origin: np.ndarray, direction: np.ndarray) -> Hits:
    """First hits; depth and weights by solving origin + z direction = corners . weight on the face that was hit."""
    face = mesh.ray.intersects_first(origin, direction)
    line = np.flatnonzero(face >= 0)
    face, origin, direction = face[line], origin[line], direction[line]
    corner = mesh.vertices.view(np.ndarray)[mesh.faces[face]]
    edge1, edge2, toward = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0], origin - corner[:, 0]
    p, q = np.cross(direction, edge2), np.cross(toward, edge1)
    determinant = (edge1 * p).sum(-1)
    determinant = np.where(determinant == 0, np.finfo(float).tiny, determinant)
    weight1 = ((toward * p).sum(-1) / determinant).clip(0, 1)
    weight2 = ((direction * q).sum(-1) / determinant).clip(0, 1)
    weight = np.stack([(1 - weight1 - weight2).clip(0), weight1, weight2], -1)
    weight /= weight.sum(-1, keepdims=True)
    surface = (weight[..., None] * corner).sum(1)
    return Hits(line, face, weight, ((surface - origin) * direction).sum(-1) / (direction**2).sum(-1))


def _interpolate(mesh: trimesh.Trimesh, hits: Hits, values: np.ndarray) -> np.ndarray:
    return np.einsum("pk,pkc->pc", hits.weight, values[mesh.faces[hits.face]])


def _normals(mesh: trimesh.Trimesh, hits: Hits) -> np.ndarray:
    """Unit normals, world frame, smooth unless the mesh has a `FaceMaterials`."""
    if isinstance(mesh.visual, FaceMaterials):
        return mesh.face_normals[hits.face]
    normal = _interpolate(mesh, hits, np.asarray(mesh.vertex_normals))
    return normal / np.linalg.norm(normal, axis=-1, keepdims=True).clip(1e-12)


def _faces_away(mesh: trimesh.Trimesh, hits: Hits, direction: np.ndarray) -> np.ndarray:
    """Whether lines meet the back of their face: of an open surface or an inside-out mesh."""
    return (mesh.face_normals[hits.face] * direction[hits.line]).sum(-1) > 0


def _colors(mesh: trimesh.Trimesh, hits: Hits) -> np.ndarray:
    if isinstance(mesh.visual, FaceMaterials):
        return mesh.visual.at(hits.face, hits.weight)
    colors = mesh_colors(mesh)
    if colors is None:
        return np.broadcast_to(GRAY, (len(hits.line), 3))
    return _interpolate(mesh, hits, colors[:, :3] / 255)


def _splat(picture: np.ndarray, center: np.ndarray, color: np.ndarray, radius: float) -> None:
    """Draw shaded discs of `radius` pixels into `picture`, the later over the earlier."""
    reach = int(np.ceil(radius))
    offset = np.stack([*np.mgrid[-reach : reach + 1, -reach : reach + 1]], -1).reshape(-1, 2)[:, ::-1]
    offset = offset[(offset**2).sum(-1) <= radius**2]
    shade = 1 - 0.3 * (offset**2).sum(-1) / radius**2
    pixel = np.floor(center).astype(np.int64)[:, None] + offset
    inside = ((pixel >= 0) & (pixel < picture.shape[1::-1])).all(-1)
    x, y = pixel[inside].T
    drawn = np.full(picture.shape[:2], -1)
    drawn[y, x] = np.flatnonzero(inside)  # with repeated indices NumPy keeps the last assignment
    point, place = np.divmod(drawn[drawn >= 0], len(offset))
    picture[drawn >= 0] = color[point] * shade[place, None]


def _bytes(blocks: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
    """Mean over the samples of each pixel, [0, 1] to bytes."""
    return np.round(_mean(blocks).clip(0, 1) * 255).astype(np.uint8)


def _mean(blocks: np.ndarray) -> np.ndarray:
    """Mean of (h, s, w, s, ...) over the s x s samples of each pixel, sample by sample: much faster than NumPy's own."""
    side = blocks.shape[1]
    samples = (blocks[:, row, :, column] for row in range(side) for column in range(side))
    total: np.ndarray = sum(samples, np.zeros(()))  # a number, so that samples of booleans are counted
    return total / side**2
