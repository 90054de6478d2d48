"""From a picture on disk to one sample of a batch: composite, distance transform, sampled rays. The same for every data set."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from sdfsrn.data.batches.jitter import jitter, random_changes
from sdfsrn.data.batches.resizing import rescaled, widest
from sdfsrn.data.batches.sampling import SampleKey
from sdfsrn.data.source import ImageSample, Source, check_picture
from sdfsrn.functional.camera import pixel_centers
from sdfsrn.functional.pixels import draw_pixels, ray_density
from sdfsrn.functional.silhouette import distance_transform, importance_weight
from sdfsrn.runtime.seeds import run_seed, sample_generator
from sdfsrn.structures import Views


class Augmentation(NamedTuple):
    """What is random in a sample; stacked, in a batch."""

    place: Tensor  # (r,) int32, of `draw_pixels`, in 2^-31: whole numbers, which no trainer's precision rounds
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
        boundary_fraction: share of them that is drawn in proportion to 1 / D(u), see `ray_density`.
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
        boundary_fraction: float = 0.0,
    ) -> None:
        if not 0 <= boundary_fraction < 1:
            raise ValueError(f"Expected data.boundary_fraction of at least 0 and less than 1, got {boundary_fraction}.")
        if not 0 <= scale_jitter < 1:
            raise ValueError(f"Expected data.scale_jitter of at least 0 and less than 1, got {scale_jitter}.")
        self.source = source
        self.num_rays = num_rays
        self.background = background
        self.jitter = jitter
        self.scale_jitter = scale_jitter
        self.checked = checked
        self.boundary_fraction = boundary_fraction if num_rays else 0.0
        self.seed = run_seed()

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: int | SampleKey) -> Views:
        index, random = (key.picture, sample_generator(self.seed, key.number)) if isinstance(key, SampleKey) else (key, None)
        picture = self.source.picture(index)
        if not self.checked:
            check_picture(picture, self.source.names[index])
        points = torch.from_numpy(self.source.points(index))
        return self.sample(picture, points, index, random)

    def sample(self, picture: ImageSample, points: Tensor, index: int, random: torch.Generator | None = None) -> Views:
        """The batch entry of a picture."""
        height, width = picture.alpha.shape
        chance = self.augmentation(height * width, random)
        if self.scale_jitter:
            picture = rescaled(picture, float(chance.zoom))
        colored = functools.partial(jitter, factors=chance.factors.tolist(), order=chance.order.tolist())
        image = composite(picture, self.background, colored if self.jitter else None)
        smallest = min(pixel_size(picture)) / 2
        density = torch.ones(height * width)
        if self.boundary_fraction:
            everywhere = torch.from_numpy(outline_distance(picture)[1]).flatten()
            density = ray_density(importance_weight(everywhere, smallest), self.boundary_fraction)
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
            inverse_density=1 / density[keep],
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


def composite(picture: ImageSample, background: float = 1.0, jitter: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """(3, h, w) in [-1, 1]: the object's colours (in [0, 1] when jittered) over a plain background that is not jittered."""
    color = torch.from_numpy(picture.image.transpose(2, 0, 1).astype(np.float32)) / 255
    if jitter is not None:
        color = jitter(color)
    alpha = torch.from_numpy(picture.alpha)
    return alpha * (color * 2 - 1) + (1 - alpha) * background


def outline_distance(picture: ImageSample, pixels: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Which pixels are inside, and D(u) to the silhouette's outline from either side, in units of the image plane.

    A pixel is inside if half of it is covered. Outside, D reaches to the nearest pixel that is covered at all, so that the
    bound made of it holds for the true silhouette, whose outline runs somewhere within those pixels; D = 0 for such a pixel
    itself. Inside, where D is only a weight, it reaches to the nearest pixel that is not inside. Both are of (n,) `pixels`,
    counted row by row, or of all, (h, w).
    """
    covered, inside = picture.alpha > 0, picture.alpha >= 0.5
    size = pixel_size(picture)
    at = np.arange(inside.size) if pixels is None else pixels
    within = inside.reshape(-1)[at]
    distance = np.empty(len(at), np.float32)
    distance[within] = distance_transform(~inside, size, at[within])
    distance[~within] = distance_transform(covered, size, at[~within])
    return (inside, distance.reshape(inside.shape)) if pixels is None else (within, distance)


def pixel_size(picture: ImageSample) -> tuple[float, float]:
    """Height and width of a pixel in units of the image plane."""
    height, width = picture.alpha.shape
    intrinsics = picture.camera.intrinsics
    return 2 / (height * float(intrinsics[1, 1])), 2 / (width * float(intrinsics[0, 0]))


def collate_views(samples: list[Views]) -> Views:
    """A batch; ground-truth clouds of different sizes are padded with NaN."""
    count = max(len(sample.points) for sample in samples)
    padded = [
        sample._replace(points=F.pad(sample.points, (0, 0, 0, count - len(sample.points)), value=float("nan")))
        for sample in samples
    ]
    return default_collate(padded)


@functools.lru_cache(maxsize=8)
def _centers(height: int, width: int) -> Tensor:
    return pixel_centers(height, width)
