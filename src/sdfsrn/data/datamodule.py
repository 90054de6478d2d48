"""The data modules: one a data set; loaders over its splits are all the same."""

from __future__ import annotations

import abc
import functools

import pytorch_lightning as pl
from torch.utils.data import DataLoader, Subset

from sdfsrn.data.preload import PreloadedSource
from sdfsrn.data.shapenet import ShapeNetSource
from sdfsrn.data.synthetic import SyntheticSource
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
        preload: decode and check every picture at the start and keep it in memory (28 kB for 64 x 64).
        val_objects: validate on the first so many objects; None takes all.
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
    ) -> None:
        super().__init__()
        if batch_size < 1 or num_rays < 1:
            raise ValueError(f"Expected positive data.batch_size and data.num_rays, got {batch_size} and {num_rays}.")
        self.batch_size = batch_size
        self.num_rays = num_rays
        self.num_workers = num_workers
        self.jitter = jitter
        self.background = background
        self.preload = preload
        self.val_objects = val_objects
        self._datasets: dict[str, ViewsDataset] = {}

    @abc.abstractmethod
    def source(self, split: str) -> Source:
        """The pictures of train, val or test."""

    def dataset(self, split: str) -> ViewsDataset:
        """Samples of a split, opened once: random rays in training; all pixels and ground truth otherwise."""
        if split not in self._datasets:
            source = self.source(split)
            if self.preload:
                source = PreloadedSource(source, split)
            train = split == "train"
            num_rays = self.num_rays if train else None
            self._datasets[split] = ViewsDataset(
                source, num_rays, self.background, self.jitter and train, keep_outlines=self.preload
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


class ShapeNetDataModule(ViewsDataModule):
    """`ShapeNetSource`, whose arguments these are; `loading` goes to `ViewsDataModule`."""

    def __init__(
        self,
        root: str,
        category: str,
        num_models: int | None = None,
        views: str = "all",
        num_points: int = 30_000,
        seed: int = 0,
        **loading,
    ) -> None:
        super().__init__(**loading)
        self._open = functools.partial(
            ShapeNetSource, root, category, num_models=num_models, views=views, num_points=num_points, seed=seed
        )

    def source(self, split: str) -> ShapeNetSource:
        """The pictures of a split."""
        return self._open(split=split)


class SyntheticDataModule(ViewsDataModule):
    """`SyntheticSource`; `num_objects` counts the training split's, `num_eval_objects` those of val and of test.

    `shapes` goes to the source, with its arguments' names and meaning; `loading` to `ViewsDataModule`.
    """

    def __init__(self, num_objects: int, num_eval_objects: int, shapes: dict, **loading) -> None:
        super().__init__(**loading)
        self.counts = {"train": num_objects, "val": num_eval_objects, "test": num_eval_objects}
        self.shapes = shapes

    def source(self, split: str) -> SyntheticSource:
        """The pictures of a split, generated on first use."""
        if split not in self.counts:
            raise ValueError(f"Expected train, val or test, got {split}.")
        return SyntheticSource(split=split, num_objects=self.counts[split], **self.shapes)
