"""Pictures of analytic shapes by sphere tracing, and points on their surfaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sdfsrn.data.shapes import ProceduralShape
from sdfsrn.functional.camera import Camera, Rays

LIGHT = (0.0, 1.0, -0.5)  # direction to the light, world frame
BRANCHING = 4  # a beam is split into 4 x 4 thinner ones
MAX_STEPS = 48
_CHUNK = 16384  # points evaluated at once; few enough to stay in a CPU's cache


class RenderedViews(NamedTuple):
    """Pictures of one object: each pixel's mean colour over its covered samples, in [0, 1], and the number of those."""

    color: Float[Tensor, "b h w 3"]
    hits: Int[Tensor, "b h w"]


@torch.no_grad()
def render(shape: ProceduralShape, camera: Camera, image_size: int, supersampling: int) -> RenderedViews:
    """Square pictures, `supersampling`^2 rays per pixel, half the light from everywhere and half (Lambert) from `LIGHT`.

    Cameras (b of them) stand outside the shape's bounding sphere. Coarse beams are marched first, up to where the
    surface may be within them, and split; so most rays start next to it, and most that miss are never traced singly.
    """
    views, fine = camera.world_to_camera.shape[0], image_size * supersampling
    near, far = _depth_range(shape, camera)
    size = -(-fine // BRANCHING**2)
    index = torch.arange(views * size * size)
    depth = near.repeat_interleave(size * size)
    for block in (BRANCHING**2, BRANCHING, 1):
        rays = _beam_rays(camera, index, size, 2 * block / fine)
        slack = _spread(camera, block / fine) if block > 1 else None
        depth, alive = march(shape.sdf, rays, depth, far[index // size**2], slack)
        index, depth, rays = index[alive], depth[alive], Rays(*(value[alive] for value in rays))
        if block > 1:
            index, depth, size = _split(index, depth, size, -(-fine // (block // BRANCHING)))
    color = _shade(shape, rays.origin + depth[:, None] * rays.direction)
    return _gather(index, color, views, image_size, supersampling)


def march(
    sdf: Callable[[Tensor], Tensor],
    rays: Rays,
    depth: Float[Tensor, " m"],
    far: Float[Tensor, " m"],
    slack: tuple[float, float] | None = None,
    tolerance: float = 1e-3,
) -> tuple[Float[Tensor, " m"], Tensor]:
    """Sphere tracing from `depth` to `far`: the depth reached, and whether the surface is there (within `tolerance`).

    With `slack` (a, c) a beam of radius a + c * depth is traced: none of its rays enters the surface, and it is there
    wherever the beam may touch it.
    """
    offset, slope = slack or (0.0, 0.0)
    depth, speed = depth.clone(), 1 / (rays.direction.norm(dim=-1) + slope)
    active = torch.arange(len(depth))
    for _ in range(MAX_STEPS if slack is None else MAX_STEPS // 3):
        points = rays.origin[active] + depth[active, None] * rays.direction[active]
        distance = torch.cat([sdf(chunk) for chunk in points.split(_CHUNK)])
        room = distance - (offset + slope * depth[active])
        stop = room < (tolerance if slack is None else 0.2 * (offset + slope * depth[active]))
        advanced = depth[active] + room.clamp(min=0) * speed[active]
        depth[active] = torch.where(stop, depth[active], advanced)
        active = active[~stop & (advanced < far[active])]
        if len(active) == 0:
            break
    return depth, depth < far


@torch.no_grad()
def surface_points(
    shape: ProceduralShape, count: int, generator: torch.Generator, shell: float = 0.003
) -> Float[Tensor, "n 3"]:
    """`count` points of the surface, to within 2e-5, nearly uniform by area.

    Uniform points of the thin shell about the surface, on both its sides, are moved to their nearest surface points.
    Where parts merely touch, the function is 0 without a surface; so a point stays only if its normal leads outside.
    """
    cell = 0.02
    steps = [torch.arange(-float(half) - cell, float(half) + cell, cell) for half in shape.half_size]
    corners = torch.cartesian_prod(*steps)
    near = torch.cat([shape.sdf(chunk + cell / 2) for chunk in corners.split(_CHUNK)]).abs() < 0.87 * cell + shell
    corners, found, total = corners[near], [], 0
    while total < count:
        chosen = corners[torch.randint(len(corners), (_CHUNK,), generator=generator)]
        points = chosen + cell * torch.rand(chosen.shape, generator=generator)
        points = points[shape.sdf(points).abs() < shell]
        normal = shape.normal(points)
        for _ in range(2):
            points = points - shape.sdf(points)[:, None] * normal
        on_surface = (shape.sdf(points).abs() < 2e-5) & (shape.sdf(points + shell * normal) > 0.5 * shell)
        found.append(points[on_surface])
        total += len(found[-1])
    return torch.cat(found)[:count]


def _depth_range(shape: ProceduralShape, camera: Camera) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Depths between which the shape's bounding sphere lies."""
    middle, radius = camera.world_to_camera[:, 2, 3], shape.half_size.norm()
    return middle - radius, middle + radius


def _beam_rays(camera: Camera, index: Tensor, size: int, pitch: float) -> Rays:
    """Rays through the middles of square blocks of the screen, `pitch` wide, counted from the corner (-1, -1)."""
    view, row, column = index // size**2, index // size % size, index % size
    screen = torch.stack([column, row], -1) * pitch + (pitch / 2 - 1)
    chosen = type(camera)(camera.world_to_camera[view], camera.intrinsics[view])
    rays = chosen.rays(chosen.image_plane(screen[:, None]))
    return Rays(rays.origin[:, 0], rays.direction[:, 0])


def _spread(camera: Camera, half_pitch: float) -> tuple[float, float]:
    """(a, c) such that the rays of a block stay within a + c * depth of its middle ray, at equal depth."""
    plane = camera.image_plane(torch.tensor([[[0.0, 0.0], [half_pitch, half_pitch]]]).expand(len(camera.intrinsics), -1, -1))
    corner = float((plane[:, 1] - plane[:, 0]).norm(dim=-1).max())
    origins = camera.rays(plane).origin
    parallel = float((origins[:, 1] - origins[:, 0]).norm(dim=-1).max())
    return (parallel, 0.0) if parallel > 0 else (0.0, corner)


def _split(index: Tensor, depth: Tensor, size: int, child_size: int) -> tuple[Tensor, Tensor, int]:
    """Each block's 4 x 4 smaller ones, without those outside the picture; they start at their parent's depth."""
    view, row, column = (value[:, None] for value in (index // size**2, index // size % size, index % size))
    child = torch.arange(BRANCHING**2)
    row, column = BRANCHING * row + child // BRANCHING, BRANCHING * column + child % BRANCHING
    valid = (row < child_size) & (column < child_size)
    return ((view * child_size + row) * child_size + column)[valid], depth[:, None].expand_as(row)[valid], child_size


def _shade(shape: ProceduralShape, points: Float[Tensor, "m 3"]) -> Float[Tensor, "m 3"]:
    light = torch.nn.functional.normalize(torch.tensor(LIGHT), dim=0)
    lit = [0.5 + 0.5 * (shape.normal(chunk) @ light).clamp(0, 1) for chunk in points.split(_CHUNK)]
    color = [(shape.color(chunk) + 1) / 2 for chunk in points.split(_CHUNK)]
    return torch.cat(color) * torch.cat(lit)[:, None]


def _gather(index: Tensor, color: Tensor, views: int, image_size: int, supersampling: int) -> RenderedViews:
    fine = image_size * supersampling
    sums = torch.zeros(views * fine * fine, 4).index_copy(0, index, torch.cat([color, torch.ones_like(color[:, :1])], -1))
    sums = sums.reshape(views, image_size, supersampling, image_size, supersampling, 4).sum((2, 4))
    return RenderedViews(sums[..., :3] / sums[..., 3:].clamp(min=1), sums[..., 3].round().long())
