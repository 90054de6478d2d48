"""Measurements in the course of a training, which do not change it and whose time does not count."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor

from sdfsrn.benchmarking.instruments import synchronize
from sdfsrn.structures import Views
from sdfsrn.system import ShapeModel


class Moments(pl.Callback):
    """Measure a model after some training steps and at the end, and time the training without the measuring.

    The clock starts when the data is ready, before any pretraining. The last of the callbacks, so that averaged weights are
    those of the same step.

    Args:
        steps: numbers of training steps after which to measure.
        measure: of the model in evaluation mode, without gradients, with the averaged weights if a callback keeps them.

    Attributes:
        found: per moment the `step`, `pictures` and `seconds` so far, and what `measure` gave.
        seconds_before: the first step: of pretraining.
    """

    def __init__(self, steps: Collection[int], measure: Callable[[ShapeModel], dict[str, Any]]) -> None:
        self.steps, self.measure = set(steps), measure
        self.found: list[dict[str, Any]] = []
        self.seconds_before = 0.0
        self._pictures, self._since = 0, 0.0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Read the clock before the first step."""
        synchronize(pl_module.device)
        self.seconds_before = time.perf_counter() - self._since

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: ShapeModel, outputs: dict[str, Tensor], batch: Views, batch_idx: int
    ) -> None:
        """Count pictures; measure after the given steps."""
        self._pictures += len(batch.image)
        if trainer.global_step in self.steps:
            self._measure(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: ShapeModel) -> None:
        """Measure the last weights."""
        self._measure(trainer, pl_module)

    def _measure(self, trainer: pl.Trainer, model: ShapeModel) -> None:
        if self.found and self.found[-1]["step"] == trainer.global_step:
            return
        synchronize(model.device)
        start = time.perf_counter()
        place = {"step": trainer.global_step, "pictures": self._pictures, "seconds": start - self._since}
        with undisturbed(trainer, model):
            self.found.append(place | self.measure(model))
        self._since += time.perf_counter() - start


@contextlib.contextmanager
def undisturbed(trainer: pl.Trainer, model: ShapeModel) -> Iterator[None]:
    """Context of the model in evaluation mode with its averaged weights, if there are any; afterwards all is as before.

    Restored are the modes of all modules, the weights, and the random states of Python, NumPy and torch.
    """
    modes = {module: module.training for module in model.modules()}
    averages = [callback for callback in trainer.callbacks if isinstance(callback, WeightAveraging)]  # type: ignore[attr-defined]
    with isolate_rng(), torch.no_grad():
        model.eval()
        for average in averages:
            average.on_validation_epoch_start(trainer, model)  # swaps the weights
        try:
            yield
        finally:
            for average in averages:
                average.on_validation_epoch_end(trainer, model)
            for module, mode in modes.items():
                module.training = mode
