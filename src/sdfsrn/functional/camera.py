"""Cameras: between pixels, rays and world points. Perspective and orthographic ones have the same methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sdfsrn.functional.silhouette import cone_lower_bound, cylinder_lower_bound


class Rays(NamedTuple):
    """Lines of sight in the world frame: the point at depth z is `origin + z * direction`."""

    origin: Float[Tensor, "b r 3"]
    direction: Float[Tensor, "b r 3"]

    def at(self, depth: Float[Tensor, "b r *s"]) -> Float[Tensor, "b r *s 3"]:
        """World points at one depth per ray, or at several."""
        several = depth.ndim > 2
        origin, direction = (x[..., None, :] if several else x for x in self)
        return origin + depth[..., None] * direction

    def select(self, index: Int[Tensor, "b k"]) -> Rays:
        """Some rays of each object."""
        return Rays(*(x.gather(1, index[..., None].expand(-1, -1, 3)) for x in self))


class PerspectiveCamera(NamedTuple):
    """Pinhole cameras, one per object. Frames and units as in `sdfsrn.structures`."""

    world_to_camera: Float[Tensor, "b 3 4"]
    intrinsics: Float[Tensor, "b 3 3"]

    def map(self, change: Callable[[Tensor], Tensor]) -> PerspectiveCamera:
        """The camera with both matrices changed: moved to a device, indexed, converted."""
        return PerspectiveCamera(change(self.world_to_camera), change(self.intrinsics))

    def screen(self, uv: Float[Tensor, "*b r 2"]) -> Float[Tensor, "*b r 2"]:
        """Image plane to screen coordinates."""
        return _screen(self.intrinsics, uv)

    def image_plane(self, screen: Float[Tensor, "*b r 2"]) -> Float[Tensor, "*b r 2"]:
        """Screen coordinates to the image plane at z = 1."""
        return _image_plane(self.intrinsics, screen)

    def pixels(self, uv: Float[Tensor, "*b r 2"], size: tuple[int, int]) -> Float[Tensor, "*b r 2"]:
        """Image plane to pixels (x, y), from the outer corner of the first one; `size` is the image's height and width."""
        return _pixels(self.intrinsics, uv, size)

    def rays(self, uv: Float[Tensor, "b r 2"]) -> Rays:
        """Lines of sight: x = R^T (z (u, 1) - t). Eqs. (5), (9), arXiv:2010.10505."""
        rotation, translation = self.world_to_camera[..., :3], self.world_to_camera[..., 3:]
        center = -(rotation.mT @ translation).mT
        direction = torch.cat([uv, torch.ones_like(uv[..., :1])], -1) @ rotation
        return Rays(center.expand_as(direction), direction)

    def project(self, points: Float[Tensor, "*b n 3"]) -> tuple[Float[Tensor, "*b n 2"], Float[Tensor, "*b n"]]:
        """World points to the image plane, and their depth."""
        x = _to_camera(self.world_to_camera, points)
        return x[..., :2] / x[..., 2:], x[..., 2]

    def lower_bound(
        self, depth: Float[Tensor, "b r *m"], uv: Float[Tensor, "b r 2"], distance: Float[Tensor, "b r"]
    ) -> Float[Tensor, "b r *m"]:
        """b(z; u): no surface is nearer to the ray's point at `depth`, see `cone_lower_bound`."""
        extra = depth.ndim - distance.ndim
        return cone_lower_bound(
            depth, uv.reshape(*uv.shape[:-1], *[1] * extra, 2), distance.reshape(*distance.shape, *[1] * extra)
        )

    def mirrored(self) -> PerspectiveCamera:
        """The camera of the picture's mirror image, which shows the object mirrored in the world's plane x = 0."""
        return PerspectiveCamera(*_mirrored(*self))

    def zoomed(self, factor: float | Float[Tensor, " b"]) -> PerspectiveCamera:
        """The camera of an image enlarged about its centre: screen coordinates times `factor`, same rays, same object."""
        factor = torch.as_tensor(factor, dtype=self.intrinsics.dtype, device=self.intrinsics.device)[..., None, None]
        return self._replace(intrinsics=torch.cat([factor * self.intrinsics[..., :2, :], self.intrinsics[..., 2:, :]], -2))

    def zoomed_depth(self, depth: Float[Tensor, "*shape"], factor: Float[Tensor, " b"]) -> Float[Tensor, "*shape"]:
        """Depths (b, ...) of the object seen by the `zoomed` camera: the same."""
        return depth


class OrthographicCamera(NamedTuple):
    """Orthographic cameras, one per object; with a scale in `intrinsics` they are weak-perspective ones."""

    world_to_camera: Float[Tensor, "b 3 4"]
    intrinsics: Float[Tensor, "b 3 3"]

    def map(self, change: Callable[[Tensor], Tensor]) -> OrthographicCamera:
        """The camera with both matrices changed: moved to a device, indexed, converted."""
        return OrthographicCamera(change(self.world_to_camera), change(self.intrinsics))

    def screen(self, uv: Float[Tensor, "*b r 2"]) -> Float[Tensor, "*b r 2"]:
        """Image plane to screen coordinates."""
        return _screen(self.intrinsics, uv)

    def image_plane(self, screen: Float[Tensor, "*b r 2"]) -> Float[Tensor, "*b r 2"]:
        """Screen coordinates to the image plane, in the world's unit."""
        return _image_plane(self.intrinsics, screen)

    def pixels(self, uv: Float[Tensor, "*b r 2"], size: tuple[int, int]) -> Float[Tensor, "*b r 2"]:
        """Image plane to pixels (x, y), from the outer corner of the first one; `size` is the image's height and width."""
        return _pixels(self.intrinsics, uv, size)

    def rays(self, uv: Float[Tensor, "b r 2"]) -> Rays:
        """Parallel lines of sight: x = R^T ((u, z) - t). Appendix A.2, arXiv:2010.10505."""
        rotation, translation = self.world_to_camera[..., :3], self.world_to_camera[..., 3:]
        origin = (torch.cat([uv, torch.zeros_like(uv[..., :1])], -1) - translation.mT) @ rotation
        return Rays(origin, rotation[..., 2:3, :].expand_as(origin))

    def project(self, points: Float[Tensor, "*b n 3"]) -> tuple[Float[Tensor, "*b n 2"], Float[Tensor, "*b n"]]:
        """World points to the image plane, and their depth."""
        x = _to_camera(self.world_to_camera, points)
        return x[..., :2], x[..., 2]

    def lower_bound(
        self, depth: Float[Tensor, "b r *m"], uv: Float[Tensor, "b r 2"], distance: Float[Tensor, "b r"]
    ) -> Float[Tensor, "b r *m"]:
        """b(z; u) = D(u), see `cylinder_lower_bound`."""
        extra = depth.ndim - distance.ndim
        return cylinder_lower_bound(depth, distance.reshape(*distance.shape, *[1] * extra))

    def mirrored(self) -> OrthographicCamera:
        """The camera of the picture's mirror image, which shows the object mirrored in the world's plane x = 0."""
        return OrthographicCamera(*_mirrored(*self))

    def zoomed(self, factor: float | Float[Tensor, " b"]) -> OrthographicCamera:
        """The camera of an image enlarged about its centre, which shows an object `factor` times as large.

        The unit of the world is that of the image (focal lengths stay), so it is the object that grows: its points X lie at
        `factor` X in the new camera's world. The depth of the world's origin stays.
        """
        factor = torch.as_tensor(factor, dtype=self.intrinsics.dtype, device=self.intrinsics.device)
        scale = torch.stack([factor, factor, torch.ones_like(factor)], -1)[..., None]
        translation = self.world_to_camera[..., 3:] * scale
        offset = self.intrinsics[..., 2:] * scale
        return OrthographicCamera(
            torch.cat([self.world_to_camera[..., :3], translation], -1), torch.cat([self.intrinsics[..., :2], offset], -1)
        )

    def zoomed_depth(self, depth: Float[Tensor, "*shape"], factor: Float[Tensor, " b"]) -> Float[Tensor, "*shape"]:
        """Depths (b, ...) of the object seen by the `zoomed` camera: it grows about the world's origin, whose depth stays."""
        origin, factor = (x.view(-1, *[1] * (depth.ndim - 1)) for x in (self.world_to_camera[:, 2, 3], factor))
        return origin + factor * (depth - origin)


Camera = PerspectiveCamera | OrthographicCamera


def pixel_centers(
    height: int, width: int, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> Float[Tensor, "hw 2"]:
    """Screen coordinates (x, y) of all pixel centres, row by row: column c lies at (2 c + 1) / width - 1.

    >>> pixel_centers(1, 2).tolist()
    [[-0.5, 0.0], [0.5, 0.0]]
    """
    x = (2 * torch.arange(width, dtype=dtype, device=device) + 1) / width - 1
    y = (2 * torch.arange(height, dtype=dtype, device=device) + 1) / height - 1
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2)


def look_at_origin(azimuth: Float[Tensor, " b"], elevation: Float[Tensor, " b"], distance: float) -> Float[Tensor, "b 3 4"]:
    """`world_to_camera` of cameras that look at the origin with the world's y axis up; angles in radians.

    The camera stands at distance (cos e sin a, sin e, -cos e cos a): azimuth 0 is on the -z axis, azimuth 90 degrees on +x,
    as in the renderings of ShapeNet by Kato et al. The elevation must stay short of +-90 degrees.
    """
    zero = torch.zeros_like(azimuth)
    cos_a, sin_a, cos_e, sin_e = azimuth.cos(), azimuth.sin(), elevation.cos(), elevation.sin()
    right = torch.stack([-cos_a, zero, -sin_a], -1)
    forward = -torch.stack([cos_e * sin_a, sin_e, -cos_e * cos_a], -1)
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward], -2)
    return torch.cat([rotation, torch.stack([zero, zero, zero + distance], -1)[..., None]], -1)


def _mirrored(world_to_camera: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """x turned about in the world, the camera and the picture: the rotation stays one, and the lens is that of the mirror."""
    turn = 1 - 2 * torch.eye(1, 4, dtype=intrinsics.dtype, device=intrinsics.device)[0]  # made without waiting for a device
    return turn[:3, None] * world_to_camera * turn, turn[:3, None] * intrinsics * turn[:3]


def _to_camera(world_to_camera: Tensor, points: Tensor) -> Tensor:
    return points @ world_to_camera[..., :3].mT + world_to_camera[..., 3:].mT


def _screen(intrinsics: Tensor, uv: Tensor) -> Tensor:
    return uv @ intrinsics[..., :2, :2].mT + intrinsics[..., :2, 2:].mT


def _image_plane(intrinsics: Tensor, screen: Tensor) -> Tensor:
    (a, b), (c, d) = ((row[..., 0], row[..., 1]) for row in (intrinsics[..., 0, :], intrinsics[..., 1, :]))
    x, y = (screen - intrinsics[..., None, :2, 2]).unbind(-1)
    a, b, c, d = (value[..., None] for value in (a, b, c, d))
    return torch.stack([d * x - b * y, a * y - c * x], -1) / (a * d - b * c)[..., None]


def _pixels(intrinsics: Tensor, uv: Tensor, size: tuple[int, int]) -> Tensor:
    return (_screen(intrinsics, uv) + 1) / 2 * uv.new_tensor([size[1], size[0]])
