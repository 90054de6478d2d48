"""What all data modules have in common: loaders over the splits of a data set; and one for sources of one's own."""

from __future__ import annotations

import abc
import dataclasses
import functools
import pathlib
from collections.abc import Iterable
from typing import Any, TypedDict, Unpack

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from sdfsrn.data.batches.datasets import DrawDataset, PictureDataset, RawBatch, share
from sdfsrn.data.batches.hulls import load_hull_depth, objects_of
from sdfsrn.data.batches.pictures import Pictures
from sdfsrn.data.batches.preload import PreloadedSource
from sdfsrn.data.batches.sampling import Position, StepSampler
from sdfsrn.data.batches.turned import TurnedSource
from sdfsrn.data.batches.views import BatchSettings, make_views
from sdfsrn.data.preprocessing import Preprocessing
from sdfsrn.data.source import SPLITS, Source
from sdfsrn.runtime.files import cache_folder
from sdfsrn.runtime.seeds import run_seed
from sdfsrn.runtime.signals import ignore_signals
from sdfsrn.structures import Views


class Loading(TypedDict, total=False):
    """The arguments of `ViewsDataModule`, which all data modules take."""

    batch_size: int
    num_rays: int | None
    num_workers: int
    jitter: bool
    background: float
    preload: bool
    val_objects: int | None
    scale_jitter: float
    memmap_dir: str | None
    on_device: bool
    boundary_fraction: float
    mirror: bool
    hull_depth: bool
    hull_folder: str | None
    pose_noise: float
    pose_flips: float


class ViewsDataModule(pl.LightningDataModule, abc.ABC):
    """Batches of `Views` from the splits of a data set.

    Under DDP every picture is used by exactly one rank per epoch. Training batches are a function of the seed and the trainer's
    step, see `StepSampler`. Loaders deliver a `RawBatch`; the trainer's device makes the `Views` of it.

    Args:
        batch_size: pictures per training batch and process; an incomplete last one is dropped.
        num_rays: random rays per training picture; None takes all pixels, row by row.
        num_workers: loader processes; 0 loads in the main one.
        jitter: colour jitter in training.
        background: colour behind objects, in [-1, 1].
        preload: decode and check every picture at the start and keep it in memory (16 kB for 64 x 64).
        val_objects: number of objects, the first ones, to validate on; None takes all.
        scale_jitter: enlarge training pictures by a random factor in [1 - s, 1 + s].
        memmap_dir: folder for the preloaded pictures: in a file there they take no memory, and are decoded once for all runs.
        on_device: keep preloaded training pictures on the trainer's device; false has the loader deliver them.
        boundary_fraction: share of the rays that is drawn near the outline, see `ray_density`.
        mirror: show half of the training pictures in a mirror, see `BatchSettings`.
        hull_depth: give the training rays the depth of the object's visual hull, made once of all its training views.
        hull_folder: keeps these depths; None takes `hulls` in SDFSRN_CACHE, by default ~/.cache/sdfsrn.
        pose_noise, pose_flips: wrong poses in train and val, for experiments, see `TurnedSource`; always the same ones.
    """

    crop: float | None = None  # see `Preprocessing`
    crop_side: str = "longer"

    def __init__(
        self,
        batch_size: int = 16,
        num_rays: int | None = 1024,
        num_workers: int = 0,
        jitter: bool = False,
        background: float = 1.0,
        preload: bool = True,
        val_objects: int | None = None,
        scale_jitter: float = 0.0,
        memmap_dir: str | None = None,
        on_device: bool = True,
        boundary_fraction: float = 0.0,
        mirror: bool = False,
        hull_depth: bool = False,
        hull_folder: str | None = None,
        pose_noise: float = 0.0,
        pose_flips: float = 0.0,
    ) -> None:
        super().__init__()
        if batch_size < 1 or (num_rays is not None and num_rays < 1):
            raise ValueError(f"Expected positive data.batch_size and data.num_rays, got {batch_size} and {num_rays}.")
        if memmap_dir is not None and not preload:
            raise ValueError("Expected data.preload=true with data.memmap_dir, since that is where pictures are preloaded to.")
        self.batch_size = batch_size
        self.settings = BatchSettings(num_rays, boundary_fraction, background, jitter, scale_jitter, mirror, training=True)
        self.num_workers = num_workers
        self.preload = preload
        self.memmap_dir = None if memmap_dir is None else pathlib.Path(memmap_dir)
        self.val_objects = val_objects
        self.on_device = on_device and preload
        self.hull_depth = hull_depth
        self.hull_folder = pathlib.Path(hull_folder) if hull_folder else cache_folder() / "hulls"
        self.pose_noise, self.pose_flips = pose_noise, pose_flips
        self._datasets: dict[str, PictureDataset] = {}
        self._stored: Pictures | None = None

    def prepare(self, num_workers: int | None = None) -> dict[str, str]:
        """Make what the data set's files lack, once, in that many processes (None: one per core); failures by name."""
        return {}

    @property
    def preprocessing(self) -> Preprocessing:
        """How a picture becomes the input of a network that is trained on these."""
        dataset = next(iter(self._datasets.values())) if self._datasets else self.dataset("train")
        height, _ = dataset.source.picture(0).alpha.shape
        return Preprocessing(height, self.settings.background, self.crop, self.crop_side)

    @abc.abstractmethod
    def source(self, split: str) -> Source:
        """The pictures of train, val or test."""

    def dataset(self, split: str) -> PictureDataset:
        """A split, opened once: random rays in training; all pixels and ground truth otherwise."""
        if split not in self._datasets:
            source = self.source(split)
            objects = objects_of(source) if self.hull_depth and split == "train" else None
            if split != "test" and (self.pose_noise or self.pose_flips):
                source = TurnedSource(source, self.pose_noise, self.pose_flips, SPLITS.index(split))
            if self.preload:
                source = PreloadedSource(source, split, self.memmap_dir)
            hulls = load_hull_depth(source, objects, split, self.hull_folder) if objects else None
            whole = dataclasses.replace(self.settings, num_rays=None, training=False)
            settings = self.settings if split == "train" else whole
            self._datasets[split] = PictureDataset(source, settings, self.preload, hulls)
        return self._datasets[split]

    def prepare_data(self) -> None:
        """Make what the splits of the stage lack, in one process per node, and open them, so that bad data ends the program."""
        self.prepare()
        self.setup(self.trainer.state.fn or "fit" if self.trainer else "fit")

    def setup(self, stage: str) -> None:
        """Open the splits of a stage."""
        for split in {"fit": ("train", "val"), "validate": ("val",)}.get(stage, ("test",)):
            self.dataset(split)
        if stage == "fit":
            self._batch_of_all_processes()

    def train_dataloader(self) -> DataLoader[RawBatch]:
        """Shuffled training batches, from the trainer's step on."""
        dataset, trainer = self.dataset("train"), self.trainer
        together = self._batch_of_all_processes()
        position, steps = None, None
        if trainer:
            position = functools.partial(_position, trainer)
            steps = _overfitted(trainer.overfit_batches, len(dataset) // together)  # type: ignore[attr-defined]
        sampler = StepSampler(len(dataset), self.batch_size, run_seed(), position, steps)
        if not (self.on_device and trainer and isinstance(dataset.source, PreloadedSource)):
            return self._loader(dataset, sampler)
        stored = dataset.source.pictures()
        if dataset.hull_depth is not None:
            stored = stored._replace(hull_depth=torch.from_numpy(dataset.hull_depth.depth))
        self._stored = stored.to(trainer.strategy.root_device)
        return self._loader(DrawDataset(dataset.settings), sampler)

    def on_after_batch_transfer(self, batch: RawBatch, dataloader_idx: int) -> Views:
        """Make the batch, on the device."""
        return self.make_batch(batch)

    def make_batch(self, batch: RawBatch) -> Views:
        """The batch of what the loader delivered, on its device."""
        pictures, params = batch
        if not isinstance(pictures, Pictures):
            assert self._stored is not None  # the loader that delivers rows was made after they were stored
            pictures = self._stored.select(pictures)
        return make_views(pictures, params, self.settings)

    def val_dataloader(self) -> DataLoader[RawBatch]:
        """The first `val_objects` of the validation split, one by one; this process's share of them."""
        dataset = self.dataset("val")
        return self._share(dataset, min(len(dataset), self.val_objects or len(dataset)))

    def test_dataloader(self) -> DataLoader[RawBatch]:
        """The test split, one by one; this process's share of it."""
        dataset = self.dataset("test")
        return self._share(dataset, len(dataset))

    def _batch_of_all_processes(self) -> int:
        """Pictures in a training batch of all processes. Raises ValueError if there are fewer in the split."""
        together, count = self.batch_size * (self.trainer.world_size if self.trainer else 1), len(self.dataset("train"))
        if count < together:
            raise ValueError(f"Expected at least data.batch_size x processes = {together} pictures, got {count}.")
        return together

    def _share(self, dataset: PictureDataset, count: int) -> DataLoader[RawBatch]:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return self._loader(dataset, [[index] for index in share(count, rank, world_size)])

    def _loader(self, dataset: Dataset[RawBatch], batches: Iterable[list[Any]]) -> DataLoader[RawBatch]:
        return DataLoader(
            dataset,
            batch_sampler=batches,  # type: ignore[arg-type]  # a list of lists will do
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=_as_it_is,
            worker_init_fn=ignore_signals,
        )


class SourceDataModule(ViewsDataModule):
    """Sources that are built already. The further arguments are those of `ViewsDataModule`."""

    def __init__(self, train: Source, val: Source, test: Source | None = None, **loading: Unpack[Loading]) -> None:
        super().__init__(**loading)
        self.train, self.val, self.test = train, val, test

    def source(self, split: str) -> Source:
        """The pictures of a split."""
        source = {"train": self.train, "val": self.val, "test": self.test}[split]
        if source is None:
            raise ValueError(f"Expected a source for the split {split}, got none.")
        return source


def _as_it_is(batch: Any) -> Any:
    """Keep what `__getitems__` has collated."""
    return batch


def _position(trainer: pl.Trainer) -> Position:
    return Position(trainer.global_step * trainer.accumulate_grad_batches, trainer.global_rank, trainer.world_size)


def _overfitted(batches: int | float, total: int) -> int | None:
    """How many batches the trainer is to overfit, of how many; None for none."""
    if not batches:
        return None
    return batches if isinstance(batches, int) else max(1, int(batches * total))
