"""From stored pictures to a batch of `Views`: one path for training, validation, evaluation and inference, on any device."""

from __future__ import annotations

import dataclasses
import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils._pytree import tree_map

from sdfsrn.data.batches.augmentation import AugmentationParams, jitter_colors, zoom, zoom_nearest
from sdfsrn.data.batches.pictures import Pictures
from sdfsrn.functional.camera import Camera, pixel_centers
from sdfsrn.functional.pixels import draw_pixels, ray_density
from sdfsrn.functional.silhouette import distance_transform, importance_weight
from sdfsrn.structures import Views


@dataclasses.dataclass(frozen=True)
class BatchSettings:
    """How batches are made of pictures.

    Args:
        num_rays: random pixels per picture, see `draw_pixels`; None takes all, row by row, whatever `boundary_fraction`.
        boundary_fraction: share of them that is drawn in proportion to 1 / D(u), see `ray_density`.
        background: colour behind the object, in [-1, 1].
        jitter: change colours at random, see `jitter_colors`.
        scale_jitter: enlarge pictures by a random factor in [1 - s, 1 + s], see `zoom`. Appendix B.2, arXiv:2010.10505.
        mirror: show half of the pictures in a mirror, each with the camera that sees it; for objects that are their own mirror
            images in the world's plane x = 0.
        training: random changes are drawn with all pixels, too; without `num_rays` and this, pictures are made as they are.

    Raises:
        ValueError: a share or a scale that is out of range.
    """

    num_rays: int | None = None
    boundary_fraction: float = 0.0
    background: float = 1.0
    jitter: bool = False
    scale_jitter: float = 0.0
    mirror: bool = False
    training: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.boundary_fraction < 1:
            raise ValueError(f"Expected data.boundary_fraction of at least 0 and less than 1, got {self.boundary_fraction}.")
        if not 0 <= self.scale_jitter < 1:
            raise ValueError(f"Expected data.scale_jitter of at least 0 and less than 1, got {self.scale_jitter}.")

    @property
    def random(self) -> bool:
        """Whether batches are random ones, for training, without ground truth."""
        return self.training or self.num_rays is not None

    def draw(self, generators: list[torch.Generator | None]) -> AugmentationParams | None:
        """The random numbers of one sample per generator (None: torch's own state); None if nothing is random."""
        if not self.random:
            return None
        samples = [self._draw_sample(self.num_rays or 0, random) for random in generators]
        return AugmentationParams(*(torch.stack(numbers) for numbers in zip(*samples, strict=True)))

    def _draw_sample(self, num_rays: int, random: torch.Generator | None) -> tuple[Tensor, ...]:
        zoom = 1 + self.scale_jitter * (2 * torch.rand((), generator=random) - 1) if self.scale_jitter else torch.ones(())
        factors, order = torch.zeros(4), torch.arange(4)
        if self.jitter:
            factors = torch.empty(4).uniform_(-1, 1, generator=random)
            order = torch.randperm(4, generator=random)
        offsets = torch.randint(2**31 - 1, (num_rays,), generator=random, dtype=torch.int32)
        mirrored = torch.rand((), generator=random) < 0.5 if self.mirror else torch.zeros((), dtype=torch.bool)
        return offsets, zoom, factors, order, mirrored


def make_views(pictures: Pictures, params: AugmentationParams | None, settings: BatchSettings) -> Views:
    """The batch of some pictures, on their device, without waiting for it.

    Computed in float32, and returned in the precision that the trainer gave the random numbers, or, without any, the cameras.

    Args:
        pictures: as stored.
        params: of the settings' `draw`; None makes the pictures as they are with all their pixels.
        settings: how.

    Raises:
        ValueError: more rays than pixels.
    """
    dtype = pictures.camera.intrinsics.dtype if params is None else params.zoom.dtype
    layers, camera = pictures.rgba.movedim(-1, 1) / 255, pictures.camera.map(Tensor.float)
    hull_depth = pictures.hull_depth.float()
    if params is not None and settings.scale_jitter:
        layers, camera, hull_depth = _zoomed(layers, camera, hull_depth, params.zoom)
    if params is not None and settings.mirror:
        layers, camera, hull_depth = _mirrored(layers, camera, hull_depth, params.mirrored)
    color, alpha = layers[:, :3], layers[:, 3:]
    if params is not None and settings.jitter:
        color = jitter_colors(color, params.factors.float(), params.order)
    image = composite(color, alpha, settings.background)
    height, width = alpha.shape[2:]
    size = pixel_size(camera, height, width)
    inside, distance = (values.flatten(1) for values in outline_distance(alpha[:, 0], size))
    weight = importance_weight(distance, size.amin(1, keepdim=True) / 2)
    drawn = params is not None and settings.num_rays is not None
    density = ray_density(weight, settings.boundary_fraction if drawn else 0.0)
    pixels = _drawn(density, params)
    views = Views(
        image=image,
        camera=camera,
        uv=camera.image_plane(pixel_centers(height, width, device=alpha.device)[pixels]),
        color=image.flatten(2).gather(2, pixels[:, None].expand(-1, 3, -1)).mT.contiguous(),
        inside=inside.gather(1, pixels),
        distance=distance.gather(1, pixels),
        weight=weight.gather(1, pixels),
        inverse_density=1 / density.gather(1, pixels),
        hull_depth=_known(hull_depth, pixels),
        points=pictures.points,
        index=pictures.index,
        mirrored=params.mirrored
        if params is not None and settings.mirror
        else torch.zeros_like(pictures.index, dtype=torch.bool),
    )
    return tree_map(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor, views)


def composite(color: Float[Tensor, "b 3 h w"], alpha: Float[Tensor, "b 1 h w"], background: float) -> Float[Tensor, "b 3 h w"]:
    """Network inputs in [-1, 1]: colours in [0, 1] over a plain background, by alpha."""
    return alpha * (color * 2 - 1) + (1 - alpha) * background


def outline_distance(
    alpha: Float[Tensor, "b h w"], size: Float[Tensor, "b 2"]
) -> tuple[Bool[Tensor, "b h w"], Float[Tensor, "b h w"]]:
    """Which pixels are inside, and D(u) to the silhouette's outline from either side, in units of the image plane.

    A pixel is inside if half of it is covered. Outside, D reaches to the nearest pixel with alpha above 0, since the true
    outline runs somewhere within those; D = 0 for such a pixel itself. Inside, where D is only a weight, it reaches to the
    nearest pixel that is not inside. `size` is the height and width of a pixel.
    """
    inside = alpha >= 0.5
    both = distance_transform(torch.stack([alpha > 0, ~inside], 1), size[:, None])
    return inside, both.sum(1)  # one of the two is 0


def pixel_size(camera: Camera, height: int, width: int) -> Float[Tensor, "*b 2"]:
    """Height and width of a pixel in units of the image plane."""
    focal = camera.intrinsics.diagonal(dim1=-2, dim2=-1)[..., :2].flip(-1)
    return torch.stack([2 / (height * focal[..., 0]), 2 / (width * focal[..., 1])], -1)


def _drawn(density: Tensor, params: AugmentationParams | None) -> Tensor:
    """Pixels (b, r), counted row by row: drawn by the random numbers, or all."""
    count = density.shape[1]
    if params is None or params.offsets.shape[1] == 0:
        return torch.arange(count, device=density.device).expand_as(density)
    if params.offsets.shape[1] > count:
        raise ValueError(f"Expected data.num_rays of at most {count}, the pixels of an image, got {params.offsets.shape[1]}.")
    return draw_pixels(density, params.uniform())


def _known(hull_depth: Tensor, pixels: Tensor) -> Tensor:
    """Depths at the pixels (b, r); inf where no picture has any."""
    if hull_depth.shape[1] == 0:
        return torch.full_like(pixels, math.inf, dtype=hull_depth.dtype)
    return hull_depth.flatten(1).gather(1, pixels)


def _mirrored(layers: Tensor, camera: Camera, hull_depth: Tensor, chosen: Tensor) -> tuple[Tensor, Camera, Tensor]:
    """Layers, cameras and depths of the chosen pictures seen in a mirror."""
    matrices = (torch.where(chosen[:, None, None], *pair) for pair in zip(camera.mirrored(), camera, strict=True))
    layers = torch.where(chosen[:, None, None, None], layers.flip(-1), layers)
    return layers, type(camera)(*matrices), torch.where(chosen[:, None, None], hull_depth.flip(-1), hull_depth)


def _zoomed(layers: Tensor, camera: Camera, hull_depth: Tensor, factor: Tensor) -> tuple[Tensor, Camera, Tensor]:
    """Layers, cameras and depths enlarged; as they are where no silhouette with background around it would be left."""
    larger = zoom(layers, factor)
    inside = larger[:, 3].flatten(1) >= 0.5
    usable = inside.any(1) & ~inside.all(1)
    factor = torch.where(usable, factor, 1.0)
    hull_depth = camera.zoomed_depth(zoom_nearest(hull_depth, factor, torch.inf), factor)
    return torch.where(usable[:, None, None, None], larger, layers), camera.zoomed(factor), hull_depth
