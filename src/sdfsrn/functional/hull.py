"""The visual hull of an object: the largest shape with its silhouettes, carved out of a cube, and its depth in each view."""

from __future__ import annotations

import operator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sdfsrn.functional.camera import Camera, Rays, pixel_centers


def hull_depth(
    inside: Bool[Tensor, "v h w"], camera: Camera, half_side: float = 0.55, resolution: int = 64, num_depths: int = 96
) -> Float[Tensor, "v h w"]:
    """Depth z of the first point of each silhouette ray that is inside every silhouette; inf where there is none.

    Args:
        inside: silhouettes of one object, one per view.
        camera: of the views.
        half_side: the object lies in [-half_side, half_side]^3, world frame.
        resolution: nodes along each side of that cube.
        num_depths: equally spaced points per ray, from where it enters the cube to where it leaves it.
    """
    hull = visual_hull(inside, camera, half_side, resolution)
    height, width = inside.shape[1:]
    centers = pixel_centers(height, width, camera.intrinsics.dtype, inside.device)
    uv = camera.image_plane(centers.expand(len(inside), -1, -1))
    depth = torch.full_like(uv[..., 0], torch.inf)
    for view, silhouette in enumerate(inside.flatten(1)):
        rays = camera.map(operator.itemgetter(slice(view, view + 1))).rays(uv[view, silhouette][None])
        depth[view, silhouette] = first_depth(hull, rays, half_side, num_depths)[0]
    return depth.view(inside.shape)


def visual_hull(
    inside: Bool[Tensor, "v h w"], camera: Camera, half_side: float = 0.55, resolution: int = 64
) -> Bool[Tensor, "n n n"]:
    """Nodes (x, y, z) of a grid over the cube that every view projects into its silhouette; beyond a picture is outside.

    One view after the other, so that each takes only the nodes that the views before it have left.
    """
    height, width = inside.shape[1:]
    axis = torch.linspace(-half_side, half_side, resolution, dtype=camera.intrinsics.dtype, device=inside.device)
    points = torch.cartesian_prod(axis, axis, axis)
    left = torch.arange(len(points), device=inside.device)
    for view, silhouette in enumerate(inside):
        seen_by = camera.map(operator.itemgetter(view))
        uv, depth = seen_by.project(points[left])
        column, row = seen_by.pixels(uv, (height, width)).floor().unbind(-1)
        visible = (depth > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        left, pixel = left[visible], (row * width + column)[visible].long()
        left = left[silhouette.flatten()[pixel]]
    hull = torch.zeros(len(points), dtype=torch.bool, device=inside.device)
    return hull.index_fill(0, left, True).view(resolution, resolution, resolution)


def first_depth(hull: Bool[Tensor, "n n n"], rays: Rays, half_side: float = 0.55, num_depths: int = 96) -> Float[Tensor, "b r"]:
    """Depth of the first of the points along each ray whose nearest node is in the hull; inf where none is."""
    last = len(hull) - 1
    near, far = cube_interval(rays, half_side)
    share = torch.linspace(0, 1, num_depths, dtype=near.dtype, device=near.device)
    depth = near[..., None] + (far - near)[..., None] * share
    x, y, z = (rays.at(depth) / half_side + 1).mul(last / 2).round().nan_to_num().clamp(0, last).long().unbind(-1)
    occupied = hull[x, y, z] & (near <= far)[..., None]
    first = depth.gather(-1, occupied.byte().argmax(-1, keepdim=True))[..., 0]
    return torch.where(occupied.any(-1), first, torch.inf)


def cube_interval(rays: Rays, half_side: float) -> tuple[Float[Tensor, "b r"], Float[Tensor, "b r"]]:
    """Depths where rays enter and leave the cube, in front of the camera; those that miss it enter after they leave."""
    low, high = ((side - rays.origin) / rays.direction for side in (-half_side, half_side))
    return torch.fmin(low, high).amax(-1).clamp(min=0), torch.fmax(low, high).amin(-1)
