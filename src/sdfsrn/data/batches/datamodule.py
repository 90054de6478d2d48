"""The data modules: one a data set; loaders over its splits are all the same."""

from __future__ import annotations

import abc
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from sdfsrn.data.batches.preload import PreloadedSource
from sdfsrn.data.batches.resident import Recipe, Recipes, ResidentPictures
from sdfsrn.data.batches.sampling import Position, StepSampler
from sdfsrn.data.batches.views import ViewsDataset, collate_views
from sdfsrn.data.preprocessing import Preprocessing
from sdfsrn.data.source import Source
from sdfsrn.runtime.seeds import run_seed
from sdfsrn.runtime.signals import ignore_signals
from sdfsrn.structures import Views


class ViewsDataModule(pl.LightningDataModule, abc.ABC):
    """Batches of `Views` from the splits of a data set.

    Several processes share the pictures: no one is trained on twice in an epoch, or validated twice. Training batches are a
    function of the seed and the trainer's step, see `StepSampler`.

    Args:
        batch_size: pictures a training batch of each process; an incomplete last one is dropped.
        num_rays: random rays a training picture.
        boundary_fraction: share of them that is drawn near the outline, see `ray_density`.
        num_workers: loader processes; 0 loads in the main one.
        jitter: colour jitter in training.
        background: colour behind objects, in [-1, 1].
        preload: decode and check every picture at the start and keep it in memory (16 kB for 64 x 64).
        val_objects: validate on the first so many objects; None takes all.
        scale_jitter: enlarge training pictures by a random factor in [1 - s, 1 + s].
        on_device: keep preloaded training pictures on the trainer's device, and make its batches there.
        memmap_dir: folder for the preloaded pictures: in a file there they take no memory, and are decoded once for all runs.
    """

    crop: float | None = None  # see `Preprocessing`

    def __init__(
        self,
        batch_size: int = 16,
        num_rays: int = 1024,
        num_workers: int = 0,
        jitter: bool = False,
        background: float = 1.0,
        preload: bool = True,
        val_objects: int | None = None,
        scale_jitter: float = 0.0,
        memmap_dir: str | None = None,
        on_device: bool = True,
        boundary_fraction: float = 0.0,
    ) -> None:
        super().__init__()
        if batch_size < 1 or num_rays < 1:
            raise ValueError(f"Expected positive data.batch_size and data.num_rays, got {batch_size} and {num_rays}.")
        self.batch_size = batch_size
        self.num_rays = num_rays
        self.boundary_fraction = boundary_fraction
        self.num_workers = num_workers
        self.jitter = jitter
        self.scale_jitter = scale_jitter
        self.background = background
        self.preload = preload
        self.memmap_dir = None if memmap_dir is None else pathlib.Path(memmap_dir)
        self.val_objects = val_objects
        if memmap_dir is not None and not preload:
            raise ValueError("Expected data.preload=true with data.memmap_dir, since that is where pictures are preloaded to.")
        self.on_device = on_device and preload
        self._datasets: dict[str, ViewsDataset] = {}
        self._pictures: ResidentPictures | None = None

    def prepare(self, num_workers: int | None = None) -> dict[str, str]:
        """Make, once, what the data set's files lack, in that many processes (None: one a core); what failed, by name."""
        return {}

    @property
    def preprocessing(self) -> Preprocessing:
        """How a picture becomes the input of a network that is trained on these."""
        height, _ = self.dataset("train").source.picture(0).alpha.shape
        return Preprocessing(height, self.background, self.crop)

    @abc.abstractmethod
    def source(self, split: str) -> Source:
        """The pictures of train, val or test."""

    def dataset(self, split: str) -> ViewsDataset:
        """Samples of a split, opened once: random rays in training; all pixels and ground truth otherwise."""
        if split not in self._datasets:
            source = self.source(split)
            if self.preload:
                source = PreloadedSource(source, split, self.memmap_dir)
            train = split == "train"
            self._datasets[split] = ViewsDataset(
                source,
                self.num_rays if train else None,
                self.background,
                jitter=self.jitter and train,
                scale_jitter=self.scale_jitter if train else 0.0,
                checked=self.preload,
                boundary_fraction=self.boundary_fraction,
            )
        return self._datasets[split]

    def setup(self, stage: str) -> None:
        """Open the splits of a stage, so that bad data stops the program before anything is trained."""
        for split in {"fit": ("train", "val"), "validate": ("val",)}.get(stage, ("test",)):
            self.dataset(split)

    def train_dataloader(self) -> DataLoader[Views]:
        """Shuffled training batches, from the trainer's step on."""
        dataset, trainer = self.dataset("train"), self.trainer
        together = self.batch_size * (trainer.world_size if trainer else 1)
        if len(dataset) < together:
            raise ValueError(f"Expected at least data.batch_size x processes = {together} pictures, got {len(dataset)}.")
        position, steps = None, None
        if trainer:
            position = functools.partial(_position, trainer)
            steps = _overfitted(trainer.overfit_batches, len(dataset) // together)  # type: ignore[attr-defined]
        sampler = StepSampler(len(dataset), self.batch_size, run_seed(), position, steps)
        if not (self.on_device and trainer):
            return self._loader(dataset, collate_views, batch_sampler=sampler)
        pictures = self._pictures = ResidentPictures(dataset, trainer.strategy.root_device)
        recipes = Recipes(dataset, pictures.height * pictures.width)
        return self._loader(recipes, Recipe.collate, batch_sampler=sampler)

    def on_after_batch_transfer(self, batch: Views | Recipe, dataloader_idx: int) -> Views:
        """Make the batches of resident pictures; others come as they are."""
        if isinstance(batch, Views):
            return batch
        assert self._pictures is not None  # who asks for a recipe has them
        return self._pictures.views(batch)

    def val_dataloader(self) -> DataLoader[Views]:
        """The first `val_objects` of the validation split, one by one; this process's share of them."""
        dataset = self.dataset("val")
        return self._share(dataset, min(len(dataset), self.val_objects or len(dataset)))

    def test_dataloader(self) -> DataLoader[Views]:
        """The test split, one by one; this process's share of it."""
        dataset = self.dataset("test")
        return self._share(dataset, len(dataset))

    def _share(self, dataset: ViewsDataset, count: int) -> DataLoader[Views]:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return self._loader(Share(dataset, count, rank, world_size), collate_views, batch_size=1)

    def _loader(self, dataset: Dataset[Any], collate: Callable[[list[Any]], Any], **options: Any) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=collate,
            worker_init_fn=ignore_signals,
            **options,
        )


class Share(Dataset[Views]):
    """One process's share of the first `count` samples: every `world_size`-th, from the `rank`-th on.

    All shares are equally long, since processes that train together take each step together: one that would be too short
    ends with the first sample under the index -1, which nobody counts.
    """

    def __init__(self, dataset: ViewsDataset, count: int, rank: int, world_size: int) -> None:
        self.dataset, self.count, self.rank, self.world_size = dataset, count, rank, world_size

    def __len__(self) -> int:
        return -(-self.count // self.world_size)

    def __getitem__(self, number: int) -> Views:
        index = self.rank + number * self.world_size
        return self.dataset[index] if index < self.count else self.dataset[0]._replace(index=torch.tensor(-1))


def _position(trainer: pl.Trainer) -> Position:
    return Position(trainer.global_step * trainer.accumulate_grad_batches, trainer.global_rank, trainer.world_size)


def _overfitted(batches: int | float, total: int) -> int | None:
    """How many batches the trainer is to overfit, of how many; None for none."""
    if not batches:
        return None
    return batches if isinstance(batches, int) else max(1, int(batches * total))
