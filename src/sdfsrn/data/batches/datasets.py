"""What loader workers deliver: random numbers, and stored pictures or only their rows. The device makes batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import Dataset

from sdfsrn.data.batches.augmentation import AugmentationParams
from sdfsrn.data.batches.hulls import HullDepth
from sdfsrn.data.batches.pictures import Pictures, read_pictures
from sdfsrn.data.batches.sampling import SampleKey
from sdfsrn.data.batches.views import BatchSettings, make_views
from sdfsrn.data.source import Source
from sdfsrn.runtime.seeds import run_seed, sample_generator
from sdfsrn.structures import Views


class RawBatch(NamedTuple):
    """What `make_views` makes a batch of."""

    pictures: Pictures | Int[Tensor, " b"]  # the latter: rows of the pictures on the device
    params: AugmentationParams | None


class PictureDataset(Dataset[RawBatch]):
    """Pictures of a source; batches of them at a list of keys.

    At a `SampleKey`, what is random depends on the run's seed and the key's number only; at an index, on torch's state.

    Args:
        source: the split.
        settings: how batches are made; random ones have no ground truth.
        checked: the source has checked its pictures.
        hull_depth: of the pictures; None if not known.
    """

    def __init__(
        self,
        source: Source,
        settings: BatchSettings | None = None,
        checked: bool = False,
        hull_depth: HullDepth | None = None,
    ) -> None:
        self.source, self.settings, self.checked = source, settings or BatchSettings(), checked
        self.hull_depth = hull_depth
        self.seed = run_seed()

    def __len__(self) -> int:
        return len(self.source)

    def __getitems__(self, keys: Sequence[SampleKey | int]) -> RawBatch:
        """The pictures and the random numbers of a batch, for the loader."""
        return RawBatch(self._read(keys), draw_params(self.settings, keys, self.seed))

    def views(self, keys: Sequence[SampleKey | int]) -> Views:
        """The batch itself, on the CPU.

        Raises:
            ValueError: a picture that cannot be used, named; more rays than pixels.
        """
        return make_views(self._read(keys), draw_params(self.settings, keys, self.seed), self.settings)

    def _read(self, keys: Sequence[SampleKey | int]) -> Pictures:
        indices = [key.picture if isinstance(key, SampleKey) else key for key in keys]
        pictures = read_pictures(self.source, indices, points=not self.settings.random, checked=self.checked)
        if self.hull_depth is None:
            return pictures
        return pictures._replace(hull_depth=torch.from_numpy(self.hull_depth.depth[indices]))


class DrawDataset(Dataset[RawBatch]):
    """Rows and random numbers alone, for pictures that are on the device already."""

    def __init__(self, settings: BatchSettings) -> None:
        self.settings, self.seed = settings, run_seed()

    def __getitems__(self, keys: Sequence[SampleKey]) -> RawBatch:
        """Those that `PictureDataset` has for these keys."""
        return RawBatch(torch.tensor([key.picture for key in keys]), draw_params(self.settings, keys, self.seed))


def draw_params(settings: BatchSettings, keys: Sequence[SampleKey | int], seed: int) -> AugmentationParams | None:
    """The random numbers of samples, by the run's seed and their numbers in the run."""
    return settings.draw([sample_generator(seed, key.number) if isinstance(key, SampleKey) else None for key in keys])


def share(count: int, rank: int, world_size: int) -> list[int]:
    """One process's share of the first `count` pictures: every `world_size`-th, from the `rank`-th on.

    All shares are equally long, since processes that train together take each step together: a share that would be too short
    ends with -1, which `read_pictures` takes for a picture that is not counted.

    >>> share(3, 0, 2), share(3, 1, 2)
    ([0, 2], [1, -1])
    """
    indices = range(rank, -(-count // world_size) * world_size, world_size)
    return [index if index < count else -1 for index in indices]
