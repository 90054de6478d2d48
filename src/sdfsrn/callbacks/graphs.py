"""Training as CUDA graphs: `compile=graph`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.strategies import SingleDeviceStrategy

from sdfsrn.data import ViewsDataModule
from sdfsrn.data.batches.datasets import RawBatch
from sdfsrn.runtime.graphs import CapturedFunction, CapturedStep
from sdfsrn.structures import Views
from sdfsrn.system import ShapeModel


class CaptureSteps(pl.Callback):
    """Capture each training step, forward and backward, and the making of its batch, as CUDA graphs.

    A step without a graph starts some 3,000 kernels one by one, which takes longer than the kernels themselves. Hooks, the
    optimizer, logging and validation stay as they are, and random numbers stay a function of seed and step.

    Raises:
        ValueError: a training that cannot be captured, in words: no GPU, several processes, bfloat16 or float16,
            accumulated gradients, a model whose work depends on values.
    """

    def __init__(self) -> None:
        self._key: Any = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check that the training can be captured, and have batches made by a graph."""
        _check(trainer, pl_module)
        datamodule = trainer.datamodule  # type: ignore[attr-defined]  # which Lightning does not declare
        if isinstance(datamodule, ViewsDataModule):
            datamodule.make_batch = _CapturedBatches(datamodule.make_batch)  # type: ignore[method-assign]

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Views, batch_idx: int) -> None:
        """Capture the first step, and again when the model's work has changed; before the step's random numbers are seeded."""
        assert isinstance(pl_module, ShapeModel)
        key = pl_module.prepare_step(trainer.global_step)
        if key != self._key or "step" not in pl_module.__dict__:
            pl_module.__dict__.pop("step", None)
            pl_module.step = CapturedStep(pl_module.step, pl_module, batch)  # type: ignore[method-assign,assignment]
            self._key = key

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Free the graphs."""
        pl_module.__dict__.pop("step", None)
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        if datamodule is not None:
            datamodule.__dict__.pop("make_batch", None)


class _CapturedBatches:
    """Make training batches by a graph; those of evaluation, whose sizes differ, without."""

    def __init__(self, make: Callable[[RawBatch], Views]) -> None:
        self._make = make
        self._captured: CapturedFunction | None = None

    def __call__(self, batch: RawBatch) -> Views:
        if batch.params is None:
            return self._make(batch)
        if self._captured is None:
            self._captured = CapturedFunction(self._make, batch)
        views: Views = self._captured(batch)
        return views


def _check(trainer: pl.Trainer, model: pl.LightningModule) -> None:
    found = {
        "a model whose work does not depend on values, unlike those that rasterise meshes": getattr(model, "capturable", False),
        "trainer.accelerator=gpu": trainer.strategy.root_device.type == "cuda",
        "strategy=auto and one device": isinstance(trainer.strategy, SingleDeviceStrategy),
        "precision=fp32 or tf32": str(trainer.precision).startswith("32"),
        "trainer.accumulate_grad_batches=1": trainer.accumulate_grad_batches == 1,
    }
    for needed, given in found.items():
        if not given:
            raise ValueError(f"Expected {needed} with compile=graph; compile=none trains without.")
