"""The values that travel through the package: named tuples of tensors, collated and moved between devices as they are.

Axis letters, fixed here once for every annotation in the package:

    b objects (images) in a batch     r rays of an image      m random depths on a ray     n points
    s visited depths on a ray         l latent code           c feature channels           h w image rows, columns
    k chosen ones of them             v f e vertices, faces, edges of a mesh             p q texture rows, columns

Frames and units, fixed here once as well:

    world         the object's own frame, in which shapes are learned and meshes are written
    camera        x right, y down, z forward; `world_to_camera` = [R | t] maps a world point x to R x + t (as OpenCV)
    image plane   u = (x, y) / z of a camera point (perspective) or (x, y) itself (orthographic)
    screen        [-1, 1]^2, (-1, -1) being the outer corner of the first pixel; `intrinsics` maps (u, 1) to it
    depth         z of the camera frame, so that the point of ray u at depth z is z (u, 1), not the length of the ray
    colour        RGB in [-1, 1]
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from sdfsrn.functional.camera import Camera


class Views(NamedTuple):
    """One batch: pictures of objects, and what is known at r sampled pixels of each."""

    image: Float[Tensor, "b 3 h w"]  # colour over the background
    camera: Camera
    uv: Float[Tensor, "b r 2"]  # pixel centres, image plane
    color: Float[Tensor, "b r 3"]
    inside: Bool[Tensor, "b r"]  # the pixel belongs to the silhouette
    distance: Float[Tensor, "b r"]  # D(u) to the silhouette's outline, from both sides, in units of the image plane
    weight: Float[Tensor, "b r"]  # w(u) = 1 / D(u), finite
    inverse_density: Float[Tensor, "b r"]  # image area per ray, relative to uniform sampling, where it is 1
    hull_depth: Float[Tensor, "b r"]  # z where the ray enters the visual hull; inf where it does not, or it is not known
    points: Float[Tensor, "b n 3"]  # ground truth for evaluation, world frame; n = 0 in training, padded with NaN
    index: Int[Tensor, " b"]  # type: ignore[assignment]  # in the split; -1: not to be counted; hides `tuple.index`
    mirrored: Bool[Tensor, " b"]  # the picture is shown in a mirror

    def ray_weight(self, importance: bool) -> Float[Tensor, "b r"]:
        """w(u), or 1, times the inverse density: a mean over rays with this weight is one over the whole pictures."""
        return self.weight * self.inverse_density if importance else self.inverse_density

    def select_rays(self, rays: Int[Tensor, " k"]) -> Views:
        """The same pictures with some of their rays."""
        names = ("uv", "color", "inside", "distance", "weight", "inverse_density", "hull_depth")
        return self._replace(**{name: getattr(self, name)[:, rays] for name in names})


@runtime_checkable
class Rendering(Protocol):
    """A shape seen along the rays of a batch; what every renderer returns."""

    @property
    def color(self) -> Float[Tensor, "b r 3"]:
        """RGB in [-1, 1]; NaN where the model has no colours."""
        ...

    @property
    def depth(self) -> Float[Tensor, "b r"]:
        """Depth of the surface; any number where there is none."""
        ...

    @property
    def opacity(self) -> Float[Tensor, "b r"]:
        """How much of the ray's pixel the shape covers, in [0, 1]; at least half is inside the silhouette."""
        ...


class March(NamedTuple):
    """The rendering of a ray marcher: visited points, the surface between the last two of them, and its colour."""

    visited_depth: Float[Tensor, "b r s"]  # z^(0) .. z^(N), never decreasing
    visited_sdf: Float[Tensor, "b r s"]  # f at the visited points
    depth: Float[Tensor, "b r"]  # z*
    feature: Float[Tensor, "b r c"]  # of the shared backbone at z*
    color: Float[Tensor, "b r 3"]  # g at z*
    hit: Bool[Tensor, "b r"]  # there is a surface between the last two points

    @property
    def opacity(self) -> Float[Tensor, "b r"]:
        """1 where the last visited point is inside the shape, else 0."""
        return (self.visited_sdf[..., -1] < 0).to(self.visited_sdf)

    @property
    def crossed(self) -> Bool[Tensor, "b r"]:
        """There is a surface between any two visited points."""
        return (self.visited_sdf > 0).any(-1) & (self.visited_sdf < 0).any(-1)


class OccupancyMarch(NamedTuple):
    """The rendering of `OccupancyMarcher`: the first surface that a ray meets on its way through a cube."""

    depth: Float[Tensor, "b r"]  # 0 where a first point inside the shape counts as a surface; infinite where there is none
    color: Float[Tensor, "b r 3"]  # at that depth
    surface: Bool[Tensor, "b r"]  # where space turns from free to occupied: only here has `depth` a gradient
    predicted: Bool[Tensor, "b r"]  # `depth` is finite
    opacity: Float[Tensor, "b r"]  # 1 where the ray meets a surface, or starts inside the shape, else 0
