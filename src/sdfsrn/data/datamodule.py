"""The data modules: one a data set; loaders over its splits are all the same."""

from __future__ import annotations

import abc
import pathlib

import pytorch_lightning as pl
from torch.utils.data import DataLoader, Subset

from sdfsrn.data.preload import PreloadedSource
from sdfsrn.data.views import Source, ViewsDataset, collate_views
from sdfsrn.structures import Views


class ViewsDataModule(pl.LightningDataModule, abc.ABC):
    """Batches of `Views` from the splits of a data set.

    Args:
        batch_size: pictures a training batch; an incomplete last one is dropped.
        num_rays: random rays a training picture.
        num_workers: loader processes; 0 loads in the main one.
        jitter: colour jitter in training.
        background: colour behind objects, in [-1, 1].
        preload: decode and check every picture at the start and keep it in memory (16 kB for 64 x 64).
        val_objects: validate on the first so many objects; None takes all.
        scale_jitter: enlarge training pictures by a random factor in [1 - s, 1 + s].
        packed: folder for the preloaded pictures: in a file there they take no memory, and are decoded once for all runs.
    """

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
        packed: str | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1 or num_rays < 1:
            raise ValueError(f"Expected positive data.batch_size and data.num_rays, got {batch_size} and {num_rays}.")
        self.batch_size = batch_size
        self.num_rays = num_rays
        self.num_workers = num_workers
        self.jitter = jitter
        self.scale_jitter = scale_jitter
        self.background = background
        self.preload = preload
        self.packed = None if packed is None else pathlib.Path(packed)
        self.val_objects = val_objects
        if packed is not None and not preload:
            raise ValueError("Expected data.preload=true with data.packed, since that is where pictures are preloaded to.")
        self._datasets: dict[str, ViewsDataset] = {}

    def prepare(self, num_workers: int | None = None) -> dict[str, str]:
        """Make, once, what the data set's files lack, in that many processes (None: one a core); what failed, by name."""
        return {}

    @abc.abstractmethod
    def source(self, split: str) -> Source:
        """The pictures of train, val or test."""

    def dataset(self, split: str) -> ViewsDataset:
        """Samples of a split, opened once: random rays in training; all pixels and ground truth otherwise."""
        if split not in self._datasets:
            source = self.source(split)
            if self.preload:
                source = PreloadedSource(source, split, self.packed)
            train = split == "train"
            self._datasets[split] = ViewsDataset(
                source,
                self.num_rays if train else None,
                self.background,
                jitter=self.jitter and train,
                scale_jitter=self.scale_jitter if train else 0.0,
                checked=self.preload,
            )
        return self._datasets[split]

    def setup(self, stage: str) -> None:
        """Open the splits of a stage, so that bad data stops the program before anything is trained."""
        for split in {"fit": ("train", "val"), "validate": ("val",)}.get(stage, ("test",)):
            self.dataset(split)

    def train_dataloader(self) -> DataLoader[Views]:
        """Shuffled training batches."""
        dataset = self.dataset("train")
        if len(dataset) < self.batch_size:
            raise ValueError(f"Expected at least data.batch_size = {self.batch_size} pictures to train on, got {len(dataset)}.")
        return self._loader(dataset, self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self) -> DataLoader[Views]:
        """The first `val_objects` of the validation split, one by one."""
        dataset = self.dataset("val")
        count = min(len(dataset), self.val_objects or len(dataset))
        return self._loader(Subset(dataset, range(count)), batch_size=1)

    def test_dataloader(self) -> DataLoader[Views]:
        """The test split, one by one."""
        return self._loader(self.dataset("test"), batch_size=1)

    def _loader(self, dataset: ViewsDataset | Subset, batch_size: int, **options) -> DataLoader[Views]:
        return DataLoader(
            dataset,
            batch_size,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=collate_views,
            **options,
        )
