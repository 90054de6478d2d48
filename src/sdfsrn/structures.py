"""The values that travel through the package: named tuples of tensors, collated and moved between devices as they are.

Axis letters, fixed here once for every annotation in the package:

    b objects (images) in a batch     r rays of an image      m random depths on a ray     n points
    s visited depths on a ray         l latent code           c feature channels           h w image rows, columns
    k chosen ones of them

Frames and units, fixed here once as well:

    world         the object's own frame, in which shapes are learned and meshes are written
    camera        x right, y down, z forward; `world_to_camera` = [R | t] maps a world point x to R x + t (as OpenCV)
    image plane   u = (x, y) / z of a camera point (perspective) or (x, y) itself (orthographic)
    screen        [-1, 1]^2, (-1, -1) being the outer corner of the first pixel; `intrinsics` maps (u, 1) to it
    depth         z of the camera frame, so that the point of ray u at depth z is z (u, 1), not the length of the ray
    colour        RGB in [-1, 1]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from sdfsrn.functional.camera import Camera


class Rays(NamedTuple):
    """Lines of sight in the world frame: the point at depth z is `origin + z * direction`."""

    origin: Float[Tensor, "b r 3"]
    direction: Float[Tensor, "b r 3"]

    def at(self, depth: Float[Tensor, "b r"]) -> Float[Tensor, "b r 3"]:
        """World points at one depth a ray."""
        return self.origin + depth[..., None] * self.direction

    def at_many(self, depth: Float[Tensor, "b r s"]) -> Float[Tensor, "b r s 3"]:
        """World points at several depths a ray."""
        return self.origin[..., None, :] + depth[..., None] * self.direction[..., None, :]


class Views(NamedTuple):
    """One training batch: pictures of objects, and what is known at r sampled pixels of each."""

    image: Float[Tensor, "b 3 h w"]  # colour over the background
    camera: Camera
    uv: Float[Tensor, "b r 2"]  # pixel centres, image plane
    color: Float[Tensor, "b r 3"]
    inside: Bool[Tensor, "b r"]  # the pixel belongs to the silhouette
    distance: Float[Tensor, "b r"]  # D(u) to the silhouette's outline, from both sides, in units of the image plane
    weight: Float[Tensor, "b r"]  # w(u) = 1 / D(u), finite
    area: Float[Tensor, "b r"]  # of the picture that the ray stands for, in r-ths of it; 1 where rays are uniform
    points: Float[Tensor, "b n 3"]  # ground truth for evaluation, world frame; n = 0 in training, padded with NaN
    index: Int[Tensor, " b"]  # type: ignore[assignment]  # in the split; -1: not to be counted; hides `tuple.index`

    def ray_weight(self, importance: bool) -> Float[Tensor, "b r"]:
        """w(u), or 1, times the area: with it, a mean over the rays is one over the pictures."""
        return self.weight * self.area if importance else self.area

    def some(self, rays: Int[Tensor, " k"]) -> Views:
        """The same pictures with some of their rays."""
        names = ("uv", "color", "inside", "distance", "weight", "area")
        return self._replace(**{name: getattr(self, name)[:, rays] for name in names})


class March(NamedTuple):
    """What a ray marcher found: visited points, the surface between the last two of them, and its colour."""

    depth: Float[Tensor, "b r s"]  # z^(0) .. z^(N), never decreasing
    sdf: Float[Tensor, "b r s"]  # f at the visited points
    surface_depth: Float[Tensor, "b r"]  # z*
    surface_feature: Float[Tensor, "b r c"]  # of the shared backbone at z*
    color: Float[Tensor, "b r 3"]  # g at z*
    hit: Bool[Tensor, "b r"]  # there is a surface between the last two points
