"""From a picture on disk to one sample of a batch: composite, distance transform, sampled rays. The same for every data set."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from sdfsrn.data.jitter import jitter, random_changes
from sdfsrn.data.sampling import Draw, run_seed, sample_generator
from sdfsrn.functional.camera import Camera, pixel_centers
from sdfsrn.functional.pixels import draw_pixels, ray_density
from sdfsrn.functional.silhouette import distance_transform, importance_weight
from sdfsrn.structures import Views

SPLITS = ("train", "val", "test")


class Picture(NamedTuple):
    """One picture of one object, as a data set stores it."""

    image: np.ndarray  # (h, w, 3) uint8, colours not multiplied by coverage
    coverage: np.ndarray  # (h, w) float32 in [0, 1], the object's share of each pixel
    camera: Camera  # without batch dimension: (3, 4), (3, 3)


@runtime_checkable
class Source(Protocol):
    """A split of a data set: pictures, and ground truth where there is any."""

    names: list[str]  # one a picture

    def __len__(self) -> int: ...

    def picture(self, index: int) -> Picture:
        """Raises ValueError, naming the file, for what cannot be used."""
        ...

    def points(self, index: int) -> np.ndarray:
        """(n, 3) float32 surface points in the world frame; n = 0 where there is no truth, as in training splits."""
        ...


class KnownShape:
    """What a source may know of an object's shape beside points, for evaluation: inherit, and override what is known."""

    def normals(self, index: int) -> np.ndarray:
        """(n, 3) float32 unit normals of `points(index)`, in their order; n = 0 if unknown."""
        return np.zeros((0, 3), np.float32)

    def occupancy(self, index: int, points: np.ndarray) -> np.ndarray | None:
        """(n,) Booleans: which of the points (n, 3), world frame, lie inside the object; None if unknown."""
        return None

    def other_views(self, index: int) -> list[Picture]:
        """The same object from other sides, in the same world frame."""
        return []


def known_shape(source: Source) -> KnownShape:
    """The source itself, or, of one that does not inherit `KnownShape`, nothing known."""
    return source if isinstance(source, KnownShape) else KnownShape()


class Augmentation(NamedTuple):
    """What is random in a sample; stacked, in a batch."""

    place: Tensor  # (r,) int32, of `draw_pixels`, in 2^-31
    zoom: Tensor  # () factor, 1 without scale jitter
    factors: Tensor  # (4,) of `jitter`
    order: Tensor  # (4,) of `jitter`

    def uniform(self) -> Tensor:
        """`place` in [0, 1)."""
        return self.place.to(widest(self.place.device)) / 2**31


class ViewsDataset(Dataset[Views]):
    """Samples of a source, ready to collate with `collate_views`.

    At a `Draw`, what is random depends on the run's seed and the draw's number only; at a plain index, on torch's state.

    Args:
        source: the split.
        num_rays: random pixels a sample, see `draw_pixels`; None takes all, row by row.
        outline_rays: share of them that is drawn in proportion to 1 / D(u), see `ray_density`.
        background: colour behind the object, in [-1, 1].
        jitter: random brightness, contrast and saturation (20 %) and hue (all). Appendix B.1, arXiv:2010.10505.
        scale_jitter: pictures are enlarged by a random factor in [1 - s, 1 + s], see `zoom`. Appendix B.2.
        checked: the source vouches for its pictures.
    """

    def __init__(
        self,
        source: Source,
        num_rays: int | None = None,
        background: float = 1.0,
        jitter: bool = False,
        scale_jitter: float = 0.0,
        checked: bool = False,
        outline_rays: float = 0.0,
    ) -> None:
        if not 0 <= outline_rays < 1:
            raise ValueError(f"Expected data.outline_rays of at least 0 and less than 1, got {outline_rays}.")
        if not 0 <= scale_jitter < 1:
            raise ValueError(f"Expected data.scale_jitter of at least 0 and less than 1, got {scale_jitter}.")
        self.source = source
        self.num_rays = num_rays
        self.background = background
        self.jitter = jitter
        self.scale_jitter = scale_jitter
        self.checked = checked
        self.outline_rays = outline_rays if num_rays else 0.0
        self.seed = run_seed()

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: int | Draw) -> Views:
        index, random = (key.picture, sample_generator(self.seed, key.number)) if isinstance(key, Draw) else (key, None)
        picture = self.source.picture(index)
        if not self.checked:
            check_picture(picture, self.source.names[index])
        points = torch.from_numpy(self.source.points(index))
        return self.sample(picture, points, index, random)

    def sample(self, picture: Picture, points: Tensor, index: int, random: torch.Generator | None = None) -> Views:
        """The batch entry of a picture."""
        height, width = picture.coverage.shape
        chance = self.augmentation(height * width, random)
        if self.scale_jitter:
            picture = _rescaled(picture, float(chance.zoom))
        colored = functools.partial(jitter, factors=chance.factors.tolist(), order=chance.order.tolist())
        image = composite(picture, self.background, colored if self.jitter else None)
        smallest = min(pixel_size(picture)) / 2
        density = torch.ones(height * width)
        if self.outline_rays:
            everywhere = torch.from_numpy(outline_distance(picture)[1]).flatten()
            density = ray_density(importance_weight(everywhere, smallest), self.outline_rays)
        keep = draw_pixels(density, chance.uniform())
        inside, distance = (torch.from_numpy(array) for array in outline_distance(picture, keep.numpy()))
        return Views(
            image=image,
            camera=picture.camera,
            uv=picture.camera.image_plane(_centers(height, width)[keep]),
            color=image.flatten(1)[:, keep].T.contiguous(),
            inside=inside,
            distance=distance,
            weight=importance_weight(distance, smallest),
            area=1 / density[keep],
            points=points,
            index=torch.tensor(index),
        )

    def augmentation(self, count: int, random: torch.Generator | None = None) -> Augmentation:
        """Random numbers for a picture of `count` pixels.

        Raises:
            ValueError: more rays than pixels.
        """
        zoom = 1 + self.scale_jitter * (2 * torch.rand((), generator=random) - 1) if self.scale_jitter else torch.ones(())
        factors, order = random_changes(random) if self.jitter else (torch.zeros(4), torch.arange(4))
        if self.num_rays is None:
            place = torch.full((count,), 2**30, dtype=torch.int32)
        elif self.num_rays <= count:
            place = torch.randint(2**31 - 1, (self.num_rays,), generator=random, dtype=torch.int32)
        else:
            raise ValueError(f"Expected data.num_rays of at most {count}, the pixels of an image, got {self.num_rays}.")
        return Augmentation(place, zoom, factors, order)


def composite(picture: Picture, background: float = 1.0, jitter: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """(3, h, w) in [-1, 1]: the object's colours (in [0, 1] when jittered) over a plain background that is not jittered."""
    color = torch.from_numpy(picture.image.transpose(2, 0, 1).astype(np.float32)) / 255
    if jitter is not None:
        color = jitter(color)
    coverage = torch.from_numpy(picture.coverage)
    return coverage * (color * 2 - 1) + (1 - coverage) * background


def outline_distance(picture: Picture, pixels: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Which pixels are inside, and D(u) to the silhouette's outline from either side, in units of the image plane.

    A pixel is inside if half of it is covered. Outside, D reaches to the nearest pixel that is covered at all, so that the
    bound made of it holds for the true silhouette, whose outline runs somewhere within those pixels; D = 0 for such a pixel
    itself. Inside, where D is only a weight, it reaches to the nearest pixel that is not inside. Both are of (n,) `pixels`,
    counted row by row, or of all, (h, w).
    """
    covered, inside = picture.coverage > 0, picture.coverage >= 0.5
    size = pixel_size(picture)
    at = np.arange(inside.size) if pixels is None else pixels
    within = inside.reshape(-1)[at]
    distance = np.empty(len(at), np.float32)
    distance[within] = distance_transform(~inside, size, at[within])
    distance[~within] = distance_transform(covered, size, at[~within])
    return (inside, distance.reshape(inside.shape)) if pixels is None else (within, distance)


def pixel_size(picture: Picture) -> tuple[float, float]:
    """Height and width of a pixel in units of the image plane."""
    height, width = picture.coverage.shape
    intrinsics = picture.camera.intrinsics
    return 2 / (height * float(intrinsics[1, 1])), 2 / (width * float(intrinsics[0, 0]))


def check_picture(picture: Picture, name: str) -> None:
    """Raise ValueError, naming the picture, if no silhouette or no camera can be read from it."""
    if picture.image.shape != (*picture.coverage.shape, 3):
        raise ValueError(
            f"Expected an RGB image and a mask of one size, got {picture.image.shape} and {picture.coverage.shape} in {name}."
        )
    inside = picture.coverage >= 0.5
    if inside.all() or not inside.any():
        what = "covers the whole image" if inside.all() else "is empty"
        raise ValueError(f"Expected a silhouette with background around it, but it {what} in {name}.")
    for field, value in picture.camera._asdict().items():
        if not value.isfinite().all():
            raise ValueError(f"Expected finite cameras, got NaN or infinity in {field} of {name}.")
    rotation = picture.camera.world_to_camera[:, :3].double()
    if not torch.allclose(rotation @ rotation.T, torch.eye(3, dtype=torch.double), atol=1e-3) or torch.det(rotation) < 0:
        raise ValueError(f"Expected a rotation in world_to_camera (orthonormal, no mirroring), got another matrix in {name}.")
    intrinsics = picture.camera.intrinsics
    if intrinsics[0, 0] <= 0 or intrinsics[1, 1] <= 0:
        raise ValueError(f"Expected positive focal lengths in the intrinsics of {name}.")
    if intrinsics[0, 1] != 0 or intrinsics[1, 0] != 0 or intrinsics[2].tolist() != [0, 0, 1]:
        raise ValueError(f"Expected intrinsics [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] without skew in {name}.")


def resize(image: np.ndarray, coverage: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Antialiased copies of size x size; colours are weighted by coverage, so that none bleeds in from the background."""
    premultiplied = np.concatenate([image * coverage[..., None], coverage[..., None]], -1).astype(np.float32)
    tensor = torch.from_numpy(premultiplied).permute(2, 0, 1)[None]
    resized = F.interpolate(tensor, (size, size), mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()
    color = resized[..., :3] / np.maximum(resized[..., 3:], 1e-6)
    return color.round().clip(0, 255).astype(np.uint8), resized[..., 3].clip(0, 1)


def zoom(picture: Picture, factor: float) -> Picture:
    """A picture of the same size, enlarged about its middle with its camera; antialiased, so that nothing thin is lost.

    Each new pixel takes from all old ones it overlaps, so that what is free of the object stays known to be. A border that is
    revealed is free and white. What grows beyond the border is cut off, and D no longer knows of it.
    """
    height, width = picture.coverage.shape
    layers = np.empty((4, height, width), np.float32)  # colours times coverage, coverage
    np.multiply(picture.image.transpose(2, 0, 1), picture.coverage, out=layers[:3])
    layers[3] = picture.coverage
    rows, columns = (resampling(size, torch.tensor(factor, dtype=torch.double)) for size in (height, width))
    zoomed = rows @ torch.from_numpy(layers) @ columns.T
    color, coverage = zoomed[:3], zoomed[3]
    color = torch.where(coverage > 0, color / coverage.clamp(min=1e-30), 255).round_().clamp_(0, 255).byte()
    return Picture(color.permute(1, 2, 0).contiguous().numpy(), coverage.clamp(max=1).numpy(), picture.camera.zoomed(factor))


def collate_views(samples: list[Views]) -> Views:
    """A batch; ground-truth clouds of different sizes are padded with NaN."""
    count = max(len(sample.points) for sample in samples)
    padded = [
        sample._replace(points=F.pad(sample.points, (0, 0, 0, count - len(sample.points)), value=float("nan")))
        for sample in samples
    ]
    return default_collate(padded)


def _rescaled(picture: Picture, factor: float) -> Picture:
    """Enlarged; as it is where no silhouette with background around it would be left."""
    zoomed = zoom(picture, factor)
    inside = zoomed.coverage >= 0.5
    return picture if inside.all() or not inside.any() else zoomed


def resampling(size: int, factor: Float[Tensor, "*b"]) -> Float[Tensor, "*b new old"]:
    """Weights of pixels along an axis: triangles about as wide as two pixels, old or new, whichever are larger."""
    factor = factor.to(widest(factor.device))[..., None, None]
    place = torch.arange(size, device=factor.device, dtype=factor.dtype)
    position = (place[:, None] + 0.5 - size / 2) / factor + size / 2 - 0.5
    reach = (1 / factor).clamp(min=1)
    weight = (1 - (position - place).abs() / reach).clamp(min=0)
    around = torch.arange(-size, size + 2, device=factor.device)  # what lies beyond the border is free, and counts
    total = (1 - (position - position.floor() - around).abs() / reach).clamp(min=0).sum(-1, keepdim=True)
    return (weight / total).float()


def widest(device: torch.device) -> torch.dtype:
    """The most precise floating point that a device has."""
    return torch.float if device.type == "mps" else torch.double


@functools.lru_cache(maxsize=8)
def _centers(height: int, width: int) -> Tensor:
    return pixel_centers(height, width)
